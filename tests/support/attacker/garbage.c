/* garbage.c - what no farpool would say: each kind over a link of its own, and what it has to cost. */
#include "tests/support/attacker/attacker.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"

#define LONG_BYTES      (1024U * 1024U)
#define RANDOM_LINKS    32
#define GUESSED_IDS     64U /* regions are numbered from 1, with a slot in the low bits */
#define GUESSED_SLOTS   8U
#define SLOTS           16384U
#define OPEN_NS         FAR_NS_PER_S
#define FRAMES_SETTLE_S 5

enum cost {
	COSTS_THE_LINK,
	COSTS_NOTHING, /* a control: the link goes on */
	IS_DENIED,     /* the link goes on, and no answer has bytes */
};

struct frame_out {
	size_t size_bytes;
	uint8_t bytes[UCX_FRAME_BYTES_MAX];
};

static struct frame_out out;
static struct far_rng rng;
static uint8_t long_bytes[LONG_BYTES];

/* ---- frames as they should be ---- */

static struct ucx_frame_header *
frame_begin(struct attacker *attacker, unsigned kind)
{
	struct ucx_frame_header *header = (struct ucx_frame_header *)(void *)out.bytes;

	*header = (struct ucx_frame_header){
		.magic = UCX_FRAME_MAGIC,
		.version = UCX_FRAME_VERSION,
		.kind = (uint8_t)kind,
		.seq = attacker->seq++,
	};
	out.size_bytes = sizeof(*header);
	return header;
}

static void
frame_add(const void *bytes, size_t size_bytes)
{
	memcpy(out.bytes + out.size_bytes, bytes, size_bytes);
	out.size_bytes += size_bytes;
}

static void
frame_add_random(size_t size_bytes)
{
	for (size_t i = 0; i < size_bytes; i++)
		out.bytes[out.size_bytes++] = (uint8_t)far_rng_u64(&rng);
}

static void
frame_say(struct attacker *attacker)
{
	struct ucx_frame_header *header = (struct ucx_frame_header *)(void *)out.bytes;

	header->size_bytes = (uint32_t)out.size_bytes;
	attacker_say(attacker, NULL, 0, out.bytes, out.size_bytes, UCP_AM_SEND_FLAG_EAGER);
}

static struct ucx_frame_hello
hello_right(void)
{
	return (struct ucx_frame_hello){
		.nonce = far_rng_u64(&rng),
		.credits = 32,
		.reads_max = 1024,
		.window_bytes = 2U * 1024U * 1024U,
	};
}

static void
hello_say(struct attacker *attacker, const struct ucx_frame_hello *hello)
{
	(void)frame_begin(attacker, UCX_FRAME_HELLO);
	frame_add(hello, sizeof(*hello));
	frame_say(attacker);
}

bool
attacker_greet(struct attacker *attacker)
{
	struct ucx_frame_hello hello = hello_right();
	uint64_t deadline_ns = attacker_deadline_ns(ATTACKER_CONNECT_S);

	hello_say(attacker, &hello);
	while (attacker->frame_count == 0 && !attacker->lost && attacker_now_ns() < deadline_ns)
		attacker_progress(attacker);
	return attacker->frame_count > 0;
}

/* ---- before the hello ---- */

static void
nothing(struct attacker *attacker)
{
	attacker_say(attacker, NULL, 0, out.bytes, 0, UCP_AM_SEND_FLAG_EAGER);
}

static void
random_bytes(struct attacker *attacker)
{
	out.size_bytes = 0;
	frame_add_random(1000);
	attacker_say(attacker, NULL, 0, out.bytes, out.size_bytes, UCP_AM_SEND_FLAG_EAGER);
}

static void
half_a_hello(struct attacker *attacker)
{
	struct ucx_frame_hello hello = hello_right();
	struct ucx_frame_header *header = frame_begin(attacker, UCX_FRAME_HELLO);

	frame_add(&hello, sizeof(hello));
	header->size_bytes = (uint32_t)out.size_bytes;
	attacker_say(attacker, NULL, 0, out.bytes, out.size_bytes / 2, UCP_AM_SEND_FLAG_EAGER);
}

static void
hello_of_impossible_length(struct attacker *attacker)
{
	struct ucx_frame_hello hello = hello_right();

	hello.hello_bytes = UINT32_MAX;
	hello_say(attacker, &hello);
}

static void
hello_without_a_window(struct attacker *attacker)
{
	struct ucx_frame_hello hello = hello_right();

	hello.window_bytes = 0;
	hello_say(attacker, &hello);
}

