/* list.c - what a donor holds is listed from its index alone: in pages, whole, by group, to the end. */
#include "tests/support/fake_donor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "tests/support/log_capture.h"

#define BLOCKS 60U

static struct fake_rig rig;

struct page {
	struct far_l2_listing listing;
	struct far_l2_listed entries[128];
	uint32_t ended;
};

static int
setup(void **state)
{
	(void)state;
	far_log_capture_start();
	fake_rig_open(&rig);
	for (uint32_t id = 0; id < BLOCKS; id++) {
		struct far_slot *at = fake_donor_put(&rig.donor, id, id * 4096, 100 + id);
		struct far_slot slot = *at;

		slot.group = id % 3;
		fake_donor_slot_store(&rig.donor, at, &slot);
	}
	fake_rig_up(&rig);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	fake_rig_close(&rig);
	far_log_capture_finish();
	return 0;
}

static void
page_done(struct far_l2_listing *listing)
{
	FAR_CONTAINER_OF(listing, struct page, listing)->ended++;
}

static void
page_ask(struct page *page, uint32_t max, uint64_t cursor)
{
	memset(page, 0, sizeof(*page));
	page->listing.entries = page->entries;
	page->listing.entries_max = max;
	page->listing.cursor = cursor;
	page->listing.deadline_ns = far_clock_now(rig.clock) + 100 * FAR_NS_PER_MS;
	page->listing.done = page_done;
}

static void
page_run(struct page *page)
{
	far_l2_list(rig.l2, &page->listing);
	assert_int_equal(page->ended, 0); /* never from inside */
	fake_rig_run(&rig, 200 * FAR_NS_PER_MS);
	assert_int_equal(page->ended, 1);
}

static uint32_t
id_of(const struct far_key *key)
{
	for (uint32_t id = 0; id < BLOCKS; id++) {
		struct far_key mine = fake_key(id);

		if (far_key_equal(key, &mine))
			return id;
	}
	fail_msg("a key that nobody stored");
	return 0;
}

/* Everything, page by page; how often each block was listed. */
static uint32_t
list_all(uint32_t max, uint32_t seen[BLOCKS])
{
	static struct page page;
	uint64_t cursor = 0;
	uint32_t pages = 0;

	memset(seen, 0, BLOCKS * sizeof(*seen));
	do {
		page_ask(&page, max, cursor);
		page_run(&page);
		assert_int_equal(page.listing.rc, 0);
		assert_true(page.listing.count <= max);
		for (uint32_t i = 0; i < page.listing.count; i++) {
			uint32_t id = id_of(&page.entries[i].key);

			assert_int_equal(page.entries[i].size_bytes, 100 + id);
			assert_int_equal(page.entries[i].group, id % 3);
			seen[id]++;
		}
		cursor = page.listing.cursor;
		assert_true(++pages < 1000);
	} while (cursor != 0);
	return pages;
}

static void
pages_of_any_length_list_each_block_once_without_a_message(void **state)
{
	static const uint32_t lengths[] = {1, 7, BLOCKS, 128};
	uint64_t sent = rig.status.messages_sent;

	(void)state;
	rig.donor.mute = true;
	far_alloc_lock();
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		uint32_t seen[BLOCKS];
		uint32_t pages = list_all(lengths[i], seen);

		assert_true(pages >= BLOCKS / lengths[i]);
		for (uint32_t id = 0; id < BLOCKS; id++)
			assert_int_equal(seen[id], 1);
	}
	far_alloc_unlock();
	assert_int_equal(rig.status.messages_sent, sent);
}

static void
a_group_is_listed_alone(void **state)
{
	struct page page;

	(void)state;
	page_ask(&page, 128, 0);
	page.listing.of_group = true;
	page.listing.group = 2;
	page_run(&page);
	assert_int_equal(page.listing.rc, 0);
	assert_int_equal(page.listing.cursor, 0);
	assert_int_equal(page.listing.count, BLOCKS / 3);
	for (uint32_t i = 0; i < page.listing.count; i++)
		assert_int_equal(id_of(&page.entries[i].key) % 3, 2);
}

static void
a_torn_slot_is_read_again_and_then_left_out(void **state)
{
	struct far_slot *at = fake_donor_put(&rig.donor, 5, 5 * 4096, 105);
	uint32_t seen[BLOCKS];

	(void)state;
	at->checksum ^= 1;
	(void)list_all(128, seen);
	assert_int_equal(rig.status.torn_rereads, 8);
	for (uint32_t id = 0; id < BLOCKS; id++)
		assert_int_equal(seen[id], id != 5);
}

