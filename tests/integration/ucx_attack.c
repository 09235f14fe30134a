/* ucx_attack.c - strangers at a donor's port: raw RMA, garbage, silence; they get no byte and cost a link. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"
#include "tests/support/fetch.h"
#include "tests/support/rig.h"
#include "tests/support/tcp_port.h"
#include "tools/cli/fill.h"

#define BLOCKS        256U /* 16 MiB: four times the L1 of the client that is honest */
#define CANARY        7U   /* the block that is looked for in the donor */
#define TARGETS       3U
#define TARGET_BYTES  16U
#define PUT_TEXT      "written by an attacker"
#define SILENT        200U
#define CROWD         100U /* get in at least, of the 200 that try */
#define RANDOM        50U
#define REGION_MAX    (1ULL << 30)
#define UNTOUCHED_HEX "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee" /* TARGET_BYTES of the attacker's own */

struct scene {
	struct rig rig;
	struct rig_donor *donor;
	struct far_client *client;
	struct rig_run run;
	char address[64]; /* of the donor, HOST:PORT */
};

static struct scene *
scene_begin(void)
{
	struct scene *scene = calloc(1, sizeof(*scene));

	assert_non_null(scene);
	rig_open(&scene->rig);
	rig_over_ucx(&scene->rig, "127.0.0.1", "127.0.0.1", far_test_tcp_port(), NULL);
	scene->donor = rig_donor_add(&scene->rig, "donor-a", "128MiB", NULL);
	snprintf(scene->address, sizeof(scene->address), "%.63s",
		 scene->donor->address + strlen("ucx:"));
	scene->client = rig_client(&scene->rig, "4MiB", "retry_max: 100ms\n");
	fetch_store(scene->client, 0, BLOCKS);
	return scene;
}

/* Every block, over the link that was there before and over one that is made now. */
static void
serves_on(struct scene *scene)
{
	struct far_stats stats = {.size_bytes = sizeof(stats)};
	struct fetch_outcome outcome = {0};
	struct far_client *other;

	assert_true(rig_runs(scene->donor->pid));
	fetch_all(scene->client, BLOCKS, 20000, &outcome);
	other = rig_client(&scene->rig, "4MiB", NULL);
	fetch_all(other, BLOCKS, 20000, &outcome);
	far_client_close(other);
	assert_int_equal(outcome.whole, 2 * BLOCKS / FETCH_BATCH);
	assert_int_equal(outcome.wrong, 0);
	far_stats_get(scene->client, &stats);
	assert_int_equal(stats.donors_lost, 0);
}

static void
scene_end(struct scene *scene)
{
	far_client_close(scene->client);
	assert_int_equal(rig_donor_signal(scene->donor, SIGTERM), 0);
	rig_close(&scene->rig);
	free(scene);
}

/* ---- another process' memory ---- */

struct target {
	const char *what;
	uint64_t addr;
	uint8_t bytes[TARGET_BYTES];
};

static void
peek(pid_t pid, uint64_t addr, void *out, size_t size_bytes)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, out, size_bytes, (off_t)addr), (ssize_t)size_bytes);
	close(fd);
}

/* Where @bytes lie in a mapping of [from, to); 0: nowhere. */
static uint64_t
region_find(pid_t pid, uint64_t from, uint64_t to, const void *bytes, size_t size_bytes)
{
	uint8_t *copy = malloc(to - from);
	const uint8_t *found;
	uint64_t addr = 0;

	assert_non_null(copy);
	peek(pid, from, copy, to - from);
	found = memmem(copy, to - from, bytes, size_bytes);
	if (found != NULL)
		addr = from + (uint64_t)(found - copy);
	free(copy);
	return addr;
}

/* A line of /proc/PID/maps. Returns whether it can be read and written. */
static bool
mapping_parse(const char *line, uint64_t *from_out, uint64_t *to_out)
{
	char *end;

	*from_out = strtoull(line, &end, 16);
	if (*end != '-')
		return false;
	*to_out = strtoull(end + 1, &end, 16);
	return strncmp(end, " rw", 3) == 0;
}

