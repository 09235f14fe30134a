/* pool.h - the donor: segments, lanes, the published index, eviction. A state machine; no threads.
 */
#ifndef FAR_POOL_POOL_H
#define FAR_POOL_POOL_H

#include "base/clock.h"
#include "base/param.h"
#include "base/rng.h"
#include "transport/transport.h"
#include "wire/frame.h"
#include "wire/index.h"

/* One namespace of one donor, over one or more transports. Used by one thread, their owner. */
struct far_pool;

struct far_pool_config {
	char name[FAR_NAME_BYTES_MAX + 1]; /* of the donor: [a-zA-Z0-9._-], unique in the rack */
	char name_space[FAR_NAME_BYTES_MAX + 1];
	uint64_t capacity_bytes;  /* what the segments will amount to: sizes the index */
	uint64_t segment_bytes;   /* a multiple of lane_bytes */
	uint64_t lane_bytes;      /* FAR_LANE_BYTES_MIN..MAX, a power of two */
	uint64_t block_bytes_min; /* the smallest block that the index is sized for */
	uint64_t grace_ns;        /* an emptied lane rests this long before it is written again */
	uint64_t lanes_free_min;  /* kept free ahead of the store rate */
	uint64_t lanes_open_max;  /* granted to all writers together; 0: half of all, at least 1 */
	uint64_t lane_idle_ns;    /* an open lane without COMMIT is recalled after this */
	uint64_t recall_ns;       /* a link that does not answer a recall in this time is closed */
	uint64_t hot_share_max;   /* percent of an evicted lane that may be moved: 25 */
	uint64_t links_max;
};

/* What the pool asks of its shell: slow calls happen there, off the loop, and are answered later or
 * at once (also from inside the call). */
struct far_pool_host {
	/* Register [base, base+size) of the segment's memory for writing by @link alone; answer
	 * with far_pool_lane_registered(). NULL: the pool calls the transport itself, at once. */
	void (*lane_register)(struct far_pool_host *host, struct far_pool *pool, uint32_t lane,
			      const struct far_mem_source *source, struct far_link *link);
	/* End that registration; answer with far_pool_lane_deregistered(). NULL: as above. */
	void (*lane_deregister)(struct far_pool_host *host, struct far_pool *pool, uint32_t lane,
				struct far_mem *mem);
};

struct far_pool_stats {
	uint64_t values[FAR_STATUS_COUNT]; /* by enum far_status_idx; cpu and uptime are the shell's
					    */
};

/* The parameter table of a pool, for configuration files and --help. */
extern const struct far_param_table far_pool_params;

/* Fills in segment_bytes and lane_bytes where they are 0, smaller on a small donor, and rounds
 * capacity_bytes down to whole lanes. */
void far_pool_config_fit(struct far_pool_config *config);
/* 0, or -EINVAL with one line in @error that names the parameter, the cause and the next step. */
int far_pool_config_check(const struct far_pool_config *config, char error[FAR_PARAM_ERROR_BYTES]);

/* The transports that a pool serves, a rail each: the index and every segment are registered with
 * all of them, and a link reads over its own. */
struct far_pool_rails {
	struct far_transport *const *tps; /* borrowed, they outlive the pool */
	uint32_t count;                   /* 1..FAR_RAILS_MAX */
};

/**
 * far_pool_open - a pool with an empty index and no segment yet.
 *
 * @index: memory for the index, far_pool_index_bytes(config, rails) or more, zeroed, borrowed;
 * @source.fd as the transports need it. It is registered for reading here.
 * @host:  borrowed; NULL: the pool registers lanes itself.
 *
 * Returns: 0, or -EINVAL, -ENOMEM.
 */
int far_pool_open(const struct far_pool_config *config, const struct far_pool_rails *rails,
		  const struct far_mem_source *index, struct far_clock *clock, struct far_rng *rng,
		  struct far_pool_host *host, struct far_pool **out);
