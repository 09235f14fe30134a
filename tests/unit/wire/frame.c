/* frame.c - tests: frames keep their bytes, and any other bytes are refused before they are used. */
#include "wire/frame.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"

static uint64_t buffer[FAR_FRAME_BYTES_MAX / 8 + 1];

static int
encode(enum far_frame_type type, const void *body, const void *list, uint32_t count)
{
	memset(buffer, 0xee, sizeof(buffer));
	return far_frame_encode(type, 0x1122334455667788, body, list, count, buffer,
				FAR_FRAME_BYTES_MAX);
}

static int
decode(int size_bytes, struct far_frame *out)
{
	memset(out, 0, sizeof(*out));
	return far_frame_decode(buffer, (size_t)size_bytes, out);
}

static void
commit_has_the_bytes_of_version_1(void **state)
{
	static const uint8_t want[] = {
		20,   0,    0,    0,    72,   0,    0,    0,                   /* head */
		0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,                /* tag */
		8,    7,    6,    5,    4,    3,    2,    1,                   /* serial */
		1,    0,    0,    0,    1,    0,    0,    0,                   /* END, one */
		0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,                /* key */
		0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0x40, 0, 0, 0, /* at */
		0,    0x10, 0,    0,    0xef, 0xbe, 0xad, 0xde, 5,    0, 0, 0, /* crc */
		1,    0,    0,    0,    0,    0,    0,    0,                   /* no crc */
	};
	struct far_frame_commit commit = {
		.serial = 0x0102030405060708, .flags = FAR_COMMIT_END, .count = 1};
	struct far_frame_block block = {.offset_64 = 64,
					.size_bytes = 4096,
					.crc32c = 0xdeadbeef,
					.group = 5,
					.flags = FAR_SLOT_NO_CRC};
	struct far_frame frame;

	(void)state;
	for (int i = 0; i < 16; i++)
		block.key[i] = (uint8_t)(0xa0 + i);
	assert_int_equal(encode(FAR_FRAME_COMMIT, &commit, &block, 1), sizeof(want));
	assert_memory_equal(buffer, want, sizeof(want));
	assert_int_equal(decode(sizeof(want), &frame), 0);
	assert_int_equal(frame.head.type, FAR_FRAME_COMMIT);
	assert_int_equal(frame.head.tag, 0x1122334455667788);
	assert_int_equal(frame.count, 1);
	assert_memory_equal(frame.body, &commit, sizeof(commit));
	assert_memory_equal(frame.list, &block, sizeof(block));
}

/* One good frame of each type: type, body, list. */
struct sample {
	enum far_frame_type type;
	const void *body;
	const void *list;
	uint32_t count;
	int body_bytes;
	int item_bytes;
};

static const struct far_frame_hello hello = {
	.version = 1, .name_space = "default", .donor = "donor-a", .client = "c"};
static const struct far_frame_welcome welcome = {
	.version = 1, .epoch = 5, .index_bytes = 8192, .donor = "donor-a"};
static const struct far_frame_refused refused = {.rc = -ENODEV, .reason = "no"};
static const struct far_frame_lane_ask lane_ask = {.lane_count = 1};
static const struct far_frame_lane_grant lane_grant = {
	.serial = 3, .segment = 1, .offset_bytes = 4096, .size_bytes = 4 << 20};
static const struct far_frame_lane lane = {.serial = 3};
static const struct far_frame_commit commit_two = {.serial = 3, .count = 2};
static const struct far_frame_commit commit_end = {.serial = 3, .flags = FAR_COMMIT_END};
static const struct far_frame_block two_blocks[2];
static const struct far_frame_committed committed = {.serial = 3, .count = 3};
static const int32_t three_results[3] = {0, -EEXIST, -EINVAL};
static const struct far_frame_keys two_keys = {.count = 2};
static const uint8_t keys[2][FAR_KEY_BYTES];
static const struct far_frame_results results = {.count = 3};
static const struct far_frame_reject reject;
static const struct far_frame_segment segment = {.segment = 4};
static const struct far_frame_status status = {.count = 2};
static const uint64_t two_values[2] = {1, 2};

#define PLAIN(name, b)                                                                             \
	{                                                                                          \
		FAR_FRAME_##name, &(b), NULL, 0, sizeof(b), 0                                      \
	}
