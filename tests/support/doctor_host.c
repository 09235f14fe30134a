/* doctor_host.c - the folder of a host that is made up, file by file. */
#include "tests/support/doctor_host.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct far_doctor_host host;
static char top[64];

static void
folders_make(char *path)
{
	for (char *at = path + strlen(top) + 1; *at != '\0'; at++) {
		if (*at != '/')
			continue;
		*at = '\0';
		(void)mkdir(path, 0700);
		*at = '/';
	}
}

void
doctor_host_file(const char *path, const char *text)
{
	char full[512];
	FILE *file;

	snprintf(full, sizeof(full), "%s%s", top, path);
	if (text == NULL) {
		assert_int_equal(unlink(full), 0);
		return;
	}
	folders_make(full);
	file = fopen(full, "we");
	assert_non_null(file);
	assert_true(fprintf(file, "%s\n", text) > 0);
	assert_int_equal(fclose(file), 0);
}

void
doctor_host_link(const char *path, const char *target)
{
	char full[512];

	snprintf(full, sizeof(full), "%s%s", top, path);
	folders_make(full);
	assert_int_equal(symlink(target, full), 0);
}

struct far_doctor_host *
doctor_host_open(void)
{
	memset(&host, 0, sizeof(host));
	snprintf(top, sizeof(top), "/tmp/farpool-doctor-XXXXXX");
	assert_non_null(mkdtemp(top));
	host.root = top;
	host.wanted.numa_node = -1;
	host.memory_fits = true;
	host.gpu.rc = -ENODEV;
	snprintf(host.gpu.error, sizeof(host.gpu.error), "no driver");
	doctor_host_file("/proc/sys/kernel/osrelease", "6.1.0-56-amd64");
	doctor_host_file("/proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 12582912 kB");
	doctor_host_file(
		"/proc/self/limits",
		"Limit                     Soft Limit           Hard Limit           Units\n"
		"Max locked memory         8388608              8388608              bytes");
	doctor_host_file("/proc/self/status", "Name: farpool\nCapEff:\t0000000000000000");
	doctor_host_file("/sys/devices/system/cpu/online", "0-7");
	doctor_host_file("/sys/devices/system/node/online", "0-1");
	doctor_host_file("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0");
	doctor_host_file("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0");
	doctor_host_file("/sys/kernel/mm/transparent_hugepage/shmem_enabled",
			 "always within_size [advise] never deny force");
	return &host;
}

static int
entry_remove(const char *path, const struct stat *info, int kind, struct FTW *place)
{
	(void)info;
	(void)kind;
	(void)place;
	return remove(path);
}

void
doctor_host_close(void)
{
	(void)nftw(top, entry_remove, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- RDMA ---- */

static void
port_file(const char *device, const char *name, const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), "/sys/class/infiniband/%s/ports/1/%s", device, name);
	doctor_host_file(path, text);
}

struct far_verbs_device_seen *
doctor_host_device(const char *name)
{
	struct far_verbs_device_seen *seen = &host.verbs.devices[host.verbs.device_count++];
	char path[256];

	snprintf(path, sizeof(path), "/sys/class/infiniband/%s/node_type", name);
	doctor_host_file(path, "1: CA");
	port_file(name, "state", "4: ACTIVE");
	port_file(name, "phys_state", "5: LinkUp");
	port_file(name, "link_layer", "Ethernet");
	port_file(name, "rate", "100 Gb/sec (4X EDR)");
	port_file(name, "gids/0", "fe80:0000:0000:0000:0000:00ff:fe00:0001");
	port_file(name, "gid_attrs/types/0", "RoCE v2");
	port_file(name, "gid_attrs/ndevs/0", "eth1");
	port_file(name, "gids/1", "0000:0000:0000:0000:0000:ffff:0a00:0003");
	port_file(name, "gid_attrs/types/1", "IB/RoCE v1");
	port_file(name, "gid_attrs/ndevs/1", "eth1");
	port_file(name, "gids/2", "0000:0000:0000:0000:0000:ffff:0a00:0003");
	port_file(name, "gid_attrs/types/2", "RoCE v2");
	port_file(name, "gid_attrs/ndevs/2", "eth1");
	port_file(name, "gids/3", "0000:0000:0000:0000:0000:0000:0000:0000");
	doctor_host_file("/sys/class/net/eth1/mtu", "9000");
	doctor_host_file("/sys/class/net/eth1/flags", "0x1003");
	doctor_host_file("/sys/class/infiniband_verbs/uverbs0/ibdev", name);
	doctor_host_file("/sys/class/misc/rdma_cm/dev", "10:58");
	doctor_host_file("/dev/infiniband/uverbs0", "");
	doctor_host_file("/dev/infiniband/rdma_cm", "");
	memset(seen, 0, sizeof(*seen));
	snprintf(seen->name, sizeof(seen->name), "%s", name);
	seen->reads_asked_max = 16;
	seen->reads_served_max = 16;
	seen->region_bytes_max = UINT64_MAX;
	seen->links_max = 131072;
	seen->port_count = 1;
	seen->ports[0] =
		(struct far_verbs_port_seen){.number = 1, .mtu_bytes = 4096, .mtu_bytes_max = 4096};
	return seen;
}

void
doctor_host_address(const char *interface, const char *text)
{
	struct far_doctor_address *address = &host.addresses[host.address_count++];

	memset(address, 0, sizeof(*address));
	snprintf(address->interface, sizeof(address->interface), "%s", interface);
	snprintf(address->text, sizeof(address->text), "%s", text);
	if (inet_pton(AF_INET, text, address->gid + 12) == 1) {
		address->gid[10] = 0xff;
		address->gid[11] = 0xff;
	} else {
		assert_int_equal(inet_pton(AF_INET6, text, address->gid), 1);
		address->link_local = address->gid[0] == 0xfe;
	}
}

/* ---- what came of it ---- */

const struct far_doctor_check *
doctor_host_check(const struct far_doctor_report *report, const char *name)
{
	const struct far_doctor_check *found = NULL;

	for (size_t i = 0; i < report->count; i++) {
		if (strcmp(report->checks[i].name, name) != 0)
			continue;
		if (found != NULL)
			fail_msg("two checks are named '%s'", name);
		found = &report->checks[i];
	}
	if (found == NULL)
		fail_msg("no check is named '%s'", name);
	return found;
}

void
doctor_host_expect(const struct far_doctor_report *report, const char *name,
		   enum far_doctor_verdict verdict, const char *found, const char *fix)
{
	const struct far_doctor_check *check = doctor_host_check(report, name);

	if (check->verdict != verdict || strstr(check->found, found) == NULL ||
	    strstr(check->fix, fix) == NULL || (fix[0] == '\0' && check->fix[0] != '\0'))
		fail_msg("%s: wanted %s, '%s', fix '%s'; was %s:\n%s\nfix: %s", name,
			 far_doctor_verdict_name(verdict), found, fix,
			 far_doctor_verdict_name(check->verdict), check->found, check->fix);
}
