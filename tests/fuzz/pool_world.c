/* pool_world.c - the donor, its shell and its clients; no grant before the fence, no link before its lanes. */
#include "tests/fuzz/pool_world.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/alloc.h"
#include "base/checksum.h"
#include "base/log.h"
#include "pool/pool_priv.h"
#include "tests/fuzz/input.h"
#include "transport/loop/loop.h"

/* ---- keys and their bytes ---- */

struct far_key
history_key_of(uint32_t id)
{
	uint64_t words[2] = {far_mix64(id), far_mix64(id + 1000)};
	struct far_key key;

	memcpy(key.bytes, words, sizeof(key.bytes));
	return key;
}

uint32_t
history_size_of(uint32_t id)
{
	static const uint32_t sizes[] = {64, 1, 1000, 4095, 4096, 5000, 8192, LANE_BYTES};

	return sizes[id % (sizeof(sizes) / sizeof(sizes[0]))];
}

void
history_bytes_fill(uint32_t id, uint8_t *to)
{
	for (uint32_t i = 0; i < history_size_of(id); i++)
		to[i] = (uint8_t)(id * 37 + i * 11 + (i >> 8));
}

bool
history_bytes_are(uint32_t id, const uint8_t *bytes)
{
	for (uint32_t i = 0; i < history_size_of(id); i++) {
		if (bytes[i] != (uint8_t)(id * 37 + i * 11 + (i >> 8)))
			return false;
	}
	return true;
}

/* ---- the shell: registrations take their time, and are watched ---- */

/* Its link is on its way out: the lane is nobody's before the last of that is gone, too. */
static void
dying_note(struct lane_watch *watch)
{
	const struct pool_link *link =
		FAR_CONTAINER_OF(watch->holder->inner, const struct pool_link, handler);

	if (!watch->holder->closed && link->state == LINK_ENDING)
		watch->must_close = watch->holder;
}

static void
errand_run(struct errand *errand, bool fail)
{
	struct lane_watch *watch = &world.lanes[errand->lane];
	struct far_mem *mem = NULL;
	int rc = -ENOMEM;

	if (errand->end) {
		FAR_ASSERT(watch->mem == errand->mem);
		dying_note(watch);
		watch->mem = NULL;
		far_transport_mem_dereg(errand->mem);
		far_pool_lane_deregistered(world.pool, errand->lane);
		return;
	}
	watch->asked = false;
	if (!fail)
		rc = far_transport_mem_reg(world.tp, &errand->source, FAR_RIGHT_REMOTE_WRITE,
					   errand->link, &mem);
	watch->mem = mem;
	far_pool_lane_registered(world.pool, errand->lane, rc, mem);
}

static void
errand_add(const struct errand *errand)
{
	struct errand now = *errand;

	if (world.at_once) {
		errand_run(&now, false);
		return;
	}
	FAR_ASSERT(world.errand_count < ERRANDS_MAX);
	world.errands[world.errand_count++] = now;
}

struct guest *
history_guest_of(const struct far_link *link)
{
	for (uint32_t i = world.guest_count; i-- > 0;) {
		if (world.guests[i].link == link && !world.guests[i].closed)
			return &world.guests[i];
	}
	FAR_ASSERT(false);
	return NULL;
}

/* No grant before the fence: nobody's registration of these bytes is left, no queue pair that had one. */
void
history_lane_register(struct far_pool_host *host, struct far_pool *pool, uint32_t lane,
		      const struct far_mem_source *source, struct far_link *link)
{
	struct lane_watch *watch = &world.lanes[lane];
	struct errand errand = {.lane = lane, .source = *source, .link = link};
	(void)host;
	(void)pool;

	FAR_ASSERT(lane < LANES_MAX);
	FAR_ASSERT(watch->mem == NULL);
	FAR_ASSERT(!watch->asked);
	FAR_ASSERT(watch->must_close == NULL || watch->must_close->closed);
	FAR_ASSERT(source->size_bytes == LANE_BYTES);
	watch->must_close = NULL;
	watch->holder = history_guest_of(link);
	watch->asked = true;
	errand_add(&errand);
}

void
history_lane_deregister(struct far_pool_host *host, struct far_pool *pool, uint32_t lane,
			struct far_mem *mem)
{
	struct errand errand = {.end = true, .lane = lane, .mem = mem};
	(void)host;
	(void)pool;

	FAR_ASSERT(world.lanes[lane].mem == mem);
	errand_add(&errand);
}

