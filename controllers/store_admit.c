/* store_admit.c - admission after n uses: counts of keys in a table that forgets, without locks. */
#include <errno.h>
#include <stdatomic.h>

#include "base/alloc.h"
#include "controllers/store_policy.h"

/*
 * A set-associative table: a bucket of eight words is one line of the cache, chosen by one half of the key;
 * a word is {52 bits of the other half, era, uses}. So two keys are taken for one with a chance of about
 * 2^-60 per pair, which makes one of them stored a use too early; no byte depends on it. An era is half a
 * table of new keys. What was not used for ERAS_MAX eras has no uses; where a bucket is full, the key that
 * was used longest ago gives way.
 *
 * uses == n: a hit wants it stored, the owner has not taken it yet.
 */
#define WAYS        8U
#define USES_MASK   0xffULL
#define ERA_SHIFT   8
#define ERA_MASK    0xfULL
#define ERAS_MAX    8U
#define PRINT_SHIFT 12
#define TRIES_MAX   8
#define LINE_BYTES  64

struct uses_bucket {
	_Alignas(LINE_BYTES) _Atomic uint64_t words[WAYS]; /* 0: free */
};

struct far_store_uses {
	_Alignas(LINE_BYTES) _Atomic uint64_t added;
	_Atomic uint64_t forgotten;
	struct uses_bucket *buckets;
	uint64_t mask;
	uint32_t admit_after;
	uint32_t era_shift; /* new keys >> this: the era */
};

int
far_store_uses_open(uint32_t keys, uint32_t admit_after, struct far_store_uses **out)
{
	struct far_store_uses *uses = far_zalloc_aligned(LINE_BYTES, sizeof(*uses));
	uint64_t buckets = 1;

	if (uses == NULL)
		return -ENOMEM;
	uses->era_shift = 2;
	while (buckets * WAYS < keys) {
		buckets *= 2;
		uses->era_shift++;
	}
	uses->mask = buckets - 1;
	uses->admit_after = admit_after;
	uses->buckets = far_zalloc_aligned(LINE_BYTES, buckets * sizeof(*uses->buckets));
	if (uses->buckets == NULL) {
		far_free(uses);
		return -ENOMEM;
	}
	*out = uses;
	return 0;
}

void
far_store_uses_close(struct far_store_uses *uses)
{
	if (uses == NULL)
		return;
	far_free(uses->buckets);
	far_free(uses);
}

uint64_t
far_store_uses_forgotten(const struct far_store_uses *uses)
{
	return atomic_load_explicit(&uses->forgotten, memory_order_relaxed);
}

