/* scene.c - two donors and a client that goes on reading and storing, whatever happens beside it. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/fault/fault.h"
#include "tests/support/tcp_port.h"
#include "wire/frame.h"

#define HOST_VARIABLE "FAR_TEST_RDMA_HOST"
#define PORT_VERBS    7600U
#define PORTS_VERBS   2000U
#define PRELOAD_TRIES 4U
#define PROBE_ID      1000000U
#define PROBES_DENSE  256U /* then there are fewer: donors shall have room for all of them */
#define PAUSES_THEN   50U
#define L1_SIZE       "8MiB"
#define DONOR_EXTRA   "block_min: 16KiB\nlane: 4MiB\n"

static void
nap(void)
{
	far_clock_sleep_until(far_now_ns() + FAR_NS_PER_MS);
}

static void
pause_do(const struct scene *scene, uint64_t times)
{
	far_clock_sleep_until(far_now_ns() + scene->over->pause_ms * times * FAR_NS_PER_MS);
}

void
process_wait_stopped(pid_t pid)
{
	uint64_t until_ns = limit_ns();
	siginfo_t info = {0};

	while (info.si_pid == 0) {
		if (waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOHANG | WNOWAIT) < 0 ||
		    far_now_ns() > until_ns)
			cell_fail("process %d does not stop", (int)pid);
		if (info.si_pid == 0)
			(void)usleep(50);
	}
}

/* ---- counting ---- */

static void
miss_note(struct scene *scene, uint64_t ended_ns)
{
	uint64_t fault_ns = atomic_load(&scene->fault_ns);

	if (fault_ns != 0 && ended_ns > fault_ns && ended_ns - fault_ns < scene->outcome->miss_ns)
		scene->outcome->miss_ns = ended_ns - fault_ns;
}

void
scene_count(struct scene *scene, const struct request *request)
{
	uint64_t wrong = request_check(request);

	(void)pthread_mutex_lock(&scene->lock);
	scene->outcome->requests++;
	scene->outcome->wrong += wrong;
	if (request->ended_ns > request->deadline_ns + scene->outcome->late_ns)
		scene->outcome->late_ns = request->ended_ns - request->deadline_ns;
	if (request->readable < REQUEST_KEYS) {
		scene->outcome->failed++;
		miss_note(scene, request->ended_ns);
		/* By its deadline on a machine that is busy, perhaps. */
		if (scene->bystander && request->gap_rc != -ETIMEDOUT && !scene->over->loses_links)
			text_add(scene->outcome->leaks, "as the reason of a bystander's miss",
				 (uint64_t)-request->gap_rc);
	}
	(void)pthread_mutex_unlock(&scene->lock);
}

void
scene_count_store(struct scene *scene, bool failed)
{
	(void)pthread_mutex_lock(&scene->lock);
	scene->outcome->requests++;
	scene->outcome->failed += failed;
	(void)pthread_mutex_unlock(&scene->lock);
}

void
scene_leak(struct scene *scene, const char *what, uint64_t count)
{
	(void)pthread_mutex_lock(&scene->lock);
	text_add(scene->outcome->leaks, what, count);
	(void)pthread_mutex_unlock(&scene->lock);
}

/* ---- the client that goes on ---- */

static void
put(struct scene *scene, uint64_t id)
{
	if (block_put(scene->observer.client, id))
		atomic_fetch_add(&scene->observer.puts, 1);
}

/* What is missing is computed anew and stored, as an engine does. */
static void
repair(struct scene *scene, const struct request *request)
{
	for (uint64_t i = request->readable; i < REQUEST_KEYS; i++)
		put(scene, request->ids[i]);
}

static void
hold_if_asked(struct observer *observer)
{
	while (atomic_load(&observer->holds_stores) && !atomic_load(&observer->stops)) {
		atomic_store(&observer->stores_held, true);
		nap();
	}
	atomic_store(&observer->stores_held, false);
}

