/* thread.c - the one thread that owns transports, adapters and controllers. */
#include "client/client_priv.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/log.h"
#include "client/load.h"

#define POLL_BUDGET       64
#define COMMANDS_PER_TURN 256
#define STOP_NS_MAX       (2 * FAR_NS_PER_S)

static void
wake_fd_write(struct far_client *client)
{
	atomic_store_explicit(&client->woken, 1, memory_order_relaxed);
	(void)eventfd_write(client->wake_fd, 1);
}

void
far_client_wake(void *arg)
{
	struct far_client *client = arg;

	/* Pairs with sleep_until_due(): either it sees what we queued, or we see that it sleeps. */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&client->sleeping, memory_order_relaxed) != 0)
		wake_fd_write(client);
}

bool
far_client_push(struct far_client *client, struct far_command *command)
{
	if (!far_ring_push(client->commands, command))
		return false;
	far_client_wake(client);
	return true;
}

bool
far_client_push_quietly(struct far_client *client, struct far_command *command)
{
	if (atomic_load_explicit(&client->drives, memory_order_relaxed) == 0)
		return far_client_push(client, command);
	return far_ring_push(client->commands, command);
}

/* @drives: on a caller's thread. Returns how many were run; one that is kept counts: it is for the thread. */
static int
run_commands(struct far_client *client, bool drives)
{
	int count = 0;

	while (count < COMMANDS_PER_TURN) {
		struct far_command *command = client->kept;

		if (command == NULL)
			command = far_ring_pop(client->commands);
		client->kept = NULL;
		if (command == NULL)
			break;
		count++;
		if (drives && command->may_take_long) {
			client->kept = command;
			break;
		}
		command->run(client, command);
	}
	return count;
}

/*
 * Who writes into L1 is this thread or wakes it. So one look behind the last thing that happened is
 * enough, and a client that does nothing is not woken for it.
 */
static uint64_t
evict_ahead(struct far_client *client, uint64_t now_ns)
{
	if (client->eviction == NULL || !client->evict_due)
		return FAR_TIME_NEVER;
	if (now_ns < client->evict_at_ns)
		return client->evict_at_ns;
	client->evict_at_ns = far_eviction_tick(client->eviction, now_ns);
	client->evict_due = client->evict_at_ns <= now_ns;
	return client->evict_due ? now_ns : FAR_TIME_NEVER;
}

static uint64_t
tick_all(struct far_client *client, uint64_t now_ns)
{
	uint64_t next = now_ns + FAR_NS_PER_S;
	uint64_t at;

	FAR_L2_SET_FOR_EACH(&client->set, i)
	{
		at = far_l2_tick(client->set.items[i], now_ns);
		next = at < next ? at : next;
	}
	at = far_prefetch_tick(client->prefetch, now_ns);
	next = at < next ? at : next;
	at = far_store_tick(client->store, now_ns);
	next = at < next ? at : next;
	at = far_loads_tick(client, now_ns);
	next = at < next ? at : next;
	at = evict_ahead(client, now_ns);
	next = at < next ? at : next;
	at = far_sessions_tick(client, now_ns);
	next = at < next ? at : next;
	if (now_ns >= client->overdue_at_ns) {
		(void)far_l1_report_overdue(client->l1, now_ns, client->config.lock_warn_ns);
		client->overdue_at_ns = now_ns + client->config.lock_warn_ns / 4 + FAR_NS_PER_S;
	}
	return next;
}

/* Ticks, then answers: what a tick ended is told at once. Returns when it wants to run next. */
static uint64_t
settle(struct far_client *client, uint64_t now_ns)
{
	uint64_t next_ns = tick_all(client, now_ns);
	uint64_t at = far_calls_check(client, now_ns);

	return at < next_ns ? at : next_ns;
}

/* One turn: commands, events, ticks, answers. Returns how much was done. */
static int
turn(struct far_client *client, bool drives)
{
	int work = run_commands(client, drives);

	for (size_t i = 0; i < client->transport_count; i++)
		work += far_transport_poll(client->transports[i], POLL_BUDGET);
	client->evict_due = client->evict_due || work > 0;
	(void)settle(client, far_clock_now(client->clock));
	return work;
}

