/* param.c - any bytes as a configuration file: taken or refused in one line, nothing left behind. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/param.h"
#include "tests/unit/base/param_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	struct fixture_config config;
	char error[FAR_PARAM_ERROR_BYTES];
	int rc;

	memset(&config, 0xee, sizeof(config));
	rc = far_param_load_text(&fixture_table, "fuzz.yaml", (const char *)data, size_bytes,
				 &config, error);
	if (rc == 0) {
		/* Whatever was taken lies within its row. */
		FAR_ASSERT(config.memory >= (2 << 20));
		FAR_ASSERT(config.rails >= 1);
		FAR_ASSERT(config.rails <= 4);
		FAR_ASSERT(config.l1_policy < 3);
		FAR_ASSERT(strnlen(config.name, sizeof(config.name)) < sizeof(config.name));
		FAR_ASSERT(config.donor_count <= 5);
		for (size_t i = 0; i < config.donor_count; i++)
			FAR_ASSERT(config.donors[i].name[0] != '\0');
		FAR_ASSERT(error[0] == '\0');
	} else {
		size_t length = strnlen(error, sizeof(error));

		FAR_ASSERT(length > 0);
		FAR_ASSERT(length < sizeof(error));
		FAR_ASSERT(memchr(error, '\n', length) == NULL);
	}
	far_param_fini(&fixture_table, &config);
	FAR_ASSERT(far_alloc_live_bytes() == 0);
	return 0;
}
