/* session.h - what a prefetch asks of the session that its loans belong to; NULL is the client's. */
#ifndef FAR_CLIENT_SESSION_H
#define FAR_CLIENT_SESSION_H

#include "client/client_priv.h"

/* False: it is ending, and its loans are none of the caller's business any more. Until leave it does
 * not end. Any thread. */
bool far_session_enter(struct far_session *session);
void far_session_leave(struct far_session *session);
bool far_session_is_open(struct far_session *session);

/* A handle's reference. */
void far_session_get(struct far_session *session);
void far_session_put(struct far_session *session);
/* It does not end between the two; begins within enter and leave. */
void far_session_prefetch_begins(struct far_session *session);
void far_session_prefetch_ends(struct far_session *session);

far_l1_session far_session_l1(const struct far_client *client, const struct far_session *session);
bool far_session_is_of(const struct far_session *session, const struct far_client *client);

#endif
