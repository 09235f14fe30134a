/* history.c - random histories against a small reference: who is there, who goes, whose bytes they are. */
#include "tests/unit/l1/fixture.h"

#define KEYS   48u
#define UNITS  32u
#define LOANS  64u
#define BATCH  6u
#define NOBODY UINT32_MAX

enum kind { NONE, WRITE, READ };

/* A loan as the reference sees it. */
struct loan {
	enum kind kind;
	uint64_t handle;
	uint32_t incarnation;
	uint32_t counts;
};

/* One block that somebody wrote: it lives on without its key while it is in quarantine. */
struct incarnation {
	uint64_t key;
	bool used;
	bool in_table;
	bool writing;
	uint32_t readers;
	uint64_t stamp; /* of its last use */
	uint32_t first; /* unit */
	uint32_t units;
	uint32_t size_bytes;
	uint8_t fill;
};

struct world {
	struct fixture f;
	struct far_rng rng;
	struct incarnation blocks[256];
	struct loan loans[LOANS];
	uint64_t stamp;
	uint32_t units_max; /* 1: all of one size, and the order of eviction is exact */
	uint64_t events_written, events_prefetched, events_deleted;
	uint64_t want_written, want_prefetched, want_deleted;
};

static uint64_t seed_given;

static void
on_written(void *arg, const struct far_l1_event *events, size_t count)
{
	(void)events;
	((struct world *)arg)->events_written += count;
}

static void
on_prefetched(void *arg, const struct far_l1_event *events, size_t count)
{
	(void)events;
	((struct world *)arg)->events_prefetched += count;
}

static void
on_deleted(void *arg, const struct far_l1_event *events, size_t count)
{
	(void)events;
	((struct world *)arg)->events_deleted += count;
}

static uint32_t
find(const struct world *w, uint64_t key)
{
	for (uint32_t i = 0; i < 256; i++)
		if (w->blocks[i].used && w->blocks[i].in_table && w->blocks[i].key == key)
			return i;
	return NOBODY;
}

static uint32_t
block_new(struct world *w)
{
	for (uint32_t i = 0; i < 256; i++)
		if (!w->blocks[i].used)
			return i;
	fail();
	return NOBODY;
}

static struct loan *
loan_new(struct world *w)
{
	for (uint32_t i = 0; i < LOANS; i++)
		if (w->loans[i].kind == NONE)
			return &w->loans[i];
	return NULL;
}

static bool
locked(const struct incarnation *b)
{
	return b->writing || b->readers > 0;
}

static void
bytes_check(const struct world *w, const struct incarnation *b)
{
	const uint8_t *bytes = (const uint8_t *)w->f.config.base + (size_t)b->first * UNIT;

	assert_int_equal(bytes[0], b->fill);
	assert_int_equal(bytes[b->size_bytes / 2], b->fill);
	assert_int_equal(bytes[b->size_bytes - 1], b->fill);
}

/* Ends a block whose last loan is over, if it is out of the table. */
static void
settle(struct incarnation *b)
{
	if (!b->in_table && !locked(b))
		b->used = false;
}

/* The longest run of units without a locked block: what one more key may get at most. @spared: keys
 * that the call answered with "present". */
static uint32_t
longest_run(const struct world *w, const bool *spared)
{
	bool taken[UNITS] = {false};
	uint32_t best = 0, run = 0;

	for (uint32_t i = 0; i < 256; i++)
		if (w->blocks[i].used && (locked(&w->blocks[i]) || spared[i]))
			for (uint32_t u = 0; u < w->blocks[i].units; u++)
				taken[w->blocks[i].first + u] = true;
	for (uint32_t u = 0; u < UNITS; u++) {
		run = taken[u] ? 0 : run + 1;
		best = run > best ? run : best;
	}
	return best;
}

