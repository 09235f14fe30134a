/* store_policy.c - parts by name, composed into one policy; all of them but admission. */
#include "controllers/store_policy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ADMIT_AFTER_MAX 200U
#define ADMIT_KEYS_MIN  64U
#define ADMIT_KEYS_MAX  (1U << 24)

/* ---- what the parts answer ---- */

bool
far_store_written_yes(struct far_store_policy *policy, const struct far_key *key)
{
	(void)policy;
	(void)key;
	return true;
}

bool
far_store_hit_no(struct far_store_policy *policy, const struct far_key *key)
{
	(void)policy;
	(void)key;
	return false;
}

void
far_store_key_ignored(struct far_store_policy *policy, const struct far_key *key)
{
	(void)policy;
	(void)key;
}

bool
far_store_keep_yes(const struct far_store_policy *policy, const struct far_key *key)
{
	(void)policy;
	(void)key;
	return true;
}

static bool
keep_no(const struct far_store_policy *policy, const struct far_key *key)
{
	(void)policy;
	(void)key;
	return false;
}

uint32_t
far_store_place_default(const struct far_store_policy *policy, const struct far_l2_set *set,
			const struct far_key *key, uint32_t *idx_out, uint32_t max)
{
	return policy->placement->place(policy->placement, set, key, idx_out, max);
}

static uint32_t
place_rendezvous(const struct far_store_policy *policy, const struct far_l2_set *set,
		 const struct far_key *key, uint32_t *idx_out, uint32_t max)
{
	return far_policy_placement.place(&policy->rendezvous, set, key, idx_out, max);
}

/* ---- composing ---- */

static const struct far_store_policy_ops *const parts[] = {
	&far_store_policy_default,
	&far_store_policy_placement,
	&far_store_policy_skip_l1,
	&far_store_policy_admit_after_n,
};

static const struct far_store_policy_ops *
part_find(const char *name, size_t length)
{
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (strlen(parts[i]->name) == length && memcmp(parts[i]->name, name, length) == 0)
			return parts[i];
	}
	return NULL;
}

const char *
far_store_policy_names(void)
{
	return "default, placement, skip_l1, admit_after_n";
}

static int
part_add(struct far_store_policy *policy, const char *name, size_t length, uint32_t *given,
	 char *error)
{
	const struct far_store_policy_ops *part = part_find(name, length);

	if (part == NULL) {
		(void)snprintf(error, FAR_STORE_POLICY_ERROR_BYTES,
			       "no store policy '%.*s': known are %s",
			       (int)(length < 64 ? length : 64), name, far_store_policy_names());
		return -EINVAL;
	}
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (parts[i] != part)
			continue;
		if ((*given >> i & 1) != 0) {
			(void)snprintf(error, FAR_STORE_POLICY_ERROR_BYTES,
				       "store policy '%s' is given twice", part->name);
			return -EINVAL;
		}
		*given |= 1U << i;
	}
	if ((part->answers & FAR_STORE_ADMITS) != 0)
		policy->admits = part;
	if ((part->answers & FAR_STORE_PLACES) != 0)
		policy->places = part;
	if ((part->answers & FAR_STORE_KEEPS) != 0)
		policy->keeps = part;
	return 0;
}

static int
parts_add(struct far_store_policy *policy, const char *text, char *error)
{
	uint32_t given = 0;

	for (const char *at = text;; at++) {
		const char *end;
		size_t length;
		int rc;

		at += strspn(at, " ");
		end = strchrnul(at, ',');
		length = (size_t)(end - at);
		while (length > 0 && at[length - 1] == ' ')
			length--;
		rc = part_add(policy, at, length, &given, error);
		if (rc < 0)
			return rc;
		if (*end == '\0')
			return 0;
		at = end;
	}
}

static int
bound_check(const char *name, uint64_t value, uint64_t min, uint64_t max, char *error)
{
	if (value >= min && value <= max)
		return 0;
	(void)snprintf(error, FAR_STORE_POLICY_ERROR_BYTES, "%s is %llu: %llu to %llu are allowed",
		       name, (unsigned long long)value, (unsigned long long)min,
		       (unsigned long long)max);
	return -EINVAL;
}

int
far_store_policy_init(struct far_store_policy *policy, const struct far_store_policy_config *config,
		      char error[FAR_STORE_POLICY_ERROR_BYTES])
{
	struct far_store_policy made = {
		.admits = &far_store_policy_default,
		.places = &far_store_policy_default,
		.keeps = &far_store_policy_default,
		.placement = config->placement,
	};
	int rc;

	FAR_ASSERT(config->placement != NULL);
	rc = parts_add(&made, config->text != NULL ? config->text : "default", error);
	if (rc < 0)
		return rc;
	if (made.places == &far_store_policy_placement) {
		rc = bound_check("replicas", config->replicas, 1, FAR_L2_SET_MAX, error);
		if (rc < 0)
			return rc;
		made.rendezvous = (struct far_policy){
			.place = far_policy_placement.place,
			.replicas = config->replicas,
		};
	}
	if (made.admits == &far_store_policy_admit_after_n) {
		rc = bound_check("admit_after", config->admit_after, 1, ADMIT_AFTER_MAX, error);
		if (rc == 0)
			rc = bound_check("admit_keys", config->admit_keys, ADMIT_KEYS_MIN,
					 ADMIT_KEYS_MAX, error);
		if (rc < 0)
			return rc;
		rc = far_store_uses_open(config->admit_keys, config->admit_after, &made.uses);
		if (rc < 0) {
			(void)snprintf(error, FAR_STORE_POLICY_ERROR_BYTES,
				       "no memory for the uses of %u keys", config->admit_keys);
			return rc;
		}
	}
	*policy = made;
	return 0;
}

void
far_store_policy_fini(struct far_store_policy *policy)
{
	far_store_uses_close(policy->uses);
	*policy = (struct far_store_policy){0};
}

uint64_t
far_store_policy_forgotten(const struct far_store_policy *policy)
{
	return policy->uses != NULL ? far_store_uses_forgotten(policy->uses) : 0;
}

const struct far_store_policy_ops far_store_policy_default = {
	.name = "default",
	.text = "everything at once, where the client's placement says; L1 keeps it",
	.answers = FAR_STORE_ADMITS | FAR_STORE_PLACES | FAR_STORE_KEEPS,
	.written = far_store_written_yes,
	.hit = far_store_hit_no,
	.put_off = far_store_key_ignored,
	.forget = far_store_key_ignored,
	.confirm = far_store_hit_no,
	.place = far_store_place_default,
	.keep = far_store_keep_yes,
};

const struct far_store_policy_ops far_store_policy_placement = {
	.name = "placement",
	.text = "on as many donors as replicas says, by weighted rendezvous hashing",
	.answers = FAR_STORE_PLACES,
	.written = far_store_written_yes,
	.hit = far_store_hit_no,
	.put_off = far_store_key_ignored,
	.forget = far_store_key_ignored,
	.confirm = far_store_hit_no,
	.place = place_rendezvous,
	.keep = far_store_keep_yes,
};

const struct far_store_policy_ops far_store_policy_skip_l1 = {
	.name = "skip_l1",
	.text = "L1 gives a block up once it is stored wherever it should be",
	.answers = FAR_STORE_KEEPS,
	.written = far_store_written_yes,
	.hit = far_store_hit_no,
	.put_off = far_store_key_ignored,
	.forget = far_store_key_ignored,
	.confirm = far_store_hit_no,
	.place = far_store_place_default,
	.keep = keep_no,
};
