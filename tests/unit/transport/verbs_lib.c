/* verbs_lib.c - the verbs libraries are loaded where they are used, or it is said what to install. */
#include "transport/verbs/lib.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/log_capture.h"
#include "tests/unit/transport/ucx_host.h"
#include "transport/transport.h"
#include "transport/verbs/verbs_priv.h"

static struct ucx_host before; /* of this process, without them */

static unsigned
thread_count(void)
{
	FILE *file = fopen("/proc/self/status", "re");
	unsigned count = 0;
	char line[256];

	assert_non_null(file);
	while (count == 0 && fgets(line, sizeof(line), file) != NULL)
		if (strncmp(line, "Threads:", 8) == 0)
			count = (unsigned)strtoul(line + 8, NULL, 10);
	assert_int_equal(fclose(file), 0);
	return count;
}

static bool
is_mapped(const char *part)
{
	FILE *file = fopen("/proc/self/maps", "re");
	bool found = false;
	char line[512];

	assert_non_null(file);
	while (!found && fgets(line, sizeof(line), file) != NULL)
		found = strstr(line, part) != NULL;
	assert_int_equal(fclose(file), 0);
	return found;
}

static void
nobody_loads_them_before_verbs_is_opened(void **state)
{
	struct far_transport_config config = {.clock = far_clock_real()};
	struct far_transport *tp;
	(void)state;

	ucx_host_look(&before);
	assert_int_equal(far_transport_open("shm", &config, &tp), 0);
	far_transport_close(tp);
	assert_non_null(far_transport_find("verbs"));
	assert_false(is_mapped("libibverbs"));
	assert_false(is_mapped("librdmacm"));
	assert_null(far_verbs_lib);
}

static void
one_that_is_not_there_is_named_with_what_to_install(void **state)
{
	struct verbs_lib lib;
	char why[512] = "";
	(void)state;

	assert_int_equal(
		far_verbs_lib_find("libnobody.so.1", VERBS_CM_SONAME, &lib, why, sizeof(why)),
		-ENODEV);
	assert_non_null(strstr(why, "libnobody.so.1"));
	assert_non_null(strstr(why, "install libibverbs1"));
	/* One that is there and is another. */
	assert_int_equal(far_verbs_lib_find("libm.so.6", "libm.so.6", &lib, why, sizeof(why)),
			 -ENODEV);
	assert_non_null(strstr(why, "ibv_"));
}

static void
every_function_is_found(void **state)
{
	(void)state;
	if (far_verbs_lib_load() < 0) {
		print_message("skipped: this host has no libibverbs and librdmacm\n");
		skip();
	}
	assert_non_null(far_verbs_lib);
	assert_true(is_mapped("libibverbs"));
	/* The newest of each, which takes what our headers say: not those of before 2007. */
	assert_non_null((void *)(uintptr_t)far_verbs_lib->ibv_create_qp);
	assert_int_equal(far_verbs_lib_load(), 0);
}

/* With a device where there is one, and then with its driver. */
static void
the_process_is_left_as_it_was(void **state)
{
	struct far_transport_config config = {.clock = far_clock_real()};
	struct far_transport *tp = NULL;
	unsigned threads = thread_count();
	int rc;
	(void)state;

	if (far_verbs_lib == NULL)
		skip();
	far_log_capture_start();
	far_log_capture_expect("verbs: this host has no RDMA device");
	rc = far_transport_open("verbs", &config, &tp);
	assert_true(rc == 0 || rc == -ENODEV);
	assert_int_equal(ucx_host_code_changes(&before), 0);
	assert_int_equal(ucx_host_signal_changes(&before), 0);
	assert_int_equal(thread_count(), threads);
	far_transport_close(tp);
	far_log_capture_finish();
}

static void
a_timeout_is_rounded_up_to_what_devices_know(void **state)
{
	static const struct {
		uint64_t ns;
		uint8_t exponent;
	} cases[] = {
		{0, 1}, /* 0 would be for ever */
		{1, 1},
		{8192, 1},
		{8193, 2},
		{268 * FAR_NS_PER_MS, 16},
		{269 * FAR_NS_PER_MS, 17},
		{FAR_NS_PER_S, 18},
		{UINT64_MAX, 31},
	};
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(far_verbs_timeout_exponent(cases[i].ns), cases[i].exponent);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_loads_them_before_verbs_is_opened),
		cmocka_unit_test(one_that_is_not_there_is_named_with_what_to_install),
		cmocka_unit_test(every_function_is_found),
		cmocka_unit_test(the_process_is_left_as_it_was),
		cmocka_unit_test(a_timeout_is_rounded_up_to_what_devices_know),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
