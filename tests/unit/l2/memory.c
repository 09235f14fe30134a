/* memory.c - the in-process adapter: locks are honoured, time is the clock's, ends come once. */
#include "l2/memory/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"

#define BLOCK_BYTES 256U
#define START_NS    1000U
#define UNTOUCHED   0xeeU

struct job {
	struct far_l2_task task;
	struct far_l2_item items[16];
	struct far_l2_piece pieces[16];
	uint8_t bytes[16][BLOCK_BYTES];
	int ended;
};

static struct far_clock_fake fake;
static struct far_l2 *l2;
static struct far_l2_memory_counts counts;

static void
open_memory(uint64_t blocks, uint64_t latency_ns, uint64_t bytes_per_s)
{
	struct far_l2_config config = {
		.type = "memory",
		.name = "m",
		.capacity_bytes = blocks * BLOCK_BYTES,
		.latency_ns = latency_ns,
		.bytes_per_s = bytes_per_s,
	};
	struct far_l2_env env = {.clock = &fake.clock};
	char error[256];

	far_clock_fake_init(&fake, START_NS);
	assert_int_equal(far_l2_open(&config, &env, &l2, error), 0);
}

static void
close_memory(void)
{
	far_l2_quiesce(l2);
	(void)far_l2_tick(l2, fake.ns);
	assert_true(far_l2_quiesced(l2));
	far_l2_close(l2);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

static void
job_done(struct far_l2_task *task)
{
	FAR_CONTAINER_OF(task, struct job, task)->ended++;
}

static struct far_key
key_of(uint32_t id)
{
	struct far_key key = {{0}};

	memcpy(key.bytes, &id, sizeof(id));
	key.bytes[15] = 1;
	return key;
}

/* Keys @first and up, one block each. */
static struct job *
job_make(struct job *job, enum far_l2_kind kind, uint32_t first, uint32_t count)
{
	memset(job, 0, sizeof(*job));
	for (uint32_t i = 0; i < count; i++) {
		if (kind == FAR_L2_STORE)
			memset(job->bytes[i], (int)(first + i), BLOCK_BYTES);
		job->pieces[i] = (struct far_l2_piece){job->bytes[i], BLOCK_BYTES};
		job->items[i].key = key_of(first + i);
		job->items[i].rc = 1;
		if (kind == FAR_L2_LOAD || kind == FAR_L2_STORE) {
			job->items[i].pieces = &job->pieces[i];
			job->items[i].piece_count = 1;
		}
	}
	job->task.kind = kind;
	job->task.items = job->items;
	job->task.count = count;
	job->task.deadline_ns = FAR_TIME_NEVER;
	job->task.done = job_done;
	return job;
}

static void
run_now(struct job *job)
{
	far_l2_submit(l2, &job->task);
	assert_int_equal(job->ended, 0); /* never from inside submit */
	(void)far_l2_tick(l2, fake.ns);
	assert_int_equal(job->ended, 1);
}

static void
what_was_stored_is_found_and_loaded(void **state)
{
	struct job job;

	(void)state;
	open_memory(16, 0, 0);
	far_alloc_lock(); /* no allocation on the data path */
	run_now(job_make(&job, FAR_L2_STORE, 1, 3));
	assert_int_equal(job.items[2].rc, 0);
	run_now(job_make(&job, FAR_L2_LOOKUP, 1, 4));
	assert_int_equal(job.items[0].rc, 0);
	assert_int_equal(job.items[0].size_bytes, BLOCK_BYTES);
	assert_int_equal(job.items[3].rc, -ENOENT);
	run_now(job_make(&job, FAR_L2_LOAD, 1, 3));
	far_alloc_unlock();
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(job.items[i].rc, 0);
		for (uint32_t b = 0; b < BLOCK_BYTES; b++)
			assert_int_equal(job.bytes[i][b], 1 + i);
	}
	close_memory();
}

