/* config.c - the parameter table of a client, and what one field alone cannot tell. */
#include "client/config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/helpers.h"
#include "client/arena.h"
#include "controllers/policy.h"
#include "controllers/store_policy.h"
#include "l1/l1.h"
#include "transport/transport.h"
#include "wire/index.h"

#define KIB 1024ULL
#define MIB (1024ULL * KIB)
#define GIB (1024ULL * MIB)
#define TIB (1024ULL * GIB)

#define WAIT_CHOICES        "drives|sleeps"   /* in the order of enum far_client_wait */
#define L1_EVICTION_CHOICES "lru|s3fifo|none" /* in the order of enum far_l1_policy */

#define AT(field) offsetof(struct far_client_config, field)
/* The options as they were before anything was added at their end. */
#define OPTIONS_BYTES_MIN offsetof(struct far_client_options, prefetch_policy)
#define RDMA(field)       AT(rdma.field)
#define IN(field)         offsetof(struct far_donor_config, field)
#define MS(n)             ((n)*FAR_NS_PER_MS)
#define SECONDS(n)        ((n)*FAR_NS_PER_S)

static const struct far_param donor_params[] = {
	{"name", FAR_PARAM_STRING, IN(name), 1, FAR_NAME_BYTES_MAX, NULL, NULL,
	 "The donor's configured name; a donor that answers with another one is refused."},
	{"address", FAR_PARAM_STRING, IN(address), 1, FAR_ADDRESS_LIST_BYTES_MAX - 1, NULL, NULL,
	 "Where it listens, one address per transport, separated by commas: "
	 "shm:/run/farpool/donor-a.sock,ucx:10.0.0.3:7471."},
	{"weight", FAR_PARAM_DOUBLE, IN(weight), 0, 1000000000, "1", NULL,
	 "Its configured capacity in any unit that all donors share: the share of blocks it gets."},
};

static const struct far_param_table donor_table = {
	.title = "donors",
	.params = donor_params,
	.count = sizeof(donor_params) / sizeof(donor_params[0]),
};

