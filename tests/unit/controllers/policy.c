/* policy.c - each question is answered by the last policy that answers it, and nonsense by nobody. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "controllers/policy.h"
#include "tests/support/fake_l2.h"
#include "tests/support/log_capture.h"

#include "base/err.h"

#define SIZE 4096U

static struct far_policy policy;
static struct far_l2_set set;
static struct far_clock_fake clock_fake;
static struct fake_l2 fakes[4];

static int
make_set(void **state)
{
	static const char *const names[] = {"a", "b", "c", "d"};

	(void)state;
	memset(&set, 0, sizeof(set));
	for (uint32_t i = 0; i < 4; i++) {
		fake_l2_init(&fakes[i], names[i], &clock_fake.clock, i);
		if (far_l2_set_add(&set, &fakes[i].l2) != 0)
			return -1;
	}
	return 0;
}

static void
parse(const char *text)
{
	char error[256] = "";

	policy = (struct far_policy){.replicas = 1};
	if (far_policy_parse(text, &policy, error) != 0)
		fail_msg("%s", error);
}

/* Refused, with these words, and without a trace. */
static void
parse_fails(const char *text, const char *why)
{
	struct far_policy before;
	char error[256] = "";

	parse("default");
	before = policy;
	assert_int_equal(far_policy_parse(text, &policy, error), -EINVAL);
	if (strstr(error, why) == NULL)
		fail_msg("'%s' does not say '%s'", error, why);
	assert_memory_equal(&before, &policy, sizeof(policy));
}

static uint32_t
plan(const uint32_t *adapters, uint32_t count)
{
	struct far_key key = fake_l2_key(1);
	struct far_policy_found found[4] = {{0}};
	uint64_t nonsense = 0;
	uint32_t at;

	for (uint32_t i = 0; i < count; i++)
		found[i] = (struct far_policy_found){.adapter = adapters[i], .size_bytes = SIZE};
	at = far_policy_plan(&policy, &set, &key, found, count, &nonsense);
	assert_int_equal(nonsense, 0);
	assert_true(at < count);
	return adapters[at];
}

static void
default_names_every_adapter_in_order(void **state)
{
	struct far_key key = fake_l2_key(1);
	uint32_t idx[FAR_L2_SET_MAX];
	uint64_t nonsense = 0;

	(void)state;
	parse("default");
	assert_int_equal(far_policy_route(&policy, &set, &key, idx, &nonsense), 4);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(idx[i], i);
	memset(idx, 0xff, sizeof(idx));
	assert_int_equal(far_policy_place(&policy, &set, &key, idx, &nonsense), 4);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(idx[i], i);
	assert_int_equal(nonsense, 0);
}

static void
no_more_are_written_than_fit(void **state)
{
	struct far_key key = fake_l2_key(1);
	uint32_t idx[4] = {9, 9, 9, 9};

	(void)state;
	assert_int_equal(far_policy_default.route(&policy, &set, &key, idx, 2), 2);
	assert_int_equal(idx[2], 9);
	assert_int_equal(far_policy_default.place(&policy, &set, &key, idx, 1), 1);
}

static void
without_adapters_nobody_is_named(void **state)
{
	static const struct far_l2_set empty;
	struct far_key key = fake_l2_key(1);
	uint32_t idx[FAR_L2_SET_MAX];
	uint64_t nonsense = 0;

	(void)state;
	parse("default");
	assert_int_equal(far_policy_route(&policy, &empty, &key, idx, &nonsense), 0);
	assert_int_equal(far_policy_place(&policy, &empty, &key, idx, &nonsense), 0);
}

static uint32_t
another_route(const struct far_policy *asked, const struct far_l2_set *of,
	      const struct far_key *key, uint32_t *idx_out, uint32_t max)
{
	return far_policy_default.route(asked, of, key, idx_out, max);
}

static void
one_is_named_for_all_keys_where_it_is_alone_and_the_policy_says_so(void **state)
{
	static const char *const names[] = {"default", "fastest,retain", "placement"};
	struct far_l2_set some = set;
	struct far_key key = fake_l2_key(1);
	uint32_t idx[FAR_L2_SET_MAX];
	uint64_t nonsense = 0;

	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		parse(names[i]);
		assert_int_equal(far_policy_route_sole(&policy, &set), FAR_L2_SET_MAX);
		some.active_mask = 0;
		assert_int_equal(far_policy_route_sole(&policy, &some), FAR_L2_SET_MAX);
		/* Drained ones are there, and are not named. */
		some.active_mask = 1ULL << 2;
		assert_int_equal(far_policy_route_sole(&policy, &some), 2);
		assert_int_equal(far_policy_route(&policy, &some, &key, idx, &nonsense), 1);
		assert_int_equal(idx[0], 2);
	}
	policy.route = another_route;
	assert_int_equal(far_policy_route_sole(&policy, &some), FAR_L2_SET_MAX);
}

