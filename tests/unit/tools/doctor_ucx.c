/* doctor_ucx.c - UCX and GPUs of hosts that are made up. */
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
way_add(const char *transport, const char *device)
{
	struct far_ucx_way *way = &host->ucx.ways[host->ucx.way_count++];

	snprintf(way->transport, sizeof(way->transport), "%s", transport);
	snprintf(way->device, sizeof(way->device), "%s", device);
}

static void
ucx_make(unsigned minor)
{
	host->ucx.major = 1;
	host->ucx.minor = minor;
	snprintf(host->ucx.path, sizeof(host->ucx.path), "/usr/lib/libucp.so.0");
	way_add("self", "memory0");
	way_add("tcp", "lo");
	way_add("tcp", "eth0");
}

static void
examine_ucx(void)
{
	memset(&report, 0, sizeof(report));
	far_doctor_ucx(host, &report);
}

static void
examine_gpus(void)
{
	memset(&report, 0, sizeof(report));
	far_doctor_gpus(host, &report);
}

static void
what_ucx_would_use_is_named(void **state)
{
	(void)state;
	ucx_make(13);
	way_add("rc_verbs", "rxe0:1");
	examine_ucx();
	doctor_host_expect(&report, "library", FAR_DOCTOR_OK, "UCX 1.13.0", "");
	doctor_host_expect(&report, "over TCP", FAR_DOCTOR_OK, "lo, eth0", "");
	doctor_host_expect(&report, "over TCP", FAR_DOCTOR_OK, "not used by farpool: self", "");
	doctor_host_expect(&report, "over RDMA", FAR_DOCTOR_OK, "rc_verbs over rxe0:1", "");
}

static void
no_library_is_a_failure_where_ucx_is_asked_for(void **state)
{
	(void)state;
	host->ucx.rc = -ENODEV;
	snprintf(host->ucx.error, sizeof(host->ucx.error), "libucp.so.0: no such file");
	examine_ucx();
	doctor_host_expect(&report, "library", FAR_DOCTOR_NONE, "libucp.so.0", "libucx0");
	host->wanted.ucx = true;
	examine_ucx();
	doctor_host_expect(&report, "library", FAR_DOCTOR_FAIL, "libucp.so.0",
			   "apt-get install libucx0");
}

static void
a_version_that_emulates_reads_fails_with_trust_fabric_alone(void **state)
{
	(void)state;
	ucx_make(16);
	host->ucx.emulates = true;
	examine_ucx();
	doctor_host_expect(&report, "library", FAR_DOCTOR_OK, "trust: fabric", "");
	host->wanted.fabric = true;
	examine_ucx();
	doctor_host_expect(&report, "library", FAR_DOCTOR_FAIL, "emulate", "1.19 or newer");
	doctor_host_expect(&report, "over RDMA", FAR_DOCTOR_FAIL, "trust: fabric needs one",
			   "trust: none");
}

static void
exported_settings_that_decide_the_way_are_warned_of(void **state)
{
	(void)state;
	ucx_make(13);
	assert_int_equal(setenv("UCX_TLS", "all", 1), 0);
	examine_ucx();
	assert_int_equal(unsetenv("UCX_TLS"), 0);
	doctor_host_expect(&report, "exported", FAR_DOCTOR_WARN, "UCX_TLS=all", "unset UCX_TLS");
}

static void
ucx_without_tcp_fails_where_it_is_asked_for(void **state)
{
	(void)state;
	host->ucx.major = 1;
	host->ucx.minor = 13;
	host->wanted.ucx = true;
	examine_ucx();
	doctor_host_expect(&report, "over TCP", FAR_DOCTOR_FAIL, "no interface is up",
			   "unset UCX_TLS");
}

/* ---- GPUs ---- */

static struct far_doctor_gpu *
gpu_make(void)
{
	struct far_doctor_gpu *gpu = &host->gpu.gpus[host->gpu.count++];

	host->gpu.rc = 0;
	snprintf(gpu->name, sizeof(gpu->name), "NVIDIA H100");
	snprintf(gpu->driver, sizeof(gpu->driver), "580.1, CUDA 13.0");
	snprintf(gpu->pci, sizeof(gpu->pci), "0000:07:00.0");
	gpu->numa_node = 0;
	gpu->memory_bytes = 80ULL << 30;
	gpu->dma_buf = true;
	return gpu;
}