void
history_errand_pick(uint32_t which, bool fail)
{
	struct errand errand;

	if (world.errand_count == 0)
		return;
	which %= world.errand_count;
	errand = world.errands[which];
	world.errands[which] = world.errands[--world.errand_count];
	errand_run(&errand, fail);
}

/* ---- links at the donor's end ---- */

static void
guest_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct guest *guest = FAR_CONTAINER_OF(handler, struct guest, handler);

	FAR_ASSERT(!guest->closed);
	if (event->kind == FAR_EV_CLOSED) {
		/* Its lanes came back before: no registration outlives its link. */
		for (uint32_t i = 0; i < LANES_MAX; i++)
			FAR_ASSERT(world.lanes[i].holder != guest ||
				   (world.lanes[i].mem == NULL && !world.lanes[i].asked));
		guest->closed = true;
	}
	guest->inner->event(guest->inner, event);
}

struct far_link_handler *
history_guest_accept(void *arg, struct far_link *link, const void *hello, size_t hello_bytes)
{
	struct guest *guest = &world.guests[world.guest_count];

	if (world.guest_count == GUESTS_MAX)
		return NULL;
	guest->inner = far_pool_accept(arg, link, hello, hello_bytes);
	if (guest->inner == NULL)
		return NULL;
	guest->handler.event = guest_event;
	guest->link = link;
	world.guest_count++;
	return &guest->handler;
}

/* ---- clients ---- */

static void
grant_take(struct client *client, const struct far_frame_lane_grant *frame)
{
	uint32_t lane = (uint32_t)(frame->serial & (POOL_LANES_MAX - 1));

	FAR_ASSERT(lane < LANES_MAX);
	FAR_ASSERT(frame->size_bytes == LANE_BYTES);
	FAR_ASSERT(frame->offset_bytes + frame->size_bytes <= SEGMENT_BYTES);
	for (uint32_t c = 0; c < CLIENTS; c++) {
		for (uint32_t g = 0; g < GRANTS_MAX; g++)
			FAR_ASSERT(world.clients[c].grants[g].frame.serial != frame->serial);
	}
	client->grants[client->granted++ % GRANTS_MAX] = (struct grant){.frame = *frame};
}

static void
client_message(struct client *client, const struct far_event *event)
{
	const struct far_frame_segment *segment;
	struct far_frame frame;

	/* Whatever a donor says can be read. */
	FAR_ASSERT(far_frame_decode(event->msg, event->msg_bytes, &frame) == 0);
	switch ((enum far_frame_type)frame.head.type) {
	case FAR_FRAME_LANE_GRANT:
		grant_take(client, frame.body);
		break;
	case FAR_FRAME_SEGMENT_RECALL:
		segment = frame.body;
		client->recalled_segment = segment->segment;
		break;
	case FAR_FRAME_WELCOME:
	case FAR_FRAME_REFUSED:
	case FAR_FRAME_LANE_FULL:
	case FAR_FRAME_LANE_RECALL:
	case FAR_FRAME_COMMITTED:
	case FAR_FRAME_DELETED:
	case FAR_FRAME_STATUS:
	case FAR_FRAME_BYE:
		break;
	default:
		FAR_ASSERT(false);
	}
}

void
history_client_disconnect(struct client *client)
{
	if (client->link == NULL || client->disconnected)
		return;
	client->disconnected = true;
	for (uint32_t g = 0; g < GRANTS_MAX; g++)
		client->grants[g].ended = true;
	far_transport_disconnect(client->link);
}

static void
client_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct client *client = FAR_CONTAINER_OF(handler, struct client, handler);

	if (event->kind == FAR_EV_MESSAGE)
		client_message(client, event);
	else if (event->kind == FAR_EV_LOST)
		history_client_disconnect(client);
	else if (event->kind == FAR_EV_CLOSED)
		client->link = NULL;
}

void
history_client_open(struct client *client)
{
	struct far_transport_config config = {.clock = world.clock,
					      .fabric = world.fabric,
					      .host = client->host,
					      .message_credits = 2};
	struct far_mem_source source = {.size_bytes = LATE_AT + LATE_BYTES, .fd = -1};

	client->handler.event = client_event;
	FAR_ASSERT(far_transport_open("loop", &config, &client->tp) == 0);
	client->bytes = far_zalloc_aligned(64, source.size_bytes);
	source.base = client->bytes;
	FAR_ASSERT(far_transport_mem_reg(client->tp, &source, FAR_RIGHT_LOCAL, NULL,
					 &client->mem) == 0);
}

