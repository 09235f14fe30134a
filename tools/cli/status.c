/* status.c - farpool status: each donor of the list, with the counters that it answers. */
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "tools/cli/cli.h"
#include "tools/cli/memory.h"
#include "wire/frame.h"

struct status_row {
	const char *name;
	const char *unit;
	const char *text;
};

static const struct status_row rows[] = {
#define STATUS(name, unit, text) {#name, #unit, text},
#include "wire/status.def"
#undef STATUS
};

static error_t
parse(int key, char *arg, struct argp_state *state)
{
	if (key == ARGP_KEY_INIT) {
		state->child_inputs[0] = state->input;
		return 0;
	}
	if (key == ARGP_KEY_ARG)
		argp_error(state, "too many arguments: '%s'", arg);
	return ARGP_ERR_UNKNOWN;
}

static void
print_value(const struct status_row *row, uint64_t value)
{
	char text[32];

	if (strcmp(row->unit, "BYTES") == 0)
		printf("  %-18s %16s  %s\n", row->name, far_cli_bytes(value, text), row->text);
	else if (strcmp(row->unit, "NS") == 0)
		printf("  %-18s %14.3f s  %s\n", row->name, (double)value / 1e9, row->text);
	else
		printf("  %-18s %16llu  %s\n", row->name, (unsigned long long)value, row->text);
}

/* Nothing is evicted ahead of need. */
static bool
only_when_needed(const struct far_cli_policies *policies)
{
	return policies->evict_high >= 1 || strcmp(policies->eviction, "none") == 0;
}

/* Of whoever uses this configuration. */
static void
print_policies(const struct far_cli_policies *policies)
{
	printf("prefetch policy %s; store policy %s; L1 evicts %s, ", policies->prefetch,
	       policies->store, policies->eviction);
	if (only_when_needed(policies))
		printf("only when it is full\n");
	else
		printf("from %g %% full down to %g %%\n", 100 * policies->evict_high,
		       100 * policies->evict_low);
}

static json_t *
policies_json(const struct far_cli_policies *policies)
{
	json_t *out = json_object();

	json_object_set_new(out, "prefetch_policy", json_string(policies->prefetch));
	json_object_set_new(out, "store_policy", json_string(policies->store));
	json_object_set_new(out, "l1_eviction", json_string(policies->eviction));
	/* null: never ahead of need. */
	json_object_set_new(out, "l1_evict_high",
			    only_when_needed(policies) ? json_null()
						       : json_real(policies->evict_high));
	json_object_set_new(out, "l1_evict_low",
			    only_when_needed(policies) ? json_null()
						       : json_real(policies->evict_low));
	return out;
}

static void
print_usage(const struct far_donor_status *donor)
{
	char used[32];
	char capacity[32];
	char text[64];

	if (donor->usage_known == 0 || donor->capacity_bytes == 0)
		return;
	snprintf(text, sizeof(text), "%s of %s", far_cli_bytes(donor->used_bytes, used),
		 far_cli_bytes(donor->capacity_bytes, capacity));
	printf("  %-18s %14.1f %%  %s, lanes that are open included\n", "used",
	       100 * (double)donor->used_bytes / (double)donor->capacity_bytes, text);
}

static void
print_donor(const struct far_donor_status *donor)
{
	printf("%s: %s%s%s\n", donor->name, donor->state, donor->text[0] != '\0' ? ", " : "",
	       donor->text);
	if (strcmp(donor->state, "up") != 0)
		return;
	printf("  %-18s %016llx  %s\n", "epoch", (unsigned long long)donor->epoch,
	       "changes when the donor restarts");
	printf("  %-18s %16s  %s\n", "transport", donor->transport, donor->why);
	printf("  %-18s %16s  %s\n", "one_sided", donor->one_sided != 0 ? "yes" : "no",
	       "lookups and reads cost the donor's CPU nothing");
	if (donor->donor_value_count == 0)
		printf("  the donor did not answer: its process is stopped or overloaded; reads go "
		       "on\n");
	if (donor->memory_path[0] != '\0')
		printf("  %-18s %16s  %s\n", "memory_path", donor->memory_path,
		       "how its blocks get into the GPU's memory");
	print_usage(donor);
	for (size_t i = 0; i < donor->donor_value_count && i < FAR_STATUS_COUNT; i++)
		print_value(&rows[i], donor->donor_values[i]);
}

static json_t *
donor_json(const struct far_donor_status *donor)
{
	char epoch[32];
	json_t *counters = json_object();
	json_t *out = json_object();

	snprintf(epoch, sizeof(epoch), "%016llx", (unsigned long long)donor->epoch);
	json_object_set_new(out, "name", json_string(donor->name));
	json_object_set_new(out, "state", json_string(donor->state));
	json_object_set_new(out, "text", json_string(donor->text));
	json_object_set_new(out, "transport", json_string(donor->transport));
	json_object_set_new(out, "why", json_string(donor->why));
	json_object_set_new(out, "memory_path", json_string(donor->memory_path));
	json_object_set_new(out, "epoch", json_string(epoch));
	json_object_set_new(out, "one_sided", json_boolean(donor->one_sided != 0));
	json_object_set_new(out, "answered", json_boolean(donor->donor_value_count != 0));
	for (size_t i = 0; i < donor->donor_value_count && i < FAR_STATUS_COUNT; i++)
		json_object_set_new(counters, rows[i].name,
				    json_integer((json_int_t)donor->donor_values[i]));
	json_object_set_new(out, "counters", counters);
	/* null: it did not answer. */
	json_object_set_new(out, "used_bytes",
			    donor->usage_known != 0 ? json_integer((json_int_t)donor->used_bytes)
						    : json_null());
	return out;
}

int
far_cli_status(int argc, char **argv)
{
	static const struct argp_child children[] = {{&far_cli_argp, 0, NULL, 0}, {0}};
	static const struct argp argp = {
		.parser = parse,
		.doc = "Show what each donor lends, holds and did. The exit status is 1 if one is "
		       "not up.",
		.children = children,
	};
	struct far_donor_status donor = {.size_bytes = sizeof(donor)};
	struct far_memory_info memory = {.size_bytes = sizeof(memory)};
	struct far_cli_common common;
	struct far_client *client;
	json_t *list;
	json_t *root;
	int down = 0;

	far_cli_common_init(&common);
	argp_parse(&argp, argc, argv, 0, NULL, &common);
	if (far_cli_open(&common, "1MiB", false, &client) != 0)
		return 1;
	(void)far_client_wait_donors(client, far_now_ns() + common.timeout_ns, NULL, 0);
	(void)far_client_memory_get(client, &memory);
	list = json_array();
	if (!common.json) {
		print_policies(&common.policies);
		far_cli_memory_print(&memory, stdout);
	}
	for (size_t i = 0;
	     far_donor_status_get(client, i, far_now_ns() + common.timeout_ns, &donor) == 0; i++) {
		down += strcmp(donor.state, "up") != 0;
		if (common.json)
			json_array_append_new(list, donor_json(&donor));
		else
			print_donor(&donor);
	}
	root = json_object();
	json_object_set_new(root, "client", policies_json(&common.policies));
	json_object_set_new(root, "memory", far_cli_memory_json(&memory));
	json_object_set_new(root, "donors", list);
	if (common.json) {
		json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
		putchar('\n');
	}
	json_decref(root);
	far_client_close(client);
	return down > 0 ? 1 : 0;
}
