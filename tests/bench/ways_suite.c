/* ways_suite.c - runs one suite: its movers opened, given turns in interleaved rounds, closed. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "farpool/farpool.h"
#include "tests/bench/process.h"
#include "tests/bench/ways.h"
#include "transport/transport.h"

#define MIB        ((uint64_t)1 << 20)
#define ROW_COUNT  BENCH_ONCE_COUNT
#define WARM_COUNT 5

static void
mover_failed(struct bench_result *result, int rc)
{
	if (result->why[0] == '\0')
		snprintf(result->why, sizeof(result->why), "%s (%d)", far_strerror(rc), rc);
}

/* One that keeps a processor busy does so in its own turns only. */
static int
mover_busy(const struct bench_result *result, struct bench_mover *mover, bool on)
{
	return result->ops->busy != NULL ? result->ops->busy(mover, on) : 0;
}

/* ---- turns; a mover that fails is out, with the reason; @round < 0 is not counted ---- */

static int
turn_pass(struct bench_result *result, struct bench_mover *mover, int size_idx, int round)
{
	struct bench_pass pass = {0};
	int rc = result->ops->pass(mover, bench_sizes[size_idx], &pass);

	if (rc == 0 && round >= 0 && pass.bytes != 0 && pass.ns != 0) {
		result->gbps[size_idx][round] = (double)pass.bytes / (double)pass.ns;
		result->cpu[size_idx][round] = (double)pass.cpu_ns / (double)pass.bytes;
		result->peer_cpu[size_idx][round] = (double)pass.peer_cpu_ns / (double)pass.bytes;
	}
	return rc;
}

static void
sample_add(struct bench_samples *samples, uint64_t ns)
{
	samples->us[samples->count++] = (double)ns / 1e3;
}

static int
turn_latency(struct bench_result *result, struct bench_mover *mover, int size_idx, int round)
{
	uint64_t size_bytes = bench_latencies[size_idx], ns;
	int rc = 0;

	if (result->ops->once == NULL)
		return 0;
	for (int i = -WARM_COUNT; i < ROW_COUNT && rc == 0; i++) {
		rc = result->ops->once(mover, size_bytes, &ns);
		if (rc == 0 && i >= 0 && round >= 0)
			sample_add(&result->row[size_idx], ns);
	}
	for (int i = 0; i < BENCH_IDLE_COUNT && rc == 0; i++) {
		far_clock_sleep_until(far_clock_now(far_clock_real()) + BENCH_IDLE_NS);
		rc = result->ops->once(mover, size_bytes, &ns);
		if (rc == 0 && round >= 0)
			sample_add(&result->idle[size_idx], ns);
	}
	return rc;
}

static int
turn_beside(struct bench_result *result, struct bench_mover *mover, int size_idx, int round)
{
	uint64_t ns[BENCH_ONCE_COUNT];
	uint32_t count = 0;
	int rc;
	(void)size_idx;

	if (result->ops->beside == NULL)
		return 0;
	rc = result->ops->beside(mover, ns, &count);
	for (uint32_t i = 0; i < count && rc == 0 && round >= 0; i++)
		sample_add(&result->beside, ns[i]);
	return rc == -E2BIG ? 0 : rc; /* the set is too small for it */
}

typedef int turn_fn(struct bench_result *result, struct bench_mover *mover, int size_idx,
		    int round);

/* A turn for each, and nobody goes first every time. */
static void
turns_give(const struct bench_table *table, struct bench_mover **open, turn_fn *turn, int size_idx,
	   int round)
{
	size_t count = table->suite->mover_count;

	for (size_t m = 0; m < count; m++) {
		size_t at = (m + (size_t)(round + 1)) % count;
		struct bench_result *result = &table->results[at];
		int rc;

		if (result->why[0] != '\0')
			continue;
		rc = mover_busy(result, open[at], true);
		if (rc == 0)
			rc = turn(result, open[at], size_idx, round);
		if (rc == 0)
			rc = mover_busy(result, open[at], false);
		if (rc < 0)
			mover_failed(result, rc);
	}
}

static void
rounds_run(const struct bench_plan *plan, const struct bench_table *table,
	   struct bench_mover **open)
{
	const struct bench_suite *suite = table->suite;

	/* The first round is thrown away: it takes the page faults and connects what is lazy. */
	for (int round = -1; round < (int)plan->round_count; round++) {
		bench_progress("%s: round %d of %u", suite->name, round + 1, plan->round_count);
		for (int s = 0; s < BENCH_SIZES; s++)
			turns_give(table, open, turn_pass, s, round);
		for (int s = 0; suite->latency && s < BENCH_LATENCIES; s++)
			turns_give(table, open, turn_latency, s, round);
		if (suite->latency)
			turns_give(table, open, turn_beside, 0, round);
	}
	bench_progress("%s", "");
}

/* ---- the suite ---- */

