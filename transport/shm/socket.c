/* socket.c - Unix sockets: whole frames with descriptors, and addresses that nobody steals. */
#include "transport/shm/shm_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

#define SOCKET_BUFFER_BYTES (1024 * 1024)
#define LOCK_TRIES          500
#define LOCK_PAUSE_NS       (2 * FAR_NS_PER_MS)

/* The kernel's errnos, in terms of base/err.def, for calls that make or name a socket. */
static int
errno_map(int code)
{
	switch (code) {
	case ENFILE:
	case EMFILE:
		return -EMFILE;
	case EACCES:
	case EPERM:
	case EROFS:
		return -EACCES;
	case ENOMEM:
	case ENOBUFS:
	case ENOSPC:
		return -ENOMEM;
	case ENOENT:
	case ENOTDIR:
	case ELOOP:
	case ENAMETOOLONG:
	case EINVAL:
		return -EINVAL;
	case EADDRINUSE:
	case EEXIST:
		return -EADDRINUSE;
	default:
		return -EIO;
	}
}

int
far_shm_address_parse(const char *address, struct sockaddr_un *out, socklen_t *bytes_out)
{
	size_t len = strnlen(address, sizeof(out->sun_path) + 1);

	/* An abstract name has no terminator, but a leading zero for its '@'. */
	if (len == 0 || len >= sizeof(out->sun_path) || (address[0] == '@' && len == 1))
		return -EINVAL;
	memset(out, 0, sizeof(*out));
	out->sun_family = AF_UNIX;
	memcpy(out->sun_path, address, len);
	*bytes_out = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
	if (address[0] == '@') {
		out->sun_path[0] = '\0';
		*bytes_out -= 1;
	}
	return 0;
}

static int
socket_open(void)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int size = SOCKET_BUFFER_BYTES;

	if (fd < 0)
		return errno_map(errno);
	/* The kernel cuts it to its own limit, which is fine: it only saves wake-ups. */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	return fd;
}

int
far_shm_socket_connect(const struct sockaddr_un *addr, socklen_t addr_bytes)
{
	int fd = socket_open();
	int rc;

	if (fd < 0)
		return fd;
	if (connect(fd, (const struct sockaddr *)addr, addr_bytes) == 0)
		return fd;
	switch (errno) {
	case EAGAIN: /* its queue is full */
		rc = -EAGAIN;
		break;
	case ECONNREFUSED:
	case ENOENT:
	case ENOTDIR:
		rc = -ECONNREFUSED;
		break;
	case EPROTOTYPE: /* somebody lives there, who is no farpool */
		rc = -EPROTO;
		break;
	default:
		rc = errno_map(errno);
	}
	(void)close(fd);
	return rc;
}

/* ---- listening ---- */

/* Returns 0 when the name may be free now, else why it is not. */
static int
name_free(int dir_fd, const char *name, const char *address)
{
	struct sockaddr_un addr;
	socklen_t addr_bytes;
	struct stat st;
	int fd, rc;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : errno_map(errno);
	if (!S_ISSOCK(st.st_mode)) {
		far_log_error("listening at %s failed: it exists and is no socket; remove it, or "
			      "configure another path",
			      address);
		return -EINVAL;
	}
	rc = far_shm_address_parse(address, &addr, &addr_bytes);
	if (rc < 0)
		return rc;
	fd = far_shm_socket_connect(&addr, addr_bytes);
	if (fd >= 0)
		(void)close(fd);
	/* A full queue is an answer too, and so is a socket of another type. */
	if (fd >= 0 || fd == -EAGAIN || fd == -EPROTO)
		return -EADDRINUSE;
	if (fd != -ECONNREFUSED)
		return fd;
	/* Dead, and still the one that we looked at: the directory is locked. */
	return unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT ? errno_map(errno) : 0;
}

/*
 * The socket listens before it has its name, so that whoever finds the name finds somebody behind
 * it: a name between bind and listen would look dead to another donor.
 */
static int
name_take(struct shm_listener *listener, int fd, int dir_fd, const char *name)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char temp[32];
	uint64_t random;
	struct stat st;
	int rc = 0;

	far_random_bytes(&random, sizeof(random));
	(void)snprintf(temp, sizeof(temp), ".far-%016llx", (unsigned long long)random);
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/%s", dir_fd, temp);
	if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return errno_map(errno);
	if (listen(fd, SHM_BACKLOG) < 0 || fstatat(dir_fd, temp, &st, AT_SYMLINK_NOFOLLOW) < 0)
		rc = errno_map(errno);
	if (rc == 0)
		rc = name_free(dir_fd, name, listener->path);
	if (rc == 0 && linkat(dir_fd, temp, dir_fd, name, 0) < 0)
		rc = errno_map(errno);
	(void)unlinkat(dir_fd, temp, 0);
	if (rc < 0)
		return rc;
	listener->dev = st.st_dev;
	listener->ino = st.st_ino;
	return 0;
}

