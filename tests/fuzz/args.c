/* args.c - any bytes as the command line of farpool, farpoold or farpool-perf: refused or taken, no harm. */
#include <stddef.h>
#include <stdint.h>

#include "tests/fuzz/args_run.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

/* Their main(), by the names that args.cmake gives them. */
int farpool_main(int argc, char **argv);
int farpoold_main(int argc, char **argv);
int farpool_perf_main(int argc, char **argv);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	if (size_bytes == 0)
		return 0;
	switch (data[0] % 3) {
	case 0:
		args_run(farpool_main, "farpool", data + 1, size_bytes - 1);
		break;
	case 1:
		args_run(farpoold_main, "farpoold", data + 1, size_bytes - 1);
		break;
	default:
		args_run(farpool_perf_main, "farpool-perf", data + 1, size_bytes - 1);
		break;
	}
	return 0;
}
