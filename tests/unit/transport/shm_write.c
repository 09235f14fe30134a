/* shm_write.c - WRITEs over shm: pulled by the owner, before what stands behind them, never late. */
#include "tests/unit/transport/shm_world.h"

#include <errno.h>
#include <unistd.h>

#include "base/checksum.h"
#include "base/log.h"
#include "tests/support/log_capture.h"

#define GRANT_BYTES (8U << 20)

static struct world world;
static struct memory grant, source;

static void
scene_open(void)
{
	world_open(&world);
	world_connect(&world);
	memory_open(&grant, world.donor, GRANT_BYTES, FAR_RIGHT_REMOTE_WRITE, NULL);
	memory_open(&source, world.client, GRANT_BYTES, FAR_RIGHT_LOCAL, NULL);
	assert_int_equal(far_transport_mem_expose(grant.mem, world.d.link), 0);
}

static void
scene_close(void)
{
	world_wait(&world, true);
	if (world.c.link != NULL) {
		far_transport_disconnect(world.c.link);
		world_wait(&world, world.c.link == NULL);
	}
	memory_close(&source);
	memory_close(&grant);
	world_close(&world);
}

static int
write_post(uint64_t offset, uint32_t size, uint64_t token)
{
	struct far_piece piece = {
		.addr = source.base + offset, .size_bytes = size, .mem = source.mem};
	struct far_op op = op_make(FAR_OP_WRITE, &piece, &grant.mem->remote, offset, token);

	return far_transport_post(world.c.link, &op, 1);
}

/* In the message's own handler: the bytes are there. */
static void
check_on_message(struct end *end, const struct far_event *event)
{
	uint32_t size;
	uint8_t value;

	(void)end;
	if (event->kind != FAR_EV_MESSAGE)
		return;
	memcpy(&size, event->msg, sizeof(size));
	memcpy(&value, (const uint8_t *)event->msg + sizeof(size), sizeof(value));
	for (uint32_t i = 0; i < size; i++)
		assert_int_equal(grant.base[i], value);
}

static void
a_message_finds_the_bytes_of_all_writes_before_it(void **state)
{
	static const uint32_t sizes[] = {1, 64, 4096, 65536, 1U << 20, GRANT_BYTES};
	uint64_t token = 0;
	(void)state;

	scene_open();
	world.d.on_event = check_on_message;
	for (uint32_t i = 0; i < 4 * sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint32_t size = sizes[i % (sizeof(sizes) / sizeof(sizes[0]))];
		uint8_t message[5];

		memset(source.base, (int)i + 1, size);
		memcpy(message, &size, sizeof(size));
		message[4] = (uint8_t)(i + 1);
		assert_int_equal(write_post(0, size, ++token), 0);
		assert_int_equal(far_transport_send(world.c.link, message, sizeof(message)), 0);
		world_wait(&world, world.d.messages == i + 1 && world.c.dones == token);
		assert_int_equal(world.c.token_status[token], 0);
	}
	scene_close();
}

static void
a_long_list_of_many_pieces_lands_where_it_should(void **state)
{
	enum { OPS = 600, PIECE = 40 };
	static struct far_piece pieces[OPS][FAR_PIECES_MAX];
	static struct far_op ops[OPS];
	(void)state;

	scene_open();
	for (size_t i = 0; i < GRANT_BYTES; i++)
		source.base[i] = (uint8_t)(i * 31 + (i >> 9));
	for (size_t i = 0; i < OPS; i++) {
		size_t count = 1 + i % FAR_PIECES_MAX;

		for (size_t p = 0; p < count; p++)
			pieces[i][p] = (struct far_piece){
				/* Backwards, so that no neighbour could be right by accident. */
				.addr = source.base + (OPS - i) * 1024 +
					(FAR_PIECES_MAX - p) * PIECE,
				.size_bytes = PIECE,
				.mem = source.mem};
		ops[i] = op_make(FAR_OP_WRITE, pieces[i], &grant.mem->remote, i * 1024, 0);
		ops[i].piece_count = (uint32_t)count;
	}
	ops[OPS - 1].token = 1;
	assert_int_equal(far_transport_post(world.c.link, ops, OPS), 0);
	assert_int_equal(far_transport_send(world.c.link, "x", 1), 0);
	world_wait(&world, world.d.messages == 1 && world.c.dones == 1);
	for (size_t i = 0; i < OPS; i++) {
		for (size_t p = 0; p < 1 + i % FAR_PIECES_MAX; p++)
			assert_memory_equal(grant.base + i * 1024 + p * PIECE, pieces[i][p].addr,
					    PIECE);
	}
	scene_close();
}

