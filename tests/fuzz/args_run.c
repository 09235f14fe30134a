/* args_run.c - argp between main() and us: parses silently, and never goes back to who would act on it. */
#include "tests/fuzz/args_run.h"

#include <argp.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sanitizer/allocator_interface.h>

#include "base/assert.h"

#define ARGS_MAX   48
#define BLOCKS_MAX 256

/* The linker's names. NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */
error_t __real_argp_parse(const struct argp *argp, int argc, char **argv, unsigned flags,
			  int *end_out, void *input);
error_t __wrap_argp_parse(const struct argp *argp, int argc, char **argv, unsigned flags,
			  int *end_out, void *input);
void __wrap_argp_error(const struct argp_state *state, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void __wrap_argp_failure(const struct argp_state *state, int status, int errnum, const char *fmt,
			 ...) __attribute__((format(printf, 4, 5)));
_Noreturn void __real_exit(int status);
_Noreturn void __wrap_exit(int status);

static jmp_buf back;
static bool running;
/* What is allocated between our start and the jump back: argp would have freed it. */
static const volatile void *blocks[BLOCKS_MAX];
static size_t block_count;

static void
on_malloc(const volatile void *block, size_t size_bytes)
{
	(void)size_bytes;
	if (running && block_count < BLOCKS_MAX)
		blocks[block_count++] = block;
}

static void
on_free(const volatile void *block)
{
	for (size_t i = block_count; running && i-- > 0;) {
		if (blocks[i] == block) {
			blocks[i] = blocks[--block_count];
			return;
		}
	}
}

/* NOLINTNEXTLINE(misc-no-recursion) */
error_t
__wrap_argp_parse(const struct argp *argp, int argc, char **argv, unsigned flags, int *end_out,
		  void *input)
{
	(void)__real_argp_parse(argp, argc, argv, flags | ARGP_SILENT, end_out, input);
	longjmp(back, 1);
}

void
__wrap_argp_error(const struct argp_state *state, const char *fmt, ...)
{
	(void)state;
	FAR_ASSERT(fmt[0] != '\0');
	longjmp(back, 1);
}

void
__wrap_argp_failure(const struct argp_state *state, int status, int errnum, const char *fmt, ...)
{
	(void)state;
	(void)errnum;
	FAR_ASSERT(fmt[0] != '\0');
	/* The others go on, and return an error. */
	if (status != 0)
		longjmp(back, 1);
}

void
__wrap_exit(int status)
{
	/* The fuzzer's own end comes here, too. */
	if (!running)
		__real_exit(status);
	longjmp(back, 1);
}
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */

/* What a command says to people goes nowhere. */
static void
quiet(void)
{
	static FILE *nowhere;

	if (nowhere != NULL)
		return;
	nowhere = fopen("/dev/null", "w");
	FAR_ASSERT(nowhere != NULL);
	stdout = nowhere;
	stderr = nowhere;
	(void)__sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
}

void
args_run(int (*entry)(int argc, char **argv), const char *name, const uint8_t *text,
	 size_t size_bytes)
{
	static char words[4096];
	static char *argv[ARGS_MAX + 2];
	int argc = 0;
	char *word = words;

	if (size_bytes >= sizeof(words))
		return;
	quiet();
	memcpy(words, text, size_bytes);
	words[size_bytes] = '\0';
	argv[argc++] = (char *)(uintptr_t)name;
	while (argc <= ARGS_MAX && word != NULL && *word != '\0')
		argv[argc++] = strsep(&word, "\n");
	argv[argc] = NULL;
	block_count = 0;
	running = true;
	if (setjmp(back) == 0)
		(void)entry(argc, argv);
	running = false;
	while (block_count > 0)
		free((void *)(uintptr_t)blocks[--block_count]);
}