static void *
reader_main(void *arg)
{
	struct scene *scene = arg;
	struct observer *observer = &scene->observer;

	for (uint64_t first = 0; !atomic_load(&observer->stops);
	     first = (first + REQUEST_KEYS) % PRELOADED) {
		struct request request = {0};

		(void)far_clear(observer->client, 0);
		for (uint64_t i = 0; i < REQUEST_KEYS; i++)
			request.ids[i] = first + i;
		request_start(observer->client, &request, scene->over->deadline_ms, NULL);
		request_wait(&request);
		scene_count(scene, &request);
		/* Time is no promise: a machine that is busy may be late at any time. */
		if (request.readable < REQUEST_KEYS && request.gap_rc != -ETIMEDOUT &&
		    atomic_load(&scene->fault_ns) == 0 && !scene->over->loses_links)
			cell_fail("a prefetch missed before the fault: %d", request.gap_rc);
		far_prefetch_release(request.handle);
		repair(scene, &request);
		pause_do(scene, 1);
	}
	return NULL;
}

/* Stores new blocks and reads them back from where they are. */
static bool
probe(struct scene *scene, uint64_t first)
{
	struct observer *observer = &scene->observer;
	struct request request = {0};
	bool sound;

	for (uint64_t i = 0; i < REQUEST_KEYS; i++) {
		request.ids[i] = first + i;
		put(scene, first + i);
	}
	(void)far_flush(observer->client, ms_from_now(2ULL * scene->over->deadline_ms), NULL);
	(void)far_clear(observer->client, 0);
	request_start(observer->client, &request, scene->over->deadline_ms, NULL);
	request_wait(&request);
	scene_count(scene, &request);
	/* Stored with the other donor alone, it says nothing of the one that was hit. */
	sound = request.loaded_from[VICTIM] > 0 &&
		request.loaded_from[VICTIM] + request.loaded_from[OTHER] == REQUEST_KEYS;
	/* The other stands in for one that is gone. */
	if (scene->victim_gone)
		sound = request.loaded_from[OTHER] == REQUEST_KEYS;
	far_prefetch_release(request.handle);
	return sound;
}

static void *
prober_main(void *arg)
{
	struct scene *scene = arg;
	struct observer *observer = &scene->observer;

	for (uint64_t id = PROBE_ID; !atomic_load(&observer->stops); id += REQUEST_KEYS) {
		uint64_t over_ns, begun_ns;

		hold_if_asked(observer);
		over_ns = atomic_load(&scene->over_ns);
		begun_ns = far_now_ns();
		if (probe(scene, id) && over_ns != 0 && begun_ns >= over_ns &&
		    atomic_load(&scene->sound_ns) == 0)
			atomic_store(&scene->sound_ns, far_now_ns());
		pause_do(scene, id < PROBE_ID + PROBES_DENSE * REQUEST_KEYS ? 1 : PAUSES_THEN);
	}
	return NULL;
}

/* ---- donors ---- */

uint64_t
scene_donor_value(struct scene *scene, int donor, unsigned value)
{
	struct far_donor_status status = {.size_bytes = sizeof(status)};

	if (far_donor_status_get(scene->observer.client, (size_t)donor, ms_from_now(200), &status) <
		    0 ||
	    status.donor_value_count <= value)
		return TIME_NONE;
	return status.donor_values[value];
}

static bool
value_back(struct scene *scene, int donor, unsigned value, uint64_t due)
{
	uint64_t until_ns = limit_ns();

	while (scene_donor_value(scene, donor, value) != due) {
		if (far_now_ns() > until_ns)
			return false;
		nap();
	}
	return true;
}

bool
scene_links_are_back(struct scene *scene)
{
	for (int i = 0; i < 2; i++) {
		if (scene_donor_value(scene, i, FAR_STATUS_link_count) != scene->before.links[i])
			return false;
	}
	return true;
}

pid_t
scene_spawn(struct scene *scene, const char *name, const char *const argv[],
	    struct stage_page **page_out)
{
	char path[160];
	pid_t pid;

	snprintf(path, sizeof(path), "%s/%s.stage", scene->rig.dir, name);
	*page_out = stage_page_make(path);
	CELL_CHECK(setenv(STAGE_PAGE_VARIABLE, path, 1) == 0);
	pid = rig_spawn(&scene->rig, name, argv);
	CELL_CHECK(unsetenv(STAGE_PAGE_VARIABLE) == 0);
	return pid;
}