/* More of them than one frame of WRITEs, or of answers, has. */
static void
every_write_of_a_long_list_is_told_its_checksum(void **state)
{
	enum { OPS = 250, BYTES = 32768 };
	static struct far_piece pieces[OPS][2];
	static struct far_op ops[OPS];
	static uint32_t crcs[OPS];
	(void)state;

	scene_open();
	assert_true(world.c.link->sums_from > 0 && world.c.link->sums_from < OPS * BYTES);
	for (size_t i = 0; i < GRANT_BYTES; i++)
		source.base[i] = (uint8_t)(i * 31 + (i >> 9));
	for (uint32_t i = 0; i < OPS; i++) {
		uint8_t *at = source.base + (size_t)i * 777;

		pieces[i][0] = (struct far_piece){at, 100 * i + 1, source.mem};
		pieces[i][1] = (struct far_piece){at + 3, BYTES - 100 * i - 1, source.mem};
		ops[i] = op_make(FAR_OP_WRITE, pieces[i], &grant.mem->remote, (uint64_t)i * BYTES,
				 0);
		ops[i].piece_count = 2;
		ops[i].crc32c = &crcs[i];
	}
	ops[OPS / 2].token = 1;
	ops[OPS - 1].token = 2;
	assert_int_equal(far_transport_post(world.c.link, ops, OPS), 0);
	world_wait(&world, world.c.dones == 1);
	for (uint32_t i = 0; i <= OPS / 2; i++)
		assert_int_equal(crcs[i], far_crc32c(0, grant.base + (size_t)i * BYTES, BYTES));
	world_wait(&world, world.c.dones == 2);
	for (uint32_t i = 0; i < OPS; i++)
		assert_int_equal(crcs[i], far_crc32c(0, grant.base + (size_t)i * BYTES, BYTES));
	scene_close();
}

static void
a_write_fenced_behind_a_read_sends_what_was_read(void **state)
{
	struct memory from;
	struct far_piece piece;
	struct far_op ops[2];
	uint32_t sent = 0;
	(void)state;

	scene_open();
	memory_open(&from, world.donor, GRANT_BYTES, FAR_RIGHT_REMOTE_READ, NULL);
	memset(from.base, 0x77, GRANT_BYTES);
	assert_int_equal(far_transport_mem_expose(from.mem, world.d.link), 0);
	piece = (struct far_piece){
		.addr = source.base, .size_bytes = GRANT_BYTES, .mem = source.mem};
	ops[0] = op_make(FAR_OP_READ, &piece, &from.mem->remote, 0, 1);
	ops[1] = op_make(FAR_OP_WRITE, &piece, &grant.mem->remote, 0, 2);
	ops[1].flags = FAR_OP_FENCE;
	assert_int_equal(far_transport_post(world.c.link, ops, 2), 0);
	/* Not before the WRITE is on its way, and then behind it. */
	while (far_transport_send(world.c.link, "x", 1) == -EAGAIN) {
		uint32_t sendable = world.c.sendable;

		sent++;
		world_wait(&world, world.c.sendable > sendable);
	}
	assert_true(sent > 0);
	world_wait(&world, world.d.messages == 1);
	for (size_t i = 0; i < GRANT_BYTES; i += 509)
		assert_int_equal(grant.base[i], 0x77);
	world_wait(&world, world.c.dones == 2);
	memory_close(&from);
	scene_close();
}

static void
refused(const struct far_remote *remote, uint64_t offset)
{
	struct far_piece piece = {.addr = source.base, .size_bytes = 4096, .mem = source.mem};
	struct far_op op = op_make(FAR_OP_WRITE, &piece, remote, offset, 1);

	memset(source.base, 0xee, 4096);
	assert_int_equal(far_transport_post(world.c.link, &op, 1), 0);
	assert_int_equal(far_transport_send(world.c.link, "commit", 6), 0);
	world_wait(&world, world.c.lost == 1 && world.d.lost == 1);
	assert_int_equal(world.c.token_count[1], 1);
	assert_int_equal(world.c.token_status[1], -EACCES);
	assert_int_equal(world.d.lost_status, -EACCES);
	assert_int_equal(world.d.messages, 0); /* nobody speaks of bytes that are not there */
}

