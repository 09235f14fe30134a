/* index.c - the donor's published header and segment table, as this client knows them. */
#include "l2/donor/donor_priv.h"

#include <string.h>

#include "base/alloc.h"
#include "base/log.h"

#define REMOTE_BYTES_MAX (1ULL << 48) /* no segment is longer: sums with offsets stay in range */

/* A READ of the index into our own scratch. */
static void
scratch_read(struct far_donor *donor, struct far_op *op, struct far_piece *piece, uint64_t at,
	     void *to, uint32_t size_bytes)
{
	*piece =
		(struct far_piece){.addr = to, .size_bytes = size_bytes, .mem = donor->scratch_mem};
	*op = (struct far_op){
		.kind = FAR_OP_READ,
		.remote_addr = donor->index_addr + at,
		.rkey = donor->index_rkey,
		.pieces = piece,
		.piece_count = 1,
	};
}

void
far_donor_header_read(struct far_donor *donor)
{
	if (donor->header_posted)
		return;
	scratch_read(donor, &donor->ops[0], &donor->pieces[0], 0, donor->scratch_header,
		     sizeof(struct far_index_header));
	donor->ops[0].token = donor_token(TOKEN_HEADER, 0);
	/* When it could not be posted now, SENDABLE asks again. */
	donor->header_posted = far_transport_post(donor->link, donor->ops, 1) == 0;
}

/* Room for the whole table at no more than half full; kept over links. */
static int
map_size(struct donor_segment_map *map, uint64_t line_count)
{
	uint32_t places = 16;

	while (places < line_count * 2)
		places *= 2;
	if (map->places != NULL && map->mask + 1 >= places)
		return 0;
	far_free(map->places);
	map->places = far_zalloc_array(places, sizeof(*map->places));
	map->mask = places - 1;
	map->last = 0;
	return map->places == NULL ? -ENOMEM : 0;
}

static void
map_clear(struct donor_segment_map *map)
{
	if (map->places != NULL)
		memset(map->places, 0, (map->mask + 1ULL) * sizeof(*map->places));
}

/* The place of a number, or the free one where it belongs. NULL: the map is full of others, which a
 * table that changes under its reader can bring about. */
static struct donor_segment *
map_place(const struct donor_segment_map *map, uint32_t number)
{
	uint32_t at = (uint32_t)far_mix64(number) & map->mask;

	for (uint32_t tried = 0; tried <= map->mask; tried++) {
		if (map->places[at].number == 0 || map->places[at].number == number)
			return &map->places[at];
		at = (at + 1) & map->mask;
	}
	return NULL;
}

const struct donor_segment *
far_donor_segment_find(struct far_donor *donor, uint32_t number)
{
	struct donor_segment_map *map = &donor->map;
	const struct donor_segment *segment;

	if (map->places == NULL || number == 0)
		return NULL;
	segment = &map->places[map->last];
	if (segment->number != number) {
		segment = map_place(map, number);
		if (segment == NULL || segment->number != number)
			return NULL;
		map->last = (uint32_t)(segment - map->places);
	}
	return segment->size_bytes != 0 ? segment : NULL;
}

static bool
segment_is_gone(const struct far_donor *donor, uint32_t number)
{
	for (uint32_t i = 0; i < DONOR_RECALLS_MAX; i++) {
		if (donor->gone[i] == number)
			return true;
	}
	return false;
}

/* Names are compared again here: the welcome came from a process, this from the memory we will read. */
static void
header_take(struct far_donor *donor)
{
	const struct far_index_header *header = &donor->header;

	if (strcmp(header->donor, donor->name) != 0 ||
	    strcmp(header->name_space, donor->name_space) != 0) {
		far_donor_link_fail(donor, -EPROTO, "its index is another donor's or namespace's");
		return;
	}
	if (donor->rail >= header->rail_count) {
		far_donor_link_fail(donor, -EPROTO,
				    "its welcome names a rail that it does not have");
		return;
	}
	if (header->table_count > DONOR_TABLE_MAX) {
		far_donor_link_fail(donor, -E2BIG, "its segment table is too long for this client");
		return;
	}
	if (map_size(&donor->map, header->table_count) < 0 ||
	    map_size(&donor->map_next, header->table_count) < 0) {
		far_donor_link_fail(donor, -ENOMEM, "no memory for its segment table");
		return;
	}
	map_clear(&donor->map);
	donor->link_state = LINK_TABLE;
	(void)far_donor_table_read(donor);
}

