/*
 * The same streams over plain HTTP/1.1, so that proxy_pass and axion_pass can
 * be compared in front of equal work.  It is what a small, decent inference
 * server does: keep-alive, bodies by Content-Length, SSE in chunks, one write
 * per turn of the loop and connection, cancel when the client goes away.
 * Parsing and rendering are api/'s, as in the module.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "api/error.h"
#include "api/models.h"
#include "api/request.h"
#include "api/response.h"
#include "shm/errors.h"
#include "tests/echo/echo.h"

#define HEAD_BYTES_MAX   16384u
#define BODY_BYTES_MAX   (16u << 20)
#define OUTPUT_HIGH      (64u << 10) /* streams wait above this */
#define OUTPUT_BYTES_MAX (64u << 20)
#define BLOCKS_MAX       32u

struct http_connection {
    struct echo_source source; /* first */
    struct http_connection *next;
    struct echo_stream *stream;
    char *in;
    size_t in_bytes;
    size_t in_capacity;
    char *out;
    size_t out_at;
    size_t out_bytes;
    size_t out_capacity;
    unsigned keep_alive : 1;
    unsigned streaming : 1;
    unsigned want_write : 1;
    unsigned dead : 1;
    struct axion_response response;
    struct axion_out body; /* of an answer that is not streamed */
    void *blocks[BLOCKS_MAX];
    size_t n_blocks;
};

static struct echo_source listener = {.fd = -1};
static struct http_connection *connections;
static uint64_t n_requests;


/* ---- memory of one request ---- */

static void *
request_alloc(void *context, size_t bytes)
{
    struct http_connection *c = context;

    if (c->n_blocks == BLOCKS_MAX)
        return NULL;
    c->blocks[c->n_blocks] = malloc(bytes ? bytes : 1);
    return c->blocks[c->n_blocks++];
}


static void
request_free(struct http_connection *c)
{
    while (c->n_blocks > 0)
        free(c->blocks[--c->n_blocks]);
}


/* ---- output ---- */

static void *
grow(void *data, size_t *capacity, size_t needed)
{
    size_t bytes = *capacity ? *capacity : 4096;

    while (bytes < needed)
        bytes *= 2;
    if (bytes == *capacity)
        return data;
    data = realloc(data, bytes);
    if (data == NULL)
        abort();
    *capacity = bytes;
    return data;
}


static void
put(struct http_connection *c, const void *data, size_t bytes)
{
    c->out = grow(c->out, &c->out_capacity, c->out_bytes + bytes);
    memcpy(c->out + c->out_bytes, data, bytes);
    c->out_bytes += bytes;
}


/* One chunk of the chunked encoding. */
static void
put_chunk(struct http_connection *c, const struct axion_out *data)
{
    char size[24];

    if (data->bytes == 0)
        return;
    put(c, size, (size_t) sprintf(size, "%zx\r\n", data->bytes));
    put(c, data->data, data->bytes);
    put(c, "\r\n", 2);
}


static void
put_whole(struct http_connection *c, int status, const char *data,
          size_t bytes)
{
    char head[256];

    put(c, head,
        (size_t) sprintf(head,
                         "HTTP/1.1 %d Echo\r\n"
                         "Content-Type: application/json\r\n"
                         "Content-Length: %zu\r\n"
                         "Connection: %s\r\n\r\n",
                         status, bytes,
                         c->keep_alive ? "keep-alive" : "close"));
    put(c, data, bytes);
}


static void
put_failure(struct http_connection *c, const struct axion_failure *failure)
{
    char room[4096];
    struct axion_out out;

    axion_out_fixed(&out, room, sizeof(room));
    axion_failure_body(&out, failure);
    put_whole(c, axion_failure_status(failure), out.data, out.bytes);
}


static void
put_error(struct http_connection *c, int error)
{
    struct axion_failure failure;

    axion_failure_set(&failure, error, NULL, NULL);
    put_failure(c, &failure);
}


/* ---- the sink ---- */

static struct http_connection *
connection_of(const struct echo_stream *s)
{
    return s->owner;
}


