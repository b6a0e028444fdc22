/*
 * Any bytes as axiond's command line, as --listen's value and as systemd's
 * two variables.  What must hold: a refusal is one line that is not empty,
 * what was taken points into the arguments, and --help's table still prints.
 * No socket is made: socket() fails here (rules.mk wraps it), so whatever
 * passes the parser of --listen ends there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "engine/server/passed_socket.h"
#include "engine/server/server.h"
#include "shm/channel.h"

#define ARGS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int __wrap_socket(int domain, int type, int protocol);


int
__wrap_socket(int domain, int type, int protocol)
{
    (void)domain;
    (void)type;
    (void)protocol;
    errno = EMFILE;
    return -1;
}


static void
expect(int condition)
{
    if (!condition) {
        abort();
    }
}


static void
one_line(const char *text)
{
    expect(text[0] != 0 && strchr(text, '\n') == NULL);
}


/* Cuts the text at line feeds into argv[1..]; returns argc. */
static int
cut(char *text, char **argv)
{
    static char name[] = "axiond";
    int argc = 1;
    argv[0] = name;
    for (char *at = text; at != NULL && argc < ARGS_MAX;) {
        argv[argc++] = at;
        at = strchr(at, '\n');
        if (at != NULL) {
            *at++ = 0;
        }
    }
    argv[argc] = NULL;
    return argc;
}


static void
fuzz_listen(const char *spec)
{
    char path[128], why[160] = "";
    int fd;
    expect(axion_listen(spec, &fd, path, sizeof(path), why, sizeof(why)) !=
           AXION_OK);
    expect(fd == -1 && why[0] != 0);
}


static void
fuzz_options(int argc, char **argv)
{
    struct ax_server_options options;
    struct ax_error err = {0};
    int n_args = 0;
    ax_server_defaults(&options);
    if (ax_options_parse(ax_server_option_table, &options, argc, argv, &n_args,
                         &err) != AXION_OK) {
        one_line(err.text);
        return;
    }
    expect(n_args >= 0 && n_args < argc);
    expect(options.allow_uid.n <= AX_OPTION_UIDS_MAX);
    expect(options.event_loop != NULL);
    if (options.listen != NULL) {
        fuzz_listen(options.listen);
    }
}


static void
fuzz_variables(int argc, char **argv)
{
    struct ax_error err = {0};
    int fd = -1;
    const char *pid = argc > 1 ? argv[1] : NULL;
    const char *fds = argc > 2 ? argv[2] : NULL;
    if (ax_passed_socket_find(&fd, pid, fds, &err) != AXION_OK) {
        one_line(err.text);
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *argv[ARGS_MAX + 1];
    char *text = malloc(size + 1);
    if (size == 0 || text == NULL) {
        free(text);
        return 0;
    }
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    if (data[0] == 'l') {
        fuzz_listen(text);
    } else {
        int argc = cut(text, argv);
        if (data[0] == 'v') {
            fuzz_variables(argc, argv);
        } else {
            fuzz_options(argc, argv);
        }
    }
    free(text);
    return 0;
}