static const struct far_param params[] = {
	{"name", FAR_PARAM_STRING, AT(name), 1, FAR_NAME_BYTES_MAX, "client", NULL,
	 "This client's name in the logs of donors."},
	{"namespace", FAR_PARAM_STRING, AT(name_space), 1, FAR_NAME_BYTES_MAX, "default", NULL,
	 "The pool inside each donor that this client uses."},
	{"transport", FAR_PARAM_ENUM, AT(transport), 0, 0, "auto", "auto|shm|verbs|ucx",
	 "Over what donors are reached: auto takes the first of a donor's addresses that answers, "
	 "in the order shm (same host), verbs, ucx; any other uses that one alone, never another."},
	{"trust", FAR_PARAM_ENUM, AT(trust), 0, 0, "none", FAR_TRUST_CHOICES,
	 "none: over ucx a donor serves every read, through TCP; fabric: over RDMA alone, without "
	 "the "
	 "donor's CPU, where any peer may write into what is exposed to it."},
	FAR_RDMA_PARAMS(RDMA),
	{"l1.size", FAR_PARAM_SIZE, AT(l1_bytes), MIB, 64 * TIB, NULL, NULL,
	 "The arena that blocks are read into."},
	{"l1.align", FAR_PARAM_SIZE, AT(l1_align_bytes), 64, 2 * MIB, "4KiB", NULL,
	 "Alignment of every block in the arena: a power of two."},
	{"l1.block_min", FAR_PARAM_SIZE, AT(block_bytes_min), 64, 64 * MIB, "4KiB", NULL,
	 "The smallest block that L1's table is sized for."},
	{"l1.huge_pages", FAR_PARAM_ENUM, AT(l1_huge), 0, 0, "auto", "auto|off|on",
	 "2 MiB pages for the arena: auto takes them if they can be had now."},
	{"l1.numa_node", FAR_PARAM_ENUM, AT(numa_node), 0, 0, "any",
	 "any|0|1|2|3|4|5|6|7|8|9|10|11|12|13|14|15",
	 "Take the arena's memory from this NUMA node alone."},
	{"l1.memory", FAR_PARAM_ENUM, AT(l1_memory), 0, 0, "host", FAR_CLIENT_MEMORY_CHOICES,
	 "Where the arena lies: host, or cuda, in the memory of a GPU (docs/gpu.md); then "
	 "l1.huge_pages, "
	 "l1.numa_node and verify: always do not apply."},
	{"l1.device", FAR_PARAM_U64, AT(l1_device), 0, 63, "0", NULL,
	 "Which GPU, as its driver counts them: CUDA_VISIBLE_DEVICES applies."},
	{"l1.gpu_direct", FAR_PARAM_ENUM, AT(l1_gpu_direct), 0, 0, "near",
	 FAR_CLIENT_DIRECT_CHOICES,
	 "Where NICs read and write the GPU's memory by themselves: near where no processor lies "
	 "between the two, always wherever they can, never; else bytes go through the host."},
	{"l1.gpu_mapped", FAR_PARAM_ENUM, AT(l1_gpu_mapped), 0, 0, "auto",
	 FAR_CLIENT_MAPPED_CHOICES,
	 "Whether the GPU's copy engine reads the memory of donors on the same host in one step, "
	 "which "
	 "pins what it reads of it."},
	{"l1.gpu_stage", FAR_PARAM_SIZE, AT(l1_gpu_stage_bytes), MIB, 4 * GIB, "64MiB", NULL,
	 "The ring of pinned host memory, per transport, that bytes pass through otherwise."},
	{"l1.gpu_slice", FAR_PARAM_SIZE, AT(l1_gpu_slice_bytes), 64 * KIB, GIB, "4MiB", NULL,
	 "The longest read into it, at most a quarter of it: reads and copies overlap by these."},
	{"l1.eviction", FAR_PARAM_ENUM, AT(l1_eviction), 0, 0, "lru", L1_EVICTION_CHOICES,
	 "Which unlocked blocks give way first: lru the least recently used, s3fifo what was used "
	 "once before what was used again, none never any."},
	{"l1.evict_high", FAR_PARAM_DOUBLE, AT(l1_evict_high), 0, 1, "0.95", NULL,
	 "The part of l1.size above which blocks are evicted ahead of need; 1: never, then a "
	 "reservation that finds no room evicts for itself, as it does anyway."},
	{"l1.evict_low", FAR_PARAM_DOUBLE, AT(l1_evict_low), 0, 1, "0.9", NULL,
	 "The part of l1.size down to which they are; lower than l1.evict_high."},
	{"replicas", FAR_PARAM_U64, AT(replicas), 1, 8, "1", NULL,
	 "On how many donors a block is stored."},
	{"verify", FAR_PARAM_ENUM, AT(verify), 0, 0, "never", "never|always",
	 "Whether the CRC32C of every block that was read is checked, besides its slot; over shm, "
	 "without "
	 "helpers, it is computed in the copy and costs next to nothing, else one more pass over "
	 "the bytes."},
	{"busy_poll", FAR_PARAM_DURATION, AT(busy_poll_ns), 0, SECONDS(1), "0", NULL,
	 "How long the client's thread spins for completions before it sleeps, always. Over ucx it "
	 "does for up to 50us where answers keep coming that fast."},
	{"helpers", FAR_PARAM_U64, AT(helpers), 0, FAR_HELPERS_MAX, "1", NULL,
	 "Threads that share in copies over shm, and in checksums of what is stored where no donor "
	 "computes them, as it does for 512 KiB and more at a time over shm; of the "
	 "processors that the client may run on two are left free. They look for work for 100us "
	 "and sleep then. With a quota of processor time set it to 0."},
	{"connect_timeout", FAR_PARAM_DURATION, AT(connect_timeout_ns), MS(1), SECONDS(60), "1s",
	 NULL, "The time that one attempt to reach a donor may take."},
	{"retry_min", FAR_PARAM_DURATION, AT(retry_ns_min), MS(1), SECONDS(60), "50ms", NULL,
	 "The pause after the first failed attempt; it doubles."},
	{"retry_max", FAR_PARAM_DURATION, AT(retry_ns_max), MS(1), SECONDS(600), "2s", NULL,
	 "The longest pause between attempts."},
	{"lock_warn", FAR_PARAM_DURATION, AT(lock_warn_ns), MS(1), SECONDS(86400), "300s", NULL,
	 "A loan held longer than this is counted and its holder named; it is never ended by "
	 "time."},
	{"message_credits", FAR_PARAM_U64, AT(message_credits), 4, 1024, "32", NULL,
	 "Messages that a donor may have on the way to this client."},
	{"events", FAR_PARAM_U64, AT(events_max), 0, 1048576, "4096", NULL,
	 "The latest events that are kept for far_events_read() (docs/events.md), 64 bytes each: a "
	 "power of two from 64, or 0: none, and nothing is recorded."},
	{"prefetch.policy", FAR_PARAM_STRING, AT(prefetch_policy), 1, 127, "placement,retain", NULL,
	 "Policies, later ones override: placement (weighted rendezvous hashing says which donors "
	 "get and are asked for a block), fastest (of those that have it, the one with the "
	 "shortest wait loads it), retain (prefetched blocks stay in L1 until it needs the room), "
	 "default (all donors, in order; prefetched blocks go with their last reader)."},
	{"prefetch.requests", FAR_PARAM_U64, AT(prefetch_requests_max), 1, 65536, "256", NULL,
	 "Prefetches that may be live at once."},
	{"prefetch.keys", FAR_PARAM_U64, AT(prefetch_keys_max), 1, 65536, "4096", NULL,
	 "Keys in one prefetch."},
	{"prefetch.loads", FAR_PARAM_U64, AT(prefetch_loads_max), 64, 1048576, "4096", NULL,
	 "Blocks on their way from all donors together."},
	{"prefetch.bytes", FAR_PARAM_SIZE, AT(prefetch_bytes_max), MIB, TIB, "1GiB", NULL,
	 "Their bytes."},
	{"prefetch.window_keys", FAR_PARAM_U64, AT(prefetch_window_keys), 1, 1024, "64", NULL,
	 "Keys that are looked up and loaded together."},
	{"prefetch.window_bytes", FAR_PARAM_SIZE, AT(prefetch_window_bytes), 0, GIB, "0", NULL,
	 "Bytes of one load; 0: what the transport does best."},
	{"prefetch.windows", FAR_PARAM_U64, AT(prefetch_windows_ahead), 1, 64, "4", NULL,
	 "Windows of one prefetch that are in flight."},
	{"prefetch.wait", FAR_PARAM_ENUM, AT(prefetch_wait), 0, 0, "drives", WAIT_CHOICES,
	 "What a caller in far_prefetch_wait() does while the client's thread sleeps, over shm: "
	 "drives (that thread's work, itself: nobody has to wake up), or sleeps."},
	{"store.policy", FAR_PARAM_STRING, AT(store_policy), 1, 127, "default", NULL,
	 "Policies, later ones override: default (every block at once, where prefetch.policy "
	 "places it), placement (on `replicas` donors by weighted rendezvous hashing, whatever "
	 "prefetch.policy says), skip_l1 (L1 gives it up once the donors have it and readers are "
	 "gone), admit_after_n (not before its store.admit_after-th use)."},
	{"store.admit_after", FAR_PARAM_U64, AT(store_admit_after), 1, 200, "2", NULL,
	 "Uses, the write among them, after which admit_after_n stores a block."},
	{"store.admit_keys", FAR_PARAM_U64, AT(store_admit_keys), 64, 1ULL << 24, "65536", NULL,
	 "Keys whose uses admit_after_n counts, 8 bytes each."},
	{"store.queue", FAR_PARAM_U64, AT(store_queue_max), 64, 1048576, "16384", NULL,
	 "Blocks that wait for donors or are on their way; more are dropped and counted."},
	{"store.queue_bytes", FAR_PARAM_SIZE, AT(store_queue_bytes), MIB, 64 * TIB, "4GiB", NULL,
	 "Their bytes; at most half of L1 is ever held by them."},
	{"store.bytes", FAR_PARAM_SIZE, AT(store_bytes_max), MIB, TIB, "256MiB", NULL,
	 "Bytes that are given to donors at once."},
	{"store.batch", FAR_PARAM_U64, AT(store_batch_max), 1, 1024, "256", NULL,
	 "Blocks that are given to a donor as one task."},
	{"store.tries", FAR_PARAM_U64, AT(store_tries_max), 1, 100, "3", NULL,
	 "How often a block is offered to a donor that failed."},
	{"store.retry", FAR_PARAM_DURATION, AT(store_retry_ns), MS(1), SECONDS(60), "50ms", NULL,
	 "The pause before the second try; it doubles."},
	{"store.deadline", FAR_PARAM_DURATION, AT(store_deadline_ns), MS(1), SECONDS(600), "5s",
	 NULL, "The time that one try may take before it is posted."},
};

