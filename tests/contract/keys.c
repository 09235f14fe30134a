/* keys.c - contract: what is exposed can be used before the next message, what is forgotten cannot. */
#include "tests/contract/contract.h"

static void
read_what_was_named(struct contract_end *end)
{
	struct contract_mem *local = end->arg;
	struct far_piece piece = {local->base, 4096, local->mem};
	struct far_remote remote;
	struct far_op op;

	assert_int_equal(end->message_bytes, sizeof(remote));
	memcpy(&remote, end->message, sizeof(remote));
	op = contract_op(FAR_OP_READ, &piece, &remote, 0);
	op.token = contract_token(end);
	assert_int_equal(far_transport_post(end->link, &op, 1), 0);
}

static void
a_key_is_known_before_the_message_behind_it(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *donor;
	struct contract_end *client;
	struct contract_mem *local;
	(void)state;

	contract_connect(c, &donor, &client);
	local = contract_mem_new(c, CLIENT, 4096, FAR_RIGHT_LOCAL, NULL);
	client->on_message = read_what_was_named;
	client->arg = local;
	for (uint64_t round = 0; round < 20; round++) {
		struct contract_mem *region;

		region = contract_mem_new(c, DONOR, 4096, FAR_RIGHT_REMOTE_READ, NULL);
		contract_fill(region->base, 4096, round);
		/* Twice is once. */
		assert_int_equal(far_transport_mem_expose(region->mem, donor->link), 0);
		assert_int_equal(far_transport_mem_expose(region->mem, donor->link), 0);
		contract_send(donor, &region->mem->remote, sizeof(region->mem->remote));
		contract_wait(c, client->done_count == round + 1);
		assert_int_equal(client->failed_count, 0);
		assert_true(contract_is_filled(local->base, 4096, round));
	}
	contract_close(c);
}

static void
exposing_needs_no_credit(void **state)
{
	struct contract *c = contract_open();
	struct contract_end *donor;
	struct contract_end *client;
	struct contract_mem *regions[20];
	struct contract_mem *local;
	(void)state;

	c->config[CLIENT].message_credits = 2;
	contract_start(c);
	contract_connect(c, &donor, &client);
	local = contract_mem_new(c, CLIENT, 4096, FAR_RIGHT_LOCAL, NULL);
	c->stopped[CLIENT] = true;
	while (far_transport_send(donor->link, "x", 1) == 0)
		;
	for (int i = 0; i < 20; i++) {
		regions[i] = contract_mem_new(c, DONOR, 4096, FAR_RIGHT_REMOTE_READ, NULL);
		contract_fill(regions[i]->base, 4096, (uint64_t)i);
		assert_int_equal(far_transport_mem_expose(regions[i]->mem, donor->link), 0);
	}
	c->stopped[CLIENT] = false;
	contract_send(donor, "behind them", 11);
	contract_wait(c, client->message_count == 3);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(contract_read(client, local, 0, &regions[i]->mem->remote, 0, 4096),
				 0);
		assert_true(contract_is_filled(local->base, 4096, (uint64_t)i));
	}
	contract_close(c);
}

static void
keys_have_their_own_regions(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *donor;
	struct contract_end *client;
	struct contract_mem *regions[100];
	struct contract_mem *local;
	(void)state;

	contract_connect(c, &donor, &client);
	local = contract_mem_new(c, CLIENT, 4096, FAR_RIGHT_LOCAL, NULL);
	for (int i = 0; i < 100; i++) {
		regions[i] = contract_mem_new(c, DONOR, 4096, FAR_RIGHT_REMOTE_READ, NULL);
		contract_fill(regions[i]->base, 4096, (uint64_t)i);
		contract_mem_expose(regions[i], donor);
	}
	for (int i = 0; i < 100; i++) {
		int other = (i * 37) % 100;

		assert_int_equal(
			contract_read(client, local, 0, &regions[other]->mem->remote, 0, 4096), 0);
		assert_true(contract_is_filled(local->base, 4096, (uint64_t)other));
	}
	contract_close(c);
}

static void
a_slice_of_a_mapping_is_exposed_alone(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *donor;
	struct contract_end *client;
	struct contract_mem *whole;
	struct contract_mem *local;
	struct far_mem_source source;
	struct far_mem *slice;
	struct contract_mem *mem;
	(void)state;

	contract_connect(c, &donor, &client);
	local = contract_mem_new(c, CLIENT, 8192, FAR_RIGHT_LOCAL, NULL);
	whole = contract_mem_new(c, DONOR, 32768, FAR_RIGHT_LOCAL, NULL);
	contract_fill(whole->base, 32768, 5);
	source = (struct far_mem_source){.base = whole->base + 8192,
					 .size_bytes = 4096,
					 .fd = whole->pages.fd,
					 .fd_offset = 8192};
	assert_int_equal(
		far_transport_mem_reg(c->tp[DONOR], &source, FAR_RIGHT_REMOTE_READ, NULL, &slice),
		0);
	mem = &(struct contract_mem){.mem = slice};
	contract_mem_expose(mem, donor);
	assert_int_equal(contract_read(client, local, 0, &slice->remote, 0, 4096), 0);
	assert_memory_equal(local->base, whole->base + 8192, 4096);
	assert_int_equal(contract_read(client, local, 0, &slice->remote, 0, 4097), -EACCES);
	far_transport_mem_dereg(slice);
	contract_close(c);
}

