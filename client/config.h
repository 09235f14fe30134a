/* config.h - a client's configuration: one struct, from a file or from the public options. */
#ifndef FAR_CLIENT_CONFIG_H
#define FAR_CLIENT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/param.h"
#include "farpool/farpool.h"
#include "transport/address.h"
#include "transport/options.h"

#define FAR_DONORS_MAX 64

/* What a caller that waits for a prefetch does while the client's thread sleeps. */
enum far_client_wait {
	FAR_CLIENT_WAIT_DRIVES,
	FAR_CLIENT_WAIT_SLEEPS,
};

struct far_donor_config {
	char name[64];
	char address[FAR_ADDRESS_LIST_BYTES_MAX];
	double weight;
};

struct far_client_config {
	char name[64];
	char name_space[64];
	uint32_t transport; /* index in far_client_transports */
	uint32_t trust;     /* enum far_trust */
	struct far_rdma_options rdma;
	uint64_t l1_bytes;
	uint64_t l1_align_bytes;
	uint64_t block_bytes_min;
	uint32_t l1_huge;     /* enum far_pages_huge */
	uint32_t l1_eviction; /* enum far_l1_policy */
	double l1_evict_high; /* of the arena's bytes; 1: nothing is evicted ahead of need */
	double l1_evict_low;
	uint32_t numa_node;     /* 0: any, else node + 1 */
	uint32_t l1_memory;     /* enum far_client_memory */
	uint64_t l1_device;     /* which GPU */
	void *l1_base;          /* NULL: the client allocates; an option alone */
	uint32_t l1_gpu_direct; /* enum far_client_direct */
	uint32_t l1_gpu_mapped; /* 1: never */
	uint64_t l1_gpu_stage_bytes;
	uint64_t l1_gpu_slice_bytes;
	uint64_t replicas;
	uint32_t verify; /* 1: always */
	uint64_t busy_poll_ns;
	uint64_t helpers;
	uint64_t connect_timeout_ns;
	uint64_t retry_ns_min;
	uint64_t retry_ns_max;
	uint64_t lock_warn_ns;
	uint64_t message_credits;
	uint64_t events_max;       /* that the recorder keeps; 0: there is none */
	char prefetch_policy[128]; /* names, separated by commas */
	uint64_t prefetch_requests_max;
	uint64_t prefetch_keys_max;
	uint64_t prefetch_loads_max;
	uint64_t prefetch_bytes_max;
	uint64_t prefetch_window_keys;
	uint64_t prefetch_window_bytes;
	uint64_t prefetch_windows_ahead;
	uint32_t prefetch_wait; /* enum far_client_wait */
	char store_policy[128]; /* names, separated by commas */
	uint64_t store_admit_after;
	uint64_t store_admit_keys;
	uint64_t store_queue_max;
	uint64_t store_queue_bytes;
	uint64_t store_bytes_max;
	uint64_t store_batch_max;
	uint64_t store_tries_max;
	uint64_t store_retry_ns;
	uint64_t store_deadline_ns;
	struct far_donor_config *donors; /* owned: far_client_config_fini() */
	size_t donor_count;
};

extern const struct far_param_table far_client_params;
/* "auto", then the names of transports; ends with NULL. */
extern const char *const far_client_transports[];
/* Names of enum far_l1_policy, which l1_eviction is. */
extern const char *const far_client_evictions[];

/* Defaults, then the options. @error: one line. Returns 0, -EINVAL, -ENOMEM. */
int far_client_config_from_options(const struct far_client_options *given,
				   struct far_client_config *config,
				   char error[FAR_PARAM_ERROR_BYTES]);
/* What one field alone cannot tell: donor names unique, addresses of transports that are there and
 * wanted, sizes that fit. */
int far_client_config_check(const struct far_client_config *config,
			    char error[FAR_PARAM_ERROR_BYTES]);
/* One donor that comes later: its options, then its addresses, as the two above would. */
int far_client_config_donor(const struct far_client_config *config,
			    const struct far_donor_options *options, struct far_donor_config *donor,
			    char error[FAR_PARAM_ERROR_BYTES]);
/* Opens a client from a checked configuration, which it takes, whatever the result. @error: one line
 * where the cause is in it, else "". */
int far_client_open_config(struct far_client_config *config, struct far_client **out,
			   char error[FAR_PARAM_ERROR_BYTES]);
/* Takes what it says of a GPU out of it. */
void far_client_config_host(struct far_client_config *config);
void far_client_config_fini(struct far_client_config *config);

#endif
