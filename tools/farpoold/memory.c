/* memory.c - the memory that a donor lends: checked for before it is taken, mapped piece by piece. */
#include "tools/farpoold/farpoold.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/err.h"
#include "base/pages_limit.h"
#include "tools/farpoold/backing.h"

static int
node_of(const struct farpoold_config *config)
{
	return (int)config->numa_node - 1;
}

/* Lookups read the index all over: with ordinary pages each is a walk through tables of its own. */
static enum far_pages_huge
index_huge(const struct farpoold_config *config)
{
	enum far_pages_huge huge = (enum far_pages_huge)config->huge_pages;

	return huge == FAR_PAGES_HUGE_AUTO ? FAR_PAGES_HUGE_MAKE : huge;
}

void
farpoold_memory_explain(const struct farpoold_memory *memory, int rc,
			char error[FAR_PARAM_ERROR_BYTES])
{
	const struct farpoold_config *config = memory->config;
	char asked[FARPOOLD_SIZE_TEXT_BYTES], index[FARPOOLD_SIZE_TEXT_BYTES];
	char there[FARPOOLD_SIZE_TEXT_BYTES];
	bool huge = memory->backing != NULL ? memory->backing->is_huge
					    : config->huge_pages == FAR_PAGES_HUGE_ON;

	farpoold_size_format(config->pool.capacity_bytes, asked);
	farpoold_size_format(far_pool_index_bytes(&config->pool, memory->rail_count), index);
	if (rc != -ENOMEM) {
		snprintf(error, FAR_PARAM_ERROR_BYTES, "memory: %s could not be mapped: %s (%s)",
			 asked, far_err_text(rc), far_err_name(rc));
		return;
	}
	farpoold_size_format(huge ? far_pages_reserved_bytes() : far_pages_available_bytes(),
			     there);
	snprintf(error, FAR_PARAM_ERROR_BYTES,
		 "memory: %s and %s of index were asked for, %s of %s are available here%s: lower "
		 "'memory:', or %s",
		 asked, index, there, huge ? "huge pages" : "memory",
		 config->numa_node > 0 ? " (or less on the NUMA node, or in the control group)"
				       : " (or less in the control group)",
		 huge ? "reserve more with vm.nr_hugepages" : "free memory");
}

/* The file that comes next; NULL: a predecessor left no more of them. */
static const struct farpoold_segment_file *
next_found(const struct farpoold_memory *memory)
{
	const struct farpoold_backing *backing = memory->backing;

	return backing != NULL && memory->mapped < backing->found_count
		       ? &backing->found[memory->mapped]
		       : NULL;
}

uint64_t
farpoold_memory_next_bytes(const struct farpoold_memory *memory)
{
	const struct far_pool_config *pool = &memory->config->pool;
	uint64_t left = pool->capacity_bytes - memory->mapped_bytes;
	const struct farpoold_segment_file *file = next_found(memory);

	if (file != NULL)
		return file->size_bytes;
	return left < pool->segment_bytes ? left : pool->segment_bytes;
}

uint32_t
farpoold_memory_next_number(const struct farpoold_memory *memory)
{
	const struct farpoold_segment_file *file = next_found(memory);

	return file != NULL ? file->number : 0;
}

/* Whether what is not there yet can be had: half a donor that fails later helps nobody. */
static bool
memory_fits(const struct farpoold_memory *memory, uint64_t bytes)
{
	const struct farpoold_config *config = memory->config;
	uint64_t huge = config->huge_pages == FAR_PAGES_HUGE_OFF ? 0 : far_pages_reserved_bytes();

	if (memory->backing != NULL) {
		bytes -=
			memory->backing->there_bytes < bytes ? memory->backing->there_bytes : bytes;
		return memory->backing->is_huge || far_pages_fit(bytes, node_of(config));
	}
	bytes -= huge < bytes ? huge : bytes;
	return config->huge_pages == FAR_PAGES_HUGE_ON ? bytes == 0
						       : far_pages_fit(bytes, node_of(config));
}

int
farpoold_memory_open(const struct farpoold_config *config, uint32_t rail_count,
		     struct farpoold_backing *backing, struct farpoold_memory *memory,
		     char error[FAR_PARAM_ERROR_BYTES])
{
	const struct far_pool_config *pool = &config->pool;
	uint64_t index_bytes = far_pool_index_bytes(pool, rail_count);
	int rc = -ENOMEM;

	*memory = (struct farpoold_memory){.config = config,
					   .rail_count = rail_count,
					   .backing = backing,
					   .index = {.fd = -1}};
	if (!memory_fits(memory, pool->capacity_bytes + index_bytes)) {
		farpoold_memory_explain(memory, rc, error);
		return rc;
	}
	/* Files of a predecessor's may be smaller than a segment: what is missing then is new. */
	memory->segment_count =
		(uint32_t)((pool->capacity_bytes + pool->segment_bytes - 1) / pool->segment_bytes);
	if (backing != NULL)
		memory->segment_count += backing->found_count;
	memory->segments = far_zalloc_array(memory->segment_count, sizeof(*memory->segments));
	if (memory->segments != NULL && backing != NULL)
		rc = farpoold_backing_index_map(backing, index_bytes, index_huge(config),
						node_of(config), &memory->index);
	else if (memory->segments != NULL)
		rc = far_pages_map_shared("farpool index", index_bytes, index_huge(config),
					  node_of(config), &memory->index);
	if (rc < 0)
		farpoold_memory_explain(memory, rc, error);
	return rc;
}

int
farpoold_memory_map(struct farpoold_memory *memory, struct far_pages *pages_out)
{
	const struct farpoold_config *config = memory->config;
	char name[FAR_NAME_BYTES_MAX + 32];

	if (memory->backing != NULL)
		return farpoold_backing_segment_map(
			memory->backing, farpoold_memory_next_number(memory),
			farpoold_memory_next_bytes(memory), node_of(config), pages_out);
	snprintf(name, sizeof(name), "farpool %s %" PRIu32, config->pool.name, memory->mapped + 1);
	return far_pages_map_shared(name, farpoold_memory_next_bytes(memory),
				    (enum far_pages_huge)config->huge_pages, node_of(config),
				    pages_out);
}

void
farpoold_memory_keep(struct farpoold_memory *memory, const struct far_pages *pages)
{
	FAR_ASSERT(memory->mapped < memory->segment_count);
	memory->mapped_bytes += farpoold_memory_next_bytes(memory);
	memory->segments[memory->mapped++] = *pages;
}

void
farpoold_memory_close(struct farpoold_memory *memory)
{
	for (uint32_t i = 0; i < memory->mapped; i++)
		far_pages_unmap(&memory->segments[i]);
	far_free(memory->segments);
	far_pages_unmap(&memory->index);
	memset(memory, 0, sizeof(*memory));
	memory->index.fd = -1;
}
