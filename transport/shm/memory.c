/* memory.c - registrations of ours, regions of the peer's, and the descriptors between them. */
#include "transport/shm/shm_priv.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"

#define TABLE_ENTRIES_MIN 64
#define SLOTS_MIN         64
#define FAULT_SLICE_BYTES ((size_t)4 << 20)
#define STAT_BLOCK_BYTES  512

#ifndef MADV_POPULATE_READ /* Linux 5.14 */
#define MADV_POPULATE_READ 22
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

/* ---- tables: open addressing, at most half full ---- */

static size_t
table_home(const struct shm_table *table, uint64_t id)
{
	return (size_t)far_mix64(id) & table->mask;
}

static void
table_insert(struct shm_table *table, uint64_t id, void *item)
{
	size_t at = table_home(table, id);

	FAR_ASSERT(table->entries != NULL);
	while (table->entries[at].id != 0) {
		FAR_ASSERT(table->entries[at].id != id);
		at = (at + 1) & table->mask;
	}
	table->entries[at] = (struct shm_table_entry){.id = id, .item = item};
	table->count++;
}

int
far_shm_table_put(struct shm_table *table, uint64_t id, void *item)
{
	struct shm_table bigger = {0};
	size_t size = table->entries == NULL ? 0 : table->mask + 1;

	FAR_ASSERT(id != 0);
	if (2 * (table->count + 1) > size) {
		size = size == 0 ? TABLE_ENTRIES_MIN : 2 * size;
		bigger.entries = far_zalloc_array(size, sizeof(*bigger.entries));
		if (bigger.entries == NULL)
			return -ENOMEM;
		bigger.mask = size - 1;
		for (size_t i = 0; table->entries != NULL && i <= table->mask; i++) {
			if (table->entries[i].id != 0)
				table_insert(&bigger, table->entries[i].id, table->entries[i].item);
		}
		far_free(table->entries);
		*table = bigger;
	}
	table_insert(table, id, item);
	return 0;
}

void *
far_shm_table_find(const struct shm_table *table, uint64_t id)
{
	if (table->entries == NULL || id == 0)
		return NULL;
	for (size_t at = table_home(table, id); table->entries[at].id != 0;
	     at = (at + 1) & table->mask) {
		if (table->entries[at].id == id)
			return table->entries[at].item;
	}
	return NULL;
}

void *
far_shm_table_take(struct shm_table *table, uint64_t id)
{
	void *item = far_shm_table_find(table, id);
	size_t hole, at;

	if (item == NULL)
		return NULL;
	hole = table_home(table, id);
	while (table->entries[hole].id != id)
		hole = (hole + 1) & table->mask;
	/* Pull those back that only went further because the hole was taken. */
	for (at = (hole + 1) & table->mask; table->entries[at].id != 0;
	     at = (at + 1) & table->mask) {
		size_t home = table_home(table, table->entries[at].id);

		if (((at - home) & table->mask) < ((at - hole) & table->mask))
			continue;
		table->entries[hole] = table->entries[at];
		hole = at;
	}
	table->entries[hole] = (struct shm_table_entry){0};
	table->count--;
	return item;
}

void
far_shm_table_fini(struct shm_table *table)
{
	far_free(table->entries);
	*table = (struct shm_table){0};
}

/* ---- keys ---- */

struct far_rkey
far_shm_rkey_make(uint64_t nonce, uint64_t region)
{
	struct far_rkey rkey;

	memcpy(rkey.bytes, &nonce, sizeof(nonce));
	memcpy(rkey.bytes + sizeof(nonce), &region, sizeof(region));
	return rkey;
}

void
far_shm_rkey_split(const struct far_rkey *rkey, uint64_t *nonce_out, uint64_t *region_out)
{
	memcpy(nonce_out, rkey->bytes, sizeof(*nonce_out));
	memcpy(region_out, rkey->bytes + sizeof(*nonce_out), sizeof(*region_out));
}

/* ---- descriptors ---- */

/*
 * A memfd whose pages are all there and stay there: it cannot shrink, nobody can write to it anew
 * or punch holes, and none was left out. Touching it never raises SIGBUS and never costs memory.
 */
static bool
memfd_is_safe(int fd, const struct stat *st)
{
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || (seals & F_SEAL_SHRINK) == 0)
		return false;
	if ((seals & (F_SEAL_FUTURE_WRITE | F_SEAL_WRITE)) == 0)
		return false;
	return st->st_blocks >= st->st_size / STAT_BLOCK_BYTES;
}

