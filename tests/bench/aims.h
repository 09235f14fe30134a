/* aims.h - the table of aims: one row each, what the rows are made from, and what came of it. */
#ifndef FAR_TESTS_BENCH_AIMS_H
#define FAR_TESTS_BENCH_AIMS_H

#include "tests/bench/bench.h"

#define AIMS_SETS_MAX                                                                              \
	33 /* that the largest group holds at the same time, beside the donor of stores */
#define AIMS_ROUNDS_MAX 50
#define AIMS_ROWS_MAX   64
#define AIMS_RUNS_MAX   64
#define AIMS_THAN_MAX   3 /* yardsticks of a row */
#define AIMS_ONLY_MAX   32

/* What of a mover's turn a row looks at. */
enum aims_quantity {
	AIMS_GBPS,      /* bytes per nanosecond */
	AIMS_MKEYS,     /* million counted things per second of this process's processor */
	AIMS_DONOR_CPU, /* seconds of the other side's processor per GB */
	AIMS_MESSAGES,  /* per counted thing */
	AIMS_CPU_US,    /* processor time of one counted thing */
	AIMS_IDLE_US,   /* one block, after a pause; median of a turn */
};

/* How the row's value is made, and on which side of the aim it should be. */
enum aims_kind {
	AIMS_RATIO,    /* of the best yardstick; at least */
	AIMS_AT_LEAST, /* itself */
	AIMS_AT_MOST,
	AIMS_ABOVE_AT_MOST, /* what it is above the best yardstick */
};

/* What is open at the same time and takes turns. */
enum aims_group {
	AIMS_SHM,
	AIMS_TCP, /* each side on half of the processors */
	AIMS_LOOKUP,
	AIMS_CPU,
	AIMS_GROUPS,
};

struct aims_row {
	const char *name;
	const char *text;
	enum aims_group group;
	enum aims_quantity quantity;
	enum aims_kind kind;
	double aim;
	uint64_t size; /* of a block in bytes; lookups: keys in the index */
	const struct bench_mover_ops *of;
	const struct bench_mover_ops *than[AIMS_THAN_MAX]; /* the best of them; NULL: no more */
	uint64_t than_size;                                /* 0: the same */
};

extern const struct aims_row aims_rows[];
extern const size_t aims_row_count;
/* Its text, or that of the row which it is the same as. */
const char *aims_row_text(const struct aims_row *row);

/* One mover at one size: what a turn is given to. Rows share them. */
struct aims_run {
	const struct bench_mover_ops *ops;
	uint64_t size;
	bool idle;                  /* single blocks after a pause, not passes */
	bool absent;                /* this machine or build does not have it: no failure */
	char why[BENCH_TEXT_BYTES]; /* empty: it ran */
	char note[BENCH_TEXT_BYTES];
	struct bench_pass pass[AIMS_ROUNDS_MAX];
	double idle_us[AIMS_ROUNDS_MAX];
};

struct aims {
	struct bench_plan plan;
	const char *only[AIMS_ONLY_MAX]; /* names of rows, or what they begin with; none: all */
	uint32_t only_count;
	struct aims_run *runs; /* owned; AIMS_RUNS_MAX */
	uint32_t run_count;
	double load;    /* of the machine, before it began */
	double others;  /* processors that others used meanwhile */
	double stolen;  /* and that the machine below took */
	double seconds; /* that it all took */
	char versions[BENCH_VERSIONS_MAX][BENCH_VERSION_BYTES];
	uint32_t version_count;
};

/* ---- aims_run.c ---- */

bool aims_is_wanted(const struct aims *aims, const struct aims_row *row);
/* Runs every row that is wanted. Returns 0, or a negative errno when something of farpool's failed or no
 * memory was there for it. */
int aims_run_all(struct aims *aims);
/* What a row looks at; NULL: it was not asked for. */
struct aims_run *aims_run_find(const struct aims *aims, const struct bench_mover_ops *ops,
			       uint64_t size, bool idle);

/* ---- aims_value.c: what the rounds come to ---- */

struct aims_value {
	bool known;
	char why[BENCH_TEXT_BYTES];   /* where it is not */
	double value, min, max;       /* of medians; of single rounds */
	struct bench_spread of, than; /* than: of the best yardstick */
	const struct aims_run *of_run, *than_run;
	bool met;
};

/* In the quantity's unit. */
double aims_quantity_of(enum aims_quantity quantity, const struct aims_run *run, uint32_t round);
void aims_value_get(const struct aims *aims, const struct aims_row *row, struct aims_value *out);

/* ---- aims_report.c, aims_json.c ---- */

const char *aims_unit(enum aims_quantity quantity);
void aims_report(const struct aims *aims);
void aims_list(void);
/* Returns 0 or -EIO, and says why. */
int aims_json_write(const struct aims *aims);

#endif
