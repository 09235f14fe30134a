/* doctor_command.c - farpool doctor: its options, what they ask of this host, and the verdict. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "client/arena.h"
#include "tools/cli/cli.h"
#include "tools/cli/doctor/doctor.h"
#include "tools/cli/doctor/trip.h"
#include "tools/farpoold/farpoold.h"

#define TARGETS_MAX 16U

struct doctor_options {
	struct far_cli_common common;
	const char *donor_config;
	const char *root;            /* of /proc, /sys, /dev; for tests */
	const char *to[TARGETS_MAX]; /* as it was typed */
	size_t to_count;
	struct far_address targets[TARGETS_MAX]; /* what it stands for */
	size_t target_count;
	bool read_only;
};

enum { OPTION_ROOT = 256 };

static const struct argp_option options[] = {
	{"to", 'T', "ADDRESS[,ADDRESS...]", 0,
	 "go to a donor and back: verbs:10.0.0.3:7471; each address is proved by itself; repeat",
	 0},
	{"read-only", 'r', NULL, 0, "with --to: store nothing there", 0},
	{"donor-config", 'D', "FILE", 0, "farpoold's configuration: what this host is to lend", 0},
	{"root", OPTION_ROOT, "FOLDER", OPTION_HIDDEN, "where /proc, /sys and /dev are", 0},
	{0},
};