/* A donor's backing file: it has a name, and files cannot be sealed, so its owner is what counts.
 */
static bool
file_is_backing(const struct stat *st)
{
	return S_ISREG(st->st_mode) && st->st_nlink > 0 &&
	       (st->st_uid == 0 || st->st_uid == geteuid());
}

/* A descriptor for peers: never one that could write to a file of ours. */
static int
descriptor_dup(const struct far_mem_source *source, int *out)
{
	struct stat st;
	char path[32];
	int fd;

	if (fstat(source->fd, &st) < 0)
		return -EINVAL;
	if (st.st_size < 0 || source->fd_offset > (uint64_t)st.st_size ||
	    source->size_bytes > (uint64_t)st.st_size - source->fd_offset)
		return -EINVAL;
	if (memfd_is_safe(source->fd, &st)) {
		fd = fcntl(source->fd, F_DUPFD_CLOEXEC, 0);
	} else if (file_is_backing(&st)) {
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", source->fd);
		fd = open(path, O_RDONLY | O_CLOEXEC);
	} else {
		far_log_warn("memory not registered: its descriptor is neither a whole memfd "
			     "sealed against shrinking and writing nor a file of ours");
		return -EINVAL;
	}
	if (fd < 0)
		return errno == EMFILE || errno == ENFILE ? -EMFILE : -EINVAL;
	*out = fd;
	return 0;
}

/* ---- registrations ---- */

static int
maps_grow(struct shm_link *link, size_t bit_count)
{
	size_t words = far_bitmap_words(bit_count);
	uint64_t *all = far_zalloc_array(3 * words, sizeof(*all));
	struct far_bitmap *maps[3] = {&link->announced, &link->pending, &link->exposed};

	if (all == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < 3; i++) {
		size_t used = far_bitmap_words(maps[i]->bit_count);

		if (used != 0)
			memcpy(all + i * words, maps[i]->words, used * sizeof(*all));
		/* Not init: that would clear them. */
		*maps[i] = (struct far_bitmap){.words = all + i * words, .bit_count = bit_count};
	}
	far_free(link->map_words);
	link->map_words = all;
	return 0;
}

int
far_shm_maps_init(struct shm_link *link)
{
	size_t slots = SHM_TP(link->link.tp)->slot_count;

	return slots == 0 ? 0 : maps_grow(link, slots);
}

/* Doubles the slots; a link whose maps are ahead of them harms nobody. */
static int
slots_grow(struct shm_transport *tp)
{
	size_t count = tp->slot_count == 0 ? SLOTS_MIN : 2 * tp->slot_count;
	struct shm_mem **slots;

	for (struct far_list *it = tp->links.next; it != &tp->links; it = it->next) {
		struct shm_link *link = FAR_CONTAINER_OF(it, struct shm_link, all_node);

		if (link->announced.bit_count < count && maps_grow(link, count) < 0)
			return -ENOMEM;
	}
	slots = far_zalloc_array(count, sizeof(*slots));
	if (slots == NULL)
		return -ENOMEM;
	if (tp->slots != NULL)
		memcpy(slots, tp->slots, tp->slot_count * sizeof(*slots));
	far_free(tp->slots);
	tp->slots = slots;
	tp->slot_count = count;
	return 0;
}

static int
slot_find(struct shm_transport *tp, size_t *out)
{
	size_t at = tp->slot_hint;
	int rc;

	if (tp->mems.count == tp->slot_count) {
		at = tp->slot_count;
		rc = slots_grow(tp);
		if (rc < 0)
			return rc;
	}
	/* One is free: there are fewer registrations than slots. */
	while (tp->slots[at % tp->slot_count] != NULL)
		at++;
	*out = at % tp->slot_count;
	tp->slot_hint = *out + 1;
	return 0;
}

int
far_shm_mem_reg(struct far_transport *ftp, const struct far_mem_source *source, uint32_t rights,
		struct far_link *only, struct far_mem **out)
{
	struct shm_transport *tp = SHM_TP(ftp);
	struct shm_mem *mem;
	int rc;

