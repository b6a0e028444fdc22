/*
 * For tests that run the server itself in place of axiond (engine_in_child):
 * what axiond does around it, so that only what a test asks for is its own.
 */
#ifndef AX_TEST_IN_CHILD_H
#define AX_TEST_IN_CHILD_H

#include <signal.h>
#include <stdio.h>
#include <unistd.h>
#include "engine/server/server.h"
#include "tests/server/harness.h"

/* Signals are the server's to read; the defaults, on the engine's model and
 * socket, whose address is written into `listen`. */
static inline void
in_child_options(struct ax_server_options *options, char listen[128],
                 const struct engine *e)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    snprintf(listen, 128, "unix:%s", e->socket);
    ax_server_defaults(options);
    options->model = e->model;
    options->listen = listen;
}


static inline int
in_child_open(struct ax_server **server,
              const struct ax_server_options *options)
{
    static struct ax_log log; /* the server keeps it */
    struct ax_error err;
    log = (struct ax_log){STDERR_FILENO, ax_log_level("notice")};
    return ax_server_open(server, options, &log, &err);
}


/* Serves until it is over, and is the end of the process. */
static inline void
in_child_serve(const struct ax_server_options *options)
{
    struct ax_server *server;
    int rc = in_child_open(&server, options);
    if (rc == AXION_OK) {
        rc = ax_server_run(server);
        (void)ax_server_close(server);
    }
    _exit(rc == AXION_OK ? 0 : 1);
}

#endif
