/* client.c - opening and closing: arena, L1, transports, adapters, controllers, in that order. */
#include "client/client_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"

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
open_l1(struct far_client *client)
{
	const struct far_client_config *config = &client->config;
	uint64_t blocks = config->l1_bytes / config->block_bytes_min;
	struct far_l1_config l1 = {
		.align_bytes = (uint32_t)config->l1_align_bytes,
		.block_bytes_min = (uint32_t)config->block_bytes_min,
		.blocks_max = blocks < L1_BLOCKS_MAX ? (uint32_t)blocks : L1_BLOCKS_MAX,
		.policy = (enum far_l1_policy)config->l1_eviction,
		.clock = client->clock,
	};
	int rc;

	rc = far_pages_map_shared("farpool-l1", config->l1_bytes,
				  (enum far_pages_huge)config->l1_huge, (int)config->numa_node - 1,
				  &client->arena);
	if (rc < 0) {
		far_log_error(
			"l1.size %llu MiB cannot be mapped, %llu MiB are available: lower it or "
			"free memory (%s)",
			(unsigned long long)(config->l1_bytes >> 20),
			(unsigned long long)(far_pages_available_bytes() >> 20), far_err_name(rc));
		return rc;
	}
	l1.base = client->arena.base;
	l1.size_bytes = client->arena.size_bytes;
	rc = far_l1_open(&l1, &client->l1);
	if (rc < 0)
		return rc;
	return far_l1_session_open(client->l1, "client", &client->session);
}

/* The addresses of all donors over one transport. */
struct peers {
	struct far_address_list *lists; /* owned: one per donor */
	const char **addresses;         /* owned; they lie in @lists */
	size_t count;
};

static void
peers_fini(struct peers *peers)
{
	far_free(peers->addresses);
	far_free(peers->lists);
}

static int
peers_init(struct peers *peers, const struct far_client_config *config, const char *scheme)
{
	char cause[192];

	*peers = (struct peers){
		.lists = far_zalloc_array(config->donor_count, sizeof(*peers->lists)),
		.addresses = far_zalloc_array(config->donor_count * FAR_ADDRESSES_MAX,
					      sizeof(*peers->addresses)),
	};
	if (peers->lists == NULL || peers->addresses == NULL) {
		peers_fini(peers);
		return -ENOMEM;
	}
	for (size_t d = 0; d < config->donor_count; d++) {
		struct far_address_list *list = &peers->lists[d];
		int rc = far_address_list_parse(config->donors[d].address, list, cause);

		FAR_ASSERT(rc == 0); /* it was checked */
		for (uint32_t i = 0; i < list->count; i++)
			if (strcmp(list->items[i].scheme, scheme) == 0)
				peers->addresses[peers->count++] =
					far_address_rest(&list->items[i]);
	}
	return 0;
}

/* Opens a transport for those donors that have an address of it, and registers the arena. */
static int
open_transport(struct far_client *client, const char *scheme)
{
	struct far_transport_config config = {
		.clock = client->clock,
		.message_credits = (uint32_t)client->config.message_credits,
		.trust = (enum far_trust)client->config.trust,
		.spin_ns_max = FAR_SPIN_NS_DEFAULT,
	};
	struct far_mem_source source = {
		.base = client->arena.base,
		.size_bytes = client->arena.size_bytes,
		.fd = client->arena.fd,
		.relaxed = true,
	};
	size_t i = client->transport_count;
	struct peers peers;
	int rc;

	if (client->config.donor_count == 0)
		return 0;
	rc = peers_init(&peers, &client->config, scheme);
	if (rc < 0)
		return rc;
	config.peers = peers.addresses;
	config.peer_count = peers.count;
	if (peers.count > 0)
		rc = far_transport_open(scheme, &config, &client->transports[i]);
	peers_fini(&peers);
	if (rc < 0 || config.peer_count == 0)
		return rc;
	rc = far_transport_mem_reg(client->transports[i], &source, FAR_RIGHT_LOCAL, NULL,
				   &client->arenas[i]);
	if (rc < 0) {
		far_transport_close(client->transports[i]);
		return rc;
	}
	client->transport_count++;
	return 0;
}

/* Each once. Where there is a choice, a transport that this host does not have is one that is not
 * chosen; but who asked for RDMA gets it or is told. */
static int
open_transports(struct far_client *client)
{
	const struct far_client_config *config = &client->config;

	for (uint32_t t = 1; far_client_transports[t] != NULL; t++) {
		const char *scheme = far_client_transports[t];
		bool fabric = config->trust == FAR_TRUST_FABRIC && strcmp(scheme, "ucx") == 0;
		int rc;

		if ((config->transport != 0 && config->transport != t) ||
		    far_transport_find(scheme) == NULL)
			continue;
		rc = open_transport(client, scheme);
		if (rc < 0 && (config->transport != 0 || fabric))
			return rc;
		if (rc < 0)
			far_log_warn("transport %s cannot be used here: %s (%d)", scheme,
				     far_err_text(rc), rc);
	}
	return 0;
}

