/* config.c - a fault adapter from words: what is wrapped, and rules like "load:fail=EIO,rate=0.1". */
#include "l2/fault/fault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/param.h"

#define WORD_BYTES_MAX 64

struct word {
	char text[WORD_BYTES_MAX]; /* up to the separator, or what of it has room */
	char *value;               /* behind its '='; NULL: it has none */
	const char *next;          /* behind the separator; NULL: it was the last one */
};

static void
word_take(const char *from, char separator, struct word *out)
{
	const char *end = strchr(from, separator);
	size_t bytes = end != NULL ? (size_t)(end - from) : strlen(from);

	(void)snprintf(out->text, sizeof(out->text), "%.*s",
		       (int)(bytes < WORD_BYTES_MAX ? bytes : WORD_BYTES_MAX), from);
	out->next = end != NULL ? end + 1 : NULL;
	out->value = strchr(out->text, '=');
	if (out->value != NULL)
		*out->value++ = '\0';
}

static bool
kind_parse(const char *name, uint32_t *kinds)
{
	static const char *const names[] = {
		[FAR_L2_LOOKUP] = "lookup",
		[FAR_L2_LOAD] = "load",
		[FAR_L2_STORE] = "store",
		[FAR_L2_DELETE] = "delete",
	};

	if (strcmp(name, "all") == 0)
		return true;
	for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(name, names[i]) != 0)
			continue;
		*kinds |= 1U << i;
		return true;
	}
	return false;
}

/* "EIO", of those that are listed. */
static bool
error_parse(const char *name, int *rc_out)
{
	for (int code = 1; name != NULL && code < 256; code++) {
		if (!far_err_listed(-code) || strcmp(far_err_name(-code), name) != 0)
			continue;
		*rc_out = -code;
		return true;
	}
	return false;
}

static bool
share_parse(const char *text, double *out)
{
	char *end = NULL;

	if (text == NULL || text[0] == '\0')
		return false;
	*out = strtod(text, &end);
	return *end == '\0' && *out > 0 && *out <= 1;
}

static bool
count_parse(const char *text, uint32_t *out)
{
	char *end = NULL;
	unsigned long long value;

	if (text == NULL || text[0] < '0' || text[0] > '9')
		return false;
	value = strtoull(text, &end, 10);
	if (*end != '\0' || value == 0 || value > UINT32_MAX)
		return false;
	*out = (uint32_t)value;
	return true;
}

/* One word of a rule. NULL, or what is wrong with it. */
static const char *
word_apply(const struct word *word, struct far_l2_fault_rule *rule, bool *acts)
{
	static const struct {
		const char *name;
		enum far_l2_fault_action action;
	} actions[] = {{"fail", FAR_L2_FAULT_FAIL},
		       {"corrupt", FAR_L2_FAULT_CORRUPT},
		       {"short", FAR_L2_FAULT_SHORT},
		       {"drop", FAR_L2_FAULT_DROP},
		       {"delay", FAR_L2_FAULT_DELAY}};

	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
		if (strcmp(word->text, actions[i].name) != 0)
			continue;
		if (*acts)
			return "is the rule's second action: begin another rule with ';'";
		*acts = true;
		rule->action = actions[i].action;
		if (rule->action == FAR_L2_FAULT_FAIL)
			return error_parse(word->value, &rule->rc)
				       ? NULL
				       : "needs an error of base/err.def: fail=EIO";
		if (rule->action == FAR_L2_FAULT_DELAY)
			return word->value != NULL &&
					       far_duration_parse(word->value, &rule->delay_ns) == 0
				       ? NULL
				       : "needs a time: delay=5ms";
		return word->value == NULL ? NULL : "takes no value";
	}
	if (strcmp(word->text, "rate") == 0)
		return share_parse(word->value, &rule->rate) ? NULL : "needs a share up to 1: 0.1";
	if (strcmp(word->text, "tail") == 0)
		return share_parse(word->value, &rule->tail) ? NULL : "needs a share up to 1: 0.5";
	if (strcmp(word->text, "head") == 0)
		return count_parse(word->value, &rule->head) ? NULL : "needs a number: head=2";
	if (strcmp(word->text, "times") == 0)
		return count_parse(word->value, &rule->times) ? NULL : "needs a number: times=3";
	return "is unknown: fail, corrupt, short, drop, delay, rate, head, tail, times";
}

