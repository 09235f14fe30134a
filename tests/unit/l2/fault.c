/* fault.c - the wrapper strikes what was chosen, ends each task once, and keeps buffers until it may. */
#include "l2/fault/fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "l2/memory/memory.h"

#define ITEMS 8U
#define BYTES 64U

struct job {
	struct far_l2_task task;
	struct far_l2_item items[ITEMS];
	struct far_l2_piece pieces[ITEMS];
	uint8_t bytes[ITEMS][BYTES];
	uint32_t ended;
};

static struct far_clock_fake fake;
static struct far_l2 *memory;
static struct far_l2 *l2;

static void
job_done(struct far_l2_task *task)
{
	FAR_CONTAINER_OF(task, struct job, task)->ended++;
}

static void
submit(struct job *job, enum far_l2_kind kind)
{
	memset(job, 0, sizeof(*job));
	for (uint32_t i = 0; i < ITEMS; i++) {
		memset(job->bytes[i], kind == FAR_L2_STORE ? (int)i + 1 : 0, BYTES);
		job->pieces[i] = (struct far_l2_piece){job->bytes[i], BYTES};
		job->items[i].key.bytes[0] = (uint8_t)(i + 1);
		job->items[i].pieces = &job->pieces[i];
		job->items[i].piece_count = 1;
	}
	job->task = (struct far_l2_task){.kind = kind,
					 .items = job->items,
					 .count = ITEMS,
					 .deadline_ns = FAR_TIME_NEVER,
					 .done = job_done};
	far_l2_submit(l2, &job->task);
	assert_int_equal(job->ended, 0);
}

static void
run(struct job *job, enum far_l2_kind kind)
{
	submit(job, kind);
	(void)far_l2_tick(l2, fake.ns);
	assert_int_equal(job->ended, 1);
}

static uint64_t
locks(void)
{
	struct far_l2_memory_counts counts;

	far_l2_memory_counts_get(memory, &counts);
	assert_int_equal(counts.unlocks_unknown, 0);
	return counts.locks;
}

static int
setup(void **state)
{
	struct far_l2_config config = {.type = "memory", .name = "m", .capacity_bytes = 4096};
	struct far_l2_env env = {.clock = &fake.clock};
	struct job job;
	char error[256];

	(void)state;
	far_clock_fake_init(&fake, 1000);
	assert_int_equal(far_l2_open(&config, &env, &memory, error), 0);
	assert_int_equal(far_l2_fault_wrap(memory, &fake.clock, 7, &l2), 0);
	run(&job, FAR_L2_STORE);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	far_l2_quiesce(l2);
	(void)far_l2_tick(l2, fake.ns);
	assert_true(far_l2_quiesced(l2));
	far_l2_close(l2);
	assert_int_equal(far_alloc_live_bytes(), 0);
	return 0;
}

static void
without_rules_everything_passes(void **state)
{
	struct job job;

	(void)state;
	run(&job, FAR_L2_LOAD);
	for (uint32_t i = 0; i < ITEMS; i++) {
		assert_int_equal(job.items[i].rc, 0);
		assert_int_equal(job.bytes[i][BYTES - 1], i + 1);
	}
}

static void
chosen_items_fail_and_their_neighbours_do_not(void **state)
{
	struct far_l2_fault_rule rule = {
		.kinds = 1U << FAR_L2_LOAD, .action = FAR_L2_FAULT_FAIL, .rc = -EIO, .head = 2};
	struct job job;

	(void)state;
	assert_int_equal(far_l2_fault_add(l2, &rule), 0);
	rule.head = 0;
	rule.tail = 0.25;
	assert_int_equal(far_l2_fault_add(l2, &rule), 0);
	run(&job, FAR_L2_LOAD);
	for (uint32_t i = 0; i < ITEMS; i++)
		assert_int_equal(job.items[i].rc, i < 2 || i >= 6 ? -EIO : 0);
	assert_int_equal(far_l2_fault_count(l2, FAR_L2_FAULT_FAIL), 4);
}

static void
a_lookup_made_a_miss_leaves_no_lock(void **state)
{
	struct far_l2_fault_rule rule = {.action = FAR_L2_FAULT_FAIL, .rc = -ENOENT, .head = 3};
	struct job job;

	(void)state;
	assert_int_equal(far_l2_fault_add(l2, &rule), 0);
	run(&job, FAR_L2_LOOKUP);
	assert_int_equal(locks(), ITEMS - 3);
	for (uint32_t i = 3; i < ITEMS; i++)
		far_l2_unlock(l2, &job.items[i].key, 1);
	assert_int_equal(locks(), 0);
}

