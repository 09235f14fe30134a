/* copy.c - streaming copies: the widest non-temporal stores that this processor has. */
#include "base/copy.h"

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/copy_priv.h"

/* Below this the bytes are likely to be read soon, and a call is not worth the write-combining. */
#define STREAM_BYTES_MIN 4096
#define LINE_BYTES       ((size_t)64)
#define GROUP_BYTES      (4 * LINE_BYTES)
#define PAGE_BYTES       ((size_t)4096)
#define PAGES_BYTES      (4 * PAGE_BYTES)
#define ASK_AHEAD        ((size_t)512)

#if defined(__x86_64__)

/* Full lines are written one after the other, so that each leaves its write-combining buffer whole. */
#define LINES(isa) static inline __attribute__((always_inline, target(isa))) void

/* What lies behind the copy is nobody's business: the last lines ask for nothing. */
#define KERNELS(name, isa)                                                                           \
	__attribute__((target(isa))) static void copy_##name(char *to, const char *from,             \
							     size_t size_bytes)                      \
	{                                                                                            \
		lines_##name(to, from, size_bytes, false);                                           \
	}                                                                                            \
                                                                                                     \
	/* The source is asked for ASK_AHEAD in advance, as bytes that are read once: they come    \
	 * no further than the caches next to the core, and what others keep in the last one       \
	 * stays there. */ \
	__attribute__((target(isa))) static void copy_##name##_past(char *to, const char *from,      \
								    size_t size_bytes)               \
	{                                                                                            \
		size_t asking = size_bytes > ASK_AHEAD ? size_bytes - ASK_AHEAD : 0;                 \
                                                                                                     \
		for (size_t at = 0; at < size_bytes && at < ASK_AHEAD; at += LINE_BYTES)             \
			_mm_prefetch(from + at, _MM_HINT_NTA);                                       \
		lines_##name(to, from, asking, true);                                                \
		lines_##name(to + asking, from + asking, size_bytes - asking, false);                \
	}                                                                                            \
                                                                                                     \
	/* A few lines of each of four pages in turns: a prefetcher that follows one page runs     \
	 * ahead in all of them, and does not begin anew at each page's start. */ \
	__attribute__((target(isa))) static void copy_##name##_pages(char *to, const char *from,     \
								     size_t size_bytes)              \
	{                                                                                            \
		for (; size_bytes >= PAGES_BYTES; size_bytes -= PAGES_BYTES) {                       \
			for (size_t in = 0; in < PAGE_BYTES; in += GROUP_BYTES)                      \
				for (size_t at = in; at < PAGES_BYTES; at += PAGE_BYTES)             \
					group_##name(to + at, from + at,                             \
						     in + GROUP_BYTES < PAGE_BYTES);                 \
			from += PAGES_BYTES;                                                         \
			to += PAGES_BYTES;                                                           \
		}                                                                                    \
		lines_##name(to, from, size_bytes, false);                                           \
	}

/* @more: the next group of the same page is asked for. */
LINES("avx512f")
group_avx512(char *to, const char *from, bool more)
{
	__m512i a = _mm512_loadu_si512(from);
	__m512i b = _mm512_loadu_si512(from + 64);
	__m512i c = _mm512_loadu_si512(from + 128);
	__m512i d = _mm512_loadu_si512(from + 192);

	for (size_t at = GROUP_BYTES; more && at < 2 * GROUP_BYTES; at += LINE_BYTES)
		_mm_prefetch(from + at, _MM_HINT_T0);
	_mm512_stream_si512((void *)to, a);
	_mm512_stream_si512((void *)(to + 64), b);
	_mm512_stream_si512((void *)(to + 128), c);
	_mm512_stream_si512((void *)(to + 192), d);
}

LINES("avx512f")
lines_avx512(char *to, const char *from, size_t size_bytes, bool past)
{
	for (; size_bytes >= GROUP_BYTES; size_bytes -= GROUP_BYTES) {
		for (size_t at = 0; past && at < GROUP_BYTES; at += LINE_BYTES)
			_mm_prefetch(from + ASK_AHEAD + at, _MM_HINT_NTA);
		group_avx512(to, from, false);
		from += GROUP_BYTES;
		to += GROUP_BYTES;
	}
	for (; size_bytes != 0; size_bytes -= LINE_BYTES) {
		_mm512_stream_si512((void *)to, _mm512_loadu_si512(from));
		from += LINE_BYTES;
		to += LINE_BYTES;
	}
}

LINES("avx2")
lines_avx2(char *to, const char *from, size_t size_bytes, bool past)
{
	for (; size_bytes != 0; size_bytes -= LINE_BYTES) {
		__m256i a = _mm256_loadu_si256((const void *)from);
		__m256i b = _mm256_loadu_si256((const void *)(from + 32));

		if (past)
			_mm_prefetch(from + ASK_AHEAD, _MM_HINT_NTA);
		_mm256_stream_si256((void *)to, a);
		_mm256_stream_si256((void *)(to + 32), b);
		from += LINE_BYTES;
		to += LINE_BYTES;
	}
}

