/* report.h - what the doctor found: a list of checks, as a table for people and as JSON for machines. */
#ifndef FAR_TOOLS_CLI_DOCTOR_REPORT_H
#define FAR_TOOLS_CLI_DOCTOR_REPORT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum far_doctor_verdict {
	FAR_DOCTOR_OK,
	FAR_DOCTOR_WARN, /* it works, and not as well as it could */
	FAR_DOCTOR_FAIL, /* something that is there, or is asked for, cannot be used */
	FAR_DOCTOR_NONE, /* this host has none of it, and nothing needs it */
	FAR_DOCTOR_VERDICTS,
};

#define FAR_DOCTOR_CHECKS_MAX 160U
#define FAR_DOCTOR_GROUP_MAX  96U
#define FAR_DOCTOR_NAME_MAX   40U
#define FAR_DOCTOR_TEXT_MAX   1024U

struct far_doctor_check {
	enum far_doctor_verdict verdict;
	char group[FAR_DOCTOR_GROUP_MAX]; /* the heading that it stands under */
	char name[FAR_DOCTOR_NAME_MAX];
	char found[FAR_DOCTOR_TEXT_MAX]; /* lines; each is wrapped where it is too long */
	char fix[FAR_DOCTOR_TEXT_MAX];   /* the same; "": nothing to do */
};

struct far_doctor_report {
	char group[FAR_DOCTOR_GROUP_MAX]; /* of the checks that come */
	struct far_doctor_check checks[FAR_DOCTOR_CHECKS_MAX];
	size_t count;
	size_t left_out; /* for which there was no room */
};

/* The heading of what is added from now on. */
void far_doctor_group(struct far_doctor_report *report, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Adds a check with what was found. Bytes that no terminal should see become '?'. */
void far_doctor_add(struct far_doctor_report *report, enum far_doctor_verdict verdict,
		    const char *name, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* One more line of what was found, of the check that was added last. */
void far_doctor_more(struct far_doctor_report *report, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* One more line of its fix. */
void far_doctor_fix(struct far_doctor_report *report, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* The verdict of the check that was added last becomes @verdict if that is worse: fail, warn, ok. */
void far_doctor_worsen(struct far_doctor_report *report, enum far_doctor_verdict verdict);

size_t far_doctor_count(const struct far_doctor_report *report, enum far_doctor_verdict verdict);
/* "ok", "warn", "fail", "none" */
const char *far_doctor_verdict_name(enum far_doctor_verdict verdict);

/* At most 100 columns, but for a word that is longer. */
void far_doctor_print(const struct far_doctor_report *report, FILE *out);
/* A new reference. */
json_t *far_doctor_json(const struct far_doctor_report *report);

#endif
