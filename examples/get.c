/* get.c - borrow one block, look at it, give it back; then remove it everywhere. */
#include <farpool/farpool.h>

#include <stdio.h>
#include <string.h>

#define SECOND 1000000000ULL

int
main(int argc, char **argv)
{
	struct far_key_parts parts = {
		.size_bytes = sizeof(parts),
		.model = "example",
		.chunk_hash = "first",
		.chunk_hash_bytes = 5,
	};
	struct far_client *client;
	struct far_block *block;
	struct far_key key;
	char error[512];
	int rc;

	if (argc != 2) {
		fprintf(stderr, "usage: example-get client.yaml\n");
		return 2;
	}
	rc = far_client_open_file(argv[1], error, sizeof(error), &client);
	if (rc < 0) {
		fprintf(stderr, "%s\n", error);
		return 1;
	}
	(void)far_client_wait_donors(client, far_now_ns() + 5 * SECOND, NULL, 0);
	rc = far_key_make(&parts, &key);
	if (rc == 0)
		rc = far_get(client, &key, far_now_ns() + SECOND, &block);
	if (rc == 0) {
		/* The bytes stay the same until the release: nobody can evict or change them. */
		printf("%.*s\n", (int)far_block_size(block), (const char *)far_block_data(block));
		far_release(block);
		rc = far_delete(client, &key, far_now_ns() + SECOND);
	}
	if (rc < 0)
		fprintf(stderr, "%s\n", far_strerror(rc));
	far_client_close(client);
	return rc < 0;
}
