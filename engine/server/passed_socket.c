/* See passed_socket.h. */
#include "engine/server/passed_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>


static bool
parse_number(const char *text, long *value)
{
    char *end;
    errno = 0;
    *value = strtol(text, &end, 10);
    return errno == 0 && *text >= '0' && *text <= '9' && *end == '\0';
}


int
ax_passed_socket_find(int *fd, const char *listen_pid, const char *listen_fds,
                      struct ax_error *err)
{
    long pid, n;
    *fd = -1;
    if (listen_pid == NULL || listen_fds == NULL) {
        return AXION_OK;
    }
    if (!parse_number(listen_pid, &pid) || !parse_number(listen_fds, &n)) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "LISTEN_PID or LISTEN_FDS is not a number");
    }
    if (pid != (long)getpid() || n == 0) {
        return AXION_OK; /* a parent's that we inherited the names of */
    }
    if (n != 1) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "LISTEN_FDS: %ld sockets were passed, one is "
                            "needed",
                            n);
    }
    *fd = AX_PASSED_SOCKET_FIRST;
    return AXION_OK;
}


static int
integer_option(int fd, int name)
{
    int value = -1;
    socklen_t length = sizeof(value);
    return getsockopt(fd, SOL_SOCKET, name, &value, &length) == 0 ? value : -1;
}


static void
write_path(int fd, char *path, size_t path_bytes)
{
    struct sockaddr_un address = {0};
    socklen_t length = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &length) != 0 ||
        length <= offsetof(struct sockaddr_un, sun_path)) {
        snprintf(path, path_bytes, "a socket without a name");
        return;
    }
    size_t n = length - offsetof(struct sockaddr_un, sun_path);
    if (n > sizeof(address.sun_path)) {
        n = sizeof(address.sun_path);
    }
    if (address.sun_path[0] == '\0') {
        address.sun_path[0] = '@';
    }
    snprintf(path, path_bytes, "%.*s", (int)n, address.sun_path);
}


int
ax_passed_socket_take(int fd, char *path, size_t path_bytes,
                      struct ax_error *err)
{
    if (integer_option(fd, SO_DOMAIN) != AF_UNIX ||
        integer_option(fd, SO_TYPE) != SOCK_SEQPACKET ||
        integer_option(fd, SO_ACCEPTCONN) != 1) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "the passed descriptor %d is not a listening "
                            "unix socket of SOCK_SEQPACKET "
                            "(ListenSequentialPacket=)",
                            fd);
    }
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
        return ax_error_set(err, AXION_ERR_SYSTEM,
                            "the passed descriptor %d: %s", fd,
                            strerror(errno));
    }
    write_path(fd, path, path_bytes);
    return AXION_OK;
}
