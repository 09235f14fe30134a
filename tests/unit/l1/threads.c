/* threads.c - many threads at once: no byte of another block, no lost lock, each event once. */
#include "tests/unit/l1/fixture.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#include "l1/l1_priv.h"

/* Interrupted threads make slow progress under sanitizers. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define LOOKUPS 4000
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define LOOKUPS 4000
#endif
#endif
#ifndef LOOKUPS
#define LOOKUPS 100000
#endif

#define THREADS 8
#define KEYS    64u
#define HELD    16u
#define BATCH   6u

struct arena_world {
	struct fixture f;
	far_l1_session ear;
	_Atomic uint64_t written, prefetched, deleted, holds, wrong;
	_Atomic bool stop;
	uint32_t rounds;
};

struct worker {
	struct arena_world *w;
	uint64_t seed;
	pthread_t thread;
	far_l1_session session;
	struct far_rng rng;
	uint64_t reads[HELD], writes[HELD];
	uint64_t read_keys[HELD], write_keys[HELD];
	uint64_t past; /* a loan that is over */
	uint64_t finished, flipped;
	uint64_t silent; /* temporaries that were written, which is not announced */
};

static uint32_t
size_of_key(uint64_t key)
{
	return (uint32_t)(1 + key % 3) * UNIT - (uint32_t)(key % 7) * 8;
}

static bool
is_temporary(uint64_t key)
{
	return key % 4 == 3;
}

static void
fill(const struct far_l1_grant *grant, uint64_t key)
{
	uint64_t *words = grant->addr;

	for (uint32_t i = 0; i < grant->size_bytes / 8; i += 64)
		words[i] = key * 1000003 + i;
}

static bool
filled(const struct far_l1_grant *grant, uint64_t key)
{
	const uint64_t *words = grant->addr;

	if (grant->size_bytes != size_of_key(key))
		return false;
	for (uint32_t i = 0; i < grant->size_bytes / 8; i += 64)
		if (words[i] != key * 1000003 + i)
			return false;
	return true;
}

static void
on_written(void *arg, const struct far_l1_event *events, size_t count)
{
	struct arena_world *w = arg;

	w->written += count;
	for (size_t i = 0; i < count; i++) {
		int rc;

		if (events[i].loan == 0)
			continue;
		far_l1_finish_read(w->f.l1, w->ear, &events[i].loan, 1, 1, &rc);
		w->holds++;
		w->wrong += rc != 0;
	}
}

static void
on_prefetched(void *arg, const struct far_l1_event *events, size_t count)
{
	(void)events;
	((struct arena_world *)arg)->prefetched += count;
}

static void
on_deleted(void *arg, const struct far_l1_event *events, size_t count)
{
	(void)events;
	((struct arena_world *)arg)->deleted += count;
}

static void
worker_reserve(struct worker *k, uint32_t at)
{
	uint64_t key = far_rng_below(&k->rng, KEYS);
	struct far_l1_want want = {.key = key_n(key),
				   .size_bytes = size_of_key(key),
				   .flags = is_temporary(key) ? FAR_L1_TEMPORARY : 0};
	struct far_l1_grant grant;

	if (k->writes[at] != 0)
		return;
	if (far_l1_reserve_write(k->w->f.l1, k->session, &want, 1, &grant) == 1) {
		fill(&grant, key);
		k->writes[at] = grant.loan;
		k->write_keys[at] = key;
	}
}

