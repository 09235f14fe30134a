/* shm_peer.c - broken and hostile peers of the shm transport: each costs its own link alone. */
#include "tests/unit/transport/shm_world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/checksum.h"
#include "tests/support/log_capture.h"
#include "transport/shm/shm_priv.h"

static struct world world;
static struct far_pages control;
static struct shm_frame_hello welcome;

static int
descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		count++;
	(void)closedir(dir);
	return count;
}

static int
rogue_open(void)
{
	far_log_capture_start();
	far_log_capture_expect("dropped");
	world_open(&world);
	return rogue_hello(&world, &control, &welcome);
}

static void
rogue_close(int fd)
{
	(void)close(fd);
	far_pages_unmap(&control);
	world_close(&world);
	far_log_capture_finish();
}

/* The donor drops the rogue, and serves others. */
static void
rogue_lost(int status)
{
	alone_wait(world.donor, world.d.lost == 1);
	assert_int_equal(world.d.lost_status, status);
	assert_int_equal(far_log_capture_count("dropped"), 1);
	far_transport_disconnect(world.d.link);
	alone_wait(world.donor, world.d.link == NULL);
	world_connect(&world);
	assert_int_equal(far_transport_send(world.c.link, "x", 1), 0);
	world_wait(&world, world.d.messages == 1);
}

static void
announce(int fd, uint64_t size_bytes, int pass_fd)
{
	struct shm_frame_mem mem = {
		.region = 1, .size_bytes = size_bytes, .rights = FAR_RIGHT_REMOTE_READ};

	rogue_send(fd, SHM_FRAME_MEM, &mem, sizeof(mem), pass_fd);
}

