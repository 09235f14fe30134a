/* stranger_cells.c - crowds, garbage, memory that shrinks, and donors at their limits, beside a client that goes on. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "tests/fault/fault.h"
#include "transport/shm/frame.h"
#include "transport/transport.h"

#define CROWD         200U
#define CROWD_AT_ONCE 10U
#define CROWD_SECONDS 60U
#define RSS_KIB_MORE  512U
#define FLOOD         400U
#define FLOOD_OPEN    64U /* stay, and say nothing more */
#define PACKET_BYTES  4096U
#define GARBAGE_LINKS 32U
#define SHRINK_PUTS   64U
#define REFUSED_MS    300U
#define SEED          20260101U

static struct scene scene;

static void
stranger_begin(const struct over *over, struct outcome *outcome)
{
	scene_begin(&scene, over, outcome, false);
	scene.bystander = true;
	scene_load(&scene);
}

static bool
skip_unless_shm(const struct over *over, struct outcome *outcome, const char *why)
{
	if (strcmp(over->name, "shm") == 0)
		return false;
	snprintf(outcome->skipped, sizeof(outcome->skipped), "%s", why);
	return true;
}

/* ---- a crowd that comes and leaves ---- */

/* A field of /proc/PID/status, in KiB. */
static uint64_t
status_kib(pid_t pid, const char *field)
{
	char path[64], line[256];
	uint64_t kib = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "r");
	CELL_CHECK(file != NULL);
	while (fgets(line, sizeof(line), file) != NULL) {
		if (strncmp(line, field, strlen(field)) == 0)
			kib = strtoull(line + strlen(field), NULL, 10);
	}
	(void)fclose(file);
	CELL_CHECK(kib > 0);
	return kib;
}

/* A process that comes and leaves so often: this program once more. */
int
visitor_main(int argc, char **argv)
{
	char error[256] = "";

	if (argc != 4)
		return 2;
	for (unsigned long visits = strtoul(argv[3], NULL, 10); visits > 0; visits--) {
		struct far_client *client = NULL;

		if (far_client_open_file(argv[2], error, sizeof(error), &client) < 0 ||
		    far_client_wait_donors(client, limit_ns(), error, sizeof(error)) < 0)
			cell_fail("visitor: %s", error);
		far_client_close(client);
	}
	return 0;
}

