/* pci.c - how far two PCI devices are: from the bridges between them, in a sysfs of our own. */
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

#include "transport/mem/pci.h"

static char top[] = "/tmp/farpool-pci-XXXXXX";
static char sysfs[64];

/* A device at the end of @place, known by its last part. */
static void
device_make(const char *place)
{
	char path[256];
	char link[256];
	size_t top_bytes = strlen(top);

	snprintf(path, sizeof(path), "%s/%s", top, place);
	for (char *at = path + top_bytes + 1; *at != '\0'; at++) {
		if (*at != '/')
			continue;
		*at = '\0';
		(void)mkdir(path, 0700);
		*at = '/';
	}
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(link, sizeof(link), "%s/%s", sysfs, strrchr(place, '/') + 1);
	assert_int_equal(symlink(path, link), 0);
}

static int
sysfs_make(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(top));
	snprintf(sysfs, sizeof(sysfs), "%s/bus", top);
	assert_int_equal(mkdir(sysfs, 0700), 0);
	/* A switch with a GPU, a NIC, and another switch below it. */
	device_make("pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:00.0/0000:03:00.0");
	device_make("pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:01.0/0000:04:00.0");
	device_make("pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:02.0/0000:05:00.0/0000:06:00.0/"
		    "0000:07:00.0");
	device_make("pci0000:00/0000:00:02.0/0000:08:00.0");
	device_make("pci0000:80/0000:80:01.0/0000:81:00.0");
	return 0;
}

static int
sysfs_remove(void **state)
{
	char command[128];
	(void)state;

	snprintf(command, sizeof(command), "rm -rf %s", top);
	return system(command);
}

static void
distance_is_told_by_the_bridges_between(void **state)
{
	const char *gpu = "0000:03:00.0";
	(void)state;

	assert_int_equal(far_pci_distance(sysfs, gpu, "0000:04:00.0"), FAR_PCI_PIX);
	assert_int_equal(far_pci_distance(sysfs, "0000:07:00.0", gpu), FAR_PCI_PXB);
	assert_int_equal(far_pci_distance(sysfs, gpu, "0000:08:00.0"), FAR_PCI_PHB);
	assert_int_equal(far_pci_distance(sysfs, gpu, "0000:81:00.0"), FAR_PCI_SYS);
	assert_int_equal(far_pci_distance(sysfs, gpu, gpu), FAR_PCI_PIX);
}

static void
what_is_not_there_is_unknown(void **state)
{
	(void)state;
	assert_int_equal(far_pci_distance(sysfs, "0000:03:00.0", "0000:99:00.0"), FAR_PCI_UNKNOWN);
	assert_int_equal(far_pci_distance(sysfs, "", "0000:03:00.0"), FAR_PCI_UNKNOWN);
	assert_int_equal(far_pci_distance(sysfs, "../bus/0000:03:00.0", "0000:03:00.0"),
			 FAR_PCI_UNKNOWN);
	assert_string_equal(far_pci_distance_name(FAR_PCI_UNKNOWN), "unknown");
	assert_string_equal(far_pci_distance_name(FAR_PCI_PXB), "PXB");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(distance_is_told_by_the_bridges_between),
		cmocka_unit_test(what_is_not_there_is_unknown),
	};

	return cmocka_run_group_tests(tests, sysfs_make, sysfs_remove);
}
