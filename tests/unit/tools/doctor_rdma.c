/* doctor_rdma.c - modules, device files, libraries and devices of hosts that are made up. */
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

static void
examine(void)
{
	memset(&report, 0, sizeof(report));
	far_doctor_rdma(host, &report);
}

static void
a_host_without_rdma_has_nothing_that_failed(void **state)
{
	(void)state;
	examine();
	assert_int_equal(far_doctor_count(&report, FAR_DOCTOR_FAIL), 0);
	assert_int_equal(far_doctor_count(&report, FAR_DOCTOR_WARN), 0);
	doctor_host_expect(&report, "devices", FAR_DOCTOR_NONE, "none", "modprobe rdma_rxe");
}

static void
no_device_fails_where_verbs_is_asked_for(void **state)
{
	(void)state;
	host->wanted.verbs = true;
	doctor_host_address("eth7", "10.0.0.7");
	examine();
	doctor_host_expect(&report, "devices", FAR_DOCTOR_FAIL, "verbs is asked for",
			   "rdma link add rxe0 type rxe netdev eth7");
	doctor_host_expect(&report, "modules", FAR_DOCTOR_FAIL, "ib_uverbs rdma_ucm",
			   "modprobe -a ib_uverbs rdma_ucm");
}

static void
a_healthy_device_is_ok_in_every_check(void **state)
{
	(void)state;
	doctor_host_device("mlx5_0");
	doctor_host_address("eth1", "10.0.0.3");
	doctor_host_file("/sys/class/infiniband/mlx5_0/fw_ver", "20.31.1014");
	doctor_host_file("/sys/class/infiniband/mlx5_0/hca_type", "MT4123");
	examine();
	for (size_t i = 0; i < report.count; i++) {
		assert_int_equal(report.checks[i].verdict, FAR_DOCTOR_OK);
		assert_string_equal(report.checks[i].fix, "");
	}
	doctor_host_expect(&report, "mlx5_0", FAR_DOCTOR_OK, "MT4123", "");
	doctor_host_expect(&report, "mlx5_0", FAR_DOCTOR_OK, "firmware 20.31.1014", "");
	doctor_host_expect(&report, "mlx5_0", FAR_DOCTOR_OK, "16 reads in flight", "");
}

static void
the_module_that_is_missing_is_the_one_to_load(void **state)
{
	char path[256];
	(void)state;

	doctor_host_device("mlx5_0");
	doctor_host_file("/sys/class/misc/rdma_cm/dev", NULL);
	snprintf(path, sizeof(path), "%s/sys/class/misc/rdma_cm", host->root);
	assert_int_equal(rmdir(path), 0);
	examine();
	doctor_host_expect(&report, "modules", FAR_DOCTOR_FAIL, "not loaded: rdma_ucm",
			   "modprobe -a rdma_ucm");
}

/* A container without --device: the kernel shows the device, its file is not there. */
static void
a_device_file_that_is_not_there_names_the_containers_option(void **state)
{
	(void)state;
	doctor_host_device("mlx5_0");
	doctor_host_address("eth1", "10.0.0.3");
	doctor_host_file("/dev/infiniband/uverbs0", NULL);
	examine();
	for (size_t i = 0; i < report.count; i++) {
		if (strstr(report.checks[i].found, "uverbs0") == NULL)
			continue;
		assert_int_equal(report.checks[i].verdict, FAR_DOCTOR_FAIL);
		assert_non_null(strstr(report.checks[i].fix, "--device=/dev/infiniband"));
		return;
	}
	fail_msg("nothing was said of uverbs0");
}

static void
a_device_file_that_may_not_be_used_says_chmod(void **state)
{
	char path[256];
	(void)state;

	if (geteuid() == 0)
		skip(); /* root may use any */
	doctor_host_device("mlx5_0");
	snprintf(path, sizeof(path), "%s/dev/infiniband/uverbs0", host->root);
	assert_int_equal(chmod(path, 0400), 0);
	examine();
	for (size_t i = 0; i < report.count; i++) {
		if (strstr(report.checks[i].found, "uverbs0") == NULL)
			continue;
		assert_int_equal(report.checks[i].verdict, FAR_DOCTOR_FAIL);
		assert_non_null(strstr(report.checks[i].fix, "chmod 0666 /dev/infiniband/uverbs0"));
		return;
	}
	fail_msg("nothing was said of uverbs0");
}