void
far_donor_header_done(struct far_donor *donor, int status)
{
	int rc;

	donor->header_posted = false;
	if (donor->link_state != LINK_HEADER)
		return;
	if (status < 0) {
		far_donor_link_fail(donor, status, "its index cannot be read");
		return;
	}
	memcpy(&donor->header, donor->scratch_header, sizeof(donor->header));
	rc = far_index_header_check(&donor->header, donor->index_bytes);
	if (rc == -EBADMSG && donor->header_rereads < DONOR_REREADS_MAX) {
		donor->header_rereads++;
		donor->status.torn_rereads++;
		far_donor_header_read(donor);
		return;
	}
	if (rc < 0) {
		far_donor_link_fail(donor, rc,
				    "its index has a layout that this client cannot read");
		return;
	}
	header_take(donor);
}

static uint32_t
chunk_lines(const struct far_donor *donor)
{
	uint64_t left = donor->header.table_count - donor->table_at;

	return left < DONOR_TABLE_CHUNK ? (uint32_t)left : DONOR_TABLE_CHUNK;
}

void
far_donor_table_pump(struct far_donor *donor)
{
	if (!donor->table_blocked)
		return;
	scratch_read(donor, &donor->ops[0], &donor->pieces[0], donor->header.live_at,
		     donor->scratch_live, sizeof(struct far_index_live));
	scratch_read(donor, &donor->ops[1], &donor->pieces[1],
		     donor->header.table_at +
			     (uint64_t)donor->table_at * sizeof(struct far_index_segment),
		     donor->scratch_table,
		     chunk_lines(donor) * (uint32_t)sizeof(struct far_index_segment));
	donor->ops[1].token = donor_token(TOKEN_TABLE, 0);
	donor->table_blocked = far_transport_post(donor->link, donor->ops, 2) < 0;
}

uint64_t
far_donor_table_read(struct far_donor *donor)
{
	/* One that runs may have read the line before the segment was in it. */
	if (donor->table_reading)
		return donor->table_started + 1;
	donor->table_reading = true;
	donor->table_started++;
	donor->table_at = 0;
	donor->table_rereads = 0;
	map_clear(&donor->map_next);
	donor->table_blocked = true;
	far_donor_table_pump(donor);
	return donor->table_started;
}

/* False: it was torn. */
static bool
line_take(struct far_donor *donor, const struct far_index_segment *line)
{
	static const struct far_index_segment empty;
	struct donor_segment *place;

	if (memcmp(line, &empty, sizeof(empty)) == 0)
		return true;
	if (far_index_segment_check(line, donor->epoch) < 0)
		return false;
	if (line->segment == 0 || line->rail != donor->rail ||
	    segment_is_gone(donor, line->segment))
		return true;
	if (line->size_bytes == 0 || line->size_bytes > REMOTE_BYTES_MAX ||
	    line->remote_addr > UINT64_MAX - line->size_bytes)
		return true;
	place = map_place(&donor->map_next, line->segment);
	if (place == NULL)
		return true; /* unknown: its blocks are misses */
	place->number = line->segment;
	place->addr = line->remote_addr;
	place->size_bytes = line->size_bytes;
	memcpy(place->rkey.bytes, line->rkey, sizeof(place->rkey.bytes));
	return true;
}

static void
table_end(struct far_donor *donor, bool good)
{
	struct donor_segment_map map = donor->map;

	if (good) {
		donor->map = donor->map_next;
		donor->map_next = map;
	}
	donor->table_reading = false;
	donor->table_ended = donor->table_started;
	if (donor->link_state == LINK_TABLE)
		far_donor_link_up(donor);
	else
		far_donor_jobs_table_ended(donor);
}

/* One chunk is here. False: a line of it was torn. */
static bool
chunk_take(struct far_donor *donor)
{
	uint32_t count = chunk_lines(donor);
	bool whole = true;

	for (uint32_t i = 0; i < count; i++) {
		struct far_index_segment line;

		memcpy(&line, donor->scratch_table + (size_t)i * sizeof(line), sizeof(line));
		whole = line_take(donor, &line) && whole;
	}
	return whole;
}

void
far_donor_table_done(struct far_donor *donor, int status)
{
	struct far_index_live live;
	bool whole;

	if (donor->link_state != LINK_TABLE && donor->link_state != LINK_UP) {
		donor->table_reading = false;
		return;
	}
	if (status < 0) {
		if (donor->link_state == LINK_TABLE)
			far_donor_link_fail(donor, status, "its segment table cannot be read");
		else
			table_end(donor, false);
		return;
	}
	memcpy(&live, donor->scratch_live, sizeof(live));
	whole = far_index_live_check(&live) == 0;
	if (whole && live.epoch != donor->epoch) {
		far_donor_link_fail(donor, -ESTALE, "its epoch moved on");
		return;
	}
	if (whole)
		far_donor_live_take(donor, &live);
	whole = chunk_take(donor) && whole;
	if (!whole && donor->table_rereads < DONOR_REREADS_MAX) {
		donor->table_rereads++;
		donor->status.torn_rereads++;
	} else {
		/* A line that stays torn is a segment that we do not know: misses, no more. */
		donor->table_at += chunk_lines(donor);
		donor->table_rereads = 0;
	}
	if (donor->table_at >= donor->header.table_count) {
		table_end(donor, true);
		return;
	}
	donor->table_blocked = true;
	far_donor_table_pump(donor);
}

