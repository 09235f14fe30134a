/* fold.h - from which cells are present to how long a prefix is served, and back to what it needs. */
#ifndef FAR_CONTROLLERS_FOLD_H
#define FAR_CONTROLLERS_FOLD_H

#include "base/bitmap.h"

/*
 * A model whose layers fall into groups keeps a chunk of tokens as one block per group and rank: a
 * cell. A full-attention group serves a prefix of L chunks if it has all of them, a sliding-window
 * group if it has the last min(window, L) of them; a chunk counts for a group only if every rank has
 * its cell. Cell of (chunk, group, rank): (chunk * groups + group) * ranks + rank.
 */
struct far_fold_shape {
	uint32_t chunks;        /* 0 is legal */
	uint32_t groups;        /* 1.. */
	uint32_t ranks;         /* 1.. */
	const int32_t *windows; /* [groups], borrowed: in chunks; <= 0: full attention */
};

/* Cells of the shape. Returns 0, or -EINVAL: no group, no rank, no windows, or more cells than 2^32 - 1. */
int far_fold_cells(const struct far_fold_shape *shape, uint32_t *cells_out);
/**
 * far_fold - which prefixes can be served.
 *
 * @present:  one bit per cell.
 * @servable: one bit per chunk, set by this: bit j says that a prefix of j + 1 chunks can be served.
 *            Not every shorter one can: its windows lie elsewhere. The longest is
 *            far_bitmap_highest() + 1.
 *
 * Thread:  any.
 * Returns: 0, or -EINVAL as above, or a bitmap of another size; @servable is untouched then.
 */
int far_fold(const struct far_fold_shape *shape, const struct far_bitmap *present,
	     struct far_bitmap *servable);
/**
 * far_unfold - which cells a prefix of @length chunks needs; of more than there are, all chunks.
 *
 * @needed: one bit per cell, set by this: of chunks [0, length) for full attention, of
 *          [max(0, length - window), length) for a window, all ranks.
 *
 * Thread:  any.
 * Returns: 0, or -EINVAL as above.
 */
int far_unfold(const struct far_fold_shape *shape, uint32_t length, struct far_bitmap *needed);

#endif
