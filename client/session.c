/* session.c - loans of other processes: they map L1 for reading, and their loans end with them. */
#include "client/session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/word.h"
#include "client/handle.h"

#define SESSION_OPEN   0U
#define SESSION_ENDING 1U
#define SESSION_ENDED  2U

#define LOOK_NS         (10 * FAR_NS_PER_MS) /* between two looks at processes while there is work */
#define STEP_NS         FAR_NS_PER_MS        /* between two steps of a session that ends */
#define CLOSE_NS_MAX    (2 * FAR_NS_PER_S)
#define EVENTS_PER_LOOK 16

/*
 * A session ends in this order: nobody enters it any more; its prefetches are cancelled, and end; no
 * call is in it; its loans in L1 end, all at once. L1 and the prefetch controller therefore never see
 * a session that is closed under them. References: its owner's until far_session_close(), the
 * thread's until it has ended, and one per handle.
 */
struct far_session {
	struct far_client *client;
	struct far_list node; /* in client->sessions until freed, under pool_lock */
	far_l1_session l1;
	int pidfd; /* -1: no process is watched */
	int pid;
	bool told; /* thread: its prefetches were told to end */
	char name[64];
	_Atomic uint32_t refs;
	_Atomic uint32_t users;      /* calls that use its loans now */
	_Atomic uint32_t prefetches; /* that have not ended */
	_Atomic uint32_t state;      /* futex */
};

void
far_session_get(struct far_session *session)
{
	if (session != NULL)
		atomic_fetch_add_explicit(&session->refs, 1, memory_order_relaxed);
}

void
far_session_put(struct far_session *session)
{
	if (session == NULL ||
	    atomic_fetch_sub_explicit(&session->refs, 1, memory_order_acq_rel) != 1)
		return;
	pthread_mutex_lock(&session->client->pool_lock);
	far_list_remove(&session->node);
	pthread_mutex_unlock(&session->client->pool_lock);
	far_free(session);
}

bool
far_session_enter(struct far_session *session)
{
	if (session == NULL)
		return true;
	/* Counted first, then looked: pairs with the order in session_step(). */
	atomic_fetch_add(&session->users, 1);
	if (atomic_load(&session->state) == SESSION_OPEN)
		return true;
	atomic_fetch_sub(&session->users, 1);
	return false;
}

void
far_session_leave(struct far_session *session)
{
	if (session != NULL)
		atomic_fetch_sub(&session->users, 1);
}

bool
far_session_is_open(struct far_session *session)
{
	return session == NULL || atomic_load(&session->state) == SESSION_OPEN;
}

void
far_session_prefetch_begins(struct far_session *session)
{
	if (session != NULL)
		atomic_fetch_add(&session->prefetches, 1);
}

void
far_session_prefetch_ends(struct far_session *session)
{
	if (session != NULL)
		atomic_fetch_sub(&session->prefetches, 1);
}

far_l1_session
far_session_l1(const struct far_client *client, const struct far_session *session)
{
	return session != NULL ? session->l1 : client->session;
}

bool
far_session_is_of(const struct far_session *session, const struct far_client *client)
{
	return session == NULL || session->client == client;
}

/* Any thread: the client's ends it in its next turn. False: it is ending already. */
static bool
session_doom(struct far_session *session)
{
	uint32_t open = SESSION_OPEN;

	if (!atomic_compare_exchange_strong(&session->state, &open, SESSION_ENDING))
		return false;
	atomic_fetch_add(&session->client->sessions_ending, 1);
	return true;
}

/* ---- the client's thread ---- */

static void
session_unwatch(struct far_session *session)
{
	if (session->pidfd < 0)
		return;
	/* A child of fork() may have the descriptor too: closing ours would not take it out. */
	(void)epoll_ctl(session->client->watch_fd, EPOLL_CTL_DEL, session->pidfd, NULL);
	close(session->pidfd);
	session->pidfd = -1;
	atomic_fetch_sub_explicit(&session->client->sessions_watched, 1, memory_order_relaxed);
}

/* Those whose process is gone: its descriptor is readable then, and never otherwise (pidfd_open(2)).
 */
static void
look_at_processes(struct far_client *client)
{
	struct epoll_event events[EVENTS_PER_LOOK];
	int count = epoll_wait(client->watch_fd, events, EVENTS_PER_LOOK, 0);

	for (int i = 0; i < count; i++) {
		struct far_session *session = events[i].data.ptr;

		if (session_doom(session))
			far_log_warn("session '%s': process %d is gone, its loans end",
				     session->name, session->pid);
		/* Once is enough. */
		session_unwatch(session);
	}
}

/* True: it has ended. */
static bool
session_step(struct far_session *session)
{
	struct far_client *client = session->client;

	/* Pairs with far_session_enter(): whoever came before the state changed is counted. */
	if (atomic_load(&session->users) > 0)
		return false;
	if (!session->told) {
		session->told = true;
		far_client_handles_cancel(client, session);
	}
	if (atomic_load(&session->prefetches) > 0)
		return false;
	far_l1_session_close(client->l1, session->l1);
	session_unwatch(session);
	atomic_fetch_sub(&client->sessions_ending, 1);
	atomic_store(&session->state, SESSION_ENDED);
	far_word_wake(&session->state);
	return true;
}

