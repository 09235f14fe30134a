/* fault.h - an adapter around another one that fails, delays, keeps or spoils what was chosen. */
#ifndef FAR_L2_FAULT_FAULT_H
#define FAR_L2_FAULT_FAULT_H

#include "l2/l2.h"

#define FAR_L2_FAULT_RULES_MAX 16

enum far_l2_fault_action {
	FAR_L2_FAULT_FAIL,    /* items end with rc, whatever the store did; loads leave garbage */
	FAR_L2_FAULT_CORRUPT, /* LOAD: one byte of the item is another */
	FAR_L2_FAULT_SHORT,   /* LOOKUP: half the length; LOAD: half the bytes, and -EMSGSIZE */
	FAR_L2_FAULT_DROP,    /* the task keeps its buffers until cancel or quiesce: -ECANCELED */
	FAR_L2_FAULT_DELAY,   /* the task ends so much later, whatever its deadline says */
};

/* Chooses items; all that is set must match. DROP and DELAY strike a task that has a chosen item. */
struct far_l2_fault_rule {
	uint32_t kinds; /* bits 1 << FAR_L2_LOOKUP and so on; 0: all */
	enum far_l2_fault_action action;
	uint64_t delay_ns; /* DELAY */
	double rate;       /* share of keys, by seed and key alone; 0: all */
	double tail;       /* the last so large a share of a task's items; 0: all */
	uint32_t head;     /* the first so many of them; 0: all */
	uint32_t times;    /* strikes so often; 0: always */
	int rc;            /* FAIL: a listed error */
	struct far_key key;
	bool keyed; /* this key only */
};

/* For the registry: config->inner, faults and seed. */
int far_l2_fault_open(const struct far_l2_config *config, const struct far_l2_env *env,
		      struct far_l2 **out, char error[256]);
/**
 * far_l2_fault_parse - rules from words: "load+lookup:fail=EIO,rate=0.1;load:delay=5ms,times=3".
 *
 * @text:  rules, separated by ';'; l2/fault/README.md has the words.
 * @rules: room for FAR_L2_FAULT_RULES_MAX.
 * @error: one line on failure, with the position of the rule and the word.
 *
 * Thread:  any.
 * Returns: 0, or -EINVAL.
 */
int far_l2_fault_parse(const char *text, struct far_l2_fault_rule *rules, uint32_t *count_out,
		       char error[160]);

/* Takes @inner, which goes with it. Its limits are @inner's. Name and weight are the caller's to set.
 * Returns 0, -ENOMEM (@inner is still the caller's). */
int far_l2_fault_wrap(struct far_l2 *inner, struct far_clock *clock, uint64_t seed,
		      struct far_l2 **out);
/* 0, -EINVAL (contradicts itself), -E2BIG. The first rule that chooses an item or a task decides. */
int far_l2_fault_add(struct far_l2 *l2, const struct far_l2_fault_rule *rule);
/* No more faults; dropped tasks stay dropped. */
void far_l2_fault_clear(struct far_l2 *l2);
/* How often the actions struck since open. */
uint64_t far_l2_fault_count(const struct far_l2 *l2, enum far_l2_fault_action action);

#endif
