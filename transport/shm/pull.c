/* pull.c - the peer's WRITEs: fetched from its memory by us, so that nothing lands that we do not
 * want, and nothing late. */
#include "transport/shm/shm_priv.h"

#include <string.h>

#include "base/copy.h"
#include "base/publish.h"

bool
far_shm_peer_revoked(const struct shm_link *link)
{
	const struct shm_control *control = link->peer_control.base;

	/* Our loads of the peer's memory come before this one: a byte that the peer stored after it
	 * revoked is never seen without the word. Pairs with control_revoke in link.c. */
	atomic_thread_fence(memory_order_seq_cst);
	return atomic_load_explicit(&control->revoked, memory_order_seq_cst) != 0;
}

/* Where the piece lies in the peer's memory. NULL: the peer names what it never announced. */
static const uint8_t *
pull_source(struct shm_link *link, const struct shm_frame_write *piece)
{
	struct shm_region *region = far_shm_region_find(link, piece->source);

	if (region == NULL || region->base == NULL)
		return NULL;
	if (piece->source_offset > region->size_bytes ||
	    piece->size_bytes > region->size_bytes - piece->source_offset)
		return NULL;
	return region->base + piece->source_offset;
}

/* Where it goes in ours: looked up for each slice, since a grant may end between two. NULL: this
 * link has no right to write there. */
static uint8_t *
pull_target(struct shm_link *link, const struct shm_frame_write *piece)
{
	struct shm_transport *tp = SHM_TP(link->link.tp);
	struct shm_mem *mem;
	uint64_t nonce, id;

	far_shm_rkey_split(&piece->rkey, &nonce, &id);
	if (nonce != tp->nonce)
		return NULL;
	mem = far_shm_table_find(&tp->mems, id);
	if (mem == NULL || (mem->mem.rights & FAR_RIGHT_REMOTE_WRITE) == 0)
		return NULL;
	if (mem->only_id != 0 ? mem->only_id != link->id
			      : !far_bitmap_test(&link->exposed, mem->slot))
		return NULL;
	if (piece->addr > mem->mem.size_bytes ||
	    piece->size_bytes > mem->mem.size_bytes - piece->addr)
		return NULL;
	return (uint8_t *)mem->mem.base + piece->addr;
}

bool
far_shm_pull_is_to_tell(const struct shm_link *link)
{
	if (link->pull.seq == link->pull.seq_told)
		return false;
	return !far_shm_pull_active(link) || link->pull.bytes_untold >= SHM_UNTOLD_BYTES_MAX ||
	       link->pull.sum_count == SHM_WRITE_PIECES_MAX;
}

void
far_shm_pull_told(struct shm_link *link)
{
	link->pull.seq_told = link->pull.seq;
	link->pull.bytes_untold = 0;
	link->pull.sum_count = 0;
}

size_t
far_shm_pull_tell(const struct shm_link *link, uint64_t seq, int status, struct shm_frame_told *out)
{
	size_t sums_bytes = link->pull.sum_count * sizeof(out->sums[0]);

	out->done = (struct shm_frame_write_done){
		.seq = seq, .status = status, .sum_count = link->pull.sum_count};
	memcpy(out->sums, link->pull.sums, sums_bytes);
	return sizeof(out->done) + sums_bytes;
}

/* A failed WRITE costs the link: the messages behind it may speak of its bytes. */
static void
pull_refuse(struct shm_link *link, uint64_t seq)
{
	struct shm_frame_told told;
	size_t told_bytes;

	/* Those before it first, if the socket takes them; else with it. */
	(void)far_shm_flush(link);
	told_bytes = far_shm_pull_tell(link, seq, -EACCES, &told);
	far_shm_pull_told(link);
	if (far_shm_frame_push(link, SHM_FRAME_WRITE_DONE, &told, told_bytes) == 0)
		(void)far_shm_flush(link);
	far_shm_link_fail(link, -EACCES);
}

static void
piece_copy(struct shm_link *link, const struct shm_frame_write *piece, uint8_t *to,
	   const uint8_t *from, size_t size_bytes)
{
	if (piece->flags & SHM_WRITE_SUM)
		link->pull.sum = far_copy_crc32c(link->pull.sum, to, from, size_bytes);
	else
		far_copy_stream(to, from, size_bytes);
}

static void
op_end(struct shm_link *link, const struct shm_frame_write *last)
{
	link->pull.seq = last->seq;
	if (last->flags & SHM_WRITE_SUM)
		link->pull.sums[link->pull.sum_count++] = link->pull.sum;
	link->pull.sum = 0;
}

/* To the socket or, for a peer that does not read now, into the ring. One that asks for more than both take has
 * no link: we would wait for it, and it may wait for us. */
static void
sums_send(struct shm_link *link)
{
	(void)far_shm_flush(link);
	if (link->rc == 0 && link->pull.sum_count == SHM_WRITE_PIECES_MAX &&
	    far_shm_write_done_queue(link) < 0)
		far_shm_link_fail(link, -EPROTO);
}

int
far_shm_pull_run(struct shm_link *link)
{
	struct shm_transport *tp = SHM_TP(link->link.tp);
	int64_t slice = SHM_SLICE_BYTES;
	int ran = 0;

	/* As many sums as one answer has; then that goes first. */
	while (far_shm_pull_active(link) && slice > 0 &&
	       link->pull.sum_count < SHM_WRITE_PIECES_MAX) {
		struct shm_frame_write piece;
		const uint8_t *from;
		uint8_t *to;
		size_t size;

		memcpy(&piece, link->pull.frame + link->pull.idx * sizeof(piece), sizeof(piece));
		from = pull_source(link, &piece);
		if (from == NULL || piece.seq != link->pull.seq + 1) {
			far_shm_link_fail(link, -EPROTO);
			return ran + 1;
		}
		to = pull_target(link, &piece);
		if (to == NULL) {
			pull_refuse(link, piece.seq);
			return ran + 1;
		}
		size = piece.size_bytes - link->pull.offset;
		if (size > (size_t)slice)
			size = (size_t)slice;
		piece_copy(link, &piece, to + link->pull.offset, from + link->pull.offset, size);
		slice -= (int64_t)size + 1;
		tp->copy_left -= ((int64_t)size + 1) * far_shm_copiers(&tp->copies);
		link->pull.offset += (uint32_t)size;
		link->pull.bytes_untold += size;
		ran++;
		if (link->pull.offset < piece.size_bytes)
			break;
		link->pull.offset = 0;
		link->pull.idx++;
		if (piece.flags & SHM_WRITE_LAST)
			op_end(link, &piece);
	}
	if (ran == 0)
		return 0;
	/* Visible before any message behind them, and worth nothing if the peer has let go. */
	far_mem_publish();
	if (far_shm_peer_revoked(link))
		far_shm_link_fail(link, -ECONNRESET);
	else if (link->pull.sum_count == SHM_WRITE_PIECES_MAX)
		sums_send(link);
	return ran;
}
