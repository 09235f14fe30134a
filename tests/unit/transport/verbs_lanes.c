/* verbs_lanes.c - a lane's key reaches its bytes, and no longer than it is registered: asked of the device. */
#include "tests/support/log_capture.h"
#include "tests/unit/transport/verbs_seam.h"

#define SEGMENT_BYTES ((size_t)1024 * 1024)
#define CANARY        0xc7

/* A segment that may be read, and a lane in its midst that one link may write as well. */
struct lanes {
	struct verbs_world w;
	struct far_pages pages;
	struct far_mem *segment;
	struct far_mem *lane;
	size_t lane_at, lane_bytes;
};

/* Registers the lane for the link that there is, and says so. */
static void
lane_grant(struct lanes *l)
{
	struct far_mem_source source = {
		.base = (uint8_t *)l->pages.base + l->lane_at,
		.size_bytes = l->lane_bytes,
		.fd = l->pages.fd,
		.fd_offset = l->lane_at,
	};
	unsigned messages = l->w.c.messages;

	assert_int_equal(far_transport_mem_reg(l->w.donor, &source, FAR_RIGHT_REMOTE_WRITE,
					       l->w.d.link, &l->lane),
			 0);
	assert_int_equal(far_transport_mem_expose(l->lane, l->w.d.link), 0);
	assert_int_equal(far_transport_mem_expose(l->segment, l->w.d.link), 0);
	assert_int_equal(far_transport_send(l->w.d.link, "granted", 7), 0);
	verbs_world_wait(&l->w, l->w.c.messages == messages + 1);
}

static void
lanes_begin(struct lanes *l, size_t lane_at, size_t lane_bytes)
{
	struct far_mem_source source = {.size_bytes = SEGMENT_BYTES};

	memset(l, 0, sizeof(*l));
	l->lane_at = lane_at;
	l->lane_bytes = lane_bytes;
	verbs_seam_begin(&l->w);
	memset(l->w.local.pages.base, 0xee, VERBS_WORLD_BYTES);
	assert_int_equal(
		far_pages_map_shared("segment", SEGMENT_BYTES, FAR_PAGES_HUGE_OFF, -1, &l->pages),
		0);
	memset(l->pages.base, CANARY, SEGMENT_BYTES);
	source.base = l->pages.base;
	source.fd = l->pages.fd;
	assert_int_equal(far_transport_mem_reg(l->w.donor, &source, FAR_RIGHT_REMOTE_READ, NULL,
					       &l->segment),
			 0);
	lane_grant(l);
}

static void
lanes_end(struct lanes *l)
{
	if (l->lane != NULL)
		far_transport_mem_dereg(l->lane);
	far_transport_mem_dereg(l->segment);
	far_pages_unmap(&l->pages);
	verbs_seam_end(&l->w);
}

/* Every byte of the segment is what it was, but for @count of them from @at on. */
static void
only_written(const struct lanes *l, size_t at, size_t count)
{
	const uint8_t *bytes = l->pages.base;

	for (size_t i = 0; i < SEGMENT_BYTES; i++) {
		uint8_t expected = i >= at && i - at < count ? 0xee : CANARY;

		if (bytes[i] != expected)
			fail_msg("byte %zu of the segment is %#x, lane %zu + %zu", i, bytes[i],
				 l->lane_at, l->lane_bytes);
	}
}

static struct far_op
lane_op(struct lanes *l, struct far_piece *piece, size_t offset, size_t size_bytes)
{
	*piece = (struct far_piece){l->w.local.pages.base, (uint32_t)size_bytes, l->w.local.mem};
	return (struct far_op){
		.kind = FAR_OP_WRITE,
		.remote_addr = l->lane->remote.addr + offset,
		.rkey = l->lane->remote.rkey,
		.pieces = piece,
		.piece_count = 1,
		.token = 1,
	};
}

/* The device refuses it, the link is lost for that reason, and no byte beside the lane has changed;
 * none of the lane either where it is none any more. */
static void
is_refused(struct lanes *l, const struct far_op *op)
{
	assert_int_equal(far_transport_post(l->w.c.link, op, 1), 0);
	assert_int_equal(verbs_seam.write_shift, 0); /* it went out */
	verbs_world_wait(&l->w, l->w.c.lost == 1 && l->w.d.lost == 1);
	assert_int_equal(l->w.c.dones, 1);
	assert_int_equal(l->w.c.done_status, -EACCES);
	assert_int_equal(l->w.c.lost_status, -EACCES);
	verbs_world_wait(&l->w, l->w.c.link == NULL && l->w.d.link == NULL);
	/* A device may see that it is too long when the end comes: what is before that is the lane. */
	if (l->lane != NULL)
		memset((uint8_t *)l->pages.base + l->lane_at, CANARY, l->lane_bytes);
	only_written(l, 0, 0);
}

/* Another link, with the same lane. */
static void
grant_again(struct lanes *l)
{
	if (l->lane != NULL)
		far_transport_mem_dereg(l->lane);
	l->lane = NULL;
	verbs_world_again(&l->w);
	lane_grant(l);
}

