/* mapped.c - peers' memory of this host: found by key, pinned on a thread, read by the copy engine. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "transport/gpu/gpu_priv.h"

/* ---- the thread ---- */

static void
pin_work(struct gpu_transport *tp, struct gpu_pin *pin)
{
	if (pin->state == PIN_LEAVING) {
		if (pin->pinned)
			far_device_unpin(tp->device, pin->mapped->base);
		far_mapped_release(pin->mapped);
		far_free(pin);
		return;
	}
	pin->rc = far_device_pin(tp->device, pin->mapped->base, pin->mapped->size_bytes, true);
	pthread_mutex_lock(&tp->pinner.lock);
	far_list_push_back(&tp->pinner.results, &pin->queue);
	pthread_mutex_unlock(&tp->pinner.lock);
	atomic_store_explicit(&tp->pinner.has_results, true, memory_order_release);
	(void)eventfd_write(tp->wake_fd, 1);
}

static void *
pinner_main(void *arg)
{
	struct gpu_transport *tp = arg;
	struct gpu_pinner *pinner = &tp->pinner;

	pthread_mutex_lock(&pinner->lock);
	for (;;) {
		struct far_list *node = far_list_pop_front(&pinner->queue);

		if (node == NULL && pinner->stop)
			break;
		if (node == NULL) {
			pthread_cond_wait(&pinner->wake, &pinner->lock);
			continue;
		}
		pthread_mutex_unlock(&pinner->lock);
		pin_work(tp, FAR_CONTAINER_OF(node, struct gpu_pin, queue));
		pthread_mutex_lock(&pinner->lock);
	}
	pthread_mutex_unlock(&pinner->lock);
	return NULL;
}

static void
pinner_give(struct gpu_pinner *pinner, struct gpu_pin *pin)
{
	pthread_mutex_lock(&pinner->lock);
	far_list_push_back(&pinner->queue, &pin->queue);
	pthread_cond_signal(&pinner->wake);
	pthread_mutex_unlock(&pinner->lock);
}

int
far_gpu_pinner_open(struct gpu_transport *tp)
{
	struct gpu_pinner *pinner = &tp->pinner;
	sigset_t all, before;
	int rc;

	far_list_init(&pinner->queue);
	far_list_init(&pinner->results);
	pthread_mutex_init(&pinner->lock, NULL);
	pthread_cond_init(&pinner->wake, NULL);
	/* The host's signals are the host's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&pinner->thread, NULL, pinner_main, tp);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0)
		return -ENOMEM;
	(void)pthread_setname_np(pinner->thread, "farpool-pin");
	pinner->runs = true;
	return 0;
}

void
far_gpu_pinner_close(struct gpu_transport *tp)
{
	struct gpu_pinner *pinner = &tp->pinner;

	if (!pinner->runs)
		return;
	pthread_mutex_lock(&pinner->lock);
	pinner->stop = true;
	pthread_cond_signal(&pinner->wake);
	pthread_mutex_unlock(&pinner->lock);
	pthread_join(pinner->thread, NULL);
	/* Pinned in vain: their links ended before they heard of it. */
	(void)far_gpu_pinner_poll(tp);
	while (!far_list_empty(&pinner->queue))
		pin_work(tp, FAR_CONTAINER_OF(far_list_pop_front(&pinner->queue), struct gpu_pin,
					      queue));
	FAR_ASSERT(far_list_empty(&tp->pins));
	pthread_cond_destroy(&pinner->wake);
	pthread_mutex_destroy(&pinner->lock);
	pinner->runs = false;
}

/* ---- pins ---- */

static void
pin_leave(struct gpu_transport *tp, struct gpu_pin *pin)
{
	if (pin->keys > 0 || pin->copies > 0 || pin->state == PIN_QUEUED)
		return;
	if (pin->pinned)
		tp->status.mapped_bytes -= pin->mapped->size_bytes;
	pin->state = PIN_LEAVING;
	far_list_remove(&pin->node);
	pinner_give(&tp->pinner, pin);
}

void
far_gpu_pin_copied(struct gpu_transport *tp, struct gpu_pin *pin)
{
	FAR_ASSERT(pin->copies > 0);
	pin->copies--;
	pin_leave(tp, pin);
}

static void
pin_result(struct gpu_transport *tp, struct gpu_pin *pin)
{
	struct far_gpu_path_status *path = &tp->status.paths[FAR_GPU_MAPPED];

	pin->state = pin->rc == 0 ? PIN_READY : PIN_FAILED;
	pin->pinned = pin->rc == 0;
	if (pin->pinned) {
		tp->status.mapped_bytes += pin->mapped->size_bytes;
		if (!path->used)
			far_log_info(
				"GPU %s reads the donor's memory of this host over %s by itself",
				tp->device->info.pci, tp->ops.name);
		path->used = true;
		(void)snprintf(path->why, sizeof(path->why),
			       "the copy engine reads the donor's memory, mapped on this host");
	} else if (!tp->pin_failed) {
		tp->pin_failed = true;
		(void)snprintf(path->why, sizeof(path->why),
			       "the donor's memory cannot be pinned for the copy engine: %s",
			       far_err_name(pin->rc));
		far_log_warn("GPU %s: %s: blocks are staged", tp->device->info.pci, path->why);
	}
	pin_leave(tp, pin);
}

