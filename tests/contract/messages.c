/* messages.c - contract: messages arrive once, in order, whole, and never without a credit. */
#include "tests/contract/contract.h"

#define TALK_MESSAGES 400

/* A stream of numbered messages, sent as credits allow, checked as they arrive. */
struct talk {
	struct contract_end *from;
	uint32_t sent;
	uint32_t got;
	bool full; /* answered -EAGAIN: SENDABLE has to follow */
	uint32_t sendable_seen;
};

static size_t
talk_bytes(uint32_t number)
{
	/* All sizes, with the borders among them. */
	if (number % 50 == 7)
		return FAR_MESSAGE_BYTES_MAX;
	if (number % 50 == 8)
		return 1;
	return 1 + far_mix64(number) % (number % 3 == 0 ? FAR_MESSAGE_BYTES_MAX : 300);
}

static void
talk_got(struct contract_end *end)
{
	struct talk *talk = end->arg;

	assert_int_equal(end->message_bytes, talk_bytes(talk->got));
	assert_true(contract_is_filled(end->message, end->message_bytes, talk->got));
	talk->got++;
}

static void
talk_on(struct talk *talk)
{
	static uint8_t msg[FAR_MESSAGE_BYTES_MAX];

	if (talk->full && talk->from->sendable == talk->sendable_seen)
		return;
	talk->full = false;
	while (talk->sent < TALK_MESSAGES) {
		size_t size_bytes = talk_bytes(talk->sent);
		int rc;

		contract_fill(msg, size_bytes, talk->sent);
		rc = far_transport_send(talk->from->link, msg, size_bytes);
		memset(msg, 0, size_bytes); /* it was copied */
		if (rc == -EAGAIN) {
			talk->full = true;
			talk->sendable_seen = talk->from->sendable;
			return;
		}
		assert_int_equal(rc, 0);
		talk->sent++;
	}
}

static void
messages_arrive_once_in_order_and_whole_both_ways(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *donor;
	struct contract_end *client;
	struct talk up = {0};
	struct talk down = {0};
	(void)state;

	contract_connect(c, &donor, &client);
	up.from = client;
	down.from = donor;
	donor->on_message = talk_got;
	donor->arg = &up;
	client->on_message = talk_got;
	client->arg = &down;
	contract_deadline_set(c);
	while (up.got < TALK_MESSAGES || down.got < TALK_MESSAGES) {
		talk_on(&up);
		talk_on(&down);
		contract_step(c, "all messages");
	}
	contract_settle(c);
	assert_int_equal(donor->message_count, TALK_MESSAGES);
	assert_int_equal(client->message_count, TALK_MESSAGES);
	contract_close(c);
}

static uint32_t
send_until_full(struct contract_end *end)
{
	uint32_t count = 0;

	while (far_transport_send(end->link, &count, sizeof(count)) == 0) {
		count++;
		assert_true(count <= 1000);
	}
	assert_int_equal(far_transport_send(end->link, "x", 1), -EAGAIN);
	return count;
}

static void
the_receiver_says_how_many_messages_may_be_on_the_way(void **state)
{
	struct contract *c = contract_open();
	struct contract_end *donor;
	struct contract_end *client;
	(void)state;

	c->config[DONOR].message_credits = 5;
	c->config[CLIENT].message_credits = 9;
	contract_start(c);
	contract_connect(c, &donor, &client);
	c->stopped[DONOR] = true;
	assert_int_equal(send_until_full(client), 5);
	contract_settle(c); /* no credit without the receiver */
	assert_int_equal(client->sendable, 0);
	assert_int_equal(far_transport_send(client->link, "x", 1), -EAGAIN);
	assert_int_equal(client->lost, 0);

	c->stopped[DONOR] = false;
	contract_wait(c, client->sendable == 1);
	contract_wait(c, donor->message_count == 5);
	c->stopped[CLIENT] = true;
	assert_int_equal(send_until_full(donor), 9);
	c->stopped[CLIENT] = false;
	contract_wait(c, client->message_count == 9 && donor->sendable == 1);
	assert_int_equal(far_transport_send(client->link, "x", 1), 0);
	contract_wait(c, donor->message_count == 6);
	contract_close(c);
}

static void
sendable_comes_only_to_those_who_were_refused(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *donor;
	struct contract_end *client;
	(void)state;

	contract_connect(c, &donor, &client);
	contract_send(client, "one", 3);
	contract_wait(c, donor->message_count == 1);
	contract_settle(c);
	assert_int_equal(client->sendable, 0);
	contract_close(c);
}

static void
answer_at_once(struct contract_end *end)
{
	assert_int_equal(far_transport_send(end->link, end->message, end->message_bytes), 0);
}

static void
a_handler_may_send(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *donor;
	struct contract_end *client;
	(void)state;

	contract_connect(c, &donor, &client);
	donor->on_message = answer_at_once;
	for (uint32_t i = 0; i < 100; i++) {
		contract_send(client, &i, sizeof(i));
		contract_wait(c, client->message_count == i + 1);
		assert_memory_equal(client->message, &i, sizeof(i));
	}
	contract_close(c);
}

static void
the_acceptor_may_talk_first(void **state)
{
	struct contract *c = contract_begin();
	struct contract_end *donor = contract_end_new(c);
	struct contract_end *client = contract_end_new(c);
	int rc;
	(void)state;

	c->accept_next = donor;
	rc = contract_connect_start(c, client, c->address, NULL, 0,
				    far_clock_now(c->clock) + CONTRACT_WAIT_NS);
	assert_int_equal(rc, 0);
	contract_wait(c, donor->link != NULL);
	assert_int_equal(far_transport_send(donor->link, "welcome", 7), 0);
	contract_wait(c, client->message_count == 1);
	assert_int_equal(client->connected, 1); /* it came before */
	assert_memory_equal(client->message, "welcome", 7);
	contract_close(c);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(messages_arrive_once_in_order_and_whole_both_ways),
	cmocka_unit_test(the_receiver_says_how_many_messages_may_be_on_the_way),
	cmocka_unit_test(sendable_comes_only_to_those_who_were_refused),
	cmocka_unit_test(a_handler_may_send),
	cmocka_unit_test(the_acceptor_may_talk_first),
};

const struct contract_tests contract_messages = {"messages", tests,
						 sizeof(tests) / sizeof(tests[0])};
