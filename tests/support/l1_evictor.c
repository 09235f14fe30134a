/* l1_evictor.c - somebody who takes from L1, again and again, all that nobody holds. */
#include "tests/support/l1_evictor.h"

#include <string.h>

#include "base/assert.h"
#include "base/rng.h"

#define WANTS_MAX 256
#define UNIT      4096U
#define SCRIBBLE  512U

void
l1_evictor_open(struct l1_evictor *evictor, struct far_l1 *l1, uint32_t block_bytes)
{
	int rc;

	*evictor = (struct l1_evictor){.l1 = l1, .block_bytes = block_bytes};
	rc = far_l1_session_open(l1, "evictor", &evictor->session);
	FAR_ASSERT(rc == 0);
}

void
l1_evictor_close(struct l1_evictor *evictor)
{
	far_l1_session_close(evictor->l1, evictor->session);
}

/* Keys that nobody else has: no test counts that far. */
static struct far_key
key_new(struct l1_evictor *evictor)
{
	uint64_t words[2] = {far_mix64(++evictor->key_next), far_mix64(~evictor->key_next)};
	struct far_key key;

	memcpy(key.bytes, words, sizeof(key.bytes));
	return key;
}

/* The start of each unit: who reads one of them now reads something else than before. */
static void
scribble(const struct far_l1_grant *grant, uint32_t size_bytes)
{
	for (uint32_t at = 0; at < size_bytes; at += UNIT)
		memset((char *)grant->addr + at, 0xee,
		       size_bytes - at < SCRIBBLE ? size_bytes - at : SCRIBBLE);
}

static void
take_big(struct l1_evictor *evictor)
{
	struct far_l1_usage usage;

	far_l1_usage_get(evictor->l1, &usage);
	for (uint64_t size = usage.capacity_bytes; size >= evictor->block_bytes; size /= 2) {
		struct far_l1_want want = {.key = key_new(evictor), .size_bytes = (uint32_t)size};
		struct far_l1_grant grant;
		int rc;

		if (far_l1_reserve_write(evictor->l1, evictor->session, &want, 1, &grant) == 0)
			continue;
		scribble(&grant, want.size_bytes);
		(void)far_l1_abort_write(evictor->l1, evictor->session, &grant.loan, 1, &rc);
		FAR_ASSERT(rc == 0);
		return;
	}
}

static void
take_many(struct l1_evictor *evictor)
{
	struct far_l1_want wants[WANTS_MAX];
	struct far_l1_grant grants[WANTS_MAX];
	uint64_t loans[WANTS_MAX];
	int rcs[WANTS_MAX];
	size_t granted = 0;

	for (uint32_t i = 0; i < WANTS_MAX; i++)
		wants[i] = (struct far_l1_want){
			.key = key_new(evictor),
			.size_bytes = evictor->block_bytes,
		};
	(void)far_l1_reserve_write(evictor->l1, evictor->session, wants, WANTS_MAX, grants);
	for (uint32_t i = 0; i < WANTS_MAX; i++) {
		if (grants[i].rc != 0)
			continue;
		scribble(&grants[i], wants[i].size_bytes);
		loans[granted++] = grants[i].loan;
	}
	if (granted > 0)
		FAR_ASSERT(far_l1_abort_write(evictor->l1, evictor->session, loans, granted, rcs) ==
			   granted);
}

static uint64_t
evicted(const struct l1_evictor *evictor)
{
	struct far_l1_usage usage;

	far_l1_usage_get(evictor->l1, &usage);
	return usage.evicted_blocks;
}

void
l1_evictor_run(struct l1_evictor *evictor)
{
	uint64_t before = evicted(evictor);
	uint64_t cleared = 0;

	for (uint32_t i = 0; i < 4; i++) {
		switch ((evictor->rounds + i) % 4) {
		case 0:
			take_big(evictor);
			break;
		case 1:
			take_many(evictor);
			break;
		case 2:
			(void)far_l1_evict(evictor->l1, UINT64_MAX, UINT32_MAX, NULL);
			break;
		default:
			cleared += far_l1_clear(evictor->l1, false);
			break;
		}
	}
	evictor->rounds++;
	evictor->taken += cleared + evicted(evictor) - before;
}
