/* shm_read.c - READs over shm: copies that need nobody else, cut in slices, of announced memory. */
#include "tests/unit/transport/shm_world.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/helpers.h"
#include "transport/mapped.h"
#include "transport/shm/shm_priv.h"

static struct world world;

static void
fill(struct memory *memory, size_t size_bytes, uint8_t seed)
{
	for (size_t i = 0; i < size_bytes; i++)
		memory->base[i] = (uint8_t)(i * 7 + (i >> 8) + seed);
}

/* One READ, to its end; only the client is polled. */
static int
read_alone(struct memory *to, const struct far_remote *remote, uint64_t offset, uint32_t size,
	   uint64_t token)
{
	struct far_piece piece = {.addr = to->base, .size_bytes = size, .mem = to->mem};
	struct far_op op = op_make(FAR_OP_READ, &piece, remote, offset, token);

	assert_int_equal(far_transport_post(world.c.link, &op, 1), 0);
	alone_wait(world.client, world.c.token_count[token] == 1);
	return world.c.token_status[token];
}

static void
a_region_that_waits_in_the_socket_is_found_before_its_key_is_called_stale(void **state)
{
	struct memory from, to;
	(void)state;

	world_open(&world);
	world_connect(&world);
	memory_open(&from, world.donor, 65536, FAR_RIGHT_REMOTE_READ, NULL);
	memory_open(&to, world.client, 65536, FAR_RIGHT_LOCAL, NULL);
	fill(&from, 65536, 1);
	/* More than one turn of messages ahead of it. */
	while (far_transport_send(world.d.link, "m", 1) == 0)
		;
	assert_int_equal(far_transport_mem_expose(from.mem, world.d.link), 0);
	assert_int_equal(read_alone(&to, &from.mem->remote, 0, 65536, 1), 0);
	assert_memory_equal(to.base, from.base, 65536);
	assert_int_equal(world.c.messages, 32);
	memory_close(&to);
	memory_close(&from);
	world_close(&world);
}

static void
keys_that_do_not_allow_it_are_told_on_the_op_and_cost_nothing(void **state)
{
	struct memory from, hidden, grant, to;
	struct far_remote other;
	(void)state;

	world_open(&world);
	world_connect(&world);
	memory_open(&from, world.donor, 65536, FAR_RIGHT_REMOTE_READ, NULL);
	memory_open(&hidden, world.donor, 65536, FAR_RIGHT_REMOTE_READ, NULL);
	memory_open(&grant, world.donor, 65536, FAR_RIGHT_REMOTE_WRITE, NULL);
	memory_open(&to, world.client, 65536, FAR_RIGHT_LOCAL, NULL);
	assert_int_equal(far_transport_mem_expose(from.mem, world.d.link), 0);
	assert_int_equal(far_transport_mem_expose(grant.mem, world.d.link), 0);

	assert_int_equal(read_alone(&to, &hidden.mem->remote, 0, 64, 1), -ESTALE);
	assert_int_equal(read_alone(&to, &grant.mem->remote, 0, 64, 2), -EACCES);
	assert_int_equal(read_alone(&to, &from.mem->remote, 65536 - 63, 64, 3), -EACCES);
	assert_int_equal(read_alone(&to, &from.mem->remote, UINT64_MAX - 10, 64, 4), -EACCES);
	other = from.mem->remote;
	other.rkey.bytes[0] ^= 1; /* of another process */
	assert_int_equal(read_alone(&to, &other, 0, 64, 5), -ESTALE);
	assert_int_equal(read_alone(&to, &from.mem->remote, 65536 - 64, 64, 6), 0);
	assert_int_equal(world.c.lost, 0);
	memory_close(&to);
	memory_close(&grant);
	memory_close(&hidden);
	memory_close(&from);
	world_close(&world);
}

