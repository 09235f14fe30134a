/* config.c - the daemon's parameters: the pool's rows and its own in one table, loaded and checked. */
#include "tools/farpoold/farpoold.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "transport/transport.h"

#define ROWS_MAX    40
#define AT(field)   offsetof(struct farpoold_config, field)
#define RDMA(field) AT(rdma.field)

static const struct far_param own_rows[] = {
	{.name = "listen",
	 .type = FAR_PARAM_STRING,
	 .offset = AT(listen),
	 .min = 1,
	 .max = FAR_ADDRESS_LIST_BYTES_MAX - 1,
	 .help = "Where clients connect, one address per transport, separated by commas: "
		 "shm:/PATH is a socket on this host, verbs:HOST:PORT is RDMA, ucx:HOST:PORT any "
		 "network."},
	{.name = "trust",
	 .type = FAR_PARAM_ENUM,
	 .offset = AT(trust),
	 .fallback = "none",
	 .choices = FAR_TRUST_CHOICES,
	 .help = "none: ucx is TCP, and every read is served; fabric: ucx is RDMA alone, reads "
		 "cost "
		 "this donor nothing, and whoever is on the fabric may write into all that it "
		 "lends."},
	FAR_RDMA_PARAMS(RDMA),
	{.name = "backing",
	 .type = FAR_PARAM_STRING,
	 .offset = AT(backing),
	 .max = FARPOOLD_PATH_BYTES - 1,
	 .fallback = "",
	 .help = "Folder on tmpfs or hugetlbfs, made if its parent is there, that keeps what is "
		 "stored "
		 "for this donor's next start; empty: memory that ends with the process."},
	{.name = "huge_pages",
	 .type = FAR_PARAM_ENUM,
	 .offset = AT(huge_pages),
	 .fallback = "auto",
	 .choices = "auto|off|on",
	 .help = "Lend 2 MiB pages; auto: as far as some are reserved, and for an index that gets "
		 "none of those such as the kernel makes; on: reserved ones, or do not start. With "
		 "a backing its file system decides, but for the index."},
	{.name = "numa_node",
	 .type = FAR_PARAM_ENUM,
	 .offset = AT(numa_node),
	 .fallback = "any",
	 .choices = "any|0|1|2|3|4|5|6|7|8|9|10|11|12|13|14|15",
	 .help = "Take the memory from this NUMA node alone."},
	{.name = "busy_poll",
	 .type = FAR_PARAM_DURATION,
	 .offset = AT(busy_poll_ns),
	 .max = FAR_NS_PER_S,
	 .fallback = "50us",
	 .help = "How long to spin for the next request instead of sleeping, where requests keep "
		 "coming that fast (ucx); 0: not at all."},
	{.name = "log_level",
	 .type = FAR_PARAM_ENUM,
	 .offset = AT(log_level),
	 .fallback = "info",
	 .choices = "error|warn|info|debug",
	 .help = "What is written to the standard error output."},
};

#define OWN_ROWS (sizeof(own_rows) / sizeof(own_rows[0]))

/* The pool's rows, then ours. With @relaxed nothing is required: settings may still give it. */
static const struct far_param_table *
table_make(struct far_param_table *table, struct far_param *rows, bool relaxed)
{
	size_t count = 0;

	FAR_ASSERT(far_pool_params.count + OWN_ROWS <= ROWS_MAX);
	for (size_t i = 0; i < far_pool_params.count; i++) {
		rows[count] = far_pool_params.params[i];
		rows[count++].offset += AT(pool);
	}
	for (size_t i = 0; i < OWN_ROWS; i++)
		rows[count++] = own_rows[i];
	for (size_t i = 0; relaxed && i < count; i++) {
		if (rows[i].fallback != NULL)
			continue;
		rows[i].fallback = rows[i].type == FAR_PARAM_STRING ? "" : "0";
		rows[i].min = 0;
	}
	*table = (struct far_param_table){.title = "farpoold", .params = rows, .count = count};
	return table;
}

const struct far_param_table *
farpoold_table(void)
{
	static struct far_param rows[ROWS_MAX];
	static struct far_param_table table;

	return table_make(&table, rows, false);
}

/* Whether a required parameter was given neither by the file nor by a setting. */
static bool
is_missing(const struct far_param *param, const struct farpoold_config *config)
{
	const char *at = (const char *)config + param->offset;
	uint64_t number;

	if (param->fallback != NULL)
		return false;
	if (param->type == FAR_PARAM_STRING)
		return at[0] == '\0';
	memcpy(&number, at, sizeof(number));
	return number == 0;
}

