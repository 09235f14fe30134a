/* memory.c - the doctor on memory: how much there is, how much may be locked, in pages of which size. */
#include "tools/cli/doctor/files.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pages_limit.h"
#include "tools/cli/doctor/doctor.h"

#define MIB           (1ULL << 20)
#define HUGE_BYTES    (2 * MIB)
#define CAP_IPC_LOCK  14
#define MEMINFO_BYTES 8192U
/* What links and a small command lock: below it not even farpool get works over RDMA. */
#define LOCKED_BYTES_MIN (64 * MIB)

typedef char size_text[FAR_DOCTOR_SIZE_TEXT];

/* ---- huge pages, which all of it may come from ---- */

/* Whole pages of one size, of the machine or of a node ("" or "/sys/devices/system/node/node0"). */
static bool
pool_read(const char *root, const char *place, uint64_t page_kib, int64_t *total, int64_t *free_out)
{
	return far_doctor_read_number(root, total,
				      "%s/hugepages/hugepages-%" PRIu64 "kB/nr_hugepages", place,
				      page_kib) &&
	       far_doctor_read_number(root, free_out,
				      "%s/hugepages/hugepages-%" PRIu64 "kB/free_hugepages", place,
				      page_kib);
}

/* What is free of them in bytes, of one node alone where the configuration names it. */
static uint64_t
huge_free(const struct far_doctor_host *host)
{
	char place[64] = "/sys/kernel/mm";
	int64_t total, unused;

	if (host->wanted.numa_node >= 0)
		(void)snprintf(place, sizeof(place), "/sys/devices/system/node/node%d",
			       host->wanted.numa_node);
	if (!pool_read(host->root, place, 2048, &total, &unused) || unused < 0)
		return 0;
	return (uint64_t)unused > UINT64_MAX / HUGE_BYTES ? 0 : (uint64_t)unused * HUGE_BYTES;
}

/* ---- how much ---- */

static void
available_check(const struct far_doctor_host *host, struct far_doctor_report *report)
{
	const struct far_doctor_wanted *wanted = &host->wanted;
	char text[MEMINFO_BYTES];
	uint64_t total = 0, available = 0;
	size_text a, b, c;

	if (!far_doctor_read(host->root, text, sizeof(text), "/proc/meminfo") ||
	    !far_meminfo_find(text, "MemTotal:", &total) ||
	    !far_meminfo_find(text, "MemAvailable:", &available)) {
		far_doctor_add(report, FAR_DOCTOR_WARN, "memory", "/proc/meminfo cannot be read");
		far_doctor_fix(report, "mount -t proc proc /proc");
		return;
	}
	far_doctor_add(report, FAR_DOCTOR_OK, "memory", "%s available of %s",
		       far_doctor_size(available, a), far_doctor_size(total, b));
	if (wanted->host_bytes == 0)
		return;
	if (wanted->host_bytes <= huge_free(host)) {
		far_doctor_more(report, "%s, %s, comes from huge pages", wanted->what,
				far_doctor_size(wanted->host_bytes, c));
	} else if (wanted->host_bytes > available) {
		far_doctor_worsen(report, FAR_DOCTOR_FAIL);
		far_doctor_more(report, "%s asks for %s: it will not start", wanted->what,
				far_doctor_size(wanted->host_bytes, c));
		far_doctor_fix(report, "lower it to less than %s", far_doctor_size(available, a));
	} else if (!host->memory_fits) {
		far_doctor_worsen(report, FAR_DOCTOR_FAIL);
		far_doctor_more(report,
				"%s asks for %s: a control group of this process allows less",
				wanted->what, far_doctor_size(wanted->host_bytes, c));
		far_doctor_fix(report, "lower it, or raise that limit:");
		far_doctor_fix(report, "MemoryMax=      (in its unit, under [Service])");
		far_doctor_fix(report, "--memory        (docker run)");
	}
}

static void
memfd_check(const struct far_doctor_host *host, struct far_doctor_report *report)
{
	char text[128];

	if (host->memfd_rc == 0) {
		far_doctor_add(report, FAR_DOCTOR_OK, "shared memory",
			       "sealed memory for other processes can be had; the size of /dev/shm "
			       "does not matter");
		return;
	}
	far_doctor_add(report, FAR_DOCTOR_FAIL, "shared memory", "memfd_create(): %s",
		       strerror(-host->memfd_rc));
	if (far_doctor_read(host->root, text, sizeof(text), "/proc/sys/vm/memfd_noexec") &&
	    strcmp(text, "2") == 0)
		far_doctor_fix(report, "sysctl -w vm.memfd_noexec=0");
	else
		far_doctor_fix(report, "allow memfd_create() in the seccomp profile it runs under");
}

/* ---- how much may be locked ---- */

bool
far_doctor_may_lock(const char *root)
{
	char text[4096];
	const char *at;

	if (!far_doctor_read(root, text, sizeof(text), "/proc/self/status"))
		return false;
	at = strstr(text, "\nCapEff:");
	return at != NULL &&
	       (strtoull(at + strlen("\nCapEff:"), NULL, 16) >> CAP_IPC_LOCK & 1) != 0;
}