static void
a_key_that_is_held_answers_eexist_and_keeps_its_bytes(void **state)
{
	struct job job;

	(void)state;
	open_memory(16, 0, 0);
	run_now(job_make(&job, FAR_L2_STORE, 1, 1));
	(void)job_make(&job, FAR_L2_STORE, 1, 1);
	memset(job.bytes[0], 99, BLOCK_BYTES);
	run_now(&job);
	assert_int_equal(job.items[0].rc, -EEXIST);
	run_now(job_make(&job, FAR_L2_LOAD, 1, 1));
	assert_int_equal(job.bytes[0][0], 1);
	close_memory();
}

static void
another_length_is_a_miss_that_says_the_stored_one(void **state)
{
	struct job job;

	(void)state;
	open_memory(16, 0, 0);
	run_now(job_make(&job, FAR_L2_STORE, 1, 1));
	(void)job_make(&job, FAR_L2_LOOKUP, 1, 1);
	job.items[0].size_bytes = BLOCK_BYTES - 1;
	run_now(&job);
	assert_int_equal(job.items[0].rc, -EMSGSIZE);
	assert_int_equal(job.items[0].size_bytes, BLOCK_BYTES);
	assert_int_equal(far_l2_memory_locks(l2, &job.items[0].key), 0);
	(void)job_make(&job, FAR_L2_LOAD, 1, 1);
	job.items[0].range_offset = 1;
	run_now(&job);
	assert_int_equal(job.items[0].rc, -EMSGSIZE);
	close_memory();
}

static void
a_range_lands_in_its_pieces(void **state)
{
	struct job job;
	uint8_t want[BLOCK_BYTES];

	(void)state;
	open_memory(16, 0, 0);
	(void)job_make(&job, FAR_L2_STORE, 1, 1);
	for (uint32_t i = 0; i < BLOCK_BYTES; i++)
		want[i] = job.bytes[0][i] = (uint8_t)(i * 7);
	run_now(&job);
	(void)job_make(&job, FAR_L2_LOAD, 1, 1);
	job.pieces[0] = (struct far_l2_piece){job.bytes[0], 70};
	job.pieces[1] = (struct far_l2_piece){job.bytes[1], 0};
	job.pieces[2] = (struct far_l2_piece){job.bytes[2], 100};
	job.items[0].piece_count = 3;
	job.items[0].range_offset = 65;
	run_now(&job);
	assert_int_equal(job.items[0].rc, 0);
	assert_memory_equal(job.bytes[0], want + 65, 70);
	assert_memory_equal(job.bytes[2], want + 135, 100);
	assert_int_equal(job.bytes[2][100], 0);
	close_memory();
}

/* The whole of a block, by its length. */
static int
load_whole(struct job *job, uint32_t key, uint32_t size_bytes, uint32_t piece_bytes,
	   uint32_t offset)
{
	(void)job_make(job, FAR_L2_LOAD, key, 1);
	memset(job->bytes[0], UNTOUCHED, BLOCK_BYTES);
	job->pieces[0].size_bytes = piece_bytes;
	job->items[0].size_bytes = size_bytes;
	job->items[0].range_offset = offset;
	run_now(job);
	return job->items[0].rc;
}

