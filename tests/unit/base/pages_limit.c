/* pages_limit.c - the numbers of the kernel's files, and what they allow. */
#include "base/pages_limit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/pages.h"

static void
values_are_found_by_their_whole_name(void **state)
{
	static const char machine[] = "MemTotal:       24596240 kB\n"
				      "MemFree:        23920464 kB\n"
				      "MemAvailable:   24113096 kB\n";
	static const char node[] = "Node 0 MemFree:        1000 kB\n"
				   "Node 0 Active(file):    20 kB\n"
				   "Node 0 Inactive(file):  300 kB\n";
	uint64_t bytes = 7;
	(void)state;

	assert_true(far_meminfo_find(machine, "MemAvailable:", &bytes));
	assert_int_equal(bytes, 24113096ULL * 1024);
	assert_true(far_meminfo_find(node, "Active(file):", &bytes));
	assert_int_equal(bytes, 20 * 1024);
	assert_true(far_meminfo_find(node, "Inactive(file):", &bytes));
	assert_int_equal(bytes, 300 * 1024);
	assert_false(far_meminfo_find(node, "Active(anon):", &bytes));
	assert_false(far_meminfo_find("MemFree:", "MemFree:", &bytes));
	assert_false(far_meminfo_find("", "MemFree:", &bytes));
	assert_false(far_meminfo_find("MemFree: 18446744073709551615 kB", "MemFree:", &bytes));
	assert_int_equal(bytes, 300 * 1024);
}

static void
a_page_fits_and_more_than_the_machine_has_does_not(void **state)
{
	(void)state;
	assert_true(far_pages_fit(4096, -1));
	assert_true(far_pages_fit(4096, 0));
	assert_true(far_pages_fit(4096, 999)); /* no such node: its numbers refuse nothing */
	assert_false(far_pages_fit(far_pages_available_bytes() + ((uint64_t)1 << 30), -1));
	assert_false(far_pages_fit(UINT64_MAX / 2, 0));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_found_by_their_whole_name),
		cmocka_unit_test(a_page_fits_and_more_than_the_machine_has_does_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