static void
a_dropped_task_ends_once_when_cancelled_and_not_before(void **state)
{
	struct far_l2_fault_rule rule = {.action = FAR_L2_FAULT_DROP};
	struct job job;

	(void)state;
	assert_int_equal(far_l2_fault_add(l2, &rule), 0);
	submit(&job, FAR_L2_LOOKUP);
	far_clock_fake_advance(&fake, 1000 * FAR_NS_PER_S);
	(void)far_l2_tick(l2, fake.ns);
	assert_int_equal(job.ended, 0);
	far_l2_cancel(l2, &job.task);
	assert_int_equal(job.ended, 0);
	(void)far_l2_tick(l2, fake.ns);
	(void)far_l2_tick(l2, fake.ns);
	assert_int_equal(job.ended, 1);
	assert_int_equal(job.items[0].rc, -ECANCELED);
	assert_int_equal(locks(), 0);
}

static void
quiesce_ends_a_dropped_task_only_after_the_inner_let_go(void **state)
{
	struct far_l2_fault_rule rule = {.action = FAR_L2_FAULT_DROP};
	struct job job;

	(void)state;
	assert_int_equal(far_l2_fault_add(l2, &rule), 0);
	far_l2_memory_hold(memory, FAR_L2_LOAD, true);
	submit(&job, FAR_L2_LOAD);
	far_l2_quiesce(l2);
	(void)far_l2_tick(l2, fake.ns);
	assert_int_equal(job.ended, 0);
	assert_false(far_l2_quiesced(l2));
	far_l2_memory_hold(memory, FAR_L2_LOAD, false);
	(void)far_l2_tick(l2, fake.ns);
	assert_int_equal(job.ended, 1);
	assert_int_equal(job.items[0].rc, -ECANCELED);
}

static void
a_delayed_task_ends_when_it_is_due(void **state)
{
	struct far_l2_fault_rule rule = {.action = FAR_L2_FAULT_DELAY, .delay_ns = 500, .times = 1};
	struct job job, next;

	(void)state;
	assert_int_equal(far_l2_fault_add(l2, &rule), 0);
	submit(&job, FAR_L2_LOAD);
	assert_int_equal(far_l2_tick(l2, fake.ns), fake.ns + 500);
	assert_int_equal(job.ended, 0);
	run(&next, FAR_L2_LOAD);
	far_clock_fake_advance(&fake, 500);
	(void)far_l2_tick(l2, fake.ns);
	assert_int_equal(job.ended, 1);
	assert_int_equal(job.items[0].rc, 0);
}

static void
bytes_and_lengths_are_spoiled(void **state)
{
	struct far_l2_fault_rule rule = {.kinds = 1U << FAR_L2_LOAD,
					 .action = FAR_L2_FAULT_CORRUPT,
					 .keyed = true,
					 .key = {{1}}};
	struct job job;

	(void)state;
	assert_int_equal(far_l2_fault_add(l2, &rule), 0);
	rule.action = FAR_L2_FAULT_SHORT;
	rule.key.bytes[0] = 2;
	assert_int_equal(far_l2_fault_add(l2, &rule), 0);
	run(&job, FAR_L2_LOAD);
	assert_int_equal(job.items[0].rc, 0);
	assert_int_equal(job.bytes[0][0], 1 ^ 0x40);
	assert_int_equal(job.items[1].rc, -EMSGSIZE);
	assert_int_equal(job.bytes[1][BYTES - 1], 0xa5);
	assert_int_equal(job.items[2].rc, 0);
	assert_int_equal(job.bytes[2][0], 3);
}

static void
a_rate_chooses_the_same_keys_every_time(void **state)
{
	struct far_l2_fault_rule rule = {.action = FAR_L2_FAULT_FAIL, .rc = -EIO, .rate = 0.5};
	struct job first, second;
	uint32_t failed = 0;

	(void)state;
	assert_int_equal(far_l2_fault_add(l2, &rule), 0);
	run(&first, FAR_L2_LOAD);
	run(&second, FAR_L2_LOAD);
	for (uint32_t i = 0; i < ITEMS; i++) {
		assert_int_equal(first.items[i].rc, second.items[i].rc);
		failed += first.items[i].rc != 0;
	}
	assert_true(failed > 0);
	assert_true(failed < ITEMS);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		CLAIM(without_rules_everything_passes),
		CLAIM(chosen_items_fail_and_their_neighbours_do_not),
		CLAIM(a_lookup_made_a_miss_leaves_no_lock),
		CLAIM(a_dropped_task_ends_once_when_cancelled_and_not_before),
		CLAIM(quiesce_ends_a_dropped_task_only_after_the_inner_let_go),
		CLAIM(a_delayed_task_ends_when_it_is_due),
		CLAIM(bytes_and_lengths_are_spoiled),
		CLAIM(a_rate_chooses_the_same_keys_every_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
