/* control.c - the stand-in's one state, and what tests do with it. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/cuda_standin/standin_priv.h"
#include "transport/mem/cuda/lib.h"

struct standin_state standin = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.moved = PTHREAD_COND_INITIALIZER,
};

/* What is asked of each function. The last one is of all. */
static struct {
	const char *symbol;
	uint64_t calls;
	uint64_t fails_in; /* 0: does not */
	CUresult fails_with;
} calls[] = {
#define STANDIN_CALL(name, symbol, version) {symbol, 0, 0, CUDA_SUCCESS},
	CUDA_LIB_FUNCTIONS(STANDIN_CALL)
#undef STANDIN_CALL
		{NULL, 0, 0, CUDA_SUCCESS},
};
#define CALLS (sizeof(calls) / sizeof(calls[0]))

/* ---- what a call begins with ---- */

static bool
env_is(const char *name, char value)
{
	const char *text = getenv(name);

	return text != NULL && text[0] == value;
}

/* What an H100 says of itself, driver 580. */
static void
state_default(void)
{
	standin.strict = !env_is("FARPOOL_STANDIN_STRICT", '0');
	standin.access = env_is("FARPOOL_STANDIN_ACCESS", '1');
	standin.version = 13000;
	standin.devices = 1;
	standin.failed = CUDA_SUCCESS;
	standin.misuses = 0;
	standin.misuse[0] = '\0';
	standin.delay_us = standin.random_us = 0;
	standin.held[0] = standin.held[1] = false;
	standin.allowed = 0;
	standin.copy_fails_in = 0;
	standin.primary.retained = 0;
	memset(standin.attributes, 0, sizeof(standin.attributes));
	standin.attributes[CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED] = 1;
	standin.attributes[CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED] = 1;
	standin.attributes[CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED] = 1;
	standin.attributes[CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED] = 1;
	standin.attributes[CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED] = 1;
	standin.attributes[CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED] = 1;
	standin.attributes[CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING] = 100;
	standin.attributes[CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS] = 1;
	for (size_t i = 0; i < CALLS; i++)
		calls[i].calls = calls[i].fails_in = 0;
	standin.ready = true;
}

static void
lock(void)
{
	pthread_mutex_lock(&standin.lock);
	if (!standin.ready)
		state_default();
}

void
standin_misuse(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(standin.misuse, sizeof(standin.misuse), format, args);
	va_end(args);
	standin.misuses++;
	(void)fprintf(stderr, "CUDA stand-in: %s\n", standin.misuse);
	if (standin.strict)
		abort();
}

/* Of those that stay, the ones that tests ask for. */
static bool
stays(CUresult result)
{
	return result == CUDA_ERROR_ECC_UNCORRECTABLE || result == CUDA_ERROR_ILLEGAL_ADDRESS ||
	       result == CUDA_ERROR_LAUNCH_FAILED || result == CUDA_ERROR_UNKNOWN;
}

CUresult
standin_enter_outside(const char *call)
{
	CUresult result = CUDA_SUCCESS;

	lock();
	for (size_t i = 0; i < CALLS; i++) {
		if (calls[i].symbol != NULL && strcmp(calls[i].symbol, call) != 0)
			continue;
		calls[i].calls++;
		if (calls[i].fails_in != 0 && --calls[i].fails_in == 0)
			result = calls[i].fails_with;
	}
	if (result != CUDA_SUCCESS && stays(result))
		standin.failed = result;
	return result;
}

CUresult
standin_leave(CUresult result)
{
	pthread_mutex_unlock(&standin.lock);
	return result;
}

/* ---- what tests call ---- */

static void
reset(void)
{
	lock();
	standin.held[0] = standin.held[1] = false;
	standin_streams_give_up();
	(void)standin_memory_left(false);
	state_default();
	pthread_mutex_unlock(&standin.lock);
}

