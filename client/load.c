/* load.c - blocks from donors straight into pieces of the caller's memory: rounds of tasks, one answer. */
#include "client/load.h"

#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/word.h"

#define LOADS_MAX      16U /* live at once; with the items of a task: fewer tasks than a donor takes */
#define LOADS_RESTING  16U  /* released ones that are not used again yet */
#define TASK_ITEMS_MAX 256U /* keys that a donor is asked for together */
#define KEY_PENDING    1    /* above zero: no result is mistaken for it */

struct load_key {
	struct far_key key;
	uint32_t size_bytes; /* of its pieces */
	uint32_t piece_first, piece_count;
	uint64_t asked;   /* bit per adapter: routes change while donors come and go */
	uint32_t adapter; /* of this round */
	int miss_rc;      /* what the last one but those without it said */
	_Atomic int rc;   /* KEY_PENDING until it is decided */
};

struct load_task {
	struct far_l2_task task;
	struct far_load *load;
	bool live;
};

_Static_assert(FAR_L2_SET_MAX <= 64, "a bit per adapter");

/*
 * A round asks one adapter for each key that is pending; behind it the next one of their routes. The
 * answer comes at the deadline at the latest; it is quiet when no task names its pieces any more.
 */
struct far_load {
	struct far_command command; /* starts it */
	struct far_client *client;
	struct far_list node;        /* pool_lock: loads_live or loads_free */
	struct far_list thread_node; /* thread: client->loads until it is quiet */
	size_t capacity, piece_capacity;
	uint32_t count;
	struct load_key *keys;     /* owned, as all of these */
	struct far_l2_item *items; /* of the round, adapter by adapter */
	uint32_t *order;           /* items[i] is for key order[i] */
	struct load_task *tasks;
	struct far_l2_piece *pieces;
	uint32_t task_count; /* of the round */
	uint32_t tasks_live;
	uint64_t deadline_ns;
	uint32_t memories;         /* bit per memory that its pieces lie in */
	bool due;                  /* thread: a round has ended */
	_Atomic uint32_t cancel;   /* any -> thread */
	_Atomic uint32_t answered; /* futex */
	_Atomic uint32_t quiet;    /* futex; the thread's last word */
	_Atomic uint32_t released; /* 1: given back, and nobody's until it is taken anew */
};

/* ---- the client's thread ---- */

static int
key_rc(const struct load_key *key)
{
	return atomic_load_explicit(&key->rc, memory_order_acquire);
}

/* Its bytes are published before: pairs with far_load_result(). */
static void
key_end(struct load_key *key, int rc)
{
	atomic_store_explicit(&key->rc, rc, memory_order_release);
}

static void
load_answer(struct far_load *load, int rc)
{
	if (atomic_load_explicit(&load->answered, memory_order_relaxed) != 0)
		return;
	for (uint32_t i = 0; i < load->count; i++) {
		if (key_rc(&load->keys[i]) == KEY_PENDING)
			key_end(&load->keys[i], rc);
	}
	atomic_store_explicit(&load->answered, 1, memory_order_release);
	far_word_wake(&load->answered);
}

static void
item_ended(struct load_key *key, int rc)
{
	if (key_rc(key) != KEY_PENDING)
		return; /* the answer came first, and stays */
	switch (rc) {
	case 0:
	case -EINVAL:
	case -E2BIG:
	case -ETIMEDOUT:
		key_end(key, rc);
		return;
	case -ECANCELED:
		rc = -EHOSTDOWN; /* the donor is being removed: nobody cancelled the load */
		break;
	default:
		break;
	}
	/* Another one may have it. Of the reasons, any that is more than «not here» is told. */
	if (key->miss_rc == 0 || key->miss_rc == -ENOENT)
		key->miss_rc = rc;
}