static void
donors_add(struct scene *scene, bool staged)
{
	static const char *const names[2] = {"donor-a", "donor-b"};
	char page[160], extra[256];
	struct rig *rig = &scene->rig;

	snprintf(extra, sizeof(extra), DONOR_EXTRA "%s", scene->over->donor_extra);
	snprintf(page, sizeof(page), "%s/stage", rig->dir);
	for (int i = 0; i < 2; i++) {
		bool stages = staged && i == VICTIM;

		if (strcmp(scene->over->name, "ucx") == 0)
			rig_over_ucx(rig, "127.0.0.1", "127.0.0.1", far_test_tcp_port(), NULL);
		/* RDMA CM keeps a port that was used for a while. */
		if (strcmp(scene->over->name, "verbs") == 0)
			rig_over_verbs(rig, getenv(HOST_VARIABLE),
				       PORT_VERBS + (2U * (unsigned)getpid() + (unsigned)i) %
							    PORTS_VERBS);
		if (stages) {
			scene->page = stage_page_make(page);
			CELL_CHECK(setenv(STAGE_PAGE_VARIABLE, page, 1) == 0);
		}
		rig->program = stages ? FAR_TEST_FARPOOLD_STAGED : NULL;
		scene->donors[i] = rig_donor_add(rig, names[i], scene->over->memory, extra);
		if (stages)
			CELL_CHECK(unsetenv(STAGE_PAGE_VARIABLE) == 0);
	}
}

/* Which of the blocks the victim has. False: not all of them are with the donors. */
static bool
victims_blocks_find(struct scene *scene)
{
	uint32_t loaded = 0;

	scene->of_victim_count = 0;
	(void)far_clear(scene->observer.client, 0);
	for (uint64_t first = 0; first < PRELOADED; first += REQUEST_KEYS) {
		struct request request = {0};

		for (uint64_t i = 0; i < REQUEST_KEYS; i++)
			request.ids[i] = first + i;
		request_start(scene->observer.client, &request, rig_seconds(5) * 1000ULL, NULL);
		request_wait(&request);
		loaded += request.loaded_from[VICTIM] + request.loaded_from[OTHER];
		for (uint64_t i = 0; i < REQUEST_KEYS; i++) {
			struct far_prefetch_key key = {.size_bytes = sizeof(key)};

			(void)far_prefetch_key_get(request.handle, i, &key);
			if (key.state == FAR_KEY_LOADED && key.donor == VICTIM)
				scene->of_victim[scene->of_victim_count++] = first + i;
		}
		far_prefetch_release(request.handle);
	}
	return loaded == PRELOADED;
}

static void
preload(struct scene *scene)
{
	unsigned tries = scene->over->loses_links ? PRELOAD_TRIES : 1;
	char error[256] = "";
	bool there = false;

	for (unsigned i = 0; i < tries && !there; i++) {
		if (far_client_wait_donors(scene->observer.client, limit_ns(), error,
					   sizeof(error)) < 0)
			cell_fail("%s", error);
		(void)far_clear(scene->observer.client, 0);
		for (uint64_t id = 0; id < PRELOADED; id++)
			put(scene, id);
		CELL_CHECK(far_flush(scene->observer.client, limit_ns(), NULL) == 0);
		there = victims_blocks_find(scene);
	}
	CELL_CHECK(there);
}

void
scene_begin(struct scene *scene, const struct over *over, struct outcome *outcome, bool staged)
{
	char extra[512];

	memset(scene, 0, sizeof(*scene));
	scene->over = over;
	scene->outcome = outcome;
	outcome->miss_ns = outcome->reuse_ns = outcome->consistent_ns = TIME_NONE;
	(void)pthread_mutex_init(&scene->lock, NULL);
	rig_open(&scene->rig);
	snprintf(outcome->dir, sizeof(outcome->dir), "%s", scene->rig.dir);
	donors_add(scene, staged);
	snprintf(extra, sizeof(extra), "retry_max: 100ms\n%sstore:\n  deadline: %ums\n",
		 over->client_extra, over->deadline_ms);
	scene->observer.client = rig_client(&scene->rig, L1_SIZE, extra);
	preload(scene);
	for (int i = 0; i < 2; i++) {
		scene->before.links[i] = 1;
		CELL_CHECK(value_back(scene, i, FAR_STATUS_link_count, 1));
		CELL_CHECK(value_back(scene, i, FAR_STATUS_lanes_open, 0));
		scene->before.donor_fds[i] = rig_fd_count(scene->donors[i]->pid);
	}
	scene->before.fds = rig_fd_count(getpid());
}