const char *const far_client_evictions[] = {
	[FAR_L1_LRU] = "lru",
	[FAR_L1_S3FIFO] = "s3fifo",
	[FAR_L1_NONE] = "none",
};
const char *const far_client_transports[] = {"auto", "shm", "verbs", "ucx", NULL};

const struct far_param_table far_client_params = {
	.title = "farpool client",
	.params = params,
	.count = sizeof(params) / sizeof(params[0]),
	.list_name = "donors",
	.list_table = &donor_table,
	.list_item_bytes = sizeof(struct far_donor_config),
	.list_count_max = FAR_DONORS_MAX,
	.list_offset = AT(donors),
	.list_count_offset = AT(donor_count),
};

static int
donor_from_options(const struct far_donor_options *from, struct far_donor_config *to,
		   char error[FAR_PARAM_ERROR_BYTES])
{
	if (from->size_bytes < sizeof(*from)) {
		snprintf(error, FAR_PARAM_ERROR_BYTES,
			 "a donor's size_bytes is %zu: set it to sizeof(struct far_donor_options)",
			 from->size_bytes);
		return -EINVAL;
	}
	if (from->name == NULL || strlen(from->name) - 1 >= FAR_NAME_BYTES_MAX ||
	    from->address == NULL || strlen(from->address) - 1 >= FAR_ADDRESS_LIST_BYTES_MAX - 1) {
		snprintf(
			error, FAR_PARAM_ERROR_BYTES,
			"a donor has no name or no address, or a longer one than 63 and 511 bytes: "
			"give both");
		return -EINVAL;
	}
	memcpy(to->name, from->name, strlen(from->name) + 1);
	memcpy(to->address, from->address, strlen(from->address) + 1);
	to->weight = from->weight > 0 ? from->weight : 1;
	return 0;
}