static void
task_done(struct far_l2_task *l2_task)
{
	struct load_task *task = FAR_CONTAINER_OF(l2_task, struct load_task, task);
	struct far_load *load = task->load;
	size_t first = (size_t)(l2_task->items - load->items);

	int flush_rc = far_client_arena_flush(&load->client->arena);

	task->live = false;
	for (uint32_t i = 0; i < l2_task->count; i++) {
		int rc = l2_task->items[i].rc;

		item_ended(&load->keys[load->order[first + i]], rc == 0 ? flush_rc : rc);
	}
	load->tasks_live--;
	load->due = load->tasks_live == 0;
}

/* Which adapter each pending key asks now. Returns how many ask one. */
static uint32_t
round_route(struct far_load *load, uint32_t counts[FAR_L2_SET_MAX])
{
	struct far_client *client = load->client;
	uint32_t idx[FAR_L2_SET_MAX];
	uint64_t nonsense = 0;
	uint32_t pending = 0;

	memset(counts, 0, FAR_L2_SET_MAX * sizeof(counts[0]));
	for (uint32_t i = 0; i < load->count; i++) {
		struct load_key *key = &load->keys[i];
		uint32_t found;
		uint32_t next = 0;

		if (key_rc(key) != KEY_PENDING)
			continue;
		found = far_policy_route(&client->policy, &client->set, &key->key, idx, &nonsense);
		while (next < found && (key->asked >> idx[next] & 1) != 0)
			next++;
		if (next == found) {
			key_end(key, key->miss_rc != 0 ? key->miss_rc : -ENOENT);
			continue;
		}
		key->adapter = idx[next];
		key->asked |= 1ULL << key->adapter;
		counts[key->adapter]++;
		pending++;
	}
	return pending;
}

/* Items lie adapter by adapter, and in the order of the keys. */
static void
round_lay(struct far_load *load, const uint32_t counts[FAR_L2_SET_MAX])
{
	uint32_t next[FAR_L2_SET_MAX];
	uint32_t at = 0;

	for (uint32_t i = 0; i < FAR_L2_SET_MAX; i++) {
		next[i] = at;
		at += counts[i];
	}
	for (uint32_t i = 0; i < load->count; i++) {
		const struct load_key *key = &load->keys[i];

		if (key_rc(key) != KEY_PENDING)
			continue;
		at = next[key->adapter]++;
		load->order[at] = i;
		load->items[at] = (struct far_l2_item){
			.key = key->key,
			.size_bytes = key->size_bytes,
			.pieces = &load->pieces[key->piece_first],
			.piece_count = key->piece_count,
		};
	}
}

static void
round_submit(struct far_load *load, uint32_t adapter, uint32_t first, uint32_t count)
{
	struct far_l2 *l2 = load->client->set.items[adapter];
	uint32_t max =
		l2->limits.items_max < TASK_ITEMS_MAX ? l2->limits.items_max : TASK_ITEMS_MAX;

	for (uint32_t at = 0; at < count; at += max) {
		struct load_task *task = &load->tasks[load->task_count++];

		*task = (struct load_task){
			.task = {.kind = FAR_L2_LOAD,
				 .items = &load->items[first + at],
				 .count = count - at < max ? count - at : max,
				 .deadline_ns = load->deadline_ns,
				 .done = task_done},
			.load = load,
			.live = true,
		};
		load->tasks_live++;
		far_l2_submit(l2, &task->task);
	}
}

static void
round_begin(struct far_load *load)
{
	uint32_t counts[FAR_L2_SET_MAX];
	uint32_t at = 0;

	load->due = false;
	load->task_count = 0;
	if (round_route(load, counts) == 0)
		return;
	round_lay(load, counts);
	for (uint32_t i = 0; i < FAR_L2_SET_MAX; i++) {
		if (counts[i] > 0)
			round_submit(load, i, at, counts[i]);
		at += counts[i];
	}
}

static void
load_start(struct far_client *client, struct far_command *command)
{
	struct far_load *load = FAR_CONTAINER_OF(command, struct far_load, command);

	far_list_push_back(&client->loads, &load->thread_node);
	round_begin(load);
}

