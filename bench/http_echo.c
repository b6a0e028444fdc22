/*
 * The peer of the ring in bench/gateway_latency.sh: an HTTP/1.1 server on a unix
 * socket that answers every POST with what the echo engine's answer becomes,
 * one SSE stream of a few events, so that nginx's proxy_pass to it can be
 * compared with axion_pass over the ring.
 *
 *   http-echo SOCKET EVENTS
 *
 * One thread, epoll, keep-alive, no allocation per request: as little server
 * as possible, in favour of the peer.  It reads requests of up to 16 KB with a
 * Content-Length, as nginx sends them, and is of use to the benchmark alone.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define REQUEST_MAX 16384
#define ANSWER_MAX  (1 << 20)
#define EPOLL_BATCH 64

struct connection {
    int fd;
    size_t used;
    char data[REQUEST_MAX];
};

static char answer[ANSWER_MAX];
static size_t answer_bytes;


static void
append(const char *text)
{
    size_t n = strlen(text);

    if (n > sizeof(answer) - answer_bytes) {
        fprintf(stderr, "http-echo: too many events\n");
        exit(1);
    }
    memcpy(answer + answer_bytes, text, n);
    answer_bytes += n;
}


/* Each event is a chunk of its own, as a streaming server writes it. */
static void
append_event(const char *text)
{
    char head[32];

    snprintf(head, sizeof(head), "%zx\r\n", strlen(text));
    append(head);
    append(text);
    append("\r\n");
}


static void
make_answer(int events)
{
    static const char delta[] =
        "data: {\"id\":\"cmpl-00000000000000000000000000000000\",\"object\":"
        "\"text_completion\",\"created\":1700000000,\"model\":\"echo\","
        "\"choices\":[{\"index\":0,\"text\":\"token \",\"logprobs\":null,"
        "\"finish_reason\":null}]}\n\n";
    int i;

    append("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
           "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (i = 0; i < events; i++) {
        append_event(delta);
    }
    append_event("data: [DONE]\n\n");
    append("0\r\n\r\n");
}


static int
listen_on(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (strlen(path) >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, path);
    unlink(path);
    if (fd == -1 ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(fd, 1024) != 0) {
        return -1;
    }
    return fd;
}


/* Bytes of the first whole request in the buffer, 0 if it is not whole. */
static size_t
request_bytes(const struct connection *c)
{
    const char *end = memmem(c->data, c->used, "\r\n\r\n", 4);
    const char *length;
    size_t head, body = 0;

    if (end == NULL) {
        return 0;
    }
    head = (size_t)(end - c->data) + 4;
    length = memmem(c->data, head, "Content-Length: ", 16);
    if (length != NULL) {
        body = (size_t)strtoul(length + 16, NULL, 10);
    }
    return head + body <= c->used ? head + body : 0;
}


static bool
write_answer(int fd)
{
    size_t sent = 0;

    while (sent < answer_bytes) {
        ssize_t n = write(fd, answer + sent, answer_bytes - sent);

        if (n <= 0) {
            return false;
        }
        sent += (size_t)n;
    }
    return true;
}


/* False when the connection is over. */
static bool
serve(struct connection *c)
{
    ssize_t n = read(c->fd, c->data + c->used, sizeof(c->data) - c->used);
    size_t whole;

    if (n <= 0) {
        return false;
    }
    c->used += (size_t)n;
    while ((whole = request_bytes(c)) > 0) {
        if (!write_answer(c->fd)) {
            return false;
        }
        c->used -= whole;
        memmove(c->data, c->data + whole, c->used);
    }
    return c->used < sizeof(c->data);
}


static void
accept_one(int epoll, int listener)
{
    struct connection *c = calloc(1, sizeof(*c));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};

    if (c == NULL) {
        return;
    }
    c->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (c->fd == -1 || epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) != 0) {
        free(c);
    }
}


int
main(int argc, char **argv)
{
    struct epoll_event events[EPOLL_BATCH] = {{0}};
    int epoll, listener, i, n;

    if (argc != 3 || atoi(argv[2]) < 1) {
        fprintf(stderr, "usage: http-echo SOCKET EVENTS\n");
        return 2;
    }
    make_answer(atoi(argv[2]));
    epoll = epoll_create1(EPOLL_CLOEXEC);
    listener = listen_on(argv[1]);
    events[0].events = EPOLLIN;
    if (epoll == -1 || listener == -1 ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &events[0]) != 0) {
        perror(argv[1]);
        return 1;
    }
    for (;;) {
        n = epoll_wait(epoll, events, EPOLL_BATCH, -1);
        for (i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;

            if (c == NULL) {
                accept_one(epoll, listener);
            } else if (!serve(c)) {
                close(c->fd);
                free(c);
            }
        }
    }
}
