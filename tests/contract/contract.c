/* contract.c - the world of a contract test: two transports, their ends, and the way they step. */
#include "tests/contract/contract.h"

#include <poll.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "tests/support/log_capture.h"

#define SETTLE_STEPS 300

static const struct contract_backend *backend_now;

/* ---- events ---- */

static void
done_check(struct contract_end *end, const struct far_event *event)
{
	assert_true(event->token > 0);
	assert_true(event->token <= end->token_last);
	assert_false(end->done[event->token]); /* exactly once */
	assert_true(event->status <= 0);
	end->done[event->token] = true;
	end->status[event->token] = event->status;
	end->done_count++;
	end->failed_count += event->status < 0;
}

static void
end_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct contract_end *end = FAR_CONTAINER_OF(handler, struct contract_end, handler);

	assert_ptr_equal(event->link, end->link);
	assert_int_equal(end->closed, 0); /* nothing comes behind it */
	switch (event->kind) {
	case FAR_EV_CONNECTED:
		assert_false(end->disconnected);
		assert_int_equal(end->lost, 0);
		assert_int_equal(++end->connected, 1);
		break;
	case FAR_EV_MESSAGE:
		assert_false(end->disconnected);
		assert_true(event->msg_bytes > 0);
		assert_true(event->msg_bytes <= FAR_MESSAGE_BYTES_MAX);
		assert_int_equal((uintptr_t)event->msg % 8, 0);
		memcpy(end->message, event->msg, event->msg_bytes);
		end->message_bytes = event->msg_bytes;
		end->message_count++;
		if (end->on_message != NULL)
			end->on_message(end);
		break;
	case FAR_EV_DONE:
		done_check(end, event);
		break;
	case FAR_EV_SENDABLE:
		assert_false(end->disconnected);
		end->sendable++;
		break;
	case FAR_EV_LOST:
		assert_false(end->disconnected);
		assert_int_equal(++end->lost, 1);
		assert_true(event->status < 0);
		assert_false(end->link->up);
		end->lost_status = event->status;
		if (end->on_lost != NULL)
			end->on_lost(end);
		break;
	case FAR_EV_CLOSED:
		assert_true(end->disconnected);
		assert_int_equal(end->done_count, end->token_last); /* nothing is outstanding */
		end->closed++;
		end->link = NULL;
		break;
	}
}

static struct far_link_handler *
end_accept(void *arg, struct far_link *link, const void *hello, size_t hello_bytes)
{
	struct contract *c = arg;
	struct contract_end *end = c->accept_next;

	c->accept_count++;
	assert_true(hello_bytes <= FAR_HELLO_BYTES_MAX);
	c->hello_bytes = hello_bytes;
	memset(c->hello, 0, sizeof(c->hello));
	if (hello_bytes > 0)
		memcpy(c->hello, hello, hello_bytes);
	c->accept_next = NULL;
	if (end == NULL)
		return NULL;
	assert_ptr_equal(link->tp, c->tp[DONOR]);
	end->side = DONOR;
	end->link = link;
	return &end->handler;
}

/* ---- the world ---- */

struct contract *
contract_open(void)
{
	struct contract *c;

	far_log_capture_start();
	c = far_zalloc(sizeof(*c));
	assert_non_null(c);
	c->backend = backend_now;
	c->alloc_bytes = far_alloc_live_bytes();
	c->pages_bytes = far_pages_live_bytes();
	far_rng_init(&c->rng, 1);
	if (c->backend->open(c) < 0)
		skip();
	return c;
}

void
contract_start(struct contract *c)
{
	int rc;

	for (int side = 0; side < SIDES; side++) {
		c->config[side].clock = c->clock;
		rc = far_transport_open(c->backend->name, &c->config[side], &c->tp[side]);
		assert_int_equal(rc, 0);
		assert_ptr_equal(c->tp[side]->ops, far_transport_find(c->backend->name));
	}
	if (c->backend->gpu != NULL)
		contract_gpu_wrap(c);
	rc = far_transport_listen(c->tp[DONOR], c->address, end_accept, c, &c->listener);
	assert_int_equal(rc, 0);
}

