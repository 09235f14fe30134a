/* host.c - HOST:PORT as people write it: what is an address, what a name, and what is neither. */
#include "transport/host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"

static int
parse(const char *text, char out[FAR_ADDRESS_BYTES_MAX])
{
	struct sockaddr_storage addr = {0};
	socklen_t addr_bytes = 0;
	int rc = far_host_parse(text, &addr, &addr_bytes);

	if (rc == 0)
		far_host_format(&addr, out);
	return rc;
}

static void
an_address_is_read_as_it_is_printed(void **state)
{
	static const char *const good[] = {"10.0.0.3:7471", "0.0.0.0:1", "127.0.0.1:65535",
					   "[::1]:7471", "[fe80::1]:7471"};
	char text[FAR_ADDRESS_BYTES_MAX];
	(void)state;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(parse(good[i], text), 0);
		assert_string_equal(text, good[i]);
	}
}

static void
a_name_has_to_be_asked_for(void **state)
{
	char text[FAR_ADDRESS_BYTES_MAX];
	(void)state;

	assert_int_equal(parse("donor-a.rack:7471", text), -EAGAIN);
}

static void
what_is_no_address_is_refused(void **state)
{
	static const char *const bad[] = {
		"",       ":",         ":7471",      "10.0.0.3",        "10.0.0.3:",
		"host:x", "host:-1",   "host:7471x", "10.0.0.3:65536",  "10.0.0.3:99999",
		"::1:71", "[::1]7471", "[::1:7471",  "10.0.0.3:123456", "[]:7471",
		"host: 1"};
	char text[FAR_ADDRESS_BYTES_MAX];
	(void)state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (parse(bad[i], text) != -EINVAL)
			fail_msg("'%s' was not refused", bad[i]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_address_is_read_as_it_is_printed),
		cmocka_unit_test(a_name_has_to_be_asked_for),
		cmocka_unit_test(what_is_no_address_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
