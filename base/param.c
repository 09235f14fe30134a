/* param.c - the parameter table: defaults, look-up by name, suggestions, and the reference page. */
#include "base/param.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/param_priv.h"

void
far_text_init(struct far_text *text, char *out, size_t size_bytes)
{
	FAR_ASSERT(size_bytes > 0);
	*text = (struct far_text){.out = out, .size_bytes = size_bytes};
	out[0] = '\0';
}

void
far_text_add(struct far_text *text, const char *fmt, ...)
{
	size_t left = text->size_bytes - text->used;
	va_list args;
	int size;

	va_start(args, fmt);
	size = vsnprintf(text->out + text->used, left, fmt, args);
	va_end(args);
	if (size < 0)
		return;
	if ((size_t)size < left) {
		text->used += (size_t)size;
		return;
	}
	text->used = text->size_bytes - 1;
	if (text->used >= 3)
		memcpy(text->out + text->used - 3, "...", 3);
}

const char *
far_shown(const char *s, char out[FAR_SHOWN_BYTES])
{
	size_t size = strnlen(s, FAR_SHOWN_BYTES);
	bool cut = size == FAR_SHOWN_BYTES;

	if (cut)
		size = FAR_SHOWN_BYTES - 4;
	/* Not in the middle of a character of several bytes. */
	while (cut && size > 0 && ((unsigned char)s[size] & 0xc0) == 0x80)
		size--;
	for (size_t i = 0; i < size; i++) {
		bool control = (unsigned char)s[i] < 0x20 || s[i] == 0x7f;

		out[i] = s[i];
		if (control)
			out[i] = '?';
	}
	memcpy(out + size, cut ? "..." : "", cut ? 4 : 1);
	return out;
}

const struct far_param *
far_param_find(const struct far_param_table *table, const char *name)
{
	for (size_t i = 0; i < table->count; i++) {
		if (strcmp(table->params[i].name, name) == 0)
			return &table->params[i];
	}
	return NULL;
}

/* Whether @name lies in @group: "l1.size" in "l1"; everything lies in "". */
static bool
name_within(const char *name, const char *group, size_t group_size)
{
	if (group_size == 0)
		return true;
	return strncmp(name, group, group_size) == 0 && name[group_size] == '.';
}

const struct far_param *
far_param_group(const struct far_param_table *table, const char *name)
{
	for (size_t i = 0; i < table->count; i++) {
		if (name_within(table->params[i].name, name, strlen(name)))
			return &table->params[i];
	}
	return NULL;
}

/* Bytes of the name up to and with its next component after the group: "l1.evict" of "l1.evict.low"
 * for the group "l1". */
static size_t
component_end(const char *name, size_t group_size)
{
	size_t start = group_size == 0 ? 0 : group_size + 1;

	return start + strcspn(name + start, ".");
}

/* The next distinct key of a group; the list comes last. Start with *idx 0; false at the end. */
static bool
known_next(const struct far_param_table *table, const char *group, size_t group_size, size_t *idx,
	   char out[FAR_PARAM_NAME_BYTES_MAX])
{
	for (; *idx < table->count; (*idx)++) {
		const char *name = table->params[*idx].name;
		bool repeated = false;
		size_t end;

		if (!name_within(name, group, group_size))
			continue;
		end = component_end(name, group_size);
		/* Every row of a subgroup names it; the first one speaks for all. */
		for (size_t i = 0; i < *idx && !repeated; i++) {
			const char *other = table->params[i].name;

			repeated = strncmp(other, name, end) == 0 &&
				   (other[end] == '.' || other[end] == '\0');
		}
		if (repeated)
			continue;
		FAR_ASSERT(end < FAR_PARAM_NAME_BYTES_MAX);
		memcpy(out, name, end);
		out[end] = '\0';
		(*idx)++;
		return true;
	}
	if (*idx == table->count && group_size == 0 && table->list_name != NULL) {
		(void)snprintf(out, FAR_PARAM_NAME_BYTES_MAX, "%s", table->list_name);
		(*idx)++;
		return true;
	}
	return false;
}

static void
known_add(const struct far_param_table *table, const char *group, size_t cut_bytes,
	  struct far_text *text)
{
	char known[FAR_PARAM_NAME_BYTES_MAX];
	size_t idx = 0;

