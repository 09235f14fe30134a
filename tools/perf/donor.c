/* donor.c - starts and ends the farpoold that a benchmark borrows from. */
#include "tools/perf/donor.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/pages.h"
#include "tools/perf/litter.h"

#define STOP_NS          (5 * FAR_NS_PER_S)
#define SERVE_TIMEOUT_MS 120000 /* a large donor on a slow machine */
#define READY_FD         3

static void
donor_path(const struct perf_donor *donor, const char *name, char *out, size_t out_bytes)
{
	snprintf(out, out_bytes, "%s/%s", donor->folder, name);
}

/* What is lent has ordinary pages with auto as well where none are reserved; its index has then those that
 * farpoold makes for it, and with off it has not. */
static const char *
huge_choice(const struct perf_donor_config *config)
{
	if (config->huge)
		return "on";
	return config->ordinary && far_pages_reserved_bytes() > 0 ? "off" : "auto";
}

static int
config_write(const struct perf_donor *donor, const struct perf_donor_config *config)
{
	char path[96];
	FILE *file;

	donor_path(donor, "donor.yaml", path, sizeof(path));
	file = fopen(path, "w");
	if (file == NULL)
		return -EACCES;
	fprintf(file,
		"name: %s\n"
		"listen: %s\n"
		"memory: %" PRIu64 "KiB\n"
		"block_min: %" PRIu64 "B\n"
		"huge_pages: %s\n"
		"lane: %" PRIu64 "B\n",
		config->name, donor->address, config->memory_bytes >> 10, config->block_bytes_min,
		huge_choice(config), config->lane_bytes);
	return fclose(file) == 0 ? 0 : -EIO;
}

/* In the child: nothing but calls that are safe after fork. */
static void
donor_become(const char *program, const char *config, const char *log, int ready_fd)
{
	int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	/* Whatever becomes of the benchmark, its donor does not outlive it. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0)
		_exit(127);
	/* Both of ours are closed on exec, also where one of them has this number already. */
	if (ready_fd == READY_FD ? fcntl(ready_fd, F_SETFD, 0) < 0 : dup2(ready_fd, READY_FD) < 0)
		_exit(127);
	execl(program, program, "--config", config, "--ready-fd", "3", (char *)NULL);
	_exit(127);
}

/* The donor says one byte when it serves, and nothing but the end of the pipe when it dies first. */
static int
ready_wait(int fd)
{
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	char byte;

	if (poll(&ready, 1, SERVE_TIMEOUT_MS) != 1 || read(fd, &byte, 1) != 1)
		return -EHOSTDOWN;
	return 0;
}

int
perf_donor_start(struct perf_donor *donor, const struct perf_donor_config *config)
{
	char path[96], log[96];
	int fds[2], rc;

	memset(donor, 0, sizeof(*donor));
	donor->litter = perf_litter_take();
	if (donor->litter == NULL)
		return -EACCES;
	snprintf(donor->folder, sizeof(donor->folder), "%s", perf_litter_folder(donor->litter));
	if (strcmp(config->over, "shm") == 0)
		snprintf(donor->address, sizeof(donor->address), "shm:%s/donor.sock",
			 donor->folder);
	else
		snprintf(donor->address, sizeof(donor->address), "%s%s:%u", config->over,
			 strchr(config->over, ':') != NULL ? "" : ":127.0.0.1", perf_port());
	rc = config_write(donor, config);
	if (rc < 0)
		return rc;
	donor_path(donor, "donor.yaml", path, sizeof(path));
	donor_path(donor, "donor.log", log, sizeof(log));
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -EMFILE;
	donor->pid = fork();
	if (donor->pid == 0)
		donor_become(config->program, path, log, fds[1]);
	close(fds[1]);
	if (donor->pid < 0) {
		donor->pid = 0;
		rc = -EAGAIN;
	} else {
		perf_litter_child(donor->litter, donor->pid);
		rc = ready_wait(fds[0]);
	}
	close(fds[0]);
	return rc;
}

void
perf_donor_last_words(const struct perf_donor *donor, char *out, size_t out_bytes)
{
	char path[96], line[256];
	FILE *file;

	snprintf(out, out_bytes, "it wrote nothing");
	donor_path(donor, "donor.log", path, sizeof(path));
	file = fopen(path, "r");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		if (line[0] != '\0')
			snprintf(out, out_bytes, "%s", line);
	}
	if (file != NULL)
		fclose(file);
}

void
perf_donor_stop(struct perf_donor *donor)
{
	uint64_t deadline_ns = far_clock_now(far_clock_real()) + STOP_NS;

	if (donor->pid > 0) {
		kill(donor->pid, SIGTERM);
		while (waitpid(donor->pid, NULL, WNOHANG) == 0) {
			uint64_t now_ns = far_clock_now(far_clock_real());

			if (now_ns >= deadline_ns)
				kill(donor->pid, SIGKILL);
			far_clock_sleep_until(now_ns + 5 * FAR_NS_PER_MS);
		}
	}
	if (donor->litter != NULL)
		perf_litter_child(donor->litter, 0);
	perf_litter_give(donor->litter);
	memset(donor, 0, sizeof(*donor));
}

unsigned
perf_port(void)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t addr_bytes = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unsigned port = 0;

	if (fd < 0)
		return 0;
	if (bind(fd, (struct sockaddr *)&addr, addr_bytes) == 0 &&
	    getsockname(fd, (struct sockaddr *)&addr, &addr_bytes) == 0)
		port = ntohs(addr.sin_port);
	close(fd);
	return port;
}