static void
two_hellos(struct attacker *attacker)
{
	struct ucx_frame_hello hello = hello_right();

	hello_say(attacker, &hello);
	hello_say(attacker, &hello);
}

static void
welcome_from_the_opener(struct attacker *attacker)
{
	struct ucx_frame_hello hello = hello_right();

	(void)frame_begin(attacker, UCX_FRAME_WELCOME);
	frame_add(&hello, sizeof(hello));
	frame_say(attacker);
}

static void
a_header_beside_the_frame(struct attacker *attacker)
{
	struct ucx_frame_hello hello = hello_right();
	struct ucx_frame_header *header = frame_begin(attacker, UCX_FRAME_HELLO);

	frame_add(&hello, sizeof(hello));
	header->size_bytes = (uint32_t)out.size_bytes;
	attacker_say(attacker, "header", 6, out.bytes, out.size_bytes, UCP_AM_SEND_FLAG_EAGER);
}

static void
rendezvous(struct attacker *attacker)
{
	attacker_say(attacker, NULL, 0, long_bytes, sizeof(long_bytes), UCP_AM_SEND_FLAG_RNDV);
}

static void
longer_than_any_frame(struct attacker *attacker)
{
	attacker_say(attacker, NULL, 0, long_bytes, sizeof(long_bytes), UCP_AM_SEND_FLAG_EAGER);
}

/* ---- behind it ---- */

static void
state(struct attacker *attacker)
{
	(void)frame_begin(attacker, UCX_FRAME_STATE);
	frame_say(attacker);
}

static void
frame_out_of_order(struct attacker *attacker)
{
	attacker->seq += 5;
	state(attacker);
}

static void
size_that_lies(struct attacker *attacker)
{
	struct ucx_frame_header *header = frame_begin(attacker, UCX_FRAME_STATE);

	header->size_bytes = UINT32_MAX;
	attacker_say(attacker, NULL, 0, out.bytes, out.size_bytes, UCP_AM_SEND_FLAG_EAGER);
}

static void
unknown_kind(struct attacker *attacker)
{
	(void)frame_begin(attacker, UCX_FRAME_KIND_END);
	frame_say(attacker);
}

static void
version_to_come(struct attacker *attacker)
{
	frame_begin(attacker, UCX_FRAME_STATE)->version = UCX_FRAME_VERSION + 1;
	frame_say(attacker);
}

static void
zero_that_is_none(struct attacker *attacker)
{
	frame_begin(attacker, UCX_FRAME_STATE)->zero = 1;
	frame_say(attacker);
}

static void
credits_out_of_nothing(struct attacker *attacker)
{
	frame_begin(attacker, UCX_FRAME_STATE)->credits = UINT32_MAX;
	frame_say(attacker);
}

static void
bytes_acknowledged_that_were_never_sent(struct attacker *attacker)
{
	frame_begin(attacker, UCX_FRAME_STATE)->acked = 12345;
	frame_say(attacker);
}

static void
message_say(struct attacker *attacker, uint32_t message_bytes, uint32_t offset)
{
	struct ucx_frame_msg msg = {.message_bytes = message_bytes, .offset = offset};

	(void)frame_begin(attacker, UCX_FRAME_MSG);
	frame_add(&msg, sizeof(msg));
	frame_add_random(64);
	frame_say(attacker);
}

static void
message_of_impossible_length(struct attacker *attacker)
{
	message_say(attacker, UINT32_MAX, 0);
}

static void
second_part_of_a_message_first(struct attacker *attacker)
{
	message_say(attacker, 128, 64);
}

static void
message_of_random_bytes(struct attacker *attacker)
{
	message_say(attacker, 64, 0);
}

static void
read_say(struct attacker *attacker, uint16_t list, uint16_t flags)
{
	struct ucx_frame_read record = {.size_bytes = 64, .list = list, .flags = flags};

	(void)frame_begin(attacker, UCX_FRAME_READ);
	frame_add(&record, sizeof(record));
	frame_say(attacker);
}

static void
read_of_a_list_out_of_range(struct attacker *attacker)
{
	read_say(attacker, UINT16_MAX, 0);
}

static void
read_with_unknown_flags(struct attacker *attacker)
{
	read_say(attacker, 0, UINT16_MAX);
}