/* What is gone must have been in the way of @b, and for one size it must be the oldest. */
static void
evictions_take(struct world *w, const struct incarnation *b, const bool *spared)
{
	for (uint32_t i = 0; i < 256; i++) {
		struct incarnation *v = &w->blocks[i];

		if (!v->used || v == b || v->first + v->units <= b->first ||
		    b->first + b->units <= v->first)
			continue;
		assert_false(locked(v));
		assert_false(spared[i]);
		for (uint32_t j = 0; w->units_max == 1 && j < 256; j++)
			if (w->blocks[j].used && w->blocks[j].in_table && !spared[j] &&
			    !locked(&w->blocks[j]))
				assert_true(w->blocks[j].stamp >= v->stamp);
		v->used = false;
		w->want_deleted++;
	}
}

/* Keys of a call are used last to first. */
static void
stamp_batch(struct world *w, struct incarnation **used, uint32_t count)
{
	for (uint32_t i = count; i > 0; i--)
		if (used[i - 1] != NULL)
			used[i - 1]->stamp = ++w->stamp;
}

static void
step_reserve_write(struct world *w)
{
	uint32_t count = 1 + (uint32_t)far_rng_below(&w->rng, BATCH);
	struct far_l1_want wants[BATCH];
	struct far_l1_grant grants[BATCH];
	struct incarnation *used[BATCH] = {NULL};
	bool spared[256] = {false};
	bool there[BATCH], ended = false;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t key = far_rng_below(&w->rng, KEYS);
		uint32_t units = 1 + (uint32_t)far_rng_below(&w->rng, w->units_max);
		uint32_t at = find(w, key);

		wants[i] = (struct far_l1_want){.key = key_n(key)};
		wants[i].size_bytes = units * UNIT - (uint32_t)far_rng_below(&w->rng, UNIT);
		there[i] = at != NOBODY;
		if (there[i]) {
			spared[at] = true;
			used[i] = &w->blocks[at];
		}
	}
	/* The reference's loans are few: never more grants than it can remember. */
	for (uint32_t i = 0, room = 0; i < LOANS; i++) {
		room += w->loans[i].kind == NONE;
		if (i + 1 == LOANS && room < count)
			return;
	}
	far_l1_reserve_write(w->f.l1, w->f.session, wants, count, grants);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t key = 0;
		struct incarnation *b;
		struct loan *loan;

		while (memcmp(key_n(key).bytes, wants[i].key.bytes, 16) != 0)
			key++;
		if (ended) {
			assert_int_equal(grants[i].rc, -ENOMEM);
			continue;
		}
		if (there[i] || (find(w, key) != NOBODY && !spared[find(w, key)])) {
			/* There, or given before in this call: unless it was evicted since. */
			if (there[i] || locked(&w->blocks[find(w, key)])) {
				assert_int_equal(grants[i].rc, -EEXIST);
				continue;
			}
		}
		if (grants[i].rc == -ENOMEM) {
			assert_true(longest_run(w, spared) <
				    (wants[i].size_bytes + UNIT - 1) / UNIT);
			ended = true;
			continue;
		}
		assert_int_equal(grants[i].rc, 0);
		b = &w->blocks[block_new(w)];
		*b = (struct incarnation){.key = key, .size_bytes = wants[i].size_bytes};
		b->first = (uint32_t)(grants[i].offset_bytes / UNIT);
		b->units = (b->size_bytes + UNIT - 1) / UNIT;
		b->fill = (uint8_t)far_rng_u64(&w->rng);
		evictions_take(w, b, spared);
		b->used = b->in_table = b->writing = true;
		used[i] = b;
		memset(grants[i].addr, b->fill, b->size_bytes);
		loan = loan_new(w);
		*loan = (struct loan){WRITE, grants[i].loan, (uint32_t)(b - w->blocks), 0};
	}
	stamp_batch(w, used, count);
}

