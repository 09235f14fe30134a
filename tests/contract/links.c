/* links.c - contract: a link is asked for, accepted or refused, used, ended, and made again. */
#include "tests/contract/contract.h"

static void
connecting_brings_the_hello_to_the_acceptor(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *donor;
	struct contract_end *client;
	(void)state;

	contract_connect(c, &donor, &client);
	assert_int_equal(c->accept_count, 1);
	assert_int_equal(c->hello_bytes, 5);
	assert_memory_equal(c->hello, "hello", 5);
	assert_int_equal(donor->connected, 0); /* that is the opener's event */
	assert_int_not_equal(donor->link->peer[0], '\0');
	assert_int_not_equal(client->link->peer[0], '\0');
	contract_close(c);
}

static void
a_hello_may_be_empty_or_as_long_as_allowed(void **state)
{
	static const size_t sizes[] = {0, 1, FAR_HELLO_BYTES_MAX};
	struct contract *c = contract_begin();
	(void)state;

	for (size_t i = 0; i < 3; i++) {
		struct contract_end *donor = contract_end_new(c);
		struct contract_end *client = contract_end_new(c);
		uint8_t hello[FAR_HELLO_BYTES_MAX];
		int rc;

		contract_fill(hello, sizeof(hello), i);
		c->accept_next = donor;
		rc = contract_connect_start(c, client, c->address, hello, sizes[i],
					    far_clock_now(c->clock) + CONTRACT_WAIT_NS);
		assert_int_equal(rc, 0);
		memset(hello, 0, sizeof(hello)); /* it was copied */
		contract_wait(c, client->connected == 1);
		assert_int_equal(c->hello_bytes, sizes[i]);
		assert_true(contract_is_filled(c->hello, sizes[i], i));
	}
	contract_close(c);
}

static void
a_refused_link_is_lost_and_never_connected(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *client = contract_end_new(c);
	int rc;
	(void)state;

	rc = contract_connect_start(c, client, c->address, "no", 2,
				    far_clock_now(c->clock) + CONTRACT_WAIT_NS);
	assert_int_equal(rc, 0);
	contract_wait(c, client->lost == 1);
	assert_int_equal(client->lost_status, -ECONNREFUSED);
	assert_int_equal(client->connected, 0);
	assert_int_equal(c->accept_count, 1);
	contract_close(c);
}

static void
connecting_where_nobody_listens_is_refused(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *client = contract_end_new(c);
	int rc;
	(void)state;

	far_transport_unlisten(c->tp[DONOR], c->listener);
	c->listener = NULL;
	rc = contract_connect_start(c, client, c->address, NULL, 0,
				    far_clock_now(c->clock) + CONTRACT_WAIT_NS);
	if (rc < 0) {
		assert_int_equal(rc, -ECONNREFUSED); /* known at once: no link, no event */
		client->link = NULL;
	} else {
		contract_wait(c, client->lost == 1);
		assert_int_equal(client->lost_status, -ECONNREFUSED);
	}
	assert_int_equal(client->connected, 0);
	contract_close(c);
}

static void
a_connect_that_nobody_answers_is_lost_at_its_deadline(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *client = contract_end_new(c);
	uint64_t deadline_ns;
	int rc;
	(void)state;

	c->stopped[DONOR] = true;
	c->accept_next = contract_end_new(c);
	deadline_ns = far_clock_now(c->clock) + 20 * FAR_NS_PER_MS;
	rc = contract_connect_start(c, client, c->address, NULL, 0, deadline_ns);
	assert_int_equal(rc, 0);
	contract_wait(c, client->lost == 1);
	assert_int_equal(client->lost_status, -ETIMEDOUT);
	assert_true(far_clock_now(c->clock) >= deadline_ns);
	assert_int_equal(client->connected, 0);
	contract_disconnect(client);
	/* Awake again, the donor finds nobody, whether it is asked or not. */
	c->stopped[DONOR] = false;
	contract_settle(c);
	for (int i = 0; i < CONTRACT_ENDS_MAX; i++)
		if (c->ends[i] != NULL && c->ends[i]->link != NULL)
			contract_wait(c, c->ends[i]->lost == 1);
	contract_close(c);
}

static void
a_link_that_is_given_up_while_connecting_closes(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *client = contract_end_new(c);
	int rc;
	(void)state;

	c->accept_next = contract_end_new(c);
	rc = contract_connect_start(c, client, c->address, NULL, 0, FAR_TIME_NEVER);
	assert_int_equal(rc, 0);
	assert_int_equal(far_transport_send(client->link, "x", 1), -ENOTCONN);
	contract_disconnect(client);
	assert_int_equal(client->connected, 0);
	assert_int_equal(client->lost, 0);
	contract_settle(c);
	contract_close(c);
}

