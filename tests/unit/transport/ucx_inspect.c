/* ucx_inspect.c - what UCX finds on this host, and lines of it that nobody expected. */
#include "transport/ucx/inspect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/log_capture.h"
#include "transport/ucx/lib.h"

static struct far_ucx_inspection seen; /* large */
static const char *printed;

static bool
has(const char *transport, const char *device)
{
	for (uint32_t i = 0; i < seen.way_count; i++)
		if (strcmp(seen.ways[i].transport, transport) == 0 &&
		    strcmp(seen.ways[i].device, device) == 0)
			return true;
	return false;
}

static void
a_host_has_tcp_over_its_loopback(void **state)
{
	(void)state;
	far_log_capture_start();
	far_ucx_inspect(&seen);
	far_log_capture_finish();
	assert_int_equal(seen.rc, 0);
	assert_int_equal(seen.major, 1);
	assert_true(seen.minor >= UCX_LIB_MINOR);
	assert_non_null(strstr(seen.path, "libucp"));
	assert_true(has("tcp", "lo"));
}

static void
fake_print(const ucp_context_h context, FILE *stream)
{
	(void)context;
	(void)fputs(printed, stream);
}

static void
print(const char *text)
{
	const struct ucx_lib *real = far_ucx_lib;
	struct ucx_lib table = *real;

	printed = text;
	table.ucp_context_print_info = fake_print;
	far_ucx_lib = &table;
	far_ucx_inspect(&seen);
	far_ucx_lib = real;
}

static void
lines_of_another_form_are_left_out(void **state)
{
	char *many = malloc(60000);
	(void)state;

	print("# resource\n#  resource 0 : md 0 dev 0 flags -- tcp/eth0\n"
	      "# md 1 : component a/b\n"
	      "#  resource 1 : nothing\n#  resource 2 : /x\n#  resource 3 : x/\n \n\n/\n"
	      "#  resource 4 : md 0 flags -- rc_verbs/mlx5_0:1  ");
	assert_true(has("tcp", "eth0"));
	assert_true(has("rc_verbs", "mlx5_0:1"));
	assert_true(seen.way_count <= 3);
	print("");
	assert_int_equal(seen.way_count, 0);
	/* More than there is room for, and names that are too long. */
	assert_non_null(many);
	many[0] = '\0';
	for (size_t i = 0, at = 0; i < 1000; i++)
		at += (size_t)snprintf(many + at, 60000 - at, "# resource %zu : tcp/e%zu\n", i, i);
	print(many);
	assert_int_equal(seen.way_count, FAR_UCX_INSPECT_WAYS);
	memset(many, 'y', 1000);
	memcpy(many, "# resource 1 : ", 15);
	many[500] = '/';
	many[1000] = '\0';
	print(many);
	assert_int_equal(seen.way_count, 1);
	assert_int_equal(strlen(seen.ways[0].transport), sizeof(seen.ways[0].transport) - 1);
	free(many);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_host_has_tcp_over_its_loopback),
		cmocka_unit_test(lines_of_another_form_are_left_out),
	};

	if (far_ucx_lib_load() < 0)
		return 77; /* no UCX here: the log has said so */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
