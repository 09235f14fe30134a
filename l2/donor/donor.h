/* donor.h - the adapter of one remote donor: its published index, read one-sidedly. */
#ifndef FAR_L2_DONOR_DONOR_H
#define FAR_L2_DONOR_DONOR_H

#include "l2/l2.h"

/* For the registry. config: name (that must answer), address ("shm:/run/farpool/a.sock", or a list),
 * name_space. The transports of the addresses' schemes and their arena registrations come from @env;
 * an address whose transport is not among them is not used. */
int far_l2_donor_open(const struct far_l2_config *config, const struct far_l2_env *env,
		      struct far_l2 **out, char error[256]);

#endif
