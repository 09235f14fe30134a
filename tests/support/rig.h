/* rig.h - real processes for integration tests: donors, the command line, and a directory for both. */
#ifndef FAR_TESTS_SUPPORT_RIG_H
#define FAR_TESTS_SUPPORT_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "farpool/farpool.h"

#define RIG_DONORS_MAX 4
#define RIG_OUTPUT_MAX 262144 /* reports with a histogram for each line */

struct rig_donor {
	char name[32];
	char listen[208];  /* "shm:/tmp/...", "ucx:0.0.0.0:7471" */
	char address[208]; /* as clients name it */
	char netns[64];    /* the network namespace that it runs in; "": ours */
	char config[160];
	char log[160];
	const char *program; /* NULL: farpoold as it is built */
	pid_t pid;           /* 0: not running */
};

/* A directory under /tmp, its donors, and a client's configuration that lists them. */
struct rig {
	char dir[96];
	char client_config[160];
	struct rig_donor donors[RIG_DONORS_MAX];
	size_t donor_count;
	/* Over the network; "": over shm. The port counts up from one donor to the next. */
	char scheme[8]; /* of them: "ucx", "verbs" */
	char listen_host[48];
	char address_host[48];
	char netns[64];
	unsigned port;
	const char *also_listen; /* NULL, or one more address of the donors that are added */
	const char *program;     /* NULL, or what donors that are added run instead of farpoold */
};

/* What a finished program said. */
struct rig_run {
	int status; /* exit status; 128 + signal */
	char out[RIG_OUTPUT_MAX];
	char err[RIG_OUTPUT_MAX];
};

/* A limit of so many seconds, as many times longer as FARPOOL_TEST_SLOWDOWN says: for machines that
 * are much slower than a real one, as an emulated guest is. The limits in here are scaled already. */
unsigned int rig_seconds(unsigned int seconds);

/* Fails the test if anything of it does not work. */
void rig_open(struct rig *rig);
/* Kills what still runs and removes the directory. */
void rig_close(struct rig *rig);

/* Donors that are added from here on listen at ucx:@listen_host:@port..., and clients find them at
 * @address_host. @netns: a path, "/proc/4711/ns"; NULL: ours. */
void rig_over_ucx(struct rig *rig, const char *listen_host, const char *address_host, unsigned port,
		  const char *netns);
/* The same over verbs, where @host has an RDMA device. */
void rig_over_verbs(struct rig *rig, const char *host, unsigned port);

/* Adds a donor and starts it; returns when it serves. @memory: "64MiB"; @extra: more YAML lines. */
struct rig_donor *rig_donor_add(struct rig *rig, const char *name, const char *memory,
				const char *extra);
/* The same configuration again, after a kill. */
void rig_donor_start(struct rig_donor *donor);
/* And kills it after @after_ns, whether it serves by then or not. */
void rig_donor_start_and_kill(struct rig_donor *donor, uint64_t after_ns);
/* Sends a signal; for SIGKILL and SIGTERM also waits for the end and returns the exit status
 * (128 + signal); the donor must end within 10 s. */
int rig_donor_signal(struct rig_donor *donor, int sig);

/* Writes the client's configuration: its donors, l1.size, and more YAML lines (before donors). */
void rig_client_config(struct rig *rig, const char *l1_size, const char *extra);
/* Opens a client over it, with every donor up. */
struct far_client *rig_client(struct rig *rig, const char *l1_size, const char *extra);

/* Runs a program to its end, at most @seconds; arguments end with NULL, the first is the path. */
void rig_run(struct rig_run *run, unsigned int seconds, const char *const argv[]);
/* Starts one whose output goes to files in the rig's directory; rig_wait() ends it. */
pid_t rig_spawn(struct rig *rig, const char *name, const char *const argv[]);
/* Whether it has not ended yet. */
bool rig_runs(pid_t pid);
/* What it has written to its standard output so far; waits for the first line. */
void rig_first_line(struct rig *rig, pid_t pid, const char *name, char *line, size_t line_bytes);
/* Waits for it and reads its files. */
void rig_wait(struct rig *rig, pid_t pid, const char *name, unsigned int seconds,
	      struct rig_run *run);

/* Descriptors that a process has open; 0: it is gone. */
size_t rig_fd_count(pid_t pid);

/* A number of a JSON object, by name; fails the test if it is not there. */
uint64_t rig_json_number(const char *json, const char *name);

#endif