static int
donors_from_options(const struct far_client_options *options, struct far_client_config *config,
		    char error[FAR_PARAM_ERROR_BYTES])
{
	if (options->donor_count > FAR_DONORS_MAX) {
		snprintf(error, FAR_PARAM_ERROR_BYTES, "%zu donors: at most %d",
			 options->donor_count, FAR_DONORS_MAX);
		return -EINVAL;
	}
	if (options->donor_count == 0)
		return 0;
	config->donors = far_zalloc_array(options->donor_count, sizeof(*config->donors));
	if (config->donors == NULL)
		return -ENOMEM;
	config->donor_count = options->donor_count;
	/* The caller's struct may be a later, longer one. */
	for (size_t i = 0; i < options->donor_count; i++) {
		const struct far_donor_options *donor =
			(const void *)((const char *)options->donors +
				       i * options->donors->size_bytes);
		int rc = donor_from_options(donor, &config->donors[i], error);

		if (rc < 0)
			return rc;
	}
	return 0;
}

static int
text_from_option(const char *from, char to[64], const char *what, char error[FAR_PARAM_ERROR_BYTES])
{
	size_t size;

	if (from == NULL)
		return 0;
	size = strlen(from);
	if (size == 0 || size > FAR_NAME_BYTES_MAX) {
		snprintf(error, FAR_PARAM_ERROR_BYTES, "%s has %zu bytes: 1 to %u are allowed",
			 what, size, FAR_NAME_BYTES_MAX);
		return -EINVAL;
	}
	memcpy(to, from, size + 1);
	return 0;
}

static int
transport_from_option(const char *from, struct far_client_config *config,
		      char error[FAR_PARAM_ERROR_BYTES])
{
	if (from == NULL)
		return 0;
	for (uint32_t i = 0; far_client_transports[i] != NULL; i++) {
		if (strcmp(far_client_transports[i], from) == 0) {
			config->transport = i;
			return 0;
		}
	}
	snprintf(error, FAR_PARAM_ERROR_BYTES,
		 "transport '%.20s' is unknown: write auto, shm, verbs or ucx", from);
	return -EINVAL;
}

