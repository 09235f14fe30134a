/* link.c - what goes wrong on a link's way up: no memory, nobody there any more, a refusal. */
#include "tests/unit/transport/loop/loop_world.h"

static const struct far_loop_config config = {
	.seed = 1,
	.latency_ns_min = 500,
	.latency_ns_max = 5000,
};

static int
connect_again(struct world *w)
{
	w->client.connected = 0;
	w->client.lost = 0;
	w->client.closed = 0;
	return far_transport_connect(w->client_tp, "donor", "hi", 2,
				     far_clock_now(w->clock) + FAR_NS_PER_S, &w->client.handler,
				     &w->client.link);
}

static void
connecting_without_memory_leaves_nothing_behind(void **state)
{
	struct world *w = world_open(&config);
	uint64_t live;
	uint64_t nth = 1;
	int rc;
	(void)state;

	world_disconnect(w);
	live = far_alloc_live_bytes();
	for (;; nth++) {
		far_alloc_fail_nth(nth);
		rc = connect_again(w);
		far_alloc_fail_nth(0);
		if (rc == 0)
			break;
		assert_int_equal(rc, -ENOMEM);
		assert_null(w->client.link);
		assert_int_equal(far_alloc_live_bytes(), live);
	}
	assert_true(nth > 4); /* link, messages, their bytes, ops, lists */
	world_wait(w, w->client.connected == 1);
	world_close(w);
}

static void
an_acceptor_without_memory_refuses(void **state)
{
	struct world *w = world_open(&config);
	(void)state;

	world_disconnect(w);
	assert_int_equal(connect_again(w), 0);
	far_alloc_fail_nth(1);
	world_wait(w, w->client.lost == 1);
	far_alloc_fail_nth(0);
	assert_int_equal(w->client.lost_status, -ECONNREFUSED);
	world_close(w);
}

static void
memory_and_keys_without_memory_leave_nothing_behind(void **state)
{
	struct world *w = world_open(&config);
	uint64_t live = far_alloc_live_bytes();
	struct far_mem_source source = {.base = w->local_bytes, .size_bytes = 64, .fd = -1};
	struct far_mem *mem = NULL;
	(void)state;

	far_alloc_fail_nth(1);
	assert_int_equal(
		far_transport_mem_reg(w->donor_tp, &source, FAR_RIGHT_REMOTE_READ, NULL, &mem),
		-ENOMEM);
	assert_null(mem);
	far_alloc_fail_nth(0);
	assert_int_equal(
		far_transport_mem_reg(w->donor_tp, &source, FAR_RIGHT_REMOTE_READ, NULL, &mem), 0);
	far_alloc_fail_nth(1);
	assert_int_equal(far_transport_mem_expose(mem, w->donor.link), -ENOMEM);
	far_alloc_fail_nth(0);
	far_transport_mem_dereg(mem);
	assert_int_equal(far_alloc_live_bytes(), live);
	world_close(w);
}

static void
whoever_waits_when_the_listener_goes_is_refused(void **state)
{
	struct world *w = world_open(&config);
	(void)state;

	world_disconnect(w);
	assert_int_equal(connect_again(w), 0);
	/* The request is there; the donor has not been asked yet. */
	while (far_transport_arm(w->donor_tp) == 0)
		far_loop_step(w->fabric, far_clock_now(w->clock) + FAR_NS_PER_MS);
	far_transport_unlisten(w->donor_tp, w->listener);
	world_wait(w, w->client.lost == 1);
	assert_int_equal(w->client.lost_status, -ECONNREFUSED);
	assert_null(w->donor.link);

	/* And from then on everybody. */
	far_transport_disconnect(w->client.link);
	world_wait(w, w->client.closed == 1);
	assert_int_equal(connect_again(w), 0);
	world_wait(w, w->client.lost == 1);
	assert_int_equal(w->client.lost_status, -ECONNREFUSED);
	world_disconnect(w);
	far_transport_mem_dereg(w->region);
	far_transport_close(w->donor_tp);
	w->donor_tp = NULL;
	world_close(w);
}

static void
hosts_and_addresses_without_a_name_are_refused(void **state)
{
	struct far_transport_config bad = {.host = ""};
	struct world *w = world_open(&config);
	struct far_transport *tp = NULL;
	struct far_link *link = NULL;
	struct far_listener *listener = NULL;
	char longest[FAR_ADDRESS_BYTES_MAX + 1];
	(void)state;

	assert_int_equal(far_transport_open("loop", &bad, &tp), -EINVAL);
	bad.fabric = w->fabric;
	assert_int_equal(far_transport_open("loop", &bad, &tp), -EINVAL);
	bad.host = "third";
	bad.message_credits = 1U << 20;
	assert_int_equal(far_transport_open("loop", &bad, &tp), -EINVAL);
	assert_null(tp);
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(far_transport_connect(w->client_tp, longest, NULL, 0, FAR_TIME_NEVER,
					       &w->client.handler, &link),
			 -EINVAL);
	assert_int_equal(far_transport_connect(w->client_tp, "", NULL, 0, FAR_TIME_NEVER,
					       &w->client.handler, &link),
			 -EINVAL);
	assert_null(link);
	assert_int_equal(far_transport_listen(w->donor_tp, longest, NULL, NULL, &listener),
			 -EINVAL);
	assert_int_equal(far_transport_listen(w->donor_tp, "", NULL, NULL, &listener), -EINVAL);
	assert_null(listener);
	world_close(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(connecting_without_memory_leaves_nothing_behind),
		cmocka_unit_test(an_acceptor_without_memory_refuses),
		cmocka_unit_test(memory_and_keys_without_memory_leave_nothing_behind),
		cmocka_unit_test(whoever_waits_when_the_listener_goes_is_refused),
		cmocka_unit_test(hosts_and_addresses_without_a_name_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