struct contract *
contract_begin(void)
{
	struct contract *c = contract_open();

	contract_start(c);
	return c;
}

void
contract_close(struct contract *c)
{
	memset(c->stopped, 0, sizeof(c->stopped));
	c->blocking = false;
	c->on_step = NULL;
	c->accept_next = NULL;
	for (int i = 0; i < CONTRACT_ENDS_MAX; i++) {
		struct contract_end *end = c->ends[i];

		if (end != NULL && end->link != NULL && !end->disconnected) {
			end->disconnected = true;
			far_transport_disconnect(end->link);
		}
	}
	for (int i = 0; i < CONTRACT_ENDS_MAX; i++) {
		if (c->ends[i] == NULL)
			continue;
		contract_wait(c, c->ends[i]->link == NULL);
		far_free(c->ends[i]);
	}
	for (int i = 0; i < CONTRACT_MEMS_MAX; i++) {
		contract_mem_dereg(&c->mems[i]);
		far_pages_unmap(&c->mems[i].pages);
	}
	if (c->listener != NULL)
		far_transport_unlisten(c->tp[DONOR], c->listener);
	for (int side = 0; side < SIDES; side++)
		far_transport_close(c->tp[side]);
	if (c->backend->gpu != NULL)
		contract_gpu_end();
	c->backend->close(c);
	assert_int_equal(far_alloc_live_bytes(), c->alloc_bytes);
	assert_int_equal(far_pages_live_bytes(), c->pages_bytes);
	far_free(c);
	far_log_capture_finish();
}

void
contract_donor_forget(struct contract *c)
{
	for (int i = 0; i < CONTRACT_ENDS_MAX; i++)
		if (c->ends[i] != NULL && c->ends[i]->side == DONOR)
			c->ends[i]->link = NULL;
	for (int i = 0; i < CONTRACT_MEMS_MAX; i++)
		if (c->mems[i].side == DONOR)
			c->mems[i].mem = NULL;
	c->listener = NULL;
	c->tp[DONOR] = NULL;
}

/* ---- steps ---- */

int
contract_stride(void)
{
	const char *slowdown = getenv("FARPOOL_TEST_SLOWDOWN");

	return slowdown != NULL && strtoul(slowdown, NULL, 10) >= 10 ? 3 : 1;
}

void
contract_deadline_set(struct contract *c)
{
	c->deadline_ns = far_clock_now(c->clock) + CONTRACT_WAIT_NS;
}

/* Sleeps as an event loop does: on the descriptors, after both sides said that nothing is there. */
static void
contract_sleep(struct contract *c)
{
	struct pollfd fds[SIDES];
	nfds_t count = 0;

	for (int side = 0; side < SIDES; side++) {
		if (c->tp[side] == NULL || c->stopped[side])
			continue;
		if (far_transport_arm(c->tp[side]) == -EAGAIN)
			return;
		fds[count++] = (struct pollfd){.fd = c->tp[side]->fd, .events = POLLIN};
	}
	/* What the suite waits for is on its way: silence means that a wake-up was lost. */
	assert_true(poll(fds, count, 5000) > 0);
}

static int
sides_poll(struct contract *c)
{
	int count = 0;

	for (int side = 0; side < SIDES; side++) {
		if (c->tp[side] == NULL || c->stopped[side])
			continue;
		count += far_transport_poll(c->tp[side], 8);
		if (c->on_step != NULL)
			c->on_step(c, c->on_step_arg);
	}
	return count;
}

void
contract_step(struct contract *c, const char *what)
{
	if (far_clock_now(c->clock) > c->deadline_ns)
		fail_msg("in vain: %s", what);
	if (sides_poll(c) > 0)
		return;
	if (c->blocking)
		contract_sleep(c);
	else
		c->backend->idle(c);
}

void
contract_settle(struct contract *c)
{
	for (int i = 0; i < SETTLE_STEPS; i++) {
		sides_poll(c);
		c->backend->idle(c);
	}
}

/* ---- ends ---- */