/* The soft limit, or UINT64_MAX for none. False: /proc does not tell. */
static bool
limit_read(const char *root, uint64_t *soft_out, uint64_t *hard_out)
{
	static const char name[] = "Max locked memory";
	char text[4096], soft[32], hard[32];
	const char *at;

	if (!far_doctor_read(root, text, sizeof(text), "/proc/self/limits"))
		return false;
	at = strstr(text, name);
	if (at == NULL || sscanf(at + sizeof(name) - 1, "%31s %31s", soft, hard) != 2)
		return false;
	*soft_out = strcmp(soft, "unlimited") == 0 ? UINT64_MAX : strtoull(soft, NULL, 10);
	*hard_out = strcmp(hard, "unlimited") == 0 ? UINT64_MAX : strtoull(hard, NULL, 10);
	return true;
}

static void
locked_fix(struct far_doctor_report *report, uint64_t hard)
{
	if (hard == UINT64_MAX)
		far_doctor_fix(report, "ulimit -l unlimited       (in the shell that starts it)");
	else
		far_doctor_fix(report, "ulimit -l unlimited       (in a shell of root's)");
	far_doctor_fix(report, "LimitMEMLOCK=infinity     (in its unit, under [Service])");
	far_doctor_fix(report, "--ulimit memlock=-1:-1    (docker run)");
}

/* Pinned memory counts once for each device that it is registered with. */
static void
locked_check(const struct far_doctor_host *host, struct far_doctor_report *report)
{
	const struct far_doctor_wanted *wanted = &host->wanted;
	uint64_t devices = far_doctor_rdma_count(host);
	bool rdma = devices > 0 || wanted->verbs || wanted->fabric;
	uint64_t soft, hard, needed;
	size_text a, b;

	if (!limit_read(host->root, &soft, &hard)) {
		far_doctor_add(report, FAR_DOCTOR_NONE, "locked memory", "/proc says no limit");
		return;
	}
	if (soft == UINT64_MAX || far_doctor_may_lock(host->root)) {
		far_doctor_add(report, FAR_DOCTOR_OK, "locked memory", "%s",
			       soft == UINT64_MAX ? "unlimited"
						  : "this user is root: no limit holds");
		if (soft != UINT64_MAX)
			far_doctor_more(report,
					"for others it is %s: LimitMEMLOCK=infinity in a "
					"unit with User=",
					far_doctor_size(soft, a));
		return;
	}
	far_doctor_add(report, FAR_DOCTOR_OK, "locked memory", "%s may be locked",
		       far_doctor_size(soft, a));
	if (!rdma) {
		far_doctor_more(report, "RDMA alone needs more, and there is none here");
		return;
	}
	devices = devices == 0 ? 1 : devices;
	needed = wanted->host_bytes * devices;
	if (wanted->host_bytes > 0 && needed > soft) {
		far_doctor_worsen(report, FAR_DOCTOR_FAIL);
		far_doctor_more(report,
				"%s needs %s: RDMA locks it once for each device (%" PRIu64 ")",
				wanted->what, far_doctor_size(needed, b), devices);
		locked_fix(report, hard);
	} else if (soft < LOCKED_BYTES_MIN) {
		far_doctor_worsen(report, wanted->verbs ? FAR_DOCTOR_FAIL : FAR_DOCTOR_WARN);
		far_doctor_more(report, "RDMA locks all memory that is lent, and a client's L1");
		locked_fix(report, hard);
	}
}

/* ---- pages ---- */

static void
nodes_add(const struct far_doctor_host *host, struct far_doctor_report *report)
{
	static struct far_doctor_names nodes;
	char text[256] = "";
	size_t shown = 0;

	far_doctor_list(host->root, &nodes, "/sys/devices/system/node");
	for (size_t i = 0; i < nodes.count; i++) {
		char place[128];
		int64_t total, unused;
		size_t used = strlen(text);

		if (strncmp(nodes.names[i], "node", 4) != 0)
			continue;
		(void)snprintf(place, sizeof(place), "/sys/devices/system/node/%s", nodes.names[i]);
		if (!pool_read(host->root, place, 2048, &total, &unused))
			continue;
		(void)snprintf(text + used, sizeof(text) - used, "%s%s: %" PRId64 " of %" PRId64,
			       shown > 0 ? ", " : "", nodes.names[i], unused, total);
		shown++;
	}
	if (shown > 1)
		far_doctor_more(report, "free by node: %s", text);
}

static void
others_add(const struct far_doctor_host *host, struct far_doctor_report *report)
{
	static struct far_doctor_names sizes;
	size_text a;

	far_doctor_list(host->root, &sizes, "/sys/kernel/mm/hugepages");
	for (size_t i = 0; i < sizes.count; i++) {
		static const char head[] = "hugepages-";
		uint64_t kib = 0;
		int64_t total, unused;

		if (strncmp(sizes.names[i], head, sizeof(head) - 1) == 0)
			kib = strtoull(sizes.names[i] + sizeof(head) - 1, NULL, 10);
		if (kib == 0 || kib == 2048 || kib > UINT64_MAX / 1024)
			continue;
		if (pool_read(host->root, "/sys/kernel/mm", kib, &total, &unused) && total > 0)
			far_doctor_more(report,
					"%" PRId64 " of %s are reserved too: farpool uses "
					"none of them",
					total, far_doctor_size(kib * 1024, a));
	}
}

