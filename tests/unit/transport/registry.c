/* registry.c - transports are found by name, and addresses begin with one. */
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

static void
an_address_is_split_at_its_first_colon(void **state)
{
	const char *rest = NULL;
	char name[16];
	(void)state;

	assert_int_equal(far_address_split("shm:/run/farpool/donor.sock", name, &rest), 0);
	assert_string_equal(name, "shm");
	assert_string_equal(rest, "/run/farpool/donor.sock");
	assert_int_equal(far_address_split("verbs:[fe80::1]:7471", name, &rest), 0);
	assert_string_equal(name, "verbs");
	assert_string_equal(rest, "[fe80::1]:7471");
	assert_int_equal(far_address_split("fifteen-letters:x", name, &rest), 0);
	assert_string_equal(name, "fifteen-letters");
}

static void
an_address_without_both_halves_is_refused(void **state)
{
	static const char *const bad[] = {"", ":", "shm", "shm:", ":/path", "sixteen-letters!:x"};
	const char *rest = "untouched";
	char name[16] = "untouched";
	(void)state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(far_address_split(bad[i], name, &rest), -EINVAL);
	assert_string_equal(name, "untouched");
	assert_string_equal(rest, "untouched");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_backend_is_found_by_its_own_name),
		cmocka_unit_test(an_unknown_backend_is_answered_with_the_known_ones),
		cmocka_unit_test(closing_nothing_is_harmless),
		cmocka_unit_test(an_address_is_split_at_its_first_colon),
		cmocka_unit_test(an_address_without_both_halves_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
