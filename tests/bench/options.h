/* options.h - what the bench programs have in common at their ends: numbers that are asked for, JSON. */
#ifndef FAR_TESTS_BENCH_OPTIONS_H
#define FAR_TESTS_BENCH_OPTIONS_H

#include <argp.h>
#include <stdint.h>

#include <jansson.h>

#include "tests/bench/bench.h"

/* Whole, from @min to @max; else argp says so in the name of @name and ends the program. */
uint64_t bench_option_number(const char *text, uint64_t min, uint64_t max, const char *name,
			     struct argp_state *state);
json_t *bench_machine_json(const struct bench_machine *machine);
/* @path: "-" is the standard output. Ends @root, which may be NULL: memory was short. Returns 0 or
 * -EIO, and has said why. */
int bench_json_put(json_t *root, const char *path);

#endif
