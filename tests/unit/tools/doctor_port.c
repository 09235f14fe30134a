/* doctor_port.c - ports of devices that are made up: state, MTU, GIDs, addresses. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/doctor_host.h"

static struct far_doctor_host *host;
static struct far_doctor_report report;

static int
setup(void **state)
{
	(void)state;
	memset(&report, 0, sizeof(report));
	host = doctor_host_open();
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	doctor_host_close();
	return 0;
}

#define PORT "/sys/class/infiniband/mlx5_0/ports/1"

static struct far_verbs_device_seen *seen;

static void
device_make(void)
{
	seen = doctor_host_device("mlx5_0");
	doctor_host_address("eth1", "10.0.0.3");
}

static void
expect(enum far_doctor_verdict verdict, const char *found, const char *fix)
{
	memset(&report, 0, sizeof(report));
	far_doctor_ports(host, "mlx5_0", &report);
	doctor_host_expect(&report, "mlx5_0 port 1", verdict, found, fix);
}

static void
a_port_that_is_up_says_which_gid_is_used_for_which_address(void **state)
{
	(void)state;
	device_make();
	expect(FAR_DOCTOR_OK, "ACTIVE, Ethernet (RoCE), interface eth1, 100 Gb/sec", "");
	expect(FAR_DOCTOR_OK, "MTU 4096 of 4096, that of eth1 is 9000", "");
	expect(FAR_DOCTOR_OK, "gid 2: RoCE v2 10.0.0.3: used for verbs:10.0.0.3:PORT", "");
	assert_null(strstr(report.checks[0].found, "RoCE v1"));
	assert_null(strstr(report.checks[0].found, "fe80"));
}

static void
an_ipv6_address_is_shown_as_it_is_written_in_an_address(void **state)
{
	(void)state;
	device_make();
	doctor_host_file(PORT "/gids/3", "fd00:0000:0000:0000:0000:0000:0000:0003");
	doctor_host_file(PORT "/gid_attrs/types/3", "RoCE v2");
	doctor_host_address("eth1", "fd00::3");
	expect(FAR_DOCTOR_OK, "gid 3: RoCE v2 fd00::3: used for verbs:[fd00::3]:PORT", "");
}

static void
a_gid_behind_hundreds_of_empty_ones_is_found(void **state)
{
	(void)state;
	device_make();
	for (unsigned i = 3; i < 700; i++) {
		char path[128];

		snprintf(path, sizeof(path), PORT "/gids/%u", i);
		doctor_host_file(path, "0000:0000:0000:0000:0000:0000:0000:0000");
	}
	doctor_host_file(PORT "/gids/700", "fd00:0000:0000:0000:0000:0000:0000:0003");
	doctor_host_file(PORT "/gid_attrs/types/700", "RoCE v2");
	doctor_host_address("eth1", "fd00::3");
	expect(FAR_DOCTOR_OK, "gid 700: RoCE v2 fd00::3", "");
}

static void
an_interface_that_is_off_is_to_be_switched_on(void **state)
{
	(void)state;
	device_make();
	doctor_host_file(PORT "/state", "1: DOWN");
	doctor_host_file("/sys/class/net/eth1/flags", "0x1002");
	expect(FAR_DOCTOR_FAIL, "DOWN", "ip link set dev eth1 up");
}

static void
no_signal_is_the_cable(void **state)
{
	(void)state;
	device_make();
	doctor_host_file(PORT "/state", "1: DOWN");
	doctor_host_file(PORT "/phys_state", "2: Polling");
	expect(FAR_DOCTOR_FAIL, "DOWN", "check cable");
}

static void
a_spare_port_that_is_dark_is_a_warning_while_another_is_up(void **state)
{
	(void)state;
	device_make();
	doctor_host_device("mlx5_1");
	doctor_host_file(PORT "/state", "1: DOWN");
	host->address_count = 0;
	expect(FAR_DOCTOR_WARN, "it is not in use", "cable");
	doctor_host_file("/sys/class/infiniband/mlx5_1/ports/1/state", "1: DOWN");
	expect(FAR_DOCTOR_FAIL, "it is not in use", "cable");
}

static void
infiniband_without_a_subnet_manager_says_so(void **state)
{
	(void)state;
	device_make();
	doctor_host_file(PORT "/link_layer", "InfiniBand");
	doctor_host_file(PORT "/state", "2: INIT");
	expect(FAR_DOCTOR_FAIL, "INIT, InfiniBand", "opensm");
}

static void
infiniband_needs_an_interface_with_an_address(void **state)
{
	(void)state;
	device_make();
	doctor_host_file(PORT "/link_layer", "InfiniBand");
	expect(FAR_DOCTOR_OK, "InfiniBand", "");
	host->address_count = 0;
	expect(FAR_DOCTOR_FAIL, "eth1 has no address", "ip address add");
	doctor_host_file(PORT "/gid_attrs/ndevs/0", "");
	expect(FAR_DOCTOR_FAIL, "no network interface", "modprobe ib_ipoib");
}

static void
a_small_mtu_is_the_interfaces(void **state)
{
	(void)state;
	device_make();
	seen->ports[0].mtu_bytes = 1024;
	doctor_host_file("/sys/class/net/eth1/mtu", "1500");
	expect(FAR_DOCTOR_WARN, "MTU 1024 of 4096, that of eth1 is 1500",
	       "ip link set dev eth1 mtu 9000");
	/* It has grown, and the port was not told. */
	doctor_host_file("/sys/class/net/eth1/mtu", "9000");
	expect(FAR_DOCTOR_WARN, "would carry 4096", "ip link set dev eth1 down");
	/* No device can do more than it can. */
	seen->ports[0].mtu_bytes_max = 1024;
	expect(FAR_DOCTOR_OK, "MTU 1024 of 1024", "");
}

