/* param_value.c - one value: from text to the configuration struct, or a cause and a next step. */
#include "base/param.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/param_priv.h"

struct unit {
	const char *name;
	uint64_t factor;
};

/* From small to large; the last entry is the end. */
static const struct unit size_units[] = {
	{"B", 1},
	{"KiB", UINT64_C(1) << 10},
	{"MiB", UINT64_C(1) << 20},
	{"GiB", UINT64_C(1) << 30},
	{"TiB", UINT64_C(1) << 40},
	{NULL, 0},
};

static const struct unit duration_units[] = {
	{"ns", 1},           {"us", FAR_NS_PER_US},      {"ms", FAR_NS_PER_MS},
	{"s", FAR_NS_PER_S}, {"min", 60 * FAR_NS_PER_S}, {NULL, 0},
};

/* In the order in which an example is likely to be what was meant. */
static const char *const size_likely[] = {"GiB", "MiB", "KiB", "TiB", "B"};
static const char *const duration_likely[] = {"ms", "s", "us", "ns", "min"};
#define LIKELY_COUNT (sizeof(size_likely) / sizeof(size_likely[0]))

enum number_fault {
	NUMBER_FINE,
	NUMBER_NONE,     /* does not start with a digit */
	NUMBER_FRACTION, /* 1.5GiB */
	NUMBER_NO_UNIT,
	NUMBER_UNIT_UNKNOWN,
	NUMBER_TOO_LARGE,
};

struct number {
	enum number_fault fault;
	uint64_t digits;  /* as written */
	uint64_t value;   /* in base units */
	const char *unit; /* the rest of the text after digits and blanks */
};

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Digits only; the position behind them. Overflow is remembered, the digits are read to the end. */
static const char *
digits_read(const char *text, uint64_t *out, bool *overflow)
{
	*out = 0;
	*overflow = false;
	for (; is_digit(*text); text++) {
		if (__builtin_mul_overflow(*out, 10, out) ||
		    __builtin_add_overflow(*out, (uint64_t)(*text - '0'), out))
			*overflow = true;
	}
	return text;
}

static const struct unit *
unit_find(const struct unit *units, const char *name)
{
	for (; units->name != NULL; units++) {
		if (strcmp(units->name, name) == 0)
			return units;
	}
	return NULL;
}

static struct number
number_parse(const char *text, const struct unit *units)
{
	struct number number = {.fault = NUMBER_FINE};
	const struct unit *unit;
	const char *at;
	bool overflow;

	if (!is_digit(*text)) {
		number.fault = NUMBER_NONE;
		return number;
	}
	at = digits_read(text, &number.digits, &overflow);
	if (*at == '.' || *at == ',') {
		number.fault = NUMBER_FRACTION;
		return number;
	}
	number.unit = at + strspn(at, " ");
	unit = unit_find(units, number.unit);
	if (!overflow && unit != NULL)
		overflow = __builtin_mul_overflow(number.digits, unit->factor, &number.value);
	if (overflow)
		number.fault = NUMBER_TOO_LARGE;
	else if (*number.unit == '\0')
		number.fault = number.digits == 0 ? NUMBER_FINE : NUMBER_NO_UNIT;
	else if (unit == NULL)
		number.fault = NUMBER_UNIT_UNKNOWN;
	return number;
}

int
far_size_parse(const char *text, uint64_t *bytes_out)
{
	struct number number = number_parse(text, size_units);

	if (number.fault != NUMBER_FINE)
		return -EINVAL;
	*bytes_out = number.value;
	return 0;
}

int
far_duration_parse(const char *text, uint64_t *ns_out)
{
	struct number number = number_parse(text, duration_units);

	if (number.fault != NUMBER_FINE)
		return -EINVAL;
	*ns_out = number.value;
	return 0;
}

static const struct unit *
units_of(const struct far_param *param)
{
	if (param->type == FAR_PARAM_SIZE)
		return size_units;
	return param->type == FAR_PARAM_DURATION ? duration_units : NULL;
}

/* A bound as a user would write it: in the largest unit that divides it. */
static void
scaled_add(struct far_text *text, const struct far_param *param, uint64_t value)
{
	const struct unit *units = units_of(param);
	const struct unit *best = NULL;

	for (; units != NULL && units->name != NULL && value != 0; units++) {
		if (value % units->factor == 0)
			best = units;
	}
	far_text_add(text, "%llu%s",
		     (unsigned long long)(best == NULL ? value : value / best->factor),
		     best == NULL ? "" : best->name);
}

/* max 0 in a row means no upper bound: a parameter that may only be 0 is none. */
static bool
number_has_max(const struct far_param *param)
{
	return param->max != 0 && param->max != UINT64_MAX;
}

static bool
number_within(const struct far_param *param, uint64_t value)
{
	return value >= param->min && (!number_has_max(param) || value <= param->max);
}

