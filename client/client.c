/* client.c - opening and closing: arena, L1, transports, adapters, controllers, in that order. */
#include "client/client_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "client/load.h"

#define L1_BLOCKS_MAX (1U << 28) /* what L1's table holds at the most */

/* How many forks lie between a client's opening and now: a child may not touch it. */
static _Atomic uint64_t fork_generation;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void
fork_in_child(void)
{
	atomic_fetch_add(&fork_generation, 1);
}

static void
fork_watch(void)
{
	(void)pthread_atfork(NULL, NULL, fork_in_child);
}

int
far_client_enter(const struct far_client *client)
{
	if (client == NULL)
		return -EINVAL;
	if (client->fork_generation != atomic_load_explicit(&fork_generation, memory_order_relaxed))
		return -EPERM;
	return 0;
}

static int
open_l1(struct far_client *client, char error[FAR_PARAM_ERROR_BYTES])
{
	const struct far_client_config *config = &client->config;
	uint64_t blocks = config->l1_bytes / config->block_bytes_min;
	struct far_l1_config l1 = {
		.align_bytes = (uint32_t)config->l1_align_bytes,
		.block_bytes_min = (uint32_t)config->block_bytes_min,
		.blocks_max = blocks < L1_BLOCKS_MAX ? (uint32_t)blocks : L1_BLOCKS_MAX,
		.policy = (enum far_l1_policy)config->l1_eviction,
		.clock = client->clock,
		.recorder = client->recorder,
	};
	int rc;

	rc = far_client_arena_open(config, &client->arena, error);
	if (rc < 0) {
		far_log_error("client '%s': %s", config->name, error);
		return rc;
	}
	if (client->arena.device != NULL) {
		l1.publish = far_client_arena_publish;
		l1.publish_arg = &client->arena;
	}
	l1.base = client->arena.base;
	l1.size_bytes = client->arena.size_bytes;
	rc = far_l1_open(&l1, &client->l1);
	if (rc < 0)
		return rc;
	return far_l1_session_open(client->l1, "client", &client->session);
}

/* Donors come later too: what one block may need is known, and the rest has to be shared. */
static uint32_t
adapters_max(const struct far_client_config *config)
{
	uint64_t count = config->donor_count > 4 ? config->donor_count : 4;

	return (uint32_t)(config->replicas > count ? config->replicas : count);
}

/* None where it would have nothing to do: then L1 evicts in the reservation that needs the room. */
static int
open_eviction(struct far_client *client)
{
	const struct far_client_config *config = &client->config;
	struct far_eviction_config eviction = {
		.high = config->l1_evict_high,
		.low = config->l1_evict_low,
		.step_max = FAR_EVICTION_STEP_MAX,
		.period_ns = FAR_EVICTION_PERIOD_NS,
	};

	if (config->l1_evict_high >= 1 || config->l1_eviction == FAR_L1_NONE)
		return 0;
	return far_eviction_open(&eviction, client->l1, &client->eviction);
}

static int
open_store(struct far_client *client)
{
	const struct far_client_config *config = &client->config;
	struct far_store_policy_config policy = {
		.text = config->store_policy,
		.placement = &client->policy,
		.replicas = (uint32_t)config->replicas,
		.admit_after = (uint32_t)config->store_admit_after,
		.admit_keys = (uint32_t)config->store_admit_keys,
	};
	struct far_store_config store = {
		.queue_max = (uint32_t)config->store_queue_max,
		.queue_bytes_max = config->store_queue_bytes,
		.bytes_in_flight_max = config->store_bytes_max,
		.batch_max = (uint32_t)config->store_batch_max,
		.tries_max = (uint32_t)config->store_tries_max,
		.retry_ns = config->store_retry_ns,
		.deadline_ns = config->store_deadline_ns,
		.adapters_max = adapters_max(config),
		.policy = &client->store_policy,
	};
	char error[FAR_STORE_POLICY_ERROR_BYTES];
	int rc = 0;

	store.recorder = client->recorder;
	rc = far_store_policy_init(&client->store_policy, &policy, error);
	if (rc < 0)
		return rc;
	/* Queued stores hold read locks: they may never take all of L1 from the readers. */
	if (store.queue_bytes_max > client->arena.size_bytes / 2)
		store.queue_bytes_max = client->arena.size_bytes / 2;
	if (store.bytes_in_flight_max > store.queue_bytes_max)
		store.bytes_in_flight_max = store.queue_bytes_max;
	return far_store_open(&store, client->l1, &client->set, &client->policy, client->clock,
			      far_client_wake, client, &client->store);
}

