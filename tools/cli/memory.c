/* memory.c - the GPU that L1 lies on, and the ways that bytes take to it. */
#include "tools/cli/memory.h"

#include <inttypes.h>
#include <string.h>

#include "tools/cli/cli.h"

void
far_cli_memory_print(const struct far_memory_info *info, FILE *out)
{
	char bytes[32];

	if (info->name[0] == '\0')
		return;
	fprintf(out, "  L1 is memory of GPU %u (%s, %s, at %s)\n", info->device, info->name,
		info->driver, info->pci[0] != '\0' ? info->pci : "an unknown place");
	for (uint32_t i = 0; i < info->path_count && i < FAR_MEMORY_PATHS_MAX; i++) {
		const struct far_memory_path *path = &info->paths[i];

		if (path->taken == 0 && path->ops == 0)
			fprintf(out, "    %s %s: not taken: %s\n", path->transport, path->path,
				path->why);
		else
			fprintf(out, "    %s %s: %" PRIu64 " operations, %s: %s\n", path->transport,
				path->path, path->ops, far_cli_bytes(path->bytes, bytes),
				path->why);
	}
}

static json_t *
path_json(const struct far_memory_path *path)
{
	json_t *out = json_object();

	json_object_set_new(out, "transport", json_string(path->transport));
	json_object_set_new(out, "path", json_string(path->path));
	json_object_set_new(out, "taken", json_boolean(path->taken != 0));
	json_object_set_new(out, "why", json_string(path->why));
	json_object_set_new(out, "ops", json_integer((json_int_t)path->ops));
	json_object_set_new(out, "bytes", json_integer((json_int_t)path->bytes));
	return out;
}

json_t *
far_cli_memory_json(const struct far_memory_info *info)
{
	json_t *paths = json_array();
	json_t *out = json_object();

	json_object_set_new(out, "kind", json_string(info->kind));
	json_object_set_new(out, "l1_bytes", json_integer((json_int_t)info->l1_bytes));
	if (info->name[0] == '\0') {
		json_decref(paths);
		return out;
	}
	json_object_set_new(out, "device", json_integer(info->device));
	json_object_set_new(out, "name", json_string(info->name));
	json_object_set_new(out, "driver", json_string(info->driver));
	json_object_set_new(out, "pci", json_string(info->pci));
	json_object_set_new(out, "mapped_bytes", json_integer((json_int_t)info->mapped_bytes));
	json_object_set_new(out, "stage_waits", json_integer((json_int_t)info->stage_waits));
	json_object_set_new(out, "copies_in", json_integer((json_int_t)info->copies_in));
	json_object_set_new(out, "copies_out", json_integer((json_int_t)info->copies_out));
	for (uint32_t i = 0; i < info->path_count && i < FAR_MEMORY_PATHS_MAX; i++)
		json_array_append_new(paths, path_json(&info->paths[i]));
	json_object_set_new(out, "paths", paths);
	return out;
}