static void
one_poll_copies_two_mebibytes_at_most(void **state)
{
	const uint32_t size = 16U << 20;
	struct memory from, to;
	struct far_piece piece;
	struct far_op op;
	size_t before = 0;
	(void)state;

	world_open(&world);
	world_connect(&world);
	memory_open(&from, world.donor, size, FAR_RIGHT_REMOTE_READ, NULL);
	memory_open(&to, world.client, size, FAR_RIGHT_LOCAL, NULL);
	memset(from.base, 0xab, size);
	assert_int_equal(far_transport_mem_expose(from.mem, world.d.link), 0);
	piece = (struct far_piece){.addr = to.base, .size_bytes = size, .mem = to.mem};
	op = op_make(FAR_OP_READ, &piece, &from.mem->remote, 0, 1);
	assert_int_equal(far_transport_post(world.c.link, &op, 1), 0);
	while (world.c.dones == 0) {
		size_t at = before;

		(void)far_transport_poll(world.client, 64);
		while (at < size && to.base[at] == 0xab)
			at += 4096;
		assert_true(at - before <= 2U << 20);
		before = at;
	}
	assert_memory_equal(to.base, from.base, size);
	memory_close(&to);
	memory_close(&from);
	world_close(&world);
}

/* ---- against a writer that never rests ---- */

#define SLOT_WORDS  8
#define FIRST_BYTES 65536
#define DATA_BYTES  (FIRST_BYTES + 262144) /* four shares more: helpers are woken for them */

struct writer {
	_Atomic uint64_t *slot; /* a line of eight equal words, 0: nothing to be read */
	uint8_t *data;
	_Atomic bool stop;
};

static void *
writer_run(void *arg)
{
	struct writer *w = arg;
	_Atomic uint64_t *data = (_Atomic uint64_t *)(void *)w->data;

	for (uint64_t generation = 1; generation == 1 || !atomic_load(&w->stop); generation++) {
		uint64_t value = generation << 32 | generation;

		for (size_t i = 0; i < SLOT_WORDS; i++)
			atomic_store_explicit(&w->slot[i], 0, memory_order_relaxed);
		atomic_thread_fence(memory_order_seq_cst);
		for (size_t i = 0; i < DATA_BYTES / 8; i++)
			atomic_store_explicit(&data[i], value, memory_order_relaxed);
		atomic_thread_fence(memory_order_seq_cst);
		for (size_t i = 0; i < SLOT_WORDS; i++)
			atomic_store_explicit(&w->slot[i], value, memory_order_relaxed);
		for (int i = 0; i < 12000 && !atomic_load(&w->stop); i++)
			atomic_thread_fence(memory_order_seq_cst);
	}
	return NULL;
}

/* Reads slot, data, slot. True: both slots are one whole value, and then the data has to be of it. */
static bool
fenced_read(const struct memory *from, const struct memory *to, uint64_t token)
{
	struct far_piece pieces[4] = {
		{.addr = to->base, .size_bytes = 64, .mem = to->mem},
		{.addr = to->base + 4096, .size_bytes = FIRST_BYTES, .mem = to->mem},
		{.addr = to->base + 4096 + FIRST_BYTES,
		 .size_bytes = DATA_BYTES - FIRST_BYTES,
		 .mem = to->mem},
		{.addr = to->base + 64, .size_bytes = 64, .mem = to->mem},
	};
	struct far_op ops[4] = {
		op_make(FAR_OP_READ, &pieces[0], &from->mem->remote, 0, token),
		op_make(FAR_OP_READ, &pieces[1], &from->mem->remote, 4096, 0),
		op_make(FAR_OP_READ, &pieces[2], &from->mem->remote, 4096 + FIRST_BYTES, 0),
		op_make(FAR_OP_READ, &pieces[3], &from->mem->remote, 0, token + 1),
	};
	uint64_t words[2 * SLOT_WORDS], word = 0;

	ops[1].flags = FAR_OP_FENCE;
	ops[3].flags = FAR_OP_FENCE;
	assert_int_equal(far_transport_post(world.c.link, ops, 4), 0);
	alone_wait(world.client, world.c.token_count[token + 1] == 1);
	memcpy(words, to->base, sizeof(words));
	for (size_t i = 0; i < 2 * SLOT_WORDS; i++) { /* each word whole */
		assert_int_equal(words[i] >> 32, words[i] & UINT32_MAX);
		word |= words[i] ^ words[0];
	}
	if (words[0] == 0 || word != 0)
		return false;
	for (size_t i = 0; i < DATA_BYTES; i += 8) {
		memcpy(&word, to->base + 4096 + i, sizeof(word));
		assert_int_equal(word, words[0]);
	}
	return true;
}

