/* verbs_seam.h - a world whose calls of the verbs libraries are counted, looked at and, when told, broken. */
#ifndef FAR_TESTS_UNIT_TRANSPORT_VERBS_SEAM_H
#define FAR_TESTS_UNIT_TRANSPORT_VERBS_SEAM_H

#include "tests/unit/transport/verbs_world.h"
#include "transport/verbs/verbs_priv.h"

#define GARBLES 9U

struct verbs_seam {
	unsigned doorbells;
	unsigned wrs;
	unsigned completions; /* of what was sent */
	unsigned fenced;
	uint64_t
		syscalls; /* within the libraries, for doorbells and completions; if they are counted */
	uint8_t reads_max[2]; /* as queue pairs were told, in their order */
	uint8_t reads_served[2];
	unsigned pairs;
	struct ibv_qp_attr rtr, rts; /* of the last one */
	int served;                  /* what devices say that they can serve; 0: the truth, -1: 0 */
	unsigned garble;             /* how the next SEND is; 0: as it is */
	bool swallow;                /* the next chain goes nowhere */
	bool read_as_write;          /* the next READ goes out as a WRITE */
	int64_t write_shift;         /* the next WRITE goes so many bytes behind where it should */
	unsigned opened, closed;     /* devices */
	const struct ibv_cq *broken; /* cannot be read */
};
extern struct verbs_seam verbs_seam;

/* The libraries themselves. */
extern const struct verbs_lib *verbs_seam_real;

/* Puts the table that counts in place, for the rest of the process. Returns 0, or why it cannot. */
int verbs_seam_install(void);
/* A world that is up, nothing counted before it; and its end, with every setting as it was. */
void verbs_seam_begin(struct verbs_world *w);
void verbs_seam_begin_with(struct verbs_world *w, uint32_t credits);
void verbs_seam_end(struct verbs_world *w);
/* All that was said on the way is told. */
void verbs_seam_settle(struct verbs_world *w);

#endif
