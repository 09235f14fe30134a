/* memory.h - what L1 lies in, as status and replay show it. */
#ifndef FAR_TOOLS_CLI_MEMORY_H
#define FAR_TOOLS_CLI_MEMORY_H

#include <jansson.h>
#include <stdio.h>

#include "farpool/memory.h"

/* Lines for people: the GPU, and each way that is taken or was; none for host memory. */
void far_cli_memory_print(const struct far_memory_info *info, FILE *out);
/* The caller owns it. */
json_t *far_cli_memory_json(const struct far_memory_info *info);

#endif
