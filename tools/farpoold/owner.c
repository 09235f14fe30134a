/* owner.c - the process that wrote a backing: named in its header, and proved to be gone. */
#include "tools/farpoold/backing.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define START_FIELD 22 /* of /proc/PID/stat, proc(5): starttime */

/* 0: it cannot be read. */
static uint64_t
start_ticks_of(uint64_t pid)
{
	char path[48], line[1024];
	const char *at;
	size_t size;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%" PRIu64 "/stat", pid);
	file = fopen(path, "re");
	if (file == NULL)
		return 0;
	size = fread(line, 1, sizeof(line) - 1, file);
	fclose(file);
	line[size] = '\0';
	/* The second field is a name in parentheses, with any characters in it. */
	at = strrchr(line, ')');
	for (int field = 2; at != NULL && field < START_FIELD; field++) {
		at = strchr(at, ' ');
		if (at != NULL)
			at++;
	}
	return at == NULL ? 0 : strtoull(at, NULL, 10);
}

static void
boot_id_read(uint8_t out[16])
{
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
	int digits = 0;
	int c;

	memset(out, 0, 16);
	while (file != NULL && digits < 32 && (c = fgetc(file)) != EOF) {
		int value = c >= '0' && c <= '9'   ? c - '0'
			    : c >= 'a' && c <= 'f' ? c - 'a' + 10
						   : -1;

		if (value < 0)
			continue;
		out[digits / 2] = (uint8_t)(out[digits / 2] << 4 | value);
		digits++;
	}
	if (file != NULL)
		fclose(file);
}

static uint64_t
pidns_inode_read(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) == 0 ? st.st_ino : 0;
}

void
farpoold_owner_self(struct farpoold_owner *out)
{
	*out = (struct farpoold_owner){
		.pid = (uint64_t)getpid(),
		.pidns_inode = pidns_inode_read(),
		.start_ticks = start_ticks_of((uint64_t)getpid()),
	};
	boot_id_read(out->boot_id);
}

/* A pidfd is readable once the kernel has closed all that the process had open. */
static int
pid_wait(const struct farpoold_owner *owner, int wait_ms, char error[FAR_PARAM_ERROR_BYTES])
{
	uint64_t start = start_ticks_of(owner->pid);
	int fd = (int)syscall(SYS_pidfd_open, (pid_t)owner->pid, 0);
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	int rc = 0;

	if (fd < 0 && (errno == ESRCH || errno == EINVAL))
		return 0; /* no process, or the number is a thread's now */
	if (start != 0 && owner->start_ticks != 0 && start != owner->start_ticks) {
		rc = 1; /* another process has its number */
	} else if (fd >= 0) {
		do {
			rc = poll(&poll_fd, 1, wait_ms);
		} while (rc < 0 && errno == EINTR);
	}
	if (fd >= 0)
		(void)close(fd);
	if (rc > 0)
		return 0;
	snprintf(error, FAR_PARAM_ERROR_BYTES,
		 "backing: process %" PRIu64 ", which wrote it, still runs: stop it first",
		 owner->pid);
	return -EBUSY;
}

/* An id that could not be read, there or here, tells nothing: /proc is not mounted everywhere. */
static bool
boot_is_another(const struct farpoold_owner *owner, const struct farpoold_owner *self)
{
	static const uint8_t unknown[sizeof(self->boot_id)];

	return memcmp(owner->boot_id, unknown, sizeof(unknown)) != 0 &&
	       memcmp(self->boot_id, unknown, sizeof(unknown)) != 0 &&
	       memcmp(owner->boot_id, self->boot_id, sizeof(unknown)) != 0;
}

int
farpoold_owner_gone(const struct farpoold_owner *owner, int wait_ms,
		    char error[FAR_PARAM_ERROR_BYTES])
{
	struct farpoold_owner self;

	farpoold_owner_self(&self);
	if (owner->pid == 0 || boot_is_another(owner, &self))
		return 0;
	if (owner->pid > INT32_MAX)
		return 0; /* nobody's number */
	if (owner->pidns_inode != self.pidns_inode || owner->pidns_inode == 0) {
		snprintf(error, FAR_PARAM_ERROR_BYTES,
			 "backing: it was not closed, and whether process %" PRIu64
			 " of another pid namespace is gone cannot be told here: run donors in the "
			 "host's pid namespace, or remove the folder to start empty",
			 owner->pid);
		return -EBUSY;
	}
	return pid_wait(owner, wait_ms, error);
}
