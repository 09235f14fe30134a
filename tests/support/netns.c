/* netns.c - namespaces made with unshare(2), the cable with ip(8). */
#include "tests/support/netns.h"

#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static int
run(const char *command)
{
	int status = system(command);

	return status == 0 ? 0 : -1;
}

/* A namespace of its own, and a /sys that shows its devices: UCX looks there for them. */
static int
enter(void)
{
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -1;
	return mount("sysfs", "/sys", "sysfs", 0, NULL);
}

/* In the child: a namespace of its own, until the parent ends. */
static void
hold(int fd)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (enter() < 0 || write(fd, "x", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

static int
holder_start(struct netns *netns)
{
	int fds[2];
	char byte;
	int rc;

	if (pipe(fds) < 0)
		return -1;
	netns->holder = fork();
	if (netns->holder == 0) {
		close(fds[0]);
		hold(fds[1]);
	}
	close(fds[1]);
	rc = netns->holder > 0 && read(fds[0], &byte, 1) == 1 ? 0 : -1;
	close(fds[0]);
	snprintf(netns->path, sizeof(netns->path), "/proc/%d/ns", (int)netns->holder);
	return rc;
}

static int
cable_make(const struct netns *netns)
{
	char command[512];

	if (run("ip link set lo up && ip link add farpool0 type veth peer name farpool1") < 0)
		return -1;
	snprintf(command, sizeof(command),
		 "ip link set farpool1 netns %d && ip addr add " NETNS_OUR_HOST
		 "/24 dev farpool0 && ip link set farpool0 up",
		 (int)netns->holder);
	if (run(command) < 0)
		return -1;
	snprintf(command, sizeof(command),
		 "nsenter --net=%s/net sh -c 'ip link set lo up && ip addr add " NETNS_PEER_HOST
		 "/24 dev farpool1 && ip link set farpool1 up'",
		 netns->path);
	if (run(command) < 0)
		return -1;
	/* UCX takes only interfaces that are running, and that is told a moment after they are up. */
	snprintf(command, sizeof(command),
		 "for i in $(seq 100); do "
		 "test $(cat /sys/class/net/farpool0/operstate)$(nsenter --net=%s/net "
		 "--mount=%s/mnt cat /sys/class/net/farpool1/operstate) = upup && exit 0; "
		 "sleep 0.05; done; exit 1",
		 netns->path, netns->path);
	return run(command);
}

int
netns_open(struct netns *netns)
{
	memset(netns, 0, sizeof(*netns));
	if (geteuid() != 0) {
		printf("skipped: network namespaces need root\n");
		return -1;
	}
	if (run("command -v ip nsenter >/dev/null") < 0) {
		printf("skipped: ip and nsenter are needed\n");
		return -1;
	}
	if (enter() < 0 || holder_start(netns) < 0 || cable_make(netns) < 0) {
		printf("skipped: no network namespaces or no veth here\n");
		netns_close(netns);
		return -1;
	}
	return 0;
}

void
netns_cut(const struct netns *netns, enum netns_end end, bool cut)
{
	const char *how = cut ? "down" : "up";
	char command[160];

	if (end == NETNS_OUR_END)
		snprintf(command, sizeof(command), "ip link set farpool0 %s", how);
	else
		snprintf(command, sizeof(command), "nsenter --net=%s/net ip link set farpool1 %s",
			 netns->path, how);
	assert_int_equal(run(command), 0);
}

void
netns_close(struct netns *netns)
{
	if (netns->holder <= 0)
		return;
	(void)kill(netns->holder, SIGKILL);
	(void)waitpid(netns->holder, NULL, 0);
	netns->holder = 0;
}
