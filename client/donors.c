/* donors.c - transports and adapters of the donors: those of the configuration, and at run time. */
#include "client/client_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"
#include "client/load.h"

#define ADD_NS   (5 * FAR_NS_PER_S) /* for the thread to come to it */
#define LEAVE_NS FAR_NS_PER_MS      /* between two looks at a donor that leaves */

/* The addresses of some donors over one transport. */
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
peers_init(struct peers *peers, const struct far_donor_config *donors, size_t donor_count,
	   const char *scheme)
{
	char cause[192];

	*peers = (struct peers){
		.lists = far_zalloc_array(donor_count, sizeof(*peers->lists)),
		.addresses = far_zalloc_array(donor_count * FAR_ADDRESSES_MAX,
					      sizeof(*peers->addresses)),
	};
	if (peers->lists == NULL || peers->addresses == NULL) {
		peers_fini(peers);
		return -ENOMEM;
	}
	for (size_t d = 0; d < donor_count; d++) {
		struct far_address_list *list = &peers->lists[d];
		int rc = far_address_list_parse(donors[d].address, list, cause);

		FAR_ASSERT(rc == 0); /* it was checked */
		for (uint32_t i = 0; i < list->count; i++)
			if (strcmp(list->items[i].scheme, scheme) == 0)
				peers->addresses[peers->count++] =
					far_address_rest(&list->items[i]);
	}
	return 0;
}

/* L1's arena, and what the caller has registered beside it. */
static int
arena_register(struct far_client *client, size_t transport)
{
	struct far_mem_source source = {
		.base = client->arena.base,
		.size_bytes = client->arena.size_bytes,
		.fd = client->arena.device == NULL ? client->arena.fd : -1,
		.relaxed = true,
	};
	int rc;

	far_client_arena_source(&client->arena, &client->config, &source);
	rc = far_client_arena_register(&client->arena, &source, client->transports[transport],
				       &client->arenas[transport]);
	if (rc < 0)
		return rc;
	rc = far_client_memories_register(client, transport);
	if (rc < 0) {
		far_transport_mem_dereg(client->arenas[transport]);
		client->arenas[transport] = NULL;
	}
	return rc;
}

/* From the first transport on. */
static int
helpers_start(struct far_client *client)
{
	uint32_t count = (uint32_t)client->config.helpers;
	uint32_t spare = far_helpers_spare();

	if (client->helpers != NULL)
		return 0;
	return far_helpers_open("farpool-help", count < spare ? count : spare, FAR_HELPERS_SPIN_NS,
				&client->helpers);
}

/* Opens a transport for those donors that have an address of it, and registers the arena. */
static int
transport_open(struct far_client *client, const char *scheme, const struct far_donor_config *donors,
	       size_t donor_count)
{
	struct far_transport_config config = {
		.clock = client->clock,
		.message_credits = (uint32_t)client->config.message_credits,
		.trust = (enum far_trust)client->config.trust,
		.rdma = client->config.rdma,
		.spin_ns_max = FAR_SPIN_NS_DEFAULT,
	};
	size_t i = client->transport_count;
	struct peers peers;
	int rc;

	FAR_ASSERT(i < FAR_CLIENT_TRANSPORTS_MAX); /* each is opened once */
	rc = helpers_start(client);
	if (rc < 0)
		return rc;
	config.helpers = client->helpers;
	rc = peers_init(&peers, donors, donor_count, scheme);
	if (rc < 0)
		return rc;
	config.peers = peers.addresses;
	config.peer_count = peers.count;
	if (peers.count > 0)
		rc = far_transport_open(scheme, &config, &client->transports[i]);
	peers_fini(&peers);
	if (rc < 0 || config.peer_count == 0)
		return rc;
	rc = far_client_arena_wrap(&client->arena, &client->config, client->clock,
				   &client->transports[i]);
	if (rc == 0)
		rc = arena_register(client, i);
	if (rc < 0) {
		far_transport_close(client->transports[i]);
		return rc;
	}
	if ((client->transports[i]->caps.flags & FAR_CAP_ANY_THREAD) == 0)
		atomic_store_explicit(&client->drives, 0, memory_order_relaxed);
	client->transport_count++;
	return 0;
}

static bool
transport_is_open(const struct far_client *client, const char *scheme)
{
	for (size_t i = 0; i < client->transport_count; i++) {
		if (strcmp(client->transports[i]->ops->name, scheme) == 0)
			return true;
	}
	return false;
}

/* Each once. Where there is a choice, a transport that this host does not have is one that is not
 * chosen; but who asked for RDMA gets it or is told. */