/* Asking for more makes it slower, where it was measured. */
LINES("avx2")
group_avx2(char *to, const char *from, bool more)
{
	(void)more;
	lines_avx2(to, from, GROUP_BYTES, false);
}

LINES("sse2")
lines_sse2(char *to, const char *from, size_t size_bytes, bool past)
{
	for (; size_bytes != 0; size_bytes -= LINE_BYTES) {
		if (past)
			_mm_prefetch(from + ASK_AHEAD, _MM_HINT_NTA);
		for (size_t i = 0; i < LINE_BYTES; i += 16)
			_mm_stream_si128((void *)(to + i),
					 _mm_loadu_si128((const void *)(from + i)));
		from += LINE_BYTES;
		to += LINE_BYTES;
	}
}

LINES("sse2")
group_sse2(char *to, const char *from, bool more)
{
	(void)more;
	lines_sse2(to, from, GROUP_BYTES, false);
}

KERNELS(avx512, "avx512f")
KERNELS(avx2, "avx2")
KERNELS(sse2, "sse2")

#else

static void
copy_plain(char *to, const char *from, size_t size_bytes)
{
	memcpy(to, from, size_bytes);
}

#endif

/* __builtin_cpu_supports() takes literals only, hence a function for each. */
static bool
always(void)
{
	return true;
}

#if defined(__x86_64__)
static bool
has_avx512(void)
{
	return __builtin_cpu_supports("avx512f") != 0;
}

static bool
has_avx2(void)
{
	return __builtin_cpu_supports("avx2") != 0;
}
#endif

const struct far_copy_kernel far_copy_kernels[] = {
#if defined(__x86_64__)
	{"avx512", has_avx512, copy_avx512, copy_avx512_past, copy_avx512_pages},
	{"avx2", has_avx2, copy_avx2, copy_avx2_past, copy_avx2_pages},
	{"sse2", always, copy_sse2, copy_sse2_past, copy_sse2_pages},
#else
	{"plain", always, copy_plain, copy_plain, copy_plain},
#endif
	{NULL, NULL, NULL, NULL, NULL},
};

void
far_copy_with(far_copy_kernel_fn *kernel, char *to, const char *from, size_t size_bytes)
{
	size_t head_bytes = (size_t)(-(uintptr_t)to % LINE_BYTES);
	size_t body_bytes;

	if (head_bytes > size_bytes)
		head_bytes = size_bytes;
	memcpy(to, from, head_bytes);
	to += head_bytes;
	from += head_bytes;
	size_bytes -= head_bytes;
	body_bytes = size_bytes / LINE_BYTES * LINE_BYTES;
	kernel(to, from, body_bytes);
	memcpy(to + body_bytes, from + body_bytes, size_bytes - body_bytes);
}

const struct far_copy_kernel *
far_copy_kernel(void)
{
	static _Atomic(const struct far_copy_kernel *) chosen;
	/* Relaxed: whoever finds NULL comes to the same answer, and it is there already. */
	const struct far_copy_kernel *kernel = atomic_load_explicit(&chosen, memory_order_relaxed);

	if (kernel == NULL) {
		kernel = far_copy_kernels;
		while (!kernel->supported())
			kernel++;
		atomic_store_explicit(&chosen, kernel, memory_order_relaxed);
	}
	return kernel;
}

/*
 * GB/s of 1 MiB at a time, cold: lines, past, pages.
 *   EPYC of the first generation, avx2:     8.5, 10.2,  8.8
 *   Xeon of the fourth, avx512:            10.3,  7.3, 12.3; avx2: 10.0, 7.5, 11.4
 * There prefetchnta brings a line into the first cache alone, so that the second one's prefetcher never sees
 * the stream.
 */
enum maker { MAKER_OTHER, MAKER_AMD, MAKER_INTEL };

static enum maker
maker(void)
{
#if defined(__x86_64__)
	if (__builtin_cpu_is("amd"))
		return MAKER_AMD;
	if (__builtin_cpu_is("intel"))
		return MAKER_INTEL;
#endif
	return MAKER_OTHER;
}

bool
far_copy_reads_past(void)
{
	return maker() == MAKER_AMD;
}

void
far_copy_stream(void *to, const void *from, size_t size_bytes)
{
	const struct far_copy_kernel *kernel = far_copy_kernel();

	if (size_bytes >= STREAM_BYTES_MIN)
		far_copy_with(maker() == MAKER_INTEL ? kernel->copy_pages : kernel->copy, to, from,
			      size_bytes);
	else if (size_bytes != 0) /* memcpy takes no NULL, not even for nothing */
		memcpy(to, from, size_bytes);
}

void
far_copy_once(void *to, const void *from, size_t size_bytes)
{
	if (size_bytes >= STREAM_BYTES_MIN && far_copy_reads_past())
		far_copy_with(far_copy_kernel()->copy_past, to, from, size_bytes);
	else
		far_copy_stream(to, from, size_bytes);
}