/* A link whose client has @helpers threads, and memory of @size_bytes on both sides. */
static void
helped_open(uint32_t helpers, size_t size_bytes, struct memory *from, struct memory *to)
{
	assert_int_equal(far_helpers_open("test", helpers, FAR_NS_PER_MS, &world.config.helpers),
			 0);
	world_open(&world);
	world_connect(&world);
	memory_open(from, world.donor, size_bytes, FAR_RIGHT_REMOTE_READ, NULL);
	memory_open(to, world.client, size_bytes, FAR_RIGHT_LOCAL, NULL);
	assert_int_equal(far_transport_mem_expose(from->mem, world.d.link), 0);
}

static void
helped_close(struct memory *from, struct memory *to)
{
	memory_close(to);
	memory_close(from);
	world_close(&world);
	far_helpers_close(world.config.helpers);
	world.config.helpers = NULL;
}

static void
slots_vouch_for_data(uint32_t helpers)
{
	struct memory from, to;
	struct writer writer = {0};
	pthread_t thread;
	uint32_t vouched = 0;
	uint64_t token;

	helped_open(helpers, DATA_BYTES + 4096, &from, &to);
	writer.slot = (_Atomic uint64_t *)(void *)from.base;
	writer.data = from.base + 4096;
	assert_int_equal(pthread_create(&thread, NULL, writer_run, &writer), 0);
	for (token = 1; token + 3 < WORLD_TOKENS_MAX && vouched < 1000; token += 2)
		vouched += fenced_read(&from, &to, token);
	atomic_store(&writer.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	/* A busy machine may have let none through; what nobody writes to is always whole. */
	assert_true(fenced_read(&from, &to, token));
	helped_close(&from, &to);
}

static void
a_fenced_slot_vouches_for_the_data_read_before_it(void **state)
{
	(void)state;
	slots_vouch_for_data(0);
}

static void
a_fenced_slot_vouches_for_data_that_helpers_copied(void **state)
{
	(void)state;
	slots_vouch_for_data(2);
}

/* One list of @count READs of @size_bytes each, behind each other on both sides. @flags: of the last one. */
static void
list_read(const struct memory *from, const struct memory *to, uint32_t flags, uint32_t count,
	  uint32_t size_bytes)
{
	static struct far_piece pieces[FAR_POST_OPS_MAX];
	static struct far_op ops[FAR_POST_OPS_MAX];

	memset(to->base, 0x5a, (size_t)count * size_bytes + 64);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t at = (uint64_t)i * size_bytes;

		pieces[i] = (struct far_piece){to->base + at, size_bytes, to->mem};
		ops[i] = op_make(FAR_OP_READ, &pieces[i], &from->mem->remote, at, 0);
	}
	ops[count - 1].flags = flags;
	ops[count - 1].token = world.c.dones + 1;
	assert_int_equal(far_transport_post(world.c.link, ops, (int)count), 0);
	alone_wait(world.client, world.c.token_count[ops[count - 1].token] == 1);
	assert_memory_equal(to->base, from->base, (size_t)count * size_bytes);
	for (size_t i = 0; i < 64; i++)
		assert_int_equal(to->base[(size_t)count * size_bytes + i], 0x5a);
}

