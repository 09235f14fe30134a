/* index.c - the published index: where things lie, sealed lines, and the checks that readers make.
 */
#include "wire/index.h"

#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/checksum.h"
#include "base/mutant.h"
#include "base/rng.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the index is laid out little-endian");
_Static_assert(sizeof(struct far_index_header) == 400, "wire layout");
_Static_assert(offsetof(struct far_index_header, owner_pid) == 240, "wire layout");
_Static_assert(offsetof(struct far_index_live, checksum) == 56, "the checksum is the last word");
_Static_assert(offsetof(struct far_index_segment, checksum) == 56, "the checksum is the last word");
_Static_assert(offsetof(struct far_slot, checksum) == 56, "the checksum is the last word");

#define LINE_BYTES      64U
#define LINE_WORDS      8U
#define LINE_SEALED     56U /* bytes under a line's checksum */
#define SLOTS_MAX       (1ULL << 40)
#define TABLE_LINES_MAX (1ULL << 20)
#define KNOWN_FEATURES  0ULL

static uint64_t
round_up(uint64_t value, uint64_t align)
{
	return (value + align - 1) / align * align;
}

int
far_index_layout_make(uint64_t capacity_bytes, uint64_t block_bytes_min, uint64_t table_count,
		      struct far_index_layout *out)
{
	struct far_index_layout layout;
	uint64_t blocks;

	if (capacity_bytes == 0 || block_bytes_min == 0 || table_count == 0)
		return -EINVAL;
	blocks = capacity_bytes / block_bytes_min + (capacity_bytes % block_bytes_min != 0);
	if (blocks > SLOTS_MAX * 2 / 5 || table_count > TABLE_LINES_MAX)
		return -EINVAL;
	/* Two and a half slots a block: about one key in 10^5 then finds both of its sets full. */
	layout.set_count = round_up(blocks * 5 / 2 + 1, FAR_SET_SLOTS) / FAR_SET_SLOTS;
	if (layout.set_count > FAR_PAGE_SETS)
		layout.set_count = round_up(layout.set_count, FAR_PAGE_SETS);
	layout.live_at = FAR_INDEX_PAGE_BYTES;
	layout.table_at = layout.live_at + FAR_INDEX_PAGE_BYTES;
	layout.table_count = table_count;
	layout.sets_at = round_up(layout.table_at + table_count * LINE_BYTES, FAR_INDEX_PAGE_BYTES);
	layout.index_bytes =
		round_up(layout.sets_at + layout.set_count * FAR_SET_BYTES, FAR_INDEX_PAGE_BYTES);
	*out = layout;
	return 0;
}

static uint64_t
header_checksum(const struct far_index_header *header)
{
	return far_xxh64(header, offsetof(struct far_index_header, owner_pid), FAR_INDEX_MAGIC);
}

void
far_index_header_seal(struct far_index_header *header)
{
	header->checksum = header_checksum(header);
}

/* Header, live line, table and sets lie behind each other in this order and do not overlap. No sum
 * here can overflow: every count is bounded first. */
static bool
layout_is_sound(const struct far_index_header *header)
{
	if (header->index_bytes > SLOTS_MAX * FAR_SLOT_BYTES * 2)
		return false;
	if (header->live_at > header->index_bytes || header->table_at > header->index_bytes ||
	    header->sets_at > header->index_bytes)
		return false;
	if (header->live_at % LINE_BYTES != 0 || header->table_at % LINE_BYTES != 0 ||
	    header->sets_at % FAR_SET_BYTES != 0)
		return false;
	if (header->table_count == 0 || header->table_count > TABLE_LINES_MAX)
		return false;
	if (header->set_count == 0 || header->set_count > SLOTS_MAX / FAR_SET_SLOTS)
		return false;
	return header->live_at >= header->header_bytes &&
	       header->table_at >= header->live_at + LINE_BYTES &&
	       header->sets_at >= header->table_at + header->table_count * LINE_BYTES &&
	       header->index_bytes >= header->sets_at + header->set_count * FAR_SET_BYTES;
}

static bool
geometry_is_sound(const struct far_index_header *header)
{
	uint64_t lane = header->lane_bytes;

	if (header->slot_bytes != FAR_SLOT_BYTES || header->set_slots != FAR_SET_SLOTS)
		return false;
	if (header->rail_count == 0 || header->rail_count > FAR_RAILS_MAX)
		return false;
	if (lane < FAR_LANE_BYTES_MIN || lane > FAR_LANE_BYTES_MAX || (lane & (lane - 1)) != 0)
		return false;
	return header->segment_bytes >= lane && header->segment_bytes % lane == 0;
}

