/* fault.c - any bytes as rules of the fault adapter: refused with a line, or rules within their bounds. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "l2/fault/fault.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	struct far_l2_fault_rule rules[FAR_L2_FAULT_RULES_MAX];
	char text[1024];
	char error[160] = "";
	uint32_t count = 0;

	if (size_bytes >= sizeof(text))
		return 0;
	memcpy(text, data, size_bytes);
	text[size_bytes] = '\0';
	if (far_l2_fault_parse(text, rules, &count, error) < 0) {
		FAR_ASSERT(error[0] != '\0');
		return 0;
	}
	FAR_ASSERT(count > 0);
	FAR_ASSERT(count <= FAR_L2_FAULT_RULES_MAX);
	for (uint32_t i = 0; i < count; i++) {
		FAR_ASSERT(rules[i].kinds < 1U << 4);
		FAR_ASSERT(rules[i].rate >= 0);
		FAR_ASSERT(rules[i].rate <= 1);
		FAR_ASSERT(rules[i].tail >= 0);
		FAR_ASSERT(rules[i].tail <= 1);
	}
	return 0;
}
