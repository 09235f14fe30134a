/* store_policy.h - is a block stored, on which adapters, and does L1 keep it: parts that answer. */
#ifndef FAR_CONTROLLERS_STORE_POLICY_H
#define FAR_CONTROLLERS_STORE_POLICY_H

#include <stdatomic.h>

#include "controllers/policy.h"

/*
 * Three questions about each finished write. A store policy is made of named parts, each of which
 * answers one or more of them: of several that answer a question the last one does, and what none of
 * them answers is left to `default`.
 *
 *   default        everything at once, on the adapters that the client's placement names; L1 keeps it
 *   placement      on `replicas` adapters by weighted rendezvous hashing, whatever the client's is
 *   skip_l1        L1 gives it up once every adapter that was to get it has it, and readers are gone
 *   admit_after_n  not before its n-th use: finished writes and reads of it count, in bounded memory
 */
#define FAR_STORE_ADMITS 1U
#define FAR_STORE_PLACES 2U
#define FAR_STORE_KEEPS  4U

struct far_store_policy;

/* A part decides; it never copies, waits or fails. Entries of questions that it does not answer are
 * never called, and are those of the default. */
struct far_store_policy_ops {
	const char *name; /* also the word in the configuration */
	const char *text; /* one clause for people */
	uint32_t answers; /* FAR_STORE_* */
	bool counts_hits; /* wants hit() and forget() to be called */

	/* Admission. Any thread: these two may run beside each other and themselves. */
	/* A write of the key was finished: whether it is stored now. */
	bool (*written)(struct far_store_policy *policy, const struct far_key *key);
	/* It was read, and is in L1: whether it is to be stored now, though it was not when written. True
	 * once, until put_off(). */
	bool (*hit)(struct far_store_policy *policy, const struct far_key *key);
	/* Not now: the queue is full. The next hit() answers anew. Any thread. */
	void (*put_off)(struct far_store_policy *policy, const struct far_key *key);
	/* Its bytes came from an adapter: never stored back. Any thread. */
	void (*forget)(struct far_store_policy *policy, const struct far_key *key);
	/* Whether what hit() wanted is still wanted; forgets it. Owner. */
	bool (*confirm)(struct far_store_policy *policy, const struct far_key *key);

	/* Which adapters get it, best first; how many of @max were written. Owner. */
	uint32_t (*place)(const struct far_store_policy *policy, const struct far_l2_set *set,
			  const struct far_key *key, uint32_t *idx_out, uint32_t max);
	/* Every adapter that was to get it has it: whether L1 keeps it. Owner. */
	bool (*keep)(const struct far_store_policy *policy, const struct far_key *key);
};

struct far_store_uses;

/* Fields are the parts' own. */
struct far_store_policy {
	const struct far_store_policy_ops *admits;
	const struct far_store_policy_ops *places;
	const struct far_store_policy_ops *keeps;
	const struct far_policy *placement; /* borrowed: the client's */
	struct far_policy rendezvous;       /* of `placement` */
	struct far_store_uses *uses;        /* of `admit_after_n`; owned, else NULL */
};

struct far_store_policy_config {
	const char *text; /* names, separated by commas, each once; NULL: "default" */
	const struct far_policy *placement; /* the client's; borrowed, outlives the policy */
	uint32_t replicas;                  /* of `placement`: 1.. */
	uint32_t admit_after;               /* n of `admit_after_n`: 1..200 */
	uint32_t
		admit_keys; /* keys whose uses it counts, 8 bytes each: 64..2^24, rounded up to a power
			      * of two */
};

#define FAR_STORE_POLICY_ERROR_BYTES 256

/* May be called from any thread before it is used. Returns 0, or -EINVAL with one line in @error (an
 * unknown name lists the known ones; a name twice; a number out of range), -ENOMEM. Nothing is left
 * behind on failure. */
int far_store_policy_init(struct far_store_policy *policy,
			  const struct far_store_policy_config *config,
			  char error[FAR_STORE_POLICY_ERROR_BYTES]);
/* The controller that used it is closed. Takes a zeroed one. */
void far_store_policy_fini(struct far_store_policy *policy);

/* "default, placement, skip_l1, admit_after_n" */
const char *far_store_policy_names(void);
/* Keys whose uses were forgotten for others' before they were admitted; 0 without admit_after_n. Thread:
 * any. */
uint64_t far_store_policy_forgotten(const struct far_store_policy *policy);

extern const struct far_store_policy_ops far_store_policy_default;
extern const struct far_store_policy_ops far_store_policy_placement;
extern const struct far_store_policy_ops far_store_policy_skip_l1;
extern const struct far_store_policy_ops far_store_policy_admit_after_n;

/* What a part that does not answer a question has there. */
bool far_store_written_yes(struct far_store_policy *policy, const struct far_key *key);
bool far_store_hit_no(struct far_store_policy *policy, const struct far_key *key);
void far_store_key_ignored(struct far_store_policy *policy, const struct far_key *key);
bool far_store_keep_yes(const struct far_store_policy *policy, const struct far_key *key);
uint32_t far_store_place_default(const struct far_store_policy *policy,
				 const struct far_l2_set *set, const struct far_key *key,
				 uint32_t *idx_out, uint32_t max);

/* store_admit.c */
int far_store_uses_open(uint32_t keys, uint32_t admit_after, struct far_store_uses **out);
void far_store_uses_close(struct far_store_uses *uses);
uint64_t far_store_uses_forgotten(const struct far_store_uses *uses);

#endif
