/* files.h - small files of /proc and /sys, below a root that a test may have made itself. */
#ifndef FAR_TOOLS_CLI_DOCTOR_FILES_H
#define FAR_TOOLS_CLI_DOCTOR_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAR_DOCTOR_PATH_MAX  512U
#define FAR_DOCTOR_NAMES_MAX 256U

/* Names in a directory, sorted with numbers by their value. */
struct far_doctor_names {
	char names[FAR_DOCTOR_NAMES_MAX][64];
	size_t count;
};

/* All take a root ("": the host's) and a path behind it, made as by printf. A path that is too long
 * names nothing. Nothing here blocks but as the kernel's files do. */

/* The file's text, cut to @text_bytes, without blanks and newlines at its end. False, and "", if it
 * cannot be read or has none. */
bool far_doctor_read(const char *root, char *text, size_t text_bytes, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* The number that the text begins with, decimal or 0x. */
bool far_doctor_read_number(const char *root, int64_t *out, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
bool far_doctor_exists(const char *root, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Whether this process may read and write it. */
bool far_doctor_may_use(const char *root, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* The last part of the path that a link leads to. */
bool far_doctor_link(const char *root, char *name, size_t name_bytes, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Those beyond FAR_DOCTOR_NAMES_MAX, and names of 64 bytes and more, are left out; none: count 0. */
void far_doctor_list(const char *root, struct far_doctor_names *out, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* "1.5 GiB", "512 MiB", "unlimited" for UINT64_MAX. */
#define FAR_DOCTOR_SIZE_TEXT 24U
const char *far_doctor_size(uint64_t bytes, char out[FAR_DOCTOR_SIZE_TEXT]);

#endif
