/* rdma.c - the doctor on RDMA: modules, device files, libraries, and each device as farpool would use it. */
#include "tools/cli/doctor/files.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tools/cli/doctor/doctor.h"

#define SYSFS_DEVICES "/sys/class/infiniband"
#define LARGE_BYTES   (1ULL << 40)

/* The driver of a network card, and the module that makes an RDMA device of it. */
static const struct {
	const char *driver;
	const char *module;
	bool always; /* all cards of it can: a card without a device is amiss */
} drivers[] = {
	{"mlx5_core", "mlx5_ib", true},    {"mlx4_core", "mlx4_ib", true},
	{"bnxt_en", "bnxt_re", false},     {"ice", "irdma", false},
	{"i40e", "irdma", false},          {"efa", "efa", true},
	{"cxgb4", "iw_cxgb4", false},      {"qede", "qedr", false},
	{"hns3", "hns_roce_hw_v2", false},
};

/* ---- what the kernel has ---- */

size_t
far_doctor_rdma_count(const struct far_doctor_host *host)
{
	static struct far_doctor_names devices;

	far_doctor_list(host->root, &devices, SYSFS_DEVICES);
	return devices.count;
}

/* The PCI address of an RDMA device, "" for one in software. */
static void
pci_of(const struct far_doctor_host *host, const char *device, char pci[64])
{
	(void)far_doctor_link(host->root, pci, 64, SYSFS_DEVICES "/%s/device", device);
}

static bool
has_rdma(const struct far_doctor_host *host, const struct far_doctor_names *devices,
	 const char *card)
{
	char pci[64];

	for (size_t i = 0; i < devices->count; i++) {
		pci_of(host, devices->names[i], pci);
		if (strcmp(pci, card) == 0)
			return true;
	}
	return false;
}

static void
card_check(const char *card, const char *driver, struct far_doctor_report *report)
{
	for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++) {
		if (strcmp(driver, drivers[i].driver) != 0)
			continue;
		/* A virtual function may be given to another namespace, so this is no failure. */
		far_doctor_add(report, drivers[i].always ? FAR_DOCTOR_WARN : FAR_DOCTOR_NONE,
			       "network card", "%s (%s) is no RDMA device%s", card, driver,
			       drivers[i].always ? "" : "; many of its kind can be");
		far_doctor_fix(report, "modprobe %s", drivers[i].module);
	}
}

/* Cards that could do RDMA, and do not. */
static void
cards_check(const struct far_doctor_host *host, const struct far_doctor_names *devices,
	    struct far_doctor_report *report)
{
	static struct far_doctor_names cards;

	far_doctor_list(host->root, &cards, "/sys/bus/pci/devices");
	for (size_t i = 0; i < cards.count; i++) {
		char driver[64];

		if (far_doctor_link(host->root, driver, sizeof(driver),
				    "/sys/bus/pci/devices/%s/driver", cards.names[i]) &&
		    !has_rdma(host, devices, cards.names[i]))
			card_check(cards.names[i], driver, report);
	}
}

static void
modules_check(const struct far_doctor_host *host, const struct far_doctor_names *devices,
	      struct far_doctor_report *report)
{
	/* By what they make: they may be built into the kernel. */
	bool uverbs = far_doctor_exists(host->root, "/sys/class/infiniband_verbs");
	bool ucm = far_doctor_exists(host->root, "/sys/class/misc/rdma_cm");
	bool needed = devices->count > 0 || host->wanted.verbs;

	if (uverbs && ucm) {
		far_doctor_add(report, FAR_DOCTOR_OK, "modules", "ib_uverbs, rdma_ucm");
		return;
	}
	far_doctor_add(report, needed ? FAR_DOCTOR_FAIL : FAR_DOCTOR_NONE, "modules",
		       "not loaded:%s%s", uverbs ? "" : " ib_uverbs", ucm ? "" : " rdma_ucm");
	if (needed)
		far_doctor_fix(report, "modprobe -a%s%s", uverbs ? "" : " ib_uverbs",
			       ucm ? "" : " rdma_ucm");
}

