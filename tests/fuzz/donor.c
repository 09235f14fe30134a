/* donor.c - any bytes as a hostile donor: its index, its segments, its frames; the adapter believes nothing. */
#include "tests/fuzz/donor_world.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/alloc.h"
#include "base/checksum.h"
#include "base/log.h"
#include "l2/l2.h"
#include "tests/fuzz/input.h"
#include "transport/loop/loop.h"
#include "wire/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

struct world world;

/* ---- time ---- */

static void
pass(uint64_t ns)
{
	uint64_t until_ns = far_clock_now(world.clock) + ns;
	bool more;

	do {
		uint64_t next_ns;

		while (far_transport_poll(world.donor_tp, 64) > 0)
			;
		while (far_transport_poll(world.tp, 64) > 0)
			hostile_epoch_look();
		next_ns = far_l2_tick(world.l2, far_clock_now(world.clock));
		if (next_ns > until_ns)
			next_ns = until_ns;
		more = far_loop_step(world.fabric, next_ns) || next_ns < until_ns;
	} while (more);
}

/* ---- steps ---- */

enum step {
	STEP_PASS,
	STEP_LOOKUP,
	STEP_LOAD,
	STEP_STORE,
	STEP_DELETE,
	STEP_CANCEL,
	STEP_LIST,
	STEP_STATS,
	STEP_HEADER,
	STEP_LIVE,
	STEP_LINE,
	STEP_SLOT,
	STEP_POKE,
	STEP_MODE,
	STEP_WELCOME,
	STEP_GRANT,
	STEP_FULL,
	STEP_RECALL,
	STEP_COMMITTED,
	STEP_DELETED,
	STEP_SEGMENT_RECALL,
	STEP_STATUS,
	STEP_REFUSED,
	STEP_BYE,
	STEP_BYTES,
	STEP_DISCONNECT,
	STEP_PAUSE,
	STEP_CUT,
	STEP_NO_MEMORY,
	STEP_COUNT,
};

static void
bytes_say(uint8_t a, uint8_t b)
{
	static uint64_t bytes[64];
	struct far_frame_head head = {.type = a & 0x7f, .tag = world.tags[FAR_FRAME_COMMIT]};
	size_t size_bytes = input_take(&world.in, bytes, 16 + b);

	if (size_bytes >= sizeof(head) && a >> 7 == 0) {
		head.size_bytes = (uint32_t)size_bytes;
		memcpy(bytes, &head, sizeof(head));
	}
	hostile_send(bytes, size_bytes);
}

static void
step_of_client(enum step step, uint8_t a, uint8_t b)
{
	static const uint64_t times[] = {
		2 * FAR_NS_PER_US,  10 * FAR_NS_PER_US, 200 * FAR_NS_PER_US, 2 * FAR_NS_PER_MS,
		12 * FAR_NS_PER_MS, 60 * FAR_NS_PER_MS, 150 * FAR_NS_PER_MS, 700 * FAR_NS_PER_MS};

	switch (step) {
	case STEP_PASS:
		pass(times[a % 8]);
		break;
	case STEP_LOOKUP:
		hostile_task_submit(FAR_L2_LOOKUP, a, b);
		break;
	case STEP_LOAD:
		hostile_task_submit(FAR_L2_LOAD, a, b);
		break;
	case STEP_STORE:
		hostile_task_submit(FAR_L2_STORE, a, b);
		break;
	case STEP_DELETE:
		hostile_task_submit(FAR_L2_DELETE, a, b);
		break;
	case STEP_CANCEL:
		if (world.ops[a % TASKS_MAX].live)
			far_l2_cancel(world.l2, &world.ops[a % TASKS_MAX].task);
		break;
	case STEP_LIST:
		hostile_list_submit(a);
		break;
	case STEP_STATS:
		hostile_stats_submit(a);
		break;
	case STEP_NO_MEMORY:
		far_alloc_fail_nth(1 + (a & 7U));
		(void)far_transport_poll(world.tp, 64);
		(void)far_l2_tick(world.l2, far_clock_now(world.clock));
		far_alloc_fail_nth(0);
		break;
	default:
		break;
	}
}

