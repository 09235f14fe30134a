/* copier.c - copies that are started, and told when they are done: a stream and events for each way. */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "transport/mem/cuda/cuda_priv.h"

/* A call of the driver costs 2 to 5 us, what an H100 copies in them is a quarter of a megabyte: so
 * neighbours become one copy; but one that is longer than this would only hold up what is behind it. */
#define MERGED_BYTES_MAX (16ULL << 20)
/* A stream takes about a thousand things; the next call waits. It never shall. */
#define COPIES_MAX 512U
#define EVENTS_MAX 64U /* a power of two */

struct pending {
	uint8_t *to;
	const uint8_t *from;
	size_t size_bytes; /* 0: none */
};

struct mark {
	CUevent event;
	uint64_t seq;    /* of the last copy before it */
	uint64_t copies; /* issued before it */
};

struct way {
	CUstream stream;
	CUstream wakes;         /* waits for marks of the other, which a wake in it would hold up */
	struct pending pending; /* was added and not issued: the next one may continue it */
	uint64_t added;         /* numbers given */
	uint64_t marked;        /* up to the last mark */
	uint64_t done;
	uint64_t issued; /* copies of the driver */
	uint64_t issued_done;
	uint64_t issued_marked;
	struct mark marks[EVENTS_MAX];
	uint32_t head, tail;  /* marks that wait: head..tail-1 */
	uint64_t armed;       /* a wake stands behind this number */
	_Atomic int event_fd; /* what a wake writes to */
};

struct cuda_copier {
	struct far_copier copier;
	struct cuda_device *device;
	struct way ways[FAR_COPY_WAYS];
};

static struct cuda_copier *
cuda_copier(struct far_copier *copier)
{
	return FAR_CONTAINER_OF(copier, struct cuda_copier, copier);
}

static bool
device_failed(const struct cuda_copier *copier)
{
	return atomic_load_explicit(&copier->device->failed, memory_order_acquire);
}

/* ---- open and close ---- */

static int
way_open(struct cuda_device *device, struct way *way)
{
	const struct cuda_lib *lib = &device->lib;
	int rc;

	atomic_init(&way->event_fd, -1);
	rc = far_cuda_rc(device, lib->cuStreamCreate(&way->stream, CU_STREAM_NON_BLOCKING),
			 "cuStreamCreate");
	if (rc == 0)
		rc = far_cuda_rc(device, lib->cuStreamCreate(&way->wakes, CU_STREAM_NON_BLOCKING),
				 "cuStreamCreate");
	for (uint32_t i = 0; i < EVENTS_MAX && rc == 0; i++)
		rc = far_cuda_rc(device,
				 lib->cuEventCreate(&way->marks[i].event, CU_EVENT_DISABLE_TIMING),
				 "cuEventCreate");
	return rc;
}

static void
way_close(struct cuda_device *device, struct way *way)
{
	const struct cuda_lib *lib = &device->lib;

	/* A wake that was asked for uses this memory. */
	if (way->stream != NULL)
		(void)lib->cuStreamSynchronize(way->stream);
	if (way->wakes != NULL)
		(void)lib->cuStreamSynchronize(way->wakes);
	for (uint32_t i = 0; i < EVENTS_MAX; i++)
		if (way->marks[i].event != NULL)
			(void)lib->cuEventDestroy(way->marks[i].event);
	if (way->wakes != NULL)
		(void)lib->cuStreamDestroy(way->wakes);
	if (way->stream != NULL)
		(void)lib->cuStreamDestroy(way->stream);
}

int
far_cuda_copier_open(struct far_device *fdevice, struct far_copier **out)
{
	struct cuda_device *device = cuda_device(fdevice);
	struct cuda_copier *copier = far_zalloc(sizeof(*copier));
	int rc;

	if (copier == NULL)
		return -ENOMEM;
	copier->copier.device = fdevice;
	copier->device = device;
	rc = far_cuda_enter(device);
	if (rc < 0) {
		far_free(copier);
		return rc;
	}
	for (int i = 0; i < FAR_COPY_WAYS && rc == 0; i++)
		rc = way_open(device, &copier->ways[i]);
	for (int i = 0; i < FAR_COPY_WAYS && rc < 0; i++)
		way_close(device, &copier->ways[i]);
	far_cuda_leave(device);
	if (rc < 0) {
		far_free(copier);
		return rc == -ENOMEM ? rc : -EIO;
	}
	*out = &copier->copier;
	return 0;
}