static void
http_accepted(struct echo_stream *s, const struct axion_cq_accepted *accepted)
{
    static const char head[] = "HTTP/1.1 200 OK\r\n"
                               "Content-Type: text/event-stream\r\n"
                               "Cache-Control: no-cache\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n";
    struct http_connection *c = connection_of(s);
    char room[4096];
    struct axion_out out;

    (void) accepted;
    if (!c->streaming) {
        axion_response_begin(&c->response, &c->body);
        return;
    }
    put(c, head, sizeof(head) - 1);
    axion_out_fixed(&out, room, sizeof(room));
    axion_response_begin(&c->response, &out);
    put_chunk(c, &out);
}


static void
http_progress(struct echo_stream *s, const struct axion_cq_progress *progress)
{
    (void) s;
    (void) progress;
}


static int
http_writable(struct echo_stream *s, uint32_t bytes)
{
    struct http_connection *c = connection_of(s);

    (void) bytes;
    return c->out_bytes - c->out_at < OUTPUT_HIGH;
}


static void
http_token(struct echo_stream *s, const struct echo_token *token)
{
    struct http_connection *c = connection_of(s);
    char room[32768];
    struct axion_out out;

    if (!c->streaming) {
        axion_response_text(&c->response, &c->body, token->text,
                            token->bytes);
        return;
    }
    axion_out_fixed(&out, room, sizeof(room));
    axion_response_text(&c->response, &out, token->text, token->bytes);
    put_chunk(c, &out);
}


static void
http_lease_low(struct echo_stream *s, const struct axion_cq_lease_low *low)
{
    (void) s;
    (void) low;
}


static void
http_done(struct echo_stream *s, const struct axion_cq_done *done)
{
    struct http_connection *c = connection_of(s);
    char room[4096];
    struct axion_out out;

    c->stream = NULL;
    if (!c->streaming) {
        axion_response_end(&c->response, &c->body, done);
        if (axion_out_status(&c->body) == AXION_OK)
            put_whole(c, 200, c->body.data, c->body.bytes);
        else
            put_error(c, AXION_ERR_INTERNAL);
        return;
    }
    axion_out_fixed(&out, room, sizeof(room));
    axion_response_end(&c->response, &out, done);
    put_chunk(c, &out);
    put(c, "0\r\n\r\n", 5);
}


static void
http_error(struct echo_stream *s, int error, uint32_t retry_after_ms,
           const char *detail)
{
    struct http_connection *c = connection_of(s);
    struct axion_failure failure;
    char room[4096];
    struct axion_out out;

    c->stream = NULL;
    axion_failure_event(&failure, error, retry_after_ms, detail,
                        detail ? strlen(detail) : 0);
    if (s->phase == ECHO_ARRIVED || !c->streaming) {
        put_failure(c, &failure);
        return;
    }
    axion_out_fixed(&out, room, sizeof(room));
    axion_failure_sse(&out, &failure);
    put_chunk(c, &out);
    put(c, "0\r\n\r\n", 5);
}


static const struct echo_sink http_sink = {
    http_accepted, http_progress, http_writable, http_token,
    http_lease_low, http_done,    http_error,
};


/* ---- requests ---- */

struct http_request {
    const char *method;
    const char *path;
    const char *body;
    size_t body_bytes;
    size_t bytes; /* head and body */
};


static void
open_response(struct http_connection *c, const struct axion_parsed *parsed,
              const struct axion_memory *memory)
{
    struct axion_response_options options = {
        .kind = parsed->kind,
        .stream = parsed->stream,
        .include_usage = parsed->include_usage,
        .created = (uint64_t) time(NULL),
        .model = parsed->model,
    };

    n_requests++;
    memcpy(options.random, &n_requests, sizeof(n_requests));
    if (axion_response_open(&c->response, &options, memory) != AXION_OK)
        abort();
    c->streaming = parsed->stream;
    if (!c->streaming)
        axion_out_grow(&c->body, memory, 4096, OUTPUT_BYTES_MAX);
}


static void
serve_generation(struct http_connection *c, const struct http_request *r,
                 enum axion_request_kind kind)
{
    struct axion_parse_options options = {
        .payload_bytes_max = BODY_BYTES_MAX, .priority = 1};
    struct axion_memory memory = {request_alloc, c};
    struct axion_request_view view;
    struct axion_failure failure;
    struct axion_parsed parsed;
    char why[128];