static int
open_controllers(struct far_client *client)
{
	const struct far_client_config *config = &client->config;
	struct far_prefetch_config prefetch = {
		.requests_max = (uint32_t)config->prefetch_requests_max,
		.keys_max = (uint32_t)config->prefetch_keys_max,
		.loads_max = (uint32_t)config->prefetch_loads_max,
		.bytes_in_flight_max = config->prefetch_bytes_max,
		.window_keys = (uint32_t)config->prefetch_window_keys,
		.window_bytes = config->prefetch_window_bytes,
		.windows_ahead = (uint32_t)config->prefetch_windows_ahead,
		.recorder = client->recorder,
	};
	char error[256];
	int rc;

	rc = far_policy_parse(config->prefetch_policy, &client->policy, error);
	if (rc < 0) {
		far_log_error("client '%s': %s", config->name, error);
		return rc;
	}
	client->policy.replicas = (uint32_t)config->replicas;
	rc = open_eviction(client);
	if (rc < 0)
		return rc;
	rc = far_prefetch_open(&prefetch, client->l1, &client->set, &client->policy, client->clock,
			       &client->prefetch);
	if (rc < 0)
		return rc;
	return open_store(client);
}

static int
open_parts(struct far_client *client, char error[FAR_PARAM_ERROR_BYTES])
{
	size_t commands = FAR_CLIENT_COMMANDS_MIN;
	int rc;

	while (commands < 2 * client->config.prefetch_requests_max + FAR_CLIENT_COMMANDS_MIN)
		commands *= 2;
	rc = far_ring_open(commands, &client->commands);
	if (rc < 0)
		return rc;
	client->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (client->wake_fd < 0)
		return -EMFILE;
	client->watch_fd = epoll_create1(EPOLL_CLOEXEC);
	if (client->watch_fd < 0)
		return -EMFILE;
	if (client->config.events_max > 0)
		rc = far_recorder_open((uint32_t)client->config.events_max, client->clock,
				       &client->recorder);
	if (rc < 0)
		return rc;
	client->memories = far_zalloc_array(FAR_L2_MEMORIES_MAX, sizeof(*client->memories));
	if (client->memories == NULL)
		return -ENOMEM;
	rc = open_l1(client, error);
	if (rc < 0)
		return rc;
	rc = far_donors_open(client);
	if (rc < 0)
		return rc;
	rc = open_controllers(client);
	if (rc < 0)
		return rc;
	return far_client_thread_start(client);
}

/* In reverse: controllers name adapters, adapters name transports, registrations name the arena. */
static void
close_parts(struct far_client *client)
{
	far_store_close(client->store);
	far_store_policy_fini(&client->store_policy);
	far_prefetch_close(client->prefetch);
	far_eviction_close(client->eviction);
	FAR_L2_SET_FOR_EACH(&client->set, i)
	far_l2_close(client->set.items[i]);
	for (size_t i = 0; i < client->transport_count; i++) {
		/* Deregister before unmapping: peers lose the pages before the kernel reuses them.
		 */
		far_client_memories_dereg(client, i);
		if (client->arenas[i] != NULL)
			far_transport_mem_dereg(client->arenas[i]);
		far_transport_close(client->transports[i]);
	}
	client->transport_count = 0;
	far_helpers_close(client->helpers);
	client->helpers = NULL;
	if (client->memories != NULL)
		far_client_memories_free(client);
	far_client_loads_free(client);
	far_client_sessions_free(client);
	if (client->session != 0)
		far_l1_session_close(client->l1, client->session);
	far_l1_close(client->l1);
	far_recorder_close(client->recorder);
	far_client_arena_close(&client->arena);
	far_free(client->memories);
	if (client->watch_fd >= 0)
		close(client->watch_fd);
	if (client->wake_fd >= 0)
		close(client->wake_fd);
	far_ring_close(client->commands);
	far_client_handles_free(client);
	far_client_blocks_free(client);
	pthread_mutex_destroy(&client->turn_lock);
	pthread_mutex_destroy(&client->pool_lock);
	far_client_config_fini(&client->config);
	far_free(client);
}