static void
a_write_without_the_right_lands_nowhere_and_costs_the_link(void **state)
{
	struct memory from;
	(void)state;

	scene_open();
	memory_open(&from, world.donor, 65536, FAR_RIGHT_REMOTE_READ, NULL);
	assert_int_equal(far_transport_mem_expose(from.mem, world.d.link), 0);
	refused(&from.mem->remote, 0);
	assert_int_equal(from.base[0], 0);
	memory_close(&from);
	scene_close();
}

static void
a_write_past_the_end_of_a_grant_is_refused(void **state)
{
	(void)state;

	scene_open();
	refused(&grant.mem->remote, GRANT_BYTES - 4095);
	assert_int_equal(grant.base[GRANT_BYTES - 4095], 0);
	scene_close();
}

static void
a_grant_for_one_link_is_of_no_use_to_another(void **state)
{
	struct memory lane;
	struct end other;
	struct far_link *first;
	(void)state;

	scene_open();
	first = world.d.link;
	memory_open(&lane, world.donor, 65536, FAR_RIGHT_REMOTE_WRITE, first);
	assert_int_equal(far_transport_mem_expose(lane.mem, first), 0);
	/* A second link of the same client takes the first one's place in the scene. */
	other = world.c;
	other.link->handler = &other.handler;
	world.d.link->handler = NULL;
	{
		static struct end first_donor_end;

		first_donor_end = world.d;
		first->handler = &first_donor_end.handler;
		world_connect(&world);
		refused(&lane.mem->remote, 0);
		assert_int_equal(lane.base[0], 0);
		assert_int_equal(first_donor_end.lost, 0);
		far_transport_disconnect(other.link);
		far_transport_disconnect(first);
		world_wait(&world, other.link == NULL && first_donor_end.link == NULL);
	}
	memory_close(&lane);
	scene_close();
}

static void
nothing_lands_after_a_grant_was_deregistered(void **state)
{
	(void)state;

	scene_open();
	memset(source.base, 0x11, GRANT_BYTES);
	assert_int_equal(write_post(0, GRANT_BYTES, 1), 0);
	while (grant.base[0] != 0x11)
		(void)far_transport_poll(world.donor, 16);
	assert_int_equal(grant.base[GRANT_BYTES - 1], 0); /* in the middle of it */
	far_transport_mem_dereg(grant.mem);
	grant.mem = NULL;
	memset(grant.base, 0x22, GRANT_BYTES);
	far_log_capture_start();
	world_wait(&world, world.c.lost == 1 && world.d.lost == 1);
	assert_int_equal(world.c.token_status[1], -EACCES);
	for (size_t i = 0; i < GRANT_BYTES; i++)
		assert_int_equal(grant.base[i], 0x22);
	far_log_capture_finish();
	scene_close();
}

static void
memory_without_a_descriptor_is_no_source_and_no_message_speaks_of_it(void **state)
{
	static uint8_t plain[4096];
	struct far_mem_source from = {.base = plain, .size_bytes = sizeof(plain), .fd = -1};
	struct far_mem *mem;
	struct far_piece piece = {.addr = plain, .size_bytes = sizeof(plain)};
	struct far_op op;
	(void)state;

	scene_open();
	assert_int_equal(far_transport_mem_reg(world.client, &from, FAR_RIGHT_LOCAL, NULL, &mem),
			 0);
	piece.mem = mem;
	op = op_make(FAR_OP_WRITE, &piece, &grant.mem->remote, 0, 1);
	assert_int_equal(far_transport_post(world.c.link, &op, 1), 0);
	assert_int_equal(far_transport_send(world.c.link, "commit", 6), -EAGAIN);
	world_wait(&world, world.c.dones == 1 && world.c.sendable == 1);
	assert_int_equal(world.c.token_status[1], -EOPNOTSUPP);
	assert_int_equal(far_transport_send(world.c.link, "other", 5), 0);
	world_wait(&world, world.d.messages == 1);
	assert_int_equal(world.c.lost, 0);
	far_transport_mem_dereg(mem);
	scene_close();
}

static void
a_key_of_another_process_is_stale_for_writes_too(void **state)
{
	struct far_remote remote;
	struct far_piece piece;
	struct far_op op;
	(void)state;

	scene_open();
	remote = grant.mem->remote;
	remote.rkey.bytes[3] ^= 0x10;
	piece = (struct far_piece){.addr = source.base, .size_bytes = 64, .mem = source.mem};
	op = op_make(FAR_OP_WRITE, &piece, &remote, 0, 1);
	assert_int_equal(far_transport_post(world.c.link, &op, 1), 0);
	world_wait(&world, world.c.dones == 1);
	assert_int_equal(world.c.token_status[1], -ESTALE);
	scene_close();
}

