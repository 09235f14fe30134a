/* frame.c - control frames taken apart and put together; every byte of a peer's is checked here. */
#include "wire/frame.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/assert.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "frames are laid out little-endian");
_Static_assert(sizeof(struct far_frame_head) == 16, "wire layout");
_Static_assert(sizeof(struct far_frame_hello) == 216, "wire layout");
_Static_assert(sizeof(struct far_frame_welcome) == 120, "wire layout");
_Static_assert(sizeof(struct far_frame_refused) == 136, "wire layout");
_Static_assert(sizeof(struct far_frame_lane_ask) == 8, "wire layout");
_Static_assert(sizeof(struct far_frame_lane_grant) == 56, "wire layout");
_Static_assert(sizeof(struct far_frame_lane) == 8, "wire layout");
_Static_assert(sizeof(struct far_frame_block) == 40, "wire layout");
_Static_assert(sizeof(struct far_frame_commit) == 16, "wire layout");
_Static_assert(sizeof(struct far_frame_committed) == 16, "wire layout");
_Static_assert(sizeof(struct far_frame_keys) == 8, "wire layout");
_Static_assert(sizeof(struct far_frame_results) == 8, "wire layout");
_Static_assert(sizeof(struct far_frame_reject) == 64, "wire layout");
_Static_assert(sizeof(struct far_frame_segment) == 8, "wire layout");
_Static_assert(sizeof(struct far_frame_status) == 8, "wire layout");

/* A later donor may have more counters than we know; more than this is nonsense. */
#define STATUS_VALUES_MAX 1024U
#define LANES_ASKED_MAX   16U

/* What a type looks like. count_at is where the body says how long its list is. */
struct shape {
	uint16_t type;
	uint16_t body_bytes;
	uint16_t item_bytes; /* 0: no list */
	uint16_t count_at;
	uint32_t count_max;
};

#define PLAIN(name, body)                                                                          \
	{                                                                                          \
		.type = FAR_FRAME_##name, .body_bytes = (body)                                     \
	}
#define LISTED(name, body, item, max)                                                              \
	{                                                                                          \
		.type = FAR_FRAME_##name, .body_bytes = sizeof(struct body), .item_bytes = (item), \
		.count_at = offsetof(struct body, count), .count_max = (max),                      \
	}

/* CHALLENGE and RESPONSE have no layout yet: they are unknown to this version. */
static const struct shape shapes[] = {
	PLAIN(HELLO, sizeof(struct far_frame_hello)),
	PLAIN(WELCOME, sizeof(struct far_frame_welcome)),
	PLAIN(REFUSED, sizeof(struct far_frame_refused)),
	PLAIN(LANE_ASK, sizeof(struct far_frame_lane_ask)),
	PLAIN(LANE_GRANT, sizeof(struct far_frame_lane_grant)),
	PLAIN(LANE_FULL, 0),
	PLAIN(LANE_RECALL, sizeof(struct far_frame_lane)),
	LISTED(COMMIT, far_frame_commit, sizeof(struct far_frame_block), FAR_COMMIT_BLOCKS_MAX),
	LISTED(COMMITTED, far_frame_committed, sizeof(int32_t), FAR_COMMIT_BLOCKS_MAX),
	LISTED(TOUCH, far_frame_keys, FAR_KEY_BYTES, FAR_KEYS_MAX),
	LISTED(DELETE, far_frame_keys, FAR_KEY_BYTES, FAR_KEYS_MAX),
	LISTED(DELETED, far_frame_results, sizeof(int32_t), FAR_KEYS_MAX),
	PLAIN(REJECT, sizeof(struct far_frame_reject)),
	PLAIN(SEGMENT_RECALL, sizeof(struct far_frame_segment)),
	PLAIN(SEGMENT_GONE, sizeof(struct far_frame_segment)),
	PLAIN(STATUS_ASK, 0),
	LISTED(STATUS, far_frame_status, sizeof(uint64_t), STATUS_VALUES_MAX),
	PLAIN(BYE, 0),
};

static const struct shape *
shape_find(uint16_t type)
{
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		if (shapes[i].type == type)
			return &shapes[i];
	}
	return NULL;
}

static uint32_t
shape_count(const struct shape *shape, const void *body)
{
	uint32_t count;

	memcpy(&count, (const char *)body + shape->count_at, sizeof(count));
	return count;
}

static bool
string_is_ended(const char *s, size_t room_bytes)
{
	return memchr(s, '\0', room_bytes) != NULL;
}

static bool
hello_is_sound(const struct far_frame_hello *hello)
{
	return string_is_ended(hello->name_space, sizeof(hello->name_space)) &&
	       string_is_ended(hello->donor, sizeof(hello->donor)) &&
	       string_is_ended(hello->client, sizeof(hello->client));
}

static bool
grant_is_sound(const struct far_frame_lane_grant *grant)
{
	return grant->serial != 0 && grant->segment != 0 && grant->size_bytes > 0 &&
	       grant->size_bytes <= FAR_LANE_BYTES_MAX &&
	       grant->offset_bytes <= UINT64_MAX - grant->size_bytes &&
	       grant->offset_bytes % FAR_EXTENT_ALIGN_BIG == 0;
}

static bool
commit_is_sound(const struct far_frame_commit *commit, const struct far_frame_block *blocks)
{
	if ((commit->flags & ~FAR_COMMIT_END) != 0)
		return false;
	if (commit->count == 0 && (commit->flags & FAR_COMMIT_END) == 0)
		return false;
	for (uint32_t i = 0; i < commit->count; i++) {
		if ((blocks[i].flags & ~FAR_SLOT_NO_CRC) != 0)
			return false;
	}
	return true;
}

