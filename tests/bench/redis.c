/*
 * redis.c - blocks out of a Redis on this host: a Unix socket, no persistence, no time limit; GETs in a
 * pipeline and MGETs, whichever number of keys and commands at a time is the best. The server is one
 * process of its own and takes a processor; so does the reader.
 */
#include "tests/bench/redis.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "tools/perf/litter.h"

#define CONNECT_NS (20 * FAR_NS_PER_S)
#define ANSWER_S   20 /* one that does not come is an error */
#define SIZES_MAX  4
#define TRY_ROUNDS 2

struct size {
	uint64_t block_bytes;
	struct redis_way way;
};

struct bench_mover {
	const struct bench_plan *plan; /* borrowed */
	redis_read_fn *read;
	struct bench_process server;
	struct perf_litter *litter;
	redisContext *redis;
	struct size sizes[SIZES_MAX];
	int size_count;
	char note[BENCH_TEXT_BYTES];
};

static size_t
key_text(uint64_t block_bytes, uint64_t idx, char out[REDIS_KEY_BYTES])
{
	return (size_t)snprintf(out, REDIS_KEY_BYTES, "%llu:%llu", (unsigned long long)block_bytes,
				(unsigned long long)idx);
}

/* ---- commands ---- */

static int
command_send(struct bench_mover *mover, uint64_t block_bytes, uint64_t first, uint32_t count)
{
	char keys[REDIS_KEYS_MAX][REDIS_KEY_BYTES];
	const char *argv[REDIS_KEYS_MAX + 1] = {count > 1 ? "MGET" : "GET"};
	size_t lengths[REDIS_KEYS_MAX + 1] = {count > 1 ? 4 : 3};
	int done = 0;

	for (uint32_t i = 0; i < count; i++) {
		lengths[i + 1] = key_text(block_bytes, first + i, keys[i]);
		argv[i + 1] = keys[i];
	}
	if (redisAppendCommandArgv(mover->redis, (int)count + 1, argv, lengths) != REDIS_OK)
		return -ENOMEM;
	while (!done)
		if (redisBufferWrite(mover->redis, &done) != REDIS_OK)
			return -ECONNRESET;
	return 0;
}

static int
reply_check(const redisReply *reply, uint64_t block_bytes, uint64_t first_word)
{
	if (reply->type != REDIS_REPLY_STRING || (uint64_t)reply->len != block_bytes)
		return -EPROTO;
	return bench_ends_are(reply->str, 0, first_word, block_bytes) ? 0 : -EBADMSG;
}

/* As hiredis has them: in memory of its own, which is where its users read them. */
static int /* NOLINTNEXTLINE(readability-non-const-parameter): it has the type of a redis_read_fn */
read_hiredis(redisContext *redis, char *to, uint32_t count, uint64_t block_bytes,
	     uint64_t first_word)
{
	redisReply *reply = NULL;
	int rc = 0;
	(void)to;

	if (redisGetReply(redis, (void **)&reply) != REDIS_OK)
		return -ECONNRESET;
	if (count == 1)
		rc = reply_check(reply, block_bytes, first_word);
	else if (reply->type != REDIS_REPLY_ARRAY || reply->elements != count)
		rc = -EPROTO;
	for (uint32_t i = 0; count > 1 && i < count && rc == 0; i++)
		rc = reply_check(reply->element[i], block_bytes,
				 first_word + i * block_bytes / sizeof(uint64_t));
	freeReplyObject(reply);
	return rc;
}

/* The first blocks of the set, each once. */
static int
blocks_get(struct bench_mover *mover, uint64_t block_bytes, uint64_t blocks,
	   const struct redis_way *way)
{
	uint64_t sent = 0, got = 0;
	int rc = 0;

	while (rc == 0 && got < blocks) {
		while (rc == 0 && sent < blocks && sent - got < (uint64_t)way->window * way->keys) {
			rc = command_send(mover, block_bytes, sent, way->keys);
			sent += way->keys;
		}
		if (rc == 0)
			rc = mover->read(
				mover->redis, (char *)mover->plan->arena.base + got * block_bytes,
				way->keys, block_bytes, got * block_bytes / sizeof(uint64_t));
		got += way->keys;
	}
	return rc;
}

/* ---- a size, when it is first asked for ---- */

static int
blocks_set(struct bench_mover *mover, uint64_t block_bytes)
{
	const char *from = mover->plan->from.base;

	for (uint64_t i = 0; i < mover->plan->set_bytes / block_bytes; i++) {
		char key[REDIS_KEY_BYTES];
		redisReply *reply;
		size_t length = key_text(block_bytes, i, key);
		bool ok;

		reply = redisCommand(mover->redis, "SET %b %b", key, length, from + i * block_bytes,
				     (size_t)block_bytes);
		ok = reply != NULL && reply->type == REDIS_REPLY_STATUS;
		if (reply != NULL)
			freeReplyObject(reply);
		if (!ok)
			return -EIO;
	}
	return 0;
}

