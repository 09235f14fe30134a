/* doctor_report.c - the list of checks: its verdicts, its columns, its bound, its JSON. */
#include "tools/cli/doctor/report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct far_doctor_report report; /* large */
static char printed[65536];

static int
clear(void **state)
{
	(void)state;
	memset(&report, 0, sizeof(report));
	return 0;
}

static void
print(void)
{
	FILE *out = fmemopen(printed, sizeof(printed), "w");

	assert_non_null(out);
	far_doctor_print(&report, out);
	assert_int_equal(fclose(out), 0);
}

static void
a_verdict_only_gets_worse(void **state)
{
	(void)state;
	far_doctor_add(&report, FAR_DOCTOR_NONE, "a", "nothing");
	far_doctor_worsen(&report, FAR_DOCTOR_WARN);
	assert_int_equal(report.checks[0].verdict, FAR_DOCTOR_WARN);
	far_doctor_worsen(&report, FAR_DOCTOR_OK);
	assert_int_equal(report.checks[0].verdict, FAR_DOCTOR_WARN);
	far_doctor_worsen(&report, FAR_DOCTOR_FAIL);
	far_doctor_worsen(&report, FAR_DOCTOR_WARN);
	assert_int_equal(report.checks[0].verdict, FAR_DOCTOR_FAIL);
	assert_int_equal(far_doctor_count(&report, FAR_DOCTOR_FAIL), 1);
}

static void
every_line_fits_in_100_columns(void **state)
{
	static const char text[] = "word another word and one more word that fills the line so "
				   "that it has to be cut between two of them, again and again, "
				   "until all of it was said and nothing of it is missing";
	size_t bytes = 0;
	(void)state;

	far_doctor_group(&report, "Group");
	far_doctor_add(&report, FAR_DOCTOR_WARN, "check", "%s", text);
	far_doctor_more(&report, "%s", text);
	far_doctor_fix(&report, "%s", text);
	print();
	for (char *line = strtok(printed, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		assert_true(strlen(line) <= 100);
		for (const char *at = line; *at != '\0'; at++)
			bytes += *at != ' ';
	}
	/* All of it, three times, beside names and the last line. */
	assert_true(bytes > 3 * (sizeof(text) - 1) - 3 * 40);
}

/* A command is for pasting: it is whole, however long. */
static void
a_word_that_is_too_long_is_not_cut(void **state)
{
	char word[200];
	(void)state;

	memset(word, 'x', sizeof(word) - 1);
	word[sizeof(word) - 1] = '\0';
	far_doctor_add(&report, FAR_DOCTOR_OK, "check", "a %s b", word);
	print();
	assert_non_null(strstr(printed, word));
}

static void
headings_stand_once_and_fixes_below_what_was_found(void **state)
{
	(void)state;
	far_doctor_group(&report, "First");
	far_doctor_add(&report, FAR_DOCTOR_OK, "one", "good");
	far_doctor_add(&report, FAR_DOCTOR_FAIL, "two", "bad");
	far_doctor_more(&report, "really");
	far_doctor_fix(&report, "modprobe this");
	far_doctor_fix(&report, "modprobe that");
	far_doctor_group(&report, "Second");
	far_doctor_add(&report, FAR_DOCTOR_NONE, "three", "nothing");
	print();
	assert_string_equal(printed,
			    "First\n"
			    "  ok    one                good\n"
			    "  fail  two                bad\n"
			    "                           really\n"
			    "                           fix: modprobe this\n"
			    "                                modprobe that\n"
			    "\n"
			    "Second\n"
			    "  none  three              nothing\n"
			    "\n"
			    "1 failed, 0 warned: what to do stands behind each \"fix:\"\n");
}

/* A donor's name, or a device's, may hold anything. */
static void
control_characters_do_not_reach_the_terminal(void **state)
{
	(void)state;
	far_doctor_group(&report, "To %s", "\x1b[31m");
	far_doctor_add(&report, FAR_DOCTOR_OK, "a\tb", "%s", "x\x1b]0;y\x07z");
	print();
	assert_null(strchr(printed, 0x1b));
	assert_null(strchr(printed, 0x07));
	assert_non_null(strstr(printed, "x?]0;y?z"));
}

static void
checks_beyond_the_bound_are_counted_and_take_their_lines_with_them(void **state)
{
	(void)state;
	for (size_t i = 0; i < FAR_DOCTOR_CHECKS_MAX; i++)
		far_doctor_add(&report, FAR_DOCTOR_OK, "check", "kept");
	far_doctor_add(&report, FAR_DOCTOR_FAIL, "check", "lost");
	far_doctor_more(&report, "lost");
	far_doctor_fix(&report, "lost");
	far_doctor_worsen(&report, FAR_DOCTOR_FAIL);
	assert_int_equal(report.count, FAR_DOCTOR_CHECKS_MAX);
	assert_int_equal(report.left_out, 1);
	print();
	assert_null(strstr(printed, "lost"));
	assert_non_null(strstr(printed, "1 more check"));
	/* Nobody sees that one: it must not look as if all were well. */
	assert_null(strstr(printed, "nothing failed"));
}

static void
a_text_that_is_too_long_ends_where_its_room_does(void **state)
{
	(void)state;
	far_doctor_add(&report, FAR_DOCTOR_OK, "check", "begin");
	for (size_t i = 0; i < FAR_DOCTOR_TEXT_MAX; i++)
		far_doctor_more(&report, "line %zu", i);
	assert_true(strlen(report.checks[0].found) < FAR_DOCTOR_TEXT_MAX);
	assert_memory_equal(report.checks[0].found, "begin\nline 0\n", 13);
}

static void
json_has_what_the_table_has(void **state)
{
	json_t *root, *check;
	(void)state;

	far_doctor_group(&report, "Memory");
	far_doctor_add(&report, FAR_DOCTOR_FAIL, "locked memory", "8 MiB");
	far_doctor_fix(&report, "ulimit -l unlimited");
	far_doctor_add(&report, FAR_DOCTOR_OK, "memory", "16 GiB");
	root = far_doctor_json(&report);
	check = json_array_get(json_object_get(root, "checks"), 0);
	assert_string_equal(json_string_value(json_object_get(check, "group")), "Memory");
	assert_string_equal(json_string_value(json_object_get(check, "name")), "locked memory");
	assert_string_equal(json_string_value(json_object_get(check, "verdict")), "fail");
	assert_string_equal(json_string_value(json_object_get(check, "found")), "8 MiB");
	assert_string_equal(json_string_value(json_object_get(check, "fix")),
			    "ulimit -l unlimited");
	check = json_array_get(json_object_get(root, "checks"), 1);
	assert_true(json_is_null(json_object_get(check, "fix")));
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(root, "summary"), "fail")), 1);
	json_decref(root);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_verdict_only_gets_worse, clear),
		cmocka_unit_test_setup(every_line_fits_in_100_columns, clear),
		cmocka_unit_test_setup(a_word_that_is_too_long_is_not_cut, clear),
		cmocka_unit_test_setup(headings_stand_once_and_fixes_below_what_was_found, clear),
		cmocka_unit_test_setup(control_characters_do_not_reach_the_terminal, clear),
		cmocka_unit_test_setup(
			checks_beyond_the_bound_are_counted_and_take_their_lines_with_them, clear),
		cmocka_unit_test_setup(a_text_that_is_too_long_ends_where_its_room_does, clear),
		cmocka_unit_test_setup(json_has_what_the_table_has, clear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
