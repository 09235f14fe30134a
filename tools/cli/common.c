/* common.c - options that all commands share, and opening a client from them. */
#include "tools/cli/cli.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/key.h"

#define L1_DEFAULT "256MiB"

static const struct argp_option options[] = {
	{"config", 'c', "FILE", 0, "the client's configuration", 0},
	{"donor", 'd', "NAME=ADDRESS[,ADDRESS...][,WEIGHT]", 0,
	 "a donor, instead of a configuration: donor-a=shm:/run/farpool/donor-a.sock; repeat", 0},
	{"set", 's', "KEY=VALUE", 0, "one key of the configuration: l1.size=4GiB; repeat", 0},
	{"timeout", 't', "TIME", 0, "how long to wait for donors and answers (default 5s)", 0},
	{"json", 'j', NULL, 0, "JSON instead of a table", 0},
	{0},
};

int
far_cli_fail(const char *fmt, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "farpool: ");
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	return 1;
}

/* NAME=ADDRESS[,ADDRESS...][,WEIGHT]. Returns 0, or what is wrong with it. */
static const char *
donor_parse(const char *text, struct far_donor_config *donor)
{
	const char *equals = strchr(text, '=');
	const char *comma = equals != NULL ? strrchr(equals, ',') : NULL;
	size_t name_size;
	size_t address_size;

	if (equals == NULL || equals == text || equals[1] == '\0')
		return "write NAME=ADDRESS, for example donor-a=shm:/run/farpool/donor-a.sock";
	if (comma != NULL && strchr(comma, ':') != NULL)
		comma = NULL; /* behind it stands one more address */
	name_size = (size_t)(equals - text);
	address_size = comma != NULL ? (size_t)(comma - equals - 1) : strlen(equals + 1);
	if (name_size >= sizeof(donor->name) || address_size >= sizeof(donor->address))
		return "the name has at most 63 bytes and the addresses 511";
	donor->weight = 1;
	if (comma != NULL) {
		char *end;

		donor->weight = strtod(comma + 1, &end);
		if (*end != '\0' || !isfinite(donor->weight) || donor->weight <= 0)
			return "the weight behind the comma is a number above 0";
	}
	memcpy(donor->name, text, name_size);
	memcpy(donor->address, equals + 1, address_size);
	return NULL;
}

static int
parse_donor(struct far_cli_common *common, const char *text, struct argp_state *state)
{
	const char *wrong;

	if (common->donor_count == FAR_DONORS_MAX) {
		argp_failure(state, 2, 0, "more than %d donors", FAR_DONORS_MAX);
		return EINVAL;
	}
	wrong = donor_parse(text, &common->donors[common->donor_count]);
	if (wrong != NULL) {
		argp_failure(state, 2, 0, "donor '%s': %s", text, wrong);
		return EINVAL;
	}
	common->donor_count++;
	return 0;
}

