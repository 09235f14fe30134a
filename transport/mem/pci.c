/* pci.c - distances between PCI devices, from the bridges that they have in common. */
#include "transport/mem/pci.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A path in sysfs has one part for each bridge: .../pci0000:00/0000:00:01.0/0000:01:00.0. */
static int
place_of(const char *sysfs, const char *name, char place[PATH_MAX])
{
	char path[PATH_MAX];
	const char *root;

	if (name[0] == '\0' || strchr(name, '/') != NULL)
		return -1;
	if ((size_t)snprintf(path, sizeof(path), "%s/%s", sysfs, name) >= sizeof(path))
		return -1;
	if (realpath(path, place) == NULL)
		return -1;
	root = strstr(place, "/pci");
	if (root == NULL)
		return -1;
	root++;
	memmove(place, root, strlen(root) + 1);
	return 0;
}

static unsigned
parts(const char *place)
{
	unsigned count = *place != '\0';

	for (; *place != '\0'; place++)
		count += *place == '/';
	return count;
}

/* How many parts are the same, from the root. */
static unsigned
common(const char *a, const char *b)
{
	unsigned count = 0;
	size_t i = 0;

	for (; a[i] != '\0' && a[i] == b[i]; i++)
		count += a[i] == '/';
	/* A part that ended on both sides counts too. */
	if ((a[i] == '\0' || a[i] == '/') && (b[i] == '\0' || b[i] == '/') && i > 0)
		count++;
	return count;
}

enum far_pci_distance
far_pci_distance(const char *sysfs, const char *a, const char *b)
{
	char place_a[PATH_MAX];
	char place_b[PATH_MAX];
	unsigned same, bridges;

	if (place_of(sysfs, a, place_a) < 0 || place_of(sysfs, b, place_b) < 0)
		return FAR_PCI_UNKNOWN;
	same = common(place_a, place_b);
	if (same == 0)
		return FAR_PCI_SYS;
	if (same == 1)
		return FAR_PCI_PHB; /* of one root complex, nothing else */
	/* Below the last bridge that they share: a switch has a port above and one for each below. */
	bridges = parts(place_a) + parts(place_b) - 2 * same;
	return bridges <= 4 ? FAR_PCI_PIX : FAR_PCI_PXB;
}

const char *
far_pci_distance_name(enum far_pci_distance distance)
{
	static const char *const names[] = {"PIX", "PXB", "PHB", "SYS", "unknown"};

	return names[distance];
}
