/* param_yaml.c - a configuration file, event by event, straight into the struct; every refusal names
 * the file, the line and the key. */
#include "base/param.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#ifdef FAR_HAVE_YAML
#include <yaml.h>
#endif

#include "base/alloc.h"
#include "base/assert.h"
#include "base/param_priv.h"

#define FILE_BYTES_MAX ((size_t)1 << 20)

#ifdef FAR_HAVE_YAML

#define BROKEN_TEXT "longer than %d bytes, or with a NUL byte; "

/* One event of libyaml, copied, so that no event has to be freed on any way out. */
struct node {
	yaml_event_type_t type;
	size_t line; /* counts from 1 */
	bool plain;  /* a scalar without quotes */
	bool broken; /* a scalar too long, or with a NUL in it: text is cut there */
	char text[FAR_PARAM_VALUE_BYTES_MAX + 1];
};

struct load {
	yaml_parser_t parser;
	const char *file; /* for messages */
	const char *text;
	size_t size_bytes;
	struct far_text error;
};

/* Where keys were given first; 0: not yet. A group is noted at its first row, by its depth. */
struct seen {
	size_t line;
	size_t group_lines[FAR_PARAM_GROUPS_MAX];
};

/* One struct that is being filled: the whole configuration, or an item of a list. */
struct scope {
	const struct far_param_table *table;
	char *config;
	struct seen *seen; /* owned; one per row */
	size_t list_line;
	const char *label; /* "donors[2]." before its keys in messages */
};

static int table_load(struct load *load, const struct far_param_table *table, char *config,
		      size_t line, const char *label);

static void
refuse_at(struct load *load, size_t line)
{
	char shown[FAR_SHOWN_BYTES];

	far_text_init(&load->error, load->error.out, load->error.size_bytes);
	far_text_add(&load->error, "%s:%zu: ", far_shown(load->file, shown), line);
}

/* Starts the message for a key; the caller adds cause and next step. */
static void
refuse_key(struct load *load, const struct scope *scope, size_t line, const char *key)
{
	char shown[FAR_SHOWN_BYTES];

	refuse_at(load, line);
	far_text_add(&load->error, "key '%s%s': ", scope->label, far_shown(key, shown));
}

/* The reader fails before it knows lines, but it knows the byte. */
static size_t
line_of(const struct load *load, size_t offset)
{
	size_t line = 1;

	for (size_t i = 0; i < offset && i < load->size_bytes; i++)
		line += load->text[i] == '\n';
	return line;
}

