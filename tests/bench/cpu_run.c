/* cpu_run.c - one row: L1, controller and an adapter on one thread, prefetches one after the other. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/err.h"
#include "base/rng.h"
#include "tests/bench/cpu.h"
#include "tools/perf/donor.h"

#define DONOR_BYTES ((uint64_t)256 << 20)
#define CONNECT_NS  (30 * FAR_NS_PER_S)
#define PREFETCH_NS (10 * FAR_NS_PER_S)
#define POLL_BUDGET 64
#define CLOCK_TRIES 1001
#define KEYS_MAX    1024
#define STORE_ITEMS 64

struct rig {
	const struct cpu_plan *plan;
	const struct cpu_row *row;
	struct far_rng rng;
	struct far_pages pages; /* what bytes are loaded into */
	void *arena;
	size_t arena_bytes;
	struct far_recorder *recorder; /* NULL: nothing is recorded */
	struct far_l1 *l1;
	far_l1_session session;
	struct perf_donor donor;
	struct far_transport *tp; /* NULL: the adapter has none */
	struct far_mem *mem;
	struct far_l2 *adapter;
	struct far_l2_set set;
	struct far_policy policy;
	struct far_prefetch *prefetch;
	uint32_t block_count; /* that are asked for round and round */
	uint32_t next;
	uint64_t turns;
	struct far_prefetch_req req;
	struct far_key keys[KEYS_MAX];
	struct far_prefetch_view views[KEYS_MAX];
	bool ended;
};

static struct far_key
key_of(uint32_t number)
{
	uint64_t words[2] = {far_mix64(number + 1), far_mix64(~(uint64_t)number)};
	struct far_key key;

	memcpy(key.bytes, words, sizeof(key.bytes));
	return key;
}

static void
turn(struct rig *rig)
{
	uint64_t now_ns;

	if (rig->tp != NULL) {
		enum cpu_part from = cpu_part_enter(CPU_ADAPTER);

		(void)far_transport_poll(rig->tp, POLL_BUDGET);
		(void)cpu_part_enter(from);
	}
	now_ns = far_clock_now(far_clock_real());
	(void)far_l2_tick(rig->set.items[0], now_ns);
	(void)far_prefetch_tick(rig->prefetch, now_ns);
	rig->turns++;
}

/* ---- before and after ---- */

