/*
 * axiond: the engine process.  Parses the command line, runs the server on
 * this thread, and says in its exit status how that went: 0 ended by a
 * signal, 1 could not start or load, 2 the command line is wrong, in itself,
 * for this machine (--listen's group) or for this model (--ctx).
 *
 * Of the environment it takes systemd's variables alone: a socket that was
 * passed (LISTEN_PID, LISTEN_FDS) is used instead of --listen's, and
 * NOTIFY_SOCKET is told when it is ready and when it stops.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "engine/server/engine.h"
#include "engine/server/passed_socket.h"
#include "engine/server/server.h"

#define EXIT_USAGE 2


static void
print_help(void)
{
    char text[8192];
    ax_options_help(ax_server_option_table, text, sizeof(text));
    printf("axiond " AXION_VERSION ": serves a model to gateways over shared "
           "memory\n\nusage: axiond --model FILE --listen unix:PATH "
           "[options]\n\n%s\nSizes take k, m, g; times ms, s, m, h, d.  "
           "SIGTERM and SIGINT drain, a second one ends at once.\n",
           text);
}


static int
usage_error(const char *text)
{
    fprintf(stderr, "axiond: %s\n", text);
    return EXIT_USAGE;
}


static int
exit_status(int rc)
{
    return rc == AXION_OK               ? EXIT_SUCCESS
           : rc == AXION_ERR_BAD_OPTION ? EXIT_USAGE
                                        : EXIT_FAILURE;
}


/* Before any thread starts, so that all inherit it: signals come through
 * the loop's signalfd alone, and a peer that goes away is an EPIPE. */
static void
prepare_signals(void)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}


int
main(int argc, char **argv)
{
    struct ax_server_options options;
    struct ax_error err = {0};
    int n_args;
    ax_server_defaults(&options);
    if (ax_options_parse(ax_server_option_table, &options, argc, argv, &n_args,
                         &err) != AXION_OK) {
        return usage_error(err.text);
    }
    if (options.help) {
        print_help();
        return EXIT_SUCCESS;
    }
    if (options.version) {
        printf("axiond " AXION_VERSION "\n");
        return EXIT_SUCCESS;
    }
    if (n_args > 0) {
        return usage_error("arguments without an option name (--help)");
    }
    options.notify = getenv("NOTIFY_SOCKET");
    if (ax_passed_socket_find(&options.listen_fd, getenv("LISTEN_PID"),
                              getenv("LISTEN_FDS"), &err) != AXION_OK) {
        return usage_error(err.text);
    }
    if (options.model == NULL ||
        (options.listen == NULL && options.listen_fd < 0)) {
        return usage_error("--model and --listen are needed (--help)");
    }

    if (options.alias != NULL && !ax_engine_alias_valid(options.alias)) {
        return usage_error("--alias: not a name of 1 to 63 bytes of UTF-8 "
                           "without control characters");
    }

    prepare_signals();
    struct ax_log log = {STDERR_FILENO, ax_log_level(options.log_level)};
    struct ax_server *server;
    int rc = ax_server_open(&server, &options, &log, &err);
    if (rc == AXION_ERR_BAD_OPTION) {
        return usage_error(err.text);
    }
    if (rc != AXION_OK) {
        ax_log(&log, AXION_LOG_crit, "%s", err.text);
        return exit_status(rc);
    }
    rc = ax_server_run(server);
    if (!ax_server_close(server)) {
        _exit(exit_status(rc)); /* it may still use what exit() destroys */
    }
    return exit_status(rc);
}
