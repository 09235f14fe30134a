/* ucx_device.c - UCX opens ports on the interfaces that the addresses need, or on all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "transport/ucx/ucx_priv.h"

static char devices[UCX_DEVICES_BYTES];

static const char *
found(const char *const *listens, size_t listen_count, const char *const *peers, size_t peer_count)
{
	struct far_transport_config config = {
		.listens = listens,
		.listen_count = listen_count,
		.peers = peers,
		.peer_count = peer_count,
	};

	memset(devices, 'x', sizeof(devices));
	assert_int_equal(far_ucx_devices_find(&config, devices, sizeof(devices)), 0);
	return devices;
}

static const char *
found_for(const char *listen, const char *peer)
{
	return found(&listen, listen != NULL, &peer, peer != NULL);
}

static void
an_address_of_ours_names_its_interface(void **state)
{
	(void)state;
	assert_string_equal(found_for("127.0.0.1:7471", NULL), "lo");
	assert_string_equal(found_for("127.0.0.9:7471", NULL), "lo");
}

static void
a_peer_names_the_interface_that_leads_to_it(void **state)
{
	(void)state;
	assert_string_equal(found_for(NULL, "127.0.0.1:7471"), "lo");
}

static void
an_interface_is_named_once(void **state)
{
	static const char *const two[] = {"127.0.0.1:7471", "127.0.0.1:7472"};
	(void)state;

	assert_string_equal(found(two, 2, two, 2), "lo");
}

static void
what_stands_for_all_leaves_all(void **state)
{
	static const char *const mixed[] = {"127.0.0.1:7471", "0.0.0.0:7471"};
	(void)state;

	assert_string_equal(found_for("0.0.0.0:7471", NULL), "");
	assert_string_equal(found_for("[::]:7471", NULL), "");
	assert_string_equal(found(mixed, 2, NULL, 0), "");
	assert_string_equal(found(NULL, 0, NULL, 0), "");
}

/* A name may be another address tomorrow, and is not waited for. */
static void
a_name_leaves_all(void **state)
{
	(void)state;
	assert_string_equal(found_for(NULL, "donor-a.rack:7471"), "");
	assert_string_equal(found_for("127.0.0.1:7471", "donor-a.rack:7471"), "");
}

static void
an_address_that_is_not_here_leaves_all(void **state)
{
	(void)state;
	assert_string_equal(found_for("203.0.113.1:7471", NULL), ""); /* TEST-NET-3 */
	assert_string_equal(found_for("no address", NULL), "");
}

static void
names_that_do_not_fit_leave_all(void **state)
{
	const char *listen = "127.0.0.1:7471";
	struct far_transport_config config = {.listens = &listen, .listen_count = 1};
	char small[3];
	(void)state;

	assert_int_equal(far_ucx_devices_find(&config, small, sizeof(small)), 0);
	assert_string_equal(small, "lo");
	assert_int_equal(far_ucx_devices_find(&config, small, 2), 0);
	assert_string_equal(small, "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_address_of_ours_names_its_interface),
		cmocka_unit_test(a_peer_names_the_interface_that_leads_to_it),
		cmocka_unit_test(an_interface_is_named_once),
		cmocka_unit_test(what_stands_for_all_leaves_all),
		cmocka_unit_test(a_name_leaves_all),
		cmocka_unit_test(an_address_that_is_not_here_leaves_all),
		cmocka_unit_test(names_that_do_not_fit_leave_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