static void
a_forgotten_key_is_stale_and_the_others_are_not(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *donor;
	struct contract_end *client;
	struct contract_mem *regions[2];
	struct contract_mem *local;
	struct far_remote old;
	struct far_rkey nobody;
	(void)state;

	contract_connect(c, &donor, &client);
	local = contract_mem_new(c, CLIENT, 4096, FAR_RIGHT_LOCAL, NULL);
	for (int i = 0; i < 2; i++) {
		regions[i] = contract_mem_new(c, DONOR, 4096, FAR_RIGHT_REMOTE_READ, NULL);
		contract_mem_expose(regions[i], donor);
		assert_int_equal(contract_read(client, local, 0, &regions[i]->mem->remote, 0, 64),
				 0);
	}
	old = regions[0]->mem->remote;
	far_transport_forget(client->link, &old.rkey);
	contract_mem_dereg(regions[0]);
	memset(&nobody, 0x77, sizeof(nobody));
	far_transport_forget(client->link, &nobody); /* ignored */
	far_transport_forget(client->link, &old.rkey);
	assert_int_equal(contract_read(client, local, 0, &old, 0, 64), -ESTALE);
	assert_int_equal(contract_read(client, local, 0, &regions[1]->mem->remote, 0, 64), 0);
	assert_int_equal(client->lost, 0);
	contract_close(c);
}

static void
keys_of_one_link_are_not_known_on_another(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *donor[2];
	struct contract_end *client[2];
	struct contract_mem *region;
	struct contract_mem *local;
	(void)state;

	contract_connect(c, &donor[0], &client[0]);
	contract_connect(c, &donor[1], &client[1]);
	local = contract_mem_new(c, CLIENT, 4096, FAR_RIGHT_LOCAL, NULL);
	region = contract_mem_new(c, DONOR, 4096, FAR_RIGHT_REMOTE_READ, NULL);
	contract_mem_expose(region, donor[0]);
	assert_int_equal(contract_read(client[0], local, 0, &region->mem->remote, 0, 64), 0);
	assert_int_equal(contract_read(client[1], local, 0, &region->mem->remote, 0, 64), -ESTALE);
	/* Until it is given there too. */
	contract_mem_expose(region, donor[1]);
	assert_int_equal(contract_read(client[1], local, 0, &region->mem->remote, 0, 64), 0);
	contract_close(c);
}

static void
exposing_to_a_lost_link_is_refused(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *donor;
	struct contract_end *client;
	struct contract_mem *region;
	(void)state;

	contract_connect(c, &donor, &client);
	region = contract_mem_new(c, DONOR, 4096, FAR_RIGHT_REMOTE_READ, NULL);
	contract_disconnect(client);
	contract_wait(c, donor->lost == 1);
	assert_int_equal(far_transport_mem_expose(region->mem, donor->link), -ENOTCONN);
	contract_close(c);
}

static void
capabilities_are_said_and_every_entry_is_there(void **state)
{
	struct contract *c = contract_begin();
	const struct far_transport_ops *ops = c->tp[DONOR]->ops;
	const struct far_caps *caps = &c->tp[DONOR]->caps;
	struct far_caps client;
	const char *rest = NULL;
	char address[FAR_ADDRESS_BYTES_MAX + 16];
	char name[16];
	(void)state;

	assert_string_equal(ops->name, c->backend->name);
	/* far_transport_find() has looked at each pointer of the table. */
	assert_ptr_equal(far_transport_find(ops->name), ops);
	assert_true(caps->op_bytes_max >= 64U << 20); /* a lane in one op */
	assert_int_equal(caps->flags & ~0x7fU, 0);
	/* One around a GPU has one thread, whatever is within. */
	client = c->tp[CLIENT]->caps;
	client.flags |= caps->flags & FAR_CAP_ANY_THREAD;
	assert_memory_equal(caps, &client, sizeof(*caps));
	/* Its addresses can be written with its name. */
	snprintf(address, sizeof(address), "%s:%s", ops->name, c->address);
	assert_int_equal(far_address_split(address, name, &rest), 0);
	assert_string_equal(name, ops->name);
	assert_string_equal(rest, c->address);
	contract_close(c);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(a_key_is_known_before_the_message_behind_it),
	cmocka_unit_test(exposing_needs_no_credit),
	cmocka_unit_test(keys_have_their_own_regions),
	cmocka_unit_test(a_slice_of_a_mapping_is_exposed_alone),
	cmocka_unit_test(a_forgotten_key_is_stale_and_the_others_are_not),
	cmocka_unit_test(keys_of_one_link_are_not_known_on_another),
	cmocka_unit_test(exposing_to_a_lost_link_is_refused),
	cmocka_unit_test(capabilities_are_said_and_every_entry_is_there),
};

const struct contract_tests contract_keys = {"keys", tests, sizeof(tests) / sizeof(tests[0])};
