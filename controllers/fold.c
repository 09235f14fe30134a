/* fold.c - from which cells are present to how long a prefix is served, and back to what it needs. */
#include "controllers/fold.h"

#include "base/err.h"

int
far_fold_cells(const struct far_fold_shape *shape, uint32_t *cells_out)
{
	uint64_t per_chunk = (uint64_t)shape->groups * shape->ranks;

	if (shape->windows == NULL || per_chunk == 0 || per_chunk > UINT32_MAX ||
	    shape->chunks * per_chunk > UINT32_MAX)
		return -EINVAL;
	*cells_out = (uint32_t)(shape->chunks * per_chunk);
	return 0;
}

static bool
chunk_is_whole(const struct far_fold_shape *shape, const struct far_bitmap *present, uint32_t chunk,
	       uint32_t group)
{
	size_t first = ((size_t)chunk * shape->groups + group) * shape->ranks;

	for (uint32_t rank = 0; rank < shape->ranks; rank++) {
		if (!far_bitmap_test(present, first + rank))
			return false;
	}
	return true;
}

int
far_fold(const struct far_fold_shape *shape, const struct far_bitmap *present,
	 struct far_bitmap *servable)
{
	uint32_t cells;
	int rc = far_fold_cells(shape, &cells);

	if (rc < 0)
		return rc;
	if (present->bit_count != cells || servable->bit_count != shape->chunks)
		return -EINVAL;
	far_bitmap_clear_all(servable);
	far_bitmap_set_range(servable, 0, shape->chunks);
	for (uint32_t group = 0; group < shape->groups; group++) {
		int32_t window = shape->windows[group];
		uint32_t run = 0; /* of whole chunks that end at this one */

		for (uint32_t chunk = 0; chunk < shape->chunks; chunk++) {
			run = chunk_is_whole(shape, present, chunk, group) ? run + 1 : 0;
			if (run <= chunk && (window <= 0 || run < (uint32_t)window))
				far_bitmap_clear(servable, chunk);
		}
	}
	return 0;
}

int
far_unfold(const struct far_fold_shape *shape, uint32_t length, struct far_bitmap *needed)
{
	uint32_t cells;
	int rc = far_fold_cells(shape, &cells);

	if (rc < 0)
		return rc;
	if (needed->bit_count != cells)
		return -EINVAL;
	if (length > shape->chunks)
		length = shape->chunks;
	far_bitmap_clear_all(needed);
	for (uint32_t group = 0; group < shape->groups; group++) {
		int32_t window = shape->windows[group];
		uint32_t chunk = 0;

		if (window > 0 && length > (uint32_t)window)
			chunk = length - (uint32_t)window;
		for (; chunk < length; chunk++) {
			size_t first = ((size_t)chunk * shape->groups + group) * shape->ranks;

			far_bitmap_set_range(needed, first, first + shape->ranks);
		}
	}
	return 0;
}
