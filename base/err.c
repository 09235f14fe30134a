/* err.c - base/err.def as functions; one list, so that a code cannot have half an entry. */
#include "base/err.h"

#include <stddef.h>

struct err_entry {
	int code; /* positive errno */
	enum far_err_scope scope;
	const char *name;
	const char *text;
};

static const struct err_entry entries[] = {
#define X(code, scope, text) {code, FAR_ERR_##scope, #code, text},
#include "base/err.def"
#undef X
};

/* NULL for a code outside the list. */
static const struct err_entry *
entry_find(int rc)
{
	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		if (-entries[i].code == rc)
			return &entries[i];
	}
	return NULL;
}

enum far_err_scope
far_err_scope(int rc)
{
	const struct err_entry *entry = rc < 0 ? entry_find(rc) : NULL;

	return entry != NULL ? entry->scope : FAR_ERR_HOST;
}

const char *
far_err_text(int rc)
{
	const struct err_entry *entry;

	if (rc >= 0)
		return "success";
	entry = entry_find(rc);
	return entry != NULL
		       ? entry->text
		       : "an error that farpool does not list: look at the log, then report it";
}

const char *
far_err_name(int rc)
{
	const struct err_entry *entry;

	if (rc >= 0)
		return "0";
	entry = entry_find(rc);
	return entry != NULL ? entry->name : "unlisted";
}

bool
far_err_listed(int rc)
{
	return rc < 0 && entry_find(rc) != NULL;
}
