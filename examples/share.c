/* share.c - another process reads blocks where they lie: it maps L1 read-only and is told offsets. */
#include <farpool/farpool.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND 1000000000ULL

/* To the reader, the arena's descriptor with the first one; and its answer. */
struct ask {
	uint64_t arena_bytes;
	uint64_t offset;
	uint32_t length;
	uint32_t reserved;
};

struct answer {
	uint64_t sum;       /* of the bytes */
	uint32_t can_write; /* 1: the kernel let it map them for writing */
	uint32_t reserved;
};

static uint64_t
sum_of(const uint8_t *bytes, uint32_t length)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < length; i++)
		sum = sum * 31 + bytes[i];
	return sum;
}

/* Returns the descriptor that came along, or @fd. */
static int
ask_receive(int sock, struct ask *ask, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = {0};
	struct iovec iov = {ask, sizeof(*ask)};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};

	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != sizeof(*ask))
		return -1;
	if (CMSG_FIRSTHDR(&msg) != NULL)
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

static int
ask_send(int sock, struct ask *ask, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = {0};
	struct iovec iov = {ask, sizeof(*ask)};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&msg);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	return sendmsg(sock, &msg, MSG_NOSIGNAL) == sizeof(*ask) ? 0 : -1;
}

/* The other process: answers each question until the socket ends. */
static int
reader_main(int sock)
{
	const uint8_t *map = NULL;
	struct ask ask;
	int fd = -1;

	while ((fd = ask_receive(sock, &ask, fd)) >= 0) {
		struct answer answer = {0};
		void *writable;

		if (map == NULL)
			map = mmap(NULL, ask.arena_bytes, PROT_READ, MAP_SHARED, fd, 0);
		if (map == MAP_FAILED || ask.offset > ask.arena_bytes ||
		    ask.length > ask.arena_bytes - ask.offset)
			return 1;
		answer.sum = sum_of(map + ask.offset, ask.length);
		writable = mmap(NULL, ask.arena_bytes, PROT_WRITE, MAP_SHARED, fd, 0);
		answer.can_write = writable != MAP_FAILED;
		if (send(sock, &answer, sizeof(answer), MSG_NOSIGNAL) != sizeof(answer))
			return 1;
	}
	return 0;
}

/* Lends the block to the reader's session, and lets it read. */
static int
share(struct far_client *client, const struct far_key *key, pid_t reader, int sock)
{
	struct far_prefetch_options options = {.size_bytes = sizeof(options)};
	struct far_prefetch_handle *handle = NULL;
	struct answer answer = {0};
	struct ask ask = {0};
	int fd = far_client_l1_fd(client, &ask.arena_bytes);
	int rc = far_session_open(client, "reader", (int)reader, &options.session);

	if (rc < 0)
		return rc;
	options.deadline_ns = far_now_ns() + SECOND;
	rc = far_prefetch(client, key, 1, &options, &handle);
	if (rc == 0)
		rc = far_prefetch_wait(handle, far_now_ns() + 2 * SECOND, NULL);
	if (rc == 0)
		rc = far_prefetch_offset(handle, 0, &ask.offset, &ask.length);
	if (rc == 0 && (ask_send(sock, &ask, fd) < 0 ||
			recv(sock, &answer, sizeof(answer), MSG_WAITALL) != sizeof(answer)))
		printf("the reader is gone: its loans end by themselves\n");
	else if (rc == 0)
		printf("%u bytes at %llu: sum %llx, a writable mapping is %s\n", ask.length,
		       (unsigned long long)ask.offset, (unsigned long long)answer.sum,
		       answer.can_write != 0 ? "allowed" : "refused");
	far_prefetch_release(handle);
	far_session_close(options.session);
	return rc;
}

static pid_t
reader_start(const char *program, int sock)
{
	char number[16];
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	(void)fcntl(sock, F_SETFD, 0); /* it is to be there behind exec, and ours is not */
	snprintf(number, sizeof(number), "%d", sock);
	execl(program, program, "--read", number, (char *)NULL);
	_exit(127);
}

int
main(int argc, char **argv)
{
	struct far_key_parts parts = {
		.size_bytes = sizeof(parts),
		.model = "example",
		.chunk_hash = "shared",
		.chunk_hash_bytes = 6,
	};
	struct far_client *client;
	struct far_key key;
	char error[512];
	pid_t reader;
	int socks[2];
	int rc;

	if (argc == 3 && strcmp(argv[1], "--read") == 0)
		return reader_main((int)strtol(argv[2], NULL, 10));
	if (argc != 2 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks) < 0) {
		fprintf(stderr, "usage: example-share client.yaml\n");
		return 2;
	}
	reader = reader_start(argv[0], socks[1]);
	close(socks[1]);
	rc = far_client_open_file(argv[1], error, sizeof(error), &client);
	if (rc < 0) {
		fprintf(stderr, "%s\n", error);
		return 1;
	}
	rc = far_key_make(&parts, &key);
	if (rc == 0)
		rc = far_put(client, &key, "bytes for two", 13);
	if (rc == 0)
		rc = share(client, &key, reader, socks[0]);
	if (rc < 0)
		fprintf(stderr, "%s\n", far_strerror(rc));
	far_client_close(client);
	close(socks[0]);
	(void)waitpid(reader, NULL, 0);
	return rc < 0;
}
