/* param.h - one table of parameters makes the configuration schema, --help and the reference page. */
#ifndef FAR_BASE_PARAM_H
#define FAR_BASE_PARAM_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum far_param_type {
	FAR_PARAM_U64,      /* a plain number */
	FAR_PARAM_SIZE,     /* bytes; B, KiB, MiB, GiB, TiB required unless 0 */
	FAR_PARAM_DURATION, /* nanoseconds; ns, us, ms, s, min required unless 0 */
	FAR_PARAM_BOOL,     /* true, false */
	FAR_PARAM_DOUBLE,
	FAR_PARAM_STRING, /* char[max + 1] in the struct */
	FAR_PARAM_ENUM,   /* one of a list; stored as uint32_t index */
};

/* A row. @offset says where the value lies in the owner's configuration struct. Numbers are stored
 * as uint64_t, doubles as double, booleans as bool. min and max are in base units. */
struct far_param {
	const char *name; /* dotted for a nested mapping: "l1.size" */
	enum far_param_type type;
	size_t offset;
	uint64_t min;
	uint64_t max;         /* strings: the longest length in bytes */
	const char *fallback; /* default, written as a user would; NULL: required */
	const char *choices;  /* FAR_PARAM_ENUM: "lru|s3fifo|none" */
	const char *help;     /* one sentence */
};

struct far_param_table {
	const char *title; /* "farpoold", for messages and the reference page */
	const struct far_param *params;
	size_t count;
	/* A list of mappings under one key, each parsed by its own table: donors: [ {...} ]. */
	const char *list_name; /* NULL: none */
	const struct far_param_table *list_table;
	size_t list_item_bytes;
	size_t list_count_max;
	size_t list_offset;       /* in the struct: an array of items, far_zalloc'd, owner frees */
	size_t list_count_offset; /* in the struct: size_t */
};

#define FAR_PARAM_ERROR_BYTES 512

/* Writes the defaults; required ones are left zero. */
void far_param_defaults(const struct far_param_table *table, void *config);
/* Sets one by name from text, as the command line does. Returns 0, or -EINVAL, -ENOENT with one line
 * in @error that names the parameter, what is wrong, and what would be right. */
int far_param_set(const struct far_param_table *table, void *config, const char *name,
		  const char *text, char error[FAR_PARAM_ERROR_BYTES]);
/**
 * far_param_load - reads a YAML file into a configuration struct; defaults first.
 *
 * An unknown key, a wrong type or unit, a value out of range, a key given twice, a required one
 * missing: -EINVAL, and @error is one line "FILE:LINE: key 'x': cause; next step".
 *
 * Returns: 0, -EINVAL, -ENOENT, -EACCES (unreadable), -EOPNOTSUPP (built without libyaml), -ENOMEM.
 */
int far_param_load(const struct far_param_table *table, const char *path, void *config,
		   char error[FAR_PARAM_ERROR_BYTES]);
/* The same from memory; @name stands in messages for the file. */
int far_param_load_text(const struct far_param_table *table, const char *name, const char *text,
			size_t size_bytes, void *config, char error[FAR_PARAM_ERROR_BYTES]);
/* Frees list arrays; takes a zeroed or half-loaded struct. */
void far_param_fini(const struct far_param_table *table, void *config);
/* The reference page, as Markdown. */
void far_param_document(const struct far_param_table *table, FILE *out);

/* "64KiB" -> bytes, "50ms" -> ns: -EINVAL on a missing or unknown unit, -ERANGE is -EINVAL too. */
int far_size_parse(const char *text, uint64_t *bytes_out);
int far_duration_parse(const char *text, uint64_t *ns_out);

#endif