static void
enum_list_add(struct far_text *text, const char *choices)
{
	for (const char *at = choices; *at != '\0';) {
		size_t size = strcspn(at, "|");

		far_text_add(text, "%s%.*s", at == choices ? "" : ", ", (int)size, at);
		at += size;
		at += *at == '|';
	}
}

void
far_param_range(const struct far_param *param, struct far_text *text)
{
	switch (param->type) {
	case FAR_PARAM_BOOL:
		far_text_add(text, "true, false");
		return;
	case FAR_PARAM_ENUM:
		enum_list_add(text, param->choices);
		return;
	case FAR_PARAM_STRING:
		if (param->min > 0)
			far_text_add(text, "%llu to ", (unsigned long long)param->min);
		else
			far_text_add(text, "up to ");
		far_text_add(text, "%llu bytes", (unsigned long long)param->max);
		return;
	default:
		break;
	}
	if (number_has_max(param)) {
		scaled_add(text, param, param->min);
		far_text_add(text, " to ");
		scaled_add(text, param, param->max);
	} else if (param->min != 0) {
		scaled_add(text, param, param->min);
		far_text_add(text, " or more");
	} else {
		far_text_add(text, "any");
	}
}

const char *
far_param_type_name(enum far_param_type type)
{
	static const char *const names[] = {
		[FAR_PARAM_U64] = "number",     [FAR_PARAM_SIZE] = "size",
		[FAR_PARAM_DURATION] = "time",  [FAR_PARAM_BOOL] = "boolean",
		[FAR_PARAM_DOUBLE] = "decimal", [FAR_PARAM_STRING] = "string",
		[FAR_PARAM_ENUM] = "choice",
	};

	return names[type];
}

void
far_param_example(const struct far_param *param, struct far_text *text)
{
	if (param->fallback != NULL && param->fallback[0] != '\0')
		far_text_add(text, "%s", param->fallback);
	else if (param->type == FAR_PARAM_BOOL)
		far_text_add(text, "true");
	else if (param->type == FAR_PARAM_STRING)
		far_text_add(text, "TEXT");
	else if (param->type == FAR_PARAM_ENUM)
		far_text_add(text, "%.*s", (int)strcspn(param->choices, "|"), param->choices);
	else
		scaled_add(text, param, param->min != 0 ? param->min : param->max);
}

/* The same digits with a unit: the one that the user's word begins like, else a likely one. */
static void
unit_example(const struct far_param *param, const struct number *number, struct far_text *cause)
{
	const struct unit *units = units_of(param);
	const char *const *likely = units == size_units ? size_likely : duration_likely;

	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < LIKELY_COUNT; i++) {
			const struct unit *unit = unit_find(units, likely[i]);
			uint64_t value;

			if (round == 0 && tolower((unsigned char)*number->unit) !=
						  tolower((unsigned char)*unit->name))
				continue;
			if (__builtin_mul_overflow(number->digits, unit->factor, &value) ||
			    !number_within(param, value))
				continue;
			far_text_add(cause, "write for example %llu%s",
				     (unsigned long long)number->digits, unit->name);
			return;
		}
	}
	far_text_add(cause, "write for example ");
	far_param_example(param, cause);
}

static int
range_check(const struct far_param *param, const char *shown, uint64_t value,
	    struct far_text *cause)
{
	if (number_within(param, value))
		return 0;
	far_text_add(cause, "'%s' is %s; write ", shown,
		     value < param->min ? "too small" : "too large");
	far_param_range(param, cause);
	return -EINVAL;
}

/* Sizes and durations. */
static int
scaled_set(const struct far_param *param, const char *text, uint64_t *out, struct far_text *cause)
{
	const struct unit *units = units_of(param);
	struct number number = number_parse(text, units);
	char shown[FAR_SHOWN_BYTES], unit_shown[FAR_SHOWN_BYTES];

	far_shown(text, shown);
	switch (number.fault) {
	case NUMBER_FINE:
		if (range_check(param, shown, number.value, cause) < 0)
			return -EINVAL;
		*out = number.value;
		return 0;
	case NUMBER_NONE:
		far_text_add(cause, "'%s' is not a %s; write for example ", shown,
			     far_param_type_name(param->type));
		far_param_example(param, cause);
		return -EINVAL;
	case NUMBER_FRACTION:
		far_text_add(cause, "'%s' is not a whole number; write it in a smaller unit (",
			     shown);
		break;
	case NUMBER_NO_UNIT:
		far_text_add(cause, "'%s' has no unit; ", shown);
		unit_example(param, &number, cause);
		return -EINVAL;
	case NUMBER_UNIT_UNKNOWN:
		far_text_add(cause, "unit '%s' is unknown; ", far_shown(number.unit, unit_shown));
		unit_example(param, &number, cause);
		far_text_add(cause, " (units: ");
		break;
	case NUMBER_TOO_LARGE:
		far_text_add(cause, "'%s' is too large; write ", shown);
		far_param_range(param, cause);
		return -EINVAL;
	}
	for (const struct unit *unit = units; unit->name != NULL; unit++)
		far_text_add(cause, "%s%s", unit == units ? "" : ", ", unit->name);
	far_text_add(cause, ")");
	return -EINVAL;
}