int
far_gpu_pinner_poll(struct gpu_transport *tp)
{
	struct gpu_pinner *pinner = &tp->pinner;
	int work = 0;

	if (!atomic_exchange_explicit(&pinner->has_results, false, memory_order_acq_rel))
		return 0;
	for (;;) {
		struct far_list *node;

		pthread_mutex_lock(&pinner->lock);
		node = far_list_pop_front(&pinner->results);
		pthread_mutex_unlock(&pinner->lock);
		if (node == NULL)
			return work;
		pin_result(tp, FAR_CONTAINER_OF(node, struct gpu_pin, queue));
		work++;
	}
}

/* The pin of a mapping that was just got: a hold of it is ours now, whatever comes. */
static struct gpu_pin *
pin_get(struct gpu_transport *tp, struct far_mapped *mapped)
{
	struct gpu_pin *pin;

	for (struct far_list *it = tp->pins.next; it != &tp->pins; it = it->next) {
		pin = FAR_CONTAINER_OF(it, struct gpu_pin, node);
		if (pin->mapped != mapped)
			continue;
		far_mapped_release(mapped); /* it has one */
		return pin;
	}
	pin = far_zalloc(sizeof(*pin));
	if (pin == NULL) {
		far_mapped_release(mapped);
		return NULL;
	}
	pin->mapped = mapped;
	far_list_init(&pin->queue);
	far_list_push_back(&tp->pins, &pin->node);
	pinner_give(&tp->pinner, pin);
	return pin;
}

/* ---- keys ---- */

static struct gpu_key *
key_place(struct gpu_link *link, const struct far_rkey *rkey)
{
	uint64_t hash;
	uint32_t at;

	memcpy(&hash, rkey->bytes + sizeof(rkey->bytes) - sizeof(hash), sizeof(hash));
	at = (uint32_t)(hash * 0x9e3779b97f4a7c15ULL >> 32) & (GPU_KEYS_MAX - 1);
	while (link->keys[at].pin != NULL && memcmp(&link->keys[at].rkey, rkey, sizeof(*rkey)) != 0)
		at = (at + 1) & (GPU_KEYS_MAX - 1);
	return &link->keys[at];
}

static struct gpu_key *
key_find(struct gpu_link *link, const struct far_rkey *rkey)
{
	struct gpu_transport *tp = gpu_tp(link->link.tp);
	struct far_mapped *mapped;
	struct gpu_key *key;
	uint64_t offset, size;
	int rc;

	if (link->keys == NULL)
		link->keys = far_zalloc_array(GPU_KEYS_MAX, sizeof(*link->keys));
	if (link->keys == NULL)
		return NULL;
	key = key_place(link, rkey);
	if (key->pin != NULL)
		return key;
	if (link->key_count >= GPU_KEYS_MAX / 4 * 3)
		return NULL;
	rc = far_transport_map(link->inner, rkey, &mapped, &offset, &size);
	if (rc == -EOPNOTSUPP) {
		tp->maps = false;
		(void)snprintf(tp->status.paths[FAR_GPU_MAPPED].why,
			       sizeof(tp->status.paths[FAR_GPU_MAPPED].why),
			       "%s maps no memory of its peers", tp->ops.name);
	}
	if (rc < 0)
		return NULL;
	*key = (struct gpu_key){
		.rkey = *rkey, .pin = pin_get(tp, mapped), .offset = offset, .size_bytes = size};
	if (key->pin == NULL)
		return NULL;
	key->pin->keys++;
	link->key_count++;
	return key;
}

bool
far_gpu_mapped_find(struct gpu_link *link, const struct gpu_op *op, struct gpu_pin **pin_out,
		    const uint8_t **from_out)
{
	struct gpu_transport *tp = gpu_tp(link->link.tp);
	struct gpu_key *key;

	if (!tp->maps || op->kind != FAR_OP_READ)
		return false;
	key = key_find(link, &op->rkey);
	if (key == NULL || key->pin->state != PIN_READY)
		return false;
	/* What is out of bounds is the inner transport's to refuse. */
	if (op->remote_addr > key->size_bytes || op->bytes > key->size_bytes - op->remote_addr)
		return false;
	*pin_out = key->pin;
	*from_out = (const uint8_t *)key->pin->mapped->base + key->offset + op->remote_addr;
	return true;
}

static void
key_drop(struct gpu_link *link, struct gpu_key *key)
{
	struct gpu_pin *pin = key->pin;

	key->pin = NULL;
	link->key_count--;
	pin->keys--;
	pin_leave(gpu_tp(link->link.tp), pin);
}

void
far_gpu_mapped_forget(struct gpu_link *link, const struct far_rkey *rkey)
{
	struct gpu_key *key;
	uint32_t at;

	if (link->keys == NULL)
		return;
	key = key_place(link, rkey);
	if (key->pin == NULL)
		return;
	key_drop(link, key);
	/* Those behind it may have come there past it. */
	for (at = (uint32_t)(key - link->keys + 1) & (GPU_KEYS_MAX - 1); link->keys[at].pin != NULL;
	     at = (at + 1) & (GPU_KEYS_MAX - 1)) {
		struct gpu_key moved = link->keys[at];

		link->keys[at].pin = NULL;
		*key_place(link, &moved.rkey) = moved;
	}
}

void
far_gpu_mapped_fini(struct gpu_link *link)
{
	for (uint32_t i = 0; link->keys != NULL && i < GPU_KEYS_MAX; i++)
		if (link->keys[i].pin != NULL)
			key_drop(link, &link->keys[i]);
	far_free(link->keys);
	link->keys = NULL;
}
