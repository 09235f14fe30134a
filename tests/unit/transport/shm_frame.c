/* shm_frame.c - the frames of the shm socket: what we send is read back, all else is refused. */
#include "tests/unit/transport/shm_world.h"

#include <errno.h>

static uint8_t packet[SHM_FRAME_BYTES_MAX + 1];

static size_t
build(enum shm_frame_kind kind, const void *body, size_t body_bytes, uint32_t credits)
{
	struct shm_frame_header header;

	far_shm_frame_header_fill(&header, kind, body_bytes, credits);
	memcpy(packet, &header, sizeof(header));
	if (body_bytes != 0)
		memcpy(packet + sizeof(header), body, body_bytes);
	return sizeof(header) + body_bytes;
}

static int
parse(enum shm_frame_kind kind, const void *body, size_t body_bytes)
{
	struct shm_frame frame;
	size_t size = build(kind, body, body_bytes, 0);

	return far_shm_frame_parse(packet, size, &frame);
}

static void
what_is_sent_is_read_back(void **state)
{
	struct shm_frame_hello hello = {.nonce = 9, .credits = 32, .hello_bytes = 3};
	struct shm_frame_mem mem = {.region = 5, .size_bytes = 4096, .rights = 2};
	struct shm_frame_write writes[2] = {{.seq = 1, .size_bytes = 9, .flags = SHM_WRITE_SUM},
					    {.flags = SHM_WRITE_LAST | SHM_WRITE_SUM}};
	struct shm_frame_told told = {{.seq = 4, .status = -EACCES, .sum_count = 2}, {11, 12}};
	struct shm_frame frame;
	size_t size;
	(void)state;

	memcpy(hello.hello, "abc", 3);
	size = build(SHM_FRAME_HELLO, &hello, sizeof(hello), 0);
	assert_int_equal(far_shm_frame_parse(packet, size, &frame), 0);
	assert_int_equal(frame.kind, SHM_FRAME_HELLO);
	assert_memory_equal(&frame.u.hello, &hello, sizeof(hello));

	size = build(SHM_FRAME_MEM, &mem, sizeof(mem), 7);
	assert_int_equal(far_shm_frame_parse(packet, size, &frame), 0);
	assert_int_equal(frame.credits, 7);
	assert_memory_equal(&frame.u.mem, &mem, sizeof(mem));

	size = build(SHM_FRAME_WRITE, writes, sizeof(writes), 0);
	assert_int_equal(far_shm_frame_parse(packet, size, &frame), 0);
	assert_int_equal(frame.u.write_count, 2);
	assert_memory_equal(frame.body, writes, sizeof(writes));

	size = build(SHM_FRAME_WRITE_DONE, &told, sizeof(told.done) + 2 * sizeof(told.sums[0]), 0);
	assert_int_equal(far_shm_frame_parse(packet, size, &frame), 0);
	assert_int_equal(frame.u.write_done.status, -EACCES);
	assert_int_equal(frame.u.write_done.sum_count, 2);
	assert_memory_equal(frame.body + sizeof(told.done), told.sums, 2 * sizeof(told.sums[0]));

	size = build(SHM_FRAME_MSG, "hello", 5, 0);
	assert_int_equal(far_shm_frame_parse(packet, size, &frame), 0);
	assert_int_equal(frame.body_bytes, 5);
	size = build(SHM_FRAME_CREDIT, NULL, 0, 3);
	assert_int_equal(far_shm_frame_parse(packet, size, &frame), 0);
}

static void
a_hello_may_grow_and_may_not_shrink(void **state)
{
	uint8_t body[sizeof(struct shm_frame_hello) + 40] = {0};
	struct shm_frame_hello hello = {.nonce = 9, .credits = 1};
	(void)state;

	memcpy(body, &hello, sizeof(hello));
	assert_int_equal(parse(SHM_FRAME_HELLO, body, sizeof(body)), 0);
	assert_int_equal(parse(SHM_FRAME_WELCOME, body, sizeof(hello)), 0);
	assert_int_equal(parse(SHM_FRAME_HELLO, body, sizeof(hello) - 1), -EPROTO);
}

static void
a_header_that_is_not_ours_is_refused(void **state)
{
	struct shm_frame frame;
	size_t size = build(SHM_FRAME_MSG, "hello", 5, 0);
	(void)state;

	for (size_t i = 0; i < size; i++)
		assert_int_equal(far_shm_frame_parse(packet, i, &frame), -EPROTO);
	/* Magic, version, kind, size, credits beyond 16 bits, the zero. */
	for (size_t i = 0; i < sizeof(struct shm_frame_header); i++) {
		if (i == 3 || i == 8 || i == 9)
			continue;
		packet[i] ^= 0x40;
		assert_int_equal(far_shm_frame_parse(packet, size, &frame), -EPROTO);
		packet[i] ^= 0x40;
	}
	packet[3] = SHM_FRAME_KIND_END;
	assert_int_equal(far_shm_frame_parse(packet, size, &frame), -EPROTO);
	packet[3] = 0;
	assert_int_equal(far_shm_frame_parse(packet, size, &frame), -EPROTO);
	assert_int_equal(far_shm_frame_parse(packet, sizeof(packet), &frame), -EPROTO);
}