static int
memfd_make(off_t size, bool whole, int seals)
{
	int fd = memfd_create("rogue", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	if (whole)
		assert_int_equal(fallocate(fd, 0, 0, size), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void
memory_refused(int mem_fd, uint64_t size_bytes)
{
	int fd = rogue_open();

	announce(fd, size_bytes, mem_fd);
	(void)close(mem_fd);
	rogue_lost(-EPROTO);
	rogue_close(fd);
}

static void
memory_that_can_shrink_is_refused(void **state)
{
	(void)state;
	memory_refused(memfd_make(65536, true, F_SEAL_GROW), 65536);
}

static void
memory_that_holes_can_be_punched_into_is_refused(void **state)
{
	(void)state;
	memory_refused(memfd_make(65536, true, F_SEAL_SHRINK | F_SEAL_GROW), 65536);
}

static void
memory_with_holes_is_refused(void **state)
{
	(void)state;
	/* A tebibyte that is not there: reading it would make it ours to pay for. */
	memory_refused(memfd_make((off_t)1 << 40, false,
				  F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE),
		       1ULL << 40);
}

static void
a_region_larger_than_its_file_is_refused(void **state)
{
	(void)state;
	memory_refused(memfd_make(65536, true, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE),
		       65537);
}

static void
a_clients_ordinary_file_is_refused(void **state)
{
	char path[] = "/tmp/far-shm-file-XXXXXX";
	int rw = mkstemp(path);
	int fd;
	(void)state;

	assert_true(rw >= 0);
	assert_int_equal(fallocate(rw, 0, 0, 65536), 0);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	(void)close(rw);
	assert_int_equal(unlink(path), 0);
	memory_refused(fd, 65536);
}

static void
a_donors_backing_file_is_read_through_a_read_only_descriptor(void **state)
{
	char path[] = "/tmp/far-shm-file-XXXXXX";
	int rw = mkstemp(path);
	struct far_mem_source source = {.size_bytes = 65536, .fd = rw};
	struct far_mem *mem;
	struct memory to;
	struct far_piece piece;
	struct far_op op;
	(void)state;

	assert_true(rw >= 0);
	assert_int_equal(fallocate(rw, 0, 0, 65536), 0);
	source.base = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, rw, 0);
	assert_true(source.base != MAP_FAILED);
	memset(source.base, 0x3c, 65536);
	world_open(&world);
	world_connect(&world);
	memory_open(&to, world.client, 65536, FAR_RIGHT_LOCAL, NULL);
	assert_int_equal(
		far_transport_mem_reg(world.donor, &source, FAR_RIGHT_REMOTE_READ, NULL, &mem), 0);
	assert_int_equal(far_transport_mem_expose(mem, world.d.link), 0);
	piece = (struct far_piece){.addr = to.base, .size_bytes = 65536, .mem = to.mem};
	op = op_make(FAR_OP_READ, &piece, &mem->remote, 0, 1);
	assert_int_equal(far_transport_post(world.c.link, &op, 1), 0);
	world_wait(&world, world.c.dones == 1);
	assert_int_equal(world.c.token_status[1], 0);
	assert_memory_equal(to.base, source.base, 65536);
	far_transport_mem_dereg(mem);
	memory_close(&to);
	world_close(&world);
	assert_int_equal(munmap(source.base, 65536), 0);
	(void)close(rw);
	assert_int_equal(unlink(path), 0);
}

static void
an_unsealed_memfd_is_not_registered(void **state)
{
	struct far_mem_source source = {.size_bytes = 4096};
	struct far_mem *mem = NULL;
	static uint8_t bytes[4096];
	(void)state;

	far_log_capture_start();
	far_log_capture_expect("not registered");
	world_open(&world);
	source.base = bytes;
	source.fd = memfd_make(4096, true, F_SEAL_GROW);
	assert_int_equal(
		far_transport_mem_reg(world.donor, &source, FAR_RIGHT_REMOTE_READ, NULL, &mem),
		-EINVAL);
	assert_null(mem);
	(void)close(source.fd);
	world_close(&world);
	far_log_capture_finish();
}

static void
a_hello_without_a_control_page_is_not_accepted(void **state)
{
	struct shm_frame_hello hello = {.nonce = 1, .credits = 1};
	char byte;
	int fd;
	(void)state;

	far_log_capture_start();
	far_log_capture_expect("dropped");
	world_open(&world);
	fd = rogue_connect(&world);
	rogue_send(fd, SHM_FRAME_HELLO, &hello, sizeof(hello), -1);
	for (int i = 0; i < 100; i++)
		(void)far_transport_poll(world.donor, 16);
	assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
	assert_int_equal(world.accepts, 0);
	(void)close(fd);
	world_close(&world);
	far_log_capture_finish();
}

static void
random_packets_cost_the_link_and_leave_no_descriptor(void **state)
{
	uint8_t packet[512];
	struct far_rng rng;
	(void)state;

	far_rng_init(&rng, 20261123);
	for (int round = 0; round < 50; round++) {
		int before, fd;
		size_t size = 1 + (size_t)far_rng_below(&rng, sizeof(packet));

		before = descriptors();
		fd = rogue_open();
		for (size_t i = 0; i < size; i++)
			packet[i] = (uint8_t)far_rng_u64(&rng);
		assert_int_equal(send(fd, packet, size, MSG_NOSIGNAL), size);
		rogue_lost(-EPROTO);
		rogue_close(fd);
		assert_int_equal(descriptors(), before);
	}
}

/* Frames that look right, with numbers that are small, huge or those that exist. */
static uint64_t
number(struct far_rng *rng)
{
	switch (far_rng_below(rng, 4)) {
	case 0:
		return far_rng_below(rng, 4);
	case 1:
		return 65536 - far_rng_below(rng, 3);
	case 2:
		return UINT64_MAX - far_rng_below(rng, 70000);
	default:
		return far_rng_below(rng, 70000);
	}
}

static void
frame_throw(int fd, struct far_rng *rng, const struct far_rkey *rkey, int mem_fd)
{
	struct shm_frame_write write[3];
	struct shm_frame_mem mem = {.region = 1 + far_rng_below(rng, 6),
				    .size_bytes = 1 + number(rng) / 3,
				    .fd_offset = number(rng) / 3,
				    .rights = (uint32_t)far_rng_below(rng, 7) + 1};
	struct shm_frame_mem_gone gone = {.region = far_rng_below(rng, 7)};
	struct shm_frame_write_done done = {.seq = number(rng)};

	switch (far_rng_below(rng, 8)) {
	case 0:
	case 1:
	case 2:
		if (far_rng_below(rng, 2) == 0) {
			mem.size_bytes = 65536;
			mem.fd_offset = 0;
		}
		rogue_send(fd, SHM_FRAME_MEM, &mem, sizeof(mem),
			   far_rng_below(rng, 4) == 0 ? -1 : mem_fd);
		return;
	case 3:
		rogue_send(fd, SHM_FRAME_MEM_GONE, &gone, sizeof(gone), -1);
		return;
	case 4:
		rogue_send(fd, SHM_FRAME_MSG, &done, sizeof(done), -1);
		return;
	case 5:
		if (far_rng_below(rng, 8) == 0)
			rogue_send(fd, SHM_FRAME_WRITE_DONE, &done, sizeof(done), -1);
		return;
	default:
		for (size_t i = 0; i < 3; i++)
			write[i] = (struct shm_frame_write){
				.rkey = *rkey,
				.addr = number(rng) % 65536,
				.source = 1 + far_rng_below(rng, 4),
				.source_offset = far_rng_below(rng, 8) ? 0 : number(rng),
				.seq = i + 1,
				.size_bytes = (uint32_t)far_rng_below(rng, 200),
				.flags = SHM_WRITE_LAST | (i == 1 ? SHM_WRITE_SUM : 0),
			};
		rogue_send(fd, SHM_FRAME_WRITE, write, sizeof(write), -1);
	}
}

static void
any_sequence_of_frames_costs_the_link_at_most(void **state)
{
	struct far_rng rng;
	int before = descriptors();
	uint64_t pages = far_pages_live_bytes();
	(void)state;

	far_rng_init(&rng, 4711);
	for (int round = 0; round < 150; round++) {
		struct memory grant;
		int mem_fd =
			memfd_make(65536, true, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE);
		int fd = rogue_open();

		memory_open(&grant, world.donor, 65536, FAR_RIGHT_REMOTE_WRITE, NULL);
		assert_int_equal(far_transport_mem_expose(grant.mem, world.d.link), 0);
		for (int i = 0; i < 8; i++)
			frame_throw(fd, &rng, &grant.mem->remote.rkey, mem_fd);
		for (int i = 0; i < 20; i++)
			(void)far_transport_poll(world.donor, 16);
		far_transport_disconnect(world.d.link);
		alone_wait(world.donor, world.d.link == NULL);
		memory_close(&grant);
		(void)close(mem_fd);
		rogue_close(fd);
	}
	assert_int_equal(descriptors(), before);
	assert_int_equal(far_pages_live_bytes(), pages);
}

static void
descriptors_where_none_belong_are_closed(void **state)
{
	struct shm_frame_mem_gone gone = {.region = 9};
	int before = descriptors();
	int fd = rogue_open();
	(void)state;

	rogue_send(fd, SHM_FRAME_MEM_GONE, &gone, sizeof(gone), fd);
	rogue_lost(-EPROTO);
	rogue_close(fd);
	assert_int_equal(descriptors(), before);
}

static void
messages_beyond_the_credit_cost_the_link(void **state)
{
	int fd;
	(void)state;

	world.config.message_credits = 4;
	fd = rogue_open();
	memset(&world.config, 0, sizeof(world.config));
	assert_int_equal(welcome.credits, 4);
	/* All there before the donor looks: no credit comes back in between. */
	for (int i = 0; i < 5; i++)
		rogue_send(fd, SHM_FRAME_MSG, "x", 1, -1);
	alone_wait(world.donor, world.d.lost == 1);
	assert_int_equal(world.d.messages, 4);
	rogue_lost(-EPROTO);
	rogue_close(fd);
}

static void
credits_that_nobody_had_cost_the_link(void **state)
{
	struct shm_frame_header header;
	int fd = rogue_open();
	(void)state;

	far_shm_frame_header_fill(&header, SHM_FRAME_CREDIT, 0, 1); /* none was used */
	assert_int_equal(send(fd, &header, sizeof(header), MSG_NOSIGNAL), sizeof(header));
	rogue_lost(-EPROTO);
	rogue_close(fd);
}

/* A WRITE by hand: into a grant that exists, out of memory that it does not. */
static void
write_refused(const struct shm_frame_write *write)
{
	struct memory grant;
	struct shm_frame_write copy = *write;
	int fd = rogue_open();

	memory_open(&grant, world.donor, 65536, FAR_RIGHT_REMOTE_WRITE, NULL);
	assert_int_equal(far_transport_mem_expose(grant.mem, world.d.link), 0);
	copy.rkey = grant.mem->remote.rkey;
	if (copy.source == 1) {
		int mem_fd =
			memfd_make(65536, true, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE);

		announce(fd, 65536, mem_fd);
		(void)close(mem_fd);
	}
	rogue_send(fd, SHM_FRAME_WRITE, &copy, sizeof(copy), -1);
	rogue_send(fd, SHM_FRAME_MSG, "commit", 6, -1);
	alone_wait(world.donor, world.d.lost == 1);
	assert_int_equal(world.d.messages, 0);
	assert_int_equal(world.d.lost_status, -EPROTO);
	far_transport_disconnect(world.d.link);
	alone_wait(world.donor, world.d.link == NULL);
	memory_close(&grant);
	rogue_close(fd);
}

static void
a_write_from_memory_that_was_never_announced_costs_the_link(void **state)
{
	const struct shm_frame_write write = {
		.source = 5, .seq = 1, .size_bytes = 64, .flags = SHM_WRITE_LAST};
	(void)state;
	write_refused(&write);
}

static void
a_write_from_beyond_its_source_costs_the_link(void **state)
{
	const struct shm_frame_write write = {.source = 1,
					      .source_offset = UINT64_MAX - 10,
					      .seq = 1,
					      .size_bytes = 64,
					      .flags = SHM_WRITE_LAST};
	(void)state;
	write_refused(&write);
}

static void
a_write_out_of_sequence_costs_the_link(void **state)
{
	const struct shm_frame_write write = {
		.source = 1, .seq = 2, .size_bytes = 64, .flags = SHM_WRITE_LAST};
	(void)state;
	write_refused(&write);
}

static void
an_answer_to_a_write_that_was_never_sent_costs_the_link(void **state)
{
	struct shm_frame_write_done done = {.seq = 1};
	int fd = rogue_open();
	(void)state;

	rogue_send(fd, SHM_FRAME_WRITE_DONE, &done, sizeof(done), -1);
	rogue_lost(-EPROTO);
	rogue_close(fd);
}

/* A WRITE of ours to the rogue, which asks for its checksum; the rogue answers it with so many of them. */
static void
sums_refused(uint32_t sum_count)
{
	struct shm_frame_told told = {{.seq = 1, .sum_count = sum_count}, {1, 2}};
	struct far_remote remote = {.rkey = far_shm_rkey_make(ROGUE_NONCE, 5)};
	uint32_t crc = 0xee;
	struct memory source;
	struct far_piece piece;
	struct far_op op;
	int fd = rogue_open();

	memory_open(&source, world.donor, 65536, FAR_RIGHT_LOCAL, NULL);
	piece = (struct far_piece){.addr = source.base, .size_bytes = 65536, .mem = source.mem};
	op = op_make(FAR_OP_WRITE, &piece, &remote, 0, 1);
	assert_true(world.d.link->sums_from > 0);
	op.crc32c = &crc;
	assert_int_equal(far_transport_post(world.d.link, &op, 1), 0);
	rogue_send(fd, SHM_FRAME_WRITE_DONE, &told,
		   sizeof(told.done) + sum_count * sizeof(told.sums[0]), -1);
	alone_wait(world.donor, world.d.dones == 1);
	assert_int_equal(world.d.token_status[1], sum_count == 0 ? -EPROTO : 0);
	assert_int_equal(crc, sum_count == 0 ? 0xee : 1);
	rogue_lost(-EPROTO);
	memory_close(&source);
	rogue_close(fd);
}

static void
an_answer_with_too_few_checksums_or_too_many_costs_the_link(void **state)
{
	(void)state;
	sums_refused(0);
	sums_refused(2);
}

static uint32_t pages_announced = 65536;

/* A rogue that may write into @grant, from a memfd of its own. */
static int
writer_open(struct memory *grant)
{
	int mem_fd = memfd_make(pages_announced, true,
				F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE);
	int fd = rogue_open();

	memory_open(grant, world.donor, pages_announced, FAR_RIGHT_REMOTE_WRITE, NULL);
	assert_int_equal(far_transport_mem_expose(grant->mem, world.d.link), 0);
	announce(fd, pages_announced, mem_fd);
	(void)close(mem_fd);
	return fd;
}

static void
writer_close(struct memory *grant, int fd)
{
	far_transport_disconnect(world.d.link);
	alone_wait(world.donor, world.d.link == NULL);
	memory_close(grant);
	rogue_close(fd);
}

/* One frame of @count WRITEs of @bytes each, behind those up to @seq. */
static bool
writes_send(int fd, const struct memory *grant, uint64_t seq, uint32_t count, uint32_t bytes,
	    uint32_t flags)
{
	static struct {
		struct shm_frame_header header;
		struct shm_frame_write pieces[SHM_WRITE_PIECES_MAX];
	} packet;

	size_t packet_bytes = sizeof(packet.header) + count * sizeof(packet.pieces[0]);

	far_shm_frame_header_fill(&packet.header, SHM_FRAME_WRITE,
				  packet_bytes - sizeof(packet.header), 0);
	for (uint32_t i = 0; i < count; i++)
		packet.pieces[i] = (struct shm_frame_write){
			.rkey = grant->mem->remote.rkey,
			.source = 1,
			.seq = seq + 1 + i,
			.size_bytes = bytes,
			.flags = SHM_WRITE_LAST | flags,
		};
	return send(fd, &packet, packet_bytes, MSG_NOSIGNAL | MSG_DONTWAIT) ==
	       (ssize_t)packet_bytes;
}

/* The next WRITE_DONE, with @frame's body in static memory; others are passed over. */
static void
done_take(int fd, struct shm_frame *frame)
{
	static uint8_t packet[SHM_FRAME_BYTES_MAX];

	do {
		ssize_t got;

		do {
			(void)far_transport_poll(world.donor, 64);
			got = recv(fd, packet, sizeof(packet), MSG_DONTWAIT);
		} while (got < 0 && errno == EAGAIN);
		assert_true(got > 0);
		assert_int_equal(far_shm_frame_parse(packet, (size_t)got, frame), 0);
	} while (frame->kind != SHM_FRAME_WRITE_DONE);
}

/* Many more answers than its socket holds: we do not wait for it, and do not turn round and round. */
static void
a_peer_that_reads_no_checksums_is_told_them_later(void **state)
{
	enum { FRAMES = 1400, COUNT = 100 }; /* an answer has more than a frame has */
	struct memory grant;
	uint64_t asked = 0, told = 0;
	int fd = writer_open(&grant);
	(void)state;

	while (asked < (uint64_t)FRAMES * COUNT) {
		if (writes_send(fd, &grant, asked, COUNT, 1, SHM_WRITE_SUM))
			asked += COUNT;
		(void)far_transport_poll(world.donor, 64);
	}
	alone_wait(world.donor, far_transport_arm(world.donor) == 0);
	assert_int_equal(world.d.lost, 0);
	while (told < asked) {
		struct shm_frame frame;

		done_take(fd, &frame);
		told += frame.u.write_done.sum_count;
		assert_int_equal(frame.u.write_done.seq, told);
		for (uint32_t i = 0; i < frame.u.write_done.sum_count; i++) {
			uint32_t crc;

			memcpy(&crc, frame.body + sizeof(frame.u.write_done) + i * sizeof(crc),
			       sizeof(crc));
			assert_int_equal(crc, far_crc32c(0, "", 1));
		}
	}
	assert_int_equal(told, asked);
	writer_close(&grant, fd);
}

static void
a_peer_that_never_reads_its_checksums_loses_its_link(void **state)
{
	struct memory grant;
	uint64_t asked = 0;
	int fd = writer_open(&grant);
	(void)state;

	while (world.d.lost == 0) {
		if (writes_send(fd, &grant, asked, SHM_WRITE_PIECES_MAX, 1, SHM_WRITE_SUM))
			asked += SHM_WRITE_PIECES_MAX;
		(void)far_transport_poll(world.donor, 64);
	}
	assert_int_equal(world.d.lost_status, -EPROTO);
	writer_close(&grant, fd);
}

/* A word wakes the writer: one for a frame, and one for each 4 MiB of a long one. */
static void
a_writer_is_told_once_a_frame_or_each_4_mib_of_one(void **state)
{
	struct memory grant;
	struct shm_frame frame;
	uint64_t seq = SHM_WRITE_PIECES_MAX;
	uint32_t words = 0;
	int fd;
	(void)state;

	pages_announced = 1U << 20;
	fd = writer_open(&grant);
	assert_true(writes_send(fd, &grant, 0, SHM_WRITE_PIECES_MAX, 8192, 0));
	done_take(fd, &frame);
	assert_int_equal(frame.u.write_done.seq, SHM_WRITE_PIECES_MAX);
	assert_int_equal(frame.u.write_done.sum_count, 0);
	assert_true(
		writes_send(fd, &grant, SHM_WRITE_PIECES_MAX, SHM_WRITE_PIECES_MAX, 128U << 10, 0));
	while (seq < 2ULL * SHM_WRITE_PIECES_MAX) {
		done_take(fd, &frame);
		seq = frame.u.write_done.seq;
		words++;
	}
	assert_in_range(words, 4, 5);
	writer_close(&grant, fd);
	pages_announced = 65536;
}

/* It is not asked for what it does not know, and is served. */
static void
a_peer_of_before_checksums_is_not_asked_for_them(void **state)
{
	struct memory grant;
	struct shm_frame frame;
	int fd;
	(void)state;

	rogue_features = 0;
	fd = writer_open(&grant);
	assert_int_equal(world.d.link->sums_from, 0);
	assert_true(writes_send(fd, &grant, 0, SHM_WRITE_PIECES_MAX, 64, 0));
	done_take(fd, &frame);
	assert_int_equal(frame.u.write_done.seq, SHM_WRITE_PIECES_MAX);
	assert_int_equal(frame.body_bytes, sizeof(frame.u.write_done));
	writer_close(&grant, fd);
	rogue_features = SHM_FEATURE_SUMS;
}

static void
one_region_announced_twice_costs_the_link(void **state)
{
	int mem_fd = memfd_make(65536, true, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE);
	int fd = rogue_open();
	(void)state;

	announce(fd, 65536, mem_fd);
	announce(fd, 65536, mem_fd);
	(void)close(mem_fd);
	rogue_lost(-EPROTO);
	rogue_close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_that_can_shrink_is_refused),
		cmocka_unit_test(memory_that_holes_can_be_punched_into_is_refused),
		cmocka_unit_test(memory_with_holes_is_refused),
		cmocka_unit_test(a_region_larger_than_its_file_is_refused),
		cmocka_unit_test(a_clients_ordinary_file_is_refused),
		cmocka_unit_test(a_donors_backing_file_is_read_through_a_read_only_descriptor),
		cmocka_unit_test(an_unsealed_memfd_is_not_registered),
		cmocka_unit_test(a_hello_without_a_control_page_is_not_accepted),
		cmocka_unit_test(random_packets_cost_the_link_and_leave_no_descriptor),
		cmocka_unit_test(any_sequence_of_frames_costs_the_link_at_most),
		cmocka_unit_test(descriptors_where_none_belong_are_closed),
		cmocka_unit_test(messages_beyond_the_credit_cost_the_link),
		cmocka_unit_test(credits_that_nobody_had_cost_the_link),
		cmocka_unit_test(a_write_from_memory_that_was_never_announced_costs_the_link),
		cmocka_unit_test(a_write_from_beyond_its_source_costs_the_link),
		cmocka_unit_test(a_write_out_of_sequence_costs_the_link),
		cmocka_unit_test(an_answer_to_a_write_that_was_never_sent_costs_the_link),
		cmocka_unit_test(an_answer_with_too_few_checksums_or_too_many_costs_the_link),
		cmocka_unit_test(a_peer_that_reads_no_checksums_is_told_them_later),
		cmocka_unit_test(a_peer_that_never_reads_its_checksums_loses_its_link),
		cmocka_unit_test(a_writer_is_told_once_a_frame_or_each_4_mib_of_one),
		cmocka_unit_test(a_peer_of_before_checksums_is_not_asked_for_them),
		cmocka_unit_test(one_region_announced_twice_costs_the_link),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