/* Opens the directory of a path; *name_out points into @path. */
static int
directory_open(const char *path, const char **name_out)
{
	char dir[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
	const char *slash = strrchr(path, '/');
	size_t len;
	int fd;

	if (slash == NULL) {
		*name_out = path;
		(void)snprintf(dir, sizeof(dir), ".");
	} else {
		len = slash == path ? 1 : (size_t)(slash - path);
		*name_out = slash + 1;
		memcpy(dir, path, len);
		dir[len] = '\0';
	}
	if (**name_out == '\0')
		return -EINVAL;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? errno_map(errno) : fd;
}

/*
 * Of many donors that find one dead socket, one at a time may look and replace it: else the second
 * removes what the first has just put there. Nobody who means well holds this lock for long.
 */
static int
directory_lock(int dir_fd, const char *path)
{
	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(dir_fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return 0; /* no locks on this file system: go on without */
		far_clock_sleep_until(far_clock_now(far_clock_real()) + LOCK_PAUSE_NS);
	}
	far_log_error("listening at %s failed: somebody holds a lock on its directory; end that, "
		      "or configure another path",
		      path);
	return -EADDRINUSE;
}

int
far_shm_socket_listen(struct shm_listener *listener, const char *address)
{
	struct sockaddr_un addr;
	socklen_t addr_bytes;
	const char *name;
	int fd, dir_fd;
	int rc;

	rc = far_shm_address_parse(address, &addr, &addr_bytes);
	if (rc < 0)
		return rc;
	fd = socket_open();
	if (fd < 0)
		return fd;
	listener->path[0] = '\0';
	if (address[0] == '@') {
		if (bind(fd, (const struct sockaddr *)&addr, addr_bytes) < 0 ||
		    listen(fd, SHM_BACKLOG) < 0)
			rc = errno_map(errno);
		goto done;
	}
	(void)snprintf(listener->path, sizeof(listener->path), "%s", address);
	dir_fd = directory_open(listener->path, &name);
	if (dir_fd < 0) {
		rc = dir_fd;
		goto done;
	}
	rc = directory_lock(dir_fd, listener->path);
	if (rc == 0)
		rc = name_take(listener, fd, dir_fd, name);
	(void)close(dir_fd);

done:
	if (rc < 0) {
		(void)close(fd);
		return rc;
	}
	return fd;
}

void
far_shm_socket_unlisten(struct shm_listener *listener)
{
	struct stat st;

	/* A successor may have taken the name: only our own socket goes. */
	if (listener->path[0] != '\0' && lstat(listener->path, &st) == 0 &&
	    st.st_dev == listener->dev && st.st_ino == listener->ino)
		(void)unlink(listener->path);
	(void)close(listener->fd);
	if (listener->spare_fd >= 0)
		(void)close(listener->spare_fd);
}

pid_t
far_shm_socket_peer_pid(int fd)
{
	struct ucred cred;
	socklen_t bytes = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &bytes) < 0)
		return 0;
	return cred.pid;
}

/* ---- packets ---- */

int
far_shm_socket_send(int fd, const struct shm_frame_header *header, const void *body,
		    size_t body_bytes, int pass_fd)
{
	struct iovec iov[2] = {
		{.iov_base = (void *)(uintptr_t)header, .iov_len = sizeof(*header)},
		{.iov_base = (void *)(uintptr_t)body, .iov_len = body_bytes},
	};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = body_bytes == 0 ? 1 : 2};
	ssize_t sent;

	if (pass_fd >= 0) {
		struct cmsghdr *cmsg;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cmsg), &pass_fd, sizeof(int));
	}
	do {
		sent = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	if (sent >= 0)
		return 0; /* a packet goes whole or not at all */
	switch (errno) {
	case EAGAIN:
		return -EAGAIN;
	case ENOBUFS:
	case ENOMEM:
	case ETOOMANYREFS: /* descriptors of this user's that are on their way */
		return -ENOMEM;
	default:
		return -ECONNRESET;
	}
}

/* Takes the descriptors out of a packet: the first is kept, a second one is a broken peer. */
static int
rights_take(struct msghdr *msg, int *fd_out)
{
	int rc = 0;

	*fd_out = -1;
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg != NULL;
	     cmsg = CMSG_NXTHDR(msg, cmsg)) {
		size_t count;

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
			if (*fd_out < 0) {
				*fd_out = fd;
			} else {
				(void)close(fd);
				rc = -EPROTO;
			}
		}
	}
	if (msg->msg_flags & MSG_CTRUNC) /* no place for it, here or in the process */
		rc = rc == 0 && *fd_out < 0 ? -EMFILE : -EPROTO;
	if (msg->msg_flags & MSG_TRUNC)
		rc = -EPROTO;
	return rc;
}

ssize_t
far_shm_socket_receive(int fd, void *packet, size_t size_bytes, int *fd_out)
{
	struct iovec iov = {.iov_base = packet, .iov_len = size_bytes};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(SHM_FDS_MAX * sizeof(int))];
	} control;
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t got;
	int resets = 0;
	int rc;

	do {
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		got = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		/* A reset is told once, before the packets that arrived ahead of it. */
	} while (got < 0 && (errno == EINTR || (errno == ECONNRESET && resets++ == 0)));
	*fd_out = -1;
	if (got < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? -EAGAIN : -ECONNRESET;
	rc = rights_take(&msg, fd_out);
	if (rc == 0)
		return got;
	if (*fd_out >= 0)
		(void)close(*fd_out);
	*fd_out = -1;
	return rc;
}