static void
a_block_of_one_unit_is_loaded_whole_or_not_at_all(void **state)
{
	static const uint32_t sizes[] = {64, 40};
	struct far_l2_status status;
	struct job job;

	(void)state;
	open_memory(16, 0, 0);
	for (uint32_t i = 0; i < 2; i++) {
		(void)job_make(&job, FAR_L2_STORE, 1 + i, 1);
		job.pieces[0].size_bytes = sizes[i];
		run_now(&job);
		assert_int_equal(job.items[0].rc, 0);
		assert_int_equal(load_whole(&job, 1 + i, sizes[i], sizes[i], 0), 0);
		for (uint32_t b = 0; b < BLOCK_BYTES; b++)
			assert_int_equal(job.bytes[0][b], b < sizes[i] ? 1 + i : UNTOUCHED);
		assert_int_equal(load_whole(&job, 1 + i, sizes[i], sizes[i], 1), -EMSGSIZE);
		assert_int_equal(load_whole(&job, 1 + i, sizes[i] - 1, sizes[i] - 1, 0), -EMSGSIZE);
		assert_int_equal(job.items[0].size_bytes, sizes[i]);
		assert_int_equal(load_whole(&job, 9, sizes[i], sizes[i], 0), -ENOENT);
		assert_int_equal(job.bytes[0][0], UNTOUCHED);
	}
	far_l2_memory_fail_loads(l2, 1, -EIO);
	assert_int_equal(load_whole(&job, 1, 64, 64, 0), -EIO);
	/* Locked, so that its entry outlives its bytes. */
	run_now(job_make(&job, FAR_L2_LOOKUP, 1, 1));
	assert_int_equal(job.items[0].rc, 0);
	run_now(job_make(&job, FAR_L2_DELETE, 1, 1));
	assert_int_equal(load_whole(&job, 1, 64, 64, 0), -ENOENT);
	far_l2_status_get(l2, &status);
	assert_int_equal(status.loads, 2);
	assert_int_equal(status.load_bytes, 64 + 40);
	assert_int_equal(status.lookups, 1);
	assert_int_equal(status.lookup_hits, 1);
	far_l2_unlock(l2, &job.items[0].key, 1);
	close_memory();
}

static void
eviction_takes_the_oldest_that_nobody_locked(void **state)
{
	struct job job;
	struct far_key key;

	(void)state;
	open_memory(4, 0, 0);
	run_now(job_make(&job, FAR_L2_STORE, 1, 4));
	run_now(job_make(&job, FAR_L2_LOOKUP, 1, 2));
	run_now(job_make(&job, FAR_L2_LOOKUP, 1, 1)); /* key 1 twice */
	run_now(job_make(&job, FAR_L2_STORE, 10, 3));
	assert_int_equal(job.items[0].rc, 0);
	assert_int_equal(job.items[1].rc, 0);
	/* 10 is the oldest that is not locked: it goes for 12. */
	assert_int_equal(job.items[2].rc, 0);
	far_l2_memory_counts_get(l2, &counts);
	assert_int_equal(counts.evicted, 3);
	assert_int_equal(counts.locks, 3);
	key = key_of(1);
	assert_true(far_l2_memory_holds(l2, &key));
	far_l2_unlock(l2, &key, 1);
	run_now(job_make(&job, FAR_L2_STORE, 20, 2));
	assert_true(far_l2_memory_holds(l2, &key)); /* its second lock holds it */
	far_l2_unlock(l2, &key, 1);
	run_now(job_make(&job, FAR_L2_STORE, 30, 2));
	assert_false(far_l2_memory_holds(l2, &key));
	close_memory();
}

static void
when_all_is_locked_a_store_is_told_full(void **state)
{
	struct job job;

	(void)state;
	open_memory(2, 0, 0);
	run_now(job_make(&job, FAR_L2_STORE, 1, 2));
	run_now(job_make(&job, FAR_L2_LOOKUP, 1, 2));
	run_now(job_make(&job, FAR_L2_STORE, 5, 1));
	assert_int_equal(job.items[0].rc, -ENOSPC);
	far_l2_memory_counts_get(l2, &counts);
	assert_int_equal(counts.blocks, 2);
	close_memory();
}

