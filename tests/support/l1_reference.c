/* l1_reference.c - the reference of L1: no concurrency, no index, no memory of its own. */
#include "tests/support/l1_reference.h"

#include <string.h>

#include "base/assert.h"
#include "base/err.h"

uint32_t
ref_find(const struct ref *ref, uint64_t key)
{
	for (uint32_t i = 0; i < REF_BLOCKS; i++)
		if (ref->blocks[i].used && ref->blocks[i].tabled && ref->blocks[i].key == key)
			return i;
	return REF_NOBODY;
}

bool
ref_locked(const struct ref_block *block)
{
	return block->writing || block->readers > 0;
}

bool
ref_is_open(const struct ref *ref, far_l1_session session)
{
	for (uint32_t i = 0; i < REF_SESSIONS; i++)
		if (session != 0 && ref->open[i] == session)
			return true;
	return false;
}

uint32_t
ref_loan_count(const struct ref *ref)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < REF_LOANS; i++)
		count += ref->loans[i].kind != REF_NONE;
	return count;
}

void
ref_tell(struct ref *ref, enum ref_name name, enum far_l1_why why, uint64_t key)
{
	FAR_ASSERT(ref->told_count < REF_TOLD);
	ref->told[ref->told_count++] = (struct ref_event){.name = name, .why = why, .key = key};
}

static struct ref_loan *
loan_new(struct ref *ref, enum ref_kind kind, uint64_t handle, uint32_t block, uint32_t counts,
	 far_l1_session session)
{
	uint32_t i = ref->loan_next;

	/* In turn, so that old handles can be tried for a while. */
	while (ref->loans[i].kind != REF_NONE)
		i = (i + 1) % REF_LOANS;
	ref->loan_next = (i + 1) % REF_LOANS;
	ref->loans[i] = (struct ref_loan){kind, handle, block, counts, session, ref->now_ns};
	return &ref->loans[i];
}

int
ref_loan(struct ref *ref, far_l1_session session, uint64_t handle, enum ref_kind kind,
	 struct ref_loan **out)
{
	if (!ref_is_open(ref, session))
		return -EPERM;
	for (uint32_t i = 0; i < REF_LOANS; i++) {
		struct ref_loan *loan = &ref->loans[i];

		if (loan->kind == REF_NONE || loan->handle != handle ||
		    (kind != REF_NONE && loan->kind != kind))
			continue;
		*out = loan;
		return loan->session == session ? 0 : -EPERM;
	}
	return -EBADF;
}

/* Whoever ends the last loan of a block that has no key any more frees it; a temporary loses its
 * key. */
static void
block_let_go(struct ref *ref, struct ref_block *block)
{
	if (ref_locked(block))
		return;
	if (block->tabled && block->temporary) {
		ref_tell(ref, REF_DELETED, FAR_L1_WHY_TEMPORARY, block->key);
		block->tabled = false;
	}
	block->used = block->tabled;
}

void
ref_wants(const struct ref *ref, const uint64_t *keys, const struct far_l1_want *wants,
	  uint32_t count, int *rcs, bool spared[REF_BLOCKS])
{
	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = ref_find(ref, keys[i]);

		rcs[i] = 0;
		if (far_key_is_zero(&wants[i].key) || wants[i].size_bytes == 0 ||
		    wants[i].size_bytes > REF_UNITS * REF_UNIT ||
		    (wants[i].flags & ~FAR_L1_TEMPORARY) != 0) {
			rcs[i] = -EINVAL;
		} else if (at != REF_NOBODY) {
			rcs[i] = -EEXIST;
			spared[at] = true;
		}
	}
}

struct ref_loan *
ref_write(struct ref *ref, far_l1_session session, uint64_t key, const struct far_l1_want *want,
	  const struct far_l1_grant *grant, uint64_t stamp)
{
	uint32_t at = 0;

	while (ref->blocks[at].used)
		at++;
	FAR_ASSERT(at < REF_BLOCKS);
	ref->blocks[at] = (struct ref_block){
		.used = true,
		.tabled = true,
		.writing = true,
		.temporary = want->flags != 0,
		.key = key,
		.stamp = stamp,
		.first = (uint32_t)(grant->offset_bytes / REF_UNIT),
		.units = (want->size_bytes + REF_UNIT - 1) / REF_UNIT,
		.size_bytes = want->size_bytes,
	};
	return loan_new(ref, REF_WRITE, grant->loan, at, 0, session);
}

void
ref_finish(struct ref *ref, uint32_t how, far_l1_session session, const uint64_t *handles,
	   uint32_t count, uint32_t readers, far_l1_session reader, const uint64_t *held, int *rcs)
{
	uint64_t stamp = ref->stamp += count;

	for (uint32_t i = 0; i < count; i++) {
		struct ref_loan *loan = NULL;
		struct ref_block *block;
		bool hold;

		rcs[i] = ref_loan(ref, session, handles[i], REF_WRITE, &loan);
		if (how == 2 && (readers == 0 || readers > UINT16_MAX))
			rcs[i] = -EINVAL;
		else if (how == 2 && !ref_is_open(ref, reader))
			rcs[i] = -EPERM;
		if (rcs[i] != 0)
			continue;
		block = &ref->blocks[loan->block];
		block->writing = false;
		loan->kind = REF_NONE;
		if (how == 1 || !block->tabled) {
			rcs[i] = how == 1 ? 0 : -ENOENT;
			block->used = false;
			continue;
		}
		block->stamp = stamp - i;
		hold = how == 0 && !block->temporary && ref_is_open(ref, ref->holder);
		if (how == 2 || !block->temporary)
			ref_tell(ref, how == 2 ? REF_PREFETCHED : REF_WRITTEN, FAR_L1_WHY_EVICTED,
				 block->key);
		if (how == 0 && !hold)
			continue;
		block->readers = hold ? 1 : readers;
		*loan = (struct ref_loan){
			REF_READ,       hold ? *held++ : loan->handle, loan->block,
			block->readers, hold ? ref->holder : reader,   ref->now_ns};
		ref->told[ref->told_count - 1].loan = hold ? loan->handle : 0;
	}
}