void
scene_load(struct scene *scene)
{
	struct observer *observer = &scene->observer;

	CELL_CHECK(pthread_create(&observer->reader, NULL, reader_main, scene) == 0);
	CELL_CHECK(pthread_create(&observer->prober, NULL, prober_main, scene) == 0);
}

void
scene_stores_hold(struct scene *scene)
{
	uint64_t until_ns = limit_ns();

	atomic_store(&scene->observer.holds_stores, true);
	while (!atomic_load(&scene->observer.stores_held)) {
		CELL_CHECK(far_now_ns() < until_ns);
		nap();
	}
}

void
scene_stores_go(struct scene *scene)
{
	atomic_store(&scene->observer.holds_stores, false);
}

void
scene_fault(struct scene *scene)
{
	atomic_store(&scene->fault_ns, far_now_ns());
	scene->outcome->reached = true;
}

void
scene_fault_over(struct scene *scene)
{
	atomic_store(&scene->over_ns, far_now_ns());
}

/* ---- the end ---- */

static void
sound_wait(struct scene *scene)
{
	uint64_t until_ns = limit_ns();

	while (atomic_load(&scene->sound_ns) == 0) {
		if (far_now_ns() > until_ns)
			cell_fail("no store can be read back %u s after the fault was over",
				  rig_seconds(WAIT_SECONDS));
		nap();
	}
	scene->outcome->consistent_ns =
		atomic_load(&scene->sound_ns) - atomic_load(&scene->fault_ns);
}

/* What they are, for whoever looks for the leak. */
static void
fds_show(pid_t pid)
{
	char path[64], target[256];

	for (int fd = 0; fd < 1024; fd++) {
		ssize_t length;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
		length = readlink(path, target, sizeof(target) - 1);
		if (length > 0)
			fprintf(stderr, "%d: %.*s\n", fd, (int)length, target);
	}
}

/* More than before: a leak. Connections of a network come and go late. */
static void
fds_check(struct scene *scene, const char *what, pid_t pid, size_t before)
{
	uint64_t until_ns = ms_from_now(rig_seconds(3) * 1000ULL);
	size_t now;

	do {
		now = rig_fd_count(pid);
		if (now <= before)
			return;
		nap();
	} while (far_now_ns() < until_ns);
	fds_show(pid);
	scene_leak(scene, what, now - before);
}

static void
donor_check(struct scene *scene, int i)
{
	if (i == VICTIM && scene->victim_gone)
		return;
	if (!value_back(scene, i, FAR_STATUS_lanes_open, 0))
		scene_leak(scene, "lanes open", scene_donor_value(scene, i, FAR_STATUS_lanes_open));
	if (!value_back(scene, i, FAR_STATUS_link_count, scene->before.links[i]))
		scene_leak(scene, "links", scene_donor_value(scene, i, FAR_STATUS_link_count));
	fds_check(scene, "descriptors of the donor", scene->donors[i]->pid,
		  scene->before.donor_fds[i]);
}

void
scene_end(struct scene *scene)
{
	struct observer *observer = &scene->observer;

	sound_wait(scene);
	atomic_store(&observer->stops, true);
	(void)pthread_join(observer->reader, NULL);
	(void)pthread_join(observer->prober, NULL);
	client_leaks(observer->client, atomic_load(&observer->puts), scene->outcome->leaks);
	for (int i = 0; i < 2; i++)
		donor_check(scene, i);
	fds_check(scene, "descriptors", getpid(), scene->before.fds);
	far_client_close(observer->client);
	for (int i = 0; i < 2; i++) {
		if (scene->donors[i]->pid != 0 && rig_donor_signal(scene->donors[i], SIGTERM) != 0)
			scene_leak(scene, "donors that do not end well", 1);
	}
	/* The folder with what they said is the parent's to show, and to remove. */
	(void)pthread_mutex_destroy(&scene->lock);
	scene->outcome->whole = true;
}