/* No word names data: relaxed throughout. */
static uint64_t
word_get(_Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static bool
word_set(_Atomic uint64_t *word, uint64_t from, uint64_t to)
{
	return atomic_compare_exchange_strong_explicit(word, &from, to, memory_order_relaxed,
						       memory_order_relaxed);
}

/* Never 0: a word that is taken is not 0 either. */
static uint64_t
print_of(const struct far_key *key)
{
	uint64_t print = far_key_hi(key) >> PRINT_SHIFT;

	return print != 0 ? print : 1;
}

static uint64_t
era_now(const struct far_store_uses *uses)
{
	return (word_get((_Atomic uint64_t *)(uintptr_t)&uses->added) >> uses->era_shift) &
	       ERA_MASK;
}

static uint32_t
word_age(uint64_t word, uint64_t era)
{
	return (uint32_t)((era - (word >> ERA_SHIFT)) & ERA_MASK);
}

static uint32_t
word_uses(uint64_t word, uint64_t era)
{
	return word_age(word, era) < ERAS_MAX ? (uint32_t)(word & USES_MASK) : 0;
}

static uint64_t
word_make(uint64_t print, uint64_t era, uint32_t count)
{
	return print << PRINT_SHIFT | era << ERA_SHIFT | count;
}

static _Atomic uint64_t *
word_find(struct far_store_uses *uses, const struct far_key *key, uint64_t *word_out)
{
	struct uses_bucket *bucket = &uses->buckets[far_key_lo(key) & uses->mask];

	for (uint32_t i = 0; i < WAYS; i++) {
		*word_out = word_get(&bucket->words[i]);
		if (*word_out >> PRINT_SHIFT == print_of(key))
			return &bucket->words[i];
	}
	return NULL;
}

/* A word for a new key: a free one, or that of the key that was used longest ago. */
static _Atomic uint64_t *
word_victim(struct far_store_uses *uses, const struct far_key *key, uint64_t era,
	    uint64_t *word_out)
{
	struct uses_bucket *bucket = &uses->buckets[far_key_lo(key) & uses->mask];
	_Atomic uint64_t *victim = NULL;
	uint32_t age_max = 0;

	for (uint32_t i = 0; i < WAYS; i++) {
		uint64_t word = word_get(&bucket->words[i]);
		uint32_t age = word == 0 ? UINT32_MAX : word_age(word, era);

		if (victim != NULL && age <= age_max)
			continue;
		victim = &bucket->words[i];
		age_max = age;
		*word_out = word;
	}
	return victim;
}

static bool
admit_written(struct far_store_policy *policy, const struct far_key *key)
{
	struct far_store_uses *uses = policy->uses;

	if (uses->admit_after <= 1)
		return true;
	/* Another thread that works on the same bucket makes us look again. */
	for (int i = 0; i < TRIES_MAX; i++) {
		uint64_t era = era_now(uses);
		uint64_t word;
		_Atomic uint64_t *at = word_find(uses, key, &word);

		if (at != NULL) {
			uint32_t count = word_uses(word, era) + 1;
			bool enough = count >= uses->admit_after;

			if (word_set(at, word, enough ? 0 : word_make(print_of(key), era, count)))
				return enough;
			continue;
		}
		at = word_victim(uses, key, era, &word);
		if (!word_set(at, word, word_make(print_of(key), era, 1)))
			continue;
		atomic_fetch_add_explicit(&uses->added, 1, memory_order_relaxed);
		if (word != 0 && word_uses(word, era) > 0)
			atomic_fetch_add_explicit(&uses->forgotten, 1, memory_order_relaxed);
		return false;
	}
	return false;
}

static bool
admit_hit(struct far_store_policy *policy, const struct far_key *key)
{
	struct far_store_uses *uses = policy->uses;

	for (int i = 0; i < TRIES_MAX; i++) {
		uint64_t era = era_now(uses);
		uint64_t word;
		_Atomic uint64_t *at = word_find(uses, key, &word);
		uint32_t count;

		/* Not ours to count: it was loaded, or stored, or forgotten. */
		if (at == NULL)
			return false;
		count = word_uses(word, era);
		if (count >= uses->admit_after)
			return false;
		if (word_set(at, word, word_make(print_of(key), era, count + 1)))
			return count + 1 == uses->admit_after;
	}
	return false;
}

static void
admit_put_off(struct far_store_policy *policy, const struct far_key *key)
{
	struct far_store_uses *uses = policy->uses;
	uint64_t word;
	_Atomic uint64_t *at = word_find(uses, key, &word);

	if (at != NULL && (word & USES_MASK) == uses->admit_after)
		(void)word_set(at, word, word - 1);
}

static void
admit_forget(struct far_store_policy *policy, const struct far_key *key)
{
	for (int i = 0; i < TRIES_MAX; i++) {
		uint64_t word;
		_Atomic uint64_t *at = word_find(policy->uses, key, &word);

		if (at == NULL || word_set(at, word, 0))
			return;
	}
}

static bool
admit_confirm(struct far_store_policy *policy, const struct far_key *key)
{
	struct far_store_uses *uses = policy->uses;
	uint64_t word;
	_Atomic uint64_t *at = word_find(uses, key, &word);

	return at != NULL && (word & USES_MASK) == uses->admit_after && word_set(at, word, 0);
}

const struct far_store_policy_ops far_store_policy_admit_after_n = {
	.name = "admit_after_n",
	.text = "not before its n-th use; writes and reads count, in a table that forgets",
	.answers = FAR_STORE_ADMITS,
	.counts_hits = true,
	.written = admit_written,
	.hit = admit_hit,
	.put_off = admit_put_off,
	.forget = admit_forget,
	.confirm = admit_confirm,
	.place = far_store_place_default,
	.keep = far_store_keep_yes,
};