void
far_cuda_copier_close(struct far_copier *fcopier)
{
	struct cuda_copier *copier = cuda_copier(fcopier);
	const struct cuda_lib *lib = &copier->device->lib;
	CUcontext ours = NULL;
	CUresult result;

	for (int i = 0; i < FAR_COPY_WAYS; i++)
		FAR_ASSERT(copier->ways[i].done == copier->ways[i].added);
	/* Of a device that failed, too: after one call that failed the rest of it works on, and a wake
	 * that was asked for uses this memory. */
	result = lib->cuCtxPushCurrent(copier->device->context);
	if (result == CUDA_SUCCESS) {
		for (int i = 0; i < FAR_COPY_WAYS; i++)
			way_close(copier->device, &copier->ways[i]);
		result = lib->cuCtxPopCurrent(&ours);
	}
	if (result != CUDA_SUCCESS)
		(void)far_cuda_fail(copier->device, result, "the end of a copier");
	far_free(copier);
}

/* ---- starting ---- */

/* Inside the context. */
static int
pending_issue(struct cuda_copier *copier, enum far_copy_way which)
{
	struct way *way = &copier->ways[which];
	struct pending *copy = &way->pending;
	CUresult result;

	if (copy->size_bytes == 0)
		return 0;
	if (which == FAR_COPY_IN)
		result = copier->device->lib.cuMemcpyHtoDAsync(cuda_ptr(copy->to), copy->from,
							       copy->size_bytes, way->stream);
	else
		result = copier->device->lib.cuMemcpyDtoHAsync(copy->to, cuda_ptr(copy->from),
							       copy->size_bytes, way->stream);
	copy->size_bytes = 0;
	if (result != CUDA_SUCCESS)
		return far_cuda_fail(copier->device, result, "a copy");
	way->issued++;
	return 0;
}

/* An event behind what was issued. With all of them in use, the last one moves back. */
static int
mark_set(struct cuda_copier *copier, struct way *way)
{
	struct mark *mark;
	CUresult result;

	if (way->issued == way->issued_marked)
		return 0;
	if (way->tail - way->head == EVENTS_MAX)
		way->tail--;
	mark = &way->marks[way->tail % EVENTS_MAX];
	result = copier->device->lib.cuEventRecord(mark->event, way->stream);
	if (result != CUDA_SUCCESS)
		return far_cuda_fail(copier->device, result, "cuEventRecord");
	mark->seq = way->added;
	mark->copies = way->issued;
	way->marked = way->added;
	way->issued_marked = way->issued;
	way->tail++;
	return 0;
}

static bool
continues(const struct pending *copy, const void *to, const void *from, size_t size_bytes)
{
	return copy->size_bytes != 0 && copy->to + copy->size_bytes == to &&
	       copy->from + copy->size_bytes == from &&
	       copy->size_bytes + size_bytes <= MERGED_BYTES_MAX;
}

int
far_cuda_copier_add(struct far_copier *fcopier, enum far_copy_way which, void *to, const void *from,
		    size_t size_bytes, uint64_t *seq_out)
{
	struct cuda_copier *copier = cuda_copier(fcopier);
	struct way *way = &copier->ways[which];
	int rc = 0;

	FAR_ASSERT(size_bytes > 0);
	if (device_failed(copier))
		return -EIO;
	if (continues(&way->pending, to, from, size_bytes)) {
		way->pending.size_bytes += size_bytes;
		*seq_out = ++way->added;
		return 0;
	}
	if (way->issued - way->issued_done >= COPIES_MAX)
		return -EAGAIN;
	if (way->pending.size_bytes != 0) {
		rc = far_cuda_enter(copier->device);
		if (rc < 0)
			return rc;
		rc = pending_issue(copier, which);
		far_cuda_leave(copier->device);
	}
	if (rc < 0)
		return rc;
	way->pending = (struct pending){.to = to, .from = from, .size_bytes = size_bytes};
	*seq_out = ++way->added;
	return 0;
}

int
far_cuda_copier_submit(struct far_copier *fcopier)
{
	struct cuda_copier *copier = cuda_copier(fcopier);
	bool nothing = true;
	int rc;

	for (int i = 0; i < FAR_COPY_WAYS; i++) {
		const struct way *way = &copier->ways[i];

		nothing = nothing && way->pending.size_bytes == 0 &&
			  way->issued == way->issued_marked;
	}
	if (nothing)
		return 0;
	rc = far_cuda_enter(copier->device);
	if (rc < 0)
		return rc;
	for (int i = 0; i < FAR_COPY_WAYS && rc == 0; i++) {
		rc = pending_issue(copier, (enum far_copy_way)i);
		if (rc == 0)
			rc = mark_set(copier, &copier->ways[i]);
	}
	far_cuda_leave(copier->device);
	return rc;
}

