/*
 * redis_direct.c - answers of Redis read from the socket to where the blocks belong. hiredis reads 16 KiB at a
 * time and copies twice; a client that cares for bandwidth would do this.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/bench/redis.h"

/* What comes with a line's recv() and is not the line's: a little, so that values are not copied twice. */
#define HEAD_BYTES 512

struct reader {
	int fd;
	size_t at, end;
	char head[HEAD_BYTES];
};

static int
fill(struct reader *reader)
{
	ssize_t got;

	do
		got = recv(reader->fd, reader->head, sizeof(reader->head), 0);
	while (got < 0 && errno == EINTR);
	if (got <= 0)
		return -ECONNRESET;
	reader->at = 0;
	reader->end = (size_t)got;
	return 0;
}

/* ":N\r\n" with its first byte given; -EPROTO: another answer. */
static int
number_read(struct reader *reader, char kind, uint64_t *out)
{
	char text[32];
	size_t count = 0;
	int rc = 0;

	do {
		if (reader->at == reader->end)
			rc = fill(reader);
		if (rc < 0)
			return rc;
		text[count++] = reader->head[reader->at++];
	} while (text[count - 1] != '\n' && count < sizeof(text) - 1);
	text[count] = '\0';
	if (text[0] != kind || text[count - 1] != '\n' || text[1] == '-')
		return -EPROTO;
	*out = strtoull(text + 1, NULL, 10);
	return 0;
}

static int
bytes_read(struct reader *reader, char *to, uint64_t size_bytes)
{
	uint64_t done = reader->end - reader->at;

	if (done > size_bytes)
		done = size_bytes;
	memcpy(to, reader->head + reader->at, done);
	reader->at += done;
	while (done < size_bytes) {
		ssize_t got = recv(reader->fd, to + done, size_bytes - done, MSG_WAITALL);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return -ECONNRESET;
		done += (uint64_t)got;
	}
	return 0;
}

int
redis_read_direct(redisContext *redis, char *to, uint32_t count, uint64_t block_bytes,
		  uint64_t first_word)
{
	static struct reader reader; /* what it has read ahead is the next answer's */
	uint64_t number = count;
	int rc = 0;

	if (reader.fd != redis->fd)
		reader = (struct reader){.fd = redis->fd};
	if (count > 1)
		rc = number_read(&reader, '*', &number);
	if (rc == 0 && number != count)
		rc = -EPROTO;
	for (uint32_t i = 0; i < count && rc == 0; i++) {
		char end[2];

		rc = number_read(&reader, '$', &number);
		if (rc == 0 && number != block_bytes)
			rc = -EPROTO;
		if (rc == 0)
			rc = bytes_read(&reader, to + i * block_bytes, block_bytes);
		if (rc == 0)
			rc = bytes_read(&reader, end, sizeof(end));
		if (rc == 0 &&
		    !bench_ends_are(to + i * block_bytes, 0,
				    first_word + i * block_bytes / sizeof(uint64_t), block_bytes))
			rc = -EBADMSG;
	}
	return rc;
}