/* An image without providers: no devices, and nobody says why. */
static void
a_device_that_the_library_does_not_see_lacks_its_provider(void **state)
{
	(void)state;
	doctor_host_device("mlx5_0");
	doctor_host_address("eth1", "10.0.0.3");
	host->verbs.device_count = 0;
	examine();
	doctor_host_expect(&report, "mlx5_0", FAR_DOCTOR_FAIL, "its provider is missing",
			   "apt-get install ibverbs-providers");
}

static void
libraries_that_are_not_there_name_their_packages(void **state)
{
	(void)state;
	doctor_host_device("mlx5_0");
	host->verbs.rc = -ENODEV;
	snprintf(host->verbs.error, sizeof(host->verbs.error), "libibverbs.so.1: no such file");
	examine();
	doctor_host_expect(&report, "libraries", FAR_DOCTOR_FAIL, "libibverbs.so.1",
			   "apt-get install libibverbs1 librdmacm1 ibverbs-providers");
	host->verbs.rc = -EOPNOTSUPP;
	examine();
	doctor_host_expect(&report, "libraries", FAR_DOCTOR_FAIL, "libibverbs.so.1",
			   "libibverbs-dev");
}

static void
a_device_that_cannot_be_opened_or_register_memory_fails(void **state)
{
	struct far_verbs_device_seen *seen;
	(void)state;

	seen = doctor_host_device("mlx5_0");
	doctor_host_address("eth1", "10.0.0.3");
	seen->rc = -EACCES;
	examine();
	doctor_host_expect(&report, "mlx5_0", FAR_DOCTOR_FAIL, "cannot be opened: Permission",
			   "device file above");
	seen->rc = 0;
	seen->register_rc = -ENOMEM;
	examine();
	doctor_host_expect(&report, "mlx5_0", FAR_DOCTOR_FAIL, "cannot be registered",
			   "ulimit -l unlimited");
}

static void
a_device_that_keeps_no_read_in_flight_cannot_be_used(void **state)
{
	(void)state;
	doctor_host_device("mlx5_0")->reads_served_max = 0;
	examine();
	doctor_host_expect(&report, "mlx5_0", FAR_DOCTOR_FAIL, "no read in flight",
			   "use another device");
}

static void
memory_of_another_node_is_a_warning(void **state)
{
	(void)state;
	doctor_host_device("mlx5_0");
	doctor_host_address("eth1", "10.0.0.3");
	doctor_host_file("/sys/class/infiniband/mlx5_0/device/numa_node", "1");
	host->wanted.numa_node = 1;
	examine();
	doctor_host_expect(&report, "mlx5_0", FAR_DOCTOR_OK, "near NUMA node 1", "");
	host->wanted.numa_node = 0;
	examine();
	doctor_host_expect(&report, "mlx5_0", FAR_DOCTOR_WARN, "memory from node 0",
			   "numa_node: 1");
}

static void
a_card_without_its_rdma_module_says_which(void **state)
{
	(void)state;
	doctor_host_link("/sys/bus/pci/devices/0000:3b:00.0/driver",
			 "../../bus/pci/drivers/mlx5_core");
	examine();
	doctor_host_expect(&report, "network card", FAR_DOCTOR_WARN, "0000:3b:00.0 (mlx5_core)",
			   "modprobe mlx5_ib");
	/* With it there is a device, and nothing to say. */
	doctor_host_device("mlx5_0");
	doctor_host_link("/sys/class/infiniband/mlx5_0/device", "../../../0000:3b:00.0");
	examine();
	for (size_t i = 0; i < report.count; i++)
		assert_string_not_equal(report.checks[i].name, "network card");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_host_without_rdma_has_nothing_that_failed),
		TEST(no_device_fails_where_verbs_is_asked_for),
		TEST(a_healthy_device_is_ok_in_every_check),
		TEST(the_module_that_is_missing_is_the_one_to_load),
		TEST(a_device_file_that_is_not_there_names_the_containers_option),
		TEST(a_device_file_that_may_not_be_used_says_chmod),
		TEST(a_device_that_the_library_does_not_see_lacks_its_provider),
		TEST(libraries_that_are_not_there_name_their_packages),
		TEST(a_device_that_cannot_be_opened_or_register_memory_fails),
		TEST(a_device_that_keeps_no_read_in_flight_cannot_be_used),
		TEST(memory_of_another_node_is_a_warning),
		TEST(a_card_without_its_rdma_module_says_which),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