static int
trust_from_option(const char *from, struct far_client_config *config,
		  char error[FAR_PARAM_ERROR_BYTES])
{
	if (from == NULL || strcmp(from, "none") == 0)
		return 0;
	if (strcmp(from, "fabric") == 0) {
		config->trust = FAR_TRUST_FABRIC;
		return 0;
	}
	snprintf(error, FAR_PARAM_ERROR_BYTES, "trust '%.20s' is unknown: write none or fabric",
		 from);
	return -EINVAL;
}

static int
gpu_from_options(const struct far_client_options *options, struct far_client_config *config,
		 char error[FAR_PARAM_ERROR_BYTES])
{
	const struct {
		const char *key, *text;
	} texts[] = {
		{"l1.memory", options->l1_memory},
		{"l1.gpu_direct", options->l1_gpu_direct},
		{"l1.gpu_mapped", options->l1_gpu_mapped},
	};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (texts[i].text != NULL)
			rc = far_param_set(&far_client_params, config, texts[i].key, texts[i].text,
					   error);
	}
	config->l1_device = options->l1_device;
	config->l1_base = options->l1_base;
	if (options->l1_gpu_stage_bytes != 0)
		config->l1_gpu_stage_bytes = options->l1_gpu_stage_bytes;
	if (options->l1_gpu_slice_bytes != 0)
		config->l1_gpu_slice_bytes = options->l1_gpu_slice_bytes;
	return rc;
}

/* What was added to the options since: texts that are read as in a file, and fractions. */
static int
policies_from_options(const struct far_client_options *options, struct far_client_config *config,
		      char error[FAR_PARAM_ERROR_BYTES])
{
	int rc = 0;

	if (options->prefetch_policy != NULL)
		rc = far_param_set(&far_client_params, config, "prefetch.policy",
				   options->prefetch_policy, error);
	if (rc == 0 && options->store_policy != NULL)
		rc = far_param_set(&far_client_params, config, "store.policy",
				   options->store_policy, error);
	if (rc == 0 && options->l1_eviction != NULL)
		rc = far_param_set(&far_client_params, config, "l1.eviction", options->l1_eviction,
				   error);
	/* Not "> 0": what is not a number is to be refused, not to be a default. */
	if (options->l1_evict_high != 0)
		config->l1_evict_high = options->l1_evict_high;
	if (options->l1_evict_low != 0)
		config->l1_evict_low = options->l1_evict_low;
	if (options->store_admit_after != 0)
		config->store_admit_after = options->store_admit_after;
	return rc;
}

int
far_client_config_from_options(const struct far_client_options *given,
			       struct far_client_config *config, char error[FAR_PARAM_ERROR_BYTES])
{
	struct far_client_options copy = {0};
	const struct far_client_options *options = &copy;
	int rc;

	memset(config, 0, sizeof(*config));
	far_param_defaults(&far_client_params, config);
	if (given->size_bytes < OPTIONS_BYTES_MIN) {
		snprintf(error, FAR_PARAM_ERROR_BYTES,
			 "options.size_bytes is %zu: set it to sizeof(struct far_client_options)",
			 given->size_bytes);
		return -EINVAL;
	}
	/* An older caller knows fewer fields, a newer one more. */
	memcpy(&copy, given, given->size_bytes < sizeof(copy) ? given->size_bytes : sizeof(copy));
	rc = text_from_option(options->name, config->name, "the client's name", error);
	if (rc < 0)
		return rc;
	rc = text_from_option(options->name_space, config->name_space, "the namespace", error);
	if (rc < 0)
		return rc;
	rc = transport_from_option(options->transport, config, error);
	if (rc == 0)
		rc = trust_from_option(options->trust, config, error);
	if (rc == 0)
		rc = policies_from_options(options, config, error);
	if (rc == 0)
		rc = gpu_from_options(options, config, error);
	if (rc < 0)
		return rc;
	config->l1_bytes = options->l1_bytes;
	if (options->block_bytes_min != 0)
		config->block_bytes_min = options->block_bytes_min;
	if (options->l1_align_bytes != 0)
		config->l1_align_bytes = options->l1_align_bytes;
	if (options->replicas != 0)
		config->replicas = options->replicas;
	if (options->connect_timeout_ns != 0)
		config->connect_timeout_ns = options->connect_timeout_ns;
	if (options->store_deadline_ns != 0)
		config->store_deadline_ns = options->store_deadline_ns;
	config->verify = options->verify_always != 0;
	config->busy_poll_ns = options->busy_poll_us * FAR_NS_PER_US;
	if (options->helpers != 0)
		config->helpers = options->helpers != FAR_HELPERS_NONE ? options->helpers : 0;
	if (config->helpers > FAR_HELPERS_MAX) {
		snprintf(error, FAR_PARAM_ERROR_BYTES,
			 "helpers is %llu: %u at the most, or FAR_HELPERS_NONE",
			 (unsigned long long)config->helpers, FAR_HELPERS_MAX);
		return -EINVAL;
	}
	return donors_from_options(options, config, error);
}

