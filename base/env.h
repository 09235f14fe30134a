/* env.h - the environment, for what an operator sets there for a library below us. */
#ifndef FAR_BASE_ENV_H
#define FAR_BASE_ENV_H

/* The value of an exported variable, or NULL. Borrowed until the environment is changed. Thread:
 * any, as long as nobody changes the environment. */
const char *far_env_get(const char *name);

#endif