/**
 * far_pool_reopen - as far_pool_open(), over the index that a predecessor left, which has exited.
 *
 * Its epoch is overwritten first of all, then its segments come back with far_pool_segment_restore()
 * while far_pool_growing_set() holds. The ticks behind that look at every slot: blocks in bounds, of
 * an epoch that is to be recovered, whose bytes match their CRC, are served again; all else is
 * cleared. Until then every lane that is asked for is answered LANE_FULL and nothing is evicted. A
 * successor that is killed meanwhile is recovered from in the same way.
 *
 * Returns: 0; -EINVAL (one line in the log: the index is of another donor, version or geometry),
 * with nothing changed; -ENOMEM.
 */
int far_pool_reopen(const struct far_pool_config *config, const struct far_pool_rails *rails,
		    const struct far_mem_source *index, struct far_clock *clock,
		    struct far_rng *rng, struct far_pool_host *host, struct far_pool **out);
/* Whether a donor of this configuration may take over an index with this header: 0, or -EINVAL and
 * one line in @error. @index_bytes: of the memory that holds it. */
int far_pool_backing_check(const struct far_pool_config *config, uint32_t rail_count,
			   const struct far_index_header *header, uint64_t index_bytes,
			   char error[FAR_PARAM_ERROR_BYTES]);
uint64_t far_pool_index_bytes(const struct far_pool_config *config, uint32_t rail_count);
/* So many segments a pool has room for at a time: a few more than its memory makes. */
uint64_t far_pool_segments_max(const struct far_pool_config *config);

/* Lends one more segment: @source is borrowed until far_pool_close() or its
 * far_pool_segment_drain() has ended. Serves from then on. Returns 0, -EINVAL, -ENOMEM, -E2BIG
 * (beyond capacity_bytes). */
int far_pool_segment_add(struct far_pool *pool, const struct far_mem_source *source,
			 uint32_t *segment_out);
/* A predecessor's segment, with the number that its slots call it by. As far_pool_segment_add();
 * -EINVAL too where that number is taken, or nothing is being recovered. */
int far_pool_segment_restore(struct far_pool *pool, const struct far_mem_source *source,
			     uint32_t number);
/* While more segments are on their way nothing is evicted to make room: lanes wait for them. */
void far_pool_growing_set(struct far_pool *pool, bool growing);
/* Not growing, and nothing of a predecessor's is left to be looked at. */
bool far_pool_is_whole(const struct far_pool *pool);
/* Empties, recalls and deregisters a segment; @done (from a later event or tick) says that its
 * memory is nobody's. */
typedef void far_pool_drained_fn(void *arg, uint32_t segment);
/* 0; -ENOENT; -EBUSY: it is on its way already, or the pool recovers. */
int far_pool_segment_drain(struct far_pool *pool, uint32_t segment, far_pool_drained_fn *done,
			   void *arg);

/* The accept function for far_transport_listen(), with the pool as its argument. */
far_accept_fn far_pool_accept;

void far_pool_lane_registered(struct far_pool *pool, uint32_t lane, int rc, struct far_mem *mem);
void far_pool_lane_deregistered(struct far_pool *pool, uint32_t lane);

/* Eviction ahead of need, grace, recalls, idle lanes. Call at the times it returns (absolute; at
 * least every 100 ms) and after far_transport_poll() did something. */
uint64_t far_pool_tick(struct far_pool *pool, uint64_t now_ns);

/* Says BYE, closes every link; far_pool_closing_done() is true once the last one is closed and
 * every lane registration is gone. */
void far_pool_shutdown(struct far_pool *pool);
bool far_pool_closing_done(const struct far_pool *pool);
/* Only when closing is done: asserted. Deregisters segments and index. Takes NULL. */
void far_pool_close(struct far_pool *pool);

void far_pool_stats_get(const struct far_pool *pool, struct far_pool_stats *out);
uint64_t far_pool_epoch(const struct far_pool *pool);
/* Every invariant, walked: slots against lanes, counts, bytes. Tests and debug builds; asserts. */
void far_pool_check(const struct far_pool *pool);

#endif