/* One of its addresses at least can be used. */
static int
donor_address_check(const struct far_client_config *config, const struct far_donor_config *donor,
		    char error[FAR_PARAM_ERROR_BYTES])
{
	const char *wanted = far_client_transports[config->transport];
	bool any = config->transport == 0;
	struct far_address_list list;
	char cause[192];

	if (far_address_list_parse(donor->address, &list, cause) < 0) {
		snprintf(error, FAR_PARAM_ERROR_BYTES, "donor '%s': address: %s", donor->name,
			 cause);
		return -EINVAL;
	}
	for (uint32_t i = 0; i < list.count; i++) {
		if ((any || strcmp(list.items[i].scheme, wanted) == 0) &&
		    far_transport_find(list.items[i].scheme) != NULL)
			return 0;
	}
	if (any)
		snprintf(error, FAR_PARAM_ERROR_BYTES,
			 "donor '%s': address '%.200s' names no transport of this build: write for "
			 "example shm:/run/farpool/donor.sock or ucx:HOST:PORT",
			 donor->name, donor->address);
	else
		snprintf(error, FAR_PARAM_ERROR_BYTES,
			 "donor '%s': transport is %s, and %s: %s, or write transport: auto",
			 donor->name, wanted,
			 far_transport_find(wanted) == NULL ? "this build does not have it"
							    : "none of its addresses is of it",
			 far_transport_find(wanted) == NULL ? "use one that has" : "add one");
	return -EINVAL;
}

int
far_client_config_donor(const struct far_client_config *config,
			const struct far_donor_options *options, struct far_donor_config *donor,
			char error[FAR_PARAM_ERROR_BYTES])
{
	int rc = donor_from_options(options, donor, error);

	return rc < 0 ? rc : donor_address_check(config, donor, error);
}

static int
donors_check(const struct far_client_config *config, char error[FAR_PARAM_ERROR_BYTES])
{
	for (size_t i = 0; i < config->donor_count; i++) {
		const struct far_donor_config *donor = &config->donors[i];
		int rc = donor_address_check(config, donor, error);

		if (rc < 0)
			return rc;
		for (size_t j = 0; j < i; j++) {
			if (strcmp(config->donors[j].name, donor->name) != 0)
				continue;
			snprintf(error, FAR_PARAM_ERROR_BYTES,
				 "donors %zu and %zu are both named '%s': names are unique in a "
				 "rack, "
				 "rename one (here and in its farpoold.yaml)",
				 j + 1, i + 1, donor->name);
			return -EINVAL;
		}
	}
	return 0;
}

static int
policy_check(const struct far_client_config *config, char error[FAR_PARAM_ERROR_BYTES])
{
	struct far_policy policy = {.replicas = 1};
	char why[256];
	int rc = far_policy_parse(config->prefetch_policy, &policy, why);

	if (rc < 0)
		snprintf(error, FAR_PARAM_ERROR_BYTES, "prefetch.policy: %s", why);
	return rc;
}

static int
store_policy_check(const struct far_client_config *config, char error[FAR_PARAM_ERROR_BYTES])
{
	struct far_policy placement = {.replicas = 1};
	struct far_store_policy_config policy_config = {
		.text = config->store_policy,
		.placement = &placement,
		.replicas = 1,
		.admit_after = (uint32_t)config->store_admit_after,
		.admit_keys = (uint32_t)config->store_admit_keys,
	};
	char why[FAR_STORE_POLICY_ERROR_BYTES];
	struct far_store_policy policy;
	int rc = far_store_policy_init(&policy, &policy_config, why);

	if (rc == 0)
		far_store_policy_fini(&policy);
	else if (rc == -EINVAL)
		snprintf(error, FAR_PARAM_ERROR_BYTES, "store.policy: %s", why);
	else
		snprintf(error, FAR_PARAM_ERROR_BYTES,
			 "store.admit_keys is %llu: there is no memory for them, lower it",
			 (unsigned long long)config->store_admit_keys);
	return rc;
}