bool
bench_is_left_out(const struct bench_plan *plan, const struct bench_mover_ops *ops)
{
	bool none = plan->only[0] == NULL;

	for (size_t i = 0; i < BENCH_MOVERS_MAX && plan->only[i] != NULL; i++)
		if (strcmp(plan->only[i], ops->name) == 0)
			return false;
	return !none;
}

static void
movers_open(struct bench_plan *plan, const struct bench_table *table, struct bench_mover **open)
{
	for (size_t m = 0; m < table->suite->mover_count; m++) {
		struct bench_result *result = &table->results[m];
		int rc;

		result->ops = table->suite->movers[m];
		if (bench_is_left_out(plan, result->ops)) {
			snprintf(result->why, sizeof(result->why), "not asked for");
			continue;
		}
		bench_progress("%s: opening %s", table->suite->name, result->ops->name);
		rc = result->ops->open(plan, result->why, &open[m]);
		if (rc < 0)
			mover_failed(result, rc);
		else if (result->ops->note != NULL)
			snprintf(result->note, sizeof(result->note), "%s",
				 result->ops->note(open[m]));
	}
}

int
bench_suite_run(struct bench_plan *plan, struct bench_table *table)
{
	struct bench_mover *open[BENCH_MOVERS_MAX] = {NULL};
	const struct bench_suite *suite = table->suite;
	int rc = suite->available != NULL ? suite->available(table->why, sizeof(table->why)) : 0;

	if (rc < 0)
		return rc;
	table->set_bytes = plan->set_bytes;
	table->load = bench_load();
	table->results = far_zalloc_array(suite->mover_count, sizeof(*table->results));
	rc = table->results == NULL ? -ENOMEM : bench_regions_open(plan, suite->sets_needed);
	if (rc == 0) {
		if (suite->apart)
			bench_side_take(plan, BENCH_SIDE_CLIENT);
		movers_open(plan, table, open);
		rounds_run(plan, table, open);
		for (size_t m = suite->mover_count; m-- > 0;) {
			if (open[m] != NULL)
				suite->movers[m]->close(open[m]);
		}
	} else {
		snprintf(table->why, sizeof(table->why), "%s", far_strerror(rc));
	}
	for (size_t m = 0; m < suite->mover_count && rc == 0; m++)
		if (suite->movers[m]->required && table->results[m].why[0] != '\0' &&
		    !bench_is_left_out(plan, suite->movers[m]))
			rc = -EIO;
	if (suite->apart)
		bench_side_take(plan, BENCH_SIDE_BOTH);
	bench_regions_close(plan);
	return rc;
}

/* ---- the two of them ---- */

static int
tcp_available(char *why, size_t why_bytes)
{
	static const char *const here = "127.0.0.1:1";
	struct far_transport_config config = {
		.clock = far_clock_real(), .peers = &here, .peer_count = 1};
	struct far_transport *tp;
	int rc;

	if (far_transport_find("ucx") == NULL) {
		snprintf(why, why_bytes,
			 "this build has no ucx transport: install libucx-dev and configure again");
		return -ENODEV;
	}
	rc = far_transport_open("ucx", &config, &tp);
	if (rc < 0) {
		snprintf(why, why_bytes, "farpool's ucx transport does not open here: %s",
			 far_err_text(rc));
		return -ENODEV;
	}
	far_transport_close(tp);
	return 0;
}

static const struct bench_mover_ops *const shm_movers[] = {
	&bench_memcpy,    &bench_stream,   &bench_past,    &bench_prefetch,
#ifdef FAR_BENCH_UCX
	&bench_ucx_posix, &bench_ucx_sysv, &bench_ucx_all,
#endif
};

static const struct bench_mover_ops *const tcp_movers[] = {
	&bench_tcp_prefetch, &bench_raw,
#ifdef FAR_BENCH_UCX
	&bench_ucx_tcp,      &bench_ucx_tcp64,
#endif
	&bench_iperf,        &bench_perftest,
};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
_Static_assert(COUNT_OF(shm_movers) <= BENCH_MOVERS_MAX, "a result for each");
_Static_assert(COUNT_OF(tcp_movers) <= BENCH_MOVERS_MAX, "a result for each");

const struct bench_suite bench_suite_shm = {
	.name = "shm",
	.title = "prefetch over shm",
	.yardstick = "memcpy",
	.movers = shm_movers,
	.mover_count = COUNT_OF(shm_movers),
	.aim = 0.85,
	.set_bytes = 512 * MIB,
	/* Two regions, UCX's donors, L1s and the donor. */
	.sets_needed = 13,
};

const struct bench_suite bench_suite_tcp = {
	.name = "tcp",
	.title = "prefetch over ucx, TCP on loopback",
	.yardstick = "ucp_get",
	.movers = tcp_movers,
	.mover_count = COUNT_OF(tcp_movers),
	.aim = 1.00,
	.set_bytes = 256 * MIB,
	/* Two regions, two donors of UCX's and one of the transport alone, L1s and the donor. */
	.sets_needed = 17,
	.latency = true,
	.apart = true,
	.available = tcp_available,
};