/* Where @bytes lie in what a process shares with nobody but by lending it. */
static uint64_t
lent_find(pid_t pid, const void *bytes, size_t size_bytes)
{
	char path[64], line[512];
	uint64_t addr = 0;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	maps = fopen(path, "r");
	assert_non_null(maps);
	while (addr == 0 && fgets(line, sizeof(line), maps) != NULL) {
		uint64_t from, to;

		if (mapping_parse(line, &from, &to) && to - from <= REGION_MAX &&
		    strstr(line, "memfd:farpool") != NULL)
			addr = region_find(pid, from, to, bytes, size_bytes);
	}
	fclose(maps);
	return addr;
}

static uint64_t
stack_end(pid_t pid)
{
	char path[64], line[512];
	uint64_t from, to = 0;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	maps = fopen(path, "r");
	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps) != NULL)
		if (strstr(line, "[stack]") != NULL)
			assert_true(mapping_parse(line, &from, &to));
	fclose(maps);
	return to;
}

/* A block in a segment, its key in the index, and the name of the program at the end of its stack. */
static void
targets_find(pid_t pid, struct target targets[TARGETS])
{
	uint8_t block[64];
	struct far_key key;

	far_fill_key(CANARY, FETCH_BLOCK_BYTES, &key);
	far_fill_block(&key, block, sizeof(block));
	targets[0] = (struct target){"segment", lent_find(pid, block, sizeof(block)), {0}};
	targets[1] = (struct target){"index", lent_find(pid, &key, sizeof(key)), {0}};
	targets[2] = (struct target){"stack", stack_end(pid) - 8 - TARGET_BYTES, {0}};
	for (size_t i = 0; i < TARGETS; i++) {
		if (targets[i].addr < TARGET_BYTES)
			fail_msg("the donor's %s was not found", targets[i].what);
		peek(pid, targets[i].addr, targets[i].bytes, TARGET_BYTES);
	}
	assert_memory_equal(targets[0].bytes, block, TARGET_BYTES);
}

/* ---- raw RMA ---- */

static void
attack(struct scene *scene, const char *what, const char *address, const char *manner,
       const char *text, char (*at)[32])
{
	const char *const argv[] = {
		FAR_TEST_ATTACKER, what, address, manner, text, at[0], at[1], at[2], NULL};

	rig_run(&scene->run, 60, argv);
	if (scene->run.status != 0)
		fail_msg("the attacker ended with %d: %s", scene->run.status, scene->run.err);
}

static size_t
occurrences(const char *text, const char *part)
{
	size_t count = 0;

	for (const char *at = text; (at = strstr(at, part)) != NULL; at += strlen(part))
		count++;
	return count;
}

/* Without this control the next test would pass with an attacker that cannot attack. */
static void
a_process_that_lets_ucx_do_rma_is_read_and_written_by_this_attacker(void **state)
{
	struct scene *scene = calloc(1, sizeof(*scene));
	char port[16], line[256], hex[2 * TARGET_BYTES + 1], at[TARGETS][32];
	const char *const argv[] = {FAR_TEST_ATTACKER, "victim", port, NULL};
	uint64_t addr;
	const char *secret;
	pid_t victim;
	(void)state;

	assert_non_null(scene);
	rig_open(&scene->rig);
	snprintf(port, sizeof(port), "%u", far_test_tcp_port());
	snprintf(scene->address, sizeof(scene->address), "127.0.0.1:%s", port);
	victim = rig_spawn(&scene->rig, "victim", argv);
	rig_first_line(&scene->rig, victim, "victim", line, sizeof(line));
	addr = strtoull(line, NULL, 16);
	assert_true(addr != 0);
	secret = strchr(line, ' ') + 1;
	for (size_t i = 0; i < TARGETS; i++)
		snprintf(at[i], sizeof(at[i]), "%llx", (unsigned long long)addr);
	for (size_t i = 0; i < TARGET_BYTES; i++)
		snprintf(hex + 2 * i, 3, "%02x", (unsigned char)secret[i]);
	attack(scene, "get", scene->address, "mute", "16", at);
	assert_int_equal(occurrences(scene->run.out, hex), TARGETS);
	attack(scene, "put", scene->address, "mute", PUT_TEXT, at);
	for (size_t i = 0; i < TARGET_BYTES; i++)
		snprintf(hex + 2 * i, 3, "%02x", (unsigned char)PUT_TEXT[i]);
	attack(scene, "get", scene->address, "mute", "16", at);
	assert_int_equal(occurrences(scene->run.out, hex), TARGETS);
	kill(victim, SIGKILL);
	rig_wait(&scene->rig, victim, "victim", 10, &scene->run);
	rig_close(&scene->rig);
	free(scene);
}