/* Written so that what is not a number fails; an option may be one. */
static int
marks_check(const struct far_client_config *config, char error[FAR_PARAM_ERROR_BYTES])
{
	double high = config->l1_evict_high;
	double low = config->l1_evict_low;

	if (high == 1)
		return 0; /* off */
	if (low >= 0 && low < high && high < 1)
		return 0;
	snprintf(error, FAR_PARAM_ERROR_BYTES,
		 "l1.evict_low is %g and l1.evict_high %g: the low one lies below the high one, "
		 "which is at most 1; lower the one or raise the other, or write l1.evict_high: 1 "
		 "to evict nothing ahead of need",
		 low, high);
	return -EINVAL;
}

int
far_client_config_check(const struct far_client_config *config, char error[FAR_PARAM_ERROR_BYTES])
{
	int rc;

	if (config->l1_bytes < MIB || config->l1_bytes > 64 * TIB) {
		snprintf(error, FAR_PARAM_ERROR_BYTES,
			 "l1.size is %llu bytes: give L1 at least 1MiB, and more than the blocks "
			 "of one "
			 "request",
			 (unsigned long long)config->l1_bytes);
		return -EINVAL;
	}
	if ((config->l1_align_bytes & (config->l1_align_bytes - 1)) != 0 ||
	    config->l1_align_bytes < 64 || config->l1_align_bytes > 2 * MIB) {
		snprintf(error, FAR_PARAM_ERROR_BYTES,
			 "l1.align is %llu: a power of two from 64B to 2MiB is needed",
			 (unsigned long long)config->l1_align_bytes);
		return -EINVAL;
	}
	if (config->block_bytes_min < 64 || config->block_bytes_min > config->l1_bytes) {
		snprintf(error, FAR_PARAM_ERROR_BYTES,
			 "l1.block_min is %llu: it lies between 64B and l1.size",
			 (unsigned long long)config->block_bytes_min);
		return -EINVAL;
	}
	if (config->prefetch_windows_ahead > config->prefetch_keys_max) {
		snprintf(error, FAR_PARAM_ERROR_BYTES,
			 "prefetch.windows is %llu and prefetch.keys %llu: a prefetch has no more "
			 "windows than keys, lower the one or raise the other",
			 (unsigned long long)config->prefetch_windows_ahead,
			 (unsigned long long)config->prefetch_keys_max);
		return -EINVAL;
	}
	if (config->retry_ns_min > config->retry_ns_max) {
		snprintf(error, FAR_PARAM_ERROR_BYTES,
			 "retry_min is longer than retry_max: lower one or raise the other");
		return -EINVAL;
	}
	if (config->events_max != 0 &&
	    (config->events_max < 64 || (config->events_max & (config->events_max - 1)) != 0)) {
		snprintf(error, FAR_PARAM_ERROR_BYTES,
			 "events is %llu: write a power of two from 64 to 1048576, or 0 for none",
			 (unsigned long long)config->events_max);
		return -EINVAL;
	}
	if (far_client_arena_check(config, error) < 0 || marks_check(config, error) < 0 ||
	    policy_check(config, error) < 0)
		return -EINVAL;
	rc = store_policy_check(config, error);
	if (rc < 0)
		return rc;
	return donors_check(config, error);
}

void
far_client_config_host(struct far_client_config *config)
{
	struct far_client_config defaults;

	memset(&defaults, 0, sizeof(defaults));
	far_param_defaults(&far_client_params, &defaults);
	config->l1_memory = defaults.l1_memory;
	config->l1_device = defaults.l1_device;
	config->l1_base = NULL;
	config->l1_gpu_direct = defaults.l1_gpu_direct;
	config->l1_gpu_mapped = defaults.l1_gpu_mapped;
	config->l1_gpu_stage_bytes = defaults.l1_gpu_stage_bytes;
	config->l1_gpu_slice_bytes = defaults.l1_gpu_slice_bytes;
}

void
far_client_config_fini(struct far_client_config *config)
{
	far_param_fini(&far_client_params, config);
}