static void
lowest_number_loads_whatever_the_order_of_those_found(void **state)
{
	static const uint32_t found[][3] = {{2, 1, 3}, {3, 2, 1}, {1, 2, 3}};

	(void)state;
	parse("default");
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(plan(found[i], 3), 1);
	assert_int_equal(plan(&found[1][0], 1), 3);
}

static void
default_retains_nothing_and_retain_everything(void **state)
{
	struct far_key key = fake_l2_key(1);

	(void)state;
	parse("default");
	assert_false(policy.retain(&policy, &key, SIZE));
	parse("retain");
	assert_true(policy.retain(&policy, &key, SIZE));
}

static void
named_policies_answer_and_default_answers_the_rest(void **state)
{
	(void)state;
	parse("retain");
	assert_ptr_equal(policy.route, far_policy_default.route);
	assert_ptr_equal(policy.plan, far_policy_default.plan);
	parse("placement, fastest ,retain");
	assert_ptr_equal(policy.route, far_policy_placement.route);
	assert_ptr_equal(policy.place, far_policy_placement.place);
	assert_ptr_equal(policy.plan, far_policy_fastest.plan);
	assert_ptr_equal(policy.retain, far_policy_retaining.retain);
	assert_int_equal(policy.replicas, 1);
}

static void
later_names_override(void **state)
{
	(void)state;
	parse("fastest,placement");
	assert_ptr_equal(policy.plan, far_policy_placement.plan);
	parse("placement,fastest");
	assert_ptr_equal(policy.plan, far_policy_fastest.plan);
	parse("retain,default");
	assert_ptr_equal(policy.retain, far_policy_default.retain);
}

static void
unknown_name_lists_the_known_ones(void **state)
{
	(void)state;
	parse_fails("speedy", "'speedy' is not known");
	parse_fails("retain,speedy", far_policy_names());
	parse_fails("", far_policy_names());
	parse_fails("retain,", far_policy_names());
	parse_fails("retai", "'retai' is not known");
	parse_fails("retained", "'retained' is not known");
	parse_fails("placement retain", "separated by commas");
	assert_non_null(strstr(far_policy_names(), far_policy_default.name));
	assert_non_null(strstr(far_policy_names(), far_policy_fastest.name));
	assert_non_null(strstr(far_policy_names(), far_policy_placement.name));
	assert_non_null(strstr(far_policy_names(), far_policy_retaining.name));
}

static void
name_given_twice_is_refused(void **state)
{
	(void)state;
	parse_fails("retain,retain", "'retain' is named twice");
	parse_fails("placement,retain,placement", "'placement' is named twice");
}

static void
fastest_takes_the_shortest_wait(void **state)
{
	/* The wait behind the queue counts as much as the pace. */
	struct far_policy_found found[] = {
		{.adapter = 0, .size_bytes = SIZE, .ns_per_byte = 1, .bytes_queued = 3 * SIZE},
		{.adapter = 1, .size_bytes = SIZE, .ns_per_byte = 2},
		{.adapter = 2, .size_bytes = SIZE, .ns_per_byte = 5},
	};
	struct far_key key = fake_l2_key(1);

	(void)state;
	assert_int_equal(far_policy_fastest.plan(&policy, &set, &key, found, 3), 1);
	found[0].bytes_queued = 0;
	assert_int_equal(far_policy_fastest.plan(&policy, &set, &key, found, 3), 0);
	assert_int_equal(far_policy_fastest.plan(&policy, &set, &key, &found[2], 1), 2);
}

