/* verbs_frame.c - hello and frames of a verbs link: what we send is read back, all else is refused. */
#include "transport/verbs/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"

#define ROUNDS 200000

static uint8_t frame[VERBS_FRAME_BYTES];

/* ---- hello ---- */

static struct verbs_hello
hello_good(void)
{
	struct verbs_hello hello;

	far_verbs_hello_fill(&hello, 0x1122334455667788, 32, "who", 3);
	hello.frames = 32;
	return hello;
}

static int
hello_parse(const struct verbs_hello *hello)
{
	struct verbs_hello out;
	uint8_t version;

	return far_verbs_hello_parse(hello, sizeof(*hello), &out, &version);
}

static void
a_hello_is_read_back_also_from_a_longer_one(void **state)
{
	struct verbs_hello hello = hello_good(), out;
	uint8_t padded[196] = {0}; /* RDMA CM fills up with zeros */
	uint8_t version;
	(void)state;

	memcpy(padded, &hello, sizeof(hello));
	assert_int_equal(far_verbs_hello_parse(padded, sizeof(padded), &out, &version), 0);
	assert_memory_equal(&out, &hello, sizeof(out));
	assert_int_equal(version, VERBS_HELLO_VERSION);
}

static void
a_hello_of_a_stranger_is_refused(void **state)
{
	struct verbs_hello hello = hello_good(), out;
	uint8_t version;
	(void)state;

	assert_int_equal(far_verbs_hello_parse(NULL, 0, &out, &version), -EPROTO);
	assert_int_equal(far_verbs_hello_parse(&hello, sizeof(hello) - 1, &out, &version), -EPROTO);
	hello.magic++;
	assert_int_equal(far_verbs_hello_parse(&hello, sizeof(hello), &out, &version), -EPROTO);
	assert_int_equal(version, 0);
	hello = hello_good();
	hello.version++;
	assert_int_equal(far_verbs_hello_parse(&hello, sizeof(hello), &out, &version), -EPROTO);
	assert_int_equal(version, VERBS_HELLO_VERSION + 1); /* for the log */
	hello = hello_good();
	hello.hello_bytes = FAR_HELLO_BYTES_MAX + 1;
	assert_int_equal(hello_parse(&hello), -EPROTO);
	hello = hello_good();
	hello.credits = 0;
	assert_int_equal(hello_parse(&hello), -EPROTO);
	hello.credits = VERBS_CREDITS_MAX + 1;
	assert_int_equal(hello_parse(&hello), -EPROTO);
	hello = hello_good();
	hello.frames = VERBS_FRAMES_MIN - 1;
	assert_int_equal(hello_parse(&hello), -EPROTO);
	hello.frames = VERBS_FRAMES_MAX + 1;
	assert_int_equal(hello_parse(&hello), -EPROTO);
}

/* ---- frames ---- */

static int
parse(struct verbs_frame_header header, size_t size_bytes)
{
	struct verbs_frame_header out;
	const uint8_t *body;
	int rc;

	memcpy(frame, &header, sizeof(header));
	rc = far_verbs_frame_parse(frame, size_bytes, &out, &body);
	if (rc == 0) {
		assert_memory_equal(&out, &header, sizeof(out));
		assert_ptr_equal(body, frame + sizeof(header));
	}
	return rc;
}

static void
a_frame_is_as_long_as_it_says(void **state)
{
	struct verbs_frame_header header = {
		.kind = VERBS_FRAME_MESSAGE, .body_bytes = 100, .total_bytes = 100};
	(void)state;

	assert_int_equal(parse(header, 116), 0);
	assert_int_equal(parse(header, 115), -EPROTO);
	assert_int_equal(parse(header, 117), -EPROTO);
	assert_int_equal(parse(header, sizeof(header) - 1), -EPROTO);
	header.total_bytes = 0; /* a later part */
	assert_int_equal(parse(header, 116), 0);
	header.total_bytes = 99; /* less than this part alone */
	assert_int_equal(parse(header, 116), -EPROTO);
	header.total_bytes = FAR_MESSAGE_BYTES_MAX;
	assert_int_equal(parse(header, 116), 0);
	header.total_bytes = FAR_MESSAGE_BYTES_MAX + 1;
	assert_int_equal(parse(header, 116), -EPROTO);
	header.total_bytes = 100;
	header.kind = VERBS_FRAME_KEYS; /* no part of a message */
	assert_int_equal(parse(header, 116), -EPROTO);
	header.kind = VERBS_FRAME_KIND_END;
	assert_int_equal(parse(header, 116), -EPROTO);
	header = (struct verbs_frame_header){.kind = VERBS_FRAME_CREDIT};
	assert_int_equal(parse(header, 16), 0);
	header.kind = VERBS_FRAME_MESSAGE;
	assert_int_equal(parse(header, 16), -EPROTO);
}