static void
the_same_attacker_neither_reads_nor_writes_a_byte_of_a_donor(void **state)
{
	static const char *const manners[] = {"mute", "hello"};
	struct scene *scene = scene_begin();
	struct target targets[TARGETS];
	char at[TARGETS][32];
	(void)state;

	targets_find(scene->donor->pid, targets);
	for (size_t i = 0; i < TARGETS; i++)
		snprintf(at[i], sizeof(at[i]), "%llx", (unsigned long long)targets[i].addr);
	for (size_t m = 0; m < 2; m++) {
		attack(scene, "get", scene->address, manners[m], "16", at);
		assert_int_equal(occurrences(scene->run.out, "get "), TARGETS);
		assert_int_equal(occurrences(scene->run.out, UNTOUCHED_HEX), TARGETS);
		attack(scene, "put", scene->address, manners[m], PUT_TEXT, at);
		assert_int_equal(occurrences(scene->run.out, "put "), TARGETS);
		for (size_t i = 0; i < TARGETS; i++) {
			uint8_t now[TARGET_BYTES];

			peek(scene->donor->pid, targets[i].addr, now, sizeof(now));
			assert_memory_equal(now, targets[i].bytes, sizeof(now));
		}
	}
	serves_on(scene);
	scene_end(scene);
}

/* ---- garbage ---- */

/* Reads and checks blocks, over the link that was there before, until a program has ended. */
static void
fetch_while_it_runs(struct scene *scene, pid_t pid)
{
	struct fetch_outcome outcome = {0};

	do
		fetch_all(scene->client, BLOCKS, 20000, &outcome);
	while (rig_runs(pid));
	assert_int_equal(outcome.cut, 0);
	assert_int_equal(outcome.wrong, 0);
}

static void
each_kind_of_garbage_costs_one_link_and_nobody_else_notices(void **state)
{
	struct scene *scene = scene_begin();
	const char *const argv[] = {FAR_TEST_ATTACKER, "throw", scene->address, NULL};
	pid_t pid = rig_spawn(&scene->rig, "throw", argv);
	(void)state;

	fetch_while_it_runs(scene, pid);
	rig_wait(&scene->rig, pid, "throw", 60, &scene->run);
	if (scene->run.status != 0)
		fail_msg("not all of it ended as it has to: %s%s", scene->run.out, scene->run.err);
	serves_on(scene);
	scene_end(scene);
}

