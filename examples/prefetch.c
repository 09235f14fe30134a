/* prefetch.c - the longest cached prefix of a prompt, readable in L1: wait, poll, event, cancel. */
#include <farpool/farpool.h>

#include <poll.h>
#include <stdio.h>
#include <string.h>

#define SECOND 1000000000ULL
#define CHUNKS 32

static int
make_keys(struct far_key keys[CHUNKS])
{
	for (uint32_t i = 0; i < CHUNKS; i++) {
		struct far_key_parts parts = {
			.size_bytes = sizeof(parts),
			.model = "example",
			.chunk_hash = &i,
			.chunk_hash_bytes = sizeof(i),
		};
		int rc = far_key_make(&parts, &keys[i]);

		if (rc < 0)
			return rc;
	}
	return 0;
}

static int
start(struct far_client *client, const struct far_key keys[CHUNKS],
      struct far_prefetch_handle **handle)
{
	struct far_prefetch_options options = {
		.size_bytes = sizeof(options),
		.deadline_ns = far_now_ns() + SECOND,
	};

	return far_prefetch(client, keys, CHUNKS, &options, handle);
}

/* A thread that has nothing else to do. */
static int
wait_for_it(struct far_client *client, const struct far_key keys[CHUNKS])
{
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};
	struct far_prefetch_handle *handle;
	const void *data;
	uint32_t size_bytes;
	int rc = start(client, keys, &handle);

	if (rc < 0)
		return rc;
	rc = far_prefetch_wait(handle, far_now_ns() + 2 * SECOND, &status);
	printf("prefix of %llu of %llu chunks, %llu of them were in L1, %.1f us\n",
	       (unsigned long long)status.prefix_count,
	       (unsigned long long)status.total_requested_keys,
	       (unsigned long long)status.l1_prefix_hit_count, (double)status.latency_ns / 1e3);
	for (size_t i = 0; rc == 0 && i < status.prefix_count; i++) {
		rc = far_prefetch_block(handle, i, &data, &size_bytes);
		if (rc == 0 && size_bytes > 0)
			printf("chunk %zu: %u bytes, the first is '%c'\n", i, size_bytes,
			       *(const char *)data);
	}
	far_prefetch_release(handle); /* from here on the blocks may be evicted */
	return rc;
}

/* An event loop. */
static int
poll_for_it(struct far_client *client, const struct far_key keys[CHUNKS])
{
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};
	struct far_prefetch_handle *handle;
	struct pollfd fd = {.events = POLLIN};
	int rc = start(client, keys, &handle);

	if (rc < 0)
		return rc;
	fd.fd = far_prefetch_event_fd(handle);
	if (fd.fd < 0 || poll(&fd, 1, 2000) != 1)
		far_prefetch_cancel(handle); /* its deadline has passed long ago: give up */
	far_prefetch_poll(handle, &status);
	printf("event: ended %u, prefix %llu\n", status.ended,
	       (unsigned long long)status.prefix_count);
	far_prefetch_release(handle);
	return 0;
}

static int
store_some(struct far_client *client, const struct far_key keys[CHUNKS])
{
	char chunk[4096];
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < CHUNKS / 2; i++) {
		memset(chunk, 'a' + (int)i, sizeof(chunk));
		rc = far_put(client, &keys[i], chunk, sizeof(chunk));
	}
	return rc < 0 ? rc : far_flush(client, far_now_ns() + 5 * SECOND, NULL);
}

int
main(int argc, char **argv)
{
	struct far_key keys[CHUNKS];
	struct far_client *client;
	char error[512];
	int rc;

	if (argc != 2) {
		fprintf(stderr, "usage: example-prefetch client.yaml\n");
		return 2;
	}
	rc = far_client_open_file(argv[1], error, sizeof(error), &client);
	if (rc < 0) {
		fprintf(stderr, "%s\n", error);
		return 1;
	}
	(void)far_client_wait_donors(client, far_now_ns() + 5 * SECOND, NULL, 0);
	rc = make_keys(keys);
	if (rc == 0)
		rc = store_some(client, keys);
	if (rc == 0)
		rc = wait_for_it(client, keys);
	if (rc == 0)
		rc = poll_for_it(client, keys);
	if (rc < 0)
		fprintf(stderr, "%s\n", far_strerror(rc));
	far_client_close(client);
	return rc < 0;
}
