/*
 * Socket activation: a listening socket that the service manager opened and
 * passed on (systemd's protocol: LISTEN_PID is us, LISTEN_FDS sockets start
 * at descriptor 3).
 *
 * The socket stays the manager's: it outlives the engine, so connections made
 * while no engine runs wait in its backlog, and its file is never removed
 * here.
 */
#ifndef AX_SERVER_PASSED_SOCKET_H
#define AX_SERVER_PASSED_SOCKET_H

#include <stddef.h>
#include "engine/error.h"

#define AX_PASSED_SOCKET_FIRST 3

/*
 * Which descriptor the values of LISTEN_PID and LISTEN_FDS (NULL: unset)
 * pass to this process: *fd is it, or -1 for none.  BAD_OPTION for more than
 * one socket or for values that are no numbers.
 */
int ax_passed_socket_find(int *fd, const char *listen_pid,
                          const char *listen_fds, struct ax_error *err);

/*
 * Takes it into use: it must be a listening unix socket of SOCK_SEQPACKET,
 * else BAD_OPTION; it becomes non-blocking and close-on-exec.  Its path, or
 * "@NAME", is written for the log.
 */
int ax_passed_socket_take(int fd, char *path, size_t path_bytes,
                          struct ax_error *err);

#endif
