/* stream.c - the stand-in's streams: a thread for each, which copies when it is let; and events. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/cuda_standin/standin_priv.h"

#define OBJECTS_MAX 512

enum op_kind { OP_IN, OP_OUT, OP_CALL, OP_WAIT }; /* the first two are copies */

struct op {
	struct op *next;
	enum op_kind kind;
	uint8_t *host, *bytes;
	uint64_t address;
	size_t size_bytes;
	CUhostFn call;
	void *arg;
	CUstream other; /* OP_WAIT: until so much of it is done; NULL: it has ended */
	uint64_t other_seq;
};

struct CUstream_st {
	pthread_t thread;
	struct op *head, **tail; /* the head may be running */
	uint64_t issued, done;
	uint64_t random;
	bool ends, pageable, runs;
};

struct CUevent_st {
	CUstream stream; /* NULL: never recorded, or its stream has ended */
	uint64_t seq;
};

static CUstream streams[OBJECTS_MAX];
static CUevent events[OBJECTS_MAX];

/* ---- the thread of a stream ---- */

static unsigned
delay_of(CUstream stream)
{
	unsigned us = standin.delay_us;

	stream->random = stream->random * 6364136223846793005ULL + 1442695040888963407ULL;
	if (standin.random_us != 0)
		us += (unsigned)((stream->random >> 33) % standin.random_us);
	return us;
}

/* Without the lock: others may race with it, and TSan shall see that. */
static void
op_run(const struct op *op, size_t size_bytes)
{
	switch (op->kind) {
	case OP_IN:
		memcpy(op->bytes, op->host, size_bytes);
		break;
	case OP_OUT:
		memcpy(op->host, op->bytes, size_bytes);
		break;
	case OP_CALL:
		op->call(op->arg);
		break;
	case OP_WAIT:
		break;
	}
}

/* Needs the lock, which it lets go of. A driver calls no function of a context that failed. */
static void
head_run(CUstream stream)
{
	struct op *op = stream->head;
	size_t size_bytes = op->size_bytes;
	bool runs = standin.failed == CUDA_SUCCESS;
	bool fails = false;
	unsigned us = 0;

	if (runs && op->kind <= OP_OUT) {
		us = delay_of(stream);
		if (standin.held[op->kind] && standin.allowed != 0)
			standin.allowed--;
		fails = standin.copy_fails_in != 0 && --standin.copy_fails_in == 0;
		if (fails)
			size_bytes /= 2;
	}
	stream->runs = true;
	pthread_mutex_unlock(&standin.lock);
	if (us != 0)
		(void)usleep(us);
	if (runs)
		op_run(op, size_bytes);
	pthread_mutex_lock(&standin.lock);
	if (fails)
		standin.failed = standin.copy_fails_with;
	stream->runs = false;
	stream->head = op->next;
	if (stream->head == NULL)
		stream->tail = &stream->head;
	stream->done++;
	free(op);
	pthread_cond_broadcast(&standin.moved);
}

static bool
head_is_held(const struct CUstream_st *stream)
{
	const struct op *op = stream->head;

	if (stream->runs || stream->ends || standin.failed != CUDA_SUCCESS)
		return false;
	if (op->kind == OP_WAIT)
		return op->other != NULL && op->other->done < op->other_seq;
	return op->kind <= OP_OUT && standin.held[op->kind] && standin.allowed == 0;
}

static void *
stream_run(void *arg)
{
	CUstream stream = arg;

	pthread_mutex_lock(&standin.lock);
	while (!stream->ends || stream->head != NULL) {
		if (stream->head == NULL || head_is_held(stream))
			pthread_cond_wait(&standin.moved, &standin.lock);
		else
			head_run(stream);
	}
	pthread_mutex_unlock(&standin.lock);
	return NULL;
}

static bool
is_stream(CUstream stream, const char *call)
{
	for (int i = 0; i < OBJECTS_MAX; i++)
		if (stream != NULL && streams[i] == stream)
			return true;
	standin_misuse("%s: of no stream that is there", call);
	return false;
}

/* Lets go of the lock. */
static void
stream_end(CUstream stream)
{
	for (int i = 0; i < OBJECTS_MAX; i++) {
		if (streams[i] == stream)
			streams[i] = NULL;
		if (events[i] != NULL && events[i]->stream == stream)
			events[i]->stream = NULL;
		for (struct op *op = streams[i] != NULL ? streams[i]->head : NULL; op != NULL;
		     op = op->next)
			if (op->other == stream)
				op->other = NULL;
	}
	stream->ends = true;
	pthread_cond_broadcast(&standin.moved);
	pthread_mutex_unlock(&standin.lock);
	(void)pthread_join(stream->thread, NULL);
	pthread_mutex_lock(&standin.lock);
	free(stream);
}

static bool
overlaps(uint64_t a, size_t a_bytes, uint64_t b, size_t b_bytes)
{
	return a < b + b_bytes && b < a + a_bytes;
}