static void
a_port_without_gids_needs_an_address(void **state)
{
	static const char none[] = "0000:0000:0000:0000:0000:0000:0000:0000";
	(void)state;

	device_make();
	doctor_host_file(PORT "/gids/0", none);
	doctor_host_file(PORT "/gids/1", none);
	doctor_host_file(PORT "/gids/2", none);
	expect(FAR_DOCTOR_FAIL, "no GIDs", "ip address add 10.0.0.1/24 dev eth1");
}

static void
link_local_gids_alone_are_a_warning(void **state)
{
	static const char none[] = "0000:0000:0000:0000:0000:0000:0000:0000";
	(void)state;

	device_make();
	doctor_host_file(PORT "/gids/1", none);
	doctor_host_file(PORT "/gids/2", none);
	expect(FAR_DOCTOR_WARN, "link-local GIDs alone", "ip address add");
}

static void
roce_v1_alone_or_by_choice_is_a_warning(void **state)
{
	(void)state;
	device_make();
	doctor_host_file("/sys/kernel/config/rdma_cm/mlx5_0/ports/1/default_roce_mode",
			 "IB/RoCE v1");
	expect(FAR_DOCTOR_WARN, "gid 1: RoCE v1 10.0.0.3: used",
	       "cma_roce_mode -d mlx5_0 -p 1 -m 2");
	doctor_host_file("/sys/kernel/config/rdma_cm/mlx5_0/ports/1/default_roce_mode", "RoCE v2");
	expect(FAR_DOCTOR_OK, "gid 2: RoCE v2", "");
	doctor_host_file(PORT "/gid_attrs/types/0", "IB/RoCE v1");
	doctor_host_file(PORT "/gid_attrs/types/2", "IB/RoCE v1");
	expect(FAR_DOCTOR_WARN, "RoCE v1 alone", "cma_roce_mode");
}

/* A container that has the device and another network namespace. */
static void
gids_of_addresses_that_are_not_ours_are_a_warning(void **state)
{
	(void)state;
	device_make();
	host->address_count = 0;
	expect(FAR_DOCTOR_WARN, "none of them is an address of this network namespace",
	       "ip address add");
}

static void
odd_files_are_no_reason_to_stop(void **state)
{
	static const char *const files[] = {
		PORT "/state",
		PORT "/phys_state",
		PORT "/link_layer",
		PORT "/rate",
		PORT "/gids/0",
		PORT "/gids/2",
		PORT "/gid_attrs/types/2",
		PORT "/gid_attrs/ndevs/0",
		"/sys/class/net/eth1/mtu",
		"/sys/class/net/eth1/flags",
	};
	static const char *const texts[] = {
		"",         ":",   "::",
		"\xff\xff", "4: ", "99999999999999999999999999999999999999999999999999999"};
	(void)state;

	device_make();
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		for (size_t j = 0; j < sizeof(texts) / sizeof(texts[0]); j++) {
			doctor_host_file(files[i], texts[j]);
			memset(&report, 0, sizeof(report));
			far_doctor_ports(host, "mlx5_0", &report);
			assert_int_equal(report.count, 1);
		}
		doctor_host_file(files[i], NULL);
		memset(&report, 0, sizeof(report));
		far_doctor_ports(host, "mlx5_0", &report);
		assert_int_equal(report.count, 1);
	}
	memset(&report, 0, sizeof(report));
	far_doctor_ports(host, "..", &report);
	far_doctor_ports(host, "mlx5_9", &report);
	assert_int_equal(report.count, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_port_that_is_up_says_which_gid_is_used_for_which_address),
		TEST(an_ipv6_address_is_shown_as_it_is_written_in_an_address),
		TEST(a_gid_behind_hundreds_of_empty_ones_is_found),
		TEST(an_interface_that_is_off_is_to_be_switched_on),
		TEST(no_signal_is_the_cable),
		TEST(a_spare_port_that_is_dark_is_a_warning_while_another_is_up),
		TEST(infiniband_without_a_subnet_manager_says_so),
		TEST(infiniband_needs_an_interface_with_an_address),
		TEST(a_small_mtu_is_the_interfaces),
		TEST(a_port_without_gids_needs_an_address),
		TEST(link_local_gids_alone_are_a_warning),
		TEST(roce_v1_alone_or_by_choice_is_a_warning),
		TEST(gids_of_addresses_that_are_not_ours_are_a_warning),
		TEST(odd_files_are_no_reason_to_stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