static unsigned
check(void)
{
	unsigned count;

	lock();
	count = standin.misuses;
	if (standin.failed == CUDA_SUCCESS) {
		count += standin_streams_left(true) + standin_memory_left(true);
		if (standin.primary.retained != 0) {
			(void)fprintf(stderr, "CUDA stand-in: the primary context is retained\n");
			count++;
		}
	}
	pthread_mutex_unlock(&standin.lock);
	return count;
}

static const char *
last_misuse(void)
{
	return standin.misuse;
}

static void
strict(bool on)
{
	lock();
	standin.strict = on;
	pthread_mutex_unlock(&standin.lock);
}

static void
attribute(int which, int value)
{
	lock();
	standin.attributes[which] = value;
	pthread_mutex_unlock(&standin.lock);
}

static void
version_set(int version)
{
	lock();
	standin.version = version;
	pthread_mutex_unlock(&standin.lock);
}

static void
devices(int count)
{
	lock();
	standin.devices = count;
	pthread_mutex_unlock(&standin.lock);
}

static void
delay(unsigned us, unsigned random_us, uint64_t seed)
{
	lock();
	standin.delay_us = us;
	standin.random_us = random_us;
	standin.seed = seed;
	pthread_mutex_unlock(&standin.lock);
}

static void
hold(bool in, bool out)
{
	lock();
	standin.held[0] = in;
	standin.held[1] = out;
	pthread_cond_broadcast(&standin.moved);
	pthread_mutex_unlock(&standin.lock);
}

static void
allow(unsigned copies)
{
	lock();
	standin.allowed = copies;
	pthread_cond_broadcast(&standin.moved);
	pthread_mutex_unlock(&standin.lock);
}

static void
settle(void)
{
	lock();
	standin_streams_settle();
	pthread_mutex_unlock(&standin.lock);
}

static size_t
call_of(const char *symbol)
{
	for (size_t i = 0; i < CALLS - 1; i++)
		if (symbol != NULL && strcmp(calls[i].symbol, symbol) == 0)
			return i;
	if (symbol != NULL)
		abort(); /* the test has a name wrong */
	return CALLS - 1;
}

static void
fail_call(const char *symbol, uint64_t nth, int result)
{
	size_t at;

	lock();
	at = call_of(symbol);
	calls[at].fails_in = nth;
	calls[at].fails_with = (CUresult)result;
	pthread_mutex_unlock(&standin.lock);
}

static void
fail_copy(uint64_t nth, int result)
{
	lock();
	standin.copy_fails_in = nth;
	standin.copy_fails_with = (CUresult)result;
	pthread_mutex_unlock(&standin.lock);
}

static uint64_t
calls_of(const char *symbol)
{
	uint64_t count;

	lock();
	count = calls[call_of(symbol)].calls;
	pthread_mutex_unlock(&standin.lock);
	return count;
}

static bool
has_failed(void)
{
	bool failed;

	lock();
	failed = standin.failed != CUDA_SUCCESS;
	pthread_mutex_unlock(&standin.lock);
	return failed;
}

static void *
bytes(const void *address, size_t size_bytes)
{
	void *at;

	lock();
	at = standin_bytes((uint64_t)(uintptr_t)address, size_bytes);
	pthread_mutex_unlock(&standin.lock);
	return at;
}

static void *
foreign_context(void)
{
	return &standin.foreign;
}

const struct standin *
standin_control(void)
{
	static const struct standin control = {
		.reset = reset,
		.check = check,
		.last_misuse = last_misuse,
		.strict = strict,
		.attribute = attribute,
		.version = version_set,
		.devices = devices,
		.delay = delay,
		.hold = hold,
		.allow = allow,
		.settle = settle,
		.fail_call = fail_call,
		.fail_copy = fail_copy,
		.calls = calls_of,
		.failed = has_failed,
		.bytes = bytes,
		.depth = standin_depth,
		.foreign_context = foreign_context,
	};

	return &control;
}