    request_free(c);
    if (axion_request_parse(&parsed, kind, r->body, r->body_bytes, &options,
                            &memory, &failure) != AXION_OK) {
        put_failure(c, &failure);
        return;
    }
    if (axion_request_decode(&view, parsed.payload, parsed.payload_bytes,
                             why, sizeof(why)) != AXION_OK)
        abort(); /* the parser's promise */
    open_response(c, &parsed, &memory);
    echo_stream_open(&http_sink, c, n_requests, AXION_LEASE_UNLIMITED, 0, &view,
                     &c->stream);
}


static void
serve_models(struct http_connection *c)
{
    const struct axion_board *boards[] = {&echo.board};
    struct axion_memory memory = {request_alloc, c};
    struct axion_out out;

    request_free(c);
    axion_out_grow(&out, &memory, 4096, 1u << 20);
    axion_models_list(&out, boards, 1, NULL);
    put_whole(c, 200, out.data, out.bytes);
}


static void
serve(struct http_connection *c, const struct http_request *r)
{
    int post = strcmp(r->method, "POST") == 0;

    if (post && strcmp(r->path, "/v1/chat/completions") == 0)
        serve_generation(c, r, AXION_REQUEST_CHAT);
    else if (post && strcmp(r->path, "/v1/completions") == 0)
        serve_generation(c, r, AXION_REQUEST_COMPLETION);
    else if (!post && strcmp(r->path, "/v1/models") == 0)
        serve_models(c);
    else
        put_error(c, AXION_ERR_NOT_FOUND);
}


/* The value of a header in a head that ends with a NUL, NULL if absent. */
static const char *
find_header(const char *head, const char *name)
{
    size_t bytes = strlen(name);
    const char *line;

    for (line = strstr(head, "\r\n"); line != NULL;
         line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, bytes) == 0 &&
            line[2 + bytes] == ':')
            return line + 3 + bytes + strspn(line + 3 + bytes, " \t");
    }
    return NULL;
}


/* 1: a whole request lies in c->in; 0: more is needed; -1: close. */
static int
take_request(struct http_connection *c, struct http_request *r)
{
    char *end = memmem(c->in, c->in_bytes, "\r\n\r\n", 4), *space;
    const char *length, *connection;
    size_t head;

    if (end == NULL)
        return c->in_bytes > HEAD_BYTES_MAX ? -1 : 0;
    head = (size_t) (end - c->in) + 4;
    end[2] = '\0'; /* put back below when the body is not here yet */
    length = find_header(c->in, "Content-Length");
    r->body_bytes = length != NULL ? strtoul(length, NULL, 10) : 0;
    connection = find_header(c->in, "Connection");
    c->keep_alive = connection == NULL ||
                    strncasecmp(connection, "close", 5) != 0;
    if (r->body_bytes > BODY_BYTES_MAX)
        return -1;
    if (c->in_bytes - head < r->body_bytes) {
        end[2] = '\r';
        return 0;
    }
    r->method = c->in;
    space = strchr(c->in, ' ');
    if (space == NULL || strchr(space + 1, ' ') == NULL)
        return -1;
    *space = '\0';
    r->path = space + 1;
    *strchr(space + 1, ' ') = '\0';
    r->body = c->in + head;
    r->bytes = head + r->body_bytes;
    return 1;
}


static void
serve_input(struct http_connection *c)
{
    struct http_request r;
    int got;

    while (c->stream == NULL && !c->dead && c->in_bytes > 0) {
        got = take_request(c, &r);
        if (got == 0)
            return;
        if (got < 0) {
            c->dead = 1;
            return;
        }
        serve(c, &r);
        c->in_bytes -= r.bytes;
        memmove(c->in, c->in + r.bytes, c->in_bytes);
    }
}


/* ---- connections ---- */

