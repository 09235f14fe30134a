/* trace.c - any bytes as a line of a trace: refused or taken, never harmful. */
#include <stddef.h>
#include <stdint.h>

#include "tools/cli/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char error[FAR_TRACE_ERROR_BYTES];
	struct far_trace_summary summary;
	struct far_trace trace = {0};

	if (far_trace_parse_line(&trace, (const char *)data, size, error) == 0)
		(void)far_trace_summarise(&trace, &summary);
	far_trace_fini(&trace);
	return 0;
}
