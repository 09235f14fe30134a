/* helpers.c - a job's items handed out by one word, to whoever is awake. */
#include "base/helpers.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/publish.h"
#include "base/word.h"

/*
 * The word of a job: its number, how many items it has, and the next one that nobody has taken. Whoever adds
 * one to it by compare-and-swap has an item of the job that is running now: run() does not return, and so
 * neither changes fn and arg, before that item is counted in @done.
 */
#define JOB_COUNT_SHIFT  16
#define JOB_NUMBER_SHIFT 32
#define JOB_ITEM_MASK    ((1u << JOB_COUNT_SHIFT) - 1)

#define YIELD_AFTER 2000u /* looks at who is not done yet */
#define SLEEP_AFTER 3000u
#define NAP_NS      (50 * FAR_NS_PER_US)
#define SLEEP_NS    (10 * FAR_NS_PER_S) /* then it looks whether it sleeps for good reason */
#define NAME_BYTES  16

struct far_helpers {
	_Alignas(64) _Atomic uint64_t job;
	far_helpers_fn *fn; /* written before the job's word, read after an item was taken */
	void *arg;
	_Alignas(64) _Atomic uint32_t done;  /* items that ended in helpers */
	_Alignas(64) _Atomic uint32_t woken; /* futex: one more each time that sleepers are woken */
	_Atomic uint32_t sleepers;
	_Atomic uint32_t closing;
	uint64_t spin_ns;
	uint32_t count;
	pthread_t threads[FAR_HELPERS_MAX];
};

static inline void
look_again(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* False: all items of the job, if there is one, are taken. */
static bool
item_take(struct far_helpers *helpers, uint32_t *item_out)
{
	uint64_t word = atomic_load_explicit(&helpers->job, memory_order_acquire);

	while ((word & JOB_ITEM_MASK) != (word >> JOB_COUNT_SHIFT & JOB_ITEM_MASK)) {
		/* Acquire: fn, arg and what they work on. Pairs with the store in run(). */
		if (!atomic_compare_exchange_weak_explicit(&helpers->job, &word, word + 1,
							   memory_order_acquire,
							   memory_order_acquire))
			continue;
		*item_out = (uint32_t)(word & JOB_ITEM_MASK);
		return true;
	}
	return false;
}

/* Sleeps unless a job came meanwhile: it counts itself first and then looks, run() the other way round. */
static void
helper_sleep(struct far_helpers *helpers)
{
	uint32_t woken = atomic_load_explicit(&helpers->woken, memory_order_acquire);
	uint64_t word;

	atomic_fetch_add_explicit(&helpers->sleepers, 1, memory_order_seq_cst);
	atomic_thread_fence(memory_order_seq_cst);
	word = atomic_load_explicit(&helpers->job, memory_order_relaxed);
	if ((word & JOB_ITEM_MASK) == (word >> JOB_COUNT_SHIFT & JOB_ITEM_MASK) &&
	    atomic_load_explicit(&helpers->closing, memory_order_relaxed) == 0)
		(void)far_word_wait(&helpers->woken, woken,
				    far_clock_now(far_clock_real()) + SLEEP_NS);
	atomic_fetch_sub_explicit(&helpers->sleepers, 1, memory_order_relaxed);
}

static void *
helper_main(void *arg)
{
	struct far_helpers *helpers = arg;
	uint64_t idle_since_ns = far_clock_now(far_clock_real());

	while (atomic_load_explicit(&helpers->closing, memory_order_acquire) == 0) {
		uint32_t item;

		if (item_take(helpers, &item)) {
			do {
				helpers->fn(helpers->arg, item);
				far_mem_publish();
				/* Pairs with the load in run(). */
				atomic_fetch_add_explicit(&helpers->done, 1, memory_order_release);
			} while (item_take(helpers, &item));
			idle_since_ns = far_clock_now(far_clock_real());
			continue;
		}
		if (far_clock_now(far_clock_real()) - idle_since_ns < helpers->spin_ns) {
			for (int i = 0; i < 8; i++)
				look_again();
			continue;
		}
		helper_sleep(helpers);
		idle_since_ns = far_clock_now(far_clock_real());
	}
	return NULL;
}

uint32_t
far_helpers_spare(void)
{
	cpu_set_t mine;

	if (sched_getaffinity(0, sizeof(mine), &mine) < 0 || CPU_COUNT(&mine) < 2)
		return 0;
	return (uint32_t)CPU_COUNT(&mine) - 2;
}

/* False: there are no more threads. */
static bool
helper_start(struct far_helpers *helpers, const char *name)
{
	char short_name[NAME_BYTES];
	sigset_t all, before;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&helpers->threads[helpers->count], NULL, helper_main, helpers);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0)
		return false;
	(void)snprintf(short_name, sizeof(short_name), "%.15s", name);
	(void)pthread_setname_np(helpers->threads[helpers->count], short_name);
	helpers->count++;
	return true;
}