static int
settings_apply(const struct far_param_table *table, const char *const *settings,
	       size_t setting_count, struct farpoold_config *config,
	       char error[FAR_PARAM_ERROR_BYTES])
{
	for (size_t i = 0; i < setting_count; i++) {
		const char *equals = strchr(settings[i], '=');
		char name[64];
		int rc;

		if (equals == NULL || (size_t)(equals - settings[i]) >= sizeof(name)) {
			snprintf(error, FAR_PARAM_ERROR_BYTES,
				 "'%.60s': not a setting: write key=value, for example memory=1GiB",
				 settings[i]);
			return -EINVAL;
		}
		memcpy(name, settings[i], (size_t)(equals - settings[i]));
		name[equals - settings[i]] = '\0';
		rc = far_param_set(table, config, name, equals + 1, error);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int
listen_check(const struct farpoold_config *config, char error[FAR_PARAM_ERROR_BYTES])
{
	struct far_address_list list;
	char cause[192];

	if (far_address_list_parse(config->listen, &list, cause) < 0) {
		snprintf(error, FAR_PARAM_ERROR_BYTES, "listen: %s", cause);
		return -EINVAL;
	}
	for (uint32_t i = 0; i < list.count; i++) {
		if (far_transport_find(list.items[i].scheme) != NULL)
			continue;
		snprintf(error, FAR_PARAM_ERROR_BYTES,
			 "listen: '%s': this build has no transport '%s': write shm:/PATH, "
			 "verbs:HOST:PORT or ucx:HOST:PORT",
			 list.items[i].text, list.items[i].scheme);
		return -EINVAL;
	}
	return 0;
}

/* Sizes that were chosen for the user are said once. */
static void
fit(struct far_pool_config *pool)
{
	struct far_pool_config asked = *pool;

	far_pool_config_fit(pool);
	if (asked.capacity_bytes != pool->capacity_bytes)
		far_log_info("memory rounded down to %" PRIu64 " MiB, whole lanes",
			     pool->capacity_bytes >> 20);
	if (asked.segment_bytes == 0 || asked.lane_bytes == 0)
		far_log_debug("segments of %" PRIu64 " MiB, lanes of %" PRIu64 " MiB",
			      pool->segment_bytes >> 20, pool->lane_bytes >> 20);
}

int
farpoold_config_load(const char *path, const char *const *settings, size_t setting_count,
		     struct farpoold_config *out, char error[FAR_PARAM_ERROR_BYTES])
{
	struct far_param rows[ROWS_MAX];
	struct far_param_table relaxed;
	const struct far_param_table *table = farpoold_table();
	struct farpoold_config config;
	int rc = 0;

	memset(&config, 0, sizeof(config));
	if (setting_count > 0 || path == NULL)
		table_make(&relaxed, rows, true);
	else
		relaxed = *table;
	far_param_defaults(&relaxed, &config);
	if (path != NULL)
		rc = far_param_load(&relaxed, path, &config, error);
	if (rc == 0)
		rc = settings_apply(table, settings, setting_count, &config, error);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < table->count; i++) {
		if (!is_missing(&table->params[i], &config))
			continue;
		snprintf(error, FAR_PARAM_ERROR_BYTES,
			 "key '%s': missing; add it to the configuration file, or give %s=...",
			 table->params[i].name, table->params[i].name);
		return -EINVAL;
	}
	far_log_level_set((enum far_log_level)config.log_level);
	fit(&config.pool);
	rc = far_pool_config_check(&config.pool, error);
	if (rc == 0)
		rc = listen_check(&config, error);
	if (rc == 0 && config.backing[0] != '\0' && config.backing[0] != '/') {
		snprintf(error, FAR_PARAM_ERROR_BYTES,
			 "backing: '%.60s' is not absolute: write /dev/shm/NAME, or a folder on a "
			 "mounted hugetlbfs",
			 config.backing);
		rc = -EINVAL;
	}
	if (rc == 0)
		*out = config;
	return rc;
}

void
farpoold_size_format(uint64_t bytes, char out[FARPOOLD_SIZE_TEXT_BYTES])
{
	if (bytes >= 1ULL << 40)
		snprintf(out, FARPOOLD_SIZE_TEXT_BYTES, "%.1f TiB", (double)bytes / (1ULL << 40));
	else if (bytes >= 1ULL << 30)
		snprintf(out, FARPOOLD_SIZE_TEXT_BYTES, "%.1f GiB", (double)bytes / (1ULL << 30));
	else
		snprintf(out, FARPOOLD_SIZE_TEXT_BYTES, "%.1f MiB", (double)bytes / (1ULL << 20));
}