static void
connection_close(struct http_connection *c)
{
    struct http_connection **at = &connections;

    if (c->stream != NULL) {
        echo_log_stream(c->stream, "cancel tokens=%u",
                        c->stream->answer.sent_tokens);
        echo.board.requests_cancelled++;
        echo_stream_close(c->stream);
    }
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    echo_unwatch(&c->source);
    close(c->source.fd);
    request_free(c);
    free(c->in);
    free(c->out);
    free(c);
}


static void
read_input(struct http_connection *c)
{
    ssize_t n;

    for (;;) {
        if (c->in_bytes > BODY_BYTES_MAX + HEAD_BYTES_MAX) {
            c->dead = 1;
            return;
        }
        c->in = grow(c->in, &c->in_capacity, c->in_bytes + 4096);
        n = recv(c->source.fd, c->in + c->in_bytes,
                 c->in_capacity - c->in_bytes, 0);
        if (n <= 0)
            break;
        c->in_bytes += (size_t) n;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR))
        c->dead = 1;
}


static void
write_output(struct http_connection *c)
{
    while (c->out_at < c->out_bytes) {
        ssize_t n = send(c->source.fd, c->out + c->out_at,
                         c->out_bytes - c->out_at, MSG_NOSIGNAL);

        if (n < 0) {
            if (errno == EAGAIN || errno == EINTR)
                break;
            c->dead = 1;
            return;
        }
        c->out_at += (size_t) n;
    }
    if (c->out_at == c->out_bytes) {
        c->out_at = c->out_bytes = 0;
        if (c->stream == NULL && !c->keep_alive)
            c->dead = 1;
    }
    if (c->want_write != (c->out_bytes > 0)) {
        c->want_write = c->out_bytes > 0;
        if (echo_rewatch(&c->source,
                         EPOLLIN | (c->want_write ? EPOLLOUT : 0)) != 0)
            c->dead = 1;
    }
}


static void
connection_ready(struct echo_source *source, uint32_t events)
{
    struct http_connection *c = (struct http_connection *) source;

    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        read_input(c);
    serve_input(c);
    /* The answer goes out with echo_http_flush() at the turn's end. */
}


void
echo_http_flush(void)
{
    struct http_connection *c, *next;

    for (c = connections; c != NULL; c = next) {
        next = c->next;
        if (!c->dead && (c->out_bytes > 0 || !c->keep_alive))
            write_output(c);
        if (!c->dead && c->out_bytes == 0)
            serve_input(c);
        if (c->dead)
            connection_close(c);
    }
}


static void
listener_ready(struct echo_source *source, uint32_t events)
{
    struct http_connection *c;
    int fd, on = 1;

    (void) events;
    fd = accept4(source->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    c = calloc(1, sizeof(*c));
    if (c == NULL)
        abort();
    c->source.fd = fd;
    c->source.ready = connection_ready;
    c->keep_alive = 1;
    c->next = connections;
    connections = c;
    if (echo_watch(&c->source, EPOLLIN) != 0)
        connection_close(c);
}


static int
listen_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || strlen(path) >= sizeof(address.sun_path))
        return -1;
    strcpy(address.sun_path, path);
    unlink(path);
    if (bind(fd, (struct sockaddr *) &address, sizeof(address)) != 0)
        return -1;
    return fd;
}


static int
listen_tcp(const char *port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t) atoi(port)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *) &address, sizeof(address)) != 0)
        return -1;
    return fd;
}


int
echo_http_open(void)
{
    const char *http = echo.options.http;

    if (http == NULL)
        return 0;
    listener.fd = strncmp(http, "unix:", 5) == 0 ? listen_unix(http + 5)
                                                 : listen_tcp(http);
    listener.ready = listener_ready;
    if (listener.fd < 0 || listen(listener.fd, 511) != 0 ||
        echo_watch(&listener, EPOLLIN) != 0) {
        echo_log("http %s: %s", http, strerror(errno));
        return -1;
    }
    echo_log("http listening %s", http);
    return 0;
}


void
echo_http_close(void)
{
    while (connections != NULL)
        connection_close(connections);
    if (listener.fd >= 0) {
        echo_unwatch(&listener);
        close(listener.fd);
        if (strncmp(echo.options.http, "unix:", 5) == 0)
            unlink(echo.options.http + 5);
    }
}