/* The first half of a key stands in the welcome, the second can be guessed: it is a name. */
static void
reads_of_guessed_keys(struct attacker *attacker)
{
	uint64_t deadline_ns = attacker_deadline_ns(FRAMES_SETTLE_S);
	uint32_t asked = 0;

	for (uint64_t id = 1; id <= GUESSED_IDS; id++) {
		(void)frame_begin(attacker, UCX_FRAME_READ);
		for (uint64_t slot = 0; slot < GUESSED_SLOTS; slot++) {
			struct ucx_frame_read record = {.size_bytes = 64, .id = asked++};
			uint64_t region = id * SLOTS | slot;

			memcpy(record.rkey.bytes, &attacker->welcome.nonce, sizeof(uint64_t));
			memcpy(record.rkey.bytes + sizeof(uint64_t), &region, sizeof(region));
			frame_add(&record, sizeof(record));
		}
		frame_say(attacker);
		/* No more at a time than the welcome allows. */
		while (attacker->answer_count < asked && !attacker->lost &&
		       attacker_now_ns() < deadline_ns)
			attacker_progress(attacker);
	}
	if (attacker->answer_count != asked)
		attacker->answers_with_bytes = UINT32_MAX;
}

static void
data_that_nobody_asked_for(struct attacker *attacker)
{
	struct ucx_frame_data record = {.size_bytes = 64, .flags = UCX_FLAG_LAST};

	(void)frame_begin(attacker, UCX_FRAME_DATA);
	frame_add(&record, sizeof(record));
	frame_add_random(64);
	frame_say(attacker);
}

static void
data_of_impossible_length(struct attacker *attacker)
{
	struct ucx_frame_data record = {.size_bytes = UINT32_MAX - 3, .flags = UCX_FLAG_LAST};

	(void)frame_begin(attacker, UCX_FRAME_DATA);
	frame_add(&record, sizeof(record));
	frame_add_random(64);
	frame_say(attacker);
}

static void
write_say(struct attacker *attacker, uint64_t addr, uint64_t op_bytes, uint32_t size_bytes)
{
	struct ucx_frame_write record = {
		.addr = addr,
		.op_bytes = op_bytes,
		.seq = 1,
		.size_bytes = size_bytes,
		.flags = UCX_FLAG_LAST,
	};
	uint64_t region = SLOTS;

	memcpy(record.rkey.bytes, &attacker->welcome.nonce, sizeof(uint64_t));
	memcpy(record.rkey.bytes + sizeof(uint64_t), &region, sizeof(region));
	(void)frame_begin(attacker, UCX_FRAME_WRITE);
	frame_add(&record, sizeof(record));
	frame_add_random(64);
	frame_say(attacker);
}

static void
write_to_a_guessed_key(struct attacker *attacker)
{
	write_say(attacker, 0, 64, 64);
}

static void
write_out_of_all_bounds(struct attacker *attacker)
{
	write_say(attacker, UINT64_MAX - 32, 64, 64);
}

static void
write_of_impossible_length(struct attacker *attacker)
{
	write_say(attacker, 0, UINT64_MAX, UINT32_MAX - 3);
}

static void
answer_to_a_write_that_never_was(struct attacker *attacker)
{
	struct ucx_frame_write_done done = {.seq = 7};

	(void)frame_begin(attacker, UCX_FRAME_WRITE_DONE);
	frame_add(&done, sizeof(done));
	frame_say(attacker);
}

/* An odd number of bytes: there is no kind of frame whose body may have it and be all random. */
static void
random_body(struct attacker *attacker)
{
	unsigned kind = (unsigned)far_rng_u64(&rng) % (UCX_FRAME_KIND_END + 1);

	(void)frame_begin(attacker, kind);
	frame_add_random((far_rng_u64(&rng) % 2000) | 1U);
	frame_say(attacker);
}

/* ---- all of it ---- */

struct garbage {
	const char *name;
	void (*say)(struct attacker *attacker);
	bool greeted;
	enum cost cost;
};

#define GARBAGE(what, greeted_first, costs)                                                        \
	{                                                                                          \
		.name = #what, .say = (what), .greeted = (greeted_first), .cost = (costs)          \
	}

