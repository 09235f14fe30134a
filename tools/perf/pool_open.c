/* pool_open.c - donors of our own or others', clients, and the blocks that are there to be read. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "client/config.h"
#include "tools/perf/pool.h"

#define MIB         ((uint64_t)1 << 20)
#define LANE_BYTES  (16 * MIB)
#define LANES       12U /* that writers hold open, that are being ended, and that stay free */
#define L1_MIN      (64 * MIB)
#define PHASE_ROOM  "65536" /* events that are kept until somebody reads them */
#define STORE_NS    (120 * FAR_NS_PER_S)
#define BATCH_BYTES (16 * MIB)

void
pool_key(const struct pool *pool, uint64_t idx, struct far_key *out)
{
	uint64_t words[2] = {far_mix64(pool->nonce ^ idx), idx};

	memcpy(out->bytes, words, sizeof(out->bytes));
}

static uint64_t
word_of(const struct pool *pool, uint64_t idx, uint64_t word)
{
	return (pool->nonce ^ idx) * 0x9e3779b97f4a7c15ULL + word * 0x2545f4914f6cdd1dULL;
}

/* Both ends prove that it is this block and all of it; between them every word is its own, too. */
void
pool_block_fill(const struct pool *pool, uint64_t idx, void *data, bool whole)
{
	uint64_t *words = data, count = pool->size_bytes / sizeof(*words);

	for (uint64_t i = 0; whole && i < count; i++)
		words[i] = word_of(pool, idx, i);
	words[0] = word_of(pool, idx, 0);
	words[count - 1] = word_of(pool, idx, count - 1);
}

bool
pool_block_is(const struct pool *pool, uint64_t idx, const void *data, bool whole)
{
	const uint64_t *words = data;
	uint64_t count = pool->size_bytes / sizeof(*words);

	for (uint64_t i = 0; whole && i < count; i++)
		if (words[i] != word_of(pool, idx, i))
			return false;
	return words[0] == word_of(pool, idx, 0) &&
	       words[count - 1] == word_of(pool, idx, count - 1);
}

/* ---- donors ---- */

/* farpoold as it is installed or built beside us. */
static const char *
program(const struct pool_options *options, char *room, size_t room_bytes)
{
	static const char *const places[] = {"/farpoold", "/../sbin/farpoold",
					     "/../farpoold/farpoold"};
	char self[256];
	ssize_t size = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (options->farpoold != NULL)
		return options->farpoold;
	self[size > 0 ? size : 0] = '\0';
	slash = strrchr(self, '/');
	if (slash != NULL)
		*slash = '\0';
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(room, room_bytes, "%s%s", self, places[i]);
		if (access(room, X_OK) == 0)
			return room;
	}
	return "/usr/sbin/farpoold";
}

static int
donors_start(struct pool *pool)
{
	const struct pool_options *options = pool->options;
	uint64_t set_bytes = pool->block_count * pool->size_bytes / options->donors;
	uint64_t lane_bytes = LANE_BYTES;
	char room[320], name[32];
	struct perf_donor_config config = {
		.program = program(options, room, sizeof(room)),
		.name = name,
		.over = options->over,
		/* Placement is by chance: none gets exactly its share. */
		.block_bytes_min = pool->size_bytes,
		.huge = options->huge,
		.ordinary = !options->huge,
	};

	while (lane_bytes < pool->size_bytes)
		lane_bytes *= 2;
	/* What does not fit into the rest of a lane stays empty there. */
	if (pool->size_bytes > lane_bytes / 2)
		set_bytes = pool->block_count * lane_bytes / options->donors;
	config.lane_bytes = lane_bytes;
	/* Placement is by chance: none gets exactly its share. */
	config.memory_bytes =
		(set_bytes + set_bytes / 2) * (options->mode == POOL_MIXED ? 2 : 1) / MIB * MIB +
		lane_bytes * (LANES + 4 * (uint64_t)options->clients);
	for (uint32_t i = 0; i < options->donors; i++) {
		int rc;

		snprintf(name, sizeof(name), "perf-%u", i);
		pool->donor_count++;
		rc = perf_donor_start(&pool->donors[i], &config);
		if (rc < 0) {
			char last[256];

			perf_donor_last_words(&pool->donors[i], last, sizeof(last));
			return perf_fail("%s does not serve %llu MiB over %s: %s: %s; next: "
					 "--farpoold FILE, or a smaller --set",
					 config.program,
					 (unsigned long long)(config.memory_bytes >> 20),
					 config.over, far_strerror(rc), last);
		}
	}
	return 0;
}

/* ---- clients ---- */

