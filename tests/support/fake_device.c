/* fake_device.c - a device out of host memory: pins are counted, copies are late. */
#include "tests/support/fake_device.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/list.h"
#include "base/rng.h"

#define PINS_MAX   256
#define COPIES_MAX 64 /* few, so that a copier that is full is common */
#define GARBAGE    0xdb

struct pin {
	const uint8_t *base;
	size_t size_bytes;
	bool read_only;
};

struct fake_device {
	struct far_device device;
	struct far_rng rng;
	uint32_t delay;
	bool held;
	bool failed;
	uint64_t copies;
	_Atomic int pin_rc;
	pthread_mutex_t lock; /* of pins: a thread makes them */
	struct pin pins[PINS_MAX];
	uint32_t pin_count;
};

struct copy {
	uint8_t *to;
	const uint8_t *from;
	size_t size_bytes;
	uint64_t seq;
	uint32_t polls; /* until it is done */
};

struct way {
	struct copy copies[COPIES_MAX];
	uint32_t head, tail; /* outstanding: head..tail-1 */
	uint64_t added, done;
};

struct fake_copier {
	struct far_copier copier;
	struct fake_device *device;
	struct way ways[FAR_COPY_WAYS];
};

static struct fake_device *
fake(struct far_device *device)
{
	return FAR_CONTAINER_OF(device, struct fake_device, device);
}

/* ---- pins ---- */

static int
fake_pin(struct far_device *fdevice, void *base, size_t size_bytes, bool read_only)
{
	struct fake_device *device = fake(fdevice);
	int rc = atomic_load(&device->pin_rc);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&device->lock);
	FAR_ASSERT(device->pin_count < PINS_MAX);
	device->pins[device->pin_count++] =
		(struct pin){.base = base, .size_bytes = size_bytes, .read_only = read_only};
	pthread_mutex_unlock(&device->lock);
	return 0;
}

static void
fake_unpin(struct far_device *fdevice, void *base)
{
	struct fake_device *device = fake(fdevice);
	uint32_t i = 0;

	pthread_mutex_lock(&device->lock);
	while (i < device->pin_count && device->pins[i].base != base)
		i++;
	FAR_ASSERT(i < device->pin_count);
	device->pins[i] = device->pins[--device->pin_count];
	pthread_mutex_unlock(&device->lock);
}

static bool
is_pinned(struct fake_device *device, const uint8_t *at, size_t size_bytes, bool write)
{
	bool found = false;

	pthread_mutex_lock(&device->lock);
	for (uint32_t i = 0; i < device->pin_count && !found; i++) {
		const struct pin *pin = &device->pins[i];

		found = at >= pin->base && at + size_bytes <= pin->base + pin->size_bytes &&
			!(write && pin->read_only);
	}
	pthread_mutex_unlock(&device->lock);
	return found;
}

/* ---- copies ---- */

static int
fake_copier_open(struct far_device *fdevice, struct far_copier **out)
{
	struct fake_copier *copier = far_zalloc(sizeof(*copier));

	if (copier == NULL)
		return -ENOMEM;
	copier->copier.device = fdevice;
	copier->device = fake(fdevice);
	*out = &copier->copier;
	return 0;
}

static void
fake_copier_close(struct far_copier *fcopier)
{
	struct fake_copier *copier = FAR_CONTAINER_OF(fcopier, struct fake_copier, copier);

	for (int i = 0; i < FAR_COPY_WAYS; i++)
		FAR_ASSERT(copier->ways[i].done == copier->ways[i].added);
	far_free(copier);
}

static bool
continues(const struct way *way, const void *to, const void *from)
{
	const struct copy *last = &way->copies[(way->tail - 1) % COPIES_MAX];

	return way->head != way->tail && last->to + last->size_bytes == to &&
	       last->from + last->size_bytes == from;
}

static int
fake_copier_add(struct far_copier *fcopier, enum far_copy_way which, void *to, const void *from,
		size_t size_bytes, uint64_t *seq_out)
{
	struct fake_copier *copier = FAR_CONTAINER_OF(fcopier, struct fake_copier, copier);
	struct fake_device *device = copier->device;
	struct way *way = &copier->ways[which];

	if (device->failed)
		return -EIO;
	if (which == FAR_COPY_IN)
		assert_true(is_pinned(device, from, size_bytes, false));
	else
		assert_true(is_pinned(device, to, size_bytes, true));
	if (!continues(way, to, from) && way->tail - way->head == COPIES_MAX)
		return -EAGAIN;
	memset(to, GARBAGE, size_bytes);
	device->copies++;
	*seq_out = ++way->added;
	if (continues(way, to, from)) {
		struct copy *last = &way->copies[(way->tail - 1) % COPIES_MAX];

		last->size_bytes += size_bytes;
		last->seq = way->added;
		return 0;
	}
	way->copies[way->tail++ % COPIES_MAX] = (struct copy){
		.to = to,
		.from = from,
		.size_bytes = size_bytes,
		.seq = way->added,
		.polls = (uint32_t)far_rng_below(&device->rng, device->delay + 1),
	};
	return 0;
}