int
far_client_open_config(struct far_client_config *config, struct far_client **out,
		       char error[FAR_PARAM_ERROR_BYTES])
{
	struct far_client *client;
	uint64_t seed;
	int rc;

	error[0] = '\0';
	(void)pthread_once(&fork_once, fork_watch);
	client = far_zalloc(sizeof(*client));
	if (client == NULL) {
		far_client_config_fini(config);
		return -ENOMEM;
	}
	client->config = *config;
	memset(config, 0, sizeof(*config));
	client->clock = far_clock_real();
	atomic_init(&client->drives, client->config.prefetch_wait == FAR_CLIENT_WAIT_DRIVES);
	client->wake_fd = -1;
	client->watch_fd = -1;
	client->arena.fd = -1;
	client->arena.pages.fd = -1;
	client->arena.memory.fd = -1;
	client->fork_generation = atomic_load(&fork_generation);
	far_random_bytes(&seed, sizeof(seed));
	far_rng_init(&client->rng, seed);
	pthread_mutex_init(&client->pool_lock, NULL);
	pthread_mutex_init(&client->turn_lock, NULL);
	far_list_init(&client->calls);
	far_resting_init(&client->blocks_free);
	far_list_init(&client->blocks_live);
	far_resting_init(&client->handles_free);
	far_list_init(&client->handles_live);
	far_list_init(&client->sessions);
	far_list_init(&client->loads);
	far_resting_init(&client->loads_free);
	far_list_init(&client->loads_live);
	rc = open_parts(client, error);
	if (rc < 0) {
		/* Adapters that were opened have begun nothing: they are quiesced as at any close.
		 */
		(void)far_client_thread_stop(client);
		close_parts(client);
		return rc;
	}
	*out = client;
	return 0;
}

int
far_client_open(const struct far_client_options *options, struct far_client **out)
{
	char error[FAR_PARAM_ERROR_BYTES] = "";
	struct far_client_config config;
	int rc;

	if (options == NULL || out == NULL)
		return -EINVAL;
	rc = far_client_config_from_options(options, &config, error);
	if (rc == 0)
		rc = far_client_config_check(&config, error);
	if (rc < 0) {
		far_log_error("client options: %s", error);
		far_client_config_fini(&config);
		return rc;
	}
	return far_client_open_config(&config, out, error);
}

int
far_client_open_file(const char *path, char *error, size_t error_bytes, struct far_client **out)
{
	char line[FAR_PARAM_ERROR_BYTES] = "";
	struct far_client_config config;
	int rc;

	if (path == NULL || out == NULL)
		return -EINVAL;
	memset(&config, 0, sizeof(config));
	rc = far_param_load(&far_client_params, path, &config, line);
	if (rc == 0) {
		char cause[FAR_PARAM_ERROR_BYTES] = "";

		rc = far_client_config_check(&config, cause);
		if (rc < 0)
			snprintf(line, sizeof(line), "%.100s: %.400s", path, cause);
	}
	if (rc == 0) {
		char cause[FAR_PARAM_ERROR_BYTES];

		rc = far_client_open_config(&config, out, cause);
		if (rc < 0)
			snprintf(line, sizeof(line), "%.100s: the client cannot be opened: %.350s",
				 path, cause[0] != '\0' ? cause : far_err_text(rc));
	} else {
		far_client_config_fini(&config);
	}
	if (error != NULL && error_bytes > 0)
		snprintf(error, error_bytes, "%s", line);
	return rc;
}

int
far_client_try_close(struct far_client *client)
{
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc; /* a child of fork(): the parent owns everything */
	far_client_handles_end(client);
	far_client_blocks_end(client);
	far_client_loads_end(client);
	if (!far_client_thread_stop(client))
		return -EBUSY;
	close_parts(client);
	return 0;
}

void
far_client_close(struct far_client *client)
{
	/* Promise: memory that a work request names is never freed. Better to lose it. */
	if (client != NULL && far_client_try_close(client) == -EBUSY)
		far_log_error(
			"client closed while a peer still holds its buffers: %llu MiB are left "
			"mapped",
			(unsigned long long)(client->arena.size_bytes >> 20));
}