static void
step_of_memory(enum step step, uint8_t a, uint8_t b)
{
	switch (step) {
	case STEP_HEADER:
		hostile_header_write(a, a != 0 ? input_edge(&world.in) : 0, (b & 1) == 0);
		break;
	case STEP_LIVE:
		hostile_live_write((a & 1) == 0 ? EPOCH : EPOCH + a, (b & 1) == 0);
		break;
	case STEP_LINE:
		hostile_line_write(a, b, b % 8 > 0 && b % 8 < 4 ? input_edge(&world.in) : 0);
		break;
	case STEP_SLOT:
		hostile_slot_write(a, b, b % 8 > 0 && b % 8 < 4 ? input_edge(&world.in) : 0);
		break;
	case STEP_POKE:
		for (uint32_t i = 0; i <= a % 4; i++)
			hostile_memory_poke();
		break;
	default:
		return;
	}
	hostile_index_look();
}

static void
step_of_donor(enum step step, uint8_t a, uint8_t b)
{
	struct far_frame_lane lane = {.serial = world.generation - b % 4};
	struct far_frame_segment segment = {.segment = SEGMENT + b % 4};
	struct far_frame_refused refused = {.rc = -(int32_t)b};
	uint32_t changes = a & 3;

	switch (step) {
	case STEP_MODE:
		world.deaf = (a & 1) != 0;
		world.closed = (a & 2) != 0;
		break;
	case STEP_WELCOME:
		hostile_welcome_say(changes);
		break;
	case STEP_GRANT:
		hostile_grant_say(changes);
		break;
	case STEP_FULL:
		hostile_say(FAR_FRAME_LANE_FULL, world.tags[FAR_FRAME_LANE_ASK], NULL, 0, NULL, 0,
			    changes);
		break;
	case STEP_RECALL:
		hostile_say(FAR_FRAME_LANE_RECALL, 0, &lane, sizeof(lane), NULL, 0, changes);
		break;
	case STEP_COMMITTED:
		hostile_committed_say(b, changes);
		break;
	case STEP_DELETED:
		hostile_deleted_say(b, changes);
		break;
	case STEP_SEGMENT_RECALL:
		hostile_say(FAR_FRAME_SEGMENT_RECALL, 0, &segment, sizeof(segment), NULL, 0,
			    changes);
		break;
	case STEP_STATUS:
		hostile_status_say(b, changes);
		break;
	case STEP_REFUSED:
		memset(refused.reason, a, sizeof(refused.reason) - 1);
		hostile_say(FAR_FRAME_REFUSED, 0, &refused, sizeof(refused), NULL, 0, changes);
		break;
	case STEP_BYE:
		hostile_say(FAR_FRAME_BYE, 0, NULL, 0, NULL, 0, 0);
		break;
	case STEP_BYTES:
		bytes_say(a, b);
		break;
	case STEP_DISCONNECT:
		hostile_donor_disconnect();
		break;
	case STEP_PAUSE:
		far_loop_host_pause(world.fabric, "fake", (a & 1) != 0);
		break;
	case STEP_CUT:
		far_loop_partition(world.fabric, "fake", "client", (a & 1) != 0);
		break;
	default:
		break;
	}
}

static void
step_run(void)
{
	uint8_t what = input_u8(&world.in);
	enum step step = (enum step)((what & 0x7f) % STEP_COUNT);
	uint8_t a = input_u8(&world.in), b = input_u8(&world.in);

	step_of_client(step, a, b);
	step_of_memory(step, a, b);
	step_of_donor(step, a, b);
	/* The top bit: the next step comes before this one has had its effect. */
	if (what >> 7 == 0)
		pass(SETTLE_NS);
}

/* ---- the world ---- */

static void
donor_open(void)
{
	struct far_transport_config config = {
		.clock = world.clock, .fabric = world.fabric, .host = "fake", .message_credits = 2};
	struct far_mem_source source = {.size_bytes = INDEX_BYTES, .fd = -1};

	FAR_ASSERT(far_transport_open("loop", &config, &world.donor_tp) == 0);
	world.handler.event = hostile_donor_event;
	world.index = far_zalloc_aligned(64, INDEX_BYTES);
	world.segment = far_zalloc_aligned(64, SEGMENT_BYTES);
	source.base = world.index;
	FAR_ASSERT(far_transport_mem_reg(world.donor_tp, &source, FAR_RIGHT_REMOTE_READ, NULL,
					 &world.index_mem) == 0);
	source.base = world.segment;
	source.size_bytes = SEGMENT_BYTES;
	FAR_ASSERT(far_transport_mem_reg(world.donor_tp, &source, FAR_RIGHT_REMOTE_READ, NULL,
					 &world.segment_mem) == 0);
	/* The second half, so that what is stored does not change what is read. */
	source.base = world.segment + LANE_BYTES;
	source.size_bytes = LANE_BYTES;
	FAR_ASSERT(far_transport_mem_reg(world.donor_tp, &source, FAR_RIGHT_REMOTE_WRITE, NULL,
					 &world.lane_mem) == 0);
	hostile_header_write(0, 0, true);
	hostile_live_write(EPOCH, true);
	hostile_line_write(1, 0, 0);
	FAR_ASSERT(far_transport_listen(world.donor_tp, "fake", hostile_donor_accept, NULL,
					&world.listener) == 0);
}

