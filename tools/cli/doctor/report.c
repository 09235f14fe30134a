/* report.c - the doctor's findings, kept in the order in which they were made, and shown. */
#include "tools/cli/doctor/report.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#define COLUMNS      100U
#define NAME_COLUMN  8U
#define NAME_COLUMNS 18U
#define TEXT_COLUMN  (NAME_COLUMN + NAME_COLUMNS + 1)
#define FIX_COLUMNS  5U /* "fix: " */

static const char *const names[FAR_DOCTOR_VERDICTS] = {"ok", "warn", "fail", "none"};

/* ---- making it ---- */

/* A device's or a donor's own words may be in it. */
static void
text_clean(char *text)
{
	for (; *text != '\0'; text++)
		if (*text != '\n' && !isprint((unsigned char)*text))
			*text = '?';
}

static void
line_add(char *text, size_t text_bytes, const char *fmt, va_list args)
{
	size_t used = strlen(text);

	if (used > 0 && used + 1 < text_bytes) {
		text[used++] = '\n';
		text[used] = '\0';
	}
	(void)vsnprintf(text + used, text_bytes - used, fmt, args);
	text_clean(text + used);
}

static struct far_doctor_check *
last(struct far_doctor_report *report)
{
	/* What belongs to a check that had no room has none either. */
	return report->left_out > 0 || report->count == 0 ? NULL
							  : &report->checks[report->count - 1];
}

void
far_doctor_group(struct far_doctor_report *report, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(report->group, sizeof(report->group), fmt, args);
	va_end(args);
	text_clean(report->group);
}

void
far_doctor_add(struct far_doctor_report *report, enum far_doctor_verdict verdict, const char *name,
	       const char *fmt, ...)
{
	struct far_doctor_check *check;
	va_list args;

	if (report->count == FAR_DOCTOR_CHECKS_MAX) {
		report->left_out++;
		return;
	}
	check = &report->checks[report->count++];
	memset(check, 0, sizeof(*check));
	check->verdict = verdict;
	memcpy(check->group, report->group, sizeof(check->group));
	(void)snprintf(check->name, sizeof(check->name), "%s", name);
	text_clean(check->name);
	va_start(args, fmt);
	line_add(check->found, sizeof(check->found), fmt, args);
	va_end(args);
}

void
far_doctor_more(struct far_doctor_report *report, const char *fmt, ...)
{
	struct far_doctor_check *check = last(report);
	va_list args;

	if (check == NULL)
		return;
	va_start(args, fmt);
	line_add(check->found, sizeof(check->found), fmt, args);
	va_end(args);
}

void
far_doctor_fix(struct far_doctor_report *report, const char *fmt, ...)
{
	struct far_doctor_check *check = last(report);
	va_list args;

	if (check == NULL)
		return;
	va_start(args, fmt);
	line_add(check->fix, sizeof(check->fix), fmt, args);
	va_end(args);
}

void
far_doctor_worsen(struct far_doctor_report *report, enum far_doctor_verdict verdict)
{
	struct far_doctor_check *check = last(report);

	if (check == NULL || check->verdict == FAR_DOCTOR_FAIL)
		return;
	if (verdict == FAR_DOCTOR_FAIL || check->verdict != FAR_DOCTOR_WARN)
		check->verdict = verdict;
}

/* ---- reading it ---- */

size_t
far_doctor_count(const struct far_doctor_report *report, enum far_doctor_verdict verdict)
{
	size_t count = 0;

	for (size_t i = 0; i < report->count; i++)
		count += report->checks[i].verdict == verdict;
	return count;
}

const char *
far_doctor_verdict_name(enum far_doctor_verdict verdict)
{
	return names[verdict];
}

/* How many bytes of a line fit into @room columns, cut between words where there are several. */
static size_t
line_cut(const char *line, size_t length, size_t room)
{
	size_t cut = room;

	if (length <= room)
		return length;
	while (cut > 0 && line[cut] != ' ')
		cut--;
	if (cut > 0)
		return cut;
	for (cut = room; cut < length && line[cut] != ' '; cut++)
		;
	return cut;
}

/* The first line goes where the cursor is, all others begin at @column. */
static void
text_print(const char *text, size_t column, FILE *out)
{
	bool first = true;

	while (*text != '\0') {
		size_t length = strcspn(text, "\n");
		size_t cut = line_cut(text, length, COLUMNS - column);

		fprintf(out, "%*s%.*s\n", first ? 0 : (int)column, "", (int)cut, text);
		first = false;
		text += cut;
		while (*text == ' ')
			text++;
		if (*text == '\n' && cut == length)
			text++;
	}
	if (first)
		fputc('\n', out);
}

static void
check_print(const struct far_doctor_check *check, FILE *out)
{
	fprintf(out, "  %-4s  %-*s ", names[check->verdict], (int)NAME_COLUMNS, check->name);
	if (strlen(check->name) > NAME_COLUMNS)
		fprintf(out, "\n%*s", (int)TEXT_COLUMN, "");
	text_print(check->found, TEXT_COLUMN, out);
	if (check->fix[0] == '\0')
		return;
	fprintf(out, "%*sfix: ", (int)TEXT_COLUMN, "");
	text_print(check->fix, TEXT_COLUMN + FIX_COLUMNS, out);
}

void
far_doctor_print(const struct far_doctor_report *report, FILE *out)
{
	const char *group = "";
	size_t failed = far_doctor_count(report, FAR_DOCTOR_FAIL);
	size_t warned = far_doctor_count(report, FAR_DOCTOR_WARN);

	for (size_t i = 0; i < report->count; i++) {
		const struct far_doctor_check *check = &report->checks[i];

		if (strcmp(group, check->group) != 0)
			fprintf(out, "%s%s\n", i > 0 ? "\n" : "", check->group);
		group = check->group;
		check_print(check, out);
	}
	if (report->left_out > 0)
		fprintf(out, "\n%zu more check(s) had no room here\n", report->left_out);
	if (failed + warned + report->left_out == 0)
		fprintf(out, "\nnothing failed\n");
	else
		fprintf(out, "\n%zu failed, %zu warned: what to do stands behind each \"fix:\"\n",
			failed, warned);
}

json_t *
far_doctor_json(const struct far_doctor_report *report)
{
	json_t *root = json_object();
	json_t *list = json_array();
	json_t *summary = json_object();

	for (size_t i = 0; i < report->count; i++) {
		const struct far_doctor_check *check = &report->checks[i];
		json_t *item = json_object();

		json_object_set_new(item, "group", json_string(check->group));
		json_object_set_new(item, "name", json_string(check->name));
		json_object_set_new(item, "verdict", json_string(names[check->verdict]));
		json_object_set_new(item, "found", json_string(check->found));
		json_object_set_new(item, "fix",
				    check->fix[0] != '\0' ? json_string(check->fix) : json_null());
		json_array_append_new(list, item);
	}
	for (size_t i = 0; i < FAR_DOCTOR_VERDICTS; i++)
		json_object_set_new(summary, names[i],
				    json_integer((json_int_t)far_doctor_count(
					    report, (enum far_doctor_verdict)i)));
	json_object_set_new(root, "checks", list);
	json_object_set_new(root, "summary", summary);
	return root;
}