static int
refuse_yaml(struct load *load)
{
	const yaml_parser_t *parser = &load->parser;

	if (parser->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	if (parser->error == YAML_READER_ERROR) {
		refuse_at(load, line_of(load, parser->problem_offset));
		far_text_add(&load->error, "%s at byte %zu; save the file as plain UTF-8 text",
			     parser->problem, parser->problem_offset);
		return -EINVAL;
	}
	refuse_at(load, parser->problem_mark.line + 1);
	far_text_add(&load->error,
		     "not YAML: %s; check indentation (blanks, no tabs), colons and quotes",
		     parser->problem != NULL ? parser->problem : "it cannot be parsed");
	return -EINVAL;
}

static void
scalar_copy(const yaml_event_t *event, struct node *out)
{
	const char *text = (const char *)event->data.scalar.value;
	size_t size = event->data.scalar.length;

	out->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	out->broken = size >= sizeof(out->text) || memchr(text, '\0', size) != NULL;
	if (size >= sizeof(out->text))
		size = sizeof(out->text) - 1;
	memcpy(out->text, text, size);
	out->text[size] = '\0';
}

/* The next event; anchors, aliases and tags are refused: they can make much out of little. */
static int
node_next(struct load *load, struct node *out)
{
	const yaml_char_t *anchor = NULL, *tag = NULL;
	yaml_event_t event;

	*out = (struct node){.type = YAML_NO_EVENT};
	if (yaml_parser_parse(&load->parser, &event) == 0)
		return refuse_yaml(load);
	out->type = event.type;
	out->line = event.start_mark.line + 1;
	switch (event.type) {
	case YAML_SCALAR_EVENT:
		anchor = event.data.scalar.anchor;
		tag = event.data.scalar.tag;
		scalar_copy(&event, out);
		break;
	case YAML_SEQUENCE_START_EVENT:
		anchor = event.data.sequence_start.anchor;
		tag = event.data.sequence_start.tag;
		break;
	case YAML_MAPPING_START_EVENT:
		anchor = event.data.mapping_start.anchor;
		tag = event.data.mapping_start.tag;
		break;
	default:
		break;
	}
	if (anchor != NULL || tag != NULL || event.type == YAML_ALIAS_EVENT) {
		refuse_at(load, out->line);
		far_text_add(&load->error, "%s not used here; write the value out",
			     tag != NULL ? "tags (!) are" : "anchors (&) and aliases (*) are");
		yaml_event_delete(&event);
		return -EINVAL;
	}
	yaml_event_delete(&event);
	return 0;
}

/* Remembers the line of a key, or refuses the second one. */
static int
once(struct load *load, const struct scope *scope, const struct node *node, const char *key,
     size_t *first_line)
{
	if (*first_line == 0) {
		*first_line = node->line;
		return 0;
	}
	refuse_key(load, scope, node->line, key);
	far_text_add(&load->error, "given twice, first in line %zu; remove one", *first_line);
	return -EINVAL;
}

static int
value_load(struct load *load, const struct scope *scope, const struct far_param *param)
{
	struct node node;
	int rc = node_next(load, &node);

	if (rc < 0)
		return rc;
	refuse_key(load, scope, node.line, param->name);
	if (node.type != YAML_SCALAR_EVENT) {
		far_text_add(&load->error, "takes one value, not a %s; write for example ",
			     node.type == YAML_MAPPING_START_EVENT ? "mapping" : "list");
		far_param_example(param, &load->error);
		return -EINVAL;
	}
	if (node.broken) {
		far_text_add(&load->error, BROKEN_TEXT "shorten it", FAR_PARAM_VALUE_BYTES_MAX);
		return -EINVAL;
	}
	if (node.plain && (node.text[0] == '\0' || strcmp(node.text, "~") == 0 ||
			   strcmp(node.text, "null") == 0)) {
		far_text_add(&load->error, "has no value; write for example ");
		far_param_example(param, &load->error);
		if (param->fallback != NULL)
			far_text_add(&load->error, ", or remove the line");
		return -EINVAL;
	}
	return far_param_value_set(param, scope->config, node.text, &load->error);
}

/* Room for one more item: twice as much whenever it is full. */
static int
list_grow(const struct far_param_table *table, char **items, size_t count)
{
	size_t item_bytes = table->list_item_bytes;
	char *larger;

	if (count != 0 && (count & (count - 1)) != 0)
		return 0;
	larger = far_zalloc_array(count == 0 ? 1 : 2 * count, item_bytes);
	if (larger == NULL)
		return -ENOMEM;
	if (count != 0)
		memcpy(larger, *items, count * item_bytes);
	far_free(*items);
	*items = larger;
	return 0;
}

static int
list_load(struct load *load, const struct scope *scope)
{
	const struct far_param_table *table = scope->table;
	char label[FAR_PARAM_NAME_BYTES_MAX];
	char *items = NULL;
	struct node node;
	size_t count = 0;
	int rc = node_next(load, &node);

	if (rc < 0)
		return rc;
	if (node.type != YAML_SEQUENCE_START_EVENT) {
		refuse_key(load, scope, node.line, table->list_name);
		far_text_add(&load->error,
			     "takes a list; begin each item with '- ' and its keys: ");
		far_param_known(table->list_table, "", &load->error);
		return -EINVAL;
	}
	for (;;) {
		rc = node_next(load, &node);
		if (rc < 0 || node.type == YAML_SEQUENCE_END_EVENT)
			return rc;
		if (node.type != YAML_MAPPING_START_EVENT) {
			(void)snprintf(label, sizeof(label), "%.40s[%zu]", table->list_name, count);
			refuse_key(load, scope, node.line, label);
			far_text_add(&load->error, "not a mapping; write its keys: ");
			far_param_known(table->list_table, "", &load->error);
			return -EINVAL;
		}
		if (count == table->list_count_max) {
			refuse_key(load, scope, node.line, table->list_name);
			far_text_add(&load->error, "more than %zu items; remove some", count);
			return -EINVAL;
		}
		rc = list_grow(table, &items, count);
		if (rc < 0)
			return rc;
		/* In the struct at every step, so that far_param_fini() finds what there is. */
		memcpy(scope->config + table->list_offset, &items, sizeof(items));
		far_param_defaults(table->list_table, items + count * table->list_item_bytes);
		count++;
		memcpy(scope->config + table->list_count_offset, &count, sizeof(count));
		(void)snprintf(label, sizeof(label), "%.60s%.40s[%zu].", scope->label,
			       table->list_name, count - 1);
		rc = table_load(load, table->list_table,
				items + (count - 1) * table->list_item_bytes, node.line, label);
		if (rc < 0)
			return rc;
	}
}

static int mapping_load(struct load *load, struct scope *scope, const char *group);

static int
group_load(struct load *load, struct scope *scope, const struct node *key, const char *name,
	   const struct far_param *first)
{
	struct seen *seen = &scope->seen[first - scope->table->params];
	size_t depth = 0;
	struct node node;
	int rc;

	for (const char *c = name; *c != '\0'; c++)
		depth += *c == '.';
	FAR_ASSERT(depth < FAR_PARAM_GROUPS_MAX);
	rc = once(load, scope, key, name, &seen->group_lines[depth]);
	if (rc < 0)
		return rc;
	rc = node_next(load, &node);
	if (rc < 0)
		return rc;
	if (node.type == YAML_MAPPING_START_EVENT)
		return mapping_load(load, scope, name);
	refuse_key(load, scope, node.line, name);
	far_text_add(&load->error, "is a group of keys; write below it, indented: ");
	far_param_known_below(scope->table, name, &load->error);
	return -EINVAL;
}

/* One key and its value. Nothing unknown is ever skipped, so the table bounds depth and length. */
static int
key_load(struct load *load, struct scope *scope, const char *group, const struct node *key)
{
	const struct far_param_table *table = scope->table;
	char name[FAR_PARAM_NAME_BYTES_MAX + FAR_PARAM_VALUE_BYTES_MAX + 2];
	const struct far_param *param;
	int rc;

	(void)snprintf(name, sizeof(name), "%s%s%s", group, group[0] == '\0' ? "" : ".", key->text);
	if (key->broken) {
		refuse_key(load, scope, key->line, name);
		far_text_add(&load->error, BROKEN_TEXT "known keys: ", FAR_PARAM_VALUE_BYTES_MAX);
		far_param_known(table, group, &load->error);
		return -EINVAL;
	}
	param = far_param_find(table, name);
	if (param != NULL) {
		rc = once(load, scope, key, name, &scope->seen[param - table->params].line);
		return rc < 0 ? rc : value_load(load, scope, param);
	}
	if (table->list_name != NULL && strcmp(name, table->list_name) == 0) {
		rc = once(load, scope, key, name, &scope->list_line);
		return rc < 0 ? rc : list_load(load, scope);
	}
	param = name[0] == '\0' ? NULL : far_param_group(table, name);
	if (param != NULL)
		return group_load(load, scope, key, name, param);
	refuse_key(load, scope, key->line, name);
	far_param_explain_unknown(table, name, &load->error);
	return -EINVAL;
}

/* From behind the start of a mapping up to its end. */
static int
mapping_load(struct load *load, struct scope *scope, const char *group)
{
	for (;;) {
		struct node node;
		int rc = node_next(load, &node);

		if (rc < 0 || node.type == YAML_MAPPING_END_EVENT)
			return rc;
		if (node.type != YAML_SCALAR_EVENT) {
			refuse_at(load, node.line);
			far_text_add(&load->error,
				     "a key is a mapping or a list; write 'key: value'");
			return -EINVAL;
		}
		rc = key_load(load, scope, group, &node);
		if (rc < 0)
			return rc;
	}
}

static int
required_check(struct load *load, const struct scope *scope, size_t line)
{
	for (size_t i = 0; i < scope->table->count; i++) {
		const struct far_param *param = &scope->table->params[i];

		if (param->fallback != NULL || scope->seen[i].line != 0)
			continue;
		refuse_key(load, scope, line, param->name);
		far_text_add(&load->error, "missing; add it, for example '%s: ", param->name);
		far_param_example(param, &load->error);
		far_text_add(&load->error, "': %s", param->help);
		return -EINVAL;
	}
	return 0;
}

/* One struct, from behind the start of its mapping (or an empty file: @line is 0 then). */
static int
table_load(struct load *load, const struct far_param_table *table, char *config, size_t line,
	   const char *label)
{
	struct scope scope = {.table = table, .label = label};
	int rc = 0;

	scope.config = config;
	scope.seen = far_zalloc_array(table->count, sizeof(*scope.seen));
	if (scope.seen == NULL)
		return -ENOMEM;
	if (line != 0)
		rc = mapping_load(load, &scope, "");
	if (rc == 0)
		rc = required_check(load, &scope, line == 0 ? 1 : line);
	far_free(scope.seen);
	return rc;
}

static int
stream_load(struct load *load, const struct far_param_table *table, char *config)
{
	struct node node;
	int rc;

	do { /* the starts of stream and document carry nothing */
		rc = node_next(load, &node);
	} while (rc == 0 &&
		 (node.type == YAML_STREAM_START_EVENT || node.type == YAML_DOCUMENT_START_EVENT));
	if (rc < 0)
		return rc;
	/* A file of comments only, with or without a document mark, holds no keys: all defaults. */
	if (node.type == YAML_STREAM_END_EVENT)
		return table_load(load, table, config, 0, "");
	if (node.type == YAML_SCALAR_EVENT && node.plain && node.text[0] == '\0') {
		rc = table_load(load, table, config, 0, "");
	} else if (node.type == YAML_MAPPING_START_EVENT) {
		rc = table_load(load, table, config, node.line, "");
	} else {
		refuse_at(load, node.line);
		far_text_add(&load->error,
			     "not a mapping; write lines 'key: value', with the keys ");
		far_param_known(table, "", &load->error);
		return -EINVAL;
	}
	if (rc < 0)
		return rc;
	rc = node_next(load, &node); /* the document's end */
	if (rc < 0)
		return rc;
	rc = node_next(load, &node);
	if (rc < 0)
		return rc;
	if (node.type != YAML_STREAM_END_EVENT) {
		refuse_at(load, node.line);
		far_text_add(&load->error, "a second document begins; write one file for each");
		return -EINVAL;
	}
	return 0;
}

static int
text_load(const struct far_param_table *table, const char *name, const char *text,
	  size_t size_bytes, void *config, char error[FAR_PARAM_ERROR_BYTES])
{
	struct load load = {.file = name, .text = text, .size_bytes = size_bytes};
	int rc;

	far_text_init(&load.error, error, FAR_PARAM_ERROR_BYTES);
	if (yaml_parser_initialize(&load.parser) == 0)
		return -ENOMEM;
	yaml_parser_set_input_string(&load.parser, (const unsigned char *)text, size_bytes);
	rc = stream_load(&load, table, config);
	yaml_parser_delete(&load.parser);
	return rc;
}

#else

static int
text_load(const struct far_param_table *table, const char *name, const char *text,
	  size_t size_bytes, void *config, char error[FAR_PARAM_ERROR_BYTES])
{
	(void)table;
	(void)text;
	(void)size_bytes;
	(void)config;
	(void)snprintf(
		error, FAR_PARAM_ERROR_BYTES,
		"%s: this build reads no YAML; build with libyaml, or set parameters one by one",
		name);
	return -EOPNOTSUPP;
}

#endif

int
far_param_load_text(const struct far_param_table *table, const char *name, const char *text,
		    size_t size_bytes, void *config, char error[FAR_PARAM_ERROR_BYTES])
{
	int rc;

	error[0] = '\0';
	far_param_defaults(table, config);
	if (size_bytes > FILE_BYTES_MAX) {
		(void)snprintf(error, FAR_PARAM_ERROR_BYTES,
			       "%s: larger than 1 MiB; this is not a configuration file", name);
		return -EINVAL;
	}
	rc = text_load(table, name, text, size_bytes, config, error);
	if (rc == 0) {
		error[0] = '\0';
		return 0;
	}
	far_param_fini(table, config); /* a caller that gives up need not */
	if (rc == -ENOMEM)
		(void)snprintf(error, FAR_PARAM_ERROR_BYTES, "%s: no memory to read it", name);
	return rc;
}

/* The whole file, up to one byte more than is allowed. */
static int
file_read(const char *path, char *text, size_t text_bytes, size_t *size_out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	size_t size = 0;

	if (fd < 0)
		return -errno;
	while (size < text_bytes) {
		ssize_t got = read(fd, text + size, text_bytes - size);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			int rc = -errno;

			(void)close(fd);
			return rc;
		}
		if (got == 0)
			break;
		size += (size_t)got;
	}
	(void)close(fd);
	*size_out = size;
	return 0;
}