static void
worker_finish(struct worker *k, uint32_t at)
{
	struct far_l1 *l1 = k->w->f.l1;
	uint64_t loan = k->writes[at];
	uint64_t how = far_rng_below(&k->rng, 4);
	int rc;

	if (loan == 0)
		return;
	k->writes[at] = 0;
	if (how == 0) {
		far_l1_abort_write(l1, k->session, &loan, 1, &rc);
		k->w->wrong += rc != 0;
	} else if (how == 1 || k->reads[at] != 0) {
		far_l1_finish_write(l1, k->session, &loan, 1, &rc);
		if (is_temporary(k->write_keys[at]))
			k->silent += rc == 0;
		else
			k->finished += rc == 0;
		k->w->wrong += rc != 0 && rc != -ENOENT;
	} else {
		far_l1_finish_write_and_reserve_read(l1, k->session, &loan, 1, 1, k->session, &rc);
		k->flipped += rc == 0;
		k->w->wrong += rc != 0 && rc != -ENOENT;
		if (rc == 0) {
			k->reads[at] = loan;
			k->read_keys[at] = k->write_keys[at];
			return;
		}
	}
	k->past = loan;
}

static void
worker_read(struct worker *k, uint32_t at)
{
	uint64_t key = far_rng_below(&k->rng, KEYS);
	struct far_key digest = key_n(key);
	struct far_l1_grant grant;

	if (k->reads[at] != 0)
		return;
	if (far_l1_reserve_read(k->w->f.l1, k->session, &digest, NULL, 1, 1, &grant) == 1) {
		k->w->wrong += !filled(&grant, key);
		k->reads[at] = grant.loan;
		k->read_keys[at] = key;
	}
}

static void
worker_release(struct worker *k, uint32_t at)
{
	struct far_l1 *l1 = k->w->f.l1;
	struct far_l1_grant grant;
	int rc;

	/* A release of what is over reaches nobody, whoever has the record now. */
	if (k->past != 0) {
		far_l1_finish_read(l1, k->session, &k->past, 1, 1, &rc);
		k->w->wrong += rc != -EBADF;
	}
	if (k->reads[at] == 0)
		return;
	/* The bytes are still there, though the key may have been deleted by force. */
	k->w->wrong += far_l1_unsafe_read(l1, k->session, k->reads[at], &grant) != 0;
	k->w->wrong += !filled(&grant, k->read_keys[at]);
	far_l1_finish_read(l1, k->session, &k->reads[at], 1, 1, &rc);
	k->w->wrong += rc != 0;
	k->past = k->reads[at];
	k->reads[at] = 0;
}

/* Batches: a prefix is lent and given back, memory for several is reserved and aborted. */
static void
worker_batch(struct worker *k)
{
	struct far_l1 *l1 = k->w->f.l1;
	struct far_l1_want wants[BATCH];
	struct far_l1_grant grants[BATCH];
	struct far_key keys[BATCH];
	uint64_t loans[BATCH];
	uint64_t first = far_rng_below(&k->rng, KEYS);
	size_t count, granted = 0;
	int rcs[BATCH];

	for (uint64_t i = 0; i < BATCH; i++) {
		keys[i] = key_n((first + i) % KEYS);
		wants[i] = (struct far_l1_want){.key = keys[i],
						.size_bytes = size_of_key((first + i) % KEYS)};
	}
	count = far_l1_reserve_read_prefix(l1, k->session, keys, NULL, BATCH, 2, grants);
	for (size_t i = 0; i < count; i++) {
		k->w->wrong += !filled(&grants[i], (first + i) % KEYS);
		loans[i] = grants[i].loan;
	}
	k->w->wrong += far_l1_finish_read(l1, k->session, loans, count, 2, rcs) != count;
	count = far_l1_reserve_write(l1, k->session, wants, BATCH, grants);
	for (size_t i = 0; i < BATCH; i++)
		if (grants[i].rc == 0)
			loans[granted++] = grants[i].loan;
	k->w->wrong += granted != count;
	k->w->wrong += far_l1_abort_write(l1, k->session, loans, granted, rcs) != granted;
}

/* What is told about all of it is told of one moment. */
static void
worker_look(struct worker *k)
{
	struct far_l1 *l1 = k->w->f.l1;
	struct far_l1_usage usage;

	far_l1_usage_get(l1, &usage);
	k->w->wrong += usage.used_bytes > usage.capacity_bytes;
	k->w->wrong += usage.quarantine_bytes > usage.used_bytes;
	/* The clock stands still: nobody is late. */
	k->w->wrong += far_l1_report_overdue(l1, 1000, 0) != 0;
}