static void
file_check(const struct far_doctor_host *host, const char *path, const char *what,
	   struct far_doctor_report *report)
{
	if (!far_doctor_exists(host->root, "%s", path)) {
		far_doctor_add(report, FAR_DOCTOR_FAIL, "device file", "%s is not there (%s)", path,
			       what);
		far_doctor_fix(report, "in a container: docker run --device=/dev/infiniband");
		far_doctor_fix(report, "else: udevadm trigger --subsystem-match=infiniband_verbs");
	} else if (!far_doctor_may_use(host->root, "%s", path)) {
		far_doctor_add(report, FAR_DOCTOR_FAIL, "device file",
			       "%s may not be used by this user (%s)", path, what);
		far_doctor_fix(report, "chmod 0666 %s", path);
		far_doctor_fix(report, "or udev: KERNEL==\"%s*\", MODE=\"0666\"",
			       strstr(path, "uverbs") != NULL ? "uverbs" : "rdma_cm");
	} else {
		far_doctor_add(report, FAR_DOCTOR_OK, "device file", "%s (%s)", path, what);
	}
}

/* /dev/infiniband: one file for each device, and RDMA CM's. */
static void
files_check(const struct far_doctor_host *host, struct far_doctor_report *report)
{
	static struct far_doctor_names files;

	far_doctor_list(host->root, &files, "/sys/class/infiniband_verbs");
	for (size_t i = 0; i < files.count; i++) {
		char device[64], path[128];

		if (strncmp(files.names[i], "uverbs", 6) != 0 ||
		    !far_doctor_read(host->root, device, sizeof(device),
				     "/sys/class/infiniband_verbs/%s/ibdev", files.names[i]))
			continue;
		(void)snprintf(path, sizeof(path), "/dev/infiniband/%s", files.names[i]);
		file_check(host, path, device, report);
	}
	if (far_doctor_exists(host->root, "/sys/class/misc/rdma_cm"))
		file_check(host, "/dev/infiniband/rdma_cm", "connections", report);
}

/* ---- what the libraries see ---- */

static void
libraries_check(const struct far_doctor_host *host, bool needed, struct far_doctor_report *report)
{
	const struct far_verbs_inspection *verbs = &host->verbs;
	enum far_doctor_verdict without =
		needed || verbs->rc == -ETIMEDOUT ? FAR_DOCTOR_FAIL : FAR_DOCTOR_NONE;

	if (verbs->rc == 0) {
		far_doctor_add(report, FAR_DOCTOR_OK, "libraries", "libibverbs, librdmacm");
		return;
	}
	far_doctor_add(report, without, "libraries", "%s", verbs->error);
	if (verbs->rc == -ETIMEDOUT)
		far_doctor_fix(report, "dmesg | grep -iE 'mlx|infiniband|rdma'");
	else if (verbs->rc == -EOPNOTSUPP)
		far_doctor_fix(report, "apt-get install libibverbs-dev librdmacm-dev, then build "
				       "farpool again");
	else
		far_doctor_fix(report, "apt-get install libibverbs1 librdmacm1 ibverbs-providers");
}

static const struct far_verbs_device_seen *
seen_find(const struct far_doctor_host *host, const char *device)
{
	for (uint32_t i = 0; i < host->verbs.device_count; i++)
		if (strcmp(host->verbs.devices[i].name, device) == 0)
			return &host->verbs.devices[i];
	return NULL;
}

static void
unseen_add(const struct far_doctor_host *host, const char *device, struct far_doctor_report *report)
{
	const struct far_verbs_device_seen *seen = seen_find(host, device);

	if (seen == NULL) {
		far_doctor_worsen(report, FAR_DOCTOR_FAIL);
		far_doctor_more(report, "the kernel has it, libibverbs does not see it: its "
					"provider is missing");
		far_doctor_fix(report, "apt-get install ibverbs-providers");
		return;
	}
	far_doctor_worsen(report, FAR_DOCTOR_FAIL);
	far_doctor_more(report, "it cannot be opened: %s", strerror(-seen->rc));
	if (seen->rc == -EACCES)
		far_doctor_fix(report, "see its device file above");
	else
		far_doctor_fix(report, "dmesg | grep %s", device);
}

static void
registering_add(const struct far_doctor_host *host, const struct far_verbs_device_seen *seen,
		struct far_doctor_report *report)
{
	if (seen->register_rc == 0)
		return;
	far_doctor_worsen(report, FAR_DOCTOR_FAIL);
	far_doctor_more(report, "memory cannot be registered with it: %s",
			strerror(-seen->register_rc));
	if (seen->register_rc == -ENOMEM && !far_doctor_may_lock(host->root))
		far_doctor_fix(report, "see locked memory above: ulimit -l unlimited");
	else
		far_doctor_fix(report, "dmesg | grep %s", seen->name);
}

