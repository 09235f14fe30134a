/* args_run.h - a command's main(), up to where it would do something: its arguments, and no more. */
#ifndef FAR_TESTS_FUZZ_ARGS_RUN_H
#define FAR_TESTS_FUZZ_ARGS_RUN_H

#include <stddef.h>
#include <stdint.h>

/*
 * Runs @entry with the lines of @text behind @name. It comes back when the arguments are refused, by
 * argp or by us, or when argp_parse() is about to return: nothing is opened, started or asked. Link
 * with args_run.c's wraps (args.cmake).
 */
void args_run(int (*entry)(int argc, char **argv), const char *name, const uint8_t *text,
	      size_t size_bytes);

#endif