static void
step_reserve_read(struct world *w)
{
	uint32_t count = 1 + (uint32_t)far_rng_below(&w->rng, BATCH);
	uint32_t readers = 1 + (uint32_t)far_rng_below(&w->rng, 3);
	bool prefix = far_rng_below(&w->rng, 2) == 0;
	bool over = false;
	struct far_key keys[BATCH];
	uint32_t at[BATCH];
	struct far_l1_grant grants[BATCH];
	struct incarnation *used[BATCH] = {NULL};

	for (uint32_t i = 0, room = 0; i < LOANS; i++) {
		room += w->loans[i].kind == NONE;
		if (i + 1 == LOANS && room < count)
			return;
	}
	for (uint32_t i = 0; i < count; i++) {
		uint64_t key = far_rng_below(&w->rng, KEYS);

		keys[i] = key_n(key);
		at[i] = find(w, key);
	}
	if (prefix)
		far_l1_reserve_read_prefix(w->f.l1, w->f.session, keys, NULL, count, readers,
					   grants);
	else
		far_l1_reserve_read(w->f.l1, w->f.session, keys, NULL, count, readers, grants);
	for (uint32_t i = 0; i < count; i++) {
		bool readable = at[i] != NOBODY && !w->blocks[at[i]].writing;
		struct incarnation *b;

		if (over || !readable) {
			assert_int_equal(grants[i].rc, -ENOENT);
			over |= prefix;
			continue;
		}
		assert_int_equal(grants[i].rc, 0);
		b = &w->blocks[at[i]];
		assert_int_equal(grants[i].size_bytes, b->size_bytes);
		assert_int_equal(grants[i].offset_bytes, (uint64_t)b->first * UNIT);
		bytes_check(w, b);
		b->readers += readers;
		used[i] = b;
		*loan_new(w) = (struct loan){READ, grants[i].loan, at[i], readers};
	}
	stamp_batch(w, used, count);
}

/* Some loan, of any kind or none: a number from the past must do nothing. */
static struct loan *
loan_any(struct world *w)
{
	return &w->loans[far_rng_below(&w->rng, LOANS)];
}

static void
step_finish_write(struct world *w)
{
	struct loan *loan = loan_any(w);
	struct incarnation *b = &w->blocks[loan->incarnation];
	uint32_t how = (uint32_t)far_rng_below(&w->rng, 3);
	uint32_t readers = 1 + (uint32_t)far_rng_below(&w->rng, 3);
	bool valid = loan->kind == WRITE;
	int rc;

	if (how == 0)
		rc = finish_one(&w->f, loan->handle);
	else if (how == 1)
		rc = abort_one(&w->f, loan->handle);
	else
		rc = flip_one(&w->f, loan->handle, readers);
	if (!valid) {
		assert_int_equal(rc, -EBADF);
		return;
	}
	bytes_check(w, b);
	assert_int_equal(rc, how != 1 && !b->in_table ? -ENOENT : 0);
	b->writing = false;
	loan->kind = NONE;
	if (rc == -ENOENT || how == 1) {
		b->used = false;
		return;
	}
	b->stamp = ++w->stamp;
	w->want_written += how == 0;
	w->want_prefetched += how == 2;
	if (how == 2) {
		loan->kind = READ;
		loan->counts = readers;
		b->readers = readers;
	}
}

static void
step_finish_read(struct world *w)
{
	struct loan *loan = loan_any(w);
	struct incarnation *b = &w->blocks[loan->incarnation];
	uint32_t counts = 1 + (uint32_t)far_rng_below(&w->rng, 3);
	int rc;

	if (loan->kind == READ)
		bytes_check(w, b);
	rc = release_one(&w->f, loan->handle, counts);
	if (loan->kind != READ) {
		assert_int_equal(rc, -EBADF);
		return;
	}
	if (counts > loan->counts) {
		assert_int_equal(rc, -EINVAL);
		return;
	}
	assert_int_equal(rc, 0);
	loan->counts -= counts;
	b->readers -= counts;
	b->stamp = ++w->stamp;
	if (loan->counts == 0)
		loan->kind = NONE;
	settle(b);
}

static void
step_delete(struct world *w)
{
	uint64_t key = far_rng_below(&w->rng, KEYS);
	bool force = far_rng_below(&w->rng, 4) == 0;
	uint32_t at = find(w, key);
	int rc = delete_one(&w->f, key, force);

	if (at == NOBODY) {
		assert_int_equal(rc, -ENOENT);
		return;
	}
	if (locked(&w->blocks[at]) && !force) {
		assert_int_equal(rc, -EBUSY);
		return;
	}
	assert_int_equal(rc, 0);
	w->blocks[at].in_table = false;
	w->want_deleted += !w->blocks[at].writing;
	settle(&w->blocks[at]);
}

