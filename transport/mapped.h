/* mapped.h - a peer's memory that lies on this host: what a copy engine reads without its owner. */
#ifndef FAR_TRANSPORT_MAPPED_H
#define FAR_TRANSPORT_MAPPED_H

#include "transport/transport.h"

/*
 * A mapping of a whole file of a peer's, read-only, with every page there. It lives until each holder
 * has released it, whatever becomes of the link and of the peer; its pages stay as long.
 */
struct far_mapped {
	void *base;
	size_t size_bytes;
	void (*release)(struct far_mapped *mapped); /* the backend's */
};

/**
 * far_transport_map - where the memory of a remote key is mapped in this process.
 *
 * @out:        set only on success; a hold of its own: far_mapped_release(). Keys of one file give the
 *              same one.
 * @offset_out: of the key's first byte in it.
 * @size_out:   of the key's memory.
 *
 * The owner goes on storing to it: what is read is a READ's result, to be validated as one.
 *
 * Returns: 0, or -EOPNOTSUPP (this transport maps nothing), -ESTALE (unknown, or not yet known),
 *          -EACCES (not readable), -ENOTCONN.
 */
static inline int
far_transport_map(struct far_link *link, const struct far_rkey *rkey, struct far_mapped **out,
		  uint64_t *offset_out, uint64_t *size_out)
{
	return link->tp->ops->map(link, rkey, out, offset_out, size_out);
}

/* For backends that map nothing: -EOPNOTSUPP. */
int far_transport_maps_nothing(struct far_link *link, const struct far_rkey *rkey,
			       struct far_mapped **out, uint64_t *offset_out, uint64_t *size_out);

/* Nothing names it any more: no copy, no registration with a device. Thread: any. */
static inline void
far_mapped_release(struct far_mapped *mapped)
{
	mapped->release(mapped);
}

#endif