static void
worker_other(struct worker *k)
{
	struct far_key key = key_n(far_rng_below(&k->rng, KEYS));
	struct far_l1 *l1 = k->w->f.l1;
	uint64_t loan = k->reads[far_rng_below(&k->rng, HELD)];
	int rc;

	switch (far_rng_below(&k->rng, 40)) {
	case 0: /* dies with all that it holds */
		far_l1_session_close(l1, k->session);
		k->w->wrong += far_l1_session_open(l1, "worker", &k->session) != 0;
		memset(k->reads, 0, sizeof(k->reads));
		memset(k->writes, 0, sizeof(k->writes));
		break;
	case 1:
		if (k->seed % THREADS == 0)
			far_l1_check(l1);
		break;
	case 2:
		far_l1_delete(l1, &key, 1, true, &rc);
		break;
	case 3:
		far_l1_state_get(l1, &key);
		break;
	case 4:
		far_l1_evict(l1, 2ull * UNIT, 2, NULL);
		break;
	case 5:
	case 6: /* its last reader takes it along, or it stays after all */
		if (far_rng_below(&k->rng, 2) == 0)
			far_l1_let_go(l1, k->session, &loan, 1, &rc);
		else
			far_l1_retain(l1, k->session, &loan, 1, &rc);
		k->w->wrong += rc != (loan == 0 ? -EBADF : 0) && (loan == 0 || rc != -ENOENT);
		break;
	case 7:
		far_l1_clear(l1, far_rng_below(&k->rng, 2) == 0);
		break;
	case 8:
	case 9:
		worker_look(k);
		break;
	case 10:
	case 11:
	case 12:
	case 13:
		worker_batch(k);
		break;
	default:
		far_l1_delete(l1, &key, 1, false, &rc);
		far_l1_touch(l1, &key, 1);
	}
}

static void *
worker_run(void *arg)
{
	struct worker *k = arg;

	far_rng_init(&k->rng, k->seed);
	k->w->wrong += far_l1_session_open(k->w->f.l1, "worker", &k->session) != 0;
	for (uint32_t i = 0; i < k->w->rounds; i++) {
		uint32_t at = (uint32_t)far_rng_below(&k->rng, HELD);
		uint64_t dice = far_rng_below(&k->rng, 100);

		if (dice < 20)
			worker_reserve(k, at);
		else if (dice < 45)
			worker_finish(k, at);
		else if (dice < 65)
			worker_read(k, at);
		else if (dice < 95)
			worker_release(k, at);
		else
			worker_other(k);
	}
	far_l1_session_close(k->w->f.l1, k->session);
	return NULL;
}

/* Every fourth key is a temporary. */
static void
race(enum far_l1_policy policy)
{
	struct arena_world w = {.rounds = 20000};
	struct far_l1_listener listener = {.written = on_written,
					   .prefetched = on_prefetched,
					   .deleted = on_deleted,
					   .arg = &w,
					   .hold_written = true};
	struct worker workers[THREADS] = {{0}};
	uint64_t finished = 0, flipped = 0, silent = 0;

	/* 48 units for 64 keys of 1 to 3: much is evicted, much is refused. */
	fixture_open(&w.f, 48, (struct far_l1_config){.shards = 2, .policy = policy});
	assert_int_equal(far_l1_session_open(w.f.l1, "ear", &w.ear), 0);
	listener.session = w.ear;
	assert_int_equal(far_l1_listen(w.f.l1, &listener), 0);
	for (uint64_t i = 0; i < THREADS; i++) {
		workers[i].w = &w;
		workers[i].seed = i + THREADS;
		assert_int_equal(pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]),
				 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(workers[i].thread, NULL);
		finished += workers[i].finished;
		flipped += workers[i].flipped;
		silent += workers[i].silent;
	}
	assert_int_equal(w.wrong, 0);
	assert_int_equal(w.written, finished);
	assert_int_equal(w.holds, finished);
	assert_int_equal(w.prefetched, flipped);
	assert_int_equal(w.written + silent + w.prefetched - w.deleted, usage_of(&w.f).block_count);
	assert_true(usage_of(&w.f).evicted_blocks > 100);
	far_l1_session_close(w.f.l1, w.ear);
	fixture_close(&w.f);
}

