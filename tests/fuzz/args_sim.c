/* args_sim.c - any bytes as the command line of farpool-sim: refused or taken, no harm. */
#include <stddef.h>
#include <stdint.h>

#include "tests/fuzz/args_run.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int farpool_sim_main(int argc, char **argv);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	args_run(farpool_sim_main, "farpool-sim", data, size_bytes);
	return 0;
}