	for (const char *comma = ""; known_next(table, group, strlen(group), &idx, known);
	     comma = ", ")
		far_text_add(text, "%s%s", comma, known + cut_bytes);
}

void
far_param_known(const struct far_param_table *table, const char *group, struct far_text *text)
{
	known_add(table, group, 0, text);
}

void
far_param_known_below(const struct far_param_table *table, const char *group, struct far_text *text)
{
	known_add(table, group, strlen(group) + 1, text);
}

#define DISTANCE_BYTES_MAX 40

/* Insertions, deletions, replacements and swaps of neighbours between two short words; letters
 * alike in either case. Large for long words. */
static size_t
word_distance(const char *a, const char *b)
{
	size_t rows[3][DISTANCE_BYTES_MAX + 1];
	size_t a_size = strlen(a), b_size = strlen(b);

	if (a_size > DISTANCE_BYTES_MAX || b_size > DISTANCE_BYTES_MAX)
		return DISTANCE_BYTES_MAX;
	for (size_t j = 0; j <= b_size; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= a_size; i++) {
		size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];

		row[0] = i;
		for (size_t j = 1; j <= b_size; j++) {
			int x = tolower((unsigned char)a[i - 1]);
			int y = tolower((unsigned char)b[j - 1]);
			size_t least = above[j - 1] + (x != y);

			if (above[j] + 1 < least)
				least = above[j] + 1;
			if (row[j - 1] + 1 < least)
				least = row[j - 1] + 1;
			if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) &&
			    y == tolower((unsigned char)a[i - 2]) && above2[j - 2] + 1 < least)
				least = above2[j - 2] + 1;
			row[j] = least;
		}
	}
	return rows[a_size % 3][b_size];
}

/* The known key nearest to what was written, if near enough to be what was meant. */
static bool
suggestion_find(const struct far_param_table *table, const char *group, size_t group_size,
		const char *component, char out[FAR_PARAM_NAME_BYTES_MAX])
{
	size_t best = strlen(component) / 3 + 1;
	char known[FAR_PARAM_NAME_BYTES_MAX];
	size_t idx = 0;
	bool found = false;

	while (known_next(table, group, group_size, &idx, known)) {
		const char *tail = known + (group_size == 0 ? 0 : group_size + 1);
		size_t distance = word_distance(component, tail);

		if (distance > best || distance >= strlen(tail) || (found && distance == best))
			continue;
		best = distance;
		found = true;
		memcpy(out, known, sizeof(known));
	}
	/* The right word in the wrong group. */
	for (size_t i = 0; i < table->count && !found; i++) {
		const char *name = table->params[i].name;
		const char *dot = strrchr(name, '.');

		if (strcmp(dot == NULL ? name : dot + 1, component) != 0)
			continue;
		(void)snprintf(out, FAR_PARAM_NAME_BYTES_MAX, "%s", name);
		found = true;
	}
	return found;
}

void
far_param_explain_unknown(const struct far_param_table *table, const char *name,
			  struct far_text *cause)
{
	char group[FAR_PARAM_NAME_BYTES_MAX] = "", suggestion[FAR_PARAM_NAME_BYTES_MAX];
	size_t size = strnlen(name, sizeof(group));

	/* The deepest group on the way that exists. */
	for (size_t end = 0; end < size; end++) {
		char outer[FAR_PARAM_NAME_BYTES_MAX];

		if (name[end] != '.')
			continue;
		memcpy(outer, name, end);
		outer[end] = '\0';
		if (end == 0 || far_param_group(table, outer) == NULL)
			break;
		memcpy(group, outer, end + 1);
	}
	far_text_add(cause, "unknown; ");
	if (suggestion_find(table, group, strlen(group),
			    name + (group[0] == '\0' ? 0 : strlen(group) + 1), suggestion))
		far_text_add(cause, "did you mean '%s'? ", suggestion);
	far_text_add(cause, "known keys: ");
	far_param_known(table, group, cause);
}