/* ---- letting go ---- */

static void
disconnect_ends_writes_at_once_and_the_donor_believes_nothing_of_them(void **state)
{
	(void)state;

	scene_open();
	for (uint64_t token = 1; token <= 20; token++)
		assert_int_equal(write_post((token - 1) * 65536, 65536, token), 0);
	assert_int_equal(far_transport_send(world.c.link, "commit", 6), 0);
	/* The donor stands still. */
	far_transport_disconnect(world.c.link);
	alone_wait(world.client, world.c.link == NULL);
	assert_int_equal(world.c.dones, 20);
	for (uint64_t token = 1; token <= 20; token++)
		assert_int_equal(world.c.token_status[token], -ECANCELED);
	memset(source.base, 0xbb, GRANT_BYTES); /* ours again */
	alone_wait(world.donor, world.d.lost == 1);
	assert_int_equal(world.d.messages, 0);
	scene_close();
}

static void
a_pull_that_was_revoked_in_the_middle_delivers_nothing(void **state)
{
	(void)state;

	scene_open();
	memset(source.base, 0x11, GRANT_BYTES);
	assert_int_equal(write_post(0, GRANT_BYTES, 1), 0);
	assert_int_equal(far_transport_send(world.c.link, "commit", 6), 0);
	while (grant.base[0] != 0x11)
		(void)far_transport_poll(world.donor, 16);
	assert_int_equal(grant.base[GRANT_BYTES - 1], 0);
	far_transport_disconnect(world.c.link);
	alone_wait(world.client, world.c.link == NULL);
	assert_int_equal(world.c.token_status[1], -ECANCELED);
	memset(source.base, 0xbb, GRANT_BYTES);
	alone_wait(world.donor, world.d.lost == 1);
	assert_int_equal(world.d.lost_status, -ECONNRESET);
	assert_int_equal(world.d.messages, 0);
	scene_close();
}

/* The word in the page alone tells it: the donor, its socket full, does not ask the kernel. */
static void
a_revoked_write_is_noticed_before_the_kernel_says_that_the_peer_left(void **state)
{
	static uint8_t big[FAR_MESSAGE_BYTES_MAX];
	const uint32_t size = 2U << 20;
	(void)state;

	scene_open();
	while (far_transport_send(world.d.link, big, sizeof(big)) == 0)
		;
	memset(source.base, 0x11, size);
	assert_int_equal(write_post(0, size, 1), 0);
	assert_int_equal(far_transport_send(world.c.link, "commit", 6), 0);
	while (grant.base[0] != 0x11)
		(void)far_transport_poll(world.donor, 16);
	assert_int_equal(grant.base[size - 1], 0);
	far_transport_disconnect(world.c.link);
	memset(source.base, 0xbb, size);
	for (int i = 0; i < 3; i++)
		(void)far_transport_poll(world.donor, 16);
	assert_int_equal(world.d.messages, 0);
	assert_int_equal(world.d.lost, 1);
	alone_wait(world.client, world.c.link == NULL);
	scene_close();
}

static void
a_write_that_begins_beyond_its_grant_is_refused(void **state)
{
	(void)state;

	scene_open();
	refused(&grant.mem->remote, GRANT_BYTES + 4096);
	scene_close();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_finds_the_bytes_of_all_writes_before_it),
		cmocka_unit_test(a_long_list_of_many_pieces_lands_where_it_should),
		cmocka_unit_test(every_write_of_a_long_list_is_told_its_checksum),
		cmocka_unit_test(a_write_fenced_behind_a_read_sends_what_was_read),
		cmocka_unit_test(a_write_without_the_right_lands_nowhere_and_costs_the_link),
		cmocka_unit_test(a_write_past_the_end_of_a_grant_is_refused),
		cmocka_unit_test(a_write_that_begins_beyond_its_grant_is_refused),
		cmocka_unit_test(a_grant_for_one_link_is_of_no_use_to_another),
		cmocka_unit_test(nothing_lands_after_a_grant_was_deregistered),
		cmocka_unit_test(
			memory_without_a_descriptor_is_no_source_and_no_message_speaks_of_it),
		cmocka_unit_test(a_key_of_another_process_is_stale_for_writes_too),
		cmocka_unit_test(
			disconnect_ends_writes_at_once_and_the_donor_believes_nothing_of_them),
		cmocka_unit_test(a_pull_that_was_revoked_in_the_middle_delivers_nothing),
		cmocka_unit_test(
			a_revoked_write_is_noticed_before_the_kernel_says_that_the_peer_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
