/* word.c - waiting on a word: for another value, until a moment, with a wake-up or without. */
#include "base/word.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "base/clock.h"

#define PATIENCE (20 * FAR_NS_PER_S)

static uint64_t
after(uint64_t ns)
{
	return far_clock_now(far_clock_real()) + ns;
}

static void
a_word_that_has_changed_is_not_waited_for(void **state)
{
	_Atomic uint32_t word = 3;
	(void)state;

	assert_int_equal(far_word_wait(&word, 2, 0), 0);
}

static void
a_word_that_stays_ends_the_wait_at_its_deadline(void **state)
{
	_Atomic uint32_t word = 2;
	uint64_t deadline_ns = after(5 * FAR_NS_PER_MS);
	(void)state;

	assert_int_equal(far_word_wait(&word, 2, deadline_ns), -ETIMEDOUT);
	assert_true(far_clock_now(far_clock_real()) >= deadline_ns);
	assert_int_equal(far_word_wait(&word, 2, 0), -ETIMEDOUT);
}

static void *
change(void *arg)
{
	_Atomic uint32_t *word = arg;

	(void)usleep(20000);
	/* Somebody wakes the sleeper for nothing at first. */
	far_word_wake(word);
	(void)usleep(20000);
	atomic_store_explicit(word, 3, memory_order_release);
	far_word_wake(word);
	return NULL;
}

static void
a_sleeper_is_woken_when_it_changes(void **state)
{
	_Atomic uint32_t word = 2;
	uint64_t until_ns = after(PATIENCE);
	pthread_t thread;
	(void)state;

	assert_int_equal(pthread_create(&thread, NULL, change, &word), 0);
	assert_int_equal(far_word_wait(&word, 2, until_ns), 0);
	assert_int_equal(atomic_load(&word), 3);
	assert_true(far_clock_now(far_clock_real()) < until_ns);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_word_that_has_changed_is_not_waited_for),
		cmocka_unit_test(a_word_that_stays_ends_the_wait_at_its_deadline),
		cmocka_unit_test(a_sleeper_is_woken_when_it_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
