/* settings.c - any bytes as the settings of the daemon or of a client, file and command line: all the checks. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "tools/cli/cli.h"
#include "tools/farpoold/farpoold.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

#define TEXT_BYTES 4096U
#define LINES_MAX  16U

static void
no_log(void *arg, enum far_log_level level, const char *line)
{
	(void)arg;
	/* The words of a failed assertion are why we are here. */
	if (level == FAR_LOG_ERROR && strncmp(line, "assertion", 9) == 0)
		fprintf(stderr, "%s\n", line);
	FAR_ASSERT(strchr(line, '\n') == NULL);
}

static void
error_check(int rc, const char *error)
{
	if (rc == 0 || rc == -ENOMEM)
		return;
	FAR_ASSERT(error[0] != '\0');
	FAR_ASSERT(memchr(error, '\0', FAR_PARAM_ERROR_BYTES) != NULL);
	FAR_ASSERT(strchr(error, '\n') == NULL);
}

/* Lines, cut in place; those without '=' are what a command line refuses by itself. */
static size_t
lines_cut(char *text, const char **lines)
{
	size_t count = 0;

	for (char *line = strtok(text, "\n"); line != NULL && count < LINES_MAX;
	     line = strtok(NULL, "\n"))
		lines[count++] = line;
	return count;
}

static void
daemon_take(char *text)
{
	char error[FAR_PARAM_ERROR_BYTES] = "";
	const char *lines[LINES_MAX];
	size_t count = lines_cut(text, lines);
	struct farpoold_config config;
	int rc = farpoold_config_load(NULL, lines, count, &config, error);

	error_check(rc, error);
	if (rc < 0)
		return;
	FAR_ASSERT(far_pool_config_check(&config.pool, error) == 0);
	FAR_ASSERT(config.pool.capacity_bytes % config.pool.lane_bytes == 0);
	FAR_ASSERT(far_pool_index_bytes(&config.pool, 1) > 0);
}

static void
client_take(char *text)
{
	static struct far_cli_common common;
	char error[FAR_PARAM_ERROR_BYTES] = "";
	const char *lines[LINES_MAX];
	size_t count = lines_cut(text, lines);
	struct far_client_config config;
	int rc;

	far_cli_common_init(&common);
	for (size_t i = 0; i < count; i++) {
		if (strchr(lines[i], '=') != NULL)
			common.sets[common.set_count++] = lines[i];
	}
	rc = far_cli_config(&common, NULL, &config, error);
	error_check(rc, error);
	far_client_config_fini(&config);
}

static void
client_file_take(const char *text)
{
	char error[FAR_PARAM_ERROR_BYTES] = "";
	struct far_client_config config;
	int rc;

	memset(&config, 0, sizeof(config));
	rc = far_param_load_text(&far_client_params, "fuzz.yaml", text, strlen(text), &config,
				 error);
	if (rc == 0)
		rc = far_client_config_check(&config, error);
	error_check(rc, error);
	far_client_config_fini(&config);
}

static void
daemon_file_take(const char *text)
{
	char error[FAR_PARAM_ERROR_BYTES] = "";
	struct farpoold_config config;
	int rc;

	memset(&config, 0, sizeof(config));
	rc = far_param_load_text(farpoold_table(), "fuzz.yaml", text, strlen(text), &config, error);
	if (rc == 0) {
		far_pool_config_fit(&config.pool);
		rc = far_pool_config_check(&config.pool, error);
	}
	error_check(rc, error);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	char text[TEXT_BYTES];

	if (size_bytes == 0 || size_bytes > sizeof(text))
		return 0;
	far_log_sink_set(no_log, NULL);
	memcpy(text, data + 1, size_bytes - 1);
	text[size_bytes - 1] = '\0';
	switch (data[0] % 4) {
	case 0:
		daemon_take(text);
		break;
	case 1:
		client_take(text);
		break;
	case 2:
		client_file_take(text);
		break;
	default:
		daemon_file_take(text);
		break;
	}
	FAR_ASSERT(far_alloc_live_bytes() == 0);
	return 0;
}
