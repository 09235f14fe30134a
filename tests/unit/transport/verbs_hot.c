/* verbs_hot.c - what a block costs on the way: no system call, no allocation; and READs in flight. */
#include "base/alloc.h"
#include "tests/support/log_capture.h"
#include "tests/support/syscalls.h"
#include "tests/unit/transport/verbs_seam.h"

#define CABLE_VARIABLE "FAR_TEST_RDMA_CABLE"
#define LIST_OPS       64U
#define ROUNDS         100U
#define POLLS_BLIND    32U /* between two looks at descriptors: poll.c */

/* ---- allocations of the whole process, the device's library included ---- */

static volatile unsigned long mallocs; /* volatile: compilers know what malloc does */

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
#define COUNTS_MALLOCS true
#define EXPORTED       __attribute__((visibility("default"))) /* to the libraries as well */

/* The C library's own, under its other names. */
void *__libc_malloc(size_t size_bytes);
void *__libc_calloc(size_t count, size_t item_bytes);
void *__libc_realloc(void *old, size_t size_bytes);

EXPORTED void *
malloc(size_t size_bytes)
{
	mallocs++;
	return __libc_malloc(size_bytes);
}

EXPORTED void *
calloc(size_t count, size_t item_bytes)
{
	mallocs++;
	return __libc_calloc(count, item_bytes);
}

EXPORTED void *
realloc(void *old, size_t size_bytes)
{
	mallocs++;
	return __libc_realloc(old, size_bytes);
}
#else
#define COUNTS_MALLOCS false /* they are the sanitizer's */
#endif

/* ---- lists ---- */

static void
list_fill(struct verbs_world *w, struct far_op *ops, struct far_piece *pieces, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		ops[i] = verbs_world_op(w, FAR_OP_READ, &pieces[i], &w->region, (size_t)i * 64, 64);
	ops[count - 1].token = 1;
}

/* What @rounds lists of so many blocks cost; the device's own part is told apart at the seam. */
struct cost {
	uint64_t post_syscalls; /* ours */
	uint64_t poll_syscalls;
	uint64_t polls;
	uint64_t device_syscalls;
	unsigned doorbells;
	unsigned completions;
	unsigned long mallocs;
};

/* Asks first, and waits outside of what is counted. */
static void
list_count(struct verbs_world *w, const struct far_op *ops, uint32_t count, struct cost *cost)
{
	unsigned dones = w->c.dones;
	uint64_t syscalls = syscalls_count();
	unsigned long before = mallocs;
	int rc;

	memset(&verbs_seam, 0, sizeof(verbs_seam));
	far_alloc_lock();
	rc = far_transport_post(w->c.link, ops, (int)count);
	far_alloc_unlock();
	cost->post_syscalls += syscalls_count() - syscalls - verbs_seam.syscalls;
	cost->device_syscalls += verbs_seam.syscalls;
	cost->mallocs += mallocs - before;
	assert_int_equal(rc, 0);
	while (w->c.dones == dones) {
		(void)usleep(500);
		verbs_seam.syscalls = 0;
		syscalls = syscalls_count();
		before = mallocs;
		far_alloc_lock();
		(void)far_transport_poll(w->client, 16);
		far_alloc_unlock();
		cost->poll_syscalls += syscalls_count() - syscalls - verbs_seam.syscalls;
		cost->device_syscalls += verbs_seam.syscalls;
		cost->mallocs += mallocs - before;
		cost->polls++;
	}
	cost->doorbells += verbs_seam.doorbells;
	cost->completions += verbs_seam.completions;
	assert_int_equal(verbs_seam.wrs, count);
	assert_int_equal(w->c.done_status, 0);
}

static struct cost
rounds_count(struct verbs_world *w, uint32_t count)
{
	struct far_piece pieces[LIST_OPS];
	struct far_op ops[LIST_OPS];
	struct cost cost = {0};

	list_fill(w, ops, pieces, count);
	for (uint32_t round = 0; round < ROUNDS; round++)
		list_count(w, ops, count, &cost);
	return cost;
}

/* Not one of ours for a list, and what a poll costs now and then is not for blocks. A doorbell is the
 * device's: soft-RoCE needs a system call for it, hardware none. */
static void
cost_is_a_lists(const struct cost *cost)
{
	assert_int_equal(cost->post_syscalls, 0);
	assert_true(cost->poll_syscalls <= cost->polls / POLLS_BLIND + 1);
	assert_int_equal(cost->doorbells, ROUNDS);
	assert_int_equal(cost->completions, ROUNDS);
	assert_int_equal(cost->mallocs, 0);
	assert_true(cost->device_syscalls <= cost->doorbells);
}

static void
blocks_cost_no_system_call_and_no_allocation(void **state)
{
	struct cost one, many;
	struct verbs_world w;
	unsigned long before;
	uint64_t syscalls;
	(void)state;

	verbs_seam_begin(&w);
	before = mallocs;
	far_free(far_zalloc(1));
	assert_true(mallocs > before || !COUNTS_MALLOCS);
	verbs_seam_settle(&w);
	assert_int_equal(syscalls_begin(), 0);
	syscalls = syscalls_count();
	(void)getppid();
	assert_int_equal(syscalls_count() - syscalls, 1);
	one = rounds_count(&w, 1);
	many = rounds_count(&w, LIST_OPS);
	syscalls_end();
	cost_is_a_lists(&one);
	cost_is_a_lists(&many);
	print_message("note: %u lists of %u READs: %u doorbells, %u completions, %lu system calls "
		      "of ours in %lu polls, %lu of the device's library, %lu allocations\n",
		      ROUNDS, LIST_OPS, many.doorbells, many.completions,
		      (unsigned long)(many.post_syscalls + many.poll_syscalls),
		      (unsigned long)many.polls, (unsigned long)many.device_syscalls, many.mallocs);
	verbs_seam_end(&w);
}