static void
client_open(void)
{
	struct far_transport_config config = {.clock = world.clock,
					      .fabric = world.fabric,
					      .host = "client",
					      .message_credits = 2};
	struct far_mem_source source = {.size_bytes = ARENA_BYTES, .fd = -1};
	struct far_l2_config l2 = {.type = "donor", .name = "fake", .address = "loop:fake"};
	struct far_l2_env env = {
		.clock = world.clock,
		.rng = &world.rng,
		.transports = &world.tp,
		.arenas = &world.arena_mem,
		.transport_count = 1,
		.client_name = "fuzz",
		.connect_timeout_ns = 10 * FAR_NS_PER_MS,
		.retry_ns_min = 3 * FAR_NS_PER_MS,
		.retry_ns_max = 400 * FAR_NS_PER_MS,
		.verify_always = world.verify,
	};
	char error[256];

	FAR_ASSERT(far_transport_open("loop", &config, &world.tp) == 0);
	world.arena = far_zalloc_aligned(64, ARENA_BYTES);
	source.base = world.arena;
	FAR_ASSERT(far_transport_mem_reg(world.tp, &source, FAR_RIGHT_LOCAL, NULL,
					 &world.arena_mem) == 0);
	FAR_ASSERT(far_l2_open(&l2, &env, &world.l2, error) == 0);
}

static void
world_open(void)
{
	uint8_t how = input_u8(&world.in);
	struct far_loop_config fabric = {
		.seed = how,
		.latency_ns_min = FAR_NS_PER_US,
		.latency_ns_max = 3 * FAR_NS_PER_US,
		.reorder = (how & 1) != 0,
		.reexecute = (how & 2) != 0 ? 8000 : 0,
		.drop_link = (how & 4) != 0 ? 1000 : 0,
	};

	world.verify = (how & 8) != 0;
	FAR_ASSERT(far_loop_fabric_open(&fabric, &world.fabric) == 0);
	world.clock = far_loop_clock(world.fabric);
	far_rng_init(&world.rng, how);
	far_loop_landing_set(world.fabric, hostile_landing, NULL);
	donor_open();
	client_open();
	pass(SETTLE_NS);
	pass(SETTLE_NS);
}

/* However the donor goes on, or does not, the client comes to an end. */
static void
world_close(void)
{
	far_l2_quiesce(world.l2);
	for (uint64_t ns = 0; ns < CLOSE_NS && !far_l2_quiesced(world.l2); ns += FAR_NS_PER_S / 2)
		pass(FAR_NS_PER_S / 2);
	FAR_ASSERT(far_l2_quiesced(world.l2));
	for (uint32_t o = 0; o < TASKS_MAX; o++)
		FAR_ASSERT(!world.ops[o].live);
	for (uint32_t i = 0; i < ASKS_MAX; i++)
		FAR_ASSERT(!world.asks[i].live);
	FAR_ASSERT(world.stats_live == 0);
	far_l2_close(world.l2);
	far_transport_mem_dereg(world.arena_mem);
	far_transport_close(world.tp);
	far_loop_host_kill(world.fabric, "fake");
	far_loop_host_bury(world.donor_tp);
	far_loop_fabric_close(world.fabric);
	far_free(world.arena);
	far_free(world.index);
	far_free(world.segment);
}

static void
no_log(void *arg, enum far_log_level level, const char *line)
{
	(void)arg;
	/* The words of a failed assertion are why we are here. */
	if (level == FAR_LOG_ERROR && strncmp(line, "assertion", 9) == 0)
		fprintf(stderr, "%s\n", line);
	/* One line, printable, whatever the peer's words were. */
	for (; *line != '\0'; line++)
		FAR_ASSERT(*line >= ' ' && *line <= '~');
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	far_log_sink_set(no_log, NULL);
	world = (struct world){.in = {.bytes = data, .left = size_bytes}};
	world_open();
	for (uint32_t i = 0; i < STEPS_MAX && world.in.left > 0; i++)
		step_run();
	world_close();
	FAR_ASSERT(far_alloc_live_bytes() == 0);
	return 0;
}
