/* stage.c - the ring of pinned buffers: in chunks, handed out in a row, each link sure of its share. */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "transport/gpu/gpu_priv.h"

int
far_gpu_stage_open(struct gpu_transport *tp, uint64_t size_bytes)
{
	struct gpu_stage *stage = &tp->stage;
	struct far_mem_source source;
	int rc;

	rc = far_pages_map_shared("farpool-stage", size_bytes, FAR_PAGES_HUGE_AUTO,
				  tp->device->info.numa_node, &stage->pages);
	if (rc < 0)
		return rc;
	stage->chunk_count = (uint32_t)(stage->pages.size_bytes / GPU_CHUNK_BYTES);
	stage->free_count = stage->chunk_count;
	stage->used = far_zalloc(stage->chunk_count);
	if (stage->used == NULL)
		return -ENOMEM;
	rc = far_device_pin(tp->device, stage->pages.base, stage->pages.size_bytes, false);
	if (rc < 0)
		return rc;
	stage->pinned = true;
	source = (struct far_mem_source){
		.base = stage->pages.base,
		.size_bytes = stage->pages.size_bytes,
		.fd = stage->pages.fd,
		.relaxed = true,
	};
	return far_transport_mem_reg(tp->inner, &source, FAR_RIGHT_LOCAL, NULL, &stage->mem);
}

void
far_gpu_stage_close(struct gpu_transport *tp)
{
	struct gpu_stage *stage = &tp->stage;

	FAR_ASSERT(stage->free_count == stage->chunk_count);
	if (stage->mem != NULL)
		far_transport_mem_dereg(stage->mem);
	if (stage->pinned)
		far_device_unpin(tp->device, stage->pages.base);
	far_pages_unmap(&stage->pages);
	far_free(stage->used);
}

/*
 * A link whose peer stands still holds what it has for as long as that lasts. So none may go beyond its
 * share but into what is left when all others have theirs.
 */
static uint32_t
chunks_allowed(const struct gpu_transport *tp, const struct gpu_link *link)
{
	const struct gpu_stage *stage = &tp->stage;
	uint32_t share = stage->chunk_count / (tp->link_count > 0 ? tp->link_count : 1);
	uint32_t others = 0; /* of their shares, not taken */
	uint32_t within = link->chunks_held < share ? share - link->chunks_held : 0;
	uint32_t beyond;

	for (struct far_list *it = tp->links.next; it != &tp->links; it = it->next) {
		const struct gpu_link *other = FAR_CONTAINER_OF(it, struct gpu_link, all_node);

		if (other != link && other->chunks_held < share)
			others += share - other->chunks_held;
	}
	beyond = stage->free_count > others ? stage->free_count - others : 0;
	if (within > stage->free_count)
		within = stage->free_count;
	return within > beyond ? within : beyond;
}

/* The longest run of free chunks up to @count, the first that is long enough from the cursor on. */
static uint32_t
run_find(const struct gpu_stage *stage, uint32_t count, uint32_t *first_out)
{
	uint32_t at = stage->cursor < stage->chunk_count ? stage->cursor : 0;
	uint32_t looked = 0, best = 0;

	while (looked < stage->chunk_count) {
		uint32_t run = 0;

		while (at + run < stage->chunk_count && run < count && stage->used[at + run] == 0)
			run++;
		if (run > best) {
			best = run;
			*first_out = at;
		}
		if (best == count)
			break;
		looked += run + 1;
		at += run + 1;
		if (at >= stage->chunk_count)
			at = 0;
	}
	return best;
}

uint8_t *
far_gpu_stage_take(struct gpu_transport *tp, struct gpu_link *link, uint64_t size_bytes,
		   uint64_t *got_out)
{
	struct gpu_stage *stage = &tp->stage;
	uint32_t count = (uint32_t)((size_bytes + GPU_CHUNK_BYTES - 1) / GPU_CHUNK_BYTES);
	uint32_t allowed = chunks_allowed(tp, link);
	uint32_t first = 0;
	uint32_t run;

	if (count > allowed)
		count = allowed;
	run = count == 0 ? 0 : run_find(stage, count, &first);
	if (run == 0)
		return NULL;
	memset(stage->used + first, 1, run);
	stage->free_count -= run;
	link->chunks_held += run;
	stage->cursor = first + run;
	*got_out = run * GPU_CHUNK_BYTES < size_bytes ? run * GPU_CHUNK_BYTES : size_bytes;
	return (uint8_t *)stage->pages.base + first * GPU_CHUNK_BYTES;
}

void
far_gpu_stage_give(struct gpu_transport *tp, struct gpu_link *link, const uint8_t *at,
		   uint64_t size_bytes)
{
	struct gpu_stage *stage = &tp->stage;
	uint64_t first = (uint64_t)(at - (const uint8_t *)stage->pages.base) / GPU_CHUNK_BYTES;
	uint32_t count = (uint32_t)((size_bytes + GPU_CHUNK_BYTES - 1) / GPU_CHUNK_BYTES);

	for (uint32_t i = 0; i < count; i++) {
		FAR_ASSERT(stage->used[first + i] == 1);
		stage->used[first + i] = 0;
	}
	FAR_ASSERT(link->chunks_held >= count);
	link->chunks_held -= count;
	stage->free_count += count;
	far_gpu_links_room(tp);
}