static void
a_lock_outlives_a_delete_and_a_second_unlock_harms_nobody(void **state)
{
	struct job job;
	struct far_key key = key_of(1);

	(void)state;
	open_memory(4, 0, 0);
	run_now(job_make(&job, FAR_L2_STORE, 1, 1));
	run_now(job_make(&job, FAR_L2_LOOKUP, 1, 1));
	run_now(job_make(&job, FAR_L2_DELETE, 1, 2));
	assert_int_equal(job.items[0].rc, 0);
	assert_int_equal(job.items[1].rc, -ENOENT);
	run_now(job_make(&job, FAR_L2_STORE, 1, 1)); /* the key comes back */
	run_now(job_make(&job, FAR_L2_LOOKUP, 1, 1));
	assert_int_equal(far_l2_memory_locks(l2, &key), 2);
	far_l2_unlock(l2, &key, 1); /* the first holder's: the second's lock stays */
	assert_int_equal(far_l2_memory_locks(l2, &key), 1);
	far_l2_unlock(l2, &key, 1);
	far_l2_unlock(l2, &key, 1);
	far_l2_memory_counts_get(l2, &counts);
	assert_int_equal(counts.unlocks_unknown, 1);
	assert_int_equal(counts.locks, 0);
	close_memory();
}

static void
the_simulated_wire_takes_its_time_in_order(void **state)
{
	struct job jobs[2];

	(void)state;
	/* One block a microsecond, 500 ns of latency. */
	open_memory(16, 500, BLOCK_BYTES * 1000000ULL);
	far_l2_submit(l2, &job_make(&jobs[0], FAR_L2_STORE, 1, 2)->task);
	far_l2_submit(l2, &job_make(&jobs[1], FAR_L2_STORE, 3, 1)->task);
	assert_int_equal(far_l2_tick(l2, fake.ns), START_NS + 2500);
	assert_int_equal(jobs[0].ended, 0);
	far_clock_fake_advance(&fake, 2500);
	assert_int_equal(far_l2_tick(l2, fake.ns), START_NS + 3500);
	assert_int_equal(jobs[0].ended, 1);
	assert_int_equal(jobs[1].ended, 0);
	far_clock_fake_advance(&fake, 1000);
	assert_int_equal(far_l2_tick(l2, fake.ns), FAR_TIME_NEVER);
	assert_int_equal(jobs[1].ended, 1);
	close_memory();
}

static void
deadline_cancel_and_down_end_a_task_once(void **state)
{
	struct job job;

	(void)state;
	open_memory(16, 1000, 0);
	far_l2_submit(l2, &job_make(&job, FAR_L2_STORE, 1, 1)->task);
	job.task.deadline_ns = START_NS + 10;
	far_clock_fake_advance(&fake, 10);
	(void)far_l2_tick(l2, fake.ns);
	assert_int_equal(job.ended, 1);
	assert_int_equal(job.items[0].rc, -ETIMEDOUT);

	far_l2_submit(l2, &job_make(&job, FAR_L2_STORE, 1, 1)->task);
	far_l2_cancel(l2, &job.task);
	assert_int_equal(job.ended, 0);
	(void)far_l2_tick(l2, fake.ns);
	assert_int_equal(job.ended, 1);
	assert_int_equal(job.items[0].rc, -ECANCELED);

	far_l2_memory_down(l2, true);
	run_now(job_make(&job, FAR_L2_STORE, 1, 1));
	assert_int_equal(job.items[0].rc, -EHOSTDOWN);
	(void)far_l2_tick(l2, fake.ns);
	assert_int_equal(job.ended, 1);
	far_l2_memory_counts_get(l2, &counts);
	assert_int_equal(counts.blocks, 0);
	close_memory();
}

static void
held_tasks_end_when_they_are_let_go(void **state)
{
	struct job job;

	(void)state;
	open_memory(16, 0, 0);
	far_l2_memory_hold(l2, FAR_L2_STORE, true);
	far_l2_submit(l2, &job_make(&job, FAR_L2_STORE, 1, 1)->task);
	far_l2_cancel(l2, &job.task);
	assert_int_equal(far_l2_tick(l2, fake.ns), FAR_TIME_NEVER);
	far_l2_quiesce(l2);
	assert_false(far_l2_quiesced(l2));
	far_l2_memory_hold(l2, FAR_L2_STORE, false);
	(void)far_l2_tick(l2, fake.ns);
	assert_int_equal(job.items[0].rc, -ECANCELED);
	close_memory();
}