static int
open_adapters(struct far_client *client)
{
	const struct far_client_config *config = &client->config;
	struct far_l2_env env = {
		.clock = client->clock,
		.rng = &client->rng,
		.transports = client->transports,
		.arenas = client->arenas,
		.client_name = config->name,
		.connect_timeout_ns = config->connect_timeout_ns,
		.retry_ns_min = config->retry_ns_min,
		.retry_ns_max = config->retry_ns_max,
		.verify_always = config->verify != 0,
	};
	char error[256] = "";
	int rc;

	rc = open_transports(client);
	if (rc < 0)
		return rc;
	env.transport_count = client->transport_count;
	for (size_t i = 0; i < config->donor_count; i++) {
		struct far_l2_config l2 = {
			.type = "donor",
			.name = config->donors[i].name,
			.address = config->donors[i].address,
			.transport = far_client_transports[config->transport],
			.name_space = config->name_space,
			.weight = config->donors[i].weight,
		};
		struct far_l2 *adapter;

		rc = far_l2_open(&l2, &env, &adapter, error);
		if (rc < 0) {
			far_log_error("donor %s: %s", config->donors[i].name, error);
			return rc;
		}
		rc = far_l2_set_add(&client->set, adapter);
		FAR_ASSERT(rc == 0); /* names and their number were checked */
	}
	return 0;
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
	};
	struct far_store_config store = {
		.queue_max = (uint32_t)config->store_queue_max,
		.queue_bytes_max = config->store_queue_bytes,
		.bytes_in_flight_max = config->store_bytes_max,
		.batch_max = (uint32_t)config->store_batch_max,
		.tries_max = (uint32_t)config->store_tries_max,
		.retry_ns = config->store_retry_ns,
		.deadline_ns = config->store_deadline_ns,
	};
	char error[256];
	int rc;

	rc = far_policy_parse(config->prefetch_policy, &client->policy, error);
	if (rc < 0) {
		far_log_error("client '%s': %s", config->name, error);
		return rc;
	}
	client->policy.replicas = (uint32_t)config->replicas;
	/* Queued stores hold read locks: they may never take all of L1 from the readers. */
	if (store.queue_bytes_max > client->arena.size_bytes / 2)
		store.queue_bytes_max = client->arena.size_bytes / 2;
	if (store.bytes_in_flight_max > store.queue_bytes_max)
		store.bytes_in_flight_max = store.queue_bytes_max;
	rc = open_eviction(client);
	if (rc < 0)
		return rc;
	rc = far_prefetch_open(&prefetch, client->l1, &client->set, &client->policy, client->clock,
			       &client->prefetch);
	if (rc < 0)
		return rc;
	return far_store_open(&store, client->l1, &client->set, &client->policy, client->clock,
			      far_client_wake, client, &client->store);
}

static int
open_parts(struct far_client *client)
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
	rc = open_l1(client);
	if (rc < 0)
		return rc;
	rc = open_adapters(client);
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
	far_prefetch_close(client->prefetch);
	far_eviction_close(client->eviction);
	FAR_L2_SET_FOR_EACH(&client->set, i)
	far_l2_close(client->set.items[i]);
	for (size_t i = 0; i < client->transport_count; i++) {
		/* Deregister before unmapping: peers lose the pages before the kernel reuses them.
		 */
		if (client->arenas[i] != NULL)
			far_transport_mem_dereg(client->arenas[i]);
		far_transport_close(client->transports[i]);
	}
	if (client->session != 0)
		far_l1_session_close(client->l1, client->session);
	far_l1_close(client->l1);
	far_pages_unmap(&client->arena);
	if (client->wake_fd >= 0)
		close(client->wake_fd);
	far_ring_close(client->commands);
	far_client_handles_free(client);
	far_client_blocks_free(client);
	pthread_mutex_destroy(&client->pool_lock);
	far_client_config_fini(&client->config);
	far_free(client);
}

int
far_client_open_config(struct far_client_config *config, struct far_client **out)
{
	struct far_client *client;
	uint64_t seed;
	int rc;

	(void)pthread_once(&fork_once, fork_watch);
	client = far_zalloc(sizeof(*client));
	if (client == NULL) {
		far_client_config_fini(config);
		return -ENOMEM;
	}
	client->config = *config;
	memset(config, 0, sizeof(*config));
	client->clock = far_clock_real();
	client->wake_fd = -1;
	client->arena.fd = -1;
	client->fork_generation = atomic_load(&fork_generation);
	far_random_bytes(&seed, sizeof(seed));
	far_rng_init(&client->rng, seed);
	pthread_mutex_init(&client->pool_lock, NULL);
	far_list_init(&client->calls);
	far_list_init(&client->blocks_free);
	far_list_init(&client->blocks_live);
	far_list_init(&client->handles_free);
	far_list_init(&client->handles_live);
	rc = open_parts(client);
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
	return far_client_open_config(&config, out);
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
		rc = far_client_open_config(&config, out);
		if (rc < 0)
			snprintf(line, sizeof(line), "%.100s: the client cannot be opened: %.300s",
				 path, far_err_text(rc));
	} else {
		far_client_config_fini(&config);
	}
	if (error != NULL && error_bytes > 0)
		snprintf(error, error_bytes, "%s", line);
	return rc;
}

void
far_client_close(struct far_client *client)
{
	if (client == NULL)
		return;
	if (far_client_enter(client) < 0)
		return; /* a child of fork(): the parent owns everything */
	far_client_handles_end(client);
	far_client_blocks_end(client);
	if (!far_client_thread_stop(client)) {
		/* Promise: memory that a work request names is never freed. Better to lose it. */
		far_log_error(
			"client closed while a peer still holds its buffers: %llu MiB are left "
			"mapped",
			(unsigned long long)(client->arena.size_bytes >> 20));
		return;
	}
	close_parts(client);
}