/* ---- READs in flight: what is on the wire when no answer comes back ---- */

#define SLOW_MS      1500U
#define QUIET_MS     300U
#define FLIGHT_TRIES 5

static void
network(const char *netem)
{
	char line[256];

	(void)snprintf(line, sizeof(line), "tc qdisc replace dev %s root netem %s limit 20000",
		       getenv(CABLE_VARIABLE), netem);
	if (system(line) != 0)
		fail_msg("%s does not work", line);
}

/* Packets that the client's device has sent. */
static uint64_t
packets_sent(const struct verbs_world *w)
{
	const struct verbs_device *device = VERBS_LINK(w->c.link)->device;
	char path[256], text[32] = "";
	FILE *file;

	(void)snprintf(path, sizeof(path), "/sys/class/infiniband/%s/ports/1/hw_counters/sent_pkts",
		       verbs_seam_real->ibv_get_device_name(device->handle));
	file = fopen(path, "r");
	if (file == NULL)
		fail_msg("no %s", path);
	assert_non_null(fgets(text, sizeof(text), file));
	(void)fclose(file);
	return strtoull(text, NULL, 10);
}

static void
step_for(struct verbs_world *w, uint64_t ms)
{
	uint64_t until_ns = far_clock_now(far_clock_real()) + ms * FAR_NS_PER_MS;

	while (far_clock_now(far_clock_real()) < until_ns)
		verbs_world_step(w, FAR_TIME_NEVER, "silence");
}

/* Returns how many requests went out before the first answer; 0: an answer came too early to say. */
static uint64_t
flight_count(struct verbs_world *w, const struct far_op *ops, uint32_t count, uint32_t reads_max)
{
	uint64_t before = packets_sent(w), begin_ns = far_clock_now(far_clock_real());
	unsigned dones = w->c.dones;
	uint64_t sent;
	bool in_time;

	memset(&verbs_seam, 0, sizeof(verbs_seam));
	assert_int_equal(far_transport_post(w->c.link, ops, (int)count), 0);
	assert_int_equal(verbs_seam.wrs, count); /* the device has them all */
	verbs_world_wait(w, packets_sent(w) - before >= reads_max);
	step_for(w, QUIET_MS);
	sent = packets_sent(w) - before;
	in_time = far_clock_now(far_clock_real()) - begin_ns < SLOW_MS * FAR_NS_PER_MS;
	assert_true(!in_time || w->c.dones == dones);
	verbs_world_wait(w, w->c.dones > dones);
	return in_time ? sent : 0;
}

/* A READ is one packet, and its answer takes so long that all that may be in flight are. */
static void
flight_is(int served, uint32_t reads_max, uint32_t count)
{
	struct far_piece pieces[VERBS_SQ_DEPTH];
	struct far_op ops[VERBS_SQ_DEPTH];
	struct verbs_world w = {.config.rdma.ack_timeout_ns = 4 * FAR_NS_PER_S};
	uint64_t in_flight = 0;

	memset(&verbs_seam, 0, sizeof(verbs_seam));
	verbs_seam.served = served;
	far_log_capture_start();
	assert_int_equal(verbs_world_begin(&w), 0);
	reads_max = reads_max != 0 ? reads_max : verbs_seam.reads_max[0];
	assert_int_equal(verbs_seam.reads_max[0], reads_max);
	verbs_seam_settle(&w);
	list_fill(&w, ops, pieces, count);
	assert_true(reads_max < count);
	for (int i = 0; i < FLIGHT_TRIES && in_flight == 0; i++) {
		network("delay 1500ms");
		in_flight = flight_count(&w, ops, count, reads_max);
		network("delay 2ms");
	}
	print_message("note: %lu READs in flight of %u posted, %u were negotiated\n",
		      (unsigned long)in_flight, count, reads_max);
	assert_int_equal(in_flight, reads_max);
	assert_int_equal(w.c.done_status, 0);
	verbs_seam_end(&w);
}

static void
reads_in_flight_are_as_many_as_were_negotiated(void **state)
{
	(void)state;
	if (getenv(CABLE_VARIABLE) == NULL) {
		print_message("skipped: " CABLE_VARIABLE " names no network device\n");
		skip();
	}
	flight_is(0, 0, VERBS_SQ_DEPTH - VERBS_SQ_FRAMES);
	flight_is(8, 8, 16); /* soft-RoCE takes the next power of two for any other number */
}

/* An argument is a pattern of names of tests. */
int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_cost_no_system_call_and_no_allocation),
		cmocka_unit_test(reads_in_flight_are_as_many_as_were_negotiated),
	};

	if (!verbs_world_is_possible())
		return 77;
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	if (verbs_seam_install() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
