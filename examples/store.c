/* store.c - put a block, fill another one in place, give a third one back, wait for the donors. */
#include <farpool/farpool.h>

#include <stdio.h>
#include <string.h>

#define SECOND 1000000000ULL

static int
make_key(const char *hash, struct far_key *key)
{
	struct far_key_parts parts = {
		.size_bytes = sizeof(parts),
		.model = "example",
		.chunk_hash = hash,
		.chunk_hash_bytes = strlen(hash),
	};

	return far_key_make(&parts, key);
}

/* Writes straight into L1: what a KV cache does, which would rather not copy. */
static int
fill_in_place(struct far_client *client, const char *hash, uint32_t size_bytes)
{
	struct far_block *block = NULL;
	struct far_key key;
	int rc = make_key(hash, &key);

	if (rc == 0)
		rc = far_reserve(client, &key, size_bytes, &block);
	if (rc < 0)
		return rc;
	memset(far_block_buffer(block), 'b', size_bytes);
	return far_commit(block);
}

/* A computation that failed half-way: the block was never there. */
static int
change_of_mind(struct far_client *client, const char *hash)
{
	struct far_block *block = NULL;
	struct far_key key;
	int rc = make_key(hash, &key);

	if (rc == 0)
		rc = far_reserve(client, &key, 4096, &block);
	return rc < 0 ? rc : far_abort(block);
}

int
main(int argc, char **argv)
{
	struct far_flush_result result = {.size_bytes = sizeof(result)};
	struct far_client *client;
	struct far_key key;
	char error[512];
	int rc;

	if (argc != 2) {
		fprintf(stderr, "usage: example-store client.yaml\n");
		return 2;
	}
	rc = far_client_open_file(argv[1], error, sizeof(error), &client);
	if (rc < 0) {
		fprintf(stderr, "%s\n", error);
		return 1;
	}
	rc = far_client_wait_donors(client, far_now_ns() + 5 * SECOND, error, sizeof(error));
	if (rc == 0)
		rc = make_key("first", &key);
	if (rc == 0)
		rc = far_put(client, &key, "the bytes of a block", 20);
	if (rc == 0)
		rc = fill_in_place(client, "second", 65536);
	if (rc == 0)
		rc = change_of_mind(client, "third");
	if (rc == 0)
		rc = far_flush(client, far_now_ns() + 5 * SECOND, &result);
	if (rc == 0)
		printf("stored %llu, had %llu, failed %llu\n", (unsigned long long)result.stored,
		       (unsigned long long)result.had, (unsigned long long)result.failed);
	else
		fprintf(stderr, "%s\n", far_strerror(rc));
	far_client_close(client);
	return rc < 0 || result.failed > 0;
}