/* "load+lookup:fail=EIO,rate=0.1". NULL, or what is wrong with @word_out. */
static const char *
rule_parse(const char *text, struct far_l2_fault_rule *rule, struct word *word_out)
{
	char whole[4 * WORD_BYTES_MAX];
	const char *wrong = NULL;
	bool acts = false;
	char *words;

	*rule = (struct far_l2_fault_rule){0};
	(void)snprintf(word_out->text, sizeof(word_out->text), "%.40s", text);
	if (strlen(text) >= sizeof(whole))
		return "is too long";
	memcpy(whole, text, strlen(text) + 1);
	words = strchr(whole, ':');
	if (words == NULL)
		return "has no ':': KINDS:ACTION, as load:fail=EIO";
	*words++ = '\0';
	for (const char *at = whole; at != NULL; at = word_out->next) {
		word_take(at, '+', word_out);
		if (!kind_parse(word_out->text, &rule->kinds))
			return "is unknown: lookup, load, store, delete, joined by '+', or all";
	}
	for (const char *at = words; at != NULL && wrong == NULL; at = word_out->next) {
		word_take(at, ',', word_out);
		wrong = word_apply(word_out, rule, &acts);
	}
	if (wrong == NULL && !acts)
		wrong = "chooses and does nothing: add fail, corrupt, short, drop or delay";
	return wrong;
}

int
far_l2_fault_parse(const char *text, struct far_l2_fault_rule *rules, uint32_t *count_out,
		   char error[160])
{
	uint32_t count = 0;

	for (const char *at = text; at != NULL;) {
		const char *end = strchr(at, ';');
		char one[4 * WORD_BYTES_MAX];
		struct word word = {.text = ""};
		size_t bytes = end != NULL ? (size_t)(end - at) : strlen(at);
		const char *wrong = "is too long";

		if (bytes < sizeof(one)) {
			memcpy(one, at, bytes);
			one[bytes] = '\0';
			wrong = count < FAR_L2_FAULT_RULES_MAX
					? rule_parse(one, &rules[count], &word)
					: "is one more than there may be: 16";
		}
		if (wrong != NULL) {
			(void)snprintf(error, 160, "rule %u: '%.40s' %s", count + 1, word.text,
				       wrong);
			return -EINVAL;
		}
		count++;
		at = end != NULL ? end + 1 : NULL;
	}
	*count_out = count;
	return 0;
}

int
far_l2_fault_open(const struct far_l2_config *config, const struct far_l2_env *env,
		  struct far_l2 **out, char error[256])
{
	struct far_l2_fault_rule rules[FAR_L2_FAULT_RULES_MAX];
	struct far_l2 *inner = NULL;
	struct far_l2 *l2 = NULL;
	uint32_t count = 0;
	char wrong[160];
	int rc;

	if (config->inner == NULL)
		return far_l2_config_error(config, "inner", error,
					   "missing: the adapter that the faults are put around");
	if (config->faults != NULL && far_l2_fault_parse(config->faults, rules, &count, wrong) < 0)
		return far_l2_config_error(config, "faults", error, "%s", wrong);
	rc = far_l2_open(config->inner, env, &inner, error);
	if (rc < 0)
		return rc;
	rc = far_l2_fault_wrap(inner, env->clock, config->seed, &l2);
	if (rc < 0) {
		/* Nothing was submitted: it is quiet at once. */
		far_l2_quiesce(inner);
		far_l2_close(inner);
		return rc;
	}
	for (uint32_t i = 0; i < count; i++) {
		rc = far_l2_fault_add(l2, &rules[i]);
		FAR_ASSERT(rc == 0); /* parsed within its bounds */
	}
	*out = l2;
	return 0;
}