static const struct garbage kinds[] = {
	GARBAGE(nothing, false, COSTS_THE_LINK),
	GARBAGE(random_bytes, false, COSTS_THE_LINK),
	GARBAGE(half_a_hello, false, COSTS_THE_LINK),
	GARBAGE(hello_of_impossible_length, false, COSTS_THE_LINK),
	GARBAGE(hello_without_a_window, false, COSTS_THE_LINK),
	GARBAGE(two_hellos, false, COSTS_THE_LINK),
	GARBAGE(welcome_from_the_opener, false, COSTS_THE_LINK),
	GARBAGE(state, false, COSTS_THE_LINK),
	GARBAGE(read_with_unknown_flags, false, COSTS_THE_LINK),
	GARBAGE(a_header_beside_the_frame, false, COSTS_THE_LINK),
	GARBAGE(rendezvous, false, COSTS_THE_LINK),
	GARBAGE(longer_than_any_frame, false, COSTS_THE_LINK),
	GARBAGE(state, true, COSTS_NOTHING),
	GARBAGE(frame_out_of_order, true, COSTS_THE_LINK),
	GARBAGE(size_that_lies, true, COSTS_THE_LINK),
	GARBAGE(unknown_kind, true, COSTS_THE_LINK),
	GARBAGE(version_to_come, true, COSTS_THE_LINK),
	GARBAGE(zero_that_is_none, true, COSTS_THE_LINK),
	GARBAGE(credits_out_of_nothing, true, COSTS_THE_LINK),
	GARBAGE(bytes_acknowledged_that_were_never_sent, true, COSTS_THE_LINK),
	GARBAGE(message_of_impossible_length, true, COSTS_THE_LINK),
	GARBAGE(second_part_of_a_message_first, true, COSTS_THE_LINK),
	GARBAGE(message_of_random_bytes, true, COSTS_THE_LINK),
	GARBAGE(read_of_a_list_out_of_range, true, COSTS_THE_LINK),
	GARBAGE(read_with_unknown_flags, true, COSTS_THE_LINK),
	GARBAGE(reads_of_guessed_keys, true, IS_DENIED),
	GARBAGE(data_that_nobody_asked_for, true, COSTS_THE_LINK),
	GARBAGE(data_of_impossible_length, true, COSTS_THE_LINK),
	GARBAGE(write_to_a_guessed_key, true, COSTS_THE_LINK),
	GARBAGE(write_out_of_all_bounds, true, COSTS_THE_LINK),
	GARBAGE(write_of_impossible_length, true, COSTS_THE_LINK),
	GARBAGE(answer_to_a_write_that_never_was, true, COSTS_THE_LINK),
	GARBAGE(longer_than_any_frame, true, COSTS_THE_LINK),
	GARBAGE(rendezvous, true, COSTS_THE_LINK),
};

/* Whether the other side did with this link what it has to. */
static bool
kind_throw(struct attacker *attacker, const char *address, const struct garbage *kind)
{
	uint64_t wait_ns = kind->cost == COSTS_THE_LINK ? ATTACKER_CLOSE_S * FAR_NS_PER_S : OPEN_NS;
	bool right = attacker_connect(attacker, address);
	uint64_t until_ns;

	if (right && kind->greeted)
		right = attacker_greet(attacker);
	if (right) {
		kind->say(attacker);
		until_ns = attacker_now_ns() + wait_ns;
		while (!attacker->lost && attacker_now_ns() < until_ns)
			attacker_progress(attacker);
		right = attacker->lost == (kind->cost == COSTS_THE_LINK) &&
			attacker->answers_with_bytes == 0;
	}
	printf("%s%s: %s, %u answers, %u with bytes%s\n", kind->name,
	       kind->greeted ? " (greeted)" : "", attacker->lost ? "link lost" : "link up",
	       attacker->answer_count, attacker->answers_with_bytes, right ? "" : ": WRONG");
	fflush(stdout);
	attacker_disconnect(attacker);
	return right;
}

int
attacker_throw(struct attacker *attacker, const char *address)
{
	const struct garbage random_kind = GARBAGE(random_body, true, COSTS_THE_LINK);
	int wrong = 0;

	far_rng_init(&rng, 1);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		wrong += !kind_throw(attacker, address, &kinds[i]);
	for (int i = 0; i < RANDOM_LINKS; i++)
		wrong += !kind_throw(attacker, address, &random_kind);
	return wrong;
}

/* ---- many who say nothing ---- */

int
attacker_crowd(struct attacker *attacker, const char *address, unsigned count, unsigned seconds)
{
	unsigned connected = 0;
	uint64_t until_ns;

	/* None is closed: each stays beside the next. */
	for (unsigned i = 0; i < count; i++)
		connected += attacker_connect(attacker, address);
	printf("crowd: %u connected\n", connected);
	fflush(stdout);
	until_ns = attacker_deadline_ns(seconds);
	while (attacker_now_ns() < until_ns)
		attacker_progress(attacker);
	return 0;
}