	if (far_shm_is_child(tp))
		return -EPERM;
	if (source->device != NULL)
		return -EOPNOTSUPP;
	if (rights & ~(FAR_RIGHT_LOCAL | FAR_RIGHT_REMOTE_READ | FAR_RIGHT_REMOTE_WRITE))
		return -EINVAL;
	if (source->size_bytes > INT64_MAX || source->fd_offset > INT64_MAX)
		return -EINVAL;
	/* Who reads our memory maps it. (Who writes to it does not: we pull.) */
	if ((rights & FAR_RIGHT_REMOTE_READ) && source->fd < 0)
		return -EOPNOTSUPP;
	mem = far_zalloc(sizeof(*mem));
	if (mem == NULL)
		return -ENOMEM;
	mem->fd = -1;
	if (source->fd >= 0 && (rights & (FAR_RIGHT_LOCAL | FAR_RIGHT_REMOTE_READ))) {
		rc = descriptor_dup(source, &mem->fd);
		if (rc < 0)
			goto fail;
	}
	rc = slot_find(tp, &mem->slot);
	if (rc < 0)
		goto fail;
	mem->region = ++tp->id_last;
	rc = far_shm_table_put(&tp->mems, mem->region, mem);
	if (rc < 0)
		goto fail;
	tp->slots[mem->slot] = mem;
	mem->fd_offset = source->fd_offset;
	mem->only_id = only == NULL ? 0 : SHM_LINK(only)->id;
	mem->mem = (struct far_mem){
		.tp = ftp,
		.base = source->base,
		.size_bytes = source->size_bytes,
		.rights = rights,
		.remote = {.addr = 0, .rkey = far_shm_rkey_make(tp->nonce, mem->region)},
	};
	*out = &mem->mem;
	return 0;

fail:
	if (mem->fd >= 0)
		(void)close(mem->fd);
	far_free(mem);
	return rc;
}

void
far_shm_mem_dereg(struct far_mem *fmem)
{
	struct shm_mem *mem = FAR_CONTAINER_OF(fmem, struct shm_mem, mem);
	struct shm_transport *tp = SHM_TP(fmem->tp);
	void *taken;

	if (far_shm_is_child(tp))
		return;
	FAR_ASSERT(mem->ops == 0);
	/* The owner pulls: from here on no pull finds the region. */
	taken = far_shm_table_take(&tp->mems, mem->region);
	FAR_ASSERT(taken == mem);
	tp->slots[mem->slot] = NULL;
	for (struct far_list *it = tp->links.next; it != &tp->links; it = it->next) {
		struct shm_link *link = FAR_CONTAINER_OF(it, struct shm_link, all_node);
		struct shm_frame_mem_gone gone = {.region = mem->region};

		if (far_bitmap_test(&link->pending, mem->slot))
			link->pending_count--;
		else if (link->link.up && far_bitmap_test(&link->announced, mem->slot))
			/* Without room the peer keeps its mapping until the link ends. */
			(void)far_shm_frame_push(link, SHM_FRAME_MEM_GONE, &gone, sizeof(gone));
		far_bitmap_clear(&link->pending, mem->slot);
		far_bitmap_clear(&link->announced, mem->slot);
		far_bitmap_clear(&link->exposed, mem->slot);
	}
	if (mem->fd >= 0)
		(void)close(mem->fd);
	far_free(mem);
}

void
far_shm_mem_announce(struct shm_link *link, struct shm_mem *mem)
{
	if (far_bitmap_test(&link->announced, mem->slot))
		return;
	far_bitmap_set(&link->announced, mem->slot);
	far_bitmap_set(&link->pending, mem->slot);
	link->pending_count++;
}

int
far_shm_mem_expose(struct far_mem *fmem, struct far_link *flink)
{
	struct shm_mem *mem = FAR_CONTAINER_OF(fmem, struct shm_mem, mem);
	struct shm_link *link = SHM_LINK(flink);

	if (far_shm_is_child(SHM_TP(flink->tp)))
		return -EPERM;
	FAR_ASSERT(fmem->rights & (FAR_RIGHT_REMOTE_READ | FAR_RIGHT_REMOTE_WRITE));
	if (!flink->up)
		return -ENOTCONN;
	/* Another link's alone: its name may be handed round, its use may not. */
	if (mem->only_id != 0 && mem->only_id != link->id)
		return 0;
	far_bitmap_set(&link->exposed, mem->slot);
	far_shm_mem_announce(link, mem);
	(void)far_shm_flush(link);
	return flink->up ? 0 : -ENOTCONN;
}

