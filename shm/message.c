/*
 * What goes over the socket: handshake datagrams, with at most one file
 * descriptor each, and one-byte doorbells.
 *
 * A peer may send any number of descriptors with any message.  All that the
 * kernel hands us are closed but the one that was asked for; what does not
 * fit into the control buffer the kernel closes itself (MSG_CTRUNC).  A
 * doorbell that finds the peer's queue full is as good as sent: a byte is
 * already there.  One that the kernel has no memory for is tried again; a peer
 * that cannot be woken would sleep for ever, so the channel is ended then, and
 * end of file tells both sides.  Nothing here ever blocks or raises SIGPIPE.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>
#include "shm/errors.h"
#include "shm/ring.h"

/* A peer is owed one doorbell per sleep of ours, and the kernel's queue of a
 * unix socket holds a few hundred: more in one go is a flood. */
#define DOORBELLS_MAX 2048
#define SEND_TRIES    4

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(4 * sizeof(int))];
};


static int
receive_error(void)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
        return AXION_AGAIN;
    }
    return AXION_ERR_ENGINE_LOST;
}


/* A peer that closes without having read all of ours leaves ECONNRESET, which
 * the kernel reports once, before the datagrams that the peer had sent: its
 * REFUSED may come after. */
static ssize_t
receive(int fd, struct msghdr *message)
{
    int resets = 0;
    ssize_t n;

    do {
        n = recvmsg(fd, message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (n < 0 &&
             (errno == EINTR || (errno == ECONNRESET && resets++ == 0)));
    return n;
}


int
axion_doorbells_take(int fd, void *message, size_t room, size_t *got,
                     const char **why)
{
    *got = 0;
    for (int i = 0; i < DOORBELLS_MAX; i++) {
        struct iovec iov = {message, room};
        struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
        ssize_t n = receive(fd, &header);

        if (n < 0) {
            int rc = receive_error();
            return rc == AXION_AGAIN ? AXION_OK : rc;
        }
        if (n == 0) {
            return AXION_ERR_ENGINE_LOST;
        }
        if ((header.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) != 0) {
            *why = "message that is no doorbell";
            return AXION_ERR_PROTOCOL;
        }
        if (n > 1) {
            *got = (size_t)n;
            return AXION_OK;
        }
    }
    *why = "flood of doorbells";
    return AXION_ERR_PROTOCOL;
}


static int
lacks_memory(int error)
{
    return error == ENOBUFS || error == ENOMEM;
}


void
axion_wake(int fd, const struct axion_wakeup *need, uint32_t bits,
           uint64_t *rung)
{
    /* Waker's fence: between our index, stored before, and need_wakeup.
     * Pairs with the sleeper's, between its ticket and its load of the
     * index (axion_client_arm, axion_channel_arm). */
    axion_full_fence();
    uint64_t ticket = axion_need_wakeup_get(need);
    if ((ticket & bits) == 0 || ticket == *rung) {
        return;
    }

    int tries = 0;
    ssize_t n;
    do {
        n = send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 &&
             (errno == EINTR || (lacks_memory(errno) && ++tries < SEND_TRIES)));
    if (n == 1 || errno == EAGAIN) {
        *rung = ticket;
    } else if (lacks_memory(errno)) {
        shutdown(fd, SHUT_RDWR);
    }
}


int
axion_message_send(int socket, const void *data, size_t bytes, int fd)
{
    union control control;
    struct iovec iov = {(void *)data, bytes};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n;

    if (fd >= 0) {
        memset(&control, 0, sizeof(control));
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int));
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
    }
    do {
        n = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t)bytes ? AXION_OK : AXION_ERR_SYSTEM;
}


/* Keeps the first descriptor, closes the others; returns how many came. */
static int
collect_fds(struct msghdr *message, int *fd)
{
    int n_fds = 0;

    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(message); cmsg != NULL;
         cmsg = CMSG_NXTHDR(message, cmsg)) {
        if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int one;
            memcpy(&one, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(int));
            if (n_fds++ == 0) {
                *fd = one;
            } else {
                close(one);
            }
        }
    }
    return n_fds;
}


int
axion_message_take(int socket, void *data, size_t bytes, size_t *got, int *fd,
                   const char **why)
{
    union control control;
    struct iovec iov = {data, bytes};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};

    *fd = -1;
    *got = 0;
    ssize_t n = receive(socket, &message);
    if (n < 0) {
        return receive_error();
    }

    int n_fds = collect_fds(&message, fd);
    if (n_fds == 0 && (message.msg_flags & MSG_CTRUNC) != 0) {
        /* The control buffer has room: it was our limit of descriptors. */
        *why = "no descriptor left to receive one";
        return AXION_ERR_SYSTEM;
    }
    if (n_fds > 1 || (message.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) != 0) {
        *why = (message.msg_flags & MSG_TRUNC) != 0
                   ? "message is too long"
                   : "more than one descriptor";
        if (*fd >= 0) {
            close(*fd);
            *fd = -1;
        }
        return AXION_ERR_PROTOCOL;
    }
    if (n == 0) {
        if (*fd >= 0) {
            close(*fd);
            *fd = -1;
        }
        return AXION_ERR_ENGINE_LOST;
    }
    *got = (size_t)n;
    return AXION_OK;
}


void
axion_printable(char *to, size_t to_bytes, const char *from, size_t from_bytes)
{
    size_t i;

    for (i = 0; i < from_bytes && i + 1 < to_bytes && from[i] != 0; i++) {
        to[i] = from[i] >= 0x20 && from[i] < 0x7f ? from[i] : '?';
    }
    to[i] = 0;
}