struct contract_end *
contract_end_new(struct contract *c)
{
	for (int i = 0; i < CONTRACT_ENDS_MAX; i++) {
		if (c->ends[i] != NULL)
			continue;
		c->ends[i] = far_zalloc(sizeof(struct contract_end));
		assert_non_null(c->ends[i]);
		c->ends[i]->handler.event = end_event;
		c->ends[i]->c = c;
		c->ends[i]->side = CLIENT;
		return c->ends[i];
	}
	fail_msg("too many ends");
	return NULL;
}

int
contract_connect_start(struct contract *c, struct contract_end *end, const char *address,
		       const void *hello, size_t hello_bytes, uint64_t deadline_ns)
{
	return far_transport_connect(c->tp[CLIENT], address, hello, hello_bytes, deadline_ns,
				     &end->handler, &end->link);
}

void
contract_connect(struct contract *c, struct contract_end **donor_out,
		 struct contract_end **client_out)
{
	struct contract_end *donor = contract_end_new(c);
	struct contract_end *client = contract_end_new(c);
	int rc;

	donor->peer = client;
	client->peer = donor;
	c->accept_next = donor;
	rc = contract_connect_start(c, client, c->address, "hello", 5,
				    far_clock_now(c->clock) + CONTRACT_WAIT_NS);
	assert_int_equal(rc, 0);
	contract_wait(c, client->connected + client->lost > 0);
	assert_int_equal(client->connected, 1);
	assert_true(client->link->up);
	assert_true(donor->link->up);
	*donor_out = donor;
	*client_out = client;
}

void
contract_disconnect(struct contract_end *end)
{
	if (end->link == NULL)
		return;
	if (!end->disconnected) {
		end->disconnected = true;
		far_transport_disconnect(end->link);
	}
	contract_wait(end->c, end->closed == 1);
}

/* ---- memory ---- */

struct contract_mem *
contract_mem_new(struct contract *c, enum contract_side side, size_t size_bytes, uint32_t rights,
		 struct contract_end *only)
{
	struct far_mem_source source = {.size_bytes = size_bytes};
	struct contract_mem *mem = c->mems;
	int rc;

	while (mem->pages.base != NULL)
		mem++;
	assert_true(mem < c->mems + CONTRACT_MEMS_MAX);
	rc = far_pages_map_shared("contract", size_bytes, FAR_PAGES_HUGE_OFF, -1, &mem->pages);
	assert_int_equal(rc, 0);
	source.base = mem->pages.base;
	source.fd = mem->pages.fd;
	if (c->backend->gpu != NULL && c->backend->gpu->device_memory && side == CLIENT &&
	    rights == FAR_RIGHT_LOCAL)
		source.device = c->backend->gpu->device;
	rc = far_transport_mem_reg(c->tp[side], &source, rights, only != NULL ? only->link : NULL,
				   &mem->mem);
	assert_int_equal(rc, 0);
	if (source.device != NULL)
		contract_gpu_check(c);
	assert_ptr_equal(mem->mem->base, mem->pages.base);
	assert_int_equal(mem->mem->size_bytes, size_bytes);
	assert_int_equal(mem->mem->rights, rights);
	mem->side = side;
	mem->base = mem->pages.base;
	mem->size_bytes = size_bytes;
	return mem;
}

void
contract_mem_dereg(struct contract_mem *mem)
{
	if (mem->mem != NULL)
		far_transport_mem_dereg(mem->mem);
	mem->mem = NULL;
}

void
contract_mem_expose(struct contract_mem *mem, struct contract_end *end)
{
	uint32_t before = end->peer->message_count;

	assert_int_equal(far_transport_mem_expose(mem->mem, end->link), 0);
	contract_send(end, "exposed", 7);
	contract_wait(end->c, end->peer->message_count > before);
}

void
contract_fill(void *base, size_t size_bytes, uint64_t seed)
{
	for (size_t at = 0; at < size_bytes; at += 8) {
		uint64_t word = far_mix64(seed + at / 8);
		size_t left = size_bytes - at;

		memcpy((uint8_t *)base + at, &word, left < 8 ? left : 8);
	}
}