/* Our own check never lets it go out: so it goes out as one inside the lane, and is moved at the seam. */
static void
a_byte_beside_the_lane_is_not_written(size_t lane_at, size_t lane_bytes)
{
	const struct {
		size_t offset, size_bytes;
		int64_t shift;
	} cases[] = {
		{0, 1, -1},                              /* the byte before */
		{lane_bytes - 1, 1, 1},                  /* the byte behind */
		{0, 64, -1},                             /* over the border */
		{lane_bytes - 64, 64, 1},                /* over the other */
		{0, lane_bytes, -1},                     /* nearly all of it, and one before */
		{0, lane_bytes, 1},                      /* nearly all of it, and one behind */
		{0, lane_bytes, -(int64_t)lane_bytes},   /* its neighbour */
		{0, lane_bytes, (int64_t)lane_bytes},    /* the other */
		{0, 4096, (int64_t)(lane_bytes - 2048)}, /* the border amid a page */
	};
	struct far_piece piece;
	struct far_op op;
	struct lanes l;

	lanes_begin(&l, lane_at, lane_bytes);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		verbs_seam.write_shift = cases[i].shift;
		op = lane_op(&l, &piece, cases[i].offset, cases[i].size_bytes);
		is_refused(&l, &op);
		grant_again(&l);
	}
	/* And all of the lane is written, with the same key and the same seam. */
	op = lane_op(&l, &piece, 0, lane_bytes);
	assert_int_equal(far_transport_post(l.w.c.link, &op, 1), 0);
	verbs_world_wait(&l.w, l.w.c.dones == 1);
	assert_int_equal(l.w.c.done_status, 0);
	only_written(&l, lane_at, lane_bytes);
	lanes_end(&l);
}

static void
a_writers_key_reaches_its_lane_and_not_a_byte_more(void **state)
{
	(void)state;
	a_byte_beside_the_lane_is_not_written(256 * (size_t)1024, 128 * (size_t)1024);
}

/* Registered by the byte, not by the page. */
static void
a_lane_that_begins_and_ends_amid_pages_is_as_exact(void **state)
{
	(void)state;
	a_byte_beside_the_lane_is_not_written(256 * (size_t)1024 + 4001, 16 * (size_t)1024 + 77);
}

static void
what_our_own_check_sees_costs_no_link(void **state)
{
	struct far_piece piece;
	struct far_op op;
	struct lanes l;
	(void)state;

	lanes_begin(&l, 65536, 65536);
	op = lane_op(&l, &piece, 65536 - 63, 64);
	assert_int_equal(far_transport_post(l.w.c.link, &op, 1), 0);
	verbs_world_wait(&l.w, l.w.c.dones == 1);
	assert_int_equal(l.w.c.done_status, -EACCES);
	assert_int_equal(l.w.c.lost, 0);
	only_written(&l, 0, 0);
	lanes_end(&l);
}

/* The peer is not told, and goes on with the key that it has. */
static void
a_lane_that_was_taken_back_is_not_written(void **state)
{
	const size_t sizes[] = {1, 64, 65536};
	struct far_piece piece;
	struct far_op op;
	struct lanes l;
	(void)state;

	lanes_begin(&l, 65536, 65536);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		op = lane_op(&l, &piece, 0, sizes[i]);
		far_transport_mem_dereg(l.lane);
		l.lane = NULL;
		is_refused(&l, &op);
		grant_again(&l);
	}
	lanes_end(&l);
}

/* Also where the same bytes have a new owner, whose key is another. */
static void
the_key_of_before_does_not_open_the_lane_of_now(void **state)
{
	struct far_piece piece, next_piece;
	struct far_op op, next;
	struct lanes l;
	(void)state;

	lanes_begin(&l, 65536, 65536);
	op = lane_op(&l, &piece, 0, 4096);
	far_transport_mem_dereg(l.lane);
	lane_grant(&l);
	next = lane_op(&l, &next_piece, 4096, 4096);
	assert_memory_not_equal(&op.rkey, &next.rkey, sizeof(op.rkey));
	assert_int_equal(far_transport_post(l.w.c.link, &next, 1), 0);
	verbs_world_wait(&l.w, l.w.c.dones == 1);
	assert_int_equal(l.w.c.done_status, 0);
	only_written(&l, 65536 + 4096, 4096);
	assert_int_equal(far_transport_post(l.w.c.link, &op, 1), 0);
	verbs_world_wait(&l.w, l.w.c.dones == 2);
	assert_true(l.w.c.done_status == -EACCES || l.w.c.done_status == -ESTALE);
	only_written(&l, 65536 + 4096, 4096);
	lanes_end(&l);
}

/* A second registration gives the right to write to those who have its key, not to the first one's. */
static void
the_key_for_reading_does_not_write_where_a_lane_is(void **state)
{
	struct far_piece piece;
	struct far_op op;
	struct lanes l;
	(void)state;

	lanes_begin(&l, 65536, 65536);
	piece = (struct far_piece){l.w.local.pages.base, 4096, l.w.local.mem};
	op = (struct far_op){
		.kind = FAR_OP_READ,
		.remote_addr = l.segment->remote.addr + l.lane_at,
		.rkey = l.segment->remote.rkey,
		.pieces = &piece,
		.piece_count = 1,
		.token = 1,
	};
	verbs_seam.read_as_write = true;
	is_refused(&l, &op);
	assert_false(verbs_seam.read_as_write);
	lanes_end(&l);
}

/* An argument is a pattern of names of tests. */
int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_writers_key_reaches_its_lane_and_not_a_byte_more),
		cmocka_unit_test(a_lane_that_begins_and_ends_amid_pages_is_as_exact),
		cmocka_unit_test(what_our_own_check_sees_costs_no_link),
		cmocka_unit_test(a_lane_that_was_taken_back_is_not_written),
		cmocka_unit_test(the_key_of_before_does_not_open_the_lane_of_now),
		cmocka_unit_test(the_key_for_reading_does_not_write_where_a_lane_is),
	};

	if (!verbs_world_is_possible())
		return 77;
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	if (verbs_seam_install() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
