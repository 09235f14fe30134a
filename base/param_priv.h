/* param_priv.h - what the three files of the parameter table share. */
#ifndef FAR_BASE_PARAM_PRIV_H
#define FAR_BASE_PARAM_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/param.h"

/* Longest value that a file or a command line may give; strings are bounded by their rows. */
#define FAR_PARAM_VALUE_BYTES_MAX 1024
/* Names in tables: "a.b.c", at most so many bytes and groups. */
#define FAR_PARAM_NAME_BYTES_MAX 120
#define FAR_PARAM_GROUPS_MAX     3

/* Text that is cut where its buffer ends; always terminated. */
struct far_text {
	char *out;
	size_t size_bytes;
	size_t used;
};

void far_text_init(struct far_text *text, char *out, size_t size_bytes);
void far_text_add(struct far_text *text, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Foreign text for a message: cut, and without control characters. */
#define FAR_SHOWN_BYTES 68
const char *far_shown(const char *s, char out[FAR_SHOWN_BYTES]);

/* Parses, checks and stores one value. On -EINVAL @cause says what is wrong and what to write. */
int far_param_value_set(const struct far_param *param, void *config, const char *text,
			struct far_text *cause);
/* A value that the row allows, as a user would write it. */
void far_param_example(const struct far_param *param, struct far_text *text);
/* The type's name, and the range, for the reference page. */
const char *far_param_type_name(enum far_param_type type);
void far_param_range(const struct far_param *param, struct far_text *text);

/* NULL if there is no such row. */
const struct far_param *far_param_find(const struct far_param_table *table, const char *name);
/* The first row below "name.", or NULL: then the name is no group. */
const struct far_param *far_param_group(const struct far_param_table *table, const char *name);
/* The keys that can stand in @group ("" for the top): "name, memory, l1, donors". */
void far_param_known(const struct far_param_table *table, const char *group, struct far_text *text);
/* The same without the group's own name, as they are written below it: "size, policy". */
void far_param_known_below(const struct far_param_table *table, const char *group,
			   struct far_text *text);
/* "unknown; did you mean 'segment'? known keys: ..." */
void far_param_explain_unknown(const struct far_param_table *table, const char *name,
			       struct far_text *cause);

#endif