static int
read_code(const struct ref_block *block, uint64_t key, uint32_t at, const uint32_t *size)
{
	if (key == 0)
		return -EINVAL;
	if (at == REF_NOBODY || block->writing)
		return -ENOENT;
	return size != NULL && *size != block->size_bytes ? -EMSGSIZE : 0;
}

void
ref_reserve_read(struct ref *ref, far_l1_session session, const uint64_t *keys,
		 const uint32_t *sizes, uint32_t count, uint32_t readers, bool prefix,
		 const struct far_l1_grant *grants, int *rcs)
{
	uint64_t stamp = ref->stamp += count;
	uint32_t loans = ref->loans_max - ref_loan_count(ref);
	bool over = false;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = ref_find(ref, keys[i]);
		struct ref_block *block = &ref->blocks[at == REF_NOBODY ? 0 : at];

		if (readers == 0 || readers > UINT16_MAX)
			rcs[i] = -EINVAL;
		else if (!ref_is_open(ref, session))
			rcs[i] = -EPERM;
		else if (over)
			rcs[i] = -ENOENT;
		else
			rcs[i] = read_code(block, keys[i], at, sizes != NULL ? &sizes[i] : NULL);
		if (rcs[i] == 0 && loans == 0)
			rcs[i] = -ENOMEM;
		over |= prefix && rcs[i] != 0;
		if (rcs[i] != 0)
			continue;
		loans--;
		block->readers += readers;
		block->stamp = stamp - i;
		loan_new(ref, REF_READ, grants[i].loan, at, readers, session);
		ref_tell(ref, REF_ACCESSED, FAR_L1_WHY_EVICTED, keys[i]);
	}
}

void
ref_finish_read(struct ref *ref, far_l1_session session, const uint64_t *handles, uint32_t count,
		uint32_t readers, int *rcs)
{
	uint64_t stamp = ref->stamp += count;

	for (uint32_t i = 0; i < count; i++) {
		struct ref_loan *loan = NULL;
		struct ref_block *block;

		rcs[i] = readers == 0 ? -EINVAL
				      : ref_loan(ref, session, handles[i], REF_READ, &loan);
		if (rcs[i] == 0 && readers > loan->counts)
			rcs[i] = -EINVAL;
		if (rcs[i] != 0)
			continue;
		block = &ref->blocks[loan->block];
		loan->counts -= readers;
		if (loan->counts == 0)
			loan->kind = REF_NONE;
		block->readers -= readers;
		block->stamp = stamp - i;
		block_let_go(ref, block);
	}
}

int
ref_mark(struct ref *ref, far_l1_session session, uint64_t handle, bool temporary)
{
	struct ref_loan *loan = NULL;
	int rc = ref_loan(ref, session, handle, REF_NONE, &loan);

	if (rc == 0 && !ref->blocks[loan->block].tabled)
		rc = -ENOENT;
	if (rc == 0)
		ref->blocks[loan->block].temporary = temporary;
	return rc;
}

int
ref_delete(struct ref *ref, uint64_t key, bool force, enum far_l1_why why)
{
	uint32_t at = ref_find(ref, key);
	struct ref_block *block = &ref->blocks[at == REF_NOBODY ? 0 : at];

	if (key == 0)
		return -EINVAL;
	if (at == REF_NOBODY)
		return -ENOENT;
	if (ref_locked(block) && !force)
		return -EBUSY;
	if (!block->writing)
		ref_tell(ref, REF_DELETED, block->readers > 0 ? FAR_L1_WHY_FORCED : why, key);
	block->tabled = false;
	block->used = ref_locked(block);
	return 0;
}

void
ref_touch(struct ref *ref, const uint64_t *keys, uint32_t count)
{
	uint64_t stamp = ref->stamp += count;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = ref_find(ref, keys[i]);

		if (at == REF_NOBODY || ref->blocks[at].writing)
			continue;
		ref->blocks[at].stamp = stamp - i;
		ref_tell(ref, REF_ACCESSED, FAR_L1_WHY_EVICTED, keys[i]);
	}
}

void
ref_evict(struct ref *ref, uint32_t block)
{
	ref_tell(ref, REF_DELETED, FAR_L1_WHY_EVICTED, ref->blocks[block].key);
	ref->blocks[block].used = false;
}

void
ref_close(struct ref *ref, far_l1_session session)
{
	/* In an order that is not promised: all uses count the same. */
	uint64_t stamp = ++ref->stamp;

	for (uint32_t i = 0; i < REF_LOANS; i++) {
		struct ref_loan *loan = &ref->loans[i];
		struct ref_block *block = &ref->blocks[loan->block];

		if (loan->kind == REF_NONE || loan->session != session)
			continue;
		if (loan->kind == REF_WRITE) {
			*block = (struct ref_block){.used = false};
		} else {
			block->readers -= loan->counts;
			block->stamp = stamp;
			block_let_go(ref, block);
		}
		loan->kind = REF_NONE;
	}
	for (uint32_t i = 0; i < REF_SESSIONS; i++)
		if (ref->open[i] == session)
			ref->open[i] = 0;
}