/* More than may be in the middle of a handshake, each of them a UCX that is in order. */
static void
a_crowd_that_connects_and_says_nothing_leaves_again(void **state)
{
	struct scene *scene = scene_begin();
	const char *const argv[] = {FAR_TEST_ATTACKER, "crowd", scene->address, "200", "1", NULL};
	size_t fds = rig_fd_count(scene->donor->pid);
	uint64_t until_ns;
	const char *said;
	pid_t pid = rig_spawn(&scene->rig, "crowd", argv);
	(void)state;

	fetch_while_it_runs(scene, pid);
	rig_wait(&scene->rig, pid, "crowd", 60, &scene->run);
	assert_int_equal(scene->run.status, 0);
	said = strstr(scene->run.out, "crowd: ");
	assert_non_null(said);
	assert_true(strtoul(said + strlen("crowd: "), NULL, 10) >= CROWD);
	until_ns = far_now_ns() + 30 * FAR_NS_PER_S;
	while (rig_fd_count(scene->donor->pid) > fds && far_now_ns() < until_ns)
		far_clock_sleep_until(far_now_ns() + 10 * FAR_NS_PER_MS);
	assert_true(rig_fd_count(scene->donor->pid) <= fds);
	serves_on(scene);
	scene_end(scene);
}

/* ---- no UCX at all ---- */

static int
raw_connect(unsigned port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_port = htons((uint16_t)port),
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

/* The first eight bytes are a length to one of the two ports, and a magic number to the other. Bytes
 * that happen to be right there are what docs/decisions/ucx-one-sided.md warns of. */
static void
random_send(struct far_rng *rng, unsigned port)
{
	uint64_t bytes[128];
	int fd = raw_connect(port);

	for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++)
		bytes[i] = far_rng_u64(rng) | 1ULL << 62;
	(void)send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL);
	close(fd);
}

/* Says nothing, or half of what either port waits for, and stays. */
static int
silent_connect(unsigned port, bool half)
{
	static const uint64_t words[2] = {0xcafebabe12345678ULL, 0};
	int fd = raw_connect(port);

	if (half)
		(void)send(fd, words, sizeof(words[0]) + 3, MSG_NOSIGNAL);
	return fd;
}

static void
random_bytes_half_frames_and_silence_do_not_stop_a_donor(void **state)
{
	static int fds[2 * SILENT];
	struct scene *scene = scene_begin();
	size_t before = rig_fd_count(scene->donor->pid);
	struct fetch_outcome outcome = {0};
	unsigned ports[2], elsewhere;
	struct far_rng rng;
	uint64_t until_ns;
	(void)state;

	far_rng_init(&rng, 1);
	assert_int_equal(far_test_tcp_listens(scene->donor->pid, ports, 2, &elsewhere), 2);
	assert_int_equal(elsewhere, 0);
	for (size_t p = 0; p < 2; p++) {
		for (size_t i = 0; i < SILENT; i++)
			fds[p * SILENT + i] = silent_connect(ports[p], i % 2 == 1);
		for (size_t i = 0; i < RANDOM; i++)
			random_send(&rng, ports[p]);
		fetch_all(scene->client, BLOCKS, 20000, &outcome);
	}
	assert_int_equal(outcome.cut, 0);
	assert_int_equal(outcome.wrong, 0);
	/* With all of them still there. */
	serves_on(scene);
	for (size_t i = 0; i < 2 * SILENT; i++)
		close(fds[i]);
	until_ns = far_now_ns() + 30 * FAR_NS_PER_S;
	while (rig_fd_count(scene->donor->pid) > before && far_now_ns() < until_ns)
		far_clock_sleep_until(far_now_ns() + 10 * FAR_NS_PER_MS);
	assert_true(rig_fd_count(scene->donor->pid) <= before);
	serves_on(scene);
	scene_end(scene);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_process_that_lets_ucx_do_rma_is_read_and_written_by_this_attacker),
		cmocka_unit_test(the_same_attacker_neither_reads_nor_writes_a_byte_of_a_donor),
		cmocka_unit_test(each_kind_of_garbage_costs_one_link_and_nobody_else_notices),
		cmocka_unit_test(a_crowd_that_connects_and_says_nothing_leaves_again),
		cmocka_unit_test(random_bytes_half_frames_and_silence_do_not_stop_a_donor),
	};

	/* Else all of them would listen on every interface of this machine. */
	assert_int_equal(setenv("UCX_NET_DEVICES", "lo", 1), 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