static int
donors_name(const struct pool *pool, struct far_client_config *config)
{
	const struct pool_options *options = pool->options;
	uint32_t count = options->address_count > 0 ? options->address_count : pool->donor_count;

	config->donors = far_zalloc_array(count, sizeof(*config->donors));
	if (config->donors == NULL)
		return -ENOMEM;
	config->donor_count = count;
	for (uint32_t i = 0; i < count; i++) {
		struct far_donor_config *donor = &config->donors[i];
		const char *text = options->addresses[i], *equals;

		donor->weight = 1;
		if (options->address_count == 0) {
			snprintf(donor->name, sizeof(donor->name), "perf-%u", i);
			snprintf(donor->address, sizeof(donor->address), "%s",
				 pool->donors[i].address);
			continue;
		}
		equals = strchr(text, '=');
		snprintf(donor->name, sizeof(donor->name), "%.*s", (int)(equals - text), text);
		snprintf(donor->address, sizeof(donor->address), "%s", equals + 1);
	}
	return 0;
}

static int
config_make(const struct pool *pool, uint64_t l1_bytes, struct far_client_config *config,
	    char error[FAR_PARAM_ERROR_BYTES])
{
	const struct pool_options *options = pool->options;
	char l1[32], least[32];
	const char *const fixed[][2] = {
		{"l1.size", l1},
		{"l1.block_min", least},
		{"l1.align", pool->size_bytes < 4096 ? "64B" : "4KiB"},
		{"l1.huge_pages", options->huge ? "on" : "off"},
		{"events", PHASE_ROOM},
		{"prefetch.keys", "65536"},
		{"name", "farpool-perf"},
	};
	int rc = 0;

	memset(config, 0, sizeof(*config));
	far_param_defaults(&far_client_params, config);
	snprintf(l1, sizeof(l1), "%lluB", (unsigned long long)l1_bytes);
	snprintf(least, sizeof(least), "%lluB", (unsigned long long)pool->size_bytes);
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]) && rc == 0; i++)
		rc = far_param_set(&far_client_params, config, fixed[i][0], fixed[i][1], error);
	for (uint32_t i = 0; i < options->set_count && rc == 0; i++) {
		const char *equals = strchr(options->sets[i], '=');
		char name[64];

		snprintf(name, sizeof(name), "%.*s", (int)(equals - options->sets[i]),
			 options->sets[i]);
		rc = far_param_set(&far_client_params, config, name, equals + 1, error);
	}
	if (rc == 0)
		rc = donors_name(pool, config);
	return rc == 0 ? far_client_config_check(config, error) : rc;
}

static int
client_open(struct pool *pool, uint64_t l1_bytes)
{
	char error[FAR_PARAM_ERROR_BYTES] = "";
	struct pool_client *client = &pool->clients[pool->client_count];
	struct far_client_config config;
	int rc = config_make(pool, l1_bytes, &config, error);

	*client = (struct pool_client){0};
	if (rc < 0) {
		far_client_config_fini(&config);
		return perf_fail("%s", error[0] != '\0' ? error : far_strerror(rc));
	}
	rc = far_client_open_config(&config, &client->client, error);
	if (rc < 0)
		return perf_fail("a client with %llu MiB of L1: %s; next: a smaller --l1 or -b",
				 (unsigned long long)(l1_bytes >> 20),
				 error[0] != '\0' ? error : far_strerror(rc));
	pool->client_count++;
	rc = far_client_wait_donors(client->client, far_now_ns() + pool->options->timeout_ns, error,
				    sizeof(error));
	return rc < 0 ? perf_fail("%s", error[0] != '\0' ? error : far_strerror(rc)) : 0;
}

/* What the first client says of the first donor goes into every result. */
static void
place_fill(struct pool *pool)
{
	struct far_donor_status status = {.size_bytes = sizeof(status)};
	struct perf_place *place = &pool->place;

	if (far_donor_status_get(pool->clients[0].client, 0,
				 far_now_ns() + pool->options->timeout_ns, &status) < 0)
		return;
	snprintf(place->transport, sizeof(place->transport), "%s", status.transport);
	snprintf(place->address, sizeof(place->address), "%.250s", status.text);
	place->one_sided = status.one_sided != 0;
	place->own_server = pool->donor_count > 0;
	place->page_bytes = pool->options->huge ? 2 * MIB : 4096;
	place->set_bytes = pool->block_count * pool->size_bytes;
	snprintf(pool->path, sizeof(pool->path), "%s%s%s",
		 place->one_sided ? "one-sided" : "served by the donor",
		 status.memory_path[0] != '\0' ? ", " : "", status.memory_path);
}

int
pool_begin(struct pool *pool, const struct pool_options *options)
{
	*pool = (struct pool){.options = options};
	perf_place_read(&pool->place);
	far_random_bytes(&pool->nonce, sizeof(pool->nonce));
	pool->rows = far_zalloc_array(POOL_ROWS_MAX, sizeof(*pool->rows));
	return pool->rows == NULL ? perf_fail("no memory") : 0;
}

