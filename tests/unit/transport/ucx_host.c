/* ucx_host.c - reads the process as it lies in memory. */
#include "tests/unit/transport/ucx_host.h"

#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* Reads what belongs to others: no sanitizer has anything to say about it. */
#define READS_ALL __attribute__((no_sanitize("address", "thread", "undefined"), noinline))

struct range {
	uintptr_t begin, end;
};

static struct range
segment_range(const struct dl_phdr_info *info, const ElfW(Phdr) * phdr, size_t size_bytes)
{
	uintptr_t begin = (uintptr_t)(info->dlpi_addr + phdr->p_vaddr);

	return (struct range){begin, begin + size_bytes};
}

/* ---- code ---- */

READS_ALL static uint64_t
bytes_sum(struct range range)
{
	uint64_t sum = 1469598103934665603ULL;

	for (uintptr_t at = range.begin; at < range.end; at++)
		sum = (sum ^ *(const volatile uint8_t *)at) * 1099511628211ULL;
	return sum;
}

static uint64_t
code_sum(const struct dl_phdr_info *info)
{
	uint64_t sum = 0;

	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *phdr = &info->dlpi_phdr[i];

		if (phdr->p_type == PT_LOAD && (phdr->p_flags & PF_X) && (phdr->p_flags & PF_R))
			sum = sum * 31 + bytes_sum(segment_range(info, phdr, phdr->p_memsz));
	}
	return sum;
}

static int
object_look(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct ucx_host *host = arg;
	(void)size;

	if (host->object_count == UCX_HOST_OBJECTS_MAX)
		return 1;
	host->objects[host->object_count].base = (uintptr_t)info->dlpi_addr;
	host->objects[host->object_count].code = code_sum(info);
	host->object_count++;
	return 0;
}

static bool
was_there(const struct ucx_host *before, const struct dl_phdr_info *info, size_t *idx_out)
{
	for (size_t i = 0; i < before->object_count; i++) {
		if (before->objects[i].base != (uintptr_t)info->dlpi_addr)
			continue;
		*idx_out = i;
		return true;
	}
	return false;
}

struct comparison {
	const struct ucx_host *before;
	struct range ucm;
	unsigned count;
};

static int
object_compare(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct comparison *comparison = arg;
	size_t idx;
	(void)size;

	if (was_there(comparison->before, info, &idx) &&
	    comparison->before->objects[idx].code != code_sum(info)) {
		printf("code changed: %s\n", info->dlpi_name);
		comparison->count++;
	}
	return 0;
}

unsigned
ucx_host_code_changes(const struct ucx_host *before)
{
	struct comparison comparison = {.before = before};

	(void)dl_iterate_phdr(object_compare, &comparison);
	return comparison.count;
}

/* ---- relocations ---- */

static int
ucm_find(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct comparison *comparison = arg;
	(void)size;

	if (strstr(info->dlpi_name, "/libucm") == NULL)
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_LOAD && (info->dlpi_phdr[i].p_flags & PF_X))
			comparison->ucm = segment_range(info, &info->dlpi_phdr[i],
							info->dlpi_phdr[i].p_memsz);
	return 1;
}

READS_ALL static unsigned
words_in(struct range where, struct range wanted)
{
	unsigned count = 0;

	where.begin = (where.begin + sizeof(uintptr_t) - 1) & ~(sizeof(uintptr_t) - 1);
	for (uintptr_t at = where.begin; at + sizeof(uintptr_t) <= where.end;
	     at += sizeof(uintptr_t)) {
		uintptr_t word = *(const volatile uintptr_t *)at;

		count += word >= wanted.begin && word < wanted.end;
	}
	return count;
}

static int
words_count(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct comparison *comparison = arg;
	unsigned count = 0;
	size_t idx;
	(void)size;

	if (!was_there(comparison->before, info, &idx))
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *phdr = &info->dlpi_phdr[i];

		if (phdr->p_type == PT_LOAD && (phdr->p_flags & PF_W))
			count += words_in(segment_range(info, phdr, phdr->p_filesz),
					  comparison->ucm);
	}
	if (count > 0)
		printf("%u words point at libucm: %s\n", count, info->dlpi_name);
	comparison->count += count;
	return 0;
}

unsigned
ucx_host_ways_to_ucm(const struct ucx_host *before)
{
	struct comparison comparison = {.before = before};

	(void)dl_iterate_phdr(ucm_find, &comparison);
	(void)dl_iterate_phdr(words_count, &comparison);
	return comparison.count;
}

/* ---- signals ---- */

void
ucx_host_look(struct ucx_host *out)
{
	stack_t stack = {0};

	memset(out, 0, sizeof(*out));
	(void)dl_iterate_phdr(object_look, out);
	for (int signum = 1; signum < UCX_HOST_SIGNALS; signum++) {
		struct sigaction action = {0};

		if (sigaction(signum, NULL, &action) == 0)
			memcpy(&out->handlers[signum], &action.sa_handler,
			       sizeof(out->handlers[signum]));
	}
	(void)sigaltstack(NULL, &stack);
	out->signal_stack = stack.ss_sp;
}

unsigned
ucx_host_signal_changes(const struct ucx_host *before)
{
	static struct ucx_host now;
	unsigned count = 0;

	ucx_host_look(&now);
	for (int signum = 1; signum < UCX_HOST_SIGNALS; signum++) {
		if (now.handlers[signum] == before->handlers[signum])
			continue;
		printf("another handler: signal %d\n", signum);
		count++;
	}
	if (now.signal_stack != before->signal_stack) {
		printf("another signal stack\n");
		count++;
	}
	return count;
}

/* ---- mappings ---- */

bool
ucx_host_has_ucx(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[1024];
	bool found = maps == NULL;

	while (!found && fgets(line, sizeof(line), maps) != NULL)
		found = strstr(line, "/libucm") != NULL || strstr(line, "/libucs") != NULL ||
			strstr(line, "/libuct") != NULL || strstr(line, "/libucp") != NULL;
	if (maps != NULL)
		(void)fclose(maps);
	return found;
}