static const struct verbs_frame_key key_good = {
	.rkey = {{1, 2, 3}},
	.base = 0x7f0000000000,
	.size_bytes = 10001,
	.slice_bytes = 4096,
	.rights = FAR_RIGHT_REMOTE_READ,
	.slice_count = 3,
};

static int
key_parse(const struct verbs_frame_key *key, size_t body_bytes)
{
	struct verbs_frame_key out;
	const uint8_t *rkeys;
	size_t at = 0;

	memcpy(frame, key, sizeof(*key));
	return far_verbs_frame_next_key(frame, body_bytes, &at, &out, &rkeys);
}

static void
keys_are_read_back_one_after_the_other(void **state)
{
	struct verbs_frame_key second = key_good, out;
	size_t first_bytes = far_verbs_key_bytes(3), at = 0;
	const uint8_t *rkeys;
	(void)state;

	assert_int_equal(first_bytes % 8, 0);
	second.size_bytes = 4096;
	second.slice_count = 1;
	second.rights = FAR_RIGHT_REMOTE_WRITE;
	memcpy(frame, &key_good, sizeof(key_good));
	memset(frame + sizeof(key_good), 'k', 12);
	memcpy(frame + first_bytes, &second, sizeof(second));
	assert_int_equal(far_verbs_frame_next_key(frame, first_bytes + far_verbs_key_bytes(1), &at,
						  &out, &rkeys),
			 0);
	assert_memory_equal(&out, &key_good, sizeof(out));
	assert_int_equal(rkeys[11], 'k');
	assert_int_equal(far_verbs_frame_next_key(frame, first_bytes + far_verbs_key_bytes(1), &at,
						  &out, &rkeys),
			 0);
	assert_memory_equal(&out, &second, sizeof(out));
	assert_int_equal(far_verbs_frame_next_key(frame, first_bytes + far_verbs_key_bytes(1), &at,
						  &out, &rkeys),
			 -ENOENT);
}

static void
a_key_that_does_not_add_up_is_refused(void **state)
{
	struct verbs_frame_key key = key_good;
	size_t bytes = far_verbs_key_bytes(3);
	(void)state;

	assert_int_equal(key_parse(&key, bytes), 0);
	assert_int_equal(key_parse(&key, bytes - 1), -EPROTO);
	assert_int_equal(key_parse(&key, sizeof(key) - 1), -EPROTO);
	key.slice_count = 2; /* the third slice would have no key */
	assert_int_equal(key_parse(&key, bytes), -EPROTO);
	key.slice_count = 0;
	assert_int_equal(key_parse(&key, bytes), -EPROTO);
	key.slice_count = UINT32_MAX;
	assert_int_equal(key_parse(&key, bytes), -EPROTO);
	key = key_good;
	key.slice_bytes = 0;
	assert_int_equal(key_parse(&key, bytes), -EPROTO);
	key = key_good;
	key.size_bytes = 0;
	assert_int_equal(key_parse(&key, bytes), -EPROTO);
	key = key_good;
	key.base = UINT64_MAX - 10000; /* its last byte would be at the beginning again */
	assert_int_equal(key_parse(&key, bytes), -EPROTO);
	key = key_good;
	key.rights = 0;
	assert_int_equal(key_parse(&key, bytes), -EPROTO);
	key.rights = FAR_RIGHT_REMOTE_READ | FAR_RIGHT_LOCAL;
	assert_int_equal(key_parse(&key, bytes), -EPROTO);
}

/* Whatever comes, a record lies in its frame. */
static void
random_bytes_are_never_read_beyond_their_end(void **state)
{
	struct far_rng rng;
	(void)state;

	far_rng_init(&rng, 7);
	for (int round = 0; round < ROUNDS; round++) {
		size_t bytes = far_rng_below(&rng, 256);
		struct verbs_frame_key key = key_good, out;
		const uint8_t *rkeys;
		size_t at = 0;

		key.slice_count = (uint32_t)far_rng_below(&rng, 64);
		key.size_bytes = key.slice_count * key.slice_bytes;
		for (size_t i = 0; i < bytes; i++)
			frame[i] = (uint8_t)far_rng_u64(&rng);
		if (round % 2 == 0 && bytes >= sizeof(key))
			memcpy(frame, &key, sizeof(key));
		while (far_verbs_frame_next_key(frame, bytes, &at, &out, &rkeys) == 0) {
			assert_true(at <= bytes);
			assert_true(rkeys + (size_t)out.slice_count * 4 <= frame + bytes);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hello_is_read_back_also_from_a_longer_one),
		cmocka_unit_test(a_hello_of_a_stranger_is_refused),
		cmocka_unit_test(a_frame_is_as_long_as_it_says),
		cmocka_unit_test(keys_are_read_back_one_after_the_other),
		cmocka_unit_test(a_key_that_does_not_add_up_is_refused),
		cmocka_unit_test(random_bytes_are_never_read_beyond_their_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