bool
standin_device_in_use(uint64_t address, size_t size_bytes)
{
	for (int i = 0; i < OBJECTS_MAX; i++)
		for (const struct op *op = streams[i] != NULL ? streams[i]->head : NULL; op != NULL;
		     op = op->next)
			if (op->kind <= OP_OUT &&
			    overlaps(op->address, op->size_bytes, address, size_bytes))
				return true;
	return false;
}

bool
standin_host_in_use(const void *host, size_t size_bytes)
{
	for (int i = 0; i < OBJECTS_MAX; i++)
		for (const struct op *op = streams[i] != NULL ? streams[i]->head : NULL; op != NULL;
		     op = op->next)
			if (op->kind <= OP_OUT && overlaps((uintptr_t)op->host, op->size_bytes,
							   (uintptr_t)host, size_bytes))
				return true;
	return false;
}

unsigned
standin_streams_left(bool say)
{
	unsigned left_streams = 0, left_events = 0;

	for (int i = 0; i < OBJECTS_MAX; i++) {
		left_streams += streams[i] != NULL;
		left_events += events[i] != NULL;
	}
	if (say && left_streams + left_events != 0)
		(void)fprintf(stderr, "CUDA stand-in: %u streams and %u events are left\n",
			      left_streams, left_events);
	return left_streams + left_events;
}

void
standin_streams_give_up(void)
{
	for (int i = 0; i < OBJECTS_MAX; i++) {
		if (streams[i] != NULL)
			stream_end(streams[i]);
		free(events[i]);
		events[i] = NULL;
	}
}

void
standin_streams_settle(void)
{
	for (int i = 0; i < OBJECTS_MAX; i++)
		while (streams[i] != NULL && streams[i]->head != NULL && !head_is_held(streams[i]))
			pthread_cond_wait(&standin.moved, &standin.lock);
}

/* ---- streams ---- */

CUresult
cuStreamCreate(CUstream *out, unsigned flags)
{
	CUresult result = standin_enter(__func__);
	CUstream stream;
	int at = 0;

	if (result != CUDA_SUCCESS)
		return standin_leave(result);
	if (flags != CU_STREAM_NON_BLOCKING)
		standin_misuse("a stream that waits for the application's");
	while (at < OBJECTS_MAX && streams[at] != NULL)
		at++;
	stream = at < OBJECTS_MAX ? calloc(1, sizeof(*stream)) : NULL;
	if (stream == NULL)
		return standin_leave(CUDA_ERROR_OUT_OF_MEMORY);
	stream->tail = &stream->head;
	stream->random = standin.seed + (uint64_t)at;
	if (pthread_create(&stream->thread, NULL, stream_run, stream) != 0) {
		free(stream);
		return standin_leave(CUDA_ERROR_OPERATING_SYSTEM);
	}
	streams[at] = *out = stream;
	return standin_leave(CUDA_SUCCESS);
}

CUresult
cuStreamDestroy(CUstream stream)
{
	CUresult result = standin_enter(__func__);

	if (!is_stream(stream, __func__))
		return standin_leave(CUDA_ERROR_INVALID_HANDLE);
	if (stream->done != stream->issued && standin.failed == CUDA_SUCCESS)
		standin_misuse("a stream is destroyed with %llu outstanding",
			       (unsigned long long)(stream->issued - stream->done));
	stream_end(stream);
	return standin_leave(result);
}

CUresult
cuStreamQuery(CUstream stream)
{
	CUresult result = standin_enter(__func__);

	if (result == CUDA_SUCCESS && !is_stream(stream, __func__))
		result = CUDA_ERROR_INVALID_HANDLE;
	if (result == CUDA_SUCCESS && stream->done != stream->issued)
		result = CUDA_ERROR_NOT_READY;
	return standin_leave(result);
}

CUresult
cuStreamSynchronize(CUstream stream)
{
	CUresult result = standin_enter(__func__);
	uint64_t until;

	if (result == CUDA_SUCCESS && !is_stream(stream, __func__))
		result = CUDA_ERROR_INVALID_HANDLE;
	if (result != CUDA_SUCCESS)
		return standin_leave(result);
	until = stream->issued;
	while (stream->done < until)
		pthread_cond_wait(&standin.moved, &standin.lock);
	return standin_leave(standin.failed);
}