static void
lists_land_whole_whoever_copies_them(void **state)
{
	const size_t size = 9U << 20;
	struct memory from, to;
	(void)state;

	helped_open(3, size, &from, &to);
	for (uint8_t round = 0; round < 4; round++) {
		uint32_t flags = round % 2 == 0 ? 0 : FAR_OP_FENCE;

		fill(&from, size, round);
		list_read(&from, &to, flags, 300, 4096);
		list_read(&from, &to, flags, 200, 5000);
		list_read(&from, &to, flags, 64, 65536);
		list_read(&from, &to, flags, 30, 100000);
		list_read(&from, &to, flags, 8, 1U << 20);
		list_read(&from, &to, flags, 1, 8U << 20);
		(void)usleep(3000); /* they fall asleep */
	}
	helped_close(&from, &to);
}

/* Both name one place: what began later is what is there. */
static void
what_is_behind_a_fence_begins_behind_it(void **state)
{
	struct memory from, to;
	struct far_piece pieces[2];
	struct far_op ops[2];
	(void)state;

	helped_open(1, 131072, &from, &to);
	memset(from.base, 1, 65536);
	memset(from.base + 65536, 2, 65536);
	pieces[0] = (struct far_piece){to.base, 65536, to.mem};
	pieces[1] = (struct far_piece){to.base, 64, to.mem};
	ops[0] = op_make(FAR_OP_READ, &pieces[0], &from.mem->remote, 0, 0);
	ops[0].flags = FAR_OP_FENCE;
	ops[1] = op_make(FAR_OP_READ, &pieces[1], &from.mem->remote, 65536, 1);
	assert_int_equal(far_transport_post(world.c.link, ops, 2), 0);
	alone_wait(world.client, world.c.token_count[1] == 1);
	assert_int_equal(to.base[63], 2);
	assert_int_equal(to.base[64], 1);
	helped_close(&from, &to);
}

/* ---- queues ---- */

static void
reads_overtake_writes_that_the_peer_does_not_serve(void **state)
{
	struct memory from, grant, local;
	struct far_piece piece;
	struct far_op op;
	uint64_t token = 1;
	int rc;
	(void)state;

	world_open(&world);
	world_connect(&world);
	memory_open(&from, world.donor, 65536, FAR_RIGHT_REMOTE_READ, NULL);
	memory_open(&grant, world.donor, 65536, FAR_RIGHT_REMOTE_WRITE, NULL);
	memory_open(&local, world.client, 65536, FAR_RIGHT_LOCAL, NULL);
	assert_int_equal(far_transport_mem_expose(from.mem, world.d.link), 0);
	assert_int_equal(far_transport_mem_expose(grant.mem, world.d.link), 0);
	piece = (struct far_piece){.addr = local.base, .size_bytes = 4096, .mem = local.mem};
	for (;;) { /* as many WRITEs as go */
		op = op_make(FAR_OP_WRITE, &piece, &grant.mem->remote, 0, token);
		rc = far_transport_post(world.c.link, &op, 1);
		if (rc < 0)
			break;
		token++;
	}
	assert_int_equal(rc, -EAGAIN);
	for (uint64_t i = 0; i < 6000; i++)
		assert_int_equal(read_alone(&local, &from.mem->remote, 0, 64, token + i), 0);
	assert_int_equal(world.c.dones, 6000);
	world_wait(&world, world.c.dones == 6000 + token - 1 && world.c.sendable == 1);
	for (uint64_t i = 1; i < token; i++)
		assert_int_equal(world.c.token_status[i], 0);
	memory_close(&local);
	memory_close(&grant);
	memory_close(&from);
	world_close(&world);
}

