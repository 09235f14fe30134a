/* index.c - tests: a torn, stale or made-up line of the index is never believed. */
#include "wire/index.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"

static void
header_fill(struct far_index_header *header)
{
	struct far_index_layout layout;

	assert_int_equal(far_index_layout_make(64 << 20, 65536, 9, &layout), 0);
	memset(header, 0, sizeof(*header));
	header->magic = FAR_INDEX_MAGIC;
	header->version = FAR_INDEX_VERSION;
	header->header_bytes = sizeof(*header);
	header->index_bytes = layout.index_bytes;
	header->live_at = layout.live_at;
	header->table_at = layout.table_at;
	header->table_count = layout.table_count;
	header->sets_at = layout.sets_at;
	header->set_count = layout.set_count;
	header->hash_seed = 7;
	header->segment_bytes = 16 << 20;
	header->lane_bytes = 4 << 20;
	header->slot_bytes = FAR_SLOT_BYTES;
	header->set_slots = FAR_SET_SLOTS;
	header->rail_count = 1;
	snprintf(header->donor, sizeof(header->donor), "%s", "donor-a");
	snprintf(header->name_space, sizeof(header->name_space), "%s", "default");
	far_index_header_seal(header);
}

static void
layout_has_two_and_a_half_slots_a_block(void **state)
{
	struct far_index_layout layout;

	(void)state;
	assert_int_equal(far_index_layout_make(1ULL << 30, 1 << 20, 4, &layout), 0);
	/* Whole pages. */
	assert_int_equal(layout.set_count % FAR_PAGE_SETS, 0);
	assert_in_range(layout.set_count * FAR_SET_SLOTS, 2561,
			2561 + FAR_PAGE_SETS * FAR_SET_SLOTS);
	assert_int_equal(layout.sets_at % FAR_SET_BYTES, 0);
	assert_true(layout.table_at >= layout.live_at + 64);
	assert_true(layout.sets_at >= layout.table_at + 4 * 64);
	assert_true(layout.index_bytes >= layout.sets_at + layout.set_count * FAR_SET_BYTES);
	assert_int_equal(far_index_layout_make(64, 64, 1, &layout), 0);
	assert_true(layout.set_count > 0);
	assert_int_equal(far_index_layout_make(0, 64, 1, &layout), -EINVAL);
	assert_int_equal(far_index_layout_make(64, 0, 1, &layout), -EINVAL);
	assert_int_equal(far_index_layout_make(64, 64, 0, &layout), -EINVAL);
	assert_int_equal(far_index_layout_make(UINT64_MAX, 1, 1, &layout), -EINVAL);
	assert_int_equal(far_index_layout_make(64, 64, UINT64_MAX / 64, &layout), -EINVAL);
}

static void
sealed_header_is_taken(void **state)
{
	struct far_index_header header;

	(void)state;
	header_fill(&header);
	assert_int_equal(far_index_header_check(&header, header.index_bytes), 0);
	/* What a successor writes there is not under the checksum. */
	header.owner_pid = 99;
	header.recover_epochs[3] = 4;
	assert_int_equal(far_index_header_check(&header, header.index_bytes), 0);
	assert_int_equal(far_index_header_check(&header, header.index_bytes - 1), -EPROTO);
}

static void
torn_header_is_read_again_and_a_foreign_one_is_not(void **state)
{
	struct far_index_header header;

	(void)state;
	header_fill(&header);
	header.hash_seed ^= 1;
	assert_int_equal(far_index_header_check(&header, UINT64_MAX), -EBADMSG);
	header_fill(&header);
	header.magic ^= 1;
	assert_int_equal(far_index_header_check(&header, UINT64_MAX), -EPROTO);
	header_fill(&header);
	header.version = FAR_INDEX_VERSION + 1;
	assert_int_equal(far_index_header_check(&header, UINT64_MAX), -EPROTO);
}

/* A donor that seals nonsense is as bad as one that does not seal. */
#define REFUSE(field, value)                                                                       \
	do {                                                                                       \
		header_fill(&header);                                                              \
		header.field = (value);                                                            \
		far_index_header_seal(&header);                                                    \
		assert_int_equal(far_index_header_check(&header, 1ULL << 40), -EPROTO);            \
	} while (0)

