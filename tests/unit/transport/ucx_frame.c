/* ucx_frame.c - the frames of a ucx link: what we send is read back, all else is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "transport/ucx/frame.h"

static uint8_t packet[UCX_FRAME_BYTES_MAX + 1];

static int
parse(enum ucx_frame_kind kind, const void *body, size_t body_bytes, struct ucx_frame *out)
{
	struct ucx_frame_header header = {
		.magic = UCX_FRAME_MAGIC,
		.version = UCX_FRAME_VERSION,
		.kind = (uint8_t)kind,
		.size_bytes = (uint32_t)(sizeof(header) + body_bytes),
		.seq = 3,
	};

	memcpy(packet, &header, sizeof(header));
	if (body_bytes != 0)
		memcpy(packet + sizeof(header), body, body_bytes);
	return far_ucx_frame_parse(packet, sizeof(header) + body_bytes, out);
}

/* A KEY frame of one record, with @padded_bytes behind it. */
static int
key_parse(const struct ucx_frame_key *key, size_t padded_bytes, struct ucx_frame *out)
{
	uint8_t body[sizeof(*key) + 2UL * UCX_KEY_BYTES_MAX];

	memset(body, 'k', sizeof(body));
	memcpy(body, key, sizeof(*key));
	return parse(UCX_FRAME_KEY, body, sizeof(*key) + padded_bytes, out);
}

static const struct ucx_frame_key good = {
	.rkey = {{1, 2, 3}},
	.base = 0x7f0000000000,
	.size_bytes = 4096,
	.rights = FAR_RIGHT_REMOTE_READ,
	.key_bytes = 21,
};

static void
keys_are_read_back(void **state)
{
	struct ucx_frame_key second = good, out;
	uint8_t body[2 * sizeof(good) + 24];
	struct ucx_frame frame;
	const uint8_t *bytes;
	size_t at = 0;
	(void)state;

	memset(body, 'k', sizeof(body));
	second.rights = FAR_RIGHT_REMOTE_WRITE;
	second.key_bytes = 0;
	memcpy(body, &good, sizeof(good));
	memcpy(body + sizeof(good) + 24, &second, sizeof(second));
	assert_int_equal(parse(UCX_FRAME_KEY, body, sizeof(body), &frame), 0);
	bytes = far_ucx_frame_next_key(&frame, &at, &out);
	assert_non_null(bytes);
	assert_memory_equal(&out, &good, sizeof(out));
	assert_int_equal(bytes[20], 'k');
	assert_non_null(far_ucx_frame_next_key(&frame, &at, &out));
	assert_memory_equal(&out, &second, sizeof(out));
	assert_null(far_ucx_frame_next_key(&frame, &at, &out));
}

static void
a_key_that_is_cut_or_too_long_is_refused(void **state)
{
	struct ucx_frame_key key = good;
	struct ucx_frame frame;
	(void)state;

	assert_int_equal(key_parse(&good, 24, &frame), 0);
	assert_int_equal(key_parse(&good, 23, &frame), -EPROTO);
	assert_int_equal(key_parse(&good, 16, &frame), -EPROTO);
	assert_int_equal(key_parse(&good, 0, &frame), -EPROTO);
	assert_int_equal(key_parse(&good, 32, &frame), -EPROTO); /* the rest is no record */
	assert_int_equal(parse(UCX_FRAME_KEY, &good, sizeof(good) - 1, &frame), -EPROTO);
	assert_int_equal(parse(UCX_FRAME_KEY, NULL, 0, &frame), -EPROTO);
	key.key_bytes = UCX_KEY_BYTES_MAX;
	assert_int_equal(key_parse(&key, UCX_KEY_BYTES_MAX, &frame), 0);
	key.key_bytes = UCX_KEY_BYTES_MAX + 1;
	assert_int_equal(key_parse(&key, UCX_KEY_BYTES_MAX + 8, &frame), -EPROTO);
	key.key_bytes = UINT32_MAX;
	assert_int_equal(key_parse(&key, 24, &frame), -EPROTO);
}