/* ---- the peer's regions ---- */

/* Any thread. */
static void
mapping_release(struct far_mapped *mapped)
{
	struct shm_mapping *mapping = FAR_CONTAINER_OF(mapped, struct shm_mapping, mapped);

	if (atomic_fetch_sub_explicit(&mapping->holds, 1, memory_order_acq_rel) != 1)
		return;
	if (mapping->is_file)
		(void)munmap(mapping->pages.base, mapping->pages.size_bytes);
	else
		far_pages_unmap(&mapping->pages);
	far_free(mapping);
}

/* Maps a whole file of the peer's. @fd is taken. */
static int
mapping_open(struct shm_link *link, int fd, const struct stat *st, struct shm_mapping **out)
{
	struct shm_mapping *mapping = far_zalloc(sizeof(*mapping));
	int flags = fcntl(fd, F_GETFL);
	int rc = -EPERM;

	if (mapping == NULL) {
		(void)close(fd);
		return -ENOMEM;
	}
	if (memfd_is_safe(fd, st)) {
		rc = far_pages_map_peer(fd, (size_t)st->st_size, false, &mapping->pages);
	} else if (link->connector && file_is_backing(st) && flags >= 0 &&
		   (flags & O_ACCMODE) == O_RDONLY) {
		void *base = far_pages_mmap((size_t)st->st_size, PROT_READ, fd);

		rc = base == MAP_FAILED ? -ENOMEM : 0;
		if (rc == 0) {
			mapping->is_file = true;
			mapping->pages = (struct far_pages){
				.base = base, .size_bytes = (size_t)st->st_size, .fd = -1};
			(void)madvise(base, (size_t)st->st_size, MADV_DONTFORK);
		}
		(void)close(fd);
	} else {
		(void)close(fd);
	}
	if (rc < 0) {
		far_free(mapping);
		return rc;
	}
	mapping->dev = st->st_dev;
	mapping->ino = st->st_ino;
	mapping->mapped = (struct far_mapped){
		.base = mapping->pages.base,
		.size_bytes = mapping->pages.size_bytes,
		.release = mapping_release,
	};
	atomic_init(&mapping->holds, 1);
	far_list_push_back(&link->mappings, &mapping->node);
	*out = mapping;
	return 0;
}

/* The link has no region in it any more. */
static void
mapping_close(struct shm_mapping *mapping)
{
	FAR_ASSERT(mapping->regions == 0);
	far_list_remove(&mapping->node);
	mapping_release(&mapping->mapped);
}

/* Regions of one file share a mapping. @fd is taken. */
static int
mapping_get(struct shm_link *link, int fd, uint64_t end, struct shm_mapping **out)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_size < 0 || end > (uint64_t)st.st_size) {
		(void)close(fd);
		return -EPROTO;
	}
	for (struct far_list *it = link->mappings.next; it != &link->mappings; it = it->next) {
		struct shm_mapping *mapping = FAR_CONTAINER_OF(it, struct shm_mapping, node);

		/* A file may have grown since; a memfd that passed the checks may too. */
		if (mapping->dev == st.st_dev && mapping->ino == st.st_ino &&
		    end <= mapping->pages.size_bytes) {
			(void)close(fd);
			*out = mapping;
			return 0;
		}
	}
	return mapping_open(link, fd, &st, out);
}

int
far_shm_region_add(struct shm_link *link, const struct shm_frame_mem *frame, int fd)
{
	struct shm_region *region;
	int rc;

	/* Ids never repeat, and the bound is far beyond what a donor lends. */
	if (frame->region == 0 || far_shm_region_find(link, frame->region) != NULL ||
	    link->regions.count >= SHM_REGIONS_MAX) {
		if (fd >= 0)
			(void)close(fd);
		return -EPROTO;
	}
	region = far_zalloc(sizeof(*region));
	if (region == NULL) {
		if (fd >= 0)
			(void)close(fd);
		return -ENOMEM;
	}
	far_list_init(&region->node);
	region->region = frame->region;
	region->size_bytes = frame->size_bytes;
	region->rights = frame->rights;
	if (fd >= 0) {
		rc = mapping_get(link, fd, frame->fd_offset + frame->size_bytes, &region->mapping);
		if (rc < 0)
			goto fail;
		region->mapping->regions++;
		region->base = (const uint8_t *)region->mapping->pages.base + frame->fd_offset;
		if (region->rights & FAR_RIGHT_REMOTE_READ)
			far_list_push_back(&link->faulting, &region->node);
	}
	rc = far_shm_table_put(&link->regions, region->region, region);
	if (rc < 0)
		goto fail;
	return 0;

fail:
	far_list_remove(&region->node);
	if (region->mapping != NULL && --region->mapping->regions == 0)
		mapping_close(region->mapping);
	far_free(region);
	return rc;
}