static int
arena_open(struct rig *rig)
{
	uint32_t align = rig->row->block_bytes < 4096 ? 64 : 4096;
	struct far_l1_config config = {
		.size_bytes = (uint64_t)rig->plan->l1_blocks * rig->row->block_bytes,
		.align_bytes = align,
		.block_bytes_min = rig->row->block_bytes,
		.policy = FAR_L1_LRU,
		.clock = far_clock_real(),
	};
	int rc = 0;

	if (rig->row->recorded)
		rc = far_recorder_open(4096, far_clock_real(), &rig->recorder);
	if (rc < 0)
		return rc;
	config.recorder = rig->recorder;
	rig->arena_bytes = config.size_bytes;
	if (rig->row->source == CPU_INSTANT || rig->row->source == CPU_HIT) {
		/* Nobody touches it: L1 keeps its books elsewhere. */
		rig->arena = mmap(NULL, rig->arena_bytes, PROT_NONE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (rig->arena == MAP_FAILED)
			return -ENOMEM;
	} else {
		rc = far_pages_map_shared("farpool-bench", rig->arena_bytes, FAR_PAGES_HUGE_OFF, -1,
					  &rig->pages);
		if (rc < 0)
			return rc;
		rig->arena = rig->pages.base;
	}
	config.base = rig->arena;
	rc = far_l1_open(&config, &rig->l1);
	if (rc == 0)
		rc = far_l1_session_open(rig->l1, "bench", &rig->session);
	return rc;
}

static int
transport_open(struct rig *rig, char *why)
{
	struct far_transport_config config = {.clock = far_clock_real()};
	struct far_mem_source source = {
		.base = rig->pages.base,
		.size_bytes = rig->pages.size_bytes,
		.fd = rig->pages.fd,
		.relaxed = true,
	};
	struct perf_donor_config donor = {
		.program = rig->plan->farpoold,
		.name = BENCH_DONOR_NAME,
		.over = "shm",
		.memory_bytes = DONOR_BYTES,
		.block_bytes_min = 1024,
	};
	int rc = perf_donor_start(&rig->donor, &donor);

	if (rc < 0) {
		perf_donor_last_words(&rig->donor, why, BENCH_TEXT_BYTES);
		return rc;
	}
	rc = far_transport_open("shm", &config, &rig->tp);
	if (rc == 0)
		rc = far_transport_mem_reg(rig->tp, &source, FAR_RIGHT_LOCAL, NULL, &rig->mem);
	return rc;
}

static int
adapter_open(struct rig *rig, char *why)
{
	struct far_l2_config config = {
		.type = rig->row->source == CPU_MEMORY ? "memory" : "donor",
		.name = BENCH_DONOR_NAME,
		.address = rig->donor.address,
		.capacity_bytes = 64U << 20,
	};
	struct far_l2_env env = {
		.clock = far_clock_real(),
		.rng = &rig->rng,
		.client_name = "bench",
		.connect_timeout_ns = CONNECT_NS,
		.retry_ns_min = FAR_NS_PER_MS,
		.retry_ns_max = FAR_NS_PER_S,
	};
	char error[256];
	int rc;

	if (rig->row->source == CPU_INSTANT || rig->row->source == CPU_HIT) {
		rig->adapter = cpu_instant_open(rig->row->block_bytes);
		return 0;
	}
	if (rig->row->source == CPU_DONOR) {
		rc = transport_open(rig, why);
		if (rc < 0)
			return rc;
		config.address = rig->donor.address;
		env.transports = &rig->tp;
		env.arenas = &rig->mem;
		env.transport_count = 1;
	}
	rc = far_l2_open(&config, &env, &rig->adapter, error);
	if (rc < 0)
		snprintf(why, BENCH_TEXT_BYTES, "%.190s", error);
	return rc;
}

static bool store_ended;

static void
store_done(struct far_l2_task *task)
{
	(void)task;
	store_ended = true;
}

static void
adapter_turn(struct rig *rig)
{
	if (rig->tp != NULL)
		(void)far_transport_poll(rig->tp, POLL_BUDGET);
	(void)far_l2_tick(rig->adapter, far_clock_now(far_clock_real()));
}

/* Each block begins with the first half of its key. L1 has no block yet: its arena is ours. */
static int
blocks_store(struct rig *rig)
{
	uint64_t until_ns = far_clock_now(far_clock_real()) + CONNECT_NS;
	struct far_l2_item items[STORE_ITEMS];
	struct far_l2_piece pieces[STORE_ITEMS];
	struct far_l2_status status;

	do {
		adapter_turn(rig);
		far_l2_status_get(rig->adapter, &status);
	} while (status.state != FAR_L2_UP && far_clock_now(far_clock_real()) < until_ns);
	for (uint32_t first = 0; first < rig->block_count; first += STORE_ITEMS) {
		struct far_l2_task task = {
			.kind = FAR_L2_STORE,
			.items = items,
			.count = STORE_ITEMS,
			.deadline_ns = until_ns,
			.done = store_done,
		};

		for (uint32_t i = 0; i < STORE_ITEMS; i++) {
			uint8_t *at = (uint8_t *)rig->arena + (size_t)i * rig->row->block_bytes;

			pieces[i] = (struct far_l2_piece){at, rig->row->block_bytes};
			items[i] = (struct far_l2_item){
				.key = key_of(first + i),
				.size_bytes = rig->row->block_bytes,
				.pieces = &pieces[i],
				.piece_count = 1,
			};
			memcpy(at, items[i].key.bytes, 8);
		}
		store_ended = false;
		far_l2_submit(rig->adapter, &task);
		while (!store_ended)
			adapter_turn(rig);
		for (uint32_t i = 0; i < STORE_ITEMS; i++)
			if (items[i].rc != 0 && items[i].rc != -EEXIST)
				return items[i].rc;
	}
	return 0;
}

static int
rig_open(struct rig *rig, char *why)
{
	struct far_prefetch_config config = {
		.requests_max = 16,
		.keys_max = KEYS_MAX,
		.loads_max = 1024,
		.bytes_in_flight_max = 256ULL << 20,
		.window_keys = rig->plan->window_keys,
		.windows_ahead = 4,
	};
	char error[256];
	int rc;

	far_rng_init(&rig->rng, 1);
	/* Always more than L1 holds, so that what is asked for next has left it. */
	rig->block_count =
		rig->row->source == CPU_HIT ? rig->plan->l1_blocks / 2 : rig->plan->l1_blocks * 2;
	rig->block_count -= rig->block_count % rig->plan->keys;
	rc = arena_open(rig);
	if (rc == 0)
		rc = adapter_open(rig, why);
	if (rc == 0 && (rig->row->source == CPU_MEMORY || rig->row->source == CPU_DONOR))
		rc = blocks_store(rig);
	if (rc == 0)
		rc = far_l2_set_add(&rig->set, rig->adapter);
	if (rc < 0)
		return rc;
	rc = far_policy_parse("placement,retain", &rig->policy, error);
	FAR_ASSERT(rc == 0); /* no user's text */
	rig->policy.replicas = 1;
	config.recorder = rig->recorder;
	return far_prefetch_open(&config, rig->l1, &rig->set, &rig->policy, far_clock_real(),
				 &rig->prefetch);
}

static void
adapter_close(struct rig *rig)
{
	far_l2_quiesce(rig->adapter);
	while (!far_l2_quiesced(rig->adapter))
		adapter_turn(rig);
	far_l2_close(rig->adapter);
}

static void
rig_close(struct rig *rig)
{
	far_prefetch_close(rig->prefetch);
	if (rig->adapter != NULL)
		adapter_close(rig);
	if (rig->mem != NULL)
		far_transport_mem_dereg(rig->mem);
	if (rig->tp != NULL)
		far_transport_close(rig->tp);
	perf_donor_stop(&rig->donor);
	if (rig->l1 != NULL)
		(void)far_l1_clear(rig->l1, false);
	if (rig->session != 0)
		far_l1_session_close(rig->l1, rig->session);
	far_l1_close(rig->l1);
	far_recorder_close(rig->recorder);
	if (rig->pages.base != NULL)
		far_pages_unmap(&rig->pages);
	else if (rig->arena != NULL && rig->arena != MAP_FAILED)
		munmap(rig->arena, rig->arena_bytes);
}

/* ---- one prefetch ---- */

static void
on_ended(struct far_prefetch_req *req)
{
	struct rig *rig = FAR_CONTAINER_OF(req, struct rig, req);

	rig->ended = true;
}

static void
on_advanced(struct far_prefetch_req *req, uint32_t prefix_count)
{
	(void)req;
	(void)prefix_count;
}

static void
req_prepare(struct rig *rig)
{
	uint32_t count = rig->plan->keys;

	for (uint32_t i = 0; i < count; i++)
		rig->keys[i] = key_of(rig->next + i);
	rig->next = (rig->next + count) % rig->block_count;
	memset(rig->views, 0, sizeof(rig->views[0]) * count);
	rig->req = (struct far_prefetch_req){
		.keys = rig->keys,
		.views = rig->views,
		.count = count,
		.mode = FAR_PREFETCH_LOOKUP,
		.readers = 1,
		.deadline_ns = far_clock_now(far_clock_real()) + PREFETCH_NS,
		.session = rig->session,
		.advanced = on_advanced,
		.ended = on_ended,
	};
	rig->ended = false;
}

/* The measured part: what a client's thread does from the command to the answer. */
static int
req_run(struct rig *rig)
{
	int rc = far_prefetch_submit(rig->prefetch, &rig->req);

	while (rc == 0 && !rig->ended)
		turn(rig);
	return rc;
}

static int
req_check(const struct rig *rig)
{
	if (rig->req.rc != 0 || rig->req.prefix_count != rig->req.count)
		return -EIO;
	if (rig->row->source == CPU_INSTANT || rig->row->source == CPU_HIT)
		return 0;
	for (uint32_t i = 0; i < rig->req.count; i++)
		if (memcmp(rig->views[i].addr, rig->keys[i].bytes, 8) != 0)
			return -EBADMSG;
	return 0;
}

static void
req_release(struct rig *rig)
{
	uint64_t loans[KEYS_MAX];
	int rcs[KEYS_MAX];

	for (uint32_t i = 0; i < rig->req.count; i++)
		loans[i] = rig->views[i].loan;
	(void)far_l1_finish_read(rig->l1, rig->session, loans, rig->req.count, 1, rcs);
}

/* Microseconds of both parts, the clock's own taken off. */
static int
prefetch_once(struct rig *rig, double clock_us, double *prefetch_us, double *release_us)
{
	uint64_t at[4];
	int rc;

	req_prepare(rig);
	at[0] = far_clock_thread_cpu_ns();
	rc = req_run(rig);
	at[1] = far_clock_thread_cpu_ns();
	if (rc == 0)
		rc = req_check(rig);
	if (rc < 0)
		return rc;
	at[2] = far_clock_thread_cpu_ns();
	req_release(rig);
	at[3] = far_clock_thread_cpu_ns();
	if (!rig->row->full)
		(void)far_l1_clear(rig->l1, false);
	/* What waits for the next tick of controllers and adapter, as unlocks do, is in the next one. */
	*prefetch_us = (double)(at[1] - at[0]) / 1000 - clock_us;
	*release_us = (double)(at[3] - at[2]) / 1000 - clock_us;
	return 0;
}

static double
clock_cost_us(void)
{
	static struct bench_samples samples;

	samples.count = 0;
	for (int i = 0; i < CLOCK_TRIES; i++) {
		uint64_t from = far_clock_thread_cpu_ns();
		uint64_t to = far_clock_thread_cpu_ns();

		samples.us[samples.count++] = (double)(to - from) / 1000;
	}
	return bench_quantile(&samples, 0.5);
}

/* Rounds of their own, since the stamps at the borders cost something too. Stamps are of the wall clock:
 * medians leave out where somebody else ran in between. */
static int
parts_round(struct rig *rig, struct cpu_result *out)
{
	struct far_l2 *plain = rig->set.items[0];
	int rc = 0;

	rig->set.items[0] = cpu_shim_open(plain);
	for (uint32_t i = 0; i < rig->plan->prefetch_count && rc == 0; i++) {
		req_prepare(rig);
		cpu_parts_start();
		rc = req_run(rig);
		cpu_parts_stop();
		for (int part = 0; part < CPU_PART_COUNT; part++) {
			struct bench_samples *samples = &out->parts[part];

			samples->us[samples->count++] = cpu_part_us((enum cpu_part)part);
		}
		req_release(rig);
		if (!rig->row->full)
			(void)far_l1_clear(rig->l1, false);
	}
	rig->set.items[0] = plain;
	return rc;
}

static int
round_run(struct rig *rig, struct cpu_result *out, bool counted)
{
	for (uint32_t i = 0; i < rig->plan->prefetch_count; i++) {
		double prefetch_us, release_us;
		int rc = prefetch_once(rig, out->clock_us, &prefetch_us, &release_us);

		if (rc < 0)
			return rc;
		if (!counted)
			continue;
		out->prefetch.us[out->prefetch.count++] = prefetch_us;
		out->release.us[out->release.count++] = release_us;
	}
	return 0;
}

int
cpu_row_run(const struct cpu_plan *plan, const struct cpu_row *row, struct cpu_result *out)
{
	static struct rig rig;
	int rc;

	memset(&rig, 0, sizeof(rig));
	rig.plan = plan;
	rig.row = row;
	out->clock_us = clock_cost_us();
	rc = rig_open(&rig, out->why);
	if (rc == 0)
		rc = round_run(&rig, out, false);
	rig.turns = 0;
	for (uint32_t r = 0; r < plan->round_count && rc == 0; r++)
		rc = round_run(&rig, out, true);
	out->turns = (double)rig.turns / (plan->round_count * plan->prefetch_count);
	for (uint32_t r = 0; r < plan->round_count && rc == 0; r++)
		rc = parts_round(&rig, out);
	if (rc < 0 && out->why[0] == '\0')
		snprintf(out->why, sizeof(out->why), "%s", far_err_text(rc));
	rig_close(&rig);
	return rc;
}