static CUresult
op_add(CUstream stream, struct op op)
{
	struct op *copy = malloc(sizeof(*copy));

	if (copy == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*copy = op;
	copy->next = NULL;
	*stream->tail = copy;
	stream->tail = &copy->next;
	stream->issued++;
	pthread_cond_broadcast(&standin.moved);
	return CUDA_SUCCESS;
}

static CUresult
copy_add(CUstream stream, struct op op, const char *call)
{
	CUresult result = standin_enter(call);
	bool some = false;

	if (result == CUDA_SUCCESS && !is_stream(stream, call))
		result = CUDA_ERROR_INVALID_HANDLE;
	if (result != CUDA_SUCCESS)
		return standin_leave(result);
	op.bytes = standin_bytes(op.address, op.size_bytes);
	if (op.bytes == NULL || op.size_bytes == 0) {
		standin_misuse("%s: %zu bytes from device address %#llx are not there", call,
			       op.size_bytes, (unsigned long long)op.address);
		return standin_leave(CUDA_ERROR_INVALID_VALUE);
	}
	if (!standin_is_pinned(op.host, op.size_bytes, op.kind == OP_OUT, &some)) {
		if (some)
			standin_misuse(
				"%s: some of the host's %zu bytes are pinned for it, not all", call,
				op.size_bytes);
		stream->pageable = true;
	}
	return standin_leave(op_add(stream, op));
}

CUresult
cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t size_bytes, CUstream stream)
{
	struct op op = {.kind = OP_IN, .address = to, .size_bytes = size_bytes};

	memcpy(&op.host, &from, sizeof(from)); /* is only read */
	return copy_add(stream, op, __func__);
}

CUresult
cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t size_bytes, CUstream stream)
{
	struct op op = {.kind = OP_OUT, .host = to, .address = from, .size_bytes = size_bytes};

	return copy_add(stream, op, __func__);
}

CUresult
cuLaunchHostFunc(CUstream stream, CUhostFn call, void *arg)
{
	CUresult result = standin_enter(__func__);
	struct op op = {.kind = OP_CALL, .call = call, .arg = arg};

	if (result == CUDA_SUCCESS && !is_stream(stream, __func__))
		result = CUDA_ERROR_INVALID_HANDLE;
	if (result == CUDA_SUCCESS)
		result = op_add(stream, op);
	return standin_leave(result);
}

/* ---- events ---- */

static bool
is_event(CUevent event, const char *call)
{
	for (int i = 0; i < OBJECTS_MAX; i++)
		if (event != NULL && events[i] == event)
			return true;
	standin_misuse("%s: of no event that is there", call);
	return false;
}

static bool
event_done(CUevent event)
{
	return event->stream == NULL || event->stream->done >= event->seq;
}

CUresult
cuEventCreate(CUevent *out, unsigned flags)
{
	CUresult result = standin_enter(__func__);
	int at = 0;

	if (result == CUDA_SUCCESS && (flags & CU_EVENT_DISABLE_TIMING) == 0)
		standin_misuse("an event that takes the time");
	while (at < OBJECTS_MAX && events[at] != NULL)
		at++;
	if (result == CUDA_SUCCESS && at < OBJECTS_MAX)
		events[at] = calloc(1, sizeof(struct CUevent_st));
	if (result == CUDA_SUCCESS && (at == OBJECTS_MAX || events[at] == NULL))
		result = CUDA_ERROR_OUT_OF_MEMORY;
	if (result == CUDA_SUCCESS)
		*out = events[at];
	return standin_leave(result);
}

CUresult
cuEventDestroy(CUevent event)
{
	CUresult result = standin_enter(__func__);

	if (!is_event(event, __func__))
		return standin_leave(CUDA_ERROR_INVALID_HANDLE);
	if (!event_done(event) && standin.failed == CUDA_SUCCESS)
		standin_misuse("an event is destroyed with copies before it");
	for (int i = 0; i < OBJECTS_MAX; i++)
		if (events[i] == event)
			events[i] = NULL;
	free(event);
	return standin_leave(result);
}

CUresult
cuEventQuery(CUevent event)
{
	CUresult result = standin_enter(__func__);

	if (result == CUDA_SUCCESS && !is_event(event, __func__))
		result = CUDA_ERROR_INVALID_HANDLE;
	if (result == CUDA_SUCCESS && !event_done(event))
		result = CUDA_ERROR_NOT_READY;
	return standin_leave(result);
}

CUresult
cuEventRecord(CUevent event, CUstream stream)
{
	CUresult result = standin_enter(__func__);

	if (result == CUDA_SUCCESS && (!is_event(event, __func__) || !is_stream(stream, __func__)))
		result = CUDA_ERROR_INVALID_HANDLE;
	if (result == CUDA_SUCCESS && stream->pageable)
		standin_misuse(
			"a copy of pageable memory, which blocks, is waited for by an event");
	if (result == CUDA_SUCCESS) {
		event->stream = stream;
		event->seq = stream->issued;
	}
	return standin_leave(result);
}

CUresult
cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags)
{
	CUresult result = standin_enter(__func__);
	struct op op = {.kind = OP_WAIT};
	(void)flags;

	if (result == CUDA_SUCCESS && (!is_event(event, __func__) || !is_stream(stream, __func__)))
		result = CUDA_ERROR_INVALID_HANDLE;
	if (result == CUDA_SUCCESS) {
		op.other = event->stream;
		op.other_seq = event->seq;
		result = op_add(stream, op);
	}
	return standin_leave(result);
}