static void
step_touch(struct world *w)
{
	uint64_t key = far_rng_below(&w->rng, KEYS);
	uint32_t at = find(w, key);

	touch_one(&w->f, key);
	if (at != NOBODY && !w->blocks[at].writing)
		w->blocks[at].stamp = ++w->stamp;
}

static void
compare(struct world *w)
{
	struct far_l1_usage usage = usage_of(&w->f);
	uint64_t used = 0, locked_units = 0, quarantine = 0, count = 0, loans = 0;

	for (uint64_t key = 0; key < KEYS; key++) {
		uint32_t at = find(w, key);
		enum far_l1_state want = FAR_L1_ABSENT;

		if (at != NOBODY)
			want = w->blocks[at].writing       ? FAR_L1_WRITE_LOCKED
			       : w->blocks[at].readers > 0 ? FAR_L1_READ_LOCKED
							   : FAR_L1_READY;
		assert_int_equal(state_of(&w->f, key), want);
	}
	for (uint32_t i = 0; i < 256; i++) {
		const struct incarnation *b = &w->blocks[i];

		if (!b->used)
			continue;
		used += b->units;
		locked_units += locked(b) ? b->units : 0;
		quarantine += b->in_table ? 0 : b->units;
		count += b->in_table;
	}
	for (uint32_t i = 0; i < LOANS; i++)
		loans += w->loans[i].kind != NONE;
	assert_int_equal(usage.used_bytes, used * UNIT);
	assert_int_equal(usage.locked_bytes, locked_units * UNIT);
	assert_int_equal(usage.quarantine_bytes, quarantine * UNIT);
	assert_int_equal(usage.block_count, count);
	assert_int_equal(usage.loan_count, loans);
	assert_int_equal(w->events_written, w->want_written);
	assert_int_equal(w->events_prefetched, w->want_prefetched);
	assert_int_equal(w->events_deleted, w->want_deleted);
}

static void
step(struct world *w)
{
	uint64_t dice = far_rng_below(&w->rng, 100);

	if (dice < 20)
		step_reserve_write(w);
	else if (dice < 45)
		step_finish_write(w);
	else if (dice < 60)
		step_reserve_read(w);
	else if (dice < 90)
		step_finish_read(w);
	else if (dice < 94)
		step_delete(w);
	else
		step_touch(w);
}

static void
end(struct world *w)
{
	for (uint32_t i = 0; i < LOANS; i++) {
		struct loan *loan = &w->loans[i];

		if (loan->kind == WRITE)
			abort_one(&w->f, loan->handle);
		if (loan->kind == READ)
			assert_int_equal(release_one(&w->f, loan->handle, loan->counts), 0);
	}
	fixture_close(&w->f);
}

static void
history(uint64_t seed, uint32_t units_max, uint32_t steps)
{
	struct world *w = calloc(1, sizeof(*w));
	struct far_l1_listener listener = {.written = on_written,
					   .prefetched = on_prefetched,
					   .deleted = on_deleted,
					   .arg = w};

	print_message("seed %llu\n", (unsigned long long)seed);
	far_rng_init(&w->rng, seed);
	w->units_max = units_max;
	fixture_open(&w->f, UNITS, (struct far_l1_config){.shards = 2});
	assert_int_equal(far_l1_listen(w->f.l1, &listener), 0);
	for (uint32_t i = 0; i < steps; i++) {
		step(w);
		if (i % 16 == 0)
			compare(w);
		if (i % 512 == 0)
			far_l1_check(w->f.l1);
	}
	end(w);
	free(w);
}

static void
blocks_of_one_size_follow_the_reference_and_its_lru_order(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < 4; i++)
		history(seed_given + i, 1, 25000);
}

static void
blocks_of_mixed_sizes_follow_the_reference(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < 4; i++)
		history(seed_given + 100 + i, 3 + 3 * (uint32_t)i, 25000);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_of_one_size_follow_the_reference_and_its_lru_order),
		cmocka_unit_test(blocks_of_mixed_sizes_follow_the_reference),
	};

	seed_given = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