static int
file_refuse(int rc, const char *path, char error[FAR_PARAM_ERROR_BYTES])
{
	const char *cause = strerror(-rc);
	const char *next = "check its permissions";

	switch (rc) {
	case -ENOENT:
	case -ENOTDIR:
		rc = -ENOENT;
		cause = "no such file";
		next = "check the path, or copy one from configs/";
		break;
	case -EISDIR:
		rc = -EINVAL;
		cause = "a directory";
		next = "name the file in it";
		break;
	case -ENOMEM:
		next = "free some memory";
		break;
	default:
		rc = -EACCES;
		break;
	}
	(void)snprintf(error, FAR_PARAM_ERROR_BYTES, "%s: %s; %s", path, cause, next);
	return rc;
}

int
far_param_load(const struct far_param_table *table, const char *path, void *config,
	       char error[FAR_PARAM_ERROR_BYTES])
{
	char *text = far_zalloc(FILE_BYTES_MAX + 1);
	size_t size = 0;
	int rc = -ENOMEM;

	far_param_defaults(table, config);
	if (text != NULL)
		rc = file_read(path, text, FILE_BYTES_MAX + 1, &size);
	if (rc < 0)
		rc = file_refuse(rc, path, error);
	else
		rc = far_param_load_text(table, path, text, size, config, error);
	far_free(text);
	return rc;
}
