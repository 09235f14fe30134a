/* param_fixture.h - a configuration with every type, a group in a group and a list, for three tests. */
#ifndef FAR_TESTS_UNIT_BASE_PARAM_FIXTURE_H
#define FAR_TESTS_UNIT_BASE_PARAM_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/param.h"

struct fixture_donor {
	char name[9];
	uint64_t weight;
};

struct fixture_config {
	uint64_t memory;
	uint64_t grace_ns;
	uint64_t rails;
	char name[17];
	bool verify;
	double ratio;
	uint64_t l1_size;
	uint32_t l1_policy;
	uint64_t l1_evict_low;
	struct fixture_donor *donors;
	size_t donor_count;
};

#define FIXTURE_DONOR(member) offsetof(struct fixture_donor, member)
#define FIXTURE(member)       offsetof(struct fixture_config, member)

static const struct far_param fixture_donor_params[] = {
	{"name", FAR_PARAM_STRING, FIXTURE_DONOR(name), 1, 8, NULL, NULL, "Unique in the rack."},
	{"weight", FAR_PARAM_U64, FIXTURE_DONOR(weight), 1, 100, "1", NULL, "Its share."},
};

static const struct far_param_table fixture_donor_table = {
	.title = "donor",
	.params = fixture_donor_params,
	.count = 2,
};

static const struct far_param fixture_params[] = {
	{"memory", FAR_PARAM_SIZE, FIXTURE(memory), 2 << 20, UINT64_C(1) << 40, NULL, NULL,
	 "What this donor lends."},
	{"grace", FAR_PARAM_DURATION, FIXTURE(grace_ns), 0, 60000000000, "50ms", NULL,
	 "How long an emptied lane rests."},
	{"rails", FAR_PARAM_U64, FIXTURE(rails), 1, 4, "1", NULL, "NICs in use."},
	{"name", FAR_PARAM_STRING, FIXTURE(name), 0, 16, "", NULL, "Unique in the rack."},
	{"verify", FAR_PARAM_BOOL, FIXTURE(verify), 0, 0, "false", NULL, "Whether CRCs are read."},
	{"ratio", FAR_PARAM_DOUBLE, FIXTURE(ratio), 0, 1, "0.25", NULL, "Share that may be open."},
	{"l1.size", FAR_PARAM_SIZE, FIXTURE(l1_size), 0, 0, "1GiB", NULL, "Its memory."},
	{"l1.policy", FAR_PARAM_ENUM, FIXTURE(l1_policy), 0, 0, "lru", "lru|s3fifo|none",
	 "What goes first."},
	{"l1.evict.low", FAR_PARAM_U64, FIXTURE(l1_evict_low), 1, 99, "80", NULL,
	 "Where eviction ends."},
};

static const struct far_param_table fixture_table = {
	.title = "farpoold",
	.params = fixture_params,
	.count = sizeof(fixture_params) / sizeof(fixture_params[0]),
	.list_name = "donors",
	.list_table = &fixture_donor_table,
	.list_item_bytes = sizeof(struct fixture_donor),
	.list_count_max = 5,
	.list_offset = FIXTURE(donors),
	.list_count_offset = FIXTURE(donor_count),
};

#endif