void
far_shm_region_remove(struct shm_link *link, uint64_t id)
{
	struct shm_region *region = far_shm_table_take(&link->regions, id);

	if (region == NULL)
		return;
	far_list_remove(&region->node);
	if (region->mapping != NULL && --region->mapping->regions == 0)
		mapping_close(region->mapping);
	far_free(region);
}

struct shm_region *
far_shm_region_find(struct shm_link *link, uint64_t id)
{
	return far_shm_table_find(&link->regions, id);
}

bool
far_shm_regions_fault(struct shm_link *link)
{
	struct shm_region *region;
	uintptr_t at, page;
	size_t size;

	if (far_list_empty(&link->faulting))
		return false;
	region = FAR_CONTAINER_OF(link->faulting.next, struct shm_region, node);
	size = (size_t)region->size_bytes - region->faulted_bytes;
	if (size > FAULT_SLICE_BYTES)
		size = FAULT_SLICE_BYTES;
	at = (uintptr_t)region->base + region->faulted_bytes;
	page = at % 4096;
	region->faulted_bytes += size;
	/* A help only: what is not there yet is faulted in when it is read. */
	if (madvise((void *)(at - page), size + page, MADV_POPULATE_READ) < 0 ||
	    region->faulted_bytes == region->size_bytes)
		far_list_remove(&region->node);
	return true;
}

void
far_shm_regions_fini(struct shm_link *link)
{
	for (size_t i = 0; link->regions.entries != NULL && i <= link->regions.mask; i++) {
		struct shm_region *region = link->regions.entries[i].item;

		if (link->regions.entries[i].id == 0)
			continue;
		far_list_remove(&region->node);
		if (region->mapping != NULL && --region->mapping->regions == 0)
			mapping_close(region->mapping);
		far_free(region);
	}
	far_shm_table_fini(&link->regions);
}

void
far_shm_forget(struct far_link *flink, const struct far_rkey *rkey)
{
	struct shm_link *link = SHM_LINK(flink);
	uint64_t nonce, region;

	if (far_shm_is_child(SHM_TP(flink->tp)))
		return;
	FAR_ASSERT(!far_shm_queue_names(&link->reads, rkey));
	FAR_ASSERT(!far_shm_queue_names(&link->writes, rkey));
	far_shm_rkey_split(rkey, &nonce, &region);
	if (nonce == link->peer_nonce)
		far_shm_region_remove(link, region);
}

int
far_shm_map(struct far_link *flink, const struct far_rkey *rkey, struct far_mapped **out,
	    uint64_t *offset_out, uint64_t *size_out)
{
	struct shm_link *link = SHM_LINK(flink);
	struct shm_region *region;
	uint64_t nonce, id;

	if (far_shm_is_child(SHM_TP(flink->tp)))
		return -EPERM;
	if (!flink->up)
		return -ENOTCONN;
	far_shm_rkey_split(rkey, &nonce, &id);
	region = nonce == link->peer_nonce ? far_shm_region_find(link, id) : NULL;
	if (region == NULL)
		return -ESTALE;
	if ((region->rights & FAR_RIGHT_REMOTE_READ) == 0 || region->base == NULL)
		return -EACCES;
	atomic_fetch_add_explicit(&region->mapping->holds, 1, memory_order_relaxed);
	*out = &region->mapping->mapped;
	*offset_out = (uint64_t)(region->base - (const uint8_t *)region->mapping->pages.base);
	*size_out = region->size_bytes;
	return 0;
}

int
far_shm_control_map(int fd, struct far_pages *out)
{
	struct stat st;

	if (fd < 0)
		return -EPROTO;
	if (fstat(fd, &st) < 0 || !memfd_is_safe(fd, &st)) {
		(void)close(fd);
		return -EPERM;
	}
	return far_pages_map_peer(fd, sizeof(struct shm_control), true, out);
}