int
far_helpers_open(const char *name, uint32_t count, uint64_t spin_ns, struct far_helpers **out)
{
	struct far_helpers *helpers = far_zalloc_aligned(64, sizeof(*helpers));

	FAR_ASSERT(count <= FAR_HELPERS_MAX);
	if (helpers == NULL)
		return -ENOMEM;
	helpers->spin_ns = spin_ns;
	while (helpers->count < count && helper_start(helpers, name))
		;
	if (helpers->count < count)
		far_log_warn("%" PRIu32 " of %" PRIu32 " helpers run, there are no more threads: "
			     "raise their limit (RLIMIT_NPROC, pids.max), or set helpers to 0",
			     helpers->count, count);
	*out = helpers;
	return 0;
}

void
far_helpers_close(struct far_helpers *helpers)
{
	if (helpers == NULL)
		return;
	atomic_store_explicit(&helpers->closing, 1, memory_order_seq_cst);
	atomic_fetch_add_explicit(&helpers->woken, 1, memory_order_seq_cst);
	far_word_wake(&helpers->woken);
	for (uint32_t i = 0; i < helpers->count; i++)
		pthread_join(helpers->threads[i], NULL);
	far_free(helpers);
}

uint32_t
far_helpers_count(const struct far_helpers *helpers)
{
	return helpers != NULL ? helpers->count : 0;
}

static void
sleepers_wake(struct far_helpers *helpers)
{
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&helpers->sleepers, memory_order_relaxed) == 0)
		return;
	atomic_fetch_add_explicit(&helpers->woken, 1, memory_order_release);
	far_word_wake(&helpers->woken);
}

void
far_helpers_run(struct far_helpers *helpers, far_helpers_fn *fn, void *arg, uint32_t count,
		bool wake)
{
	uint64_t number;
	uint32_t mine = 0;
	uint32_t item;

	FAR_ASSERT(count <= JOB_ITEM_MASK);
	if (far_helpers_count(helpers) == 0 || count < 2) {
		for (item = 0; item < count; item++)
			fn(arg, item);
		return;
	}
	number =
		(atomic_load_explicit(&helpers->job, memory_order_relaxed) >> JOB_NUMBER_SHIFT) + 1;
	helpers->fn = fn;
	helpers->arg = arg;
	atomic_store_explicit(&helpers->done, 0, memory_order_relaxed);
	/* Release: all of the above. Pairs with item_take(). */
	atomic_store_explicit(&helpers->job,
			      number << JOB_NUMBER_SHIFT | (uint64_t)count << JOB_COUNT_SHIFT,
			      memory_order_release);
	if (wake)
		sleepers_wake(helpers);
	for (; item_take(helpers, &item); mine++)
		fn(arg, item);
	for (uint32_t looks = 0;
	     atomic_load_explicit(&helpers->done, memory_order_acquire) != count - mine; looks++) {
		/* One that lost its processor in the middle of an item may need ours; to who has a lower
		 * priority it is not given by yielding. */
		if (looks < YIELD_AFTER)
			look_again();
		else if (looks < SLEEP_AFTER)
			(void)sched_yield();
		else
			far_clock_sleep_until(far_clock_now(far_clock_real()) + NAP_NS);
	}
}