/* What is posted is awaited; what is not ends. */
static void
load_give_up(struct far_load *load, int rc)
{
	load_answer(load, rc);
	for (uint32_t i = 0; i < load->task_count; i++) {
		struct load_task *task = &load->tasks[i];

		if (task->live)
			far_l2_cancel(task->task.l2, &task->task);
	}
}

/* True: it is quiet, and nobody's here any more. */
static bool
load_tick(struct far_load *load, uint64_t now_ns)
{
	bool leaves = atomic_load_explicit(&load->client->stop, memory_order_acquire) != 0 ||
		      atomic_load_explicit(&load->cancel, memory_order_acquire) != 0;

	if (atomic_load_explicit(&load->answered, memory_order_relaxed) == 0) {
		if (leaves)
			load_give_up(load, -ECANCELED);
		else if (now_ns >= load->deadline_ns)
			load_give_up(load, -ETIMEDOUT);
		else if (load->due)
			round_begin(load);
	}
	if (load->tasks_live > 0)
		return false;
	load_answer(load, -EIO); /* every key has its own */
	far_list_remove(&load->thread_node);
	atomic_store_explicit(&load->quiet, 1, memory_order_release);
	far_word_wake(&load->quiet);
	return true;
}

uint64_t
far_loads_tick(struct far_client *client, uint64_t now_ns)
{
	uint64_t next_ns = FAR_TIME_NEVER;
	struct far_list *it;
	struct far_list *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, &client->loads)
	{
		struct far_load *load = FAR_CONTAINER_OF(it, struct far_load, thread_node);

		if (load_tick(load, now_ns))
			continue;
		if (load->deadline_ns > now_ns && load->deadline_ns < next_ns)
			next_ns = load->deadline_ns;
	}
	return next_ns;
}

bool
far_loads_names(const struct far_client *client, const struct far_l2 *l2)
{
	const struct far_list *it;

	for (it = client->loads.next; it != &client->loads; it = it->next) {
		const struct far_load *load = FAR_CONTAINER_OF((struct far_list *)(uintptr_t)it,
							       struct far_load, thread_node);

		for (uint32_t i = 0; i < load->task_count; i++) {
			if (load->tasks[i].live && load->tasks[i].task.l2 == l2)
				return true;
		}
	}
	return false;
}

/* ---- any thread ---- */

static void
load_free(struct far_load *load)
{
	far_free(load->keys);
	far_free(load->items);
	far_free(load->order);
	far_free(load->tasks);
	far_free(load->pieces);
	far_free(load);
}

static int
load_grow(struct far_load *load, size_t count, size_t pieces)
{
	/* A task has 256 keys, or all that one adapter is asked for. */
	size_t tasks = count / TASK_ITEMS_MAX + FAR_L2_SET_MAX;

	if (count > load->capacity) {
		far_free(load->keys);
		far_free(load->items);
		far_free(load->order);
		far_free(load->tasks);
		load->capacity = 0;
		load->keys = far_zalloc_array(count, sizeof(*load->keys));
		load->items = far_zalloc_array(count, sizeof(*load->items));
		load->order = far_zalloc_array(count, sizeof(*load->order));
		load->tasks = far_zalloc_array(tasks, sizeof(*load->tasks));
		if (load->keys == NULL || load->items == NULL || load->order == NULL ||
		    load->tasks == NULL)
			return -ENOMEM;
		load->capacity = count;
	}
	if (pieces > load->piece_capacity) {
		far_free(load->pieces);
		load->piece_capacity = 0;
		load->pieces = far_zalloc_array(pieces, sizeof(*load->pieces));
		if (load->pieces == NULL)
			return -ENOMEM;
		load->piece_capacity = pieces;
	}
	return 0;
}