#define LISTED(name, b, l, n)                                                                      \
	{                                                                                          \
		FAR_FRAME_##name, &(b), l, n, sizeof(b), sizeof((l)[0])                            \
	}

static const struct sample samples[] = {
	PLAIN(HELLO, hello),
	PLAIN(WELCOME, welcome),
	PLAIN(REFUSED, refused),
	PLAIN(LANE_ASK, lane_ask),
	PLAIN(LANE_GRANT, lane_grant),
	{FAR_FRAME_LANE_FULL, NULL, NULL, 0, 0, 0},
	PLAIN(LANE_RECALL, lane),
	LISTED(COMMIT, commit_two, two_blocks, 2),
	{FAR_FRAME_COMMIT, &commit_end, NULL, 0, sizeof(commit_end), sizeof(two_blocks[0])},
	LISTED(COMMITTED, committed, three_results, 3),
	LISTED(TOUCH, two_keys, keys, 2),
	LISTED(DELETE, two_keys, keys, 2),
	LISTED(DELETED, results, three_results, 3),
	PLAIN(REJECT, reject),
	PLAIN(SEGMENT_RECALL, segment),
	PLAIN(SEGMENT_GONE, segment),
	{FAR_FRAME_STATUS_ASK, NULL, NULL, 0, 0, 0},
	LISTED(STATUS, status, two_values, 2),
	{FAR_FRAME_BYE, NULL, NULL, 0, 0, 0},
};

#define SAMPLE_COUNT (sizeof(samples) / sizeof(samples[0]))

static int
sample_encode(const struct sample *sample)
{
	return encode(sample->type, sample->body, sample->list, sample->count);
}

static void
every_type_comes_back_as_it_went(void **state)
{
	(void)state;
	for (size_t i = 0; i < SAMPLE_COUNT; i++) {
		const struct sample *sample = &samples[i];
		struct far_frame frame;
		int size = sample_encode(sample);

		assert_int_equal(size,
				 16 + sample->body_bytes + (int)sample->count * sample->item_bytes);
		assert_int_equal(decode(size, &frame), 0);
		assert_int_equal(frame.head.type, sample->type);
		assert_int_equal(frame.head.flags, 0);
		assert_int_equal(frame.count, sample->count);
		if (sample->body_bytes > 0)
			assert_memory_equal(frame.body, sample->body, (size_t)sample->body_bytes);
		else
			assert_null(frame.body);
		if (sample->count > 0)
			assert_memory_equal(frame.list, sample->list,
					    sample->count * (size_t)sample->item_bytes);
		else
			assert_null(frame.list);
	}
}

static void
every_other_length_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < SAMPLE_COUNT; i++) {
		int size = sample_encode(&samples[i]);
		struct far_frame_head *head = (struct far_frame_head *)(void *)buffer;
		struct far_frame frame;

		for (int cut = 0; cut < size; cut++) {
			assert_int_equal(decode(cut, &frame), -EPROTO);
			/* The head agrees with the length, the type does not. */
			head->size_bytes = (uint32_t)cut;
			assert_int_equal(decode(cut, &frame), -EPROTO);
			head->size_bytes = (uint32_t)size;
		}
		head->size_bytes = (uint32_t)size + 1;
		assert_int_equal(decode(size + 1, &frame), -EPROTO);
		head->size_bytes = (uint32_t)size;
		assert_int_equal(decode(size, &frame), 0);
		assert_int_equal(far_frame_decode(buffer, FAR_FRAME_BYTES_MAX + 1, &frame),
				 -EPROTO);
	}
}

static void
refused_frame_writes_nothing(void **state)
{
	struct far_frame frame, before;

	(void)state;
	memset(&frame, 0x77, sizeof(frame));
	before = frame;
	memset(buffer, 0xff, 64);
	assert_int_equal(far_frame_decode(buffer, 64, &frame), -EPROTO);
	assert_memory_equal(&frame, &before, sizeof(frame));
}

static void
unknown_types_end_the_link_unless_optional(void **state)
{
	struct far_frame_head *head = (struct far_frame_head *)(void *)buffer;
	static const uint16_t types[] = {0, FAR_FRAME_CHALLENGE, FAR_FRAME_RESPONSE, 6, 999, 65535};

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct far_frame frame;

		*head = (struct far_frame_head){.type = types[i], .size_bytes = 24};
		assert_int_equal(decode(24, &frame), -EPROTO);
		head->flags = FAR_FRAME_OPTIONAL;
		assert_int_equal(decode(24, &frame), -EOPNOTSUPP);
		head->flags = 2;
		assert_int_equal(decode(24, &frame), -EPROTO);
	}
}

