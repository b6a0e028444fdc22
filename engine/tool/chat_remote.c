/* A running axiond, over the same ring that gateways use. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include "engine/tool/chat.h"
#include "shm/client.h"
#include "shm/request.h"

struct remote {
    struct axion_client *client;
    struct axion_request_writer writer;
};

struct answer {
    const struct chat_turn *turn;
    struct chat_usage *usage;
    struct ax_error *err;
    double start;
    double first;
    int ended;
    int error;
};


static void
remote_close(void *state)
{
    struct remote *r = state;
    axion_client_close(r->client);
    free(r->writer.data);
    free(r);
}


static void *
grow(void *context, void *data, size_t old, size_t bytes)
{
    (void)context;
    (void)old;
    return realloc(data, bytes);
}


static int
encode(struct remote *r, const struct chat_options *o,
       const struct chat_turn *turn)
{
    struct axion_request_head head = {
        .kind = AXION_REQUEST_CHAT,
        .flags = AXION_REQUEST_STREAM | AXION_REQUEST_SEED,
        .seed = turn->seed,
        .temperature = (float)o->temperature,
        .top_p = (float)o->top_p,
        .min_p = (float)o->min_p,
        .repetition_penalty = 1,
        .top_k = o->top_k,
        .max_tokens = o->max_tokens,
        .priority = 1,
    };
    struct axion_request_writer *w = &r->writer;
    w->bytes_max = axion_client_payload_max(r->client);
    w->grow = grow;
    int rc = axion_request_begin(w, &head);
    for (uint32_t i = 0; rc == AXION_OK && i < turn->n_messages; i++) {
        const struct ax_prompt_message *m = &turn->messages[i];
        rc = axion_request_add(w, AXION_SECTION_ROLE, m->role, strlen(m->role));
        if (rc == AXION_OK) {
            rc = axion_request_add(w, AXION_SECTION_TEXT, m->content,
                                   strlen(m->content));
        }
    }
    return rc == AXION_OK ? axion_request_end(w) : rc;
}


static void
take_event(struct answer *a, const struct axion_event *event)
{
    switch (event->op) {
    case AXION_CQ_TOKENS:
        if (a->first == 0) {
            a->first = ax_chat_now();
            a->usage->first_token_s = a->first - a->start;
        }
        a->turn->show(a->turn->context, event->tokens.text,
                      event->tokens.text_bytes);
        break;
    case AXION_CQ_DONE:
        a->usage->prompt_tokens = event->done.prompt_tokens;
        a->usage->reused_tokens = event->done.cached_tokens;
        a->usage->answer_tokens = event->done.completion_tokens;
        a->usage->answer_s = event->done.decode_us * 1e-6;
        a->ended = 1;
        break;
    case AXION_CQ_ERROR:
        a->error =
            ax_error_set(a->err, event->error.error, "%.*s",
                         (int)event->error.text_bytes, event->error.text);
        if (event->error.text_bytes == 0) {
            ax_error_set(a->err, a->error, "%s",
                         axion_error_info(a->error)->text);
        }
        a->ended = 1;
        break;
    default:
        break;
    }
}


/* Until the channel has something; a signal ends the wait too. */
static int
wait_channel(struct axion_client *client)
{
    struct pollfd p = {.fd = axion_client_fd(client), .events = POLLIN};
    if (poll(&p, 1, -1) < 0 && errno != EINTR) {
        return AXION_ERR_SYSTEM;
    }
    return axion_client_service(client);
}


static int
drain(struct axion_client *client, struct answer *a)
{
    struct axion_event event;
    int rc;
    do {
        while ((rc = axion_client_peek(client, &event)) == AXION_OK) {
            if (event.user == a) {
                take_event(a, &event);
            }
            axion_client_advance(client);
        }
        if (rc != AXION_AGAIN) {
            return rc;
        }
    } while (!a->ended && axion_client_arm(client) != 0);
    return AXION_OK;
}


static int
remote_answer(void *state, const struct chat_options *o,
              const struct chat_turn *turn, struct chat_usage *usage,
              struct ax_error *err)
{
    struct remote *r = state;
    struct answer a = {
        .turn = turn, .usage = usage, .err = err, .start = ax_chat_now()};
    axion_stream_id id;
    int cancelled = 0;
    int rc = encode(r, o, turn);
    if (rc == AXION_OK) {
        rc = axion_client_submit(r->client, r->writer.data, r->writer.bytes,
                                 AXION_LEASE_UNLIMITED, &a, &id);
    }
    while (rc == AXION_OK && !a.ended) {
        rc = drain(r->client, &a);
        if (rc == AXION_OK && !a.ended) {
            rc = wait_channel(r->client);
            rc = rc == AXION_AGAIN ? AXION_OK : rc;
        }
        if (ax_chat_interrupted && !cancelled) {
            cancelled = 1;
            axion_client_cancel(r->client, id);
        }
    }
    if (rc != AXION_OK) {
        const char *why = axion_client_why(r->client);
        return ax_error_set(err, rc, "%s",
                            *why ? why : axion_error_info(rc)->text);
    }
    return a.error;
}


int
ax_chat_remote(struct chat_backend *out, const struct chat_options *o,
               struct ax_error *err)
{
    const char *path =
        strncmp(o->connect, "unix:", 5) == 0 ? o->connect + 5 : o->connect;
    struct axion_client_options options = {
        .path = path, .name = "axion chat", .streams = 4};
    struct remote *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    int rc = axion_client_open(&r->client, &options);
    if (rc == AXION_OK) {
        rc = axion_client_service(r->client);
    }
    while (rc == AXION_AGAIN) {
        rc = wait_channel(r->client);
    }
    if (rc != AXION_OK) {
        ax_error_set(err, rc, "%s: %s", path, axion_error_info(rc)->text);
        remote_close(r);
        return rc;
    }
    *out = (struct chat_backend){r, remote_answer, remote_close};
    return AXION_OK;
}
