/* gpu_ways.c - what transport/gpu promises beside the contract: copies are work requests, too. */
#include "tests/contract/contract.h"

#include "tests/support/fake_device.h"
#include "tests/support/log_capture.h"
#include "transport/gpu/gpu.h"

#define BYTES ((size_t)512 * 1024)

struct scene {
	struct contract *c;
	struct contract_end *donor;
	struct contract_end *client;
	struct contract_mem *region;
	struct contract_mem *lane;
	struct contract_mem *local; /* on the device */
	struct far_device *device;
};

static void
scene_begin(struct scene *s)
{
	*s = (struct scene){.c = contract_begin()};
	s->device = s->c->backend->gpu->device;
	contract_connect(s->c, &s->donor, &s->client);
	s->region = contract_mem_new(s->c, DONOR, BYTES, FAR_RIGHT_REMOTE_READ, NULL);
	contract_fill(s->region->base, BYTES, 1);
	s->lane = contract_mem_new(s->c, DONOR, BYTES, FAR_RIGHT_REMOTE_WRITE, s->donor);
	contract_mem_expose(s->region, s->donor);
	contract_mem_expose(s->lane, s->donor);
	s->local = contract_mem_new(s->c, CLIENT, BYTES, FAR_RIGHT_LOCAL, NULL);
}

static uint64_t
post_one(struct scene *s, enum far_op_kind kind)
{
	struct far_piece piece = {s->local->base, BYTES, s->local->mem};
	struct contract_mem *remote = kind == FAR_OP_READ ? s->region : s->lane;
	struct far_op op = contract_op(kind, &piece, &remote->mem->remote, 0);

	op.token = contract_token(s->client);
	contract_post(s->client, &op, 1);
	return op.token;
}

static void
an_op_is_done_when_its_copy_is(void **state)
{
	struct scene s;
	uint64_t token;
	(void)state;

	scene_begin(&s);
	fake_device_hold(s.device, true);
	token = post_one(&s, FAR_OP_READ);
	contract_settle(s.c);
	assert_false(s.client->done[token]);
	assert_true(fake_device_copies(s.device) > 0);
	fake_device_hold(s.device, false);
	contract_wait(s.c, s.client->done[token]);
	assert_int_equal(s.client->status[token], 0);
	assert_true(contract_is_filled(s.local->base, BYTES, 1));
	contract_close(s.c);
}

static void
a_link_is_closed_when_its_copies_have_ended(void **state)
{
	struct scene s;
	(void)state;

	scene_begin(&s);
	fake_device_hold(s.device, true);
	(void)post_one(&s, FAR_OP_READ);
	contract_settle(s.c);
	s.client->disconnected = true;
	far_transport_disconnect(s.client->link);
	contract_settle(s.c);
	assert_int_equal(s.client->closed, 0);
	fake_device_hold(s.device, false);
	contract_wait(s.c, s.client->closed == 1);
	contract_close(s.c);
}

static void
a_device_that_failed_costs_its_ops_and_no_link(void **state)
{
	struct scene s;
	uint64_t token;
	(void)state;

	scene_begin(&s);
	fake_device_hold(s.device, true);
	token = post_one(&s, FAR_OP_READ);
	contract_settle(s.c);
	fake_device_fail(s.device);
	contract_wait(s.c, s.client->done[token]);
	assert_int_equal(s.client->status[token], -EIO);
	token = post_one(&s, FAR_OP_READ);
	contract_wait(s.c, s.client->done[token]);
	assert_int_equal(s.client->status[token], -EIO);
	/* Host memory goes on. */
	contract_send(s.client, "hello", 5);
	contract_wait(s.c, s.donor->message_count == 1);
	assert_int_equal(s.client->lost, 0);
	contract_close(s.c);
}

static void
a_message_behind_a_write_that_was_never_copied_does_not_arrive(void **state)
{
	struct scene s;
	uint64_t token;
	(void)state;

	scene_begin(&s);
	fake_device_hold(s.device, true);
	token = post_one(&s, FAR_OP_WRITE);
	assert_int_equal(far_transport_send(s.client->link, "commit", 6), -EAGAIN);
	contract_settle(s.c);
	assert_int_equal(far_transport_send(s.client->link, "commit", 6), -EAGAIN);
	fake_device_fail(s.device);
	contract_wait(s.c, s.client->lost == 1);
	contract_wait(s.c, s.client->done[token]);
	assert_true(s.client->status[token] < 0);
	assert_int_equal(far_transport_send(s.client->link, "commit", 6), -ENOTCONN);
	contract_settle(s.c);
	assert_int_equal(s.donor->message_count, 0);
	contract_close(s.c);
}

