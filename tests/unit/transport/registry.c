/* registry.c - transports are found by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/log_capture.h"
#include "transport/transport.h"

static void
each_backend_is_found_by_its_own_name(void **state)
{
	static const char *const names[] = {"shm", "loop"};
	(void)state;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_non_null(far_transport_find(names[i]));
		assert_string_equal(far_transport_find(names[i])->name, names[i]);
	}
	assert_null(far_transport_find(""));
	assert_null(far_transport_find("lo"));
	assert_null(far_transport_find("loops"));
}

static void
an_unknown_backend_is_answered_with_the_known_ones(void **state)
{
	struct far_transport_config config = {.clock = far_clock_real()};
	struct far_transport *tp = NULL;
	(void)state;

	far_log_capture_start();
	far_log_capture_expect("transport 'pigeon' is unknown");
	assert_int_equal(far_transport_open("pigeon", &config, &tp), -ENODEV);
	assert_null(tp);
	assert_int_equal(far_log_capture_count("this build has shm, "), 1);
	assert_int_equal(far_log_capture_count("loop"), 1);
	far_log_capture_finish();
}

static void
closing_nothing_is_harmless(void **state)
{
	(void)state;
	far_transport_close(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_backend_is_found_by_its_own_name),
		cmocka_unit_test(an_unknown_backend_is_answered_with_the_known_ones),
		cmocka_unit_test(closing_nothing_is_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