static void
racing_threads_see_whole_blocks_and_lose_no_lock(void **state)
{
	(void)state;
	race(FAR_L1_LRU);
}

static void
racing_threads_do_so_with_s3fifo(void **state)
{
	(void)state;
	race(FAR_L1_S3FIFO);
}

/* --- Blocks that stay are found at every moment. --- */

static void *
churn_run(void *arg)
{
	struct arena_world *w = arg;
	far_l1_session session;

	w->wrong += far_l1_session_open(w->f.l1, "churn", &session) != 0;
	for (uint64_t i = 0; !w->stop; i++) {
		struct far_l1_want wants[8];
		struct far_l1_grant grants[8];
		struct far_key keys[8];
		int rcs[8];

		for (uint64_t j = 0; j < 8; j++) {
			keys[j] = key_n(1000 + i % 100 * 8 + j);
			wants[j] = (struct far_l1_want){.key = keys[j], .size_bytes = UNIT};
		}
		far_l1_reserve_write(w->f.l1, session, wants, 8, grants);
		for (int j = 0; j < 8; j++)
			if (grants[j].rc == 0)
				far_l1_finish_write(w->f.l1, session, &grants[j].loan, 1, rcs);
		far_l1_delete(w->f.l1, keys, 8, false, rcs);
	}
	far_l1_session_close(w->f.l1, session);
	return NULL;
}

/* Stalls the thread that it interrupts, wherever it is. */
static void
on_stall(int sig)
{
	(void)sig;
	for (volatile int i = 0; i < 5000; i = i + 1)
		;
}

struct staller {
	struct arena_world *w;
	pthread_t victim;
};

static void *
stall_run(void *arg)
{
	struct staller *s = arg;

	while (!s->w->stop) {
		pthread_kill(s->victim, SIGUSR1);
		for (int i = 0; i < 10; i++)
			sched_yield();
	}
	return NULL;
}

static void
a_key_that_is_there_is_found_while_others_come_and_go(void **state)
{
	enum { STAY = 16, OTHERS = 3 };
	struct arena_world w = {0};
	struct staller staller = {&w, pthread_self()};
	struct far_key keys[STAY];
	struct far_l1_grant grants[STAY];
	pthread_t others[OTHERS];
	uint64_t loans[STAY];
	int rcs[STAY];
	(void)state;

	/* Two chains for all: a reader often stands on a record that leaves its chain for the other
	 * one, and is stalled there. */
	fixture_open(&w.f, 64, (struct far_l1_config){.shards = 1});
	w.f.l1->bucket_mask = 1;
	for (uint64_t i = 0; i < STAY; i++) {
		put(&w.f, i, UNIT);
		keys[i] = key_n(i);
	}
	signal(SIGUSR1, on_stall);
	for (int i = 0; i < OTHERS; i++)
		assert_int_equal(pthread_create(&others[i], NULL, i == 0 ? stall_run : churn_run,
						i == 0 ? (void *)&staller : &w),
				 0);
	for (int i = 0; i < LOOKUPS; i++) {
		if (far_l1_reserve_read(w.f.l1, w.f.session, keys, NULL, STAY, 1, grants) != STAY)
			w.wrong++;
		for (int j = 0; j < STAY; j++)
			loans[j] = grants[j].loan;
		far_l1_finish_read(w.f.l1, w.f.session, loans, STAY, 1, rcs);
	}
	w.stop = true;
	for (int i = 0; i < OTHERS; i++)
		pthread_join(others[i], NULL);
	signal(SIGUSR1, SIG_DFL);
	assert_int_equal(w.wrong, 0);
	fixture_close(&w.f);
}

