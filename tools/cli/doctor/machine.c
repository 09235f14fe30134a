/* machine.c - the doctor on the machine: its kernel, processors and NUMA nodes. */
#include "tools/cli/doctor/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli/doctor/doctor.h"

/* F_SEAL_FUTURE_WRITE; MADV_POPULATE_WRITE, 5.14, is done without. */
#define KERNEL_MAJOR 5UL
#define KERNEL_MINOR 1UL

/* How many a list like "0-3,8" names. Odd text counts as far as it makes sense. */
static unsigned
list_count(const char *text)
{
	unsigned count = 0;

	while (*text >= '0' && *text <= '9') {
		char *end;
		unsigned long first = strtoul(text, &end, 10), last = first;

		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		if (last >= first && last - first < 65536)
			count += (unsigned)(last - first) + 1;
		if (*end != ',')
			break;
		text = end + 1;
	}
	return count;
}

static void
kernel_check(const struct far_doctor_host *host, struct far_doctor_report *report)
{
	char text[128];
	char *dot = text;
	unsigned long major = 0, minor = 0;

	if (far_doctor_read(host->root, text, sizeof(text), "/proc/sys/kernel/osrelease"))
		major = strtoul(text, &dot, 10);
	if (dot != text && *dot == '.')
		minor = strtoul(dot + 1, NULL, 10);
	if (major == 0) {
		far_doctor_add(report, FAR_DOCTOR_WARN, "kernel", "/proc says no version");
		far_doctor_fix(report, "mount -t proc proc /proc");
		return;
	}
	far_doctor_add(report, FAR_DOCTOR_OK, "kernel", "Linux %s", text);
	if (major > KERNEL_MAJOR || (major == KERNEL_MAJOR && minor >= KERNEL_MINOR))
		return;
	far_doctor_worsen(report, FAR_DOCTOR_FAIL);
	far_doctor_more(report, "memory that is lent cannot be sealed against its borrowers");
	far_doctor_fix(report, "run Linux %lu.%lu or newer", KERNEL_MAJOR, KERNEL_MINOR);
}

static void
processors_check(const struct far_doctor_host *host, struct far_doctor_report *report)
{
	char text[256];
	unsigned processors = 0, nodes = 1;

	if (far_doctor_read(host->root, text, sizeof(text), "/sys/devices/system/cpu/online"))
		processors = list_count(text);
	if (far_doctor_read(host->root, text, sizeof(text), "/sys/devices/system/node/online"))
		nodes = list_count(text);
	if (processors == 0) {
		far_doctor_add(report, FAR_DOCTOR_NONE, "processors", "/sys says nothing of them");
		return;
	}
	far_doctor_add(report, FAR_DOCTOR_OK, "processors", "%u, %u NUMA node%s", processors, nodes,
		       nodes == 1 ? "" : "s");
	if (host->wanted.numa_node < 0 ||
	    far_doctor_exists(host->root, "/sys/devices/system/node/node%d",
			      host->wanted.numa_node))
		return;
	far_doctor_worsen(report, FAR_DOCTOR_FAIL);
	far_doctor_more(report, "there is no node %d, which the configuration asks for",
			host->wanted.numa_node);
	far_doctor_fix(report, "numa_node: any");
}

void
far_doctor_machine(const struct far_doctor_host *host, struct far_doctor_report *report)
{
	far_doctor_group(report, "Machine");
	kernel_check(host, report);
	processors_check(host, report);
}
