/* cli.h - what the commands of farpool share: options, opening a client, errors for people. */
#ifndef FAR_TOOLS_CLI_CLI_H
#define FAR_TOOLS_CLI_CLI_H

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/config.h"
#include "farpool/farpool.h"

#define FAR_CLI_SETS_MAX 64

/* Options that every command has; filled by far_cli_argp. */
struct far_cli_common {
	const char *config_path;                        /* -c */
	struct far_donor_config donors[FAR_DONORS_MAX]; /* -d NAME=ADDRESS[,WEIGHT] */
	size_t donor_count;
	const char *sets[FAR_CLI_SETS_MAX]; /* -s KEY=VALUE */
	size_t set_count;
	uint64_t timeout_ns; /* -t */
	bool json;           /* -j */
	bool host_memory;    /* a command that looks at bytes: not on a GPU, unless --set says so */
	/* Out of far_cli_open(): of the configuration that it opened. */
	bool verify; /* CRC32C of every block is checked */
	struct far_cli_policies {
		char prefetch[128];
		char store[128];
		const char *eviction; /* static */
		double evict_high;
		double evict_low;
	} policies;
};

/* A child parser for struct far_cli_common, to be listed in a command's argp. */
extern const struct argp far_cli_argp;
void far_cli_common_init(struct far_cli_common *common);

/* Prints "farpool: ..." on stderr; returns 1, the exit status of a failure. */
int far_cli_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The configuration that the options make. @l1_size: as below. @config: to be ended with
 * far_client_config_fini(), whatever the result. Returns 0, or a negative errno with one line in
 * @error, or none. */
int far_cli_config(const struct far_cli_common *common, const char *l1_size,
		   struct far_client_config *config, char error[FAR_PARAM_ERROR_BYTES]);

/* Opens a client as the options say. @l1_size: L1 of a command that needs little, whatever the
 * configuration of the engine says; NULL: the configuration's, or 256MiB. --set goes over both.
 * @wait: every donor must be up within the timeout. Prints its own error. 0 or 1. */
int far_cli_open(struct far_cli_common *common, const char *l1_size, bool wait,
		 struct far_client **out);

/* 32 hex digits are a key; any other text is hashed to one. */
int far_cli_key(const char *text, struct far_key *out);

/* "1.2 GiB" */
const char *far_cli_bytes(uint64_t bytes, char out[32]);

/* Each takes argv from its own name on; returns the exit status. */
int far_cli_put(int argc, char **argv);
int far_cli_get(int argc, char **argv);
int far_cli_delete(int argc, char **argv);
int far_cli_status(int argc, char **argv);
int far_cli_replay(int argc, char **argv);
int far_cli_doctor(int argc, char **argv);

#endif