static size_t
value_bytes(const struct far_param *param)
{
	switch (param->type) {
	case FAR_PARAM_BOOL:
		return sizeof(bool);
	case FAR_PARAM_DOUBLE:
		return sizeof(double);
	case FAR_PARAM_STRING:
		return param->max + 1;
	case FAR_PARAM_ENUM:
		return sizeof(uint32_t);
	default:
		return sizeof(uint64_t);
	}
}

void
far_param_defaults(const struct far_param_table *table, void *config)
{
	char *base = config;

	for (size_t i = 0; i < table->count; i++) {
		const struct far_param *param = &table->params[i];
		char cause_text[FAR_PARAM_ERROR_BYTES];
		struct far_text cause;
		int rc;

		FAR_ASSERT(strlen(param->name) < FAR_PARAM_NAME_BYTES_MAX);
		memset(base + param->offset, 0, value_bytes(param));
		if (param->fallback == NULL)
			continue;
		far_text_init(&cause, cause_text, sizeof(cause_text));
		rc = far_param_value_set(param, config, param->fallback, &cause);
		FAR_ASSERT(rc == 0); /* a row must allow its own default */
	}
	if (table->list_name != NULL) {
		memset(base + table->list_offset, 0, sizeof(void *));
		memset(base + table->list_count_offset, 0, sizeof(size_t));
	}
}

int
far_param_set(const struct far_param_table *table, void *config, const char *name, const char *text,
	      char error[FAR_PARAM_ERROR_BYTES])
{
	const struct far_param *param = far_param_find(table, name);
	char shown[FAR_SHOWN_BYTES];
	struct far_text cause;

	error[0] = '\0';
	far_text_init(&cause, error, FAR_PARAM_ERROR_BYTES);
	far_text_add(&cause, "%s: key '%s': ", table->title, far_shown(name, shown));
	if (param != NULL) {
		int rc = far_param_value_set(param, config, text, &cause);

		if (rc == 0)
			error[0] = '\0';
		return rc;
	}
	if (table->list_name != NULL && strcmp(name, table->list_name) == 0) {
		far_text_add(&cause, "is a list; write it in the configuration file");
		return -EINVAL;
	}
	if (name[0] != '\0' && far_param_group(table, name) != NULL) {
		far_text_add(&cause, "is a group; set one of ");
		far_param_known(table, name, &cause);
		return -EINVAL;
	}
	far_param_explain_unknown(table, name, &cause);
	return -ENOENT;
}

void
far_param_fini(const struct far_param_table *table, void *config)
{
	char *base = config, *items;
	size_t count;

	if (table->list_name == NULL)
		return;
	/* Copied: the owner's member has a pointer type of its own. */
	memcpy(&items, base + table->list_offset, sizeof(items));
	memcpy(&count, base + table->list_count_offset, sizeof(count));
	for (size_t i = 0; items != NULL && i < count; i++)
		far_param_fini(table->list_table, items + i * table->list_item_bytes);
	far_free(items);
	memset(base + table->list_offset, 0, sizeof(void *));
	memset(base + table->list_count_offset, 0, sizeof(count));
}

static void
document_rows(const struct far_param_table *table, FILE *out)
{
	fprintf(out, "| key | type | default | allowed | meaning |\n"
		     "| --- | --- | --- | --- | --- |\n");
	for (size_t i = 0; i < table->count; i++) {
		const struct far_param *param = &table->params[i];
		const char *fallback = param->fallback;
		char range_text[FAR_PARAM_ERROR_BYTES];
		struct far_text range;

		far_text_init(&range, range_text, sizeof(range_text));
		far_param_range(param, &range);
		fprintf(out, "| `%s` | %s | ", param->name, far_param_type_name(param->type));
		if (fallback == NULL)
			fputs("required", out);
		else if (fallback[0] == '\0')
			fputs("empty", out);
		else
			fprintf(out, "`%s`", fallback);
		fprintf(out, " | %s | %s |\n", range_text, param->help);
	}
}

void
far_param_document(const struct far_param_table *table, FILE *out)
{
	fprintf(out, "## %s\n\n", table->title);
	document_rows(table, out);
	if (table->list_name == NULL)
		return;
	fprintf(out, "\n`%s` is a list of at most %zu mappings with the keys of «%s».\n\n",
		table->list_name, table->list_count_max, table->list_table->title);
	far_param_document(table->list_table, out);
}