static void
limits_add(const struct far_doctor_host *host, const struct far_verbs_device_seen *seen,
	   struct far_doctor_report *report)
{
	uint32_t reads = seen->reads_asked_max < seen->reads_served_max ? seen->reads_asked_max
									: seen->reads_served_max;
	char region[FAR_DOCTOR_SIZE_TEXT];

	far_doctor_more(report, "%" PRIu32 " reads in flight per link, %" PRIu32 " links", reads,
			seen->links_max);
	if (seen->region_bytes_max < LARGE_BYTES)
		far_doctor_more(report, "one registration takes %s: more are made",
				far_doctor_size(seen->region_bytes_max, region));
	if (reads == 0) {
		far_doctor_worsen(report, FAR_DOCTOR_FAIL);
		far_doctor_more(report, "it keeps no read in flight: farpool cannot use it");
		far_doctor_fix(report, "use another device, or ucx:");
	}
	registering_add(host, seen, report);
}

static void
node_add(const struct far_doctor_host *host, const char *device, struct far_doctor_report *report)
{
	int wanted = host->wanted.numa_node;
	int64_t node;

	if (!far_doctor_read_number(host->root, &node, SYSFS_DEVICES "/%s/device/numa_node",
				    device) ||
	    node < 0)
		return;
	far_doctor_more(report, "near NUMA node %" PRId64, node);
	if (wanted < 0 || wanted == node)
		return;
	far_doctor_worsen(report, FAR_DOCTOR_WARN);
	far_doctor_more(report,
			"the configuration takes memory from node %d: every byte crosses "
			"between processors",
			wanted);
	far_doctor_fix(report, "numa_node: %" PRId64 "     (l1.numa_node of a client)", node);
}

static void
device_check(const struct far_doctor_host *host, const char *device,
	     struct far_doctor_report *report)
{
	const struct far_verbs_device_seen *seen = seen_find(host, device);
	char type[64] = "", firmware[64] = "", pci[64], model[64];

	/* "1: CA" is the usual kind, "4: RNIC" iWARP; the number is for programs. */
	(void)far_doctor_read(host->root, type, sizeof(type), SYSFS_DEVICES "/%s/node_type",
			      device);
	(void)far_doctor_read(host->root, firmware, sizeof(firmware), SYSFS_DEVICES "/%s/fw_ver",
			      device);
	pci_of(host, device, pci);
	if (!far_doctor_read(host->root, model, sizeof(model), SYSFS_DEVICES "/%s/hca_type",
			     device))
		(void)snprintf(model, sizeof(model), "%s",
			       pci[0] != '\0' ? "RDMA device" : "in software");
	far_doctor_add(report, FAR_DOCTOR_OK, device, "%s%s%s%s%s%s", model,
		       strstr(type, "RNIC") != NULL ? ", iWARP" : "",
		       pci[0] != '\0' ? ", PCI " : "", pci,
		       firmware[0] != '\0' ? ", firmware " : "", firmware);
	if (host->verbs.rc == 0 && (seen == NULL || seen->rc != 0))
		unseen_add(host, device, report);
	else if (host->verbs.rc == 0)
		limits_add(host, seen, report);
	node_add(host, device, report);
}

void
far_doctor_rdma(const struct far_doctor_host *host, struct far_doctor_report *report)
{
	static struct far_doctor_names devices;
	bool needed;

	far_doctor_group(report, "RDMA");
	far_doctor_list(host->root, &devices, SYSFS_DEVICES);
	needed = devices.count > 0 || host->wanted.verbs;
	cards_check(host, &devices, report);
	modules_check(host, &devices, report);
	libraries_check(host, needed, report);
	if (devices.count == 0) {
		far_doctor_add(report, needed ? FAR_DOCTOR_FAIL : FAR_DOCTOR_NONE, "devices",
			       "none%s", needed ? ", and verbs is asked for" : "");
		far_doctor_fix(report,
			       "one in software, for trials on any network: modprobe rdma_rxe");
		far_doctor_fix(report, "rdma link add rxe0 type rxe netdev %s",
			       host->address_count > 0 ? host->addresses[0].interface : "eth0");
		return;
	}
	files_check(host, report);
	for (size_t i = 0; i < devices.count; i++) {
		device_check(host, devices.names[i], report);
		far_doctor_ports(host, devices.names[i], report);
	}
}
