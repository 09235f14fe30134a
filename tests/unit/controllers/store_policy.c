/* store_policy.c - parts of store policies: what each answers, and how words make one policy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/controllers_rig.h"

#include "base/alloc.h"
#include "base/err.h"

static struct far_clock_fake fake_clock;
static struct fake_l2 *fakes;
static struct far_l2_set set;
static struct far_policy everywhere;

static int
set_up(void **state)
{
	char error[256];

	(void)state;
	far_clock_fake_init(&fake_clock, 1);
	fakes = far_zalloc_array(4, sizeof(*fakes));
	set = (struct far_l2_set){.count = 0};
	return far_policy_parse("default", &everywhere, error);
}

static int
tear_down(void **state)
{
	(void)state;
	far_free(fakes);
	return far_alloc_live_bytes() == 0 ? 0 : -1;
}

static void
adapters_add(uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		char name[] = {'a', (char)('0' + i), '\0'};

		fake_l2_init(&fakes[i], name, &fake_clock.clock, i);
		assert_int_equal(far_l2_set_add(&set, &fakes[i].l2), 0);
	}
}

static int
policy_make(const char *text, struct far_store_policy *policy, char *error)
{
	struct far_store_policy_config config = {
		.text = text,
		.placement = &everywhere,
		.replicas = 2,
		.admit_after = 2,
		.admit_keys = 64,
	};

	return far_store_policy_init(policy, &config, error);
}

static void
policy_open(const char *text, struct far_store_policy *policy)
{
	char error[FAR_STORE_POLICY_ERROR_BYTES] = "";

	if (policy_make(text, policy, error) != 0)
		fail_msg("%s", error);
}

static void
default_gives_every_block_to_the_only_adapter(void **state)
{
	struct far_store_policy policy;
	uint32_t idx[FAR_L2_SET_MAX];

	(void)state;
	adapters_add(1);
	policy_open(NULL, &policy);
	for (uint64_t i = 0; i < 20; i++) {
		struct far_key key = fake_l2_key(i);

		assert_true(policy.admits->written(&policy, &key));
		assert_int_equal(policy.places->place(&policy, &set, &key, idx, FAR_L2_SET_MAX), 1);
		assert_int_equal(idx[0], 0);
	}
	far_store_policy_fini(&policy);
}

static void
default_gives_every_block_to_every_adapter_in_order(void **state)
{
	struct far_key key = fake_l2_key(1);
	struct far_store_policy policy;
	uint32_t idx[FAR_L2_SET_MAX];

	(void)state;
	adapters_add(4);
	policy_open("default", &policy);
	assert_int_equal(policy.places->place(&policy, &set, &key, idx, FAR_L2_SET_MAX), 4);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(idx[i], i);
	far_store_policy_fini(&policy);
}

static void
without_adapters_every_policy_names_none(void **state)
{
	static const char *const texts[] = {"default", "placement", "skip_l1", "admit_after_n"};
	struct far_key key = fake_l2_key(1);
	uint32_t idx[FAR_L2_SET_MAX];

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct far_store_policy policy;

		policy_open(texts[i], &policy);
		assert_int_equal(policy.places->place(&policy, &set, &key, idx, FAR_L2_SET_MAX), 0);
		far_store_policy_fini(&policy);
	}
}

static void
answer_is_the_askers_own_array_and_no_longer_than_it(void **state)
{
	struct far_key key = fake_l2_key(1);
	struct far_store_policy policy;
	uint32_t idx[4] = {9, 9, 9, 9};
	uint32_t other[4];

	(void)state;
	adapters_add(4);
	policy_open("default", &policy);
	assert_int_equal(policy.places->place(&policy, &set, &key, idx, 2), 2);
	assert_int_equal(idx[2], 9);
	/* Nothing is shared between answers. */
	assert_int_equal(policy.places->place(&policy, &set, &key, other, 4), 4);
	other[0] = 77;
	assert_int_equal(idx[0], 0);
	far_store_policy_fini(&policy);
}

static void
default_keeps_everything_in_l1_and_skip_l1_nothing(void **state)
{
	struct far_store_policy keeps, skips;

	(void)state;
	policy_open("default", &keeps);
	policy_open("skip_l1", &skips);
	for (uint64_t i = 0; i < 20; i++) {
		struct far_key key = fake_l2_key(i);

		assert_true(keeps.keeps->keep(&keeps, &key));
		assert_false(skips.keeps->keep(&skips, &key));
	}
	far_store_policy_fini(&keeps);
	far_store_policy_fini(&skips);
}

static void
default_follows_the_clients_placement(void **state)
{
	struct far_policy rendezvous;
	struct far_store_policy_config config = {.placement = &rendezvous};
	struct far_store_policy policy;
	char error[256];

	(void)state;
	adapters_add(4);
	assert_int_equal(far_policy_parse("placement", &rendezvous, error), 0);
	rendezvous.replicas = 1;
	assert_int_equal(far_store_policy_init(&policy, &config, error), 0);
	for (uint64_t i = 0; i < 20; i++) {
		struct far_key key = fake_l2_key(i);
		uint32_t idx[4], expected[4];

		assert_int_equal(policy.places->place(&policy, &set, &key, idx, 4), 1);
		assert_int_equal(rendezvous.place(&rendezvous, &set, &key, expected, 4), 1);
		assert_int_equal(idx[0], expected[0]);
	}
	far_store_policy_fini(&policy);
}