static void
cursors_of_another_epoch_or_made_up_ones_are_stale(void **state)
{
	static const uint64_t made_up[] = {1, UINT64_MAX, 1ULL << 40,
					   FAKE_EPOCH << 40 | 0xffffffff};
	struct page page;
	uint64_t cursor;

	(void)state;
	for (size_t i = 0; i < sizeof(made_up) / sizeof(made_up[0]); i++) {
		page_ask(&page, 8, made_up[i]);
		page_run(&page);
		assert_int_equal(page.listing.rc, -ESTALE);
		assert_int_equal(page.listing.count, 0);
		assert_true(page.listing.cursor == made_up[i]);
	}
	page_ask(&page, 8, 0);
	page_run(&page);
	cursor = page.listing.cursor;
	assert_int_not_equal(cursor, 0);
	far_log_capture_expect("donor fake");
	/* The donor starts anew; the client comes back by itself. */
	rig.donor.epoch ^= 0xff;
	fake_donor_live_set(&rig.donor, rig.donor.epoch, FAR_INDEX_SERVING);
	far_transport_disconnect(rig.donor.link);
	fake_rig_run(&rig, 50 * FAR_NS_PER_MS);
	assert_int_equal(rig.status.state, FAR_L2_UP);
	page_ask(&page, 8, cursor);
	page_run(&page);
	assert_int_equal(page.listing.rc, -ESTALE);
	assert_true(page.listing.cursor == cursor);
}

static void
more_than_a_few_at_once_are_refused_and_the_others_take_turns(void **state)
{
	static struct page pages[FAR_L2_LISTINGS_MAX + 1];

	(void)state;
	for (uint32_t i = 0; i <= FAR_L2_LISTINGS_MAX; i++) {
		page_ask(&pages[i], 128, 0);
		far_l2_list(rig.l2, &pages[i].listing);
		assert_int_equal(pages[i].ended, 0);
	}
	fake_rig_run(&rig, 50 * FAR_NS_PER_MS);
	for (uint32_t i = 0; i <= FAR_L2_LISTINGS_MAX; i++) {
		bool refused = i == FAR_L2_LISTINGS_MAX;

		assert_int_equal(pages[i].ended, 1);
		assert_int_equal(pages[i].listing.rc, refused ? -EAGAIN : 0);
		assert_int_equal(pages[i].listing.count, refused ? 0 : BLOCKS);
	}
}

static void
a_link_that_is_lost_or_down_ends_a_page_with_nothing(void **state)
{
	struct page page, next;

	(void)state;
	far_log_capture_expect("donor fake");
	page_ask(&page, 128, 0);
	far_l2_list(rig.l2, &page.listing);
	far_transport_disconnect(rig.donor.link);
	fake_rig_run(&rig, 100 * FAR_NS_PER_US);
	assert_int_equal(page.ended, 1);
	assert_int_equal(page.listing.rc, -EHOSTDOWN);
	assert_int_equal(page.listing.count, 0);
	page_ask(&next, 128, 0);
	far_l2_list(rig.l2, &next.listing);
	assert_int_equal(next.ended, 0);
	(void)far_l2_tick(rig.l2, far_clock_now(rig.clock));
	assert_int_equal(next.ended, 1);
	assert_int_equal(next.listing.rc, -EHOSTDOWN);
	fake_rig_run(&rig, 50 * FAR_NS_PER_MS);
	assert_int_equal(page.ended, 1);
	assert_int_equal(next.ended, 1);
}

static void
a_page_whose_deadline_passed_says_so_and_the_next_is_whole(void **state)
{
	struct page page;
	uint32_t seen[BLOCKS];

	(void)state;
	page_ask(&page, 128, 0);
	page.listing.deadline_ns = far_clock_now(rig.clock);
	far_l2_list(rig.l2, &page.listing);
	(void)far_l2_tick(rig.l2, far_clock_now(rig.clock));
	assert_int_equal(page.ended, 1);
	assert_int_equal(page.listing.rc, -ETIMEDOUT);
	/* Its READ was still on the way; nobody takes it for his own. */
	(void)list_all(128, seen);
	for (uint32_t id = 0; id < BLOCKS; id++)
		assert_int_equal(seen[id], 1);
	assert_int_equal(page.ended, 1);
}

static void
quiesce_ends_a_page_at_once(void **state)
{
	struct page page, next;

	(void)state;
	page_ask(&page, 128, 0);
	far_l2_list(rig.l2, &page.listing);
	far_l2_quiesce(rig.l2);
	page_ask(&next, 128, 0);
	far_l2_list(rig.l2, &next.listing);
	assert_false(far_l2_quiesced(rig.l2));
	(void)far_l2_tick(rig.l2, far_clock_now(rig.clock));
	assert_int_equal(page.ended, 1);
	assert_int_equal(page.listing.rc, -ECANCELED);
	assert_int_equal(next.ended, 1);
	assert_int_equal(next.listing.rc, -ECANCELED);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		CLAIM(pages_of_any_length_list_each_block_once_without_a_message),
		CLAIM(a_group_is_listed_alone),
		CLAIM(a_torn_slot_is_read_again_and_then_left_out),
		CLAIM(cursors_of_another_epoch_or_made_up_ones_are_stale),
		CLAIM(more_than_a_few_at_once_are_refused_and_the_others_take_turns),
		CLAIM(a_link_that_is_lost_or_down_ends_a_page_with_nothing),
		CLAIM(a_page_whose_deadline_passed_says_so_and_the_next_is_whole),
		CLAIM(quiesce_ends_a_page_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
