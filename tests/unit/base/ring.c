/* ring.c - order, fullness, and nothing lost or doubled between four producers and one consumer. */
#include "base/ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "base/alloc.h"

#define PRODUCER_COUNT ((size_t)4)
#define ITEM_COUNT     ((size_t)20000)

struct item {
	size_t producer;
	size_t number; /* plain memory: TSan sees whether the ring orders it */
};

struct producer {
	struct far_ring *ring;
	struct item *items;
	size_t idx;
};

static void
capacities_that_are_no_power_of_two_are_refused(void **state)
{
	static const size_t bad[] = {0,       1, 3, 100, ((size_t)1 << 20) + 1, (size_t)1 << 21,
				     SIZE_MAX};
	struct far_ring *ring = NULL;
	(void)state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(far_ring_open(bad[i], &ring), -EINVAL);
	far_alloc_fail_nth(1);
	assert_int_equal(far_ring_open(2, &ring), -ENOMEM);
	assert_null(ring);
	far_ring_close(NULL);
}

static void
items_come_out_in_order_and_a_full_ring_says_so(void **state)
{
	static int things[16];
	struct far_ring *ring;
	size_t in = 0, out = 0;
	(void)state;

	assert_int_equal(far_ring_open(8, &ring), 0);
	assert_null(far_ring_pop(ring));
	for (int round = 0; round < 50; round++) {
		while (in - out < 8)
			assert_true(far_ring_push(ring, &things[in++ % 16]));
		assert_false(far_ring_push(ring, &things[0]));
		for (int i = 0; i < 1 + round % 8; i++)
			assert_ptr_equal(far_ring_pop(ring), &things[out++ % 16]);
	}
	while (out < in)
		assert_ptr_equal(far_ring_pop(ring), &things[out++ % 16]);
	assert_null(far_ring_pop(ring));
	far_ring_close(ring);
}

static void
pushing_and_popping_allocate_nothing(void **state)
{
	struct far_ring *ring;
	int thing;
	(void)state;

	assert_int_equal(far_ring_open(2, &ring), 0);
	far_alloc_lock();
	assert_true(far_ring_push(ring, &thing));
	assert_ptr_equal(far_ring_pop(ring), &thing);
	far_alloc_unlock();
	far_ring_close(ring);
}

static void *
produce(void *arg)
{
	struct producer *producer = arg;

	for (size_t i = 0; i < ITEM_COUNT; i++) {
		struct item *item = &producer->items[i];

		item->producer = producer->idx;
		item->number = i;
		while (!far_ring_push(producer->ring, item))
			(void)sched_yield();
	}
	return NULL;
}

static void
four_producers_lose_and_double_nothing_and_keep_their_order(void **state)
{
	struct producer producers[PRODUCER_COUNT];
	pthread_t threads[PRODUCER_COUNT];
	size_t next[PRODUCER_COUNT] = {0};
	struct far_ring *ring;
	(void)state;

	assert_int_equal(far_ring_open(64, &ring), 0);
	for (size_t i = 0; i < PRODUCER_COUNT; i++) {
		producers[i] = (struct producer){
			.ring = ring,
			.items = far_zalloc_array(ITEM_COUNT, sizeof(struct item)),
			.idx = i,
		};
		assert_non_null(producers[i].items);
		assert_int_equal(pthread_create(&threads[i], NULL, produce, &producers[i]), 0);
	}
	for (size_t left = PRODUCER_COUNT * ITEM_COUNT; left > 0;) {
		struct item *item = far_ring_pop(ring);

		if (item == NULL) {
			(void)sched_yield();
			continue;
		}
		assert_true(item->producer < PRODUCER_COUNT);
		assert_int_equal(item->number, next[item->producer]++);
		left--;
	}
	for (size_t i = 0; i < PRODUCER_COUNT; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		far_free(producers[i].items);
	}
	assert_null(far_ring_pop(ring));
	far_ring_close(ring);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(capacities_that_are_no_power_of_two_are_refused),
		cmocka_unit_test(items_come_out_in_order_and_a_full_ring_says_so),
		cmocka_unit_test(pushing_and_popping_allocate_nothing),
		cmocka_unit_test(four_producers_lose_and_double_nothing_and_keep_their_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