static void
placement_names_as_many_adapters_as_replicas_whatever_the_client_does(void **state)
{
	struct far_store_policy policy;
	uint32_t named[4] = {0};

	(void)state;
	adapters_add(4);
	policy_open("placement", &policy);
	for (uint64_t i = 0; i < 400; i++) {
		struct far_key key = fake_l2_key(i);
		uint32_t idx[4];

		assert_int_equal(policy.places->place(&policy, &set, &key, idx, 4), 2);
		assert_int_not_equal(idx[0], idx[1]);
		named[idx[0]]++;
		named[idx[1]]++;
	}
	for (uint32_t i = 0; i < 4; i++)
		assert_in_range(named[i], 140, 260);
	far_store_policy_fini(&policy);
}

static void
words_compose_one_policy_and_the_last_answer_to_a_question_counts(void **state)
{
	struct far_store_policy policy;

	(void)state;
	policy_open("placement,skip_l1", &policy);
	assert_ptr_equal(policy.admits, &far_store_policy_default);
	assert_ptr_equal(policy.places, &far_store_policy_placement);
	assert_ptr_equal(policy.keeps, &far_store_policy_skip_l1);
	far_store_policy_fini(&policy);
	policy_open(" admit_after_n , skip_l1 ,placement", &policy);
	assert_ptr_equal(policy.admits, &far_store_policy_admit_after_n);
	assert_ptr_equal(policy.places, &far_store_policy_placement);
	assert_ptr_equal(policy.keeps, &far_store_policy_skip_l1);
	far_store_policy_fini(&policy);
	policy_open("skip_l1,default", &policy);
	assert_ptr_equal(policy.keeps, &far_store_policy_default);
	far_store_policy_fini(&policy);
}

static void
unknown_words_are_refused_and_the_known_ones_listed(void **state)
{
	static const char *const bad[] = {"",
					  "skip",
					  "skip_l1,",
					  ",skip_l1",
					  "skip_l1 placement",
					  "Default",
					  "default,,placement"};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct far_store_policy policy = {.uses = NULL};
		char error[FAR_STORE_POLICY_ERROR_BYTES] = "";

		assert_int_equal(policy_make(bad[i], &policy, error), -EINVAL);
		assert_non_null(strstr(error, far_store_policy_names()));
		assert_null(policy.admits);
	}
}

static void
every_known_word_is_in_the_list(void **state)
{
	const struct far_store_policy_ops *const parts[] = {
		&far_store_policy_default,
		&far_store_policy_placement,
		&far_store_policy_skip_l1,
		&far_store_policy_admit_after_n,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		struct far_store_policy policy;

		assert_non_null(strstr(far_store_policy_names(), parts[i]->name));
		policy_open(parts[i]->name, &policy);
		far_store_policy_fini(&policy);
	}
}

static void
word_given_twice_is_refused(void **state)
{
	struct far_store_policy policy;
	char error[FAR_STORE_POLICY_ERROR_BYTES] = "";

	(void)state;
	assert_int_equal(policy_make("skip_l1,placement,skip_l1", &policy, error), -EINVAL);
	assert_non_null(strstr(error, "skip_l1"));
}

static void
numbers_out_of_range_are_refused_where_they_matter(void **state)
{
	struct far_store_policy_config config = {.text = "default", .placement = &everywhere};
	struct far_store_policy policy;
	char error[FAR_STORE_POLICY_ERROR_BYTES] = "";

	(void)state;
	/* Nobody reads them. */
	assert_int_equal(far_store_policy_init(&policy, &config, error), 0);
	far_store_policy_fini(&policy);
	config.text = "placement";
	assert_int_equal(far_store_policy_init(&policy, &config, error), -EINVAL);
	assert_non_null(strstr(error, "replicas"));
	config.text = "admit_after_n";
	config.admit_keys = 64;
	assert_int_equal(far_store_policy_init(&policy, &config, error), -EINVAL);
	assert_non_null(strstr(error, "admit_after"));
	config.admit_after = 201;
	assert_int_equal(far_store_policy_init(&policy, &config, error), -EINVAL);
	config.admit_after = 2;
	config.admit_keys = 63;
	assert_int_equal(far_store_policy_init(&policy, &config, error), -EINVAL);
	assert_non_null(strstr(error, "admit_keys"));
	config.admit_keys = 64;
	for (uint64_t nth = 1; nth <= 2; nth++) {
		far_alloc_fail_nth(nth);
		assert_int_equal(far_store_policy_init(&policy, &config, error), -ENOMEM);
	}
	far_alloc_fail_nth(0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(default_gives_every_block_to_the_only_adapter),
		TEST(default_gives_every_block_to_every_adapter_in_order),
		TEST(without_adapters_every_policy_names_none),
		TEST(answer_is_the_askers_own_array_and_no_longer_than_it),
		TEST(default_keeps_everything_in_l1_and_skip_l1_nothing),
		TEST(default_follows_the_clients_placement),
		TEST(placement_names_as_many_adapters_as_replicas_whatever_the_client_does),
		TEST(words_compose_one_policy_and_the_last_answer_to_a_question_counts),
		TEST(unknown_words_are_refused_and_the_known_ones_listed),
		TEST(every_known_word_is_in_the_list),
		TEST(word_given_twice_is_refused),
		TEST(numbers_out_of_range_are_refused_where_they_matter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