/* Of those that have rested, if there is one; they grow, so that only a client's first loads allocate. */
static int
load_take(struct far_client *client, struct far_load **out)
{
	struct far_load *load = NULL;
	struct far_list *node;
	int rc = 0;

	pthread_mutex_lock(&client->pool_lock);
	if (client->loads_live_count >= LOADS_MAX) {
		rc = -E2BIG;
	} else {
		client->loads_live_count++;
		node = far_resting_take(&client->loads_free, LOADS_RESTING);
		if (node != NULL)
			load = FAR_CONTAINER_OF(node, struct far_load, node);
	}
	pthread_mutex_unlock(&client->pool_lock);
	if (rc < 0)
		return rc;
	if (load == NULL) {
		load = far_zalloc(sizeof(*load));
		if (load != NULL) {
			load->client = client;
			far_list_init(&load->node);
			far_list_init(&load->thread_node);
		}
	}
	pthread_mutex_lock(&client->pool_lock);
	if (load == NULL)
		client->loads_live_count--;
	else
		far_list_push_back(&client->loads_live, &load->node);
	pthread_mutex_unlock(&client->pool_lock);
	*out = load;
	return load == NULL ? -ENOMEM : 0;
}

static void
load_put(struct far_load *load)
{
	struct far_client *client = load->client;

	pthread_mutex_lock(&client->pool_lock);
	for (uint32_t i = 0; i < FAR_L2_MEMORIES_MAX; i++) {
		if ((load->memories >> i & 1) != 0)
			client->memories[i].refs--;
	}
	load->memories = 0;
	far_resting_give(&client->loads_free, &load->node);
	client->loads_live_count--;
	pthread_mutex_unlock(&client->pool_lock);
}

/* Under pool_lock: the memory that a piece lies in, wholly; FAR_L2_MEMORIES_MAX: none. */
static uint32_t
memory_of(const struct far_client *client, const struct far_load_piece *piece)
{
	for (uint32_t i = 0; i < FAR_L2_MEMORIES_MAX; i++) {
		const struct far_memory *memory = &client->memories[i];
		uint64_t offset =
			(uint64_t)(uintptr_t)piece->addr - (uint64_t)(uintptr_t)memory->base;

		if (memory->base != NULL && !memory->leaving && offset <= memory->size_bytes &&
		    piece->size_bytes <= memory->size_bytes - offset)
			return i;
	}
	return FAR_L2_MEMORIES_MAX;
}

/* Copies what is asked for, and takes hold of the memory that it goes to. */
static int
load_fill(struct far_load *load, const struct far_load_key *keys, size_t count)
{
	struct far_client *client = load->client;
	uint32_t piece = 0;
	int rc = 0;

	pthread_mutex_lock(&client->pool_lock);
	for (size_t k = 0; rc == 0 && k < count; k++) {
		struct load_key *key = &load->keys[k];
		uint64_t bytes = 0;

		*key = (struct load_key){.key = keys[k].key,
					 .piece_first = piece,
					 .piece_count = keys[k].piece_count,
					 .rc = KEY_PENDING};
		for (uint32_t p = 0; rc == 0 && p < keys[k].piece_count; p++) {
			const struct far_load_piece *from = &keys[k].pieces[p];
			uint32_t memory = memory_of(client, from);

			if (memory == FAR_L2_MEMORIES_MAX) {
				rc = -EINVAL;
				break;
			}
			if ((load->memories >> memory & 1) == 0)
				client->memories[memory].refs++;
			load->memories |= 1U << memory;
			load->pieces[piece++] = (struct far_l2_piece){from->addr, from->size_bytes};
			bytes += from->size_bytes;
		}
		if (bytes == 0 || bytes > UINT32_MAX)
			rc = -EINVAL;
		key->size_bytes = (uint32_t)bytes;
	}
	pthread_mutex_unlock(&client->pool_lock);
	return rc;
}