static void
a_failed_load_says_so_and_the_next_one_is_right(void **state)
{
	struct job job;

	(void)state;
	open_memory(16, 0, 0);
	run_now(job_make(&job, FAR_L2_STORE, 1, 2));
	far_l2_memory_fail_loads(l2, 1, -EIO);
	run_now(job_make(&job, FAR_L2_LOAD, 1, 2));
	assert_int_equal(job.items[0].rc, -EIO);
	assert_int_equal(job.items[1].rc, 0);
	assert_true(far_l2_memory_lose(l2, &job.items[1].key));
	assert_false(far_l2_memory_lose(l2, &job.items[1].key));
	run_now(job_make(&job, FAR_L2_LOAD, 1, 2));
	assert_int_equal(job.items[0].rc, 0);
	assert_int_equal(job.items[1].rc, -ENOENT);
	close_memory();
}

static uint32_t listed_count;

static void
listed(struct far_l2_listing *listing)
{
	(void)listing;
	listed_count++;
}

static void
usage_got(void *arg, int rc, const struct far_l2_usage *usage)
{
	assert_int_equal(rc, 0);
	*(struct far_l2_usage *)arg = *usage;
}

static void
what_is_held_is_listed_once_by_group_and_adds_up(void **state)
{
	struct far_l2_listed entries[2];
	struct far_l2_usage usage = {0};
	uint32_t seen = 0;
	struct job job;

	(void)state;
	open_memory(16, 0, 0);
	(void)job_make(&job, FAR_L2_STORE, 1, 5);
	for (uint32_t i = 0; i < 5; i++)
		job.items[i].group = i % 2;
	run_now(&job);
	for (uint32_t group = 0; group < 3; group++) {
		struct far_l2_listing page = {.entries = entries,
					      .entries_max = 2,
					      .of_group = true,
					      .group = group,
					      .done = listed};

		do {
			listed_count = 0;
			far_l2_list(l2, &page);
			assert_int_equal(listed_count, 0);
			(void)far_l2_tick(l2, fake.ns);
			assert_int_equal(listed_count, 1);
			assert_int_equal(page.rc, 0);
			for (uint32_t i = 0; i < page.count; i++) {
				assert_int_equal(entries[i].group, group);
				assert_int_equal(entries[i].size_bytes, BLOCK_BYTES);
				assert_int_equal(seen & 1U << entries[i].key.bytes[0], 0);
				seen |= 1U << entries[i].key.bytes[0];
			}
		} while (page.cursor != 0);
	}
	assert_int_equal(seen, 0x3e);
	assert_int_equal(far_l2_usage_ask(l2, usage_got, &usage, FAR_TIME_NEVER), 0);
	(void)far_l2_tick(l2, fake.ns);
	assert_int_equal(usage.block_count, 5);
	assert_int_equal(usage.block_bytes, 5 * BLOCK_BYTES);
	assert_int_equal(usage.capacity_bytes, 16 * BLOCK_BYTES);
	close_memory();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_stored_is_found_and_loaded),
		cmocka_unit_test(a_key_that_is_held_answers_eexist_and_keeps_its_bytes),
		cmocka_unit_test(another_length_is_a_miss_that_says_the_stored_one),
		cmocka_unit_test(a_range_lands_in_its_pieces),
		cmocka_unit_test(a_block_of_one_unit_is_loaded_whole_or_not_at_all),
		cmocka_unit_test(eviction_takes_the_oldest_that_nobody_locked),
		cmocka_unit_test(when_all_is_locked_a_store_is_told_full),
		cmocka_unit_test(a_lock_outlives_a_delete_and_a_second_unlock_harms_nobody),
		cmocka_unit_test(the_simulated_wire_takes_its_time_in_order),
		cmocka_unit_test(deadline_cancel_and_down_end_a_task_once),
		cmocka_unit_test(held_tasks_end_when_they_are_let_go),
		cmocka_unit_test(a_failed_load_says_so_and_the_next_one_is_right),
		cmocka_unit_test(what_is_held_is_listed_once_by_group_and_adds_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