/* One that is ending, put to the back: each of them gets its step. The thread's reference keeps it. */
static struct far_session *
ending_next(struct far_client *client)
{
	struct far_session *found = NULL;

	pthread_mutex_lock(&client->pool_lock);
	for (struct far_list *it = client->sessions.next; it != &client->sessions && found == NULL;
	     it = it->next) {
		struct far_session *session = FAR_CONTAINER_OF(it, struct far_session, node);

		if (atomic_load(&session->state) == SESSION_ENDING)
			found = session;
	}
	if (found != NULL) {
		far_list_remove(&found->node);
		far_list_push_back(&client->sessions, &found->node);
	}
	pthread_mutex_unlock(&client->pool_lock);
	return found;
}

uint64_t
far_sessions_tick(struct far_client *client, uint64_t now_ns)
{
	uint32_t ending;

	if (now_ns >= client->watch_at_ns &&
	    atomic_load_explicit(&client->sessions_watched, memory_order_relaxed) > 0) {
		client->watch_at_ns = now_ns + LOOK_NS;
		look_at_processes(client);
	}
	ending = atomic_load(&client->sessions_ending);
	if (ending == 0)
		return FAR_TIME_NEVER;
	for (; ending > 0; ending--) {
		struct far_session *session = ending_next(client);

		if (session == NULL)
			break;
		if (session_step(session))
			far_session_put(session);
	}
	return atomic_load(&client->sessions_ending) > 0 ? now_ns + STEP_NS : FAR_TIME_NEVER;
}

void
far_client_sessions_free(struct far_client *client)
{
	struct far_list *node;

	while ((node = far_list_pop_front(&client->sessions)) != NULL) {
		struct far_session *session = FAR_CONTAINER_OF(node, struct far_session, node);

		if (atomic_load(&session->state) != SESSION_ENDED)
			far_l1_session_close(client->l1, session->l1);
		session_unwatch(session);
		far_free(session);
	}
}

/* ---- the public interface ---- */

static int
session_watch(struct far_session *session)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = session};
	struct far_client *client = session->client;
	int rc = 0;

	session->pidfd = (int)syscall(SYS_pidfd_open, session->pid, 0);
	if (session->pidfd < 0)
		return errno == ESRCH ? -ENOENT : errno == EINVAL ? -EINVAL : -EMFILE;
	atomic_fetch_add_explicit(&client->sessions_watched, 1, memory_order_relaxed);
	if (epoll_ctl(client->watch_fd, EPOLL_CTL_ADD, session->pidfd, &event) < 0) {
		rc = -ENOMEM;
		session_unwatch(session);
	}
	return rc;
}

int
far_session_open(struct far_client *client, const char *name, int pid, struct far_session **out)
{
	struct far_session *session;
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	if (out == NULL || name == NULL || name[0] == '\0' || pid < 0)
		return -EINVAL;
	session = far_zalloc(sizeof(*session));
	if (session == NULL)
		return -ENOMEM;
	session->client = client;
	session->pid = pid;
	session->pidfd = -1;
	snprintf(session->name, sizeof(session->name), "%s", name);
	atomic_init(&session->refs, 2);
	far_list_init(&session->node);
	rc = far_l1_session_open(client->l1, name, &session->l1);
	if (rc < 0) {
		far_free(session);
		return -E2BIG;
	}
	pthread_mutex_lock(&client->pool_lock);
	far_list_push_back(&client->sessions, &session->node);
	pthread_mutex_unlock(&client->pool_lock);
	rc = pid != 0 ? session_watch(session) : 0;
	if (rc < 0) {
		far_session_close(session);
		return rc;
	}
	*out = session;
	return 0;
}

void
far_session_close(struct far_session *session)
{
	uint64_t until_ns;
	int rc = 0;

	if (session == NULL || far_client_enter(session->client) < 0)
		return;
	if (session_doom(session))
		far_client_wake(session->client);
	until_ns = far_clock_now(session->client->clock) + CLOSE_NS_MAX;
	while (rc == 0 && atomic_load(&session->state) == SESSION_ENDING)
		rc = far_word_wait(&session->state, SESSION_ENDING, until_ns);
	/* Should it take longer, the thread has a reference of its own. */
	far_session_put(session);
}

int
far_client_l1_fd(struct far_client *client, uint64_t *size_bytes)
{
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	if (size_bytes != NULL)
		*size_bytes = client->arena.size_bytes;
	return client->arena.fd >= 0 ? client->arena.fd : -EOPNOTSUPP;
}

int
far_prefetch_offset(struct far_prefetch_handle *handle, size_t idx, uint64_t *offset_bytes,
		    uint32_t *size_bytes)
{
	const void *data;
	int rc = far_prefetch_block(handle, idx, &data, size_bytes);

	if (rc == 0)
		*offset_bytes =
			(uint64_t)((const char *)data - (const char *)handle->client->arena.base);
	return rc;
}