/* ---- ends ---- */

/*
 * What failed may have been one call, with copies before it on their way: their memory is given up
 * when the stream says that it is through, or that its context is gone.
 */
static int
poll_failed(struct cuda_copier *copier, struct way *way, uint64_t *done_out)
{
	const struct cuda_lib *lib = &copier->device->lib;
	CUcontext ours = NULL;
	CUresult result = lib->cuCtxPushCurrent(copier->device->context);

	*done_out = way->done;
	if (result == CUDA_SUCCESS) {
		result = lib->cuStreamQuery(way->stream);
		(void)lib->cuCtxPopCurrent(&ours);
	}
	if (result == CUDA_ERROR_NOT_READY)
		return 0;
	way->pending.size_bytes = 0;
	way->head = way->tail;
	way->done = way->marked = way->added;
	way->issued_done = way->issued_marked = way->issued;
	*done_out = way->done;
	return -EIO;
}

static void
marks_poll(struct cuda_copier *copier, struct way *way)
{
	while (way->head != way->tail) {
		const struct mark *mark = &way->marks[way->head % EVENTS_MAX];
		CUresult result = copier->device->lib.cuEventQuery(mark->event);

		if (result == CUDA_ERROR_NOT_READY)
			return;
		if (result != CUDA_SUCCESS) {
			(void)far_cuda_fail(copier->device, result, "copies");
			return;
		}
		way->done = mark->seq;
		way->issued_done = mark->copies;
		way->head++;
	}
}

int
far_cuda_copier_poll(struct far_copier *fcopier, enum far_copy_way which, uint64_t *done_out)
{
	struct cuda_copier *copier = cuda_copier(fcopier);
	struct way *way = &copier->ways[which];
	int rc = 0;

	if (way->done != way->added && far_cuda_enter(copier->device) == 0) {
		marks_poll(copier, way);
		far_cuda_leave(copier->device);
	}
	*done_out = way->done;
	if (device_failed(copier))
		rc = poll_failed(copier, way, done_out);
	return rc;
}

/* ---- sleeping ---- */

/* On a thread of the driver's: no call of CUDA is allowed here. */
static void CUDA_CB
wake(void *arg)
{
	struct way *way = arg;
	int fd = atomic_load_explicit(&way->event_fd, memory_order_acquire);

	if (fd >= 0)
		(void)eventfd_write(fd, 1);
}

/*
 * A wake behind the oldest mark: who sleeps until the last copy has ended finds the copy engine idle with
 * what he starts then. It waits in a stream of its own, as a callback holds up the stream it is in.
 */
static int
wake_add(struct cuda_copier *copier, struct way *way, int event_fd)
{
	const struct cuda_lib *lib = &copier->device->lib;
	const struct mark *mark = &way->marks[way->head % EVENTS_MAX];
	CUresult result;

	if (way->head == way->tail || way->armed == mark->seq)
		return 0;
	atomic_store_explicit(&way->event_fd, event_fd, memory_order_release);
	result = lib->cuStreamWaitEvent(way->wakes, mark->event, 0);
	if (result == CUDA_SUCCESS)
		result = lib->cuLaunchHostFunc(way->wakes, wake, way);
	if (result != CUDA_SUCCESS)
		return far_cuda_fail(copier->device, result, "a wake");
	way->armed = mark->seq;
	return 0;
}

int
far_cuda_copier_arm(struct far_copier *fcopier, int event_fd)
{
	struct cuda_copier *copier = cuda_copier(fcopier);
	bool outstanding = false;
	int rc;

	rc = far_cuda_copier_submit(fcopier);
	for (int i = 0; i < FAR_COPY_WAYS && rc == 0; i++) {
		struct way *way = &copier->ways[i];
		uint64_t before = way->done;
		uint64_t done;

		rc = far_cuda_copier_poll(fcopier, (enum far_copy_way)i, &done);
		if (rc < 0 || done != before)
			return -EAGAIN;
		outstanding = outstanding || way->done != way->added;
	}
	if (rc < 0 || !outstanding || device_failed(copier) || far_cuda_enter(copier->device) < 0)
		return -EAGAIN;
	for (int i = 0; i < FAR_COPY_WAYS && rc == 0; i++)
		rc = wake_add(copier, &copier->ways[i], event_fd);
	far_cuda_leave(copier->device);
	return rc < 0 ? -EAGAIN : 0;
}
