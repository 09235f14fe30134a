/* loop.h - the simulated fabric: one thread, virtual time, a seed, and as unkind as hardware may
 * be. */
#ifndef FAR_TRANSPORT_LOOP_LOOP_H
#define FAR_TRANSPORT_LOOP_LOOP_H

#include "transport/transport.h"

struct far_loop_fabric;

/* How unkind: chances per 65536 and ranges of virtual time. All zero: kind, still asynchronous. */
struct far_loop_config {
	uint64_t seed;
	uint64_t latency_ns_min; /* of every op and message */
	uint64_t latency_ns_max;
	bool reorder;       /* sample READs per 64 B line at any moment between post and
			     * completion, and place WRITEs in any order, within one list */
	uint32_t reexecute; /* a READ's lines are sampled again: half old, half new */
	uint32_t drop_link; /* per op: the link dies instead */
	uint32_t late;      /* per op: it completes after up to late_ns_max more */
	uint64_t late_ns_max;
	uint32_t op_queue_max; /* per link; 0: 4096 */
	uint32_t sums_from;    /* of its links, see struct far_link; not 0: they have sums_reads */
};

/* Time on it is its own: far_loop_step() moves it. Returns 0, -ENOMEM, -EINVAL (a latency range that
 * is empty or longer than an hour). */
int far_loop_fabric_open(const struct far_loop_config *config, struct far_loop_fabric **out);
/* Every transport on it is closed before: asserted. Takes NULL. */
void far_loop_fabric_close(struct far_loop_fabric *fabric);

struct far_clock *far_loop_clock(struct far_loop_fabric *fabric);
/* Moves virtual time to the next thing that happens, at most to @until_ns. False: nothing is due
 * before @until_ns, and time stands there now. Handlers run only in far_transport_poll(). */
bool far_loop_step(struct far_loop_fabric *fabric, uint64_t until_ns);

/* ---- faults, by host name ---- */
/* Its poll does nothing until it is resumed: it takes no message, answers none, gives no credit
 * back. What it had posted still goes on, as with a NIC, and one-sided ops into its memory still
 * work: that is what a stopped process is. */
void far_loop_host_pause(struct far_loop_fabric *fabric, const char *host, bool paused);
/* The process dies: its links are lost for its peers; its memory stays readable to READs that were
 * posted before. Its transport is then closed by the test with far_loop_host_bury(). */
void far_loop_host_kill(struct far_loop_fabric *fabric, const char *host);
/* Frees what the dead process owned in the transport; a new one of the same name may open. */
void far_loop_host_bury(struct far_transport *tp);
/* Cuts or heals the path between two hosts: links over it are lost after the configured latency. */
void far_loop_partition(struct far_loop_fabric *fabric, const char *a, const char *b, bool cut);
/* Memory that is registered from now on gets the keys and addresses of the fabric's start again, as
 * after a reboot: an old key may name new memory. */
void far_loop_keys_repeat(struct far_loop_fabric *fabric);
/* Told of every run of bytes that a READ puts into local memory, just before. NULL: nobody is. */
typedef void far_loop_landing_fn(void *arg, const void *addr, uint64_t size_bytes);
void far_loop_landing_set(struct far_loop_fabric *fabric, far_loop_landing_fn *landing, void *arg);

/* What happened so far, for coverage: how often each unkindness was taken. */
struct far_loop_counts {
	uint64_t ops;
	uint64_t messages;
	uint64_t lines_reordered;
	uint64_t reexecuted;
	uint64_t links_dropped;
	uint64_t late;
	uint64_t flushed;
	uint64_t summed; /* ops that asked for it */
};
void far_loop_counts_get(const struct far_loop_fabric *fabric, struct far_loop_counts *out);

extern const struct far_transport_ops far_loop_ops;

#endif
