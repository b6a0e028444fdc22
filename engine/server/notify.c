/* See notify.h.  Own code: it is less than a dependency on libsystemd. */
#include "engine/server/notify.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define MESSAGE_BYTES 512


/* The address's length, or 0. */
static socklen_t
make_address(struct sockaddr_un *address, const char *path)
{
    size_t bytes = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || bytes < 2 ||
        bytes >= sizeof(address->sun_path)) {
        return 0;
    }
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(address->sun_path, path, bytes);
    if (path[0] == '@') {
        address->sun_path[0] = '\0'; /* abstract: no zero byte at its end */
    } else {
        bytes++;
    }
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes);
}


static size_t
make_message(char *out, size_t size, const char *state, const char *status)
{
    int head = snprintf(out, size, "%s%sSTATUS=", state != NULL ? state : "",
                        state != NULL ? "\n" : "");
    size_t n = (size_t)head;
    for (; *status != '\0' && n < size; status++) {
        unsigned char c = (unsigned char)*status;
        out[n++] = c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
    return n;
}


int
ax_notify(const char *path, const char *state, const char *status,
          struct ax_error *err)
{
    struct sockaddr_un address;
    struct timeval patience = {.tv_sec = 1};
    char message[MESSAGE_BYTES];
    if (path == NULL) {
        return AXION_OK;
    }
    socklen_t length = make_address(&address, path);
    if (length == 0) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "NOTIFY_SOCKET is neither an absolute path nor "
                            "an abstract socket");
    }
    size_t n = make_message(message, sizeof(message), state, status);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool sent = fd >= 0 &&
                setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience,
                           sizeof(patience)) == 0 &&
                sendto(fd, message, n, MSG_NOSIGNAL,
                       (struct sockaddr *)&address, length) == (ssize_t)n;
    int rc = sent ? AXION_OK
                  : ax_error_set(err, AXION_ERR_SYSTEM, "NOTIFY_SOCKET: %s",
                                 strerror(errno));
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}