static void
sealed_nonsense_is_refused(void **state)
{
	struct far_index_header header;

	(void)state;
	REFUSE(header_bytes, sizeof(header) - 1);
	REFUSE(features, 1);
	REFUSE(index_bytes, 4096);
	REFUSE(index_bytes, UINT64_MAX);
	REFUSE(live_at, 0);
	REFUSE(live_at, 4097);
	REFUSE(live_at, UINT64_MAX - 63);
	REFUSE(table_at, header.live_at);
	REFUSE(table_at, UINT64_MAX - 63);
	REFUSE(table_count, 0);
	REFUSE(table_count, UINT64_MAX / 64);
	REFUSE(table_count, 1 << 20);
	REFUSE(sets_at, header.table_at);
	REFUSE(sets_at, header.sets_at + 64);
	REFUSE(sets_at, UINT64_MAX - 255);
	REFUSE(set_count, 0);
	REFUSE(set_count, header.set_count * 2);
	REFUSE(set_count, UINT64_MAX / 256 + 1);
	REFUSE(segment_bytes, 0);
	REFUSE(segment_bytes, (16 << 20) + 64);
	REFUSE(lane_bytes, 0);
	REFUSE(lane_bytes, 3 << 20);
	REFUSE(lane_bytes, 6 << 20);
	REFUSE(lane_bytes, 128 << 20);
	REFUSE(slot_bytes, 128);
	REFUSE(set_slots, 8);
	REFUSE(rail_count, 0);
	REFUSE(rail_count, FAR_RAILS_MAX + 1);
	header_fill(&header);
	memset(header.donor, 'x', sizeof(header.donor));
	far_index_header_seal(&header);
	assert_int_equal(far_index_header_check(&header, UINT64_MAX), -EPROTO);
	header_fill(&header);
	memset(header.name_space, 'x', sizeof(header.name_space));
	far_index_header_seal(&header);
	assert_int_equal(far_index_header_check(&header, UINT64_MAX), -EPROTO);
}

static void
live_line_needs_its_seal_and_an_epoch(void **state)
{
	struct far_index_live live = {.epoch = 5, .state = FAR_INDEX_SERVING};

	(void)state;
	assert_int_equal(far_index_live_check(&live), -EBADMSG);
	far_index_live_seal(&live);
	assert_int_equal(far_index_live_check(&live), 0);
	live.table_version++;
	assert_int_equal(far_index_live_check(&live), -EBADMSG);
	live.epoch = 0;
	far_index_live_seal(&live);
	assert_int_equal(far_index_live_check(&live), -EBADMSG);
}

static void
segment_line_of_another_epoch_is_not_believed(void **state)
{
	struct far_index_segment line = {.segment = 3, .size_bytes = 1 << 24};

	(void)state;
	far_index_segment_seal(&line, 5);
	assert_int_equal(far_index_segment_check(&line, 5), 0);
	assert_int_equal(far_index_segment_check(&line, 6), -EBADMSG);
	line.remote_addr ^= 64;
	assert_int_equal(far_index_segment_check(&line, 5), -EBADMSG);
}

static void
slot_fill(struct far_slot *slot)
{
	*slot = (struct far_slot){.generation = 9,
				  .segment = 3,
				  .offset_64 = 64,
				  .size_bytes = 4096,
				  .crc32c = 1,
				  .group = 2};
	memset(slot->key, 0xaa, sizeof(slot->key));
	far_slot_seal(slot, 5);
}

