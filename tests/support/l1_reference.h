/* l1_reference.h - what L1 promises, on arrays with linear search, for random histories. */
#ifndef FAR_TESTS_SUPPORT_L1_REFERENCE_H
#define FAR_TESTS_SUPPORT_L1_REFERENCE_H

#include "l1/l1.h"

#define REF_UNITS    32u
#define REF_UNIT     64u
#define REF_BLOCKS   (REF_UNITS + 1)
#define REF_LOANS    64u
#define REF_SESSIONS 6u
#define REF_TOLD     512u
#define REF_BATCH    6u
#define REF_NOBODY   UINT32_MAX

enum ref_name { REF_WRITTEN, REF_PREFETCHED, REF_ACCESSED, REF_DELETED };

struct ref_event {
	enum ref_name name;
	enum far_l1_why why;
	uint64_t key;
	uint64_t loan; /* of a written block that is held */
};

enum ref_kind { REF_NONE, REF_WRITE, REF_READ };

struct ref_loan {
	enum ref_kind kind;
	uint64_t handle; /* kept when it is over */
	uint32_t block;
	uint32_t counts;
	far_l1_session session;
	uint64_t since_ns;
};

/* Lives on without its key while loans name its memory. */
struct ref_block {
	bool used, tabled, writing, temporary;
	uint32_t readers;
	uint64_t key;
	uint64_t stamp; /* of its last use */
	uint32_t first; /* unit */
	uint32_t units;
	uint32_t size_bytes;
	uint8_t fill;
};

struct ref {
	struct ref_block blocks[REF_BLOCKS];
	struct ref_loan loans[REF_LOANS];
	far_l1_session open[REF_SESSIONS]; /* 0: none */
	far_l1_session holder;             /* of the listener that holds; 0: none */
	uint32_t loans_max;                /* less than REF_LOANS */
	uint32_t loan_next;
	bool never_evicts;
	uint64_t stamp;
	uint64_t now_ns;
	/* What the last operation has to tell. */
	struct ref_event told[REF_TOLD];
	uint32_t told_count;
};

/* The same for all: expected codes go to @rcs. What is L1's free choice (handles of new loans,
 * where a block lies, whom it evicts) is read from what L1 answered, and judged by the caller. */
uint32_t ref_find(const struct ref *ref, uint64_t key);
bool ref_locked(const struct ref_block *block);
bool ref_is_open(const struct ref *ref, far_l1_session session);
uint32_t ref_loan_count(const struct ref *ref);
void ref_tell(struct ref *ref, enum ref_name name, enum far_l1_why why, uint64_t key);

/* Codes that need no memory, of all keys; true for those that have to be spared. */
void ref_wants(const struct ref *ref, const uint64_t *keys, const struct far_l1_want *wants,
	       uint32_t count, int *rcs, bool spared[REF_BLOCKS]);
struct ref_loan *ref_write(struct ref *ref, far_l1_session session, uint64_t key,
			   const struct far_l1_want *want, const struct far_l1_grant *grant,
			   uint64_t stamp);
/* @how: 0 finish_write, 1 abort_write, 2 the flip. @held: the loans that the holder was given. */
void ref_finish(struct ref *ref, uint32_t how, far_l1_session session, const uint64_t *handles,
		uint32_t count, uint32_t readers, far_l1_session reader, const uint64_t *held,
		int *rcs);
void ref_reserve_read(struct ref *ref, far_l1_session session, const uint64_t *keys,
		      const uint32_t *sizes, uint32_t count, uint32_t readers, bool prefix,
		      const struct far_l1_grant *grants, int *rcs);
void ref_finish_read(struct ref *ref, far_l1_session session, const uint64_t *handles,
		     uint32_t count, uint32_t readers, int *rcs);
/* 0 and the loan, or -EPERM, -EBADF; REF_NONE: of any kind. */
int ref_loan(struct ref *ref, far_l1_session session, uint64_t handle, enum ref_kind kind,
	     struct ref_loan **out);
/* far_l1_let_go() and far_l1_retain(). */
int ref_mark(struct ref *ref, far_l1_session session, uint64_t handle, bool temporary);
int ref_delete(struct ref *ref, uint64_t key, bool force, enum far_l1_why why);
void ref_touch(struct ref *ref, const uint64_t *keys, uint32_t count);
void ref_evict(struct ref *ref, uint32_t block);
void ref_close(struct ref *ref, far_l1_session session);

#endif