static void *
greedy_run(void *arg)
{
	struct arena_world *w = arg;
	far_l1_session session;

	w->wrong += far_l1_session_open(w->f.l1, "greedy", &session) != 0;
	while (!w->stop) {
		struct far_l1_want want = {.key = key_n(1000), .size_bytes = 9 * UNIT};
		struct far_l1_grant grant;

		/* Enough by bytes, never in one run: victims are claimed and let go again. */
		w->wrong += far_l1_reserve_write(w->f.l1, session, &want, 1, &grant) != 0;
	}
	far_l1_session_close(w->f.l1, session);
	return NULL;
}

static void
a_plan_that_fails_hides_no_block_from_readers(void **state)
{
	struct arena_world w = {0};
	struct far_l1_grant locks[4], grant;
	pthread_t greedy[2];
	(void)state;

	fixture_open(&w.f, 32, (struct far_l1_config){0});
	for (uint64_t i = 0; i < 32; i++)
		put(&w.f, i, UNIT);
	for (uint64_t i = 0; i < 4; i++)
		assert_int_equal(read_one(&w.f, i * 8, 1, &locks[i]), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&greedy[i], NULL, greedy_run, &w), 0);
	for (uint64_t i = 0; i < 50000; i++) {
		if (read_one(&w.f, i % 32, 1, &grant) != 0) {
			w.wrong++;
			continue;
		}
		w.wrong += release_one(&w.f, grant.loan, 1) != 0;
	}
	w.stop = true;
	for (int i = 0; i < 2; i++)
		pthread_join(greedy[i], NULL);
	assert_int_equal(w.wrong, 0);
	assert_int_equal(usage_of(&w.f).evicted_blocks, 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(release_one(&w.f, locks[i].loan, 1), 0);
	fixture_close(&w.f);
}

/* --- Nothing but the block's word orders its bytes: ThreadSanitizer proves it. --- */

#define HANDED 2000u

static void *
flipper_run(void *arg)
{
	static uint64_t loans[HANDED];
	struct arena_world *w = arg;
	far_l1_session session;
	int rc;

	w->wrong += far_l1_session_open(w->f.l1, "flipper", &session) != 0;
	for (uint64_t key = 0; key < HANDED; key++) {
		struct far_l1_want want = {.key = key_n(key), .size_bytes = UNIT};
		struct far_l1_grant grant;

		w->wrong += far_l1_reserve_write(w->f.l1, session, &want, 1, &grant) != 1;
		memset(grant.addr, (int)(key % 251), UNIT);
		far_l1_finish_write_and_reserve_read(w->f.l1, session, &grant.loan, 1, 1, session,
						     &rc);
		w->wrong += rc != 0;
		loans[key] = grant.loan;
	}
	/* Only now: a release would order them as well. */
	while (!w->stop)
		sched_yield();
	for (uint64_t key = 0; key < HANDED; key++)
		far_l1_finish_read(w->f.l1, session, &loans[key], 1, 1, &rc);
	far_l1_session_close(w->f.l1, session);
	return NULL;
}

static void
the_flip_alone_hands_the_bytes_to_readers(void **state)
{
	struct arena_world w = {0};
	struct far_l1_grant grant;
	pthread_t flipper;
	(void)state;

	fixture_open(&w.f, HANDED, (struct far_l1_config){0});
	assert_int_equal(pthread_create(&flipper, NULL, flipper_run, &w), 0);
	for (uint64_t key = 0; key < HANDED; key++) {
		const uint8_t *bytes;

		while (read_one(&w.f, key, 1, &grant) != 0)
			sched_yield();
		bytes = grant.addr;
		w.wrong += bytes[0] != key % 251 || bytes[UNIT - 1] != key % 251;
		w.wrong += release_one(&w.f, grant.loan, 1) != 0;
	}
	w.stop = true;
	pthread_join(flipper, NULL);
	assert_int_equal(w.wrong, 0);
	fixture_close(&w.f);
}

