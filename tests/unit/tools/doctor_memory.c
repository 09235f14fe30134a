/* doctor_memory.c - memory of hosts that are made up: what may be locked, huge pages, limits. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
want(uint64_t bytes)
{
	host->wanted.host_bytes = bytes;
	snprintf(host->wanted.what, sizeof(host->wanted.what), "l1.size");
}

static void
huge_pages(const char *total, const char *unused)
{
	doctor_host_file("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", total);
	doctor_host_file("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", unused);
}

#define GIB (1ULL << 30)

static void
a_host_without_rdma_needs_no_fix(void **state)
{
	(void)state;
	far_doctor_machine(host, &report);
	far_doctor_memory(host, &report);
	for (size_t i = 0; i < report.count; i++)
		assert_string_equal(report.checks[i].fix, "");
	doctor_host_expect(&report, "processors", FAR_DOCTOR_OK, "8, 2 NUMA nodes", "");
	doctor_host_expect(&report, "memory", FAR_DOCTOR_OK, "12 GiB available of 16 GiB", "");
	doctor_host_expect(&report, "locked memory", FAR_DOCTOR_OK, "RDMA alone needs more", "");
	doctor_host_expect(&report, "huge pages", FAR_DOCTOR_NONE, "ordinary pages", "");
}

static void
locked_memory_below_the_configured_size_fails_and_says_how_to_raise_it(void **state)
{
	(void)state;
	doctor_host_device("mlx5_0");
	want(4 * GIB);
	far_doctor_memory(host, &report);
	doctor_host_expect(&report, "locked memory", FAR_DOCTOR_FAIL, "l1.size needs 4 GiB",
			   "ulimit -l unlimited");
	doctor_host_expect(&report, "locked memory", FAR_DOCTOR_FAIL, "8 MiB may be locked",
			   "LimitMEMLOCK=infinity");
}

static void
locked_memory_is_needed_once_for_each_device(void **state)
{
	(void)state;
	doctor_host_device("mlx5_0");
	doctor_host_device("mlx5_1");
	want(4 * GIB);
	doctor_host_file(
		"/proc/self/limits",
		"Max locked memory         6442450944           unlimited            bytes");
	far_doctor_memory(host, &report);
	doctor_host_expect(&report, "locked memory", FAR_DOCTOR_FAIL, "l1.size needs 8 GiB",
			   "in the shell that starts it");
}

static void
a_small_limit_is_a_warning_where_rdma_is_and_no_size_is_known(void **state)
{
	(void)state;
	doctor_host_device("mlx5_0");
	far_doctor_memory(host, &report);
	doctor_host_expect(&report, "locked memory", FAR_DOCTOR_WARN, "8 MiB",
			   "--ulimit memlock=-1:-1");
}

static void
no_limit_and_root_are_good(void **state)
{
	(void)state;
	doctor_host_device("mlx5_0");
	want(4 * GIB);
	doctor_host_file(
		"/proc/self/limits",
		"Max locked memory         unlimited            unlimited            bytes");
	far_doctor_memory(host, &report);
	doctor_host_expect(&report, "locked memory", FAR_DOCTOR_OK, "unlimited", "");
	memset(&report, 0, sizeof(report));
	doctor_host_file(
		"/proc/self/limits",
		"Max locked memory         8388608              8388608              bytes");
	/* CAP_IPC_LOCK alone is what counts. */
	doctor_host_file("/proc/self/status", "Name: x\nCapEff:\t0000000000004000");
	far_doctor_memory(host, &report);
	doctor_host_expect(&report, "locked memory", FAR_DOCTOR_OK, "no limit holds", "");
}

static void
rdma_without_huge_pages_is_a_warning_with_the_number_that_is_needed(void **state)
{
	(void)state;
	doctor_host_device("mlx5_0");
	want(4 * GIB);
	far_doctor_memory(host, &report);
	doctor_host_expect(&report, "huge pages", FAR_DOCTOR_WARN, "none of 2 MiB",
			   "sysctl -w vm.nr_hugepages=2048");
}

static void
huge_pages_that_others_have_are_added_to_what_is_needed(void **state)
{
	(void)state;
	doctor_host_device("mlx5_0");
	want(4 * GIB);
	huge_pages("1000", "100");
	far_doctor_memory(host, &report);
	doctor_host_expect(&report, "huge pages", FAR_DOCTOR_WARN, "1000 of 2 MiB, 100 free",
			   "vm.nr_hugepages=2948");
}

static void
huge_pages_on_without_them_fails(void **state)
{
	(void)state;
	want(4 * GIB);
	host->wanted.huge_on = true;
	huge_pages("2047", "2047");
	far_doctor_memory(host, &report);
	doctor_host_expect(&report, "huge pages", FAR_DOCTOR_FAIL, "it will not start",
			   "vm.nr_hugepages=2048");
	memset(&report, 0, sizeof(report));
	huge_pages("2048", "2048");
	far_doctor_memory(host, &report);
	doctor_host_expect(&report, "huge pages", FAR_DOCTOR_OK, "(4 GiB)", "");
}