int
far_index_header_check(const struct far_index_header *header, uint64_t mapped_bytes)
{
	/* Another version may keep its checksum elsewhere: it is refused before that is looked at.
	 */
	if (header->magic != FAR_INDEX_MAGIC || header->version != FAR_INDEX_VERSION)
		return -EPROTO;
	if (header->checksum != header_checksum(header))
		return -EBADMSG;
	if (header->header_bytes < sizeof(*header) || (header->features & ~KNOWN_FEATURES) != 0)
		return -EPROTO;
	if (!layout_is_sound(header) || header->index_bytes > mapped_bytes)
		return -EPROTO;
	if (!geometry_is_sound(header))
		return -EPROTO;
	if (memchr(header->donor, '\0', sizeof(header->donor)) == NULL ||
	    memchr(header->name_space, '\0', sizeof(header->name_space)) == NULL)
		return -EPROTO;
	return 0;
}

void
far_index_live_seal(struct far_index_live *live)
{
	live->checksum = far_xxh64(live, LINE_SEALED, FAR_INDEX_MAGIC);
}

int
far_index_live_check(const struct far_index_live *live)
{
	if (live->epoch == 0 || live->checksum != far_xxh64(live, LINE_SEALED, FAR_INDEX_MAGIC))
		return -EBADMSG;
	return 0;
}

void
far_index_segment_seal(struct far_index_segment *line, uint64_t epoch)
{
	line->checksum = far_xxh64(line, LINE_SEALED, epoch);
}

int
far_index_segment_check(const struct far_index_segment *line, uint64_t epoch)
{
	if (line->checksum != far_xxh64(line, LINE_SEALED, epoch))
		return -EBADMSG;
	return 0;
}

void
far_slot_seal(struct far_slot *slot, uint64_t epoch)
{
	slot->flags |= FAR_SLOT_USED;
	slot->checksum = far_xxh64(slot, LINE_SEALED, epoch);
}

enum far_slot_state
far_slot_check(const struct far_slot *slot, uint64_t epoch)
{
	static const struct far_slot empty;

	if (memcmp(slot, &empty, sizeof(empty)) == 0)
		return FAR_SLOT_EMPTY;
	if (slot->checksum != far_xxh64(slot, LINE_SEALED, epoch) && !FAR_MUTANT(TORN_SLOT_TAKEN))
		return FAR_SLOT_TORN;
	/* A sealed slot always carries the flag and a length; anything else is nobody's slot. */
	if ((slot->flags & FAR_SLOT_USED) == 0 || slot->size_bytes == 0)
		return FAR_SLOT_TORN;
	return FAR_SLOT_VALID;
}

/* Maps a uniform 64-bit hash to [0, bound) by the high half of the product. */
static uint64_t
scale(uint64_t hash, uint64_t bound)
{
	return (uint64_t)(((unsigned __int128)hash * bound) >> 64);
}

void
far_index_sets(const struct far_key *key, uint64_t hash_seed, uint64_t set_count,
	       uint64_t sets_out[2])
{
	uint64_t page_sets = set_count < FAR_PAGE_SETS ? set_count : FAR_PAGE_SETS;
	uint64_t first;
	uint64_t second;
	uint64_t page;

	FAR_ASSERT(set_count > 0);
	first = scale(far_mix64(far_key_lo(key) ^ hash_seed), set_count);
	/* Ours has whole pages, or less than one; another's last page takes sets of the one before. */
	page = first / FAR_PAGE_SETS * FAR_PAGE_SETS;
	if (page > set_count - page_sets)
		page = set_count - page_sets;
	second = first;
	if (page_sets > 1) {
		/* Uniform over all sets of the page but the first. */
		second = page + scale(far_mix64(far_key_hi(key) + hash_seed), page_sets - 1);
		second += second >= first;
	}
	sets_out[0] = first;
	sets_out[1] = second;
}

void
far_line_load(void *to, const void *from)
{
	const uint64_t *words = from;

	FAR_DASSERT((uintptr_t)from % 8 == 0);
	for (size_t i = 0; i < LINE_WORDS; i++) {
		uint64_t word = __atomic_load_n(&words[i], __ATOMIC_RELAXED);

		memcpy((char *)to + i * sizeof(word), &word, sizeof(word));
	}
}

void
far_line_store(void *to, const void *from)
{
	uint64_t *words = to;
	uint64_t copy[LINE_WORDS];

	FAR_DASSERT((uintptr_t)to % 8 == 0);
	memcpy(copy, from, sizeof(copy));
	for (size_t i = 0; i + 1 < LINE_WORDS; i++)
		__atomic_store_n(&words[i], copy[i], __ATOMIC_RELAXED);
	/* Release, so that a reader who sees this checksum sees the words that it covers. */
	__atomic_store_n(&words[LINE_WORDS - 1], copy[LINE_WORDS - 1], __ATOMIC_RELEASE);
}