static int
transports_open(struct far_client *client, const struct far_donor_config *donors,
		size_t donor_count)
{
	const struct far_client_config *config = &client->config;

	for (uint32_t t = 1; donor_count > 0 && far_client_transports[t] != NULL; t++) {
		const char *scheme = far_client_transports[t];
		bool fabric = config->trust == FAR_TRUST_FABRIC && strcmp(scheme, "ucx") == 0;
		int rc;

		if ((config->transport != 0 && config->transport != t) ||
		    far_transport_find(scheme) == NULL || transport_is_open(client, scheme))
			continue;
		rc = transport_open(client, scheme, donors, donor_count);
		if (rc < 0 && (config->transport != 0 || fabric))
			return rc;
		if (rc < 0)
			far_log_warn("transport %s cannot be used here: %s (%d)", scheme,
				     far_err_text(rc), rc);
	}
	return 0;
}

static void
adapter_record(struct far_client *client, enum far_record_kind kind, uint32_t idx)
{
	struct far_record record = {.kind = (uint16_t)kind, .adapter = (int16_t)idx};

	far_recorder_add(client->recorder, &record);
}

/* Its transports are open, its name is free and the set has room. */
static int
adapter_open(struct far_client *client, const struct far_donor_config *donor, char error[256])
{
	const struct far_client_config *config = &client->config;
	struct far_l2_env env = {
		.clock = client->clock,
		.rng = &client->rng,
		.transports = client->transports,
		.arenas = client->arenas,
		.transport_count = client->transport_count,
		.client_name = config->name,
		.connect_timeout_ns = config->connect_timeout_ns,
		.retry_ns_min = config->retry_ns_min,
		.retry_ns_max = config->retry_ns_max,
		.verify_always = config->verify != 0,
		.helpers = client->helpers,
		.arena_is_device = client->arena.device != NULL,
		.memories = &client->l2_memories,
		.recorder = client->recorder,
	};
	struct far_l2_config l2 = {
		.type = "donor",
		.name = donor->name,
		.address = donor->address,
		.transport = far_client_transports[config->transport],
		.name_space = config->name_space,
		.weight = donor->weight,
	};
	struct far_l2 *adapter;
	int rc = far_l2_open(&l2, &env, &adapter, error);

	if (rc < 0) {
		far_log_error("donor %s: %s", donor->name, error);
		return rc;
	}
	rc = far_l2_set_add(&client->set, adapter);
	FAR_ASSERT(rc == 0);
	adapter_record(client, FAR_RECORD_ADAPTER_ADDED, adapter->idx);
	return 0;
}

int
far_donors_open(struct far_client *client)
{
	const struct far_client_config *config = &client->config;
	char error[256] = "";
	int rc = transports_open(client, config->donors, config->donor_count);

	for (size_t i = 0; rc == 0 && i < config->donor_count; i++)
		rc = adapter_open(client, &config->donors[i], error);
	return rc;
}

static void
counts_add(struct far_l2_status *sum, const struct far_l2_status *add)
{
	sum->stale_rejects += add->stale_rejects;
	sum->torn_rereads += add->torn_rereads;
	sum->moved_followed += add->moved_followed;
	sum->crc_rejects += add->crc_rejects;
	sum->messages_sent += add->messages_sent;
	sum->messages_received += add->messages_received;
	sum->touch_notes += add->touch_notes;
	sum->times_down += add->times_down;
}

void
far_donors_count(const struct far_client *client, struct far_l2_status *sum)
{
	*sum = client->gone;
	FAR_L2_SET_FOR_EACH(&client->set, i)
	{
		struct far_l2_status status;

		far_l2_status_get(client->set.items[i], &status);
		counts_add(sum, &status);
	}
}

/* ---- one more ---- */
struct add_call {
	struct far_call call;
	struct far_donor_config donor;
	char error[256];
};

static int
donor_add(struct far_client *client, struct add_call *add)
{
	const char *name = add->donor.name;
	struct far_l2 *same = far_l2_set_find(&client->set, name);
	int rc;

	if (atomic_load_explicit(&client->stop, memory_order_acquire) != 0)
		return -ECANCELED; /* its caller has given up long ago */
	if (same != NULL) {
		snprintf(add->error, sizeof(add->error), "donor '%s' %s", name,
			 far_l2_set_is_active(&client->set, same->idx)
				 ? "is there already: remove it first"
				 : "is being removed: wait for the end of that");
		return -EEXIST;
	}
	if (~client->set.taken_mask == 0) {
		snprintf(add->error, sizeof(add->error),
			 "donor '%s' is one too many: %d are the most, remove one first", name,
			 FAR_L2_SET_MAX);
		return -E2BIG;
	}
	rc = transports_open(client, &add->donor, 1);
	return rc < 0 ? rc : adapter_open(client, &add->donor, add->error);
}

static void
add_start(struct far_client *client, struct far_call *call)
{
	call->rc = donor_add(client, FAR_CONTAINER_OF(call, struct add_call, call));
}

static bool
add_answered(struct far_client *client, struct far_call *call, bool late)
{
	(void)client;
	(void)call;
	(void)late;
	return true;
}