static void
refuse_changed(const struct sample *sample, size_t at, const void *bytes, size_t size_bytes)
{
	int size = sample_encode(sample);
	struct far_frame frame;

	memcpy((uint8_t *)buffer + 16 + at, bytes, size_bytes);
	assert_int_equal(decode(size, &frame), -EPROTO);
}

static const struct sample *
sample_of(enum far_frame_type type)
{
	for (size_t i = 0; i < SAMPLE_COUNT; i++) {
		if (samples[i].type == type)
			return &samples[i];
	}
	return NULL;
}

#define REFUSE_FIELD(name, body, field, value)                                                     \
	do {                                                                                       \
		__typeof__(((struct body *)0)->field) v_ = (value);                                \
		refuse_changed(sample_of(FAR_FRAME_##name), offsetof(struct body, field), &v_,     \
			       sizeof(v_));                                                        \
	} while (0)

static void
contents_that_make_no_sense_are_refused(void **state)
{
	char endless[FAR_NAME_BYTES_MAX + 1];
	char endless_reason[128];
	int32_t good_news = 1;
	uint32_t flags = 2;

	(void)state;
	memset(endless, 'x', sizeof(endless));
	memset(endless_reason, 'x', sizeof(endless_reason));
	refuse_changed(sample_of(FAR_FRAME_HELLO), offsetof(struct far_frame_hello, donor), endless,
		       sizeof(endless));
	refuse_changed(sample_of(FAR_FRAME_HELLO), offsetof(struct far_frame_hello, name_space),
		       endless, sizeof(endless));
	refuse_changed(sample_of(FAR_FRAME_HELLO), offsetof(struct far_frame_hello, client),
		       endless, sizeof(endless));
	refuse_changed(sample_of(FAR_FRAME_WELCOME), offsetof(struct far_frame_welcome, donor),
		       endless, sizeof(endless));
	refuse_changed(sample_of(FAR_FRAME_REFUSED), offsetof(struct far_frame_refused, reason),
		       endless_reason, sizeof(endless_reason));
	REFUSE_FIELD(WELCOME, far_frame_welcome, epoch, 0);
	REFUSE_FIELD(WELCOME, far_frame_welcome, index_bytes, 0);
	REFUSE_FIELD(REFUSED, far_frame_refused, rc, 0);
	REFUSE_FIELD(REFUSED, far_frame_refused, rc, 5);
	REFUSE_FIELD(LANE_ASK, far_frame_lane_ask, lane_count, 0);
	REFUSE_FIELD(LANE_ASK, far_frame_lane_ask, lane_count, 17);
	REFUSE_FIELD(LANE_GRANT, far_frame_lane_grant, serial, 0);
	REFUSE_FIELD(LANE_GRANT, far_frame_lane_grant, segment, 0);
	REFUSE_FIELD(LANE_GRANT, far_frame_lane_grant, size_bytes, 0);
	REFUSE_FIELD(LANE_GRANT, far_frame_lane_grant, size_bytes, FAR_LANE_BYTES_MAX + 1);
	REFUSE_FIELD(LANE_GRANT, far_frame_lane_grant, offset_bytes, UINT64_MAX - 4095);
	REFUSE_FIELD(LANE_GRANT, far_frame_lane_grant, offset_bytes, 64);
	REFUSE_FIELD(COMMIT, far_frame_commit, flags, 2);
	REFUSE_FIELD(COMMIT, far_frame_commit, count, 1);
	REFUSE_FIELD(COMMIT, far_frame_commit, count, FAR_COMMIT_BLOCKS_MAX + 1);
	REFUSE_FIELD(COMMIT, far_frame_commit, count, UINT32_MAX);
	REFUSE_FIELD(TOUCH, far_frame_keys, count, FAR_KEYS_MAX + 1);
	REFUSE_FIELD(DELETE, far_frame_keys, count, 0);
	REFUSE_FIELD(STATUS, far_frame_status, count, 3);
	refuse_changed(sample_of(FAR_FRAME_COMMIT),
		       sizeof(struct far_frame_commit) + offsetof(struct far_frame_block, flags),
		       &flags, sizeof(flags));
	refuse_changed(sample_of(FAR_FRAME_COMMITTED), sizeof(struct far_frame_committed),
		       &good_news, sizeof(good_news));
	refuse_changed(sample_of(FAR_FRAME_DELETED), sizeof(struct far_frame_results) + 4,
		       &good_news, sizeof(good_news));
}

static void
commit_of_nothing_needs_an_end(void **state)
{
	struct far_frame_commit commit = {.serial = 3};
	struct far_frame frame;
	uint32_t end = FAR_COMMIT_END;

	(void)state;
	(void)sample_encode(&samples[8]); /* END, no block */
	assert_int_equal(decode(32, &frame), 0);
	memcpy((uint8_t *)buffer + 16, &commit, sizeof(commit));
	assert_int_equal(decode(32, &frame), -EPROTO);
	memcpy((uint8_t *)buffer + 16 + offsetof(struct far_frame_commit, flags), &end,
	       sizeof(end));
	assert_int_equal(decode(32, &frame), 0);
}

static void
largest_lists_fit_a_frame(void **state)
{
	static struct far_frame_block blocks[FAR_COMMIT_BLOCKS_MAX];
	static uint8_t all_keys[FAR_KEYS_MAX][FAR_KEY_BYTES];
	struct far_frame_commit commit = {.serial = 1, .count = FAR_COMMIT_BLOCKS_MAX};
	struct far_frame_keys many = {.count = FAR_KEYS_MAX};
	struct far_frame frame;
	int size;

	(void)state;
	size = encode(FAR_FRAME_COMMIT, &commit, blocks, FAR_COMMIT_BLOCKS_MAX);
	assert_in_range(size, 1, FAR_FRAME_BYTES_MAX);
	assert_int_equal(decode(size, &frame), 0);
	size = encode(FAR_FRAME_TOUCH, &many, all_keys, FAR_KEYS_MAX);
	assert_in_range(size, 1, FAR_FRAME_BYTES_MAX);
	assert_int_equal(decode(size, &frame), 0);
}

static void
frame_that_does_not_fit_is_not_written(void **state)
{
	uint64_t small[4] = {0};

	(void)state;
	assert_int_equal(far_frame_encode(FAR_FRAME_HELLO, 1, &hello, NULL, 0, small, 32),
			 -EMSGSIZE);
	assert_int_equal(small[0], 0);
	assert_int_equal(far_frame_encode(FAR_FRAME_BYE, 1, NULL, NULL, 0, small, 16), 16);
}

static void
random_changes_never_reach_outside_the_frame(void **state)
{
	struct far_rng rng;

	(void)state;
	far_rng_init(&rng, 3);
	for (int i = 0; i < 100000; i++) {
		int size = sample_encode(&samples[far_rng_below(&rng, SAMPLE_COUNT)]);
		struct far_frame frame;

		for (int k = 0; k < 3; k++)
			((uint8_t *)buffer)[far_rng_below(&rng, (uint64_t)size)] =
				(uint8_t)far_rng_u64(&rng);
		if (decode(size, &frame) != 0)
			continue;
		assert_true(frame.list == NULL ||
			    (const uint8_t *)frame.list <= (const uint8_t *)buffer + size);
	}
}

static void
names_are_those_of_the_list(void **state)
{
	(void)state;
	assert_string_equal(far_frame_name(FAR_FRAME_COMMIT), "COMMIT");
	assert_string_equal(far_frame_name(FAR_FRAME_BYE), "BYE");
	assert_string_equal(far_frame_name(7), "unknown");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commit_has_the_bytes_of_version_1),
		cmocka_unit_test(every_type_comes_back_as_it_went),
		cmocka_unit_test(every_other_length_is_refused),
		cmocka_unit_test(refused_frame_writes_nothing),
		cmocka_unit_test(unknown_types_end_the_link_unless_optional),
		cmocka_unit_test(contents_that_make_no_sense_are_refused),
		cmocka_unit_test(commit_of_nothing_needs_an_end),
		cmocka_unit_test(largest_lists_fit_a_frame),
		cmocka_unit_test(frame_that_does_not_fit_is_not_written),
		cmocka_unit_test(random_changes_never_reach_outside_the_frame),
		cmocka_unit_test(names_are_those_of_the_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