void
history_client_kill(struct client *client)
{
	far_loop_host_kill(world.fabric, client->host);
	far_loop_host_bury(client->tp);
	far_free(client->bytes);
	for (uint32_t g = 0; g < GRANTS_MAX; g++)
		client->grants[g].ended = true;
	client->link = NULL;
	client->disconnected = false;
	history_client_open(client);
}

void
history_client_connect(struct client *client)
{
	if (client->link != NULL)
		return;
	client->disconnected = false;
	FAR_ASSERT(far_transport_connect(client->tp, "donor", NULL, 0, FAR_TIME_NEVER,
					 &client->handler, &client->link) == 0);
}

/* Whatever it is: far_frame_encode() would not lie. */
void
history_say(struct client *client, enum far_frame_type type, const void *body, size_t body_bytes,
	    const void *list, size_t list_bytes)
{
	static uint8_t frame[FAR_FRAME_BYTES_MAX] __attribute__((aligned(8)));
	size_t size_bytes = sizeof(struct far_frame_head) + body_bytes + list_bytes;
	struct far_frame_head head = {
		.type = (uint16_t)type, .size_bytes = (uint32_t)size_bytes, .tag = 7};

	memcpy(frame, &head, sizeof(head));
	if (body_bytes > 0)
		memcpy(frame + sizeof(head), body, body_bytes);
	if (list_bytes > 0)
		memcpy(frame + sizeof(head) + body_bytes, list, list_bytes);
	if (world.mangle_at != 0)
		frame[world.mangle_at % size_bytes] ^= world.mangle_with;
	world.mangle_at = 0;
	if (client->link != NULL)
		(void)far_transport_send(client->link, frame, size_bytes);
}

/* ---- time ---- */

static void
turns(void)
{
	bool again = true;

	for (uint32_t i = 0; again; i++) {
		FAR_ASSERT(i < 10000); /* it comes to rest */
		again = far_transport_poll(world.tp, 64) > 0;
		for (uint32_t c = 0; c < CLIENTS; c++)
			again |= world.clients[c].tp != NULL &&
				 far_transport_poll(world.clients[c].tp, 64) > 0;
		if (world.pool == NULL)
			continue;
		world.tick_ns = far_pool_tick(world.pool, far_clock_now(world.clock));
		again |= world.tick_ns <= far_clock_now(world.clock);
	}
}

void
history_pass(uint64_t ns)
{
	uint64_t end_ns = far_clock_now(world.clock) + ns;

	turns();
	while (far_clock_now(world.clock) < end_ns) {
		uint64_t next_ns =
			world.pool != NULL && world.tick_ns < end_ns ? world.tick_ns : end_ns;

		(void)far_loop_step(world.fabric, next_ns);
		turns();
	}
}

/* The same, while the donor's process gets no turn. */
void
history_stall(uint64_t ns)
{
	uint64_t end_ns = far_clock_now(world.clock) + ns;

	while (far_loop_step(world.fabric, end_ns))
		;
}

/* ---- segments ---- */

static void
drained(void *arg, uint32_t number)
{
	(void)arg;
	for (uint32_t i = 0; i < SEGMENTS_MAX; i++) {
		if (world.segments[i].number != number || world.segments[i].base == NULL)
			continue;
		/* Nobody touches it from here on: the sanitizer would tell. */
		far_free(world.segments[i].base);
		world.segments[i].base = NULL;
		return;
	}
	FAR_ASSERT(false);
}

void
history_segment_lend(uint64_t size_bytes)
{
	struct far_mem_source source = {.size_bytes = size_bytes, .fd = -1};
	uint32_t i = 0;

	while (i < SEGMENTS_MAX && world.segments[i].base != NULL)
		i++;
	if (i == SEGMENTS_MAX)
		return;
	world.segments[i].base = far_zalloc_aligned(64, SEGMENT_BYTES);
	source.base = world.segments[i].base;
	if (far_pool_segment_add(world.pool, &source, &world.segments[i].number) == 0)
		return;
	far_free(world.segments[i].base);
	world.segments[i].base = NULL;
}

void
history_segment_drain(uint32_t which)
{
	which %= SEGMENTS_MAX;
	if (world.segments[which].base != NULL)
		(void)far_pool_segment_drain(world.pool, world.segments[which].number, drained,
					     NULL);
}

uint8_t *
history_slot_bytes(const struct far_slot *slot)
{
	for (uint32_t i = 0; i < SEGMENTS_MAX; i++) {
		if (world.segments[i].base != NULL && world.segments[i].number == slot->segment)
			return world.segments[i].base + slot->offset_64 * 64ULL;
	}
	FAR_ASSERT(false);
	return NULL;
}
