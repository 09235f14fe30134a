/* checksum.c - published vectors, chaining, and library against portable. */
#include "base/checksum.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/rng.h"

typedef uint32_t crc_fn(uint32_t crc, const void *data, size_t size_bytes);
typedef uint64_t xxh_fn(const void *data, size_t size_bytes, uint64_t seed);

static crc_fn *const crcs[] = {far_crc32c, far_crc32c_portable};
static xxh_fn *const xxhs[] = {far_xxh64, far_xxh64_portable};

static void
crc32c_gives_the_vectors_of_rfc_3720(void **state)
{
	/* B.4; its byte order on the wire is little-endian. The last one is a SCSI read command. */
	static const uint8_t command[48] = {
		0x01, 0xc0, 0, 0, 0, 0, 0,    0, 0,    0, 0, 0,    0, 0, 0, 0,
		0x14, 0,    0, 0, 0, 0, 0x04, 0, 0,    0, 0, 0x14, 0, 0, 0, 0x18,
		0x28, 0,    0, 0, 0, 0, 0,    0, 0x02, 0, 0, 0,    0, 0, 0, 0,
	};
	uint8_t data[32];
	(void)state;

	for (size_t k = 0; k < 2; k++) {
		memset(data, 0, sizeof(data));
		assert_int_equal(crcs[k](0, data, sizeof(data)), 0x8a9136aa);
		memset(data, 0xff, sizeof(data));
		assert_int_equal(crcs[k](0, data, sizeof(data)), 0x62a8ab43);
		for (size_t i = 0; i < sizeof(data); i++)
			data[i] = (uint8_t)i;
		assert_int_equal(crcs[k](0, data, sizeof(data)), 0x46dd794e);
		for (size_t i = 0; i < sizeof(data); i++)
			data[i] = (uint8_t)(31 - i);
		assert_int_equal(crcs[k](0, data, sizeof(data)), 0x113fdb5c);
		assert_int_equal(crcs[k](0, command, sizeof(command)), 0xd9963a56);
		assert_int_equal(crcs[k](0, "123456789", 9), 0xe3069283);
		assert_int_equal(crcs[k](0, NULL, 0), 0);
	}
}

static void
crc32c_of_pieces_is_that_of_the_whole(void **state)
{
	uint8_t data[2000];
	struct far_rng rng;
	(void)state;

	far_rng_init(&rng, 1);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)far_rng_u64(&rng);
	for (int round = 0; round < 2000; round++) {
		size_t start = far_rng_below(&rng, 16);
		size_t size = far_rng_below(&rng, sizeof(data) - start + 1);
		size_t cut = far_rng_below(&rng, size + 1);
		uint32_t whole = far_crc32c_portable(0, data + start, size);

		for (size_t k = 0; k < 2; k++) {
			uint32_t crc = crcs[k](0, data + start, cut);

			crc = crcs[1 - k](crc, data + start + cut, size - cut);
			assert_int_equal(crc, whole);
		}
	}
}

static void
xxh64_gives_the_vectors_of_its_reference(void **state)
{
	(void)state;
	for (size_t k = 0; k < 2; k++) {
		assert_true(xxhs[k]("", 0, 0) == 0xef46db3751d8e999ULL);
		assert_true(xxhs[k]("a", 1, 0) == 0xd24ec4f1a98c6e5bULL);
		assert_true(xxhs[k]("abc", 3, 0) == 0x44bc2cf5ad770999ULL);
		assert_true(xxhs[k]("Nobody inspects the spammish repetition", 39, 0) ==
			    0xfbcea83c8a378bf1ULL);
	}
}

static void
xxh64_library_and_portable_agree_at_every_length_and_alignment(void **state)
{
	uint8_t data[300];
	struct far_rng rng;
	(void)state;

	far_rng_init(&rng, 2);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)far_rng_u64(&rng);
	for (size_t start = 0; start < 8; start++) {
		for (size_t size = 0; size + start <= sizeof(data); size++) {
			uint64_t seed = far_rng_u64(&rng);

			assert_true(far_xxh64(data + start, size, seed) ==
				    far_xxh64_portable(data + start, size, seed));
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(crc32c_gives_the_vectors_of_rfc_3720),
		cmocka_unit_test(crc32c_of_pieces_is_that_of_the_whole),
		cmocka_unit_test(xxh64_gives_the_vectors_of_its_reference),
		cmocka_unit_test(xxh64_library_and_portable_agree_at_every_length_and_alignment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
