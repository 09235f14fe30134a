/* ucx_receive.c - what arrives at a ucx link: credits bound it; who is refused is never told of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "transport/ucx/ucx_priv.h"

#define CREDITS  3U
#define MESSAGES 2000U

/* A link without a connection, and the peer that fills it to the last credit whenever it can. */
struct world {
	struct far_link_handler handler;
	struct ucx_transport tp;
	struct ucx_link *link;
	struct far_rng rng;
	uint32_t sent, told;
	uint8_t bytes[FAR_MESSAGE_BYTES_MAX];
};

static uint32_t
bytes_of(uint32_t message)
{
	struct far_rng rng;

	far_rng_init(&rng, message);
	return far_rng_u64(&rng) % 3 == 0
		       ? FAR_MESSAGE_BYTES_MAX
		       : 1 + (uint32_t)(far_rng_u64(&rng) % FAR_MESSAGE_BYTES_MAX);
}

static void
fill_up(struct world *w, uint64_t count)
{
	for (; count > 0 && w->link->rx_credits > 0; count--) {
		struct ucx_frame frame = {.kind = UCX_FRAME_MSG, .body = w->bytes};

		frame.body_bytes = bytes_of(w->sent);
		frame.u.msg.message_bytes = (uint32_t)frame.body_bytes;
		memset(w->bytes, (int)(w->sent++ & 0xff), frame.body_bytes);
		assert_int_equal(far_ucx_receive(w->link, &frame), 0);
	}
}

static void
message_check(const struct world *w, const struct far_event *event)
{
	const uint8_t *bytes = event->msg;

	assert_int_equal((uintptr_t)event->msg % 8, 0);
	assert_int_equal(event->msg_bytes, bytes_of(w->told));
	for (size_t i = 0; i < event->msg_bytes; i++)
		if (bytes[i] != (w->told & 0xff))
			fail_msg("byte %zu of message %u is another's", i, w->told);
}

static void
on_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct world *w = FAR_CONTAINER_OF(handler, struct world, handler);

	assert_int_equal(event->kind, FAR_EV_MESSAGE);
	message_check(w, event);
	if (far_rng_u64(&w->rng) % 2 == 0)
		fill_up(w, CREDITS); /* as when the handler ends a listener */
	message_check(w, event);
	w->told++;
}

/* The inbox is of the size that the link itself makes; whoever writes past it is seen here. */
static struct world *
world_open(void)
{
	struct world *w = far_zalloc(sizeof(*w));

	assert_non_null(w);
	w->link = far_zalloc(sizeof(*w->link));
	assert_non_null(w->link);
	far_rng_init(&w->rng, 1);
	w->handler.event = on_event;
	far_list_init(&w->tp.work);
	w->link->link.tp = &w->tp.tp;
	w->link->link.handler = &w->handler;
	w->link->greeted = true;
	w->link->rx_credits = CREDITS;
	far_list_init(&w->link->work_node);
	assert_int_equal(far_ucx_inbox_init(w->link, CREDITS), 0);
	return w;
}

static void
world_close(struct world *w)
{
	far_free(w->link->inbox);
	far_free(w->link);
	far_free(w);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

static void
no_order_of_taking_in_and_telling_overflows_the_inbox(void **state)
{
	struct world *w = world_open();
	(void)state;

	while (w->told < MESSAGES) {
		fill_up(w, far_rng_u64(&w->rng) % (CREDITS + 1));
		w->tp.budget = 1 + (int)(far_rng_u64(&w->rng) % CREDITS);
		(void)far_ucx_inbox_deliver(w->link);
		if (far_rng_u64(&w->rng) % 4 != 0) { /* a frame left */
			w->link->rx_credits += w->link->owed;
			w->link->owed = 0;
		}
	}
	w->link->rx_credits = 0;
	w->tp.budget = (int)CREDITS;
	(void)far_ucx_inbox_deliver(w->link);
	assert_int_equal(w->told, w->sent);
	assert_int_equal(w->tp.inbox_count, 0);
	world_close(w);
}

/* With trust: fabric, by one that answers READs instead of saying keys. */
static void
a_link_is_not_connected_to_a_peer_that_is_refused(void **state)
{
	struct world *w = world_open();
	struct ucx_frame frame = {.kind = UCX_FRAME_WELCOME};
	struct ucx_conn conn = {.tp = &w->tp};
	(void)state;

	frame.u.hello.credits = 1;
	w->link->greeted = false;
	w->link->conn = &conn;
	w->link->gets = (struct ucx_get *)(void *)w; /* that it has some */
	assert_int_equal(far_ucx_receive(w->link, &frame), -EPROTO);
	assert_false(w->link->connected_pending);
	frame.u.hello.features = UCX_FEATURE_GET;
	assert_int_equal(far_ucx_receive(w->link, &frame), 0);
	assert_true(w->link->connected_pending);
	world_close(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_order_of_taking_in_and_telling_overflows_the_inbox),
		cmocka_unit_test(a_link_is_not_connected_to_a_peer_that_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