static void *
rewriter_run(void *arg)
{
	struct arena_world *w = arg;
	far_l1_session session;
	int rc;

	w->wrong += far_l1_session_open(w->f.l1, "rewriter", &session) != 0;
	for (uint64_t key = 0; key < HANDED; key++) {
		struct far_l1_want want = {.key = key_n(key % 16), .size_bytes = UNIT};
		struct far_l1_grant grant;

		if (far_l1_reserve_write(w->f.l1, session, &want, 1, &grant) != 1)
			continue;
		memset(grant.addr, (int)(key % 16), UNIT);
		far_l1_finish_write(w->f.l1, session, &grant.loan, 1, &rc);
		w->wrong += rc != 0;
	}
	w->stop = true;
	far_l1_session_close(w->f.l1, session);
	return NULL;
}

static void
the_last_release_hands_the_buffer_to_the_next_writer(void **state)
{
	struct arena_world w = {0};
	struct far_l1_grant grant;
	pthread_t rewriter;
	(void)state;

	fixture_open(&w.f, 4, (struct far_l1_config){0});
	assert_int_equal(pthread_create(&rewriter, NULL, rewriter_run, &w), 0);
	for (uint64_t key = 0; !w.stop; key++) {
		const uint8_t *bytes;

		if (read_one(&w.f, key % 16, 1, &grant) != 0)
			continue;
		bytes = grant.addr;
		w.wrong += bytes[0] != key % 16 || bytes[UNIT - 1] != key % 16;
		w.wrong += release_one(&w.f, grant.loan, 1) != 0;
	}
	pthread_join(rewriter, NULL);
	assert_int_equal(w.wrong, 0);
	fixture_close(&w.f);
}

/* --- One key, many writers. --- */

static void *
one_key_run(void *arg)
{
	struct worker *k = arg;
	struct far_l1 *l1 = k->w->f.l1;
	struct far_l1_want want = {.key = key_n(1), .size_bytes = UNIT};
	struct far_l1_grant grant;

	k->w->wrong += far_l1_session_open(l1, "one", &k->session) != 0;
	if (far_l1_reserve_write(l1, k->session, &want, 1, &grant) == 1) {
		k->flipped = 1;
		k->writes[0] = grant.loan;
	} else {
		k->w->wrong += grant.rc != -EEXIST;
	}
	return NULL;
}

static void
of_many_writers_of_one_key_one_is_granted(void **state)
{
	(void)state;
	for (int round = 0; round < 50; round++) {
		struct arena_world w = {0};
		struct worker workers[THREADS] = {{0}};
		uint64_t granted = 0;

		fixture_open(&w.f, 8, (struct far_l1_config){0});
		for (int i = 0; i < THREADS; i++) {
			workers[i].w = &w;
			assert_int_equal(
				pthread_create(&workers[i].thread, NULL, one_key_run, &workers[i]),
				0);
		}
		for (int i = 0; i < THREADS; i++) {
			pthread_join(workers[i].thread, NULL);
			granted += workers[i].flipped;
		}
		for (int i = 0; i < THREADS; i++)
			far_l1_session_close(w.f.l1, workers[i].session);
		assert_int_equal(granted, 1);
		assert_int_equal(w.wrong, 0);
		assert_int_equal(state_of(&w.f, 1), FAR_L1_ABSENT);
		fixture_close(&w.f);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(racing_threads_see_whole_blocks_and_lose_no_lock),
		cmocka_unit_test(racing_threads_do_so_with_s3fifo),
		cmocka_unit_test(a_key_that_is_there_is_found_while_others_come_and_go),
		cmocka_unit_test(a_plan_that_fails_hides_no_block_from_readers),
		cmocka_unit_test(the_flip_alone_hands_the_bytes_to_readers),
		cmocka_unit_test(the_last_release_hands_the_buffer_to_the_next_writer),
		cmocka_unit_test(of_many_writers_of_one_key_one_is_granted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
