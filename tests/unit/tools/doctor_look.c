/* doctor_look.c - what is found out takes no longer than it may, and is of this host. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tools/cli/doctor/doctor.h"

static struct far_doctor_host host; /* large */
static _Atomic bool ended;
static int gate[2]; /* what hangs, until it is written to */

static void
work_quick(void *memory)
{
	uint64_t *number = memory;

	assert_int_equal(*number, 0);
	*number = 4711;
}

static void
work_that_hangs(void *memory)
{
	char byte;

	(void)!read(gate[0], &byte, 1);
	*(uint64_t *)memory = 1;
	atomic_store(&ended, true);
}

static void
what_returns_in_time_is_taken(void **state)
{
	uint64_t number = 1;
	(void)state;

	assert_int_equal(far_doctor_in_time(work_quick, &number, sizeof(number), 60 * FAR_NS_PER_S),
			 0);
	assert_int_equal(number, 4711);
}

/* It may come back later, and then writes to nothing that we have. */
static void
what_hangs_is_left_behind_with_its_memory(void **state)
{
	uint64_t number = 7;
	(void)state;

	assert_int_equal(pipe(gate), 0);
	assert_int_equal(
		far_doctor_in_time(work_that_hangs, &number, sizeof(number), FAR_NS_PER_MS),
		-ETIMEDOUT);
	assert_int_equal(write(gate[1], "x", 1), 1);
	while (!atomic_load(&ended))
		(void)usleep(1000);
	assert_int_equal(number, 7);
	assert_int_equal(close(gate[0]) + close(gate[1]), 0);
}

static void
this_host_has_what_every_host_has(void **state)
{
	(void)state;
	host.root = "";
	host.wanted.numa_node = -1;
	far_doctor_look(&host);
	assert_false(host.hangs);
	assert_true(host.memory_fits);
	assert_int_equal(host.memfd_rc, 0);
	for (size_t i = 0; i < host.address_count; i++) {
		assert_string_not_equal(host.addresses[i].interface, "lo");
		assert_string_not_equal(host.addresses[i].text, "");
	}
	if (host.gpu.rc < 0)
		assert_string_not_equal(host.gpu.error, "");
	if (host.verbs.rc < 0)
		assert_string_not_equal(host.verbs.error, "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_returns_in_time_is_taken),
		cmocka_unit_test(what_hangs_is_left_behind_with_its_memory),
		cmocka_unit_test(this_host_has_what_every_host_has),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