bool
contract_is_filled(const void *base, size_t size_bytes, uint64_t seed)
{
	for (size_t at = 0; at < size_bytes; at += 8) {
		uint64_t word = far_mix64(seed + at / 8);
		size_t left = size_bytes - at;

		if (memcmp((const uint8_t *)base + at, &word, left < 8 ? left : 8) != 0)
			return false;
	}
	return true;
}

bool
contract_is_all(const void *base, size_t size_bytes, uint8_t value)
{
	const uint8_t *bytes = base;

	return size_bytes == 0 ||
	       (bytes[0] == value && memcmp(bytes, bytes + 1, size_bytes - 1) == 0);
}

/* ---- ops and messages ---- */

uint64_t
contract_token(struct contract_end *end)
{
	assert_true(end->token_last + 1 < CONTRACT_TOKENS_MAX);
	return ++end->token_last;
}

struct far_op
contract_op(enum far_op_kind kind, const struct far_piece *piece, const struct far_remote *remote,
	    uint64_t offset)
{
	return (struct far_op){
		.kind = kind,
		.remote_addr = remote->addr + offset,
		.rkey = remote->rkey,
		.pieces = piece,
		.piece_count = 1,
	};
}

void
contract_post(struct contract_end *end, const struct far_op *ops, int count)
{
	int rc = far_transport_post(end->link, ops, count);

	while (rc == -EAGAIN) {
		uint32_t sendable = end->sendable;

		contract_wait(end->c, end->sendable > sendable);
		rc = far_transport_post(end->link, ops, count);
	}
	assert_int_equal(rc, 0);
}

void
contract_send(struct contract_end *end, const void *msg, size_t size_bytes)
{
	int rc = far_transport_send(end->link, msg, size_bytes);

	while (rc == -EAGAIN) {
		uint32_t sendable = end->sendable;

		contract_wait(end->c, end->sendable > sendable);
		rc = far_transport_send(end->link, msg, size_bytes);
	}
	assert_int_equal(rc, 0);
}

static int
one_op(struct contract_end *end, enum far_op_kind kind, const struct far_piece *piece,
       const struct far_remote *remote, uint64_t offset)
{
	struct far_op op = contract_op(kind, piece, remote, offset);

	op.token = contract_token(end);
	contract_post(end, &op, 1);
	contract_wait(end->c, end->done[op.token]);
	return end->status[op.token];
}

int
contract_read(struct contract_end *end, struct contract_mem *local, size_t local_offset,
	      const struct far_remote *remote, uint64_t offset, uint32_t size_bytes)
{
	struct far_piece piece = {local->base + local_offset, size_bytes, local->mem};

	return one_op(end, FAR_OP_READ, &piece, remote, offset);
}

int
contract_write(struct contract_end *end, struct contract_mem *local, size_t local_offset,
	       const struct far_remote *remote, uint64_t offset, uint32_t size_bytes)
{
	struct far_piece piece = {local->base + local_offset, size_bytes, local->mem};

	return one_op(end, FAR_OP_WRITE, &piece, remote, offset);
}

/* ---- the suite ---- */

int
contract_run(const struct contract_backend *backend, const char *variant)
{
	static const struct contract_tests *const areas[] = {
		&contract_links, &contract_messages, &contract_reads,   &contract_writes,
		&contract_keys,  &contract_endings,  &contract_polling, &contract_gpu_ways,
	};
	int failed = 0;

	backend_now = backend;
	for (size_t i = 0; i < sizeof(areas) / sizeof(areas[0]); i++) {
		char name[128];

		if (areas[i] == &contract_gpu_ways &&
		    (backend->gpu == NULL || !backend->gpu->device_memory || backend->gpu->direct))
			continue;
		snprintf(name, sizeof(name), "%s %s: %s", backend->name, variant, areas[i]->name);
		failed +=
			_cmocka_run_group_tests(name, areas[i]->tests, areas[i]->count, NULL, NULL);
	}
	return failed > 0;
}
