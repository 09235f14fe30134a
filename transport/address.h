/* address.h - where a peer listens: "shm:/run/farpool/a.sock", or a list of such, one per transport. */
#ifndef FAR_TRANSPORT_ADDRESS_H
#define FAR_TRANSPORT_ADDRESS_H

#include <stddef.h>
#include <stdint.h>

#define FAR_ADDRESS_BYTES_MAX      256 /* of one, with its end */
#define FAR_ADDRESSES_MAX          4   /* in one list */
#define FAR_ADDRESS_LIST_BYTES_MAX 512 /* of a list's text, with its end */
#define FAR_SCHEME_BYTES_MAX       16

struct far_address {
	char text[FAR_ADDRESS_BYTES_MAX];  /* "ucx:10.0.0.3:7471" */
	char scheme[FAR_SCHEME_BYTES_MAX]; /* "ucx": the transport's name */
	size_t rest_at;                    /* where what the transport is given begins in @text */
};

struct far_address_list {
	struct far_address items[FAR_ADDRESSES_MAX];
	uint32_t count;
};

static inline const char *
far_address_rest(const struct far_address *address)
{
	return address->text + address->rest_at;
}

/**
 * far_address_list_parse - takes a text of addresses apart, at its commas; blanks around them are
 * ignored. Whether a scheme is known is not looked at.
 *
 * @out: written only on success; 1 to FAR_ADDRESSES_MAX, in the order of the text.
 *
 * Returns: 0, or -EINVAL with the cause and the next step in @error.
 */
int far_address_list_parse(const char *text, struct far_address_list *out, char error[192]);

/* The first that comes when transports are chosen by themselves comes first: the same host, then
 * RDMA, then whatever else; those of one transport keep their order. */
void far_address_list_rank(struct far_address_list *list);

/* registry.c: how early a transport comes when one is chosen by itself: 0 first. Unknown ones come
 * last. */
uint32_t far_transport_rank(const char *name);

/* The backend named before the first ':' of an address, and the rest of it; -EINVAL without one. */
int far_address_split(const char *address, char name_out[FAR_SCHEME_BYTES_MAX],
		      const char **rest_out);

#endif