static void
a_full_queue_answers_and_tells_when_there_is_room(void **state)
{
	struct memory from, to;
	struct far_piece pieces[FAR_PIECES_MAX];
	static struct far_op ops[FAR_POST_OPS_MAX];
	uint32_t posted = 0;
	int rc;
	(void)state;

	world_open(&world);
	world_connect(&world);
	memory_open(&from, world.donor, 65536, FAR_RIGHT_REMOTE_READ, NULL);
	memory_open(&to, world.client, 65536, FAR_RIGHT_LOCAL, NULL);
	assert_int_equal(far_transport_mem_expose(from.mem, world.d.link), 0);
	for (size_t i = 0; i < FAR_PIECES_MAX; i++)
		pieces[i] = (struct far_piece){
			.addr = to.base + 64 * i, .size_bytes = 64, .mem = to.mem};
	for (size_t i = 0; i < FAR_POST_OPS_MAX; i++) {
		ops[i] = op_make(FAR_OP_READ, pieces, &from.mem->remote, 64 * i % 4096, 0);
		ops[i].piece_count = FAR_PIECES_MAX;
	}
	for (;;) {
		ops[FAR_POST_OPS_MAX - 1].token = posted + 1;
		rc = far_transport_post(world.c.link, ops, FAR_POST_OPS_MAX);
		if (rc < 0)
			break;
		posted++;
	}
	assert_int_equal(rc, -EAGAIN);
	assert_true(posted >= 1); /* the largest list goes into an empty queue */
	world_wait(&world, world.c.sendable == 1);
	ops[FAR_POST_OPS_MAX - 1].token = ++posted;
	assert_int_equal(far_transport_post(world.c.link, ops, FAR_POST_OPS_MAX), 0);
	world_wait(&world, world.c.dones == posted);
	memory_close(&to);
	memory_close(&from);
	world_close(&world);
}

static void
bytes_in_flight_are_bounded_but_one_list_always_goes(void **state)
{
	struct memory from, to;
	struct far_piece piece;
	struct far_op op;
	(void)state;

	world.config.peer_bytes_in_flight_max = 100000;
	world.config.bytes_in_flight_max = 100000;
	world_open(&world);
	memset(&world.config, 0, sizeof(world.config));
	world_connect(&world);
	memory_open(&from, world.donor, 1 << 20, FAR_RIGHT_REMOTE_READ, NULL);
	memory_open(&to, world.client, 1 << 20, FAR_RIGHT_LOCAL, NULL);
	assert_int_equal(far_transport_mem_expose(from.mem, world.d.link), 0);
	piece = (struct far_piece){.addr = to.base, .size_bytes = 1 << 20, .mem = to.mem};
	op = op_make(FAR_OP_READ, &piece, &from.mem->remote, 0, 1);
	assert_int_equal(far_transport_post(world.c.link, &op, 1), 0);
	piece.size_bytes = 64;
	op.token = 2;
	assert_int_equal(far_transport_post(world.c.link, &op, 1), -EAGAIN);
	world_wait(&world, world.c.sendable == 1 && world.c.dones == 1);
	assert_int_equal(far_transport_post(world.c.link, &op, 1), 0);
	world_wait(&world, world.c.dones == 2);
	memory_close(&to);
	memory_close(&from);
	world_close(&world);
}

/* ---- regions ---- */

static void
what_is_forgotten_or_deregistered_is_unmapped(void **state)
{
	struct memory from, gone, to;
	struct far_remote remote;
	uint64_t mapped;
	(void)state;

	world_open(&world);
	world_connect(&world);
	memory_open(&to, world.client, 65536, FAR_RIGHT_LOCAL, NULL);
	memory_open(&from, world.donor, 65536, FAR_RIGHT_REMOTE_READ, NULL);
	memory_open(&gone, world.donor, 65536, FAR_RIGHT_REMOTE_READ, NULL);
	mapped = far_pages_live_bytes();
	assert_int_equal(far_transport_mem_expose(from.mem, world.d.link), 0);
	assert_int_equal(far_transport_mem_expose(from.mem, world.d.link), 0); /* idempotent */
	assert_int_equal(far_transport_mem_expose(gone.mem, world.d.link), 0);
	assert_int_equal(read_alone(&to, &from.mem->remote, 0, 64, 1), 0);
	assert_int_equal(read_alone(&to, &gone.mem->remote, 0, 64, 2), 0);
	assert_int_equal(far_pages_live_bytes(), mapped + 2 * 65536);

	far_transport_forget(world.c.link, &from.mem->remote.rkey);
	assert_int_equal(far_pages_live_bytes(), mapped + 65536);
	assert_int_equal(read_alone(&to, &from.mem->remote, 0, 64, 3), -ESTALE);
	far_transport_forget(world.c.link, &from.mem->remote.rkey); /* unknown: ignored */

	remote = gone.mem->remote;
	far_transport_mem_dereg(gone.mem);
	gone.mem = NULL;
	world_wait(&world, far_pages_live_bytes() == mapped);
	assert_int_equal(read_alone(&to, &remote, 0, 64, 4), -ESTALE);
	memory_close(&to);
	memory_close(&gone);
	memory_close(&from);
	world_close(&world);
}

