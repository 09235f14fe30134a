/* block.c - farpool put, get and delete: one block, one file. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/key.h"
#include "farpool/memory.h"
#include "tools/cli/cli.h"
#include "wire/index.h"

#define L1_SIZE "160MiB" /* two of the largest blocks, and room beside them */

struct block_options {
	struct far_cli_common common;
	const char *key;
	const char *path; /* put: source; get: destination; "-": standard input or output */
	bool path_wanted;
};

static error_t
parse(int key, char *arg, struct argp_state *state)
{
	struct block_options *options = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &options->common;
		return 0;
	case ARGP_KEY_ARG:
		if (state->arg_num == 0)
			options->key = arg;
		else if (state->arg_num == 1 && options->path_wanted)
			options->path = arg;
		else
			argp_error(state, "too many arguments: '%s'", arg);
		return 0;
	case ARGP_KEY_END:
		if (options->key == NULL)
			argp_error(state, "which key? 32 hex digits, or any text");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_child children[] = {{&far_cli_argp, 0, NULL, 0}, {0}};

static int
write_all(int fd, const char *data, size_t size_bytes)
{
	while (size_bytes > 0) {
		ssize_t n = write(fd, data, size_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		data += n;
		size_bytes -= (size_t)n;
	}
	return 0;
}

/* Reads all of a file, at most a block. Returns the length, or a negative errno. */
static int64_t
read_all(int fd, char *data, size_t size_max)
{
	size_t size = 0;

	while (size < size_max) {
		ssize_t n = read(fd, data + size, size_max - size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		size += (size_t)n;
	}
	return (int64_t)size;
}

/* The file's bytes in a new buffer that the caller frees. 0 or 1. */
static int
load_file(const char *path, char **data_out, uint32_t *size_out)
{
	bool standard = path == NULL || strcmp(path, "-") == 0;
	const char *name = standard ? "standard input" : path;
	int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	char *data;
	int64_t size;

	if (fd < 0)
		return far_cli_fail("%s cannot be read: %s", name, strerror(errno));
	data = far_zalloc(FAR_BLOCK_BYTES_MAX + 1);
	size = data == NULL ? -ENOMEM : read_all(fd, data, FAR_BLOCK_BYTES_MAX + 1);
	if (!standard)
		close(fd);
	if (size > 0 && size <= (int64_t)FAR_BLOCK_BYTES_MAX) {
		*data_out = data;
		*size_out = (uint32_t)size;
		return 0;
	}
	far_free(data);
	if (size < 0)
		return far_cli_fail("%s cannot be read: %s", name, strerror((int)-size));
	if (size == 0)
		return far_cli_fail("%s is empty: a block has at least 1 byte", name);
	return far_cli_fail("%s is larger than a block can be (%llu MiB): cut it", name,
			    (unsigned long long)(FAR_BLOCK_BYTES_MAX >> 20));
}

static int
store_block(struct far_client *client, const struct block_options *options,
	    const struct far_key *key, const char *data, uint32_t size)
{
	struct far_flush_result result = {.size_bytes = sizeof(result)};
	char text[FAR_KEY_TEXT_BYTES];
	int rc = far_put(client, key, data, size);

	if (rc < 0)
		return far_cli_fail("the block does not fit in L1: %s", far_strerror(rc));
	rc = far_flush(client, far_now_ns() + options->common.timeout_ns, &result);
	if (rc < 0)
		return far_cli_fail("no donor confirmed the block in time: it may or may not be "
				    "stored (%s)",
				    far_strerror(rc));
	if (result.stored + result.had == 0)
		return far_cli_fail(
			"no donor took the block: it is full or down, or its lanes are smaller "
			"than the block; see farpool status");
	far_key_format(key, text);
	printf("%s %u bytes %s\n", text, size, result.stored > 0 ? "stored" : "was there already");
	return 0;
}

int
far_cli_put(int argc, char **argv)
{
	static const struct argp argp = {
		.parser = parse,
		.args_doc = "KEY [FILE]",
		.doc = "Store FILE (or standard input) as one block under KEY: 32 hex digits, or "
		       "any "
		       "text, which is hashed.",
		.children = children,
	};
	struct block_options options = {.path_wanted = true};
	struct far_client *client;
	struct far_key key;
	char *data = NULL;
	uint32_t size = 0;
	int rc;

	far_cli_common_init(&options.common);
	options.common.host_memory = true;
	argp_parse(&argp, argc, argv, 0, NULL, &options);
	if (far_cli_key(options.key, &key) < 0)
		return far_cli_fail("the key '%.40s' is empty or longer than 1024 bytes",
				    options.key);
	if (load_file(options.path, &data, &size) != 0)
		return 1;
	rc = far_cli_open(&options.common, L1_SIZE, true, &client);
	if (rc == 0) {
		rc = store_block(client, &options, &key, data, size);
		far_client_close(client);
	}
	far_free(data);
	return rc;
}

/* Its bytes in host memory that the caller frees: L1 may lie on a GPU after all. */
static int
read_block(struct far_client *client, const struct far_block *block, char **data_out)
{
	char *data = far_zalloc(far_block_size(block));
	int rc = data == NULL ? -ENOMEM
			      : far_memory_read(client, data, far_block_data(block),
						far_block_size(block));

	if (rc == 0) {
		*data_out = data;
		return 0;
	}
	far_free(data);
	return far_cli_fail("the block cannot be copied out of L1: %s", far_strerror(rc));
}

static int
save_block(const char *data, uint32_t size_bytes, const char *path)
{
	bool standard = path == NULL || strcmp(path, "-") == 0;
	int fd = standard ? STDOUT_FILENO
			  : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	int rc;

	if (fd < 0)
		return far_cli_fail("%s cannot be written: %s", path, strerror(errno));
	rc = write_all(fd, data, size_bytes);
	if (!standard && close(fd) < 0 && rc == 0)
		rc = -errno;
	if (rc < 0)
		return far_cli_fail("%s cannot be written: %s", standard ? "standard output" : path,
				    strerror(-rc));
	return 0;
}

int
far_cli_get(int argc, char **argv)
{
	static const struct argp argp = {
		.parser = parse,
		.args_doc = "KEY [FILE]",
		.doc = "Read the block under KEY into FILE (or standard output).",
		.children = children,
	};
	struct block_options options = {.path_wanted = true};
	struct far_client *client;
	struct far_block *block;
	struct far_key key;
	char *data = NULL;
	int rc;

	far_cli_common_init(&options.common);
	options.common.host_memory = true;
	argp_parse(&argp, argc, argv, 0, NULL, &options);
	if (far_cli_key(options.key, &key) < 0)
		return far_cli_fail("the key '%.40s' is empty or longer than 1024 bytes",
				    options.key);
	if (far_cli_open(&options.common, L1_SIZE, true, &client) != 0)
		return 1;
	rc = far_get(client, &key, far_now_ns() + options.common.timeout_ns, &block);
	if (rc < 0) {
		far_client_close(client);
		return far_cli_fail("%s: %s", options.key, far_strerror(rc));
	}
	rc = read_block(client, block, &data);
	if (rc == 0)
		rc = save_block(data, far_block_size(block), options.path);
	far_free(data);
	far_release(block);
	far_client_close(client);
	return rc;
}

int
far_cli_delete(int argc, char **argv)
{
	static const struct argp argp = {
		.parser = parse,
		.args_doc = "KEY",
		.doc = "Remove the block under KEY from every donor.",
		.children = children,
	};
	struct block_options options = {0};
	struct far_client *client;
	struct far_key key;
	int rc;

	far_cli_common_init(&options.common);
	options.common.host_memory = true;
	argp_parse(&argp, argc, argv, 0, NULL, &options);
	if (far_cli_key(options.key, &key) < 0)
		return far_cli_fail("the key '%.40s' is empty or longer than 1024 bytes",
				    options.key);
	if (far_cli_open(&options.common, L1_SIZE, true, &client) != 0)
		return 1;
	rc = far_delete(client, &key, far_now_ns() + options.common.timeout_ns);
	far_client_close(client);
	if (rc < 0)
		return far_cli_fail("%s: %s", options.key, far_strerror(rc));
	return 0;
}
