/* address.c - addresses and lists of them, taken apart. */
#include "transport/address.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "transport/transport.h"

int
far_address_split(const char *address, char name_out[FAR_SCHEME_BYTES_MAX], const char **rest_out)
{
	const char *colon = strchr(address, ':');
	size_t name_bytes;

	if (colon == NULL || colon == address || colon[1] == '\0')
		return -EINVAL;
	name_bytes = (size_t)(colon - address);
	if (name_bytes >= FAR_SCHEME_BYTES_MAX)
		return -EINVAL;
	memcpy(name_out, address, name_bytes);
	name_out[name_bytes] = '\0';
	*rest_out = colon + 1;
	return 0;
}

static int
item_parse(const char *text, size_t bytes, struct far_address *out, char error[192])
{
	const char *rest;

	while (bytes > 0 && text[0] == ' ') {
		text++;
		bytes--;
	}
	while (bytes > 0 && text[bytes - 1] == ' ')
		bytes--;
	if (bytes >= sizeof(out->text)) {
		(void)snprintf(error, 192, "'%.40s...' is longer than %zu bytes: shorten it", text,
			       sizeof(out->text) - 1);
		return -EINVAL;
	}
	memcpy(out->text, text, bytes);
	out->text[bytes] = '\0';
	if (far_address_split(out->text, out->scheme, &rest) < 0) {
		(void)snprintf(error, 192,
			       "'%.80s' names no transport: write TRANSPORT:WHERE, for example "
			       "shm:/run/farpool/donor.sock or ucx:HOST:PORT",
			       out->text);
		return -EINVAL;
	}
	out->rest_at = (size_t)(rest - out->text);
	return 0;
}

int
far_address_list_parse(const char *text, struct far_address_list *out, char error[192])
{
	struct far_address_list list = {.count = 0};

	for (;;) {
		size_t bytes = strcspn(text, ",");
		int rc;

		if (list.count == FAR_ADDRESSES_MAX) {
			(void)snprintf(error, 192, "more than %d addresses: remove some",
				       FAR_ADDRESSES_MAX);
			return -EINVAL;
		}
		rc = item_parse(text, bytes, &list.items[list.count], error);
		if (rc < 0)
			return rc;
		list.count++;
		if (text[bytes] == '\0')
			break;
		text += bytes + 1;
	}
	*out = list;
	return 0;
}

void
far_address_list_rank(struct far_address_list *list)
{
	/* Insertion: it keeps the order of equals, and there are four at the most. */
	for (uint32_t i = 1; i < list->count; i++) {
		struct far_address item = list->items[i];
		uint32_t rank = far_transport_rank(item.scheme);
		uint32_t at = i;

		for (; at > 0 && far_transport_rank(list->items[at - 1].scheme) > rank; at--)
			list->items[at] = list->items[at - 1];
		list->items[at] = item;
	}
}