static void
numbers_outside_their_ranges_are_refused(void **state)
{
	struct shm_frame_hello hello = {.credits = 1, .hello_bytes = FAR_HELLO_BYTES_MAX + 1};
	struct shm_frame_mem mem = {.region = 5, .size_bytes = 4096, .rights = 2};
	struct shm_frame_write write = {.flags = 4};
	struct {
		struct shm_frame_told told;
		uint32_t beyond;
	} too_long = {{{.seq = 4, .status = 1}, {0}}, 0};
	struct shm_frame_told *told = &too_long.told;
	struct shm_frame frame;
	size_t size;
	(void)state;

	assert_int_equal(parse(SHM_FRAME_HELLO, &hello, sizeof(hello)), -EPROTO);
	hello.hello_bytes = 0;
	hello.credits = 0;
	assert_int_equal(parse(SHM_FRAME_HELLO, &hello, sizeof(hello)), -EPROTO);
	hello.credits = 65536;
	assert_int_equal(parse(SHM_FRAME_HELLO, &hello, sizeof(hello)), -EPROTO);

	mem.rights = 0;
	assert_int_equal(parse(SHM_FRAME_MEM, &mem, sizeof(mem)), -EPROTO);
	mem.rights = 8;
	assert_int_equal(parse(SHM_FRAME_MEM, &mem, sizeof(mem)), -EPROTO);
	mem.rights = 2;
	mem.size_bytes = 0;
	assert_int_equal(parse(SHM_FRAME_MEM, &mem, sizeof(mem)), -EPROTO);
	mem.size_bytes = UINT64_MAX;
	assert_int_equal(parse(SHM_FRAME_MEM, &mem, sizeof(mem)), -EPROTO);
	mem.size_bytes = 4096;
	mem.fd_offset = UINT64_MAX - 4095; /* the sum would wrap */
	assert_int_equal(parse(SHM_FRAME_MEM, &mem, sizeof(mem)), -EPROTO);

	assert_int_equal(parse(SHM_FRAME_WRITE, &write, sizeof(write)), -EPROTO);
	write.flags = 0;
	assert_int_equal(parse(SHM_FRAME_WRITE, &write, sizeof(write) - 1), -EPROTO);
	assert_int_equal(parse(SHM_FRAME_WRITE, NULL, 0), -EPROTO);
	assert_int_equal(parse(SHM_FRAME_MSG, NULL, 0), -EPROTO);
	assert_int_equal(parse(SHM_FRAME_CREDIT, "x", 1), -EPROTO);

	assert_int_equal(parse(SHM_FRAME_WRITE_DONE, told, sizeof(told->done)), -EPROTO);
	told->done.status = 0;
	told->done.sum_count = 1;
	assert_int_equal(parse(SHM_FRAME_WRITE_DONE, told, sizeof(told->done)), -EPROTO);
	assert_int_equal(parse(SHM_FRAME_WRITE_DONE, told, sizeof(told->done) + 8), -EPROTO);
	assert_int_equal(parse(SHM_FRAME_WRITE_DONE, told, sizeof(told->done) - 1), -EPROTO);
	assert_int_equal(parse(SHM_FRAME_WRITE_DONE, told, sizeof(told->done) + 4), 0);
	told->done.sum_count = SHM_WRITE_PIECES_MAX + 1;
	assert_int_equal(parse(SHM_FRAME_WRITE_DONE, &too_long, sizeof(too_long)), -EPROTO);
	told->done.sum_count = 0x40000001; /* its bytes would wrap to four */
	assert_int_equal(parse(SHM_FRAME_WRITE_DONE, told, sizeof(told->done) + 4), -EPROTO);
	told->done.sum_count = 0;
	told->done.status = -4000; /* no code of ours: it is told as one that is */
	size = build(SHM_FRAME_WRITE_DONE, told, sizeof(told->done), 0);
	assert_int_equal(far_shm_frame_parse(packet, size, &frame), 0);
	assert_int_equal(frame.u.write_done.status, -EIO);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_sent_is_read_back),
		cmocka_unit_test(a_hello_may_grow_and_may_not_shrink),
		cmocka_unit_test(a_header_that_is_not_ours_is_refused),
		cmocka_unit_test(numbers_outside_their_ranges_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
