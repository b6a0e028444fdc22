/*
 * What axiond tells its service manager, in systemd's protocol (sd_notify):
 * datagrams of NAME=VALUE lines to the socket that $NOTIFY_SOCKET names.
 * main() reads the environment; this takes the path.
 */
#ifndef AX_SERVER_NOTIFY_H
#define AX_SERVER_NOTIFY_H

#include "engine/error.h"

/*
 * Sends "STATE\nSTATUS=status".  `path` is absolute, or "@NAME" for an
 * abstract socket; NULL: there is no manager, and nothing is sent.  `state` is
 * "READY=1", "STOPPING=1" or NULL; `status` is one line for people, in which
 * control characters become '?', so that it cannot add lines of its own.
 *
 * AXION_OK, BAD_OPTION (the path), SYSTEM.  It waits a second at most for a
 * manager that does not read.
 */
int ax_notify(const char *path, const char *state, const char *status,
              struct ax_error *err);

#endif