static void
a_key_has_a_right_and_a_region_that_ends(void **state)
{
	struct ucx_frame_key key = good;
	struct ucx_frame frame;
	(void)state;

	key.rights = 0;
	assert_int_equal(key_parse(&key, 24, &frame), -EPROTO);
	key.rights = FAR_RIGHT_LOCAL | FAR_RIGHT_REMOTE_READ;
	assert_int_equal(key_parse(&key, 24, &frame), -EPROTO);
	key.rights = FAR_RIGHT_REMOTE_WRITE; /* which is never UCX's to do */
	assert_int_equal(key_parse(&key, 24, &frame), -EPROTO);
	key = good;
	key.size_bytes = 0;
	assert_int_equal(key_parse(&key, 24, &frame), -EPROTO);
	key.size_bytes = UINT64_MAX;
	assert_int_equal(key_parse(&key, 24, &frame), -EPROTO);
	key.size_bytes = 4096;
	key.base = UINT64_MAX - 4095;
	assert_int_equal(key_parse(&key, 24, &frame), -EPROTO);
	key.base = UINT64_MAX - 4096;
	assert_int_equal(key_parse(&key, 24, &frame), 0);
}

static void
a_hello_gives_what_a_link_can_live_with(void **state)
{
	static const enum ucx_frame_kind kinds[] = {UCX_FRAME_HELLO, UCX_FRAME_WELCOME};
	const struct ucx_frame_hello good_hello = {
		.credits = UCX_CREDITS_MAX,
		.reads_max = 1,
		.window_bytes = UCX_FRAME_BYTES_MAX,
		.hello_bytes = FAR_HELLO_BYTES_MAX,
	};
	struct ucx_frame frame;
	(void)state;

	for (size_t i = 0; i < 2; i++) {
		struct ucx_frame_hello hello = good_hello;

		assert_int_equal(parse(kinds[i], &hello, sizeof(hello), &frame), 0);
		hello.credits = UCX_CREDITS_MAX + 1;
		assert_int_equal(parse(kinds[i], &hello, sizeof(hello), &frame), -EPROTO);
		hello.credits = 0;
		assert_int_equal(parse(kinds[i], &hello, sizeof(hello), &frame), -EPROTO);
		hello = good_hello;
		hello.reads_max = 0;
		assert_int_equal(parse(kinds[i], &hello, sizeof(hello), &frame), -EPROTO);
		hello = good_hello;
		hello.window_bytes--;
		assert_int_equal(parse(kinds[i], &hello, sizeof(hello), &frame), -EPROTO);
		hello = good_hello;
		hello.hello_bytes++;
		assert_int_equal(parse(kinds[i], &hello, sizeof(hello), &frame), -EPROTO);
		assert_int_equal(parse(kinds[i], &good_hello, sizeof(hello) - 1, &frame), -EPROTO);
	}
}

static void
what_is_no_frame_is_refused(void **state)
{
	struct ucx_frame frame;
	(void)state;

	assert_int_equal(parse(UCX_FRAME_STATE, NULL, 0, &frame), 0);
	assert_int_equal(parse(UCX_FRAME_STATE, "x", 1, &frame), -EPROTO);
	assert_int_equal(parse(UCX_FRAME_KIND_END, NULL, 0, &frame), -EPROTO);
	assert_int_equal(parse(0, NULL, 0, &frame), -EPROTO);
	(void)parse(UCX_FRAME_STATE, NULL, 0, &frame);
	packet[2]++; /* the version */
	assert_int_equal(far_ucx_frame_parse(packet, sizeof(struct ucx_frame_header), &frame),
			 -EPROTO);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_are_read_back),
		cmocka_unit_test(a_key_that_is_cut_or_too_long_is_refused),
		cmocka_unit_test(a_key_has_a_right_and_a_region_that_ends),
		cmocka_unit_test(a_hello_gives_what_a_link_can_live_with),
		cmocka_unit_test(what_is_no_frame_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