static int
fake_copier_submit(struct far_copier *copier)
{
	(void)copier;
	return 0;
}

static int
fake_copier_poll(struct far_copier *fcopier, enum far_copy_way which, uint64_t *done_out)
{
	struct fake_copier *copier = FAR_CONTAINER_OF(fcopier, struct fake_copier, copier);
	struct way *way = &copier->ways[which];

	if (copier->device->failed) {
		way->done = way->added;
		way->head = way->tail;
	}
	while (!copier->device->held && way->head != way->tail) {
		struct copy *copy = &way->copies[way->head % COPIES_MAX];

		if (copy->polls > 0) {
			copy->polls--;
			break;
		}
		/* The bytes as they are now: what changed since it began is read late. */
		memcpy(copy->to, copy->from, copy->size_bytes);
		way->done = copy->seq;
		way->head++;
	}
	*done_out = way->done;
	return copier->device->failed ? -EIO : 0;
}

static int
fake_copier_arm(struct far_copier *copier, int event_fd)
{
	(void)copier;
	/* A wake that comes early harms nobody. */
	(void)eventfd_write(event_fd, 1);
	return 0;
}

static int
fake_copy(struct far_device *device, enum far_copy_way way, void *to, const void *from,
	  size_t size_bytes)
{
	(void)device;
	(void)way;
	memcpy(to, from, size_bytes);
	return 0;
}

/* ---- the rest ---- */

static int
fake_publish(struct far_device *device)
{
	(void)device;
	return 0;
}

static int
fake_dma_buf(struct far_device *device, const void *base, uint64_t size_bytes, int *fd,
	     uint64_t *offset)
{
	(void)device;
	(void)base;
	(void)size_bytes;
	*fd = -1;
	*offset = 0;
	return -EOPNOTSUPP;
}

static const struct far_device_ops fake_ops = {
	.kind = "fake",
	.dma_buf = fake_dma_buf,
	.pin = fake_pin,
	.unpin = fake_unpin,
	.copy = fake_copy,
	.publish = fake_publish,
	.copier_open = fake_copier_open,
	.copier_close = fake_copier_close,
	.copier_add = fake_copier_add,
	.copier_submit = fake_copier_submit,
	.copier_poll = fake_copier_poll,
	.copier_arm = fake_copier_arm,
};

struct far_device *
fake_device_open(uint64_t seed)
{
	struct fake_device *device = far_zalloc(sizeof(*device));

	assert_non_null(device);
	device->device.ops = &fake_ops;
	device->device.info = (struct far_device_info){
		.kind = "fake", .name = "fake device (no GPU)", .pci = "fake", .numa_node = -1};
	device->delay = 4;
	far_rng_init(&device->rng, seed);
	pthread_mutex_init(&device->lock, NULL);
	return &device->device;
}

void
fake_device_close(struct far_device *fdevice)
{
	struct fake_device *device = fake(fdevice);

	assert_int_equal(device->pin_count, 0);
	pthread_mutex_destroy(&device->lock);
	far_free(device);
}

void
fake_device_delay(struct far_device *device, uint32_t polls)
{
	fake(device)->delay = polls;
}

void
fake_device_hold(struct far_device *device, bool hold)
{
	fake(device)->held = hold;
}

void
fake_device_fail(struct far_device *device)
{
	fake(device)->failed = true;
}

void
fake_device_pin_rc(struct far_device *device, int rc)
{
	atomic_store(&fake(device)->pin_rc, rc);
}

uint64_t
fake_device_copies(const struct far_device *device)
{
	return ((const struct fake_device *)(const void *)device)->copies;
}

uint32_t
fake_device_pins(struct far_device *fdevice)
{
	struct fake_device *device = fake(fdevice);
	uint32_t count;

	pthread_mutex_lock(&device->lock);
	count = device->pin_count;
	pthread_mutex_unlock(&device->lock);
	return count;
}