static void
fastest_tries_who_was_not_measured_until_its_queue_is_long(void **state)
{
	struct far_policy_found found[] = {
		{.adapter = 3, .size_bytes = SIZE, .ns_per_byte = 1, .bytes_queued = SIZE},
		{.adapter = 1, .size_bytes = SIZE},
	};
	struct far_key key = fake_l2_key(1);

	(void)state;
	assert_int_equal(far_policy_fastest.plan(&policy, &set, &key, found, 2), 1);
	found[1].bytes_queued = 2 * SIZE;
	assert_int_equal(far_policy_fastest.plan(&policy, &set, &key, found, 2), 3);
	/* Nobody was measured: the shortest queue, and of equals the first of the route. */
	found[0].ns_per_byte = 0;
	assert_int_equal(far_policy_fastest.plan(&policy, &set, &key, found, 2), 3);
	found[1].bytes_queued = SIZE;
	assert_int_equal(far_policy_fastest.plan(&policy, &set, &key, found, 2), 3);
}

/* ---- nonsense ---- */

static uint32_t
mad_adapters(const struct far_policy *asked, const struct far_l2_set *in, const struct far_key *key,
	     uint32_t *idx_out, uint32_t max)
{
	static const uint32_t answer[] = {2, 4, 2, 1, UINT32_MAX};

	(void)asked;
	(void)in;
	(void)key;
	assert_true(max >= 5);
	memcpy(idx_out, answer, sizeof(answer));
	return 5;
}

static uint32_t
mad_plan(const struct far_policy *asked, const struct far_l2_set *in, const struct far_key *key,
	 const struct far_policy_found *found, uint32_t count)
{
	(void)asked;
	(void)in;
	(void)key;
	(void)found;
	(void)count;
	return 7;
}

static void
answers_that_cannot_be_are_skipped_counted_and_warned_of_once(void **state)
{
	static const struct far_policy_found found[] = {{.adapter = 3}, {.adapter = 1}};
	struct far_key key = fake_l2_key(1);
	uint32_t idx[FAR_L2_SET_MAX];
	uint64_t nonsense = 0;

	(void)state;
	parse("default");
	policy.route = mad_adapters;
	policy.place = mad_adapters;
	policy.plan = mad_plan;
	far_log_capture_start();
	far_log_capture_expect("'route' cannot be");
	assert_int_equal(far_policy_route(&policy, &set, &key, idx, &nonsense), 2);
	assert_int_equal(idx[0], 2);
	assert_int_equal(idx[1], 1);
	assert_int_equal(nonsense, 3);
	assert_int_equal(far_policy_place(&policy, &set, &key, idx, &nonsense), 2);
	assert_int_equal(nonsense, 6);
	/* The one that default would take. */
	assert_int_equal(far_policy_plan(&policy, &set, &key, found, 2, &nonsense), 1);
	assert_int_equal(nonsense, 7);
	assert_int_equal(far_log_capture_count("cannot be"), 1);
	far_log_capture_finish();
}

static void
drained_and_removed_adapters_are_proposed_no_more(void **state)
{
	struct far_key key = fake_l2_key(1);
	uint32_t idx[FAR_L2_SET_MAX];

	(void)state;
	far_l2_set_drain(&set, 1);
	far_l2_set_drain(&set, 3);
	(void)far_l2_set_remove(&set, 3);
	parse("default");
	assert_int_equal(policy.route(&policy, &set, &key, idx, FAR_L2_SET_MAX), 2);
	assert_int_equal(idx[0], 0);
	assert_int_equal(idx[1], 2);
	assert_int_equal(policy.place(&policy, &set, &key, idx, 2), 2);
	assert_int_equal(idx[1], 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(default_names_every_adapter_in_order),
		cmocka_unit_test(no_more_are_written_than_fit),
		cmocka_unit_test(without_adapters_nobody_is_named),
		cmocka_unit_test(
			one_is_named_for_all_keys_where_it_is_alone_and_the_policy_says_so),
		cmocka_unit_test(lowest_number_loads_whatever_the_order_of_those_found),
		cmocka_unit_test(default_retains_nothing_and_retain_everything),
		cmocka_unit_test(named_policies_answer_and_default_answers_the_rest),
		cmocka_unit_test(later_names_override),
		cmocka_unit_test(unknown_name_lists_the_known_ones),
		cmocka_unit_test(name_given_twice_is_refused),
		cmocka_unit_test(fastest_takes_the_shortest_wait),
		cmocka_unit_test(fastest_tries_who_was_not_measured_until_its_queue_is_long),
		cmocka_unit_test(answers_that_cannot_be_are_skipped_counted_and_warned_of_once),
		cmocka_unit_test(drained_and_removed_adapters_are_proposed_no_more),
	};

	return cmocka_run_group_tests(tests, make_set, NULL);
}
