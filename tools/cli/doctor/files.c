/* files.c - reading /proc and /sys as they are found: absent, empty, odd. */
#include "tools/cli/doctor/files.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool
path_make(const char *root, char path[FAR_DOCTOR_PATH_MAX], const char *fmt, va_list args)
{
	int used = snprintf(path, FAR_DOCTOR_PATH_MAX, "%s", root);
	int more;

	if (used < 0 || (size_t)used >= FAR_DOCTOR_PATH_MAX)
		return false;
	more = vsnprintf(path + used, FAR_DOCTOR_PATH_MAX - (size_t)used, fmt, args);
	return more >= 0 && (size_t)more < FAR_DOCTOR_PATH_MAX - (size_t)used;
}

#define PATH_MAKE(path, ok)                                                                        \
	do {                                                                                       \
		va_list args;                                                                      \
		va_start(args, fmt);                                                               \
		(ok) = path_make(root, path, fmt, args);                                           \
		va_end(args);                                                                      \
	} while (0)

static bool
file_read(const char *path, char *text, size_t text_bytes)
{
	/* A device that is not there to answer must not hold us up. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	size_t used = 0;

	text[0] = '\0';
	if (fd < 0)
		return false;
	while (used < text_bytes - 1) {
		ssize_t got = read(fd, text + used, text_bytes - 1 - used);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		used += (size_t)got;
	}
	(void)close(fd);
	while (used > 0 && isspace((unsigned char)text[used - 1]))
		used--;
	text[used] = '\0';
	return used > 0;
}

bool
far_doctor_read(const char *root, char *text, size_t text_bytes, const char *fmt, ...)
{
	char path[FAR_DOCTOR_PATH_MAX];
	bool ok;

	PATH_MAKE(path, ok);
	text[0] = '\0';
	return ok && file_read(path, text, text_bytes);
}

bool
far_doctor_read_number(const char *root, int64_t *out, const char *fmt, ...)
{
	char path[FAR_DOCTOR_PATH_MAX];
	char text[32];
	char *end;
	long long number;
	bool ok;

	PATH_MAKE(path, ok);
	if (!ok || !file_read(path, text, sizeof(text)))
		return false;
	errno = 0;
	number = strtoll(text, &end, 0);
	if (end == text || errno != 0)
		return false;
	*out = number;
	return true;
}

bool
far_doctor_exists(const char *root, const char *fmt, ...)
{
	char path[FAR_DOCTOR_PATH_MAX];
	bool ok;

	PATH_MAKE(path, ok);
	return ok && access(path, F_OK) == 0;
}

bool
far_doctor_may_use(const char *root, const char *fmt, ...)
{
	char path[FAR_DOCTOR_PATH_MAX];
	bool ok;

	PATH_MAKE(path, ok);
	return ok && access(path, R_OK | W_OK) == 0;
}

bool
far_doctor_link(const char *root, char *name, size_t name_bytes, const char *fmt, ...)
{
	char path[FAR_DOCTOR_PATH_MAX];
	char place[PATH_MAX];
	const char *slash;
	ssize_t length;
	bool ok;

	PATH_MAKE(path, ok);
	name[0] = '\0';
	length = ok ? readlink(path, place, sizeof(place) - 1) : -1;
	if (length <= 0)
		return false;
	place[length] = '\0';
	slash = strrchr(place, '/');
	(void)snprintf(name, name_bytes, "%s", slash != NULL ? slash + 1 : place);
	return name[0] != '\0';
}

static int
names_compare(const void *a, const void *b)
{
	return strverscmp(a, b);
}

void
far_doctor_list(const char *root, struct far_doctor_names *out, const char *fmt, ...)
{
	char path[FAR_DOCTOR_PATH_MAX];
	struct dirent *entry;
	DIR *dir = NULL;
	bool ok;

	PATH_MAKE(path, ok);
	out->count = 0;
	if (ok)
		dir = opendir(path);
	if (dir == NULL)
		return;
	while (out->count < FAR_DOCTOR_NAMES_MAX && (entry = readdir(dir)) != NULL) {
		size_t length = strlen(entry->d_name);

		if (entry->d_name[0] == '.' || length >= sizeof(out->names[0]))
			continue;
		memcpy(out->names[out->count++], entry->d_name, length + 1);
	}
	(void)closedir(dir);
	qsort(out->names, out->count, sizeof(out->names[0]), names_compare);
}

const char *
far_doctor_size(uint64_t bytes, char out[FAR_DOCTOR_SIZE_TEXT])
{
	static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double value = (double)bytes;
	size_t unit = 0;

	while (value >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		value /= 1024;
		unit++;
	}
	if (bytes == UINT64_MAX)
		(void)snprintf(out, FAR_DOCTOR_SIZE_TEXT, "unlimited");
	else if (value >= 100 || value == (double)(uint64_t)value)
		(void)snprintf(out, FAR_DOCTOR_SIZE_TEXT, "%.0f %s", value, units[unit]);
	else
		(void)snprintf(out, FAR_DOCTOR_SIZE_TEXT, "%.1f %s", value, units[unit]);
	return out;
}
