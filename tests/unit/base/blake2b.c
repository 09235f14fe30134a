/* blake2b.c - the RFC's vector, and the library and the portable one byte for byte. */
#include "base/key.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void
hex(const uint8_t *bytes, size_t size_bytes, char *out)
{
	for (size_t i = 0; i < size_bytes; i++) {
		out[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
		out[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
	}
	out[2 * size_bytes] = '\0';
}

static void
both_give_the_digests_that_are_published(void **state)
{
	static const struct {
		const char *text;
		size_t out_bytes;
		const char *digest;
	} cases[] = {
		/* RFC 7693, appendix A. */
		{"abc", 64,
		 "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
		 "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923"},
		/* The empty message, as the reference implementation has it. */
		{"", 64,
		 "786a02f742015903c6c6fd852552d272912f4740e15847618a86e217f71f5419"
		 "d25e1031afee585313896444934eb04b903a685b1448b755d56f701afe9be2ce"},
		{"abc", 32, "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"},
		{"", 16, "cae66941d9efbd404e4d88758ea67670"},
	};
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t digest[64];
		char text[129];

		far_blake2b(cases[i].text, strlen(cases[i].text), digest, cases[i].out_bytes);
		hex(digest, cases[i].out_bytes, text);
		assert_string_equal(text, cases[i].digest);
		far_blake2b_portable(cases[i].text, strlen(cases[i].text), digest,
				     cases[i].out_bytes);
		hex(digest, cases[i].out_bytes, text);
		assert_string_equal(text, cases[i].digest);
	}
}

static void
library_and_portable_agree_at_every_length(void **state)
{
	uint8_t data[600], a[64], b[64];
	(void)state;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 131 + 7);
	/* Whole digests and keys at every length; libsodium has none below 16 bytes. */
	for (size_t size = 0; size <= sizeof(data); size++) {
		far_blake2b(data, size, a, 64);
		far_blake2b_portable(data, size, b, 64);
		assert_memory_equal(a, b, 64);
	}
	for (size_t out_bytes = 16; out_bytes <= 64; out_bytes++) {
		far_blake2b(data, 300, a, out_bytes);
		far_blake2b_portable(data, 300, b, out_bytes);
		assert_memory_equal(a, b, out_bytes);
	}
}

static void
messages_that_end_at_a_block_are_right_without_the_library_too(void **state)
{
	/* The last block is the one that ends the message, also when it is full. By Python's hashlib of 'a' repeated. */
	static const struct {
		size_t size_bytes;
		const char *digest;
	} cases[] = {
		{127, "2228006d5107a5239e500da574466288"},
		{128, "1271d28e731afb57bdfba6bdaf3501be"},
		{129, "68b7bafbad5055c4ebe6eb170a0f8524"},
		{255, "fb2e0206aaf38999656af45c8779162f"},
		{256, "2dbe331c95d600bb74dcd669f0618bd7"},
	};
	char data[256], text[33];
	uint8_t digest[16];
	(void)state;

	memset(data, 'a', sizeof(data));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		far_blake2b_portable(data, cases[i].size_bytes, digest, 16);
		hex(digest, 16, text);
		assert_string_equal(text, cases[i].digest);
	}
}

static void
nothing_is_written_behind_the_digest(void **state)
{
	uint8_t digest[20];
	(void)state;

	for (size_t out_bytes = 1; out_bytes < sizeof(digest); out_bytes++) {
		memset(digest, 0xee, sizeof(digest));
		far_blake2b("x", 1, digest, out_bytes);
		assert_int_equal(digest[out_bytes], 0xee);
		far_blake2b_portable("x", 1, digest, out_bytes);
		assert_int_equal(digest[out_bytes], 0xee);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_give_the_digests_that_are_published),
		cmocka_unit_test(library_and_portable_agree_at_every_length),
		cmocka_unit_test(messages_that_end_at_a_block_are_right_without_the_library_too),
		cmocka_unit_test(nothing_is_written_behind_the_digest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