static void
an_address_has_one_listener_at_a_time(void **state)
{
	struct contract *c = contract_begin();
	struct far_listener *second = NULL;
	struct contract_end *donor;
	struct contract_end *client;
	int rc;
	(void)state;

	rc = far_transport_listen(c->tp[CLIENT], c->address, NULL, NULL, &second);
	assert_int_equal(rc, -EADDRINUSE);
	assert_null(second);
	/* The one that was there has not suffered. */
	contract_connect(c, &donor, &client);
	contract_close(c);
}

static void
links_outlive_their_listener(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *donor;
	struct contract_end *client;
	(void)state;

	contract_connect(c, &donor, &client);
	far_transport_unlisten(c->tp[DONOR], c->listener);
	c->listener = NULL;
	contract_send(client, "still here", 10);
	contract_wait(c, donor->message_count == 1);
	assert_int_equal(client->lost + donor->lost, 0);
	contract_close(c);
}

static void
links_of_one_listener_do_not_mix(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *donor[3];
	struct contract_end *client[3];
	(void)state;

	for (int i = 0; i < 3; i++)
		contract_connect(c, &donor[i], &client[i]);
	for (int i = 0; i < 3; i++)
		for (int n = 0; n <= i; n++)
			contract_send(client[i], &(char){(char)('a' + i)}, 1);
	for (int i = 0; i < 3; i++) {
		contract_wait(c, donor[i]->message_count == (uint32_t)i + 1);
		assert_int_equal(donor[i]->message[0], 'a' + i);
	}
	/* One ends, the others do not notice. */
	contract_disconnect(client[1]);
	contract_wait(c, donor[1]->lost == 1);
	contract_send(donor[0], "on", 2);
	contract_send(donor[2], "on", 2);
	contract_wait(c, client[0]->message_count == 1 && client[2]->message_count == 1);
	assert_int_equal(donor[0]->lost + donor[2]->lost, 0);
	contract_close(c);
}

static void
disconnecting_closes_here_and_is_a_loss_there(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *donor;
	struct contract_end *client;
	(void)state;

	contract_connect(c, &donor, &client);
	contract_disconnect(client);
	assert_int_equal(client->lost, 0);
	contract_wait(c, donor->lost == 1);
	assert_int_equal(donor->closed, 0); /* it is still the donor's to end */
	assert_int_equal(far_transport_send(donor->link, "x", 1), -ENOTCONN);
	contract_disconnect(donor);
	contract_settle(c);
	contract_close(c);
}

static void
both_ends_may_disconnect_at_once(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *donor;
	struct contract_end *client;
	(void)state;

	contract_connect(c, &donor, &client);
	donor->disconnected = true;
	client->disconnected = true;
	far_transport_disconnect(donor->link);
	far_transport_disconnect(client->link);
	contract_wait(c, donor->closed == 1 && client->closed == 1);
	assert_int_equal(donor->lost + client->lost, 0);
	contract_settle(c);
	contract_close(c);
}

static void
end_itself(struct contract_end *end)
{
	end->disconnected = true;
	far_transport_disconnect(end->link);
}

static void
a_handler_may_disconnect_its_own_link(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *donor;
	struct contract_end *client;
	(void)state;

	contract_connect(c, &donor, &client);
	donor->on_message = end_itself;
	client->on_lost = end_itself;
	for (int i = 0; i < 5; i++)
		contract_send(client, "go away", 7);
	contract_wait(c, donor->closed == 1 && client->closed == 1);
	assert_int_equal(donor->message_count, 1); /* the others were dropped */
	contract_close(c);
}

static void
a_lost_link_is_made_again(void **state)
{
	struct contract *c = contract_begin();
	(void)state;

	for (int i = 0; i < 3; i++) {
		struct contract_end *donor;
		struct contract_end *client;

		contract_connect(c, &donor, &client);
		contract_send(donor, "hello again", 11);
		contract_wait(c, client->message_count == 1);
		contract_disconnect(donor);
		contract_wait(c, client->lost == 1);
		contract_disconnect(client);
	}
	assert_int_equal(c->accept_count, 3);
	contract_close(c);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(connecting_brings_the_hello_to_the_acceptor),
	cmocka_unit_test(a_hello_may_be_empty_or_as_long_as_allowed),
	cmocka_unit_test(a_refused_link_is_lost_and_never_connected),
	cmocka_unit_test(connecting_where_nobody_listens_is_refused),
	cmocka_unit_test(a_connect_that_nobody_answers_is_lost_at_its_deadline),
	cmocka_unit_test(a_link_that_is_given_up_while_connecting_closes),
	cmocka_unit_test(an_address_has_one_listener_at_a_time),
	cmocka_unit_test(links_outlive_their_listener),
	cmocka_unit_test(links_of_one_listener_do_not_mix),
	cmocka_unit_test(disconnecting_closes_here_and_is_a_loss_there),
	cmocka_unit_test(both_ends_may_disconnect_at_once),
	cmocka_unit_test(a_handler_may_disconnect_its_own_link),
	cmocka_unit_test(a_lost_link_is_made_again),
};

const struct contract_tests contract_links = {"links", tests, sizeof(tests) / sizeof(tests[0])};