static void
drain_wake_fd(struct far_client *client)
{
	eventfd_t value;

	(void)eventfd_read(client->wake_fd, &value);
	/* Behind the read: where it says that there is a wake-up, there is one, or soon. */
	atomic_store_explicit(&client->woken, 0, memory_order_relaxed);
}

/* Arms every transport. False: one has something to do already. */
static bool
arm_all(struct far_client *client, struct pollfd *fds, nfds_t *count)
{
	for (size_t i = 0; i < client->transport_count; i++) {
		if (far_transport_arm(client->transports[i]) == -EAGAIN)
			return false;
		fds[(*count)++] = (struct pollfd){
			.fd = client->transports[i]->fd,
			.events = POLLIN,
		};
	}
	return true;
}

/* Sleeps until a descriptor, a command or a deadline; returns at once if something is there. */
static void
sleep_until_due(struct far_client *client)
{
	struct pollfd fds[FAR_CLIENT_TRANSPORTS_MAX + 2];
	struct timespec timeout = {0};
	uint64_t now_ns;
	uint64_t until_ns;
	nfds_t count = 0;

	fds[count++] = (struct pollfd){.fd = client->wake_fd, .events = POLLIN};
	fds[count++] = (struct pollfd){.fd = client->watch_fd, .events = POLLIN};
	atomic_store_explicit(&client->sleeping, 1, memory_order_relaxed);
	/* Pairs with far_client_wake(). */
	atomic_thread_fence(memory_order_seq_cst);
	if (run_commands(client, false) == 0) {
		/* A block that the listener queued before it could see us sleep is found by this tick,
		 * and what the tick posts is found by the arming behind it. */
		until_ns = settle(client, far_clock_now(client->clock));
		now_ns = far_clock_now(client->clock);
		if (until_ns > now_ns && arm_all(client, fds, &count)) {
			client->sleeps_until_ns = until_ns;
			timeout.tv_sec = (time_t)((until_ns - now_ns) / FAR_NS_PER_S);
			timeout.tv_nsec = (long)((until_ns - now_ns) % FAR_NS_PER_S);
			/* Who drives meanwhile wakes us if it leaves more than we would wake up
			 * for by ourselves. */
			pthread_mutex_unlock(&client->turn_lock);
			(void)ppoll(fds, count, &timeout, NULL);
			pthread_mutex_lock(&client->turn_lock);
			client->evict_due = true;
			if ((fds[1].revents & POLLIN) != 0)
				client->watch_at_ns = 0;
		}
	}
	atomic_store_explicit(&client->sleeping, 0, memory_order_relaxed);
	drain_wake_fd(client);
}

static bool
all_idle(const struct far_client *client)
{
	FAR_L2_SET_FOR_EACH(&client->set, i)
	{
		if (!far_l2_quiesced(client->set.items[i]))
			return false;
	}
	return far_list_empty(&client->loads) &&
	       (client->prefetch == NULL || far_prefetch_idle(client->prefetch)) &&
	       (client->store == NULL || far_store_idle(client->store));
}

static void
quiesce_all(struct far_client *client)
{
	if (client->store != NULL)
		far_store_quiesce(client->store);
	if (client->prefetch != NULL)
		far_prefetch_quiesce(client->prefetch);
	/* Links end with the adapters, and with them whatever a stopped donor still held. */
	FAR_L2_SET_FOR_EACH(&client->set, i)
	far_l2_quiesce(client->set.items[i]);
}

/* Until nothing is queued and nothing is in flight, or the bound is reached. */
static void
idle_wait(struct far_client *client)
{
	uint64_t until_ns = far_clock_now(client->clock) + STOP_NS_MAX;
	int work;

	do {
		uint64_t now_ns = far_clock_now(client->clock);

		work = client->commands != NULL ? run_commands(client, false) : 0;
		for (size_t i = 0; i < client->transport_count; i++)
			work += far_transport_poll(client->transports[i], POLL_BUDGET);
		FAR_L2_SET_FOR_EACH(&client->set, i)
		(void)far_l2_tick(client->set.items[i], now_ns);
		if (client->prefetch != NULL)
			(void)far_prefetch_tick(client->prefetch, now_ns);
		if (client->store != NULL)
			(void)far_store_tick(client->store, now_ns);
		(void)far_loads_tick(client, now_ns);
		if (work == 0 && !all_idle(client))
			far_clock_sleep_until(now_ns + 200 * FAR_NS_PER_US);
	} while ((work > 0 || !all_idle(client)) && far_clock_now(client->clock) < until_ns);
	/* Questions that ended with their link are told by a tick. */
	FAR_L2_SET_FOR_EACH(&client->set, i)
	(void)far_l2_tick(client->set.items[i], far_clock_now(client->clock));
	far_calls_end(client, -ECANCELED);
}