/* As good as a quarter of a set can tell. */
static int
way_find(struct bench_mover *mover, struct size *size)
{
	static const struct redis_way tries[] = {{1, 1}, {1, 4},  {1, 16}, {1, 64},
						 {4, 1}, {16, 1}, {64, 1}, {8, 2}};
	size_t count = sizeof(tries) / sizeof(tries[0]);
	uint64_t all = mover->plan->set_bytes / size->block_bytes / REDIS_KEYS_MAX * REDIS_KEYS_MAX;
	uint64_t blocks = all / 4 / REDIS_KEYS_MAX * REDIS_KEYS_MAX;
	uint64_t best_ns = UINT64_MAX;
	int rc = 0;

	if (blocks == 0)
		blocks = all; /* of a small set all of it, if that is enough for one MGET */
	if (blocks == 0)
		return -E2BIG;
	for (size_t t = 0; t < TRY_ROUNDS * count && rc == 0; t++) {
		uint64_t start_ns = far_clock_now(far_clock_real()), ns;

		rc = blocks_get(mover, size->block_bytes, blocks, &tries[t % count]);
		ns = far_clock_now(far_clock_real()) - start_ns;
		if (ns < best_ns) {
			best_ns = ns;
			size->way = tries[t % count];
		}
	}
	return rc;
}

static int
size_get(struct bench_mover *mover, uint64_t block_bytes, struct size **out)
{
	size_t used = strlen(mover->note);
	struct size *size;
	int rc;

	for (int i = 0; i < mover->size_count; i++) {
		*out = &mover->sizes[i];
		if (mover->sizes[i].block_bytes == block_bytes)
			return 0;
	}
	if (mover->size_count == SIZES_MAX)
		return -E2BIG;
	size = &mover->sizes[mover->size_count++];
	size->block_bytes = block_bytes;
	*out = size;
	rc = blocks_set(mover, block_bytes);
	if (rc == 0)
		rc = way_find(mover, size);
	snprintf(mover->note + used, sizeof(mover->note) - used,
		 "%s%llu KiB: %s of %u, %u at a time",
		 used > 0 ? "; " : "the best: ", (unsigned long long)(block_bytes >> 10),
		 size->way.keys > 1 ? "MGET" : "GET", size->way.keys, size->way.window);
	return rc;
}

static int
redis_pass(struct bench_mover *mover, uint64_t block_bytes, struct bench_pass *out)
{
	uint64_t blocks;
	struct size *size;
	int rc = size_get(mover, block_bytes, &size);

	if (rc < 0)
		return rc;
	blocks = mover->plan->set_bytes / block_bytes / size->way.keys * size->way.keys;
	bench_pass_begin(out, mover->server.pid);
	rc = blocks_get(mover, block_bytes, blocks, &size->way);
	bench_pass_end(out, mover->server.pid, blocks * block_bytes);
	return rc;
}

/* ---- the server ---- */

static int
server_connect(struct bench_mover *mover, const char *path)
{
	uint64_t until_ns = far_clock_now(far_clock_real()) + CONNECT_NS;
	struct timeval timeout = {.tv_sec = ANSWER_S};

	for (;;) {
		mover->redis = redisConnectUnixWithTimeout(path, timeout);
		if (mover->redis != NULL && mover->redis->err == 0)
			break;
		if (mover->redis != NULL)
			redisFree(mover->redis);
		mover->redis = NULL;
		if (far_clock_now(far_clock_real()) >= until_ns)
			return -EHOSTDOWN;
		far_clock_sleep_until(far_clock_now(far_clock_real()) + 10 * FAR_NS_PER_MS);
	}
	redisSetTimeout(mover->redis, timeout);
	mover->redis->reader->maxbuf = 0; /* its buffer stays, instead of coming and going */
	return 0;
}

static void
redis_close(struct bench_mover *mover)
{
	if (mover->redis != NULL)
		redisFree(mover->redis);
	bench_process_kill(&mover->server);
	if (mover->litter != NULL)
		perf_litter_child(mover->litter, 0);
	perf_litter_give(mover->litter);
	far_free(mover);
}

static int
redis_open(const struct bench_plan *plan, redis_read_fn *read, char *why, struct bench_mover **out)
{
	struct bench_mover *mover = far_zalloc(sizeof(*mover));
	char path[96];
	const char *argv[] = {"redis-server",
			      "--port",
			      "0",
			      "--unixsocket",
			      path,
			      "--save",
			      "",
			      "--appendonly",
			      "no",
			      "--activerehashing",
			      "no",
			      NULL};
	int rc;

	if (mover == NULL)
		return -ENOMEM;
	mover->plan = plan;
	mover->read = read;
	mover->server.out_fd = -1;
	mover->litter = perf_litter_take();
	rc = mover->litter == NULL ? -EACCES : 0;
	if (rc == 0) {
		snprintf(path, sizeof(path), "%s/redis.sock", perf_litter_folder(mover->litter));
		rc = bench_process_start(&mover->server, argv, NULL, false);
		if (rc == -ENOENT)
			snprintf(why, BENCH_TEXT_BYTES,
				 "no redis-server here; next: apt-get install redis-server");
	}
	if (rc == 0) {
		perf_litter_child(mover->litter, mover->server.pid);
		rc = server_connect(mover, path);
	}
	if (rc < 0) {
		redis_close(mover);
		return rc;
	}
	*out = mover;
	return 0;
}

static int
hiredis_open(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	return redis_open(plan, read_hiredis, why, out);
}

static int
direct_open(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	return redis_open(plan, redis_read_direct, why, out);
}

static const char *
redis_note(const struct bench_mover *mover)
{
	return mover->note;
}

const struct bench_mover_ops bench_redis = {
	.name = "redis",
	.text = "redis-server on a Unix socket, nothing saved; hiredis, values where hiredis puts "
		"them",
	.open = hiredis_open,
	.pass = redis_pass,
	.note = redis_note,
	.close = redis_close,
};

const struct bench_mover_ops bench_redis_direct = {
	.name = "redis-direct",
	.text = "the same; values read from the socket to where they belong, past hiredis",
	.open = direct_open,
	.pass = redis_pass,
	.note = redis_note,
	.close = redis_close,
};