static int
u64_set(const struct far_param *param, const char *text, uint64_t *out, struct far_text *cause)
{
	char shown[FAR_SHOWN_BYTES];
	uint64_t value;
	bool overflow;
	const char *end = digits_read(text, &value, &overflow);

	far_shown(text, shown);
	if (end == text || *end != '\0') {
		far_text_add(cause, "'%s' is not a plain whole number; write digits alone, ",
			     shown);
		far_param_range(param, cause);
		return -EINVAL;
	}
	if (overflow) {
		far_text_add(cause, "'%s' is too large; write ", shown);
		far_param_range(param, cause);
		return -EINVAL;
	}
	if (range_check(param, shown, value, cause) < 0)
		return -EINVAL;
	*out = value;
	return 0;
}

/* Up to 15 digits with a point: both halves of the quotient are exact, so it is rounded once, and
 * no locale has a say in it. */
static bool
double_parse(const char *text, double *out)
{
	double scale = 1;
	uint64_t digits = 0;
	int digit_count = 0;
	bool point = false;

	for (; *text != '\0'; text++) {
		if (*text == '.' && !point && digit_count > 0) {
			point = true;
			continue;
		}
		if (!is_digit(*text) || ++digit_count > 15)
			return false;
		digits = digits * 10 + (uint64_t)(*text - '0');
		if (point)
			scale *= 10;
	}
	*out = (double)digits / scale;
	return digit_count > 0 && text[-1] != '.';
}

static int
double_set(const struct far_param *param, const char *text, double *out, struct far_text *cause)
{
	char shown[FAR_SHOWN_BYTES];
	double value;
	bool fine = double_parse(text, &value);

	if (fine && value >= (double)param->min &&
	    (!number_has_max(param) || value <= (double)param->max)) {
		*out = value;
		return 0;
	}
	far_text_add(cause, "'%s' is %s; write ", far_shown(text, shown),
		     !fine                        ? "not a decimal number like 0.25"
		     : value < (double)param->min ? "too small"
						  : "too large");
	far_param_range(param, cause);
	return -EINVAL;
}

static int
bool_set(const char *text, bool *out, struct far_text *cause)
{
	char shown[FAR_SHOWN_BYTES];

	if (strcmp(text, "true") == 0) {
		*out = true;
		return 0;
	}
	if (strcmp(text, "false") == 0) {
		*out = false;
		return 0;
	}
	far_text_add(cause, "'%s' is not a boolean; write true or false", far_shown(text, shown));
	return -EINVAL;
}

static int
enum_set(const struct far_param *param, const char *text, uint32_t *out, struct far_text *cause)
{
	char shown[FAR_SHOWN_BYTES];
	uint32_t idx = 0;

	for (const char *at = param->choices; *at != '\0'; idx++) {
		size_t size = strcspn(at, "|");

		if (strlen(text) == size && memcmp(text, at, size) == 0) {
			*out = idx;
			return 0;
		}
		at += size;
		at += *at == '|';
	}
	far_text_add(cause, "'%s' is not a choice; write one of ", far_shown(text, shown));
	enum_list_add(cause, param->choices);
	return -EINVAL;
}

static int
string_set(const struct far_param *param, const char *text, char *out, struct far_text *cause)
{
	char shown[FAR_SHOWN_BYTES];
	size_t size = strlen(text);

	for (size_t i = 0; i < size; i++) {
		/* Such strings end up in log lines and in /proc. */
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
			far_text_add(cause, "'%s' has a control character at byte %zu; remove it",
				     far_shown(text, shown), i + 1);
			return -EINVAL;
		}
	}
	if (size < param->min || size > param->max) {
		far_text_add(cause, "'%s' is %zu bytes long; write ", far_shown(text, shown), size);
		far_param_range(param, cause);
		return -EINVAL;
	}
	memcpy(out, text, size + 1);
	return 0;
}

int
far_param_value_set(const struct far_param *param, void *config, const char *text,
		    struct far_text *cause)
{
	/* The owner's struct has members of these types at the offsets: offsetof() aligned them. */
	void *at = (char *)config + param->offset;

	switch (param->type) {
	case FAR_PARAM_U64:
		return u64_set(param, text, at, cause);
	case FAR_PARAM_SIZE:
	case FAR_PARAM_DURATION:
		return scaled_set(param, text, at, cause);
	case FAR_PARAM_BOOL:
		return bool_set(text, at, cause);
	case FAR_PARAM_DOUBLE:
		return double_set(param, text, at, cause);
	case FAR_PARAM_STRING:
		FAR_ASSERT(param->max > 0);
		return string_set(param, text, at, cause);
	case FAR_PARAM_ENUM:
		FAR_ASSERT(param->choices != NULL);
		return enum_set(param, text, at, cause);
	}
	FAR_ASSERT(param->type <= FAR_PARAM_ENUM); /* a row of our own is wrong */
	return -EINVAL;
}