static void
huge_pages_of_another_node_do_not_count_where_one_is_chosen(void **state)
{
	(void)state;
	want(2 * GIB);
	host->wanted.huge_on = true;
	host->wanted.numa_node = 1;
	huge_pages("1024", "1024");
	doctor_host_file("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages",
			 "1024");
	doctor_host_file("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages",
			 "1024");
	doctor_host_file("/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages",
			 "0");
	doctor_host_file("/sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages",
			 "0");
	far_doctor_memory(host, &report);
	doctor_host_expect(&report, "huge pages", FAR_DOCTOR_FAIL,
			   "free by node: node0: 1024 of 1024, node1: 0 of 0",
			   "/sys/devices/system/node/node1/hugepages");
}

static void
pages_of_1_gib_are_named_as_not_used(void **state)
{
	(void)state;
	doctor_host_file("/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "4");
	doctor_host_file("/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", "4");
	far_doctor_memory(host, &report);
	doctor_host_expect(&report, "huge pages", FAR_DOCTOR_NONE, "4 of 1 GiB are reserved too",
			   "");
}

static void
more_than_is_available_or_allowed_fails_unless_huge_pages_have_it(void **state)
{
	(void)state;
	want(13 * GIB);
	far_doctor_memory(host, &report);
	doctor_host_expect(&report, "memory", FAR_DOCTOR_FAIL, "asks for 13 GiB",
			   "less than 12 GiB");
	memset(&report, 0, sizeof(report));
	huge_pages("6656", "6656");
	far_doctor_memory(host, &report);
	doctor_host_expect(&report, "memory", FAR_DOCTOR_OK, "comes from huge pages", "");
	memset(&report, 0, sizeof(report));
	huge_pages("0", "0");
	want(GIB);
	host->memory_fits = false;
	far_doctor_memory(host, &report);
	doctor_host_expect(&report, "memory", FAR_DOCTOR_FAIL, "control group", "MemoryMax=");
}

static void
a_memfd_that_cannot_be_had_fails_with_the_setting_that_forbids_it(void **state)
{
	(void)state;
	host->memfd_rc = -EACCES;
	doctor_host_file("/proc/sys/vm/memfd_noexec", "2");
	far_doctor_memory(host, &report);
	doctor_host_expect(&report, "shared memory", FAR_DOCTOR_FAIL, "Permission denied",
			   "sysctl -w vm.memfd_noexec=0");
}

static void
an_old_kernel_and_a_node_that_is_not_there_fail(void **state)
{
	(void)state;
	doctor_host_file("/proc/sys/kernel/osrelease", "4.18.0-553.el8");
	host->wanted.numa_node = 3;
	far_doctor_machine(host, &report);
	doctor_host_expect(&report, "kernel", FAR_DOCTOR_FAIL, "4.18.0", "run Linux 5.1");
	doctor_host_expect(&report, "processors", FAR_DOCTOR_FAIL, "no node 3", "numa_node: any");
}

/* Containers and strange kernels: files that are not there, empty, or full of something else. */
static void
odd_files_are_no_reason_to_stop(void **state)
{
	static const char *const files[] = {
		"/proc/sys/kernel/osrelease",
		"/proc/meminfo",
		"/proc/self/limits",
		"/proc/self/status",
		"/sys/devices/system/cpu/online",
		"/sys/devices/system/node/online",
		"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
		"/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
		"/sys/kernel/mm/transparent_hugepage/shmem_enabled",
	};
	static const char *const texts[] = {
		"",         "-",         "9999999999999999999999", "[[[", "Max locked memory",
		"\xff\xfe", "MemTotal:", "0-99999999999,,,--",     "-1"};
	(void)state;

	want(GIB);
	doctor_host_device("mlx5_0");
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		for (size_t j = 0; j < sizeof(texts) / sizeof(texts[0]); j++) {
			doctor_host_file(files[i], texts[j]);
			memset(&report, 0, sizeof(report));
			far_doctor_machine(host, &report);
			far_doctor_memory(host, &report);
			assert_int_equal(report.count, 7);
		}
		doctor_host_file(files[i], NULL);
		memset(&report, 0, sizeof(report));
		far_doctor_machine(host, &report);
		far_doctor_memory(host, &report);
		assert_int_equal(report.count, 7);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_host_without_rdma_needs_no_fix),
		TEST(locked_memory_below_the_configured_size_fails_and_says_how_to_raise_it),
		TEST(locked_memory_is_needed_once_for_each_device),
		TEST(a_small_limit_is_a_warning_where_rdma_is_and_no_size_is_known),
		TEST(no_limit_and_root_are_good),
		TEST(rdma_without_huge_pages_is_a_warning_with_the_number_that_is_needed),
		TEST(huge_pages_that_others_have_are_added_to_what_is_needed),
		TEST(huge_pages_on_without_them_fails),
		TEST(huge_pages_of_another_node_do_not_count_where_one_is_chosen),
		TEST(pages_of_1_gib_are_named_as_not_used),
		TEST(more_than_is_available_or_allowed_fails_unless_huge_pages_have_it),
		TEST(a_memfd_that_cannot_be_had_fails_with_the_setting_that_forbids_it),
		TEST(an_old_kernel_and_a_node_that_is_not_there_fail),
		TEST(odd_files_are_no_reason_to_stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