int
pool_open(struct pool *pool, uint64_t size_bytes, uint64_t block_count, uint64_t flight_bytes)
{
	const struct pool_options *options = pool->options;
	uint64_t l1_bytes = options->l1_bytes;

	pool->size_bytes = size_bytes;
	pool->block_count = block_count;
	pool->next_fresh = block_count;
	if (l1_bytes == 0) {
		l1_bytes = 4 * flight_bytes;
		if (l1_bytes < options->set_bytes / 2 / options->clients)
			l1_bytes = options->set_bytes / 2 / options->clients;
		if (l1_bytes < L1_MIN)
			l1_bytes = L1_MIN;
		if (l1_bytes < 16 * size_bytes)
			l1_bytes = 16 * size_bytes;
	} else if (l1_bytes < 2 * flight_bytes) {
		return perf_fail("--l1 of %llu MiB is too small for %llu MiB in flight; next: 4 "
				 "times that, a smaller -b or -t",
				 (unsigned long long)(l1_bytes >> 20),
				 (unsigned long long)(flight_bytes >> 20));
	}
	if (options->address_count == 0 && donors_start(pool) != 0)
		return 1;
	for (uint32_t i = 0; i < options->clients; i++)
		if (client_open(pool, l1_bytes) != 0)
			return 1;
	place_fill(pool);
	return 0;
}

/* ---- blocks ---- */

static int
block_store(struct pool *pool, uint64_t idx)
{
	struct far_client *client = pool->clients[0].client;
	struct far_block *block;
	struct far_key key;
	int rc;

	pool_key(pool, idx, &key);
	rc = far_reserve(client, &key, (uint32_t)pool->size_bytes, &block);
	if (rc == -ENOMEM) {
		/* Those before hold L1 until the donors have them. */
		rc = far_flush(client, far_now_ns() + STORE_NS, NULL);
		if (rc == 0)
			rc = far_reserve(client, &key, (uint32_t)pool->size_bytes, &block);
	}
	if (rc < 0)
		return rc;
	pool_block_fill(pool, idx, far_block_buffer(block), true);
	return far_commit(block);
}

int
pool_fill(struct pool *pool)
{
	struct far_flush_result result = {.size_bytes = sizeof(result)};
	uint64_t batch = BATCH_BYTES / pool->size_bytes;
	int rc = 0;

	if (batch > 4096)
		batch = 4096;
	for (uint64_t i = 0; i < pool->block_count && rc == 0; i++) {
		rc = block_store(pool, i);
		if (rc == 0 && (i % (batch + 1) == batch || i + 1 == pool->block_count))
			rc = far_flush(pool->clients[0].client, far_now_ns() + STORE_NS, &result);
	}
	if (rc < 0)
		return perf_fail("blocks of %llu bytes cannot be stored: %s",
				 (unsigned long long)pool->size_bytes, far_strerror(rc));
	if (result.failed > 0 || result.dropped > 0)
		return perf_fail("the donors took %llu of %llu blocks; next: donors with more "
				 "memory than --set, or a smaller --set",
				 (unsigned long long)result.stored,
				 (unsigned long long)pool->block_count);
	return 0;
}

/* Others' donors are left as they were, as far as they still have what we stored. */
static void
blocks_delete(struct pool *pool)
{
	uint64_t deadline_ns = far_now_ns() + STORE_NS;

	for (uint64_t i = 0; i < pool->next_fresh; i++) {
		struct far_key key;
		int rc;

		pool_key(pool, i, &key);
		rc = far_delete(pool->clients[0].client, &key, deadline_ns);
		if (rc == -ETIMEDOUT || rc == -EHOSTDOWN)
			break;
	}
}

void
pool_shut(struct pool *pool)
{
	if (pool->options->address_count > 0 && pool->client_count > 0)
		blocks_delete(pool);
	for (uint32_t i = 0; i < pool->client_count; i++)
		far_client_close(pool->clients[i].client);
	for (uint32_t i = 0; i < pool->donor_count; i++)
		perf_donor_stop(&pool->donors[i]);
	pool->client_count = pool->donor_count = 0;
}

void
pool_end(struct pool *pool)
{
	for (uint32_t i = 0; i < pool->row_count; i++)
		far_free(pool->rows[i].hist);
	far_free(pool->rows);
}

struct pool_row *
pool_row_new(struct pool *pool, const char *what, uint64_t batch)
{
	struct pool_row *row = &pool->rows[pool->row_count];

	if (pool->row_count == POOL_ROWS_MAX)
		return NULL;
	row->hist = far_zalloc(sizeof(*row->hist));
	if (row->hist == NULL)
		return NULL;
	row->what = what;
	row->size_bytes = pool->size_bytes;
	row->batch = batch;
	row->blocks = pool->block_count;
	row->clients = pool->client_count;
	row->donors = pool->donor_count > 0 ? pool->donor_count : pool->options->address_count;
	pool->row_count++;
	return row;
}