static error_t
parse_option(int key, char *arg, struct argp_state *state)
{
	struct far_cli_common *common = state->input;

	switch (key) {
	case 'c':
		common->config_path = arg;
		return 0;
	case 'd':
		return parse_donor(common, arg, state);
	case 's':
		if (common->set_count == FAR_CLI_SETS_MAX || strchr(arg, '=') == NULL)
			argp_failure(state, 1, 0, "'%s': write KEY=VALUE", arg);
		else
			common->sets[common->set_count++] = arg;
		return 0;
	case 't':
		if (far_duration_parse(arg, &common->timeout_ns) < 0 || common->timeout_ns == 0)
			argp_failure(state, 1, 0, "timeout '%s': write for example 5s or 200ms",
				     arg);
		return 0;
	case 'j':
		common->json = true;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

const struct argp far_cli_argp = {.options = options, .parser = parse_option};

void
far_cli_common_init(struct far_cli_common *common)
{
	memset(common, 0, sizeof(*common));
	common->timeout_ns = 5 * FAR_NS_PER_S;
}

static int
apply_sets(const struct far_cli_common *common, struct far_client_config *config,
	   char error[FAR_PARAM_ERROR_BYTES])
{
	for (size_t i = 0; i < common->set_count; i++) {
		const char *equals = strchr(common->sets[i], '=');
		char name[64];
		size_t size = (size_t)(equals - common->sets[i]);
		int rc;

		if (size >= sizeof(name)) {
			snprintf(error, FAR_PARAM_ERROR_BYTES, "'%.80s': no such key",
				 common->sets[i]);
			return -EINVAL;
		}
		memcpy(name, common->sets[i], size);
		name[size] = '\0';
		rc = far_param_set(&far_client_params, config, name, equals + 1, error);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int
far_cli_config(const struct far_cli_common *common, const char *l1_size,
	       struct far_client_config *config, char error[FAR_PARAM_ERROR_BYTES])
{
	int rc;

	memset(config, 0, sizeof(*config));
	if (common->config_path != NULL) {
		rc = far_param_load(&far_client_params, common->config_path, config, error);
		if (rc < 0)
			return rc;
	} else {
		far_param_defaults(&far_client_params, config);
	}
	if (common->host_memory)
		far_client_config_host(config);
	if (l1_size == NULL && common->config_path == NULL)
		l1_size = L1_DEFAULT;
	if (l1_size != NULL) {
		rc = far_param_set(&far_client_params, config, "l1.size", l1_size, error);
		if (rc < 0)
			return rc;
	}
	if (common->donor_count > 0) {
		far_free(config->donors);
		config->donor_count = 0;
		config->donors = far_zalloc_array(common->donor_count, sizeof(*config->donors));
		if (config->donors == NULL)
			return -ENOMEM;
		memcpy(config->donors, common->donors,
		       common->donor_count * sizeof(*config->donors));
		config->donor_count = common->donor_count;
	}
	rc = apply_sets(common, config, error);
	if (rc < 0)
		return rc;
	return far_client_config_check(config, error);
}

int
far_cli_open(struct far_cli_common *common, const char *l1_size, bool wait, struct far_client **out)
{
	char error[FAR_PARAM_ERROR_BYTES] = "";
	struct far_client_config config;
	int rc;

	if (common->config_path == NULL && common->donor_count == 0)
		return far_cli_fail("no donors: give --config FILE, or --donor NAME=ADDRESS");
	rc = far_cli_config(common, l1_size, &config, error);
	if (rc == 0 && config.donor_count == 0) {
		rc = -EINVAL;
		snprintf(error, sizeof(error), "%s lists no donors: add one to 'donors:'",
			 common->config_path);
	}
	if (rc < 0) {
		far_client_config_fini(&config);
		return far_cli_fail("%s", error[0] != '\0' ? error : far_strerror(rc));
	}
	common->verify = config.verify != 0;
	common->policies = (struct far_cli_policies){
		.eviction = far_client_evictions[config.l1_eviction],
		.evict_high = config.l1_evict_high,
		.evict_low = config.l1_evict_low,
	};
	memcpy(common->policies.prefetch, config.prefetch_policy, sizeof(config.prefetch_policy));
	memcpy(common->policies.store, config.store_policy, sizeof(config.store_policy));
	rc = far_client_open_config(&config, out, error);
	if (rc < 0)
		return far_cli_fail("the client cannot be opened: %s",
				    error[0] != '\0' ? error : far_strerror(rc));
	if (!wait)
		return 0;
	rc = far_client_wait_donors(*out, far_now_ns() + common->timeout_ns, error, sizeof(error));
	if (rc < 0) {
		far_client_close(*out);
		return far_cli_fail("%s", error);
	}
	return 0;
}

int
far_cli_key(const char *text, struct far_key *out)
{
	struct far_key_parts parts = {.size_bytes = sizeof(parts)};

	if (far_key_parse(text, out) == 0)
		return 0;
	parts.model = "farpool";
	parts.chunk_hash = text;
	parts.chunk_hash_bytes = strlen(text);
	return far_key_make(&parts, out);
}

const char *
far_cli_bytes(uint64_t bytes, char out[32])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	double value = (double)bytes;
	size_t unit = 0;

	while (value >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		value /= 1024;
		unit++;
	}
	snprintf(out, 32, unit == 0 ? "%.0f %s" : "%.2f %s", value, units[unit]);
	return out;
}
