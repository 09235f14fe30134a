/* key.c - a digest separates every field, and text goes both ways. */
#include "base/key.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>

static const struct far_key_fields plain = {
	.name_space = "prod",
	.model = "llama-3.1-70b",
	.salt = "tenant",
	.rank = 7,
	.group = 0x01020304,
	.chunk_hash = "abc",
	.chunk_hash_bytes = 3,
};

static struct far_key
digest(const struct far_key_fields *fields)
{
	struct far_key key;

	assert_int_equal(far_key_digest(fields, &key), 0);
	return key;
}

static void
digests_are_those_of_the_documented_encoding(void **state)
{
	/* Computed apart from this code, with Python's hashlib over the encoding in base/key.h. */
	static const char zeros[32];
	const struct far_key_fields least = {.chunk_hash = zeros, .chunk_hash_bytes = 32};
	char text[FAR_KEY_TEXT_BYTES];
	struct far_key key;
	(void)state;

	key = digest(&least);
	far_key_format(&key, text);
	assert_string_equal(text, "a654296492b7de903d020a368722a06c");
	key = digest(&plain);
	far_key_format(&key, text);
	assert_string_equal(text, "d855d829e13f9f79f325c4f58aabb511");
}

static void
every_field_changes_the_key(void **state)
{
	struct far_key_fields other[7];
	struct far_key keys[8];
	(void)state;

	for (size_t i = 0; i < 7; i++)
		other[i] = plain;
	other[0].name_space = NULL;
	other[1].model = "llama-3.1-70";
	other[2].salt = NULL;
	other[3].rank = 8;
	other[4].group = 7;
	other[5].chunk_hash = "abd";
	/* The same bytes in a row, cut at another place. */
	other[6].model = "llama-3.1-70bt";
	other[6].salt = "enant";
	keys[7] = digest(&plain);
	for (size_t i = 0; i < 7; i++) {
		keys[i] = digest(&other[i]);
		assert_false(far_key_equal(&keys[i], &keys[7]));
		for (size_t j = 0; j < i; j++)
			assert_false(far_key_equal(&keys[i], &keys[j]));
	}
}

static void
fields_left_out_are_their_defaults(void **state)
{
	struct far_key_fields a = plain, b = plain;
	struct far_key key_a, key_b;
	(void)state;

	a.name_space = NULL;
	b.name_space = "default";
	a.model = a.salt = NULL;
	b.model = b.salt = "";
	key_a = digest(&a);
	key_b = digest(&b);
	assert_true(far_key_equal(&key_a, &key_b));
}

static void
fields_beyond_their_bounds_are_refused(void **state)
{
	static char text[1026];
	struct far_key_fields fields;
	struct far_key key = {{1}}, before = key;
	(void)state;

	memset(text, 'x', 1025);
	fields = plain;
	fields.model = text;
	assert_int_equal(far_key_digest(&fields, &key), -EINVAL);
	fields = plain;
	fields.chunk_hash = NULL;
	assert_int_equal(far_key_digest(&fields, &key), -EINVAL);
	fields = plain;
	fields.chunk_hash_bytes = 0;
	assert_int_equal(far_key_digest(&fields, &key), -EINVAL);
	fields.chunk_hash_bytes = 1025;
	assert_int_equal(far_key_digest(&fields, &key), -EINVAL);
	assert_true(far_key_equal(&key, &before)); /* untouched on failure */
	text[1024] = '\0';
	fields = plain;
	fields.name_space = fields.model = fields.salt = text;
	fields.chunk_hash = text;
	fields.chunk_hash_bytes = 1024;
	assert_int_equal(far_key_digest(&fields, &key), 0);
}

static void
text_goes_both_ways(void **state)
{
	const char *text = "00112233445566778899aabbccddeeff";
	char out[FAR_KEY_TEXT_BYTES];
	struct far_key key, upper;
	(void)state;

	assert_int_equal(far_key_parse(text, &key), 0);
	far_key_format(&key, out);
	assert_string_equal(out, text);
	assert_int_equal(far_key_parse("00112233445566778899AABBCCDDEEFF", &upper), 0);
	assert_true(far_key_equal(&key, &upper));
	assert_true(far_key_lo(&key) != far_key_hi(&key));
}

static void
text_that_is_no_key_is_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"0011",
		"00112233445566778899aabbccddeef",
		"00112233445566778899aabbccddeeff0",
		"00112233445566778899aabbccddeefg",
		"0x112233445566778899aabbccddeeff",
		" 0112233445566778899aabbccddeeff",
		"00000000000000000000000000000000",
	};
	struct far_key key = {{1}}, before = key;
	(void)state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(far_key_parse(bad[i], &key), -EINVAL);
	assert_true(far_key_equal(&key, &before));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(digests_are_those_of_the_documented_encoding),
		cmocka_unit_test(every_field_changes_the_key),
		cmocka_unit_test(fields_left_out_are_their_defaults),
		cmocka_unit_test(fields_beyond_their_bounds_are_refused),
		cmocka_unit_test(text_goes_both_ways),
		cmocka_unit_test(text_that_is_no_key_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