static void
slices_of_one_file_are_one_mapping(void **state)
{
	enum { SLICES = 200, SLICE_BYTES = 4096 };
	struct far_mem *mems[SLICES];
	struct far_pages pages;
	struct memory to;
	uint64_t mapped;
	(void)state;

	world_open(&world);
	world_connect(&world);
	memory_open(&to, world.client, SLICE_BYTES, FAR_RIGHT_LOCAL, NULL);
	assert_int_equal(far_pages_map_shared("slices", SLICES * SLICE_BYTES, FAR_PAGES_HUGE_OFF,
					      -1, &pages),
			 0);
	for (size_t i = 0; i < SLICES; i++) {
		uint8_t *base = (uint8_t *)pages.base + i * SLICE_BYTES;
		struct far_mem_source source = {.base = base,
						.size_bytes = SLICE_BYTES,
						.fd = pages.fd,
						.fd_offset = i * SLICE_BYTES};

		memset(base, (int)i, SLICE_BYTES);
		assert_int_equal(far_transport_mem_reg(world.donor, &source, FAR_RIGHT_REMOTE_READ,
						       NULL, &mems[i]),
				 0);
		assert_int_equal(far_transport_mem_expose(mems[i], world.d.link), 0);
	}
	mapped = far_pages_live_bytes();
	for (size_t i = 0; i < SLICES; i++) {
		assert_int_equal(read_alone(&to, &mems[i]->remote, 0, SLICE_BYTES, i + 1), 0);
		assert_int_equal(to.base[0], (uint8_t)i);
		assert_int_equal(to.base[SLICE_BYTES - 1], (uint8_t)i);
	}
	assert_int_equal(far_pages_live_bytes(), mapped + SLICES * SLICE_BYTES);
	for (size_t i = 0; i < SLICES; i++)
		far_transport_mem_dereg(mems[i]);
	world_wait(&world, far_pages_live_bytes() == mapped);
	far_pages_unmap(&pages);
	memory_close(&to);
	world_close(&world);
}

static void
memory_that_peers_could_change_or_cannot_map_is_not_registered(void **state)
{
	struct far_mem_source source = {.size_bytes = 4096, .fd = -1};
	struct far_mem *mem = NULL;
	static uint8_t bytes[4096];
	(void)state;

	world_open(&world);
	source.base = bytes;
	assert_int_equal(
		far_transport_mem_reg(world.donor, &source, FAR_RIGHT_REMOTE_READ, NULL, &mem),
		-EOPNOTSUPP);
	assert_int_equal(far_transport_mem_reg(world.donor, &source, 64, NULL, &mem), -EINVAL);
	assert_null(mem);
	assert_int_equal(far_transport_mem_reg(world.donor, &source, FAR_RIGHT_LOCAL, NULL, &mem),
			 0);
	far_transport_mem_dereg(mem);
	world_close(&world);
}

/* ---- tables ---- */

