/* path.c - the ways to one donor: which can be used here, which is tried next, why one was taken. */
#include "l2/donor/donor_priv.h"

#include <stdio.h>
#include <string.h>

/* Appends an address and its note to a line of text, in which @left more have to find room. */
static void
text_add(char *text, size_t text_bytes, const char *separator, const struct donor_path *path,
	 uint32_t left)
{
	size_t used = strlen(text);
	int each = (int)((text_bytes - used) / (left + 1)) / 2 - 4;

	if (each > 0)
		(void)snprintf(text + used, text_bytes - used, "%s%.*s: %.*s",
			       used > 0 ? separator : "", each, path->address.text, each,
			       path->note);
}

static int
path_open(struct far_donor *donor, struct donor_path *path, const struct far_address *address)
{
	struct far_mem_source source = {
		.base = donor->pages.base,
		.size_bytes = donor->pages.size_bytes,
		.fd = donor->pages.fd,
	};
	size_t i = 0;

	*path = (struct donor_path){.address = *address};
	while (i < donor->env.transport_count &&
	       strcmp(donor->env.transports[i]->ops->name, address->scheme) != 0)
		i++;
	if (i == donor->env.transport_count) {
		(void)snprintf(path->note, sizeof(path->note), "%s",
			       far_transport_find(address->scheme) != NULL
				       ? "not to be had on this host"
				       : "not in this build");
		return 0;
	}
	path->tp = donor->env.transports[i];
	path->tp_idx = i;
	path->arena = donor->env.arenas != NULL ? donor->env.arenas[i] : NULL;
	return far_transport_mem_reg(path->tp, &source, FAR_RIGHT_LOCAL, NULL, &path->scratch_mem);
}

/* The next that can be used, from @from on; path_count: none. */
static uint32_t
path_usable(const struct far_donor *donor, uint32_t from)
{
	while (from < donor->path_count && donor->paths[from].tp == NULL)
		from++;
	return from;
}

static void
path_take(struct far_donor *donor, uint32_t idx)
{
	struct donor_path *path = &donor->paths[idx];

	FAR_ASSERT(path->tp != NULL);
	donor->path = path;
	donor->tp = path->tp;
	donor->arena = path->arena;
	donor->scratch_mem = path->scratch_mem;
}

int
far_donor_paths_open(struct far_donor *donor, const struct far_l2_config *config, char error[256])
{
	const char *wanted = config->transport; /* NULL: any */
	struct far_address_list list;
	char cause[192];

	if (wanted != NULL && strcmp(wanted, "auto") == 0)
		wanted = NULL;
	if (far_address_list_parse(config->address != NULL ? config->address : "", &list, cause) <
	    0)
		return far_l2_config_error(config, "address", error, "%s", cause);
	far_address_list_rank(&list);
	donor->path_forced = wanted != NULL;
	for (uint32_t i = 0; i < list.count; i++) {
		int rc;

		if (wanted != NULL && strcmp(wanted, list.items[i].scheme) != 0)
			continue;
		rc = path_open(donor, &donor->paths[donor->path_count], &list.items[i]);
		donor->path_count++;
		if (rc < 0) {
			(void)far_l2_config_error(config, NULL, error,
						  "no memory for its buffers: %s",
						  far_err_text(rc));
			return rc;
		}
	}
	if (path_usable(donor, 0) == donor->path_count) {
		return far_l2_config_error(
			config, "address", error,
			"none of its addresses '%.100s' is of a transport that is open here%s%.15s",
			config->address, wanted != NULL ? " and wanted: transport is " : "",
			wanted != NULL ? wanted : "");
	}
	path_take(donor, path_usable(donor, 0));
	return 0;
}

void
far_donor_paths_close(struct far_donor *donor)
{
	for (uint32_t i = 0; i < donor->path_count; i++) {
		if (donor->paths[i].scratch_mem != NULL)
			far_transport_mem_dereg(donor->paths[i].scratch_mem);
	}
}

void
far_donor_path_failed(struct far_donor *donor, bool refused, const char *reason)
{
	struct donor_path *path = donor->path;

	path->refused = refused;
	(void)snprintf(path->note, sizeof(path->note), "%s", reason);
	far_donor_text_clean(path->note);
}

bool
far_donor_path_next(struct far_donor *donor)
{
	uint32_t next = path_usable(donor, (uint32_t)(donor->path - donor->paths) + 1);

	if (next == donor->path_count)
		return false;
	path_take(donor, next);
	return true;
}

void
far_donor_path_first(struct far_donor *donor)
{
	path_take(donor, path_usable(donor, 0));
}

bool
far_donor_paths_refused(const struct far_donor *donor)
{
	for (uint32_t i = 0; i < donor->path_count; i++) {
		if (donor->paths[i].tp != NULL && !donor->paths[i].refused)
			return false;
	}
	return true;
}

void
far_donor_paths_text(const struct far_donor *donor, char *out, size_t out_bytes)
{
	out[0] = '\0';
	for (uint32_t i = 0; i < donor->path_count; i++)
		text_add(out, out_bytes, "; ", &donor->paths[i], donor->path_count - i - 1);
}

void
far_donor_path_why(const struct far_donor *donor, char *out, size_t out_bytes)
{
	uint32_t taken = (uint32_t)(donor->path - donor->paths);

	if (donor->path_forced)
		(void)snprintf(out, out_bytes, "configured: transport: %s",
			       donor->path->address.scheme);
	else if (donor->path_count == 1)
		(void)snprintf(out, out_bytes, "its only address");
	else
		(void)snprintf(out, out_bytes, "auto: %s",
			       taken == 0 ? "the first choice answers" : "not ");
	for (uint32_t i = 0; !donor->path_forced && i < taken; i++)
		text_add(out, out_bytes, i > 0 ? "; " : "", &donor->paths[i], taken - i - 1);
}