/* Clients of so many processes at once: UCX has trouble with several workers in one (docs/faults.md). */
static void
crowd(unsigned at_once, unsigned visits)
{
	struct rig_run *run = calloc(1, sizeof(*run));
	char self[128] = "", number[16], name[16];
	const char *argv[] = {self, "--visitor", scene.rig.client_config, number, NULL};
	pid_t pids[CROWD_AT_ONCE];

	CELL_CHECK(run != NULL);
	CELL_CHECK(at_once <= CROWD_AT_ONCE);
	CELL_CHECK(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	snprintf(number, sizeof(number), "%u", visits);
	for (unsigned i = 0; i < at_once; i++) {
		snprintf(name, sizeof(name), "visitor%u", i);
		pids[i] = rig_spawn(&scene.rig, name, argv);
	}
	for (unsigned i = 0; i < at_once; i++) {
		snprintf(name, sizeof(name), "visitor%u", i);
		rig_wait(&scene.rig, pids[i], name, CROWD_SECONDS, run);
		if (run->status != 0)
			cell_fail("a visitor ended with %d: %s", run->status, run->err);
	}
	free(run);
}

static void
crowd_run(const struct cell *cell, const struct over *over, struct outcome *outcome)
{
	uint64_t before, after;
	pid_t pid;
	(void)cell;

	stranger_begin(over, outcome);
	pid = scene.donors[VICTIM]->pid;
	/* Blocks that are stored take notes in the donor's memory, which are not the crowd's. */
	scene_stores_hold(&scene);
	scene_fault(&scene);
	/* Many at a time leave holes in the donor's heap, so the second half comes one by one. */
	crowd(CROWD_AT_ONCE, CROWD / 2 / CROWD_AT_ONCE);
	before = status_kib(pid, "RssAnon:");
	crowd(1, CROWD / 2);
	scene_fault_over(&scene);
	after = status_kib(pid, "RssAnon:");
	scene_stores_go(&scene);
	snprintf(outcome->note, sizeof(outcome->note),
		 "donor: %" PRIu64 " KiB before, %" PRIu64 " after", before, after);
	scene_leak(&scene, "KiB of the donor", after > before + RSS_KIB_MORE ? after - before : 0);
	scene_end(&scene);
}

/* ---- garbage ---- */

static int
socket_to_donor(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	CELL_CHECK(fd >= 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%.100s",
		 scene.donors[VICTIM]->address + strlen("shm:"));
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	(void)close(fd); /* its queue is full just now */
	return -1;
}

/* Random bytes; half of them behind a header that is in order. */
static void
packet_throw(int fd, struct far_rng *rng)
{
	uint8_t bytes[PACKET_BYTES];
	struct shm_frame_header header;
	size_t size_bytes = 1 + far_rng_below(rng, sizeof(bytes));

	for (size_t i = 0; i < size_bytes; i++)
		bytes[i] = (uint8_t)far_rng_below(rng, 256);
	if (size_bytes >= sizeof(header) && far_rng_below(rng, 2) == 0) {
		enum shm_frame_kind kind = (enum shm_frame_kind)(
			SHM_FRAME_HELLO + far_rng_below(rng, SHM_FRAME_KIND_END - 1));

		far_shm_frame_header_fill(&header, kind, size_bytes - sizeof(header), 0);
		memcpy(bytes, &header, sizeof(header));
	}
	(void)send(fd, bytes, size_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void
flood_run(const struct cell *cell, const struct over *over, struct outcome *outcome)
{
	int silent[FLOOD_OPEN];
	struct far_rng rng;
	unsigned open_count = 0, connected = 0;
	(void)cell;

	if (skip_unless_shm(over, outcome,
			    strcmp(over->name, "ucx") == 0
				    ? "UCX over TCP dies of malformed frames: "
				      "docs/decisions/ucx-one-sided.md"
				    : "RDMA CM takes no bytes of a stranger's but its 56"))
		return;
	stranger_begin(over, outcome);
	far_rng_init(&rng, SEED);
	scene_fault(&scene);
	for (unsigned i = 0; i < FLOOD; i++) {
		int fd = socket_to_donor();

		if (fd < 0) {
			(void)usleep(1000);
			continue;
		}
		connected++;
		for (uint64_t packets = far_rng_below(&rng, 4); packets > 0; packets--)
			packet_throw(fd, &rng);
		if (open_count < FLOOD_OPEN)
			silent[open_count++] = fd;
		else
			(void)close(fd);
	}
	scene_fault_over(&scene);
	snprintf(outcome->note, sizeof(outcome->note), "%u connections", connected);
	CELL_CHECK(connected > FLOOD / 2);
	while (open_count > 0)
		(void)close(silent[--open_count]);
	scene_end(&scene);
}

/* A link that is in order, and messages that are not. */
struct thrower {
	struct far_link_handler handler;
	struct far_link *link;
	bool up, lost, closed;
};

static void
thrower_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct thrower *thrower = (struct thrower *)handler;

	thrower->up |= event->kind == FAR_EV_CONNECTED;
	thrower->lost |= event->kind == FAR_EV_LOST;
	thrower->closed |= event->kind == FAR_EV_CLOSED;
}

static void
poll_until(struct far_transport *tp, const bool *one, const bool *other)
{
	uint64_t until_ns = limit_ns();

	while (!*one && !*other) {
		if (far_now_ns() > until_ns)
			cell_fail("a link with garbage in it goes on");
		(void)far_transport_poll(tp, 64);
	}
}

/* Returns whether the donor ended the link, as it has to. */
static bool
garbage_throw(struct far_transport *tp, struct far_rng *rng)
{
	struct thrower thrower = {.handler.event = thrower_event};
	uint8_t bytes[PACKET_BYTES];
	size_t size_bytes = 1 + far_rng_below(rng, sizeof(bytes));
	const char *address = strchr(scene.donors[VICTIM]->address, ':') + 1;
	bool ended;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)far_rng_below(rng, 256);
	CELL_CHECK(far_transport_connect(tp, address, bytes, far_rng_below(rng, 32), limit_ns(),
					 &thrower.handler, &thrower.link) == 0);
	poll_until(tp, &thrower.up, &thrower.lost);
	if (thrower.up && !thrower.lost)
		(void)far_transport_send(thrower.link, bytes, size_bytes);
	poll_until(tp, &thrower.lost, &thrower.lost);
	ended = thrower.lost;
	far_transport_disconnect(thrower.link);
	poll_until(tp, &thrower.closed, &thrower.closed);
	return ended;
}

static void
garbage_run(const struct cell *cell, const struct over *over, struct outcome *outcome)
{
	const struct far_transport_config config = {.clock = far_clock_real()};
	struct far_transport *tp;
	struct far_rng rng;
	(void)cell;

	stranger_begin(over, outcome);
	far_rng_init(&rng, SEED);
	CELL_CHECK(far_transport_open(over->name, &config, &tp) == 0);
	scene_fault(&scene);
	for (unsigned i = 0; i < GARBAGE_LINKS; i++)
		CELL_CHECK(garbage_throw(tp, &rng));
	scene_fault_over(&scene);
	far_transport_close(tp);
	scene_end(&scene);
}

/* ---- memory that shrinks ---- */

static void
shrink_run(const struct cell *cell, const struct over *over, struct outcome *outcome)
{
	struct far_flush_result stores = {.size_bytes = sizeof(stores)};
	struct far_client *client = NULL;
	char error[256] = "";
	int fd = -1;
	(void)cell;

	if (skip_unless_shm(over, outcome, "no descriptor goes to the peer"))
		return;
	stranger_begin(over, outcome);
	stage_unseal(&fd);
	if (far_client_open_file(scene.rig.client_config, error, sizeof(error), &client) < 0)
		cell_fail("client: %s", error);
	CELL_CHECK(fd >= 0);
	/* A link is there until the donor is told of the memory. */
	(void)far_client_wait_donors(client, ms_from_now(REFUSED_MS), error, sizeof(error));
	scene_fault(&scene);
	CELL_CHECK(ftruncate(fd, 0) == 0);
	for (uint64_t i = 0; i < SHRINK_PUTS; i++)
		(void)block_put(client, STORE_ID + i);
	(void)far_flush(client, ms_from_now(REFUSED_MS), &stores);
	scene_fault_over(&scene);
	stage_unseal(NULL);
	scene_leak(&scene, "blocks taken from it", stores.stored);
	far_client_close(client);
	(void)close(fd);
	scene_end(&scene);
}

/* ---- a donor at its limits ---- */

/* Nobody new is let in; those that are go on. */
static void
newcomer_is_refused(void)
{
	struct far_client *client = NULL;
	char error[256] = "";
	int rc;

	if (far_client_open_file(scene.rig.client_config, error, sizeof(error), &client) < 0)
		cell_fail("client: %s", error);
	rc = far_client_wait_donors(client, ms_from_now(REFUSED_MS), error, sizeof(error));
	snprintf(scene.outcome->note, sizeof(scene.outcome->note), "a new client was %s",
		 rc == 0 ? "let in" : "refused");
	far_client_close(client);
}

static void
limit_run(const struct cell *cell, const struct over *over, struct outcome *outcome)
{
	bool memory = cell->kind == FAULT_KILL;
	__rlimit_resource_t resource =
		memory ? RLIMIT_AS : RLIMIT_NOFILE; /* glibc's, of prlimit(2) */
	struct rlimit before, tight;
	pid_t pid;

	stranger_begin(over, outcome);
	pid = scene.donors[VICTIM]->pid;
	CELL_CHECK(prlimit(pid, resource, NULL, &before) == 0);
	tight = before;
	tight.rlim_cur = memory ? status_kib(pid, "VmSize:") * 1024 : rig_fd_count(pid);
	scene_fault(&scene);
	CELL_CHECK(prlimit(pid, resource, &tight, NULL) == 0);
	newcomer_is_refused();
	CELL_CHECK(rig_runs(pid));
	CELL_CHECK(prlimit(pid, resource, &before, NULL) == 0);
	crowd(1, 1); /* newcomers are let in again */
	scene_fault_over(&scene);
	scene_end(&scene);
}

/* More than there is: it says so and does not start. */
static void
too_large_run(const struct cell *cell, const struct over *over, struct outcome *outcome)
{
	const char *const argv[] = {
		FAR_TEST_FARPOOLD, "name=donor-c", "listen=shm:/tmp/farpool-none",
		"memory=1TiB",     "lane=64MiB",   NULL};
	struct rig_run *run = calloc(1, sizeof(*run));
	(void)cell;

	CELL_CHECK(run != NULL);
	stranger_begin(over, outcome);
	scene_fault(&scene);
	rig_run(run, WAIT_SECONDS, argv);
	scene_fault_over(&scene);
	CELL_CHECK(run->status == EXIT_FAILURE);
	CELL_CHECK(strstr(run->err, "lower 'memory:'") != NULL);
	free(run);
	scene_end(&scene);
}

const struct cell stranger_cells[] = {
	{"stranger", "crowd", "200 clients connect and leave", FAULT_STOP, STAGE_NONE, false,
	 crowd_run},
	{"stranger", "flood", "garbage at the listener", FAULT_STOP, STAGE_NONE, false, flood_run},
	{"stranger", "garbage", "in messages of 32 links", FAULT_STOP, STAGE_NONE, true,
	 garbage_run},
	{"stranger", "shrinks", "a client's memory file", FAULT_STOP, STAGE_NONE, false,
	 shrink_run},
	{"stranger", "no memory", "RLIMIT_AS of a donor", FAULT_KILL, STAGE_NONE, false, limit_run},
	{"stranger", "no descriptor", "RLIMIT_NOFILE of a donor", FAULT_STOP, STAGE_NONE, false,
	 limit_run},
	{"stranger", "no memory", "a donor of more than there is", FAULT_STOP, STAGE_NONE, false,
	 too_large_run},
};

const size_t stranger_cell_count = sizeof(stranger_cells) / sizeof(stranger_cells[0]);