static void
a_message_behind_writes_goes_when_they_are_on_their_way(void **state)
{
	struct scene s;
	(void)state;

	scene_begin(&s);
	contract_fill(s.local->base, BYTES, 9);
	(void)post_one(&s, FAR_OP_WRITE);
	assert_int_equal(far_transport_send(s.client->link, "commit", 6), -EAGAIN);
	contract_wait(s.c, s.client->sendable >= 1);
	contract_send(s.client, "commit", 6);
	contract_wait(s.c, s.donor->message_count == 1);
	assert_true(contract_is_filled(s.lane->base, BYTES, 9));
	contract_close(s.c);
}

/* None of its bytes is ever put on its way, so nothing may wait for that. */
static void
a_message_goes_behind_a_write_of_no_bytes(void **state)
{
	struct scene s;
	struct far_piece piece;
	struct far_op op;
	(void)state;

	scene_begin(&s);
	piece = (struct far_piece){s.local->base, 0, s.local->mem};
	op = contract_op(FAR_OP_WRITE, &piece, &s.lane->mem->remote, 0);
	op.token = contract_token(s.client);
	contract_post(s.client, &op, 1);
	contract_wait(s.c, s.client->done[op.token]);
	assert_int_equal(s.client->status[op.token], 0);
	contract_send(s.client, "commit", 6);
	contract_wait(s.c, s.donor->message_count == 1);
	contract_close(s.c);
}

static void
what_cannot_be_pinned_is_staged(void **state)
{
	struct far_gpu_status status;
	struct scene s;
	uint64_t token;
	(void)state;

	scene_begin(&s);
	fake_device_pin_rc(s.device, -EOPNOTSUPP);
	if (s.c->backend->gpu->mapped)
		far_log_capture_expect("cannot be pinned");
	for (int i = 0; i < 3; i++) {
		token = post_one(&s, FAR_OP_READ);
		contract_wait(s.c, s.client->done[token]);
		assert_int_equal(s.client->status[token], 0);
		assert_true(contract_is_filled(s.local->base, BYTES, 1));
		contract_settle(s.c);
	}
	far_gpu_status_get(s.c->tp[CLIENT], &status);
	assert_false(status.paths[FAR_GPU_MAPPED].used);
	assert_int_equal(status.paths[FAR_GPU_STAGED].bytes, 3 * BYTES);
	contract_close(s.c);
}

static void
pins_end_with_the_last_link(void **state)
{
	struct far_gpu_status status;
	struct scene s;
	(void)state;

	scene_begin(&s);
	for (int i = 0; i < 50; i++) {
		uint64_t token = post_one(&s, FAR_OP_READ);

		contract_wait(s.c, s.client->done[token]);
		assert_true(contract_is_filled(s.local->base, BYTES, 1));
		contract_settle(s.c);
		far_gpu_status_get(s.c->tp[CLIENT], &status);
		if (status.paths[FAR_GPU_MAPPED].used)
			break;
		memset(s.local->base, 0, BYTES);
	}
	assert_int_equal(status.paths[FAR_GPU_MAPPED].used, s.c->backend->gpu->mapped);
	assert_int_equal(fake_device_pins(s.device), s.c->backend->gpu->mapped ? 2 : 1);
	contract_disconnect(s.client);
	contract_wait(s.c, fake_device_pins(s.device) == 1); /* the ring */
	contract_close(s.c);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(an_op_is_done_when_its_copy_is),
	cmocka_unit_test(a_link_is_closed_when_its_copies_have_ended),
	cmocka_unit_test(a_device_that_failed_costs_its_ops_and_no_link),
	cmocka_unit_test(a_message_behind_a_write_that_was_never_copied_does_not_arrive),
	cmocka_unit_test(a_message_behind_writes_goes_when_they_are_on_their_way),
	cmocka_unit_test(a_message_goes_behind_a_write_of_no_bytes),
	cmocka_unit_test(what_cannot_be_pinned_is_staged),
	cmocka_unit_test(pins_end_with_the_last_link),
};

const struct contract_tests contract_gpu_ways = {"gpu ways", tests,
						 sizeof(tests) / sizeof(tests[0])};
