/* examples.c - the programs that a newcomer copies from do what they say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/rig.h"

static struct rig_run run; /* large */

static void
every_example_runs_and_prints_what_it_promises(void **state)
{
	char address[256];
	struct rig rig;

	(void)state;
	rig_open(&rig);
	rig_donor_add(&rig, "donor-a", "64MiB", NULL);
	rig_client_config(&rig, "16MiB", NULL);
	snprintf(address, sizeof(address), "%s", rig.donors[0].address);
	{
		const char *const argv[] = {FAR_TEST_EXAMPLES "/example-store", rig.client_config,
					    NULL};

		rig_run(&run, 30, argv);
		assert_int_equal(run.status, 0);
		assert_string_equal(run.out, "stored 2, had 0, failed 0\n");
	}
	{
		const char *const argv[] = {FAR_TEST_EXAMPLES "/example-get", rig.client_config,
					    NULL};

		rig_run(&run, 30, argv);
		assert_int_equal(run.status, 0);
		assert_string_equal(run.out, "the bytes of a block\n");
	}
	{
		const char *const argv[] = {FAR_TEST_EXAMPLES "/example-prefetch",
					    rig.client_config, NULL};

		rig_run(&run, 30, argv);
		assert_int_equal(run.status, 0);
		assert_non_null(strstr(run.out, "prefix of 16 of 32 chunks"));
		assert_non_null(strstr(run.out, "event: ended 1, prefix 16"));
	}
	{
		const char *const argv[] = {FAR_TEST_EXAMPLES "/example-share", rig.client_config,
					    NULL};

		rig_run(&run, 30, argv);
		assert_int_equal(run.status, 0);
		assert_non_null(strstr(run.out, "13 bytes at "));
		assert_non_null(strstr(run.out, "a writable mapping is refused"));
	}
	{
		const char *const argv[] = {FAR_TEST_EXAMPLES "/example-status", "donor-a", address,
					    NULL};

		rig_run(&run, 30, argv);
		assert_int_equal(run.status, 0);
		assert_non_null(strstr(run.out, "donor-a is up"));
	}
	rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_example_runs_and_prints_what_it_promises),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