/* Answers are 0 or negative errno. */
static bool
results_are_sound(const int32_t *results, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (results[i] > 0)
			return false;
	}
	return true;
}

/* What a type says beyond its sizes. */
static bool
content_is_sound(uint16_t type, const void *body, const void *list, uint32_t count)
{
	switch ((enum far_frame_type)type) {
	case FAR_FRAME_HELLO:
		return hello_is_sound(body);
	case FAR_FRAME_WELCOME: {
		const struct far_frame_welcome *welcome = body;

		return welcome->epoch != 0 && welcome->index_bytes > 0 &&
		       string_is_ended(welcome->donor, sizeof(welcome->donor));
	}
	case FAR_FRAME_REFUSED: {
		const struct far_frame_refused *refused = body;

		return refused->rc < 0 && string_is_ended(refused->reason, sizeof(refused->reason));
	}
	case FAR_FRAME_LANE_ASK: {
		const struct far_frame_lane_ask *ask = body;

		return ask->lane_count >= 1 && ask->lane_count <= LANES_ASKED_MAX;
	}
	case FAR_FRAME_LANE_GRANT:
		return grant_is_sound(body);
	case FAR_FRAME_COMMIT:
		return commit_is_sound(body, list);
	case FAR_FRAME_COMMITTED:
	case FAR_FRAME_DELETED:
		return results_are_sound(list, count);
	case FAR_FRAME_CHALLENGE:
	case FAR_FRAME_RESPONSE:
	case FAR_FRAME_LANE_FULL:
	case FAR_FRAME_LANE_RECALL:
	case FAR_FRAME_TOUCH:
	case FAR_FRAME_DELETE:
	case FAR_FRAME_REJECT:
	case FAR_FRAME_SEGMENT_RECALL:
	case FAR_FRAME_SEGMENT_GONE:
	case FAR_FRAME_STATUS_ASK:
	case FAR_FRAME_STATUS:
	case FAR_FRAME_BYE:
		break;
	}
	return true;
}

int
far_frame_decode(const void *msg, size_t size_bytes, struct far_frame *out)
{
	struct far_frame frame = {.body = NULL, .list = NULL, .count = 0};
	const struct shape *shape;
	const char *body = (const char *)msg + sizeof(frame.head);
	const char *list;
	size_t rest;

	FAR_ASSERT((uintptr_t)msg % 8 == 0);
	if (size_bytes < sizeof(frame.head) || size_bytes > FAR_FRAME_BYTES_MAX)
		return -EPROTO;
	memcpy(&frame.head, msg, sizeof(frame.head));
	if (frame.head.size_bytes != size_bytes ||
	    (frame.head.flags & (uint16_t)~FAR_FRAME_OPTIONAL) != 0)
		return -EPROTO;
	shape = shape_find(frame.head.type);
	if (shape == NULL)
		return (frame.head.flags & FAR_FRAME_OPTIONAL) != 0 ? -EOPNOTSUPP : -EPROTO;

	rest = size_bytes - sizeof(frame.head);
	if (rest < shape->body_bytes)
		return -EPROTO;
	rest -= shape->body_bytes;
	list = body + shape->body_bytes;
	if (shape->item_bytes > 0) {
		frame.count = shape_count(shape, body);
		if (frame.count > shape->count_max)
			return -EPROTO;
	}
	if (rest != (size_t)frame.count * shape->item_bytes)
		return -EPROTO;
	if (!content_is_sound(frame.head.type, body, list, frame.count))
		return -EPROTO;
	if (shape->body_bytes > 0)
		frame.body = body;
	if (frame.count > 0)
		frame.list = list;
	*out = frame;
	return 0;
}

int
far_frame_encode(enum far_frame_type type, uint64_t tag, const void *body, const void *list,
		 uint32_t count, void *out, size_t out_bytes)
{
	const struct shape *shape = shape_find((uint16_t)type);
	struct far_frame_head head;
	size_t size_bytes;
	char *at = out;

	FAR_ASSERT(shape != NULL);
	FAR_ASSERT((uintptr_t)out % 8 == 0);
	FAR_ASSERT((body != NULL) == (shape->body_bytes > 0));
	FAR_ASSERT(count <= shape->count_max);
	FAR_ASSERT(shape->item_bytes == 0 || shape_count(shape, body) == count);
	FAR_ASSERT(list != NULL || count == 0);

	size_bytes = sizeof(head) + shape->body_bytes + (size_t)count * shape->item_bytes;
	if (size_bytes > out_bytes || size_bytes > FAR_FRAME_BYTES_MAX)
		return -EMSGSIZE;
	head = (struct far_frame_head){
		.type = (uint16_t)type,
		.flags = 0,
		.size_bytes = (uint32_t)size_bytes,
		.tag = tag,
	};
	memcpy(at, &head, sizeof(head));
	at += sizeof(head);
	if (shape->body_bytes > 0)
		memcpy(at, body, shape->body_bytes);
	at += shape->body_bytes;
	/* A list may have been built in place, right where it goes. */
	if (count > 0 && at != list)
		memcpy(at, list, (size_t)count * shape->item_bytes);
	FAR_DASSERT(far_frame_decode(out, size_bytes, &(struct far_frame){.count = 0}) == 0);
	return (int)size_bytes;
}

const char *
far_frame_name(uint16_t type)
{
	switch (type) {
#define FRAME(name, number, direction, text)                                                       \
	case number:                                                                               \
		return #name;
#include "wire/frame.def"
#undef FRAME
	default:
		return "unknown";
	}
}