static int
add_ask(struct far_client *client, const struct far_donor_config *donor,
	char error[FAR_PARAM_ERROR_BYTES])
{
	struct add_call *add = far_call_new(sizeof(*add));
	int rc;

	if (add == NULL)
		return -ENOMEM;
	add->donor = *donor;
	add->call.start = add_start;
	add->call.answered = add_answered;
	rc = far_call_wait(client, &add->call, far_clock_now(client->clock) + ADD_NS);
	if (atomic_load_explicit(&add->call.done, memory_order_acquire) != 0)
		snprintf(error, FAR_PARAM_ERROR_BYTES, "%s", add->error);
	far_call_release(&add->call);
	return rc;
}

int
far_donor_add(struct far_client *client, const struct far_donor_options *options, char *error,
	      size_t error_bytes)
{
	char line[FAR_PARAM_ERROR_BYTES] = "";
	struct far_donor_config donor;
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	rc = options == NULL ? -EINVAL
			     : far_client_config_donor(&client->config, options, &donor, line);
	if (rc == 0)
		rc = add_ask(client, &donor, line);
	if (rc < 0 && line[0] == '\0')
		snprintf(line, sizeof(line), "%s", far_err_text(rc));
	if (error != NULL && error_bytes > 0)
		snprintf(error, error_bytes, "%s", line);
	return rc;
}

/* ---- one less ---- */
struct remove_call {
	struct far_call call;
	char name[64];
	uint32_t idx; /* FAR_L2_SET_MAX: there is none of that name */
	uint32_t generation;
	uint64_t force_ns; /* from then on it is not waited for those who name it */
};

/* One step out. True: it is gone. */
static bool
donor_leave(struct far_client *client, uint32_t idx, bool force, uint64_t now_ns)
{
	struct far_l2 *l2 = client->set.items[idx];
	struct far_l2_status status;
	bool named = far_prefetch_names(client->prefetch, idx) ||
		     far_store_names(client->store, idx) || far_loads_names(client, l2);

	if (named && !force)
		return false;
	far_l2_quiesce(l2); /* as often as one likes */
	(void)far_l2_tick(l2, now_ns);
	/* What its last tasks told the controllers is worked off by their ticks. */
	named = far_prefetch_names(client->prefetch, idx) || far_store_names(client->store, idx);
	if (named || !far_l2_quiesced(l2))
		return false;
	far_l2_status_get(l2, &status);
	counts_add(&client->gone, &status);
	far_l2_close(far_l2_set_remove(&client->set, idx));
	adapter_record(client, FAR_RECORD_ADAPTER_REMOVED, idx);
	return true;
}

static void
remove_start(struct far_client *client, struct far_call *call)
{
	struct remove_call *remove = FAR_CONTAINER_OF(call, struct remove_call, call);
	struct far_l2 *l2 = far_l2_set_find(&client->set, remove->name);
	uint64_t now_ns = far_clock_now(client->clock);

	remove->idx = FAR_L2_SET_MAX;
	if (l2 == NULL)
		return;
	if (far_l2_set_is_active(&client->set, l2->idx))
		adapter_record(client, FAR_RECORD_ADAPTER_DRAINED, l2->idx);
	far_l2_set_drain(&client->set, l2->idx);
	remove->idx = l2->idx;
	remove->generation = client->set.generations[l2->idx];
	remove->force_ns = now_ns;
	if (call->deadline_ns > now_ns)
		remove->force_ns += (call->deadline_ns - now_ns) / 2;
}

static bool
remove_answered(struct far_client *client, struct far_call *call, bool late)
{
	struct remove_call *remove = FAR_CONTAINER_OF(call, struct remove_call, call);
	uint64_t now_ns = far_clock_now(client->clock);
	uint32_t idx = remove->idx;

	if (idx == FAR_L2_SET_MAX) {
		call->rc = -ENOENT;
		return true;
	}
	/* Another caller may have been there first. */
	if (client->set.items[idx] == NULL || client->set.generations[idx] != remove->generation ||
	    donor_leave(client, idx, now_ns >= remove->force_ns, now_ns)) {
		call->rc = 0;
		return true;
	}
	call->rc = -ETIMEDOUT;
	call->again_ns = now_ns + LEAVE_NS;
	return late;
}

int
far_donor_remove(struct far_client *client, const char *name, uint64_t deadline_ns)
{
	struct remove_call *remove;
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	if (name == NULL || name[0] == '\0' || deadline_ns == 0)
		return -EINVAL;
	if (strlen(name) >= sizeof(remove->name))
		return -ENOENT; /* none has such a name */
	remove = far_call_new(sizeof(*remove));
	if (remove == NULL)
		return -ENOMEM;
	memcpy(remove->name, name, strlen(name) + 1);
	remove->call.start = remove_start;
	remove->call.answered = remove_answered;
	rc = far_call_wait(client, &remove->call, deadline_ns);
	far_call_release(&remove->call);
	return rc;
}
