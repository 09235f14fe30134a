/* fault_config.c - faults from words: rules as they are meant, and errors with position and word. */
#include "l2/fault/fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/err.h"

static struct far_l2_fault_rule rules[FAR_L2_FAULT_RULES_MAX];
static uint32_t count;

static void
rules_are_what_the_words_say(void **state)
{
	char error[160];

	(void)state;
	assert_int_equal(far_l2_fault_parse("load+lookup:fail=EIO,rate=0.25,times=3;"
					    "all:delay=5ms;store:drop,head=2,tail=0.5",
					    rules, &count, error),
			 0);
	assert_int_equal(count, 3);
	assert_int_equal(rules[0].kinds, 1U << FAR_L2_LOAD | 1U << FAR_L2_LOOKUP);
	assert_int_equal(rules[0].action, FAR_L2_FAULT_FAIL);
	assert_int_equal(rules[0].rc, -EIO);
	assert_true(rules[0].rate > 0.24 && rules[0].rate < 0.26);
	assert_int_equal(rules[0].times, 3);
	assert_int_equal(rules[1].kinds, 0);
	assert_int_equal(rules[1].action, FAR_L2_FAULT_DELAY);
	assert_int_equal(rules[1].delay_ns, 5 * FAR_NS_PER_MS);
	assert_int_equal(rules[2].kinds, 1U << FAR_L2_STORE);
	assert_int_equal(rules[2].action, FAR_L2_FAULT_DROP);
	assert_int_equal(rules[2].head, 2);
	assert_true(rules[2].tail > 0.4 && rules[2].tail < 0.6);
}

static void
a_wrong_word_is_named_with_its_rule(void **state)
{
	static const struct {
		const char *text;
		const char *words;
	} wrong[] = {
		{"", "rule 1: '' has no ':'"},
		{"load", "rule 1: 'load' has no ':'"},
		{"lead:corrupt", "rule 1: 'lead' is unknown: lookup, load"},
		{"load:corrupt;store:fale=EIO", "rule 2: 'fale' is unknown: fail, corrupt"},
		{"load:fail", "rule 1: 'fail' needs an error"},
		{"load:fail=EWHAT", "rule 1: 'fail' needs an error"},
		{"load:delay=soon", "rule 1: 'delay' needs a time"},
		{"load:corrupt=1", "rule 1: 'corrupt' takes no value"},
		{"load:corrupt,rate=2", "rule 1: 'rate' needs a share"},
		{"load:corrupt,rate=nan", "rule 1: 'rate' needs a share"},
		{"load:corrupt,head=-1", "rule 1: 'head' needs a number"},
		{"load:corrupt,times=0", "rule 1: 'times' needs a number"},
		{"load:corrupt,drop", "rule 1: 'drop' is the rule's second action"},
		{"load:rate=0.5", "rule 1: 'rate' chooses and does nothing"},
		{"load:corrupt;", "rule 2: '' has no ':'"},
		{"all:drop;all:drop;all:drop;all:drop;all:drop;all:drop;all:drop;all:drop;all:drop;"
		 "all:drop;all:drop;all:drop;all:drop;all:drop;all:drop;all:drop;all:drop",
		 "rule 17: '' is one more than there may be"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char error[160] = "";

		assert_int_equal(far_l2_fault_parse(wrong[i].text, rules, &count, error), -EINVAL);
		if (strncmp(error, wrong[i].words, strlen(wrong[i].words)) != 0)
			fail_msg("%s: %s", wrong[i].text, error);
	}
}

/* ---- as a type of the registry ---- */

static struct far_l2_task task;
static struct far_l2_item item;
static bool ended;

static void
task_ended(struct far_l2_task *which)
{
	(void)which;
	ended = true;
}

static void
a_configured_fault_strikes_what_it_wraps(void **state)
{
	struct far_clock_fake clock;
	struct far_l2_env env = {.clock = &clock.clock};
	struct far_l2_config inner = {.type = "memory", .name = "inner", .capacity_bytes = 1 << 20};
	struct far_l2_config config = {.type = "fault",
				       .name = "outer",
				       .inner = &inner,
				       .faults = "lookup:fail=EHOSTDOWN"};
	struct far_l2 *l2 = NULL;
	char error[256];

	(void)state;
	far_clock_fake_init(&clock, 1);
	assert_int_equal(far_l2_open(&config, &env, &l2, error), 0);
	assert_string_equal(l2->name, "outer");
	item = (struct far_l2_item){.key = {.bytes = {1}}};
	task = (struct far_l2_task){.kind = FAR_L2_LOOKUP,
				    .items = &item,
				    .count = 1,
				    .deadline_ns = FAR_NS_PER_S,
				    .done = task_ended};
	ended = false;
	far_l2_submit(l2, &task);
	(void)far_l2_tick(l2, 2);
	assert_true(ended);
	assert_int_equal(item.rc, -EHOSTDOWN);
	assert_int_equal(far_l2_fault_count(l2, FAR_L2_FAULT_FAIL), 1);
	far_l2_quiesce(l2);
	assert_true(far_l2_quiesced(l2));
	far_l2_close(l2);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

static void
a_fault_without_an_inner_one_or_with_a_wrong_word_is_refused(void **state)
{
	struct far_clock_fake clock;
	struct far_l2_env env = {.clock = &clock.clock};
	struct far_l2_config inner = {.type = "tape", .name = "inner"};
	struct far_l2_config config = {.type = "fault", .name = "outer", .where = "adapters[2]"};
	struct far_l2 *l2 = NULL;
	char error[256];

	(void)state;
	far_clock_fake_init(&clock, 1);
	assert_int_equal(far_l2_open(&config, &env, &l2, error), -EINVAL);
	assert_non_null(strstr(error, "adapters[2].inner: missing"));
	config.inner = &inner;
	config.faults = "load:explode";
	assert_int_equal(far_l2_open(&config, &env, &l2, error), -EINVAL);
	assert_non_null(strstr(error, "adapters[2].faults: rule 1: 'explode' is unknown"));
	config.faults = NULL;
	assert_int_equal(far_l2_open(&config, &env, &l2, error), -EINVAL);
	assert_non_null(strstr(error, "'tape' is unknown"));
	assert_null(l2);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rules_are_what_the_words_say),
		cmocka_unit_test(a_wrong_word_is_named_with_its_rule),
		cmocka_unit_test(a_configured_fault_strikes_what_it_wraps),
		cmocka_unit_test(a_fault_without_an_inner_one_or_with_a_wrong_word_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