/* Where no size is known: a quarter of the machine. */
static uint64_t
bytes_guess(const char *root)
{
	char text[MEMINFO_BYTES];
	uint64_t total = 0;

	if (!far_doctor_read(root, text, sizeof(text), "/proc/meminfo") ||
	    !far_meminfo_find(text, "MemTotal:", &total))
		return 0;
	return total / 4;
}

static void
huge_fix(const struct far_doctor_host *host, struct far_doctor_report *report, int64_t total,
	 int64_t unused)
{
	uint64_t bytes =
		host->wanted.host_bytes > 0 ? host->wanted.host_bytes : bytes_guess(host->root);
	uint64_t pages = bytes / HUGE_BYTES + (bytes % HUGE_BYTES != 0);

	/* Those that are taken stay with whoever has them. */
	pages += (uint64_t)(total > unused ? total - unused : 0);
	if (host->wanted.numa_node >= 0)
		far_doctor_fix(report,
			       "echo %" PRIu64 " > /sys/devices/system/node/node%d/hugepages/"
			       "hugepages-2048kB/nr_hugepages",
			       pages, host->wanted.numa_node);
	else
		far_doctor_fix(report, "sysctl -w vm.nr_hugepages=%" PRIu64, pages);
	if (host->wanted.host_bytes == 0)
		far_doctor_fix(report, "(a quarter of this host; one for each 2 MiB that is lent)");
}

static void
huge_check(const struct far_doctor_host *host, struct far_doctor_report *report)
{
	const struct far_doctor_wanted *wanted = &host->wanted;
	bool rdma = far_doctor_rdma_count(host) > 0;
	int64_t total = 0, unused = 0;
	uint64_t free_bytes;
	size_text a, b;

	if (!pool_read(host->root, "/sys/kernel/mm", 2048, &total, &unused)) {
		far_doctor_add(report, wanted->huge_on ? FAR_DOCTOR_FAIL : FAR_DOCTOR_NONE,
			       "huge pages", "this kernel has none of 2 MiB");
		if (wanted->huge_on)
			far_doctor_fix(report, "huge_pages: auto");
		return;
	}
	free_bytes = huge_free(host);
	if (total <= 0)
		far_doctor_add(report, FAR_DOCTOR_NONE, "huge pages",
			       "none of 2 MiB are reserved: ordinary pages are used");
	else
		far_doctor_add(report, FAR_DOCTOR_OK, "huge pages",
			       "%" PRId64 " of 2 MiB, %" PRId64 " free (%s)", total, unused,
			       far_doctor_size(free_bytes, a));
	nodes_add(host, report);
	others_add(host, report);
	if (wanted->huge_on && free_bytes < wanted->host_bytes) {
		far_doctor_worsen(report, FAR_DOCTOR_FAIL);
		far_doctor_more(report, "huge_pages: on, and %s asks for %s: it will not start",
				wanted->what, far_doctor_size(wanted->host_bytes, b));
		huge_fix(host, report, total, unused);
	} else if (rdma && free_bytes < (wanted->host_bytes > 0 ? wanted->host_bytes : 1)) {
		far_doctor_worsen(report, FAR_DOCTOR_WARN);
		far_doctor_more(report, "with them RDMA registers memory faster, and needs less of "
					"the device's own");
		huge_fix(host, report, total, unused);
	}
}

/* The choice in brackets of "always [madvise] never". */
static bool
choice_read(const char *root, const char *file, char out[16])
{
	char text[128];
	const char *open, *close;

	if (!far_doctor_read(root, text, sizeof(text), "/sys/kernel/mm/transparent_hugepage/%s",
			     file))
		return false;
	open = strchr(text, '[');
	close = open != NULL ? strchr(open, ']') : NULL;
	if (close == NULL || close - open - 1 >= 16)
		return false;
	(void)snprintf(out, 16, "%.*s", (int)(close - open - 1), open + 1);
	return true;
}

static void
transparent_check(const struct far_doctor_host *host, struct far_doctor_report *report)
{
	char shared[16];

	if (!choice_read(host->root, "shmem_enabled", shared)) {
		far_doctor_add(report, FAR_DOCTOR_NONE, "transparent pages",
			       "this kernel has no transparent huge pages");
		return;
	}
	far_doctor_add(report, FAR_DOCTOR_OK, "transparent pages", "for shared memory: %s", shared);
}

void
far_doctor_memory(const struct far_doctor_host *host, struct far_doctor_report *report)
{
	far_doctor_group(report, "Memory");
	available_check(host, report);
	locked_check(host, report);
	huge_check(host, report);
	transparent_check(host, report);
	memfd_check(host, report);
}
