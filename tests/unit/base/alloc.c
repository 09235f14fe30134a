/* alloc.c - the heap is counted, can be made to fail, and can be forbidden. */
#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"

static void
silent(void *arg, enum far_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
}

static bool
all_zero(const char *p, size_t size_bytes)
{
	for (size_t i = 0; i < size_bytes; i++) {
		if (p[i] != 0)
			return false;
	}
	return true;
}

static void
memory_is_zero_even_when_it_was_used_before(void **state)
{
	(void)state;
	for (size_t size = 1; size < 5000; size += 97) {
		char *p = far_zalloc(size);
		char *q = far_zalloc_aligned(64, size);

		assert_true(all_zero(p, size));
		assert_true(all_zero(q, size));
		memset(p, 0xff, size);
		memset(q, 0xff, size);
		far_free(p);
		far_free(q);
	}
}

static void
live_bytes_rise_by_what_is_held_and_return_to_where_they_were(void **state)
{
	uint64_t before = far_alloc_live_bytes();
	void *a, *b;
	char *c;
	(void)state;

	a = far_zalloc(1000);
	b = far_zalloc_aligned(4096, 10000);
	c = far_strdup("far");
	assert_string_equal(c, "far");
	assert_true(far_alloc_live_bytes() >= before + 1000 + 10000 + 4);
	far_free(a);
	far_free(b);
	far_free(c);
	far_free(NULL);
	assert_int_equal(far_alloc_live_bytes(), before);
}

static void
an_array_whose_size_overflows_is_refused(void **state)
{
	uint64_t before = far_alloc_live_bytes();
	volatile size_t count = SIZE_MAX / 8;
	(void)state;

	assert_null(far_zalloc_array(count, 16));
	assert_int_equal(far_alloc_live_bytes(), before);
}

static void
an_empty_array_is_not_a_failure(void **state)
{
	void *p = far_zalloc_array(0, 16);
	void *q = far_zalloc(0);
	(void)state;

	assert_non_null(p);
	assert_non_null(q);
	far_free(p);
	far_free(q);
}

static void
alignment_is_what_was_asked_for(void **state)
{
	(void)state;
	for (size_t align = 16; align <= 65536; align *= 2) {
		void *p = far_zalloc_aligned(align, 24);

		assert_int_equal((uintptr_t)p % align, 0);
		far_free(p);
	}
}

static void
exactly_the_nth_allocation_fails(void **state)
{
	(void)state;
	for (uint64_t nth = 1; nth <= 4; nth++) {
		far_alloc_fail_nth(nth);
		for (uint64_t i = 1; i <= 8; i++) {
			void *p = i % 2 == 0 ? far_zalloc(8) : far_zalloc_aligned(16, 8);

			if (i == nth)
				assert_null(p);
			else
				assert_non_null(p);
			far_free(p);
		}
	}
	far_alloc_fail_nth(1);
	far_alloc_fail_nth(0);
	char *s = far_strdup("x");
	assert_non_null(s);
	far_free(s);
}

/* The signal that ends a child running @body; 0 if it returns. */
static int
death_of(void (*body)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct rlimit none = {0, 0};

		(void)setrlimit(RLIMIT_CORE, &none);
		far_log_sink_set(silent, NULL);
		body();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void
allocate_while_locked(void)
{
	far_alloc_lock();
	far_free(far_zalloc(1));
}

static void
allocate_after_unlock(void)
{
	far_alloc_lock();
	far_alloc_lock();
	far_alloc_unlock();
	far_alloc_unlock();
	far_free(far_zalloc(1));
}

static void
free_while_locked(void)
{
	void *p = far_zalloc(1);

	far_alloc_lock();
	far_free(p);
}

static void
an_allocation_under_the_lock_stops_the_process(void **state)
{
	(void)state;
	assert_int_equal(death_of(allocate_while_locked), SIGABRT);
	assert_int_equal(death_of(allocate_after_unlock), 0);
	assert_int_equal(death_of(free_while_locked), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_is_zero_even_when_it_was_used_before),
		cmocka_unit_test(live_bytes_rise_by_what_is_held_and_return_to_where_they_were),
		cmocka_unit_test(an_array_whose_size_overflows_is_refused),
		cmocka_unit_test(an_empty_array_is_not_a_failure),
		cmocka_unit_test(alignment_is_what_was_asked_for),
		cmocka_unit_test(exactly_the_nth_allocation_fails),
		cmocka_unit_test(an_allocation_under_the_lock_stops_the_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