/* How many pieces there are; 0: what is asked for cannot be. */
static size_t
pieces_count(const struct far_client *client, const struct far_load_key *keys, size_t count)
{
	size_t pieces = 0;

	if (keys == NULL || count == 0 || count > client->config.prefetch_keys_max)
		return 0;
	for (size_t i = 0; i < count; i++) {
		if (far_key_is_zero(&keys[i].key) || keys[i].pieces == NULL ||
		    keys[i].piece_count == 0 || keys[i].piece_count > FAR_LOAD_PIECES_MAX)
			return 0;
		pieces += keys[i].piece_count;
	}
	return pieces;
}

int
far_load(struct far_client *client, const struct far_load_key *keys, size_t count,
	 uint64_t deadline_ns, struct far_load **out)
{
	struct far_load *load;
	size_t pieces;
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	pieces = pieces_count(client, keys, count);
	if (pieces == 0 || deadline_ns == 0 || out == NULL)
		return -EINVAL;
	rc = load_take(client, &load);
	if (rc < 0)
		return rc;
	load->count = (uint32_t)count;
	load->deadline_ns = deadline_ns;
	load->task_count = 0;
	load->due = false;
	load->command.run = load_start;
	atomic_store_explicit(&load->cancel, 0, memory_order_relaxed);
	atomic_store_explicit(&load->answered, 0, memory_order_relaxed);
	atomic_store_explicit(&load->quiet, 0, memory_order_relaxed);
	atomic_store_explicit(&load->released, 0, memory_order_relaxed);
	rc = load_grow(load, count, pieces);
	if (rc == 0)
		rc = load_fill(load, keys, count);
	if (rc == 0 && !far_client_push(client, &load->command))
		rc = -E2BIG;
	if (rc < 0) {
		atomic_store_explicit(&load->released, 1, memory_order_relaxed);
		load_put(load);
		return rc;
	}
	*out = load;
	return 0;
}

int
far_load_wait(struct far_load *load, uint64_t deadline_ns)
{
	int rc = load == NULL ? -EINVAL : far_client_enter(load->client);

	return rc < 0 ? rc : far_word_wait(&load->answered, 0, deadline_ns);
}

int
far_load_result(struct far_load *load, size_t idx)
{
	int rc = load == NULL ? -EINVAL : far_client_enter(load->client);

	if (rc < 0)
		return rc;
	if (idx >= load->count)
		return -EINVAL;
	rc = key_rc(&load->keys[idx]);
	return rc == KEY_PENDING ? -EAGAIN : rc;
}

void
far_load_cancel(struct far_load *load)
{
	if (load == NULL || far_client_enter(load->client) < 0)
		return;
	atomic_store_explicit(&load->cancel, 1, memory_order_release);
	far_client_wake(load->client);
}

int
far_load_release(struct far_load *load, uint64_t deadline_ns)
{
	int rc = load == NULL ? -EINVAL : far_client_enter(load->client);

	if (rc < 0)
		return rc;
	if (atomic_load_explicit(&load->released, memory_order_acquire) != 0)
		return -EBADF;
	if (atomic_load_explicit(&load->answered, memory_order_acquire) == 0)
		far_load_cancel(load);
	if (far_word_wait(&load->quiet, 0, deadline_ns) < 0)
		return -EBUSY;
	/* Of two that waited, one gives it back. */
	if (atomic_exchange_explicit(&load->released, 1, memory_order_acq_rel) != 0)
		return -EBADF;
	load_put(load);
	return 0;
}

/* Their tasks end with the adapters. */
void
far_client_loads_end(struct far_client *client)
{
	pthread_mutex_lock(&client->pool_lock);
	for (struct far_list *it = client->loads_live.next; it != &client->loads_live;
	     it = it->next)
		atomic_store_explicit(&FAR_CONTAINER_OF(it, struct far_load, node)->cancel, 1,
				      memory_order_release);
	pthread_mutex_unlock(&client->pool_lock);
}

void
far_client_loads_free(struct far_client *client)
{
	struct far_list *node;

	while ((node = far_list_pop_front(&client->loads_live)) != NULL ||
	       (node = far_resting_take(&client->loads_free, 0)) != NULL)
		load_free(FAR_CONTAINER_OF(node, struct far_load, node));
}
