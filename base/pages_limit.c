/* pages_limit.c - how much memory is left: for the machine, a NUMA node, and our control groups. */
#include "base/pages_limit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/pages.h"

#define TEXT_BYTES  8192
#define PATH_BYTES  4352
#define CGROUP_ROOT "/sys/fs/cgroup"

/* Reads a small file of /proc or /sys as a string; false if there is none. */
static bool
text_read(const char *path, char *text, size_t text_bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t size = 0;

	if (fd < 0)
		return false;
	while (size < text_bytes - 1) {
		ssize_t got = read(fd, text + size, text_bytes - 1 - size);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		size += (size_t)got;
	}
	(void)close(fd);
	text[size] = '\0';
	return size != 0;
}

/* The number behind a word that is followed by blanks; the kernel's own text, so well formed. */
static bool
number_find(const char *text, const char *key, uint64_t *out)
{
	const char *at = text;
	size_t key_size = strlen(key);

	while ((at = strstr(at, key)) != NULL) {
		bool whole = at == text || at[-1] == '\n' || at[-1] == ' ';
		char *end;

		at += key_size;
		if (!whole || (*at != ' ' && *at != '\t'))
			continue;
		*out = strtoull(at, &end, 10);
		return end != at;
	}
	return false;
}

bool
far_meminfo_find(const char *text, const char *key, uint64_t *bytes_out)
{
	uint64_t kib;

	if (!number_find(text, key, &kib) || kib > UINT64_MAX / 1024)
		return false;
	*bytes_out = kib * 1024;
	return true;
}

uint64_t
far_pages_available_bytes(void)
{
	char text[TEXT_BYTES];
	uint64_t bytes;

	if (!text_read("/proc/meminfo", text, sizeof(text)) ||
	    !far_meminfo_find(text, "MemAvailable:", &bytes))
		return 0;
	return bytes;
}

uint64_t
far_pages_reserved_bytes(void)
{
	char text[TEXT_BYTES];

	/* /proc/meminfo counts those of the default size, which may be another. */
	if (!text_read("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", text,
		       sizeof(text)))
		return 0;
	return strtoull(text, NULL, 10) << 21;
}

/* Free pages and the page cache, which gives way; UINT64_MAX if it cannot be read. */
static uint64_t
node_available_bytes(int numa_node)
{
	char path[64], text[TEXT_BYTES];
	uint64_t free_bytes, active = 0, inactive = 0;

	(void)snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo", numa_node);
	if (!text_read(path, text, sizeof(text)) ||
	    !far_meminfo_find(text, "MemFree:", &free_bytes))
		return UINT64_MAX;
	(void)far_meminfo_find(text, "Active(file):", &active);
	(void)far_meminfo_find(text, "Inactive(file):", &inactive);
	return free_bytes + active + inactive;
}

/* What one group still allows: its limit less its use, plus the page cache charged to it. */
static uint64_t
group_available_bytes(const char *group_path)
{
	char path[PATH_BYTES], text[TEXT_BYTES];
	uint64_t max_bytes, used, active = 0, inactive = 0;

	if (snprintf(path, sizeof(path), "%s/memory.max", group_path) >= (int)sizeof(path) ||
	    !text_read(path, text, sizeof(text)) || strncmp(text, "max", 3) == 0)
		return UINT64_MAX;
	max_bytes = strtoull(text, NULL, 10);
	if (snprintf(path, sizeof(path), "%s/memory.current", group_path) >= (int)sizeof(path) ||
	    !text_read(path, text, sizeof(text)))
		return UINT64_MAX;
	used = strtoull(text, NULL, 10);
	if (snprintf(path, sizeof(path), "%s/memory.stat", group_path) < (int)sizeof(path) &&
	    text_read(path, text, sizeof(text))) {
		(void)number_find(text, "active_file", &active);
		(void)number_find(text, "inactive_file", &inactive);
	}
	used -= active + inactive < used ? active + inactive : used;
	return used < max_bytes ? max_bytes - used : 0;
}

/* The least of our control group (version 2) and all above it. */
static uint64_t
groups_available_bytes(void)
{
	char text[4096], path[PATH_BYTES];
	uint64_t least = UINT64_MAX;
	const char *start;
	size_t size;

	if (!text_read("/proc/self/cgroup", text, sizeof(text)))
		return least;
	start = strstr(text, "0::/");
	if (start == NULL)
		return least;
	size = strcspn(start + 3, "\n");
	(void)snprintf(path, sizeof(path), "%s%.*s", CGROUP_ROOT, (int)size, start + 3);
	/* In a container the root of the mount is the group itself, so it is asked as well. */
	while (strlen(path) >= strlen(CGROUP_ROOT)) {
		uint64_t bytes = group_available_bytes(path);
		char *slash = strrchr(path, '/');

		if (bytes < least)
			least = bytes;
		*slash = '\0';
	}
	return least;
}

bool
far_pages_fit(uint64_t size_bytes, int numa_node)
{
	uint64_t available = far_pages_available_bytes();
	uint64_t group = groups_available_bytes();

	if (available == 0)
		available = UINT64_MAX;
	if (group < available)
		available = group;
	if (numa_node >= 0 && node_available_bytes(numa_node) < available)
		available = node_available_bytes(numa_node);
	/* The last pages are what everybody else, and the kernel itself, lives on. */
	return size_bytes <= available - available / 64;
}