static void
slot_is_believed_only_whole_and_under_its_epoch(void **state)
{
	struct far_slot slot, other;
	static const struct far_slot empty;

	(void)state;
	assert_int_equal(far_slot_check(&empty, 5), FAR_SLOT_EMPTY);
	slot_fill(&slot);
	assert_int_equal(far_slot_check(&slot, 5), FAR_SLOT_VALID);
	assert_int_equal(far_slot_check(&slot, 6), FAR_SLOT_TORN);
	/* Any one bit. */
	for (size_t bit = 0; bit < sizeof(slot) * 8; bit++) {
		other = slot;
		((uint8_t *)&other)[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(far_slot_check(&other, 5), FAR_SLOT_TORN);
	}
	/* Any mixture of two slots, and of a slot and nothing, word by word. */
	for (size_t words = 1; words < 8; words++) {
		slot_fill(&other);
		other.generation = 10;
		memset(other.key, 0xbb, sizeof(other.key));
		far_slot_seal(&other, 5);
		memcpy(&other, &slot, words * 8);
		assert_int_equal(far_slot_check(&other, 5), FAR_SLOT_TORN);
		memset(&other, 0, sizeof(other));
		memcpy(&other, &slot, words * 8);
		assert_int_equal(far_slot_check(&other, 5), FAR_SLOT_TORN);
	}
}

static void
sealed_slot_without_bytes_is_not_believed(void **state)
{
	struct far_slot slot;

	(void)state;
	slot_fill(&slot);
	slot.size_bytes = 0;
	far_slot_seal(&slot, 5);
	assert_int_equal(far_slot_check(&slot, 5), FAR_SLOT_TORN);
}

static void
sets_are_two_even_and_of_the_seed(void **state)
{
	uint32_t count[64] = {0};
	struct far_rng rng;
	uint32_t moved = 0;

	(void)state;
	far_rng_init(&rng, 1);
	for (int i = 0; i < 64000; i++) {
		struct far_key key;
		uint64_t sets[2], other[2], halves[2];

		halves[0] = far_rng_u64(&rng);
		halves[1] = far_rng_u64(&rng);
		memcpy(key.bytes, halves, sizeof(key.bytes));
		far_index_sets(&key, 7, 64, sets);
		assert_true(sets[0] < 64 && sets[1] < 64);
		assert_int_not_equal(sets[0], sets[1]);
		count[sets[0]]++;
		count[sets[1]]++;
		far_index_sets(&key, 8, 64, other);
		moved += other[0] != sets[0];
		far_index_sets(&key, 7, 1, sets);
		assert_int_equal(sets[0], 0);
		assert_int_equal(sets[1], 0);
		far_index_sets(&key, 7, 2, sets);
		assert_int_equal(sets[0] + sets[1], 1);
	}
	/* 2000 expected in each; six standard deviations. */
	for (int i = 0; i < 64; i++)
		assert_in_range(count[i], 1730, 2270);
	assert_true(moved > 60000);
}

static struct far_key
random_key(struct far_rng *rng)
{
	uint64_t halves[2] = {far_rng_u64(rng), far_rng_u64(rng)};
	struct far_key key;

	memcpy(key.bytes, halves, sizeof(key.bytes));
	return key;
}

static void
both_sets_of_a_key_are_in_one_page(void **state)
{
	static const uint64_t counts[] = {2, 15, 16, 17, 31, 32, 1000, 1000003};
	struct far_rng rng;

	(void)state;
	far_rng_init(&rng, 2);
	for (int i = 0; i < 100000; i++) {
		uint64_t count = counts[(size_t)i % (sizeof(counts) / sizeof(counts[0]))];
		uint64_t whole = count / FAR_PAGE_SETS * FAR_PAGE_SETS;
		struct far_key key = random_key(&rng);
		uint64_t sets[2];

		far_index_sets(&key, 7, count, sets);
		assert_true(sets[0] < count && sets[1] < count);
		assert_int_not_equal(sets[0], sets[1]);
		if (sets[0] < whole)
			assert_int_equal(sets[0] / FAR_PAGE_SETS, sets[1] / FAR_PAGE_SETS);
		else if (count > FAR_PAGE_SETS)
			assert_in_range(sets[1], count - FAR_PAGE_SETS, count - 1);
	}
}

/* As full as an index is made for, each key in the emptier of its sets: one in 10^5 finds both full. */
static void
hardly_a_key_finds_both_of_its_sets_full(void **state)
{
	enum { SETS = 1 << 17, KEYS = SETS * (int)FAR_SET_SLOTS * 2 / 5 };
	static uint8_t used[SETS];
	uint32_t overflows = 0;
	struct far_rng rng;

	(void)state;
	far_rng_init(&rng, 3);
	for (int i = 0; i < KEYS; i++) {
		struct far_key key = random_key(&rng);
		uint64_t sets[2];
		uint8_t *to;

		far_index_sets(&key, 7, SETS, sets);
		to = &used[sets[used[sets[1]] < used[sets[0]]]];
		if (*to == FAR_SET_SLOTS)
			overflows++;
		else
			(*to)++;
	}
	assert_in_range(overflows, 0, KEYS / 25000);
}

/* The layout is shared with clients of other builds: where a key lies never changes. */
static void
sets_of_a_known_key_stay_where_they_are(void **state)
{
	struct far_key key;
	uint64_t sets[2];

	(void)state;
	for (size_t i = 0; i < sizeof(key.bytes); i++)
		key.bytes[i] = (uint8_t)i;
	far_index_sets(&key, 12345, 1000003, sets);
	assert_int_equal(sets[0], 954599);
	assert_int_equal(sets[1], 954603);
}

static void
lines_are_copied_whole(void **state)
{
	_Alignas(64) uint8_t published[64];
	uint8_t from[65], to[65];

	(void)state;
	for (int i = 0; i < 65; i++)
		from[i] = (uint8_t)(i * 7);
	/* The private side need not be aligned. */
	far_line_store(published, from + 1);
	far_line_load(to + 1, published);
	assert_memory_equal(to + 1, from + 1, 64);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(layout_has_two_and_a_half_slots_a_block),
		cmocka_unit_test(sealed_header_is_taken),
		cmocka_unit_test(torn_header_is_read_again_and_a_foreign_one_is_not),
		cmocka_unit_test(sealed_nonsense_is_refused),
		cmocka_unit_test(live_line_needs_its_seal_and_an_epoch),
		cmocka_unit_test(segment_line_of_another_epoch_is_not_believed),
		cmocka_unit_test(slot_is_believed_only_whole_and_under_its_epoch),
		cmocka_unit_test(sealed_slot_without_bytes_is_not_believed),
		cmocka_unit_test(sets_are_two_even_and_of_the_seed),
		cmocka_unit_test(both_sets_of_a_key_are_in_one_page),
		cmocka_unit_test(hardly_a_key_finds_both_of_its_sets_full),
		cmocka_unit_test(sets_of_a_known_key_stay_where_they_are),
		cmocka_unit_test(lines_are_copied_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