static void *
thread_main(void *arg)
{
	struct far_client *client = arg;
	uint64_t idle_since_ns = 0;

	pthread_mutex_lock(&client->turn_lock);
	while (atomic_load_explicit(&client->stop, memory_order_acquire) == 0) {
		uint64_t now_ns;

		if (turn(client, false) > 0) {
			idle_since_ns = 0;
			continue;
		}
		now_ns = far_clock_now(client->clock);
		if (idle_since_ns == 0)
			idle_since_ns = now_ns;
		if (now_ns - idle_since_ns < client->config.busy_poll_ns)
			continue;
		sleep_until_due(client);
	}
	quiesce_all(client);
	idle_wait(client);
	pthread_mutex_unlock(&client->turn_lock);
	return NULL;
}

/* ---- a caller in the thread's place ---- */

static bool
may_drive(const struct far_client *client)
{
	return atomic_load_explicit(&client->drives, memory_order_relaxed) != 0 &&
	       atomic_load_explicit(&client->stop, memory_order_relaxed) == 0;
}

/* Nothing is left that the sleeping thread does not wake up for in time. Arms the transports anew. */
static bool
may_sleep_on(struct far_client *client)
{
	struct pollfd fds[FAR_CLIENT_TRANSPORTS_MAX + 2];
	nfds_t count = 0;

	return client->kept == NULL && run_commands(client, true) == 0 &&
	       settle(client, far_clock_now(client->clock)) >= client->sleeps_until_ns &&
	       arm_all(client, fds, &count);
}

/* Until that word says so, or nothing is to be done now, or it is time. The thread goes on with the rest, by what
 * is due then; mostly it was woken before us. */
static void
turns_take(struct far_client *client, const _Atomic uint32_t *done, uint32_t bits,
	   uint64_t deadline_ns)
{
	int work;

	do
		work = turn(client, true);
	while (work > 0 && client->kept == NULL && may_drive(client) &&
	       (atomic_load_explicit(done, memory_order_acquire) & bits) == 0 &&
	       far_clock_now(client->clock) < deadline_ns);
	if (atomic_load_explicit(&client->woken, memory_order_relaxed) == 0 &&
	    !may_sleep_on(client))
		wake_fd_write(client);
}

void
far_client_drive(struct far_client *client, const _Atomic uint32_t *done, uint32_t bits,
		 uint64_t deadline_ns)
{
	bool locked, drives;
	int cancel;

	/* A caller that is cancelled in the middle would leave nobody behind who can go on. */
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	/* Who does not want to wait does not work; a thread that is awake has the lock, and does it. */
	locked = far_clock_now(client->clock) < deadline_ns &&
		 pthread_mutex_trylock(&client->turn_lock) == 0;
	drives = locked && may_drive(client);
	if (drives)
		turns_take(client, done, bits, deadline_ns);
	if (locked)
		pthread_mutex_unlock(&client->turn_lock);
	/* What was pushed quietly is found by a thread that is awake, or about to sleep. */
	if (!drives)
		far_client_wake(client);
	(void)pthread_setcancelstate(cancel, NULL);
}

int
far_client_thread_start(struct far_client *client)
{
	sigset_t all;
	sigset_t before;
	int rc;

	/* The host's signals are the host's: none is taken by our thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&client->thread, NULL, thread_main, client);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0)
		return -ENOMEM;
	(void)pthread_setname_np(client->thread, "farpool");
	client->thread_runs = true;
	return 0;
}

bool
far_client_thread_stop(struct far_client *client)
{
	if (client->thread_runs) {
		atomic_store_explicit(&client->stop, 1, memory_order_release);
		(void)eventfd_write(client->wake_fd, 1);
		pthread_join(client->thread, NULL);
		client->thread_runs = false;
	} else {
		quiesce_all(client);
		idle_wait(client);
	}
	return all_idle(client);
}
