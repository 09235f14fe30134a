/* verbs_death.c - how long ops wait for a peer that is gone: not longer than was configured. */
#include "tests/support/log_capture.h"
#include "tests/unit/transport/verbs_peer.h"
#include "transport/verbs/verbs_priv.h"

#define CABLE_VARIABLE "FAR_TEST_RDMA_CABLE"
#define NET_GOOD       "delay 2ms"
#define NET_NONE       "loss 100%"
#define LIST_OPS       16U
#define LISTS          4U /* at a time */
#define LISTS_BEFORE   8U
/* Of a machine that does other things as well. */
#define SLACK_NS (10 * FAR_NS_PER_S)

static void
network(const char *netem)
{
	char line[256];

	(void)snprintf(line, sizeof(line), "tc qdisc replace dev %s root netem %s limit 20000",
		       getenv(CABLE_VARIABLE), netem);
	if (system(line) != 0)
		fail_msg("%s does not work", line);
}

static void
donor_start(void *arg, const char *address)
{
	struct verbs_peer *peer = arg;
	uint64_t until_ns = far_clock_now(far_clock_real()) + 30 * FAR_NS_PER_S;

	(void)snprintf(peer->shared->address, sizeof(peer->shared->address), "%s", address);
	verbs_peer_start(peer);
	while (atomic_load(&peer->shared->listening) == 0) {
		if (atomic_load(&peer->shared->failed) != 0)
			fail_msg("the donor gave up in line %d", peer->shared->failed);
		if (far_clock_now(far_clock_real()) > until_ns)
			fail_msg("the donor never listens");
		(void)usleep(200);
	}
}

/* READs of the donor's memory, always more of them than can have been answered. */
static unsigned
lists_post(struct verbs_world *w, unsigned posted)
{
	const uint32_t op_bytes = VERBS_WORLD_BYTES / LIST_OPS;
	struct far_piece pieces[LIST_OPS];
	struct far_op ops[LIST_OPS];

	for (uint32_t i = 0; i < LIST_OPS; i++) {
		pieces[i] =
			(struct far_piece){(uint8_t *)w->local.pages.base + (size_t)i * op_bytes,
					   op_bytes, w->local.mem};
		ops[i] = (struct far_op){.kind = FAR_OP_READ,
					 .remote_addr = w->c.remote.addr + i * op_bytes,
					 .rkey = w->c.remote.rkey,
					 .pieces = &pieces[i],
					 .piece_count = 1};
	}
	ops[LIST_OPS - 1].token = 1;
	for (; w->c.lost == 0 && w->c.link->up && posted - w->c.dones < LISTS; posted++)
		assert_int_equal(far_transport_post(w->c.link, ops, LIST_OPS), 0);
	return posted;
}

/* What the transport says of itself: the device gives up, or else we do, and it lets go. */
static uint64_t
bound_ns(const struct verbs_world *w)
{
	return VERBS_TP(w->client)->stuck_ns + VERBS_STUCK_MORE_NS + VERBS_DRAIN_NS;
}

enum death { DEATH_KILLED, DEATH_CUT };

static void
dies(enum death death, const char *name, const struct far_rdma_options *rdma)
{
	struct verbs_world w = {.config.rdma = *rdma};
	const struct verbs_transport *tp;
	struct verbs_peer peer;
	uint64_t begin_ns, took_ns, device_ns;
	unsigned posted = 0;

	far_log_capture_start();
	far_log_capture_expect(" lost: its device says nothing");
	network(NET_GOOD);
	verbs_peer_open(&peer, VERBS_PEER_DONOR);
	verbs_world_join(&w, donor_start, &peer);
	verbs_world_wait(&w, (posted = lists_post(&w, posted), w.c.dones >= LISTS_BEFORE));
	begin_ns = far_clock_now(far_clock_real());
	if (death == DEATH_CUT)
		network(NET_NONE);
	else
		verbs_peer_close(&peer, SIGKILL);
	verbs_world_wait(&w, (posted = lists_post(&w, posted), w.c.lost == 1));
	assert_int_equal(w.c.dones, posted); /* the end of the link is told last */
	took_ns = far_clock_now(far_clock_real()) - begin_ns;
	tp = VERBS_TP(w.client);
	device_ns = (VERBS_ACK_UNIT_NS << tp->ack_timeout) * (tp->retries + 1U);
	print_message("note: %s: the last of %u lists ends after %.0f ms (%u tries of %.0f ms are "
		      "%.0f ms; the bound is %.0f ms)%s\n",
		      name, posted, (double)took_ns / 1e6, tp->retries + 1U,
		      (double)(VERBS_ACK_UNIT_NS << tp->ack_timeout) / 1e6, (double)device_ns / 1e6,
		      (double)bound_ns(&w) / 1e6,
		      far_log_capture_count(" lost: its device says nothing") > 0
			      ? "; the device forgot"
			      : "");
	assert_true(took_ns <= bound_ns(&w) + SLACK_NS);
	assert_true(w.c.done_status < 0);
	assert_true(w.c.lost_status < 0);
	if (death == DEATH_CUT) {
		network(NET_GOOD);
		verbs_peer_close(&peer, SIGKILL);
	}
	verbs_world_close(&w);
	far_log_capture_finish();
}

static const struct far_rdma_options usual;
static const struct far_rdma_options brief = {.ack_timeout_ns = 30 * FAR_NS_PER_MS, .retries = 2};

static void
a_peer_that_is_killed_ends_every_op_within_the_bound(void **state)
{
	(void)state;
	dies(DEATH_KILLED, "killed", &usual);
	dies(DEATH_KILLED, "killed, fewer and shorter tries", &brief);
}

static void
a_cable_that_is_cut_ends_every_op_within_the_bound(void **state)
{
	(void)state;
	dies(DEATH_CUT, "cut off", &usual);
	dies(DEATH_CUT, "cut off, fewer and shorter tries", &brief);
}

/* An argument is a pattern of names of tests. */
int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_peer_that_is_killed_ends_every_op_within_the_bound),
		cmocka_unit_test(a_cable_that_is_cut_ends_every_op_within_the_bound),
	};

	verbs_peer_main(argc, argv);
	if (!verbs_world_is_possible())
		return 77;
	if (getenv(CABLE_VARIABLE) == NULL) {
		printf("skipped: " CABLE_VARIABLE " names no network device\n");
		return 77;
	}
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	if (far_verbs_lib_load() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