static error_t
parse(int key, char *arg, struct argp_state *state)
{
	struct doctor_options *given = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &given->common;
		return 0;
	case 'T':
		if (given->to_count == TARGETS_MAX)
			argp_failure(state, 2, 0, "--to: %u are the most", TARGETS_MAX);
		else
			given->to[given->to_count++] = arg;
		return 0;
	case 'r':
		given->read_only = true;
		return 0;
	case 'D':
		given->donor_config = arg;
		return 0;
	case OPTION_ROOT:
		given->root = arg;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "too many arguments: '%s'; an address goes behind --to", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* ---- where to go ---- */

static int
addresses_add(struct doctor_options *given, const char *text)
{
	struct far_address_list list;
	char error[192];

	if (far_address_list_parse(text, &list, error) < 0)
		return far_cli_fail("--to: %s", error);
	for (uint32_t i = 0; i < list.count; i++) {
		if (given->target_count == TARGETS_MAX)
			return far_cli_fail("--to: %u addresses are the most", TARGETS_MAX);
		given->targets[given->target_count++] = list.items[i];
	}
	return 0;
}

/* Addresses have a colon, names have none. Returns 0, or an exit status. */
static int
targets_find(struct doctor_options *given, const struct far_client_config *config)
{
	int rc = 0;

	for (size_t i = 0; i < given->to_count && rc == 0; i++) {
		const char *to = given->to[i];
		size_t found = 0;

		if (strchr(to, ':') != NULL) {
			rc = addresses_add(given, to);
			continue;
		}
		for (size_t j = 0; j < config->donor_count && rc == 0; j++) {
			if (strcmp(to, "all") != 0 && strcmp(to, config->donors[j].name) != 0)
				continue;
			found++;
			rc = addresses_add(given, config->donors[j].address);
		}
		if (rc == 0 && found == 0)
			rc = far_cli_fail(
				"--to: '%.63s' is no donor of --config or --donor, and no "
				"address: write for example verbs:10.0.0.3:7471",
				to);
	}
	return rc;
}

/* ---- what is asked of this host ---- */

static void
scheme_want(struct far_doctor_wanted *wanted, const char *scheme, bool fabric)
{
	wanted->verbs = wanted->verbs || strcmp(scheme, "verbs") == 0;
	wanted->ucx = wanted->ucx || strcmp(scheme, "ucx") == 0;
	wanted->fabric = wanted->fabric || (fabric && strcmp(scheme, "ucx") == 0);
}

static void
addresses_want(struct far_doctor_wanted *wanted, const char *text, bool fabric)
{
	struct far_address_list list;
	char error[192];

	if (far_address_list_parse(text, &list, error) < 0)
		return; /* said by whoever checks the configuration */
	for (uint32_t i = 0; i < list.count; i++)
		scheme_want(wanted, list.items[i].scheme, fabric);
}

static void
bytes_want(struct far_doctor_wanted *wanted, uint64_t size_bytes, const char *what)
{
	size_t used = strlen(wanted->what);

	wanted->host_bytes += size_bytes;
	(void)snprintf(wanted->what + used, sizeof(wanted->what) - used, "%s%s",
		       used > 0 ? " and " : "", what);
}

static void
client_want(struct far_doctor_wanted *wanted, const struct far_cli_common *common,
	    const struct far_client_config *config)
{
	bool fabric = config->trust == FAR_TRUST_FABRIC;

	for (size_t i = 0; i < config->donor_count; i++)
		addresses_want(wanted, config->donors[i].address, fabric);
	if (config->transport != 0)
		scheme_want(wanted, far_client_transports[config->transport], fabric);
	wanted->cuda = config->l1_memory == FAR_MEMORY_CUDA;
	if (common->config_path == NULL)
		return;
	if (!wanted->cuda)
		bytes_want(wanted, config->l1_bytes, "l1.size of the client");
	wanted->huge_on = config->l1_huge == FAR_PAGES_HUGE_ON;
	if (config->numa_node != 0)
		wanted->numa_node = (int)config->numa_node - 1;
}

static void
config_failed(struct far_doctor_report *report, const char *path, const char *error)
{
	far_doctor_group(report, "Configuration");
	far_doctor_add(report, FAR_DOCTOR_FAIL, "file", "%s", error);
	far_doctor_fix(report, "correct %s: docs/configuration.md has every key", path);
}

/* Adds a check for each file. Returns 0, or an exit status. */
static int
configs_read(struct doctor_options *given, struct far_client_config *config,
	     struct far_doctor_wanted *wanted, struct far_doctor_report *report)
{
	char error[FAR_PARAM_ERROR_BYTES] = "";
	enum far_log_level level = far_log_level_get();
	struct farpoold_config donor;
	int rc;

	wanted->numa_node = -1;
	if (far_cli_config(&given->common, NULL, config, error) < 0) {
		if (given->common.config_path == NULL)
			return far_cli_fail("%s", error);
		config_failed(report, given->common.config_path, error);
		far_client_config_fini(config);
		memset(config, 0, sizeof(*config));
		far_param_defaults(&far_client_params, config);
	} else {
		client_want(wanted, &given->common, config);
	}
	rc = targets_find(given, config);
	if (rc != 0)
		return rc;
	for (size_t i = 0; i < given->target_count; i++)
		scheme_want(wanted, given->targets[i].scheme, config->trust == FAR_TRUST_FABRIC);
	if (given->donor_config == NULL)
		return 0;
	rc = farpoold_config_load(given->donor_config, NULL, 0, &donor, error);
	far_log_level_set(level); /* the donor's is not ours */
	if (rc < 0) {
		config_failed(report, given->donor_config, error);
		return 0;
	}
	addresses_want(wanted, donor.listen, donor.trust == FAR_TRUST_FABRIC);
	bytes_want(wanted, donor.pool.capacity_bytes, "memory of the donor");
	wanted->huge_on = wanted->huge_on || donor.huge_pages == FAR_PAGES_HUGE_ON;
	if (donor.numa_node != 0)
		wanted->numa_node = (int)donor.numa_node - 1;
	return 0;
}

/* ---- the verdict ---- */

static void
print_table(const struct far_doctor_report *report)
{
	char host[65] = "this host";

	(void)gethostname(host, sizeof(host) - 1);
	printf("farpool %s doctor on %s\n\n", far_version(), host);
	far_doctor_print(report, stdout);
}

static void
print_json(const struct far_doctor_report *report)
{
	json_t *root = far_doctor_json(report);

	json_object_set_new(root, "version", json_string(far_version()));
	json_dumpf(root, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(root);
}

static void
examine(const struct doctor_options *given, const struct far_client_config *config,
	struct far_doctor_host *host, struct far_doctor_report *report)
{
	struct far_doctor_trip trip = {
		.host = host,
		.config = config,
		.timeout_ns = given->common.timeout_ns,
		.read_only = given->read_only,
	};

	far_doctor_look(host);
	far_doctor_machine(host, report);
	far_doctor_memory(host, report);
	far_doctor_rdma(host, report);
	far_doctor_ucx(host, report);
	far_doctor_gpus(host, report);
	/* What hangs would take the trial with it. */
	for (size_t i = 0; i < given->target_count && !host->hangs; i++)
		far_doctor_prove(&trip, &given->targets[i], report);
}

int
far_cli_doctor(int argc, char **argv)
{
	static const struct argp_child children[] = {{&far_cli_argp, 0, NULL, 0}, {0}};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.doc = "Check what farpool needs of this host, and say how to mend it; with --to, "
		       "prove a path to a donor by moving bytes. The exit status is 1 if a check "
		       "failed.",
		.children = children,
	};
	static struct far_doctor_host host;
	static struct far_doctor_report report;
	struct doctor_options given = {.root = ""};
	struct far_client_config config;
	int rc;

	far_cli_common_init(&given.common);
	argp_parse(&argp, argc, argv, 0, NULL, &given);
	host.root = given.root;
	rc = configs_read(&given, &config, &host.wanted, &report);
	if (rc == 0) {
		examine(&given, &config, &host, &report);
		if (given.common.json)
			print_json(&report);
		else
			print_table(&report);
		rc = far_doctor_count(&report, FAR_DOCTOR_FAIL) > 0 ? 1 : 0;
	}
	far_client_config_fini(&config);
	if (host.hangs) {
		(void)fflush(stdout);
		_exit(rc); /* without the destructors of libraries that a thread is in */
	}
	return rc;
}