void
far_donor_live_take(struct far_donor *donor, const struct far_index_live *live)
{
	bool recovers = live->state == FAR_INDEX_RECOVERING;

	/* It does not begin again under one epoch: that was read before what said so. */
	if (recovers == donor->recovers ||
	    (donor->link_state != LINK_TABLE && !(donor_is_up(donor) && donor->recovers)))
		return;
	donor->recovers = recovers;
	donor->recovers_look_ns = far_clock_now(donor->env.clock) + DONOR_RECOVERS_NS;
	if (donor_is_up(donor))
		donor->l2.away = recovers;
	far_log_info("donor %s %s", donor->name,
		     recovers ? "recovers what its predecessor held: until then it takes no blocks"
			      : "has recovered: it takes blocks again");
}

uint64_t
far_donor_index_tick(struct far_donor *donor, uint64_t now_ns)
{
	if (!donor_is_up(donor) || !donor->recovers)
		return FAR_TIME_NEVER;
	if (now_ns >= donor->recovers_look_ns) {
		donor->recovers_look_ns = now_ns + DONOR_RECOVERS_NS;
		(void)far_donor_table_read(donor);
	}
	return donor->recovers_look_ns;
}

void
far_donor_index_reset(struct far_donor *donor)
{
	donor->recovers = false;
	donor->table_blocked = false;
	donor->table_reading = false;
	donor->header_posted = false;
	donor->recall_count = 0;
	memset(donor->gone, 0, sizeof(donor->gone));
	map_clear(&donor->map);
}

int
far_donor_segment_recall(struct far_donor *donor, uint32_t number)
{
	struct donor_segment_map *maps[] = {&donor->map, &donor->map_next};
	struct donor_recall *recall = &donor->recalls[donor->recall_count];

	if (number == 0 || donor->recall_count == DONOR_RECALLS_MAX)
		return -EPROTO;
	*recall = (struct donor_recall){.segment = number, .seq = donor->post_seq};
	donor->recall_count++;
	donor->gone[donor->gone_at++ % DONOR_RECALLS_MAX] = number;
	for (int i = 0; i < 2; i++) {
		struct donor_segment *place;

		/* There may have been no memory for one of them, and others may fill it. */
		if (maps[i]->places == NULL)
			continue;
		place = map_place(maps[i], number);
		if (place == NULL || place->number != number)
			continue;
		recall->known = true;
		recall->rkey = place->rkey;
		/* It stays in its place, unreadable, so that the chains behind it stay whole. */
		place->size_bytes = 0;
	}
	return 0;
}

static bool
batches_name(const struct far_list *batches, const struct far_rkey *rkey)
{
	for (const struct far_list *it = batches->next; it != batches; it = it->next) {
		const struct donor_batch *batch =
			FAR_CONTAINER_OF(it, const struct donor_batch, node);

		if (!batch->written && memcmp(&batch->rkey, rkey, sizeof(*rkey)) == 0)
			return true;
	}
	return false;
}

/* Whether something that is posted goes by this key. A donor has one for each memory; one that gives
 * two of them the same would have us forget what we are reading. */
static bool
rkey_is_named(const struct far_donor *donor, const struct far_rkey *rkey)
{
	if (memcmp(&donor->index_rkey, rkey, sizeof(*rkey)) == 0)
		return true;
	for (uint32_t j = 0; j < DONOR_JOBS; j++) {
		const struct donor_job *job = &donor->jobs[j];

		for (uint32_t i = 0; job->posted && job->phase == PHASE_LOAD && i < job->active;
		     i++) {
			if (memcmp(&job->rkeys[i], rkey, sizeof(*rkey)) == 0)
				return true;
		}
	}
	return batches_name(&donor->batches_unsent, rkey) ||
	       batches_name(&donor->batches_sent, rkey);
}

void
far_donor_recalls_pump(struct far_donor *donor)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < donor->recall_count; i++) {
		struct donor_recall *recall = &donor->recalls[i];
		struct far_frame_segment body = {.segment = recall->segment};

		if (!recall->drained && far_donor_jobs_oldest(donor) > recall->seq) {
			if (recall->known && rkey_is_named(donor, &recall->rkey)) {
				far_donor_link_fail(donor, -EPROTO,
						    "asks a segment back by a key that it gave to "
						    "other memory too");
				return;
			}
			recall->drained = true;
			if (recall->known)
				far_transport_forget(donor->link, &recall->rkey);
		}
		if (recall->drained &&
		    far_donor_send(donor, FAR_FRAME_SEGMENT_GONE, 0, &body, NULL, 0) == 0)
			continue;
		donor->recalls[kept++] = *recall;
	}
	donor->recall_count = kept;
}