static void
a_table_keeps_what_was_put_through_any_removals(void **state)
{
	static uint8_t present[2000];
	struct shm_table table = {0};
	struct far_rng rng;
	size_t count = 0;
	(void)state;

	memset(present, 0, sizeof(present));
	far_rng_init(&rng, 42);
	for (int i = 0; i < 100000; i++) {
		uint64_t id = far_rng_below(&rng, 1999) + 1;

		if (present[id]) {
			assert_ptr_equal(far_shm_table_take(&table, id), &present[id]);
			present[id] = 0;
			count--;
		} else {
			assert_null(far_shm_table_take(&table, id));
			assert_int_equal(far_shm_table_put(&table, id, &present[id]), 0);
			present[id] = 1;
			count++;
		}
		assert_int_equal(table.count, count);
		id = far_rng_below(&rng, 1999) + 1;
		assert_ptr_equal(far_shm_table_find(&table, id), present[id] ? &present[id] : NULL);
	}
	far_shm_table_fini(&table);
}

static void
a_mapping_lives_as_long_as_it_is_held_whatever_becomes_of_the_link(void **state)
{
	struct memory from, grant;
	struct far_mapped *mapped, *again;
	uint64_t offset, size;
	(void)state;

	world_open(&world);
	world_connect(&world);
	memory_open(&from, world.donor, 65536, FAR_RIGHT_REMOTE_READ, NULL);
	memory_open(&grant, world.donor, 65536, FAR_RIGHT_REMOTE_WRITE, NULL);
	fill(&from, 65536, 3);
	assert_int_equal(
		far_transport_map(world.c.link, &from.mem->remote.rkey, &mapped, &offset, &size),
		-ESTALE); /* not announced yet */
	assert_int_equal(far_transport_mem_expose(from.mem, world.d.link), 0);
	assert_int_equal(far_transport_mem_expose(grant.mem, world.d.link), 0);
	assert_int_equal(far_transport_send(world.d.link, "m", 1), 0);
	world_wait(&world, world.c.messages == 1);
	assert_int_equal(
		far_transport_map(world.c.link, &grant.mem->remote.rkey, &mapped, &offset, &size),
		-EACCES);
	assert_int_equal(
		far_transport_map(world.c.link, &from.mem->remote.rkey, &mapped, &offset, &size),
		0);
	assert_int_equal(
		far_transport_map(world.c.link, &from.mem->remote.rkey, &again, &offset, &size), 0);
	assert_ptr_equal(mapped, again);
	assert_int_equal(size, 65536);
	memory_close(&grant);
	memory_close(&from);
	/* Its owner has freed it: the pages are held. */
	far_transport_disconnect(world.c.link);
	world_wait(&world, world.c.closed == 1);
	for (size_t i = 0; i < 65536; i++)
		assert_int_equal(((const uint8_t *)mapped->base)[offset + i],
				 (uint8_t)(i * 7 + (i >> 8) + 3));
	far_mapped_release(again);
	assert_int_equal(((const uint8_t *)mapped->base)[offset], 3);
	far_mapped_release(mapped);
	world_close(&world);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_mapping_lives_as_long_as_it_is_held_whatever_becomes_of_the_link),
		cmocka_unit_test(
			a_region_that_waits_in_the_socket_is_found_before_its_key_is_called_stale),
		cmocka_unit_test(keys_that_do_not_allow_it_are_told_on_the_op_and_cost_nothing),
		cmocka_unit_test(one_poll_copies_two_mebibytes_at_most),
		cmocka_unit_test(a_fenced_slot_vouches_for_the_data_read_before_it),
		cmocka_unit_test(a_fenced_slot_vouches_for_data_that_helpers_copied),
		cmocka_unit_test(lists_land_whole_whoever_copies_them),
		cmocka_unit_test(what_is_behind_a_fence_begins_behind_it),
		cmocka_unit_test(reads_overtake_writes_that_the_peer_does_not_serve),
		cmocka_unit_test(a_full_queue_answers_and_tells_when_there_is_room),
		cmocka_unit_test(bytes_in_flight_are_bounded_but_one_list_always_goes),
		cmocka_unit_test(what_is_forgotten_or_deregistered_is_unmapped),
		cmocka_unit_test(slices_of_one_file_are_one_mapping),
		cmocka_unit_test(memory_that_peers_could_change_or_cannot_map_is_not_registered),
		cmocka_unit_test(a_table_keeps_what_was_put_through_any_removals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