/* Where /sys/bus/pci/devices/NAME leads to. */
static void
pci_make(const char *name, const char *place)
{
	char path[256], target[256];

	snprintf(path, sizeof(path), "/sys/devices/%s/vendor", place);
	doctor_host_file(path, "0x1");
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", name);
	snprintf(target, sizeof(target), "../../../devices/%s", place);
	doctor_host_link(path, target);
}

static void
no_gpu_is_a_failure_where_one_is_asked_for(void **state)
{
	(void)state;
	examine_gpus();
	doctor_host_expect(&report, "CUDA", FAR_DOCTOR_NONE, "no driver", "");
	host->wanted.cuda = true;
	examine_gpus();
	doctor_host_expect(&report, "CUDA", FAR_DOCTOR_FAIL, "no driver", "nvidia-smi");
	host->gpu.rc = -EOPNOTSUPP;
	examine_gpus();
	doctor_host_expect(&report, "CUDA", FAR_DOCTOR_FAIL, "no driver", "nvidia-cuda-dev");
}

static void
what_does_not_answer_is_a_failure_whoever_asked(void **state)
{
	(void)state;
	host->gpu.rc = -ETIMEDOUT;
	examine_gpus();
	doctor_host_expect(&report, "CUDA", FAR_DOCTOR_FAIL, "no driver", "nvidia-smi");
	host->ucx.rc = -ETIMEDOUT;
	examine_ucx();
	doctor_host_expect(&report, "library", FAR_DOCTOR_FAIL, "", "dmesg");
	host->verbs.rc = -ETIMEDOUT;
	memset(&report, 0, sizeof(report));
	far_doctor_rdma(host, &report);
	doctor_host_expect(&report, "libraries", FAR_DOCTOR_FAIL, "", "dmesg");
}

static void
a_gpu_near_its_nic_is_good(void **state)
{
	(void)state;
	gpu_make();
	doctor_host_device("mlx5_0");
	doctor_host_link("/sys/class/infiniband/mlx5_0/device", "../../../0000:08:00.0");
	pci_make("0000:07:00.0", "pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:00.0/0000:07:00.0");
	pci_make("0000:08:00.0", "pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:01.0/0000:08:00.0");
	examine_gpus();
	doctor_host_expect(&report, "GPU 0", FAR_DOCTOR_OK, "NVIDIA H100, 80 GiB", "");
	doctor_host_expect(&report, "GPU 0", FAR_DOCTOR_OK, "PIX to mlx5_0", "");
}

static void
a_gpu_behind_another_processor_is_a_warning(void **state)
{
	(void)state;
	gpu_make();
	doctor_host_device("mlx5_0");
	doctor_host_link("/sys/class/infiniband/mlx5_0/device", "../../../0000:88:00.0");
	pci_make("0000:07:00.0", "pci0000:00/0000:00:01.0/0000:07:00.0");
	pci_make("0000:88:00.0", "pci0000:80/0000:80:01.0/0000:88:00.0");
	examine_gpus();
	doctor_host_expect(&report, "GPU 0", FAR_DOCTOR_WARN, "SYS to mlx5_0",
			   "l1.gpu_direct: always");
}

static void
a_gpu_that_nics_cannot_reach_is_a_warning_where_nics_are(void **state)
{
	struct far_doctor_gpu *gpu;
	(void)state;

	gpu = gpu_make();
	gpu->dma_buf = false;
	gpu->dma_buf_rc = -EOPNOTSUPP;
	examine_gpus();
	doctor_host_expect(&report, "GPU 0", FAR_DOCTOR_OK, "cannot be given to NICs", "");
	doctor_host_device("mlx5_0");
	examine_gpus();
	doctor_host_expect(&report, "GPU 0", FAR_DOCTOR_WARN, "through host memory",
			   "modprobe nvidia-peermem");
	doctor_host_file("/sys/module/nvidia_peermem/version", "580");
	examine_gpus();
	doctor_host_expect(&report, "GPU 0", FAR_DOCTOR_OK, "nvidia_peermem is loaded", "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_ucx_would_use_is_named),
		TEST(no_library_is_a_failure_where_ucx_is_asked_for),
		TEST(a_version_that_emulates_reads_fails_with_trust_fabric_alone),
		TEST(exported_settings_that_decide_the_way_are_warned_of),
		TEST(ucx_without_tcp_fails_where_it_is_asked_for),
		TEST(no_gpu_is_a_failure_where_one_is_asked_for),
		TEST(what_does_not_answer_is_a_failure_whoever_asked),
		TEST(a_gpu_near_its_nic_is_good),
		TEST(a_gpu_behind_another_processor_is_a_warning),
		TEST(a_gpu_that_nics_cannot_reach_is_a_warning_where_nics_are),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
