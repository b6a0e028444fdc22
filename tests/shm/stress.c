/*
 * The conversation of stress.h.
 *
 * Nothing here has a time limit that decides: a side that slept for ten
 * seconds looks whether its ring has something for it.  If so, the wake-up
 * was lost, which is the fault that this hunts; if not, it sleeps on.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "shm/ring.h"
#include "tests/shm/pair.h"
#include "tests/shm/stress.h"

#define LOOK_AFTER_MS 10000

/* What the client knows of one of its streams; also what the engine still
 * has to say.  Indexed by slot. */
struct talk {
    axion_stream_id id;
    uint8_t text[STRESS_PAYLOAD_MAX];
    uint32_t bytes;
    uint32_t at;
    uint32_t tokens;
    uint64_t lease;
    int active;
    int paused;
    int cancelled;
};


/* 0: the descriptor is readable; 1: it was not for long. */
static int
sleep_on(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n;

    do {
        n = poll(&p, 1, LOOK_AFTER_MS);
    } while (n < 0);
    return n == 0;
}


static uint32_t
make_text(uint8_t *text, uint32_t limit, uint64_t *random)
{
    static const char *const characters[] = {"x", "\xc3\xa4", "\xe4\xb8\xad",
                                             "\xf0\x9f\xa6\x8a"};
    uint32_t n = 0;

    while (n + 4 <= limit) {
        uint64_t dice = next_random(random);
        const char *c = characters[dice % 16 < 4 ? dice % 16 : 0];
        size_t bytes = strlen(c);

        if (bytes == 1) {
            text[n++] = (uint8_t)('a' + (dice >> 8) % 26);
        } else {
            memcpy(text + n, c, bytes);
            n += (uint32_t)bytes;
        }
    }
    return n;
}


/* ---- engine ---- */

struct engine {
    struct axion_channel *channel;
    struct stress *stress;
    struct talk *talks;
    uint64_t random;
};


static void
engine_start(struct engine *engine, const struct axion_command *command)
{
    struct axion_cq_accepted accepted = {.prompt_tokens = 1};
    struct talk *talk = &engine->talks[(uint32_t)command->id];

    accepted.context_tokens = (uint32_t)command->payload_bytes;
    talk->active = 1;
    talk->paused = 0;
    talk->id = command->id;
    talk->at = 0;
    talk->tokens = 0;
    talk->lease = command->lease_tokens;
    talk->bytes = (uint32_t)command->payload_bytes;
    memcpy(talk->text, command->payload, command->payload_bytes);
    axion_channel_set_user(engine->channel, command->id, talk);
    axion_channel_accepted(engine->channel, command->id, &accepted);
}


static void
engine_end(struct engine *engine, struct talk *talk,
           enum axion_finish_reason reason)
{
    struct axion_cq_done done = {.reason = reason,
                                 .completion_tokens = talk->tokens};

    /* The client adds its top-ups to the lease: the sum must agree. */
    done.drafted_tokens = (uint32_t)talk->lease;
    talk->active = 0;
    axion_channel_done(engine->channel, talk->id, &done);
}


static void
engine_command(struct engine *engine, const struct axion_command *command)
{
    if (command->op == AXION_SQ_SUBMIT) {
        if (command->payload_bytes > STRESS_PAYLOAD_MAX) {
            engine->stress->fault = "payload of another length";
            return;
        }
        engine_start(engine, command);
        return;
    }

    struct talk *talk = axion_channel_user(engine->channel, command->id);
    if (talk == NULL || talk->id != command->id) {
        engine->stress->fault = "command for another stream";
        return;
    }
    switch (command->op) {
    case AXION_SQ_PAUSE:
        talk->paused = 1;
        break;
    case AXION_SQ_RESUME:
        talk->paused = 0;
        break;
    case AXION_SQ_TOPUP:
        talk->lease += command->lease_tokens;
        break;
    default:
        engine_end(engine, talk, AXION_FINISH_CANCELLED);
        break;
    }
}


/* Says one more piece of a stream; 0 when it has to wait. */
static int
engine_say(struct engine *engine, struct talk *talk)
{
    uint64_t dice = next_random(&engine->random);
    uint32_t bytes = 1 + dice % ((dice >> 32) % 16 == 0 ? 400 : 12);
    uint32_t ids[4];
    uint32_t n_ids = (dice >> 16) % 4;

    if (bytes > talk->bytes - talk->at) {
        bytes = talk->bytes - talk->at;
    }
    while (talk->at + bytes < talk->bytes &&
           (talk->text[talk->at + bytes] & 0xc0) == 0x80) {
        bytes++;
    }
    if (!axion_channel_writable(engine->channel, talk->id, bytes + 16)) {
        return 0;
    }
    for (uint32_t i = 0; i < n_ids; i++) {
        ids[i] = talk->tokens++;
    }
    int rc = axion_channel_tokens(engine->channel, talk->id, ids, n_ids,
                                  (const char *)talk->text + talk->at, bytes,
                                  NULL, 0);
    if (rc != AXION_OK) {
        engine->stress->fault = "writable, but refused";
    }
    talk->at += bytes;
    if (talk->at == talk->bytes) {
        engine_end(engine, talk, AXION_FINISH_STOP);
    }
    return 1;
}


/* One turn of the loop; 0 when there was nothing to do. */
static int
engine_turn(struct engine *engine, uint32_t streams)
{
    struct axion_command command;
    int work = 0;

    while (axion_channel_next(engine->channel, &command) == AXION_OK) {
        engine_command(engine, &command);
        work = 1;
    }
    for (uint32_t i = 0; i < streams; i++) {
        struct talk *talk = &engine->talks[i];

        if (talk->active && !talk->paused) {
            work |= engine_say(engine, talk);
        }
    }
    axion_channel_flush(engine->channel);
    return work;
}


static void
engine_sleep(struct engine *engine)
{
    struct axion_command command;

    if (axion_channel_arm(engine->channel) != 0) {
        return;
    }
    engine->stress->sleeps++;
    while (sleep_on(axion_channel_fd(engine->channel))) {
        if (axion_channel_next(engine->channel, &command) == AXION_OK) {
            engine->stress->fault = "the engine's wake-up was lost";
            engine_command(engine, &command);
            return;
        }
        if (axion_channel_arm(engine->channel) != 0) {
            engine->stress->fault = "the engine's credit wake-up was lost";
            return;
        }
    }
}


void
stress_engine(struct axion_channel *channel, struct stress *stress)
{
    struct engine engine = {channel, stress, NULL, stress->seed};
    uint32_t idle = 0;
    int rc;

    engine.talks = calloc(stress->in_flight, sizeof(*engine.talks));
    do {
        if (engine_turn(&engine, stress->in_flight)) {
            idle = 0;
        } else if (idle++ >= stress->idle_turns) {
            engine_sleep(&engine);
        }
        rc = axion_channel_service(channel);
    } while ((rc == AXION_OK || rc == AXION_AGAIN) && stress->fault == NULL);
    if (rc != AXION_ERR_ENGINE_LOST && stress->fault == NULL) {
        stress->fault = axion_channel_why(channel);
    }
    free(engine.talks);
}


/* ---- client ---- */

struct speaker {
    struct axion_client *client;
    struct stress *stress;
    struct talk *talks; /* in no order; found by `user` */
    uint64_t random;
    uint32_t started;
    uint32_t finished;
};


static void
client_start(struct speaker *s)
{
    for (uint32_t i = 0; i < s->stress->in_flight; i++) {
        struct talk *talk = &s->talks[i];

        if (talk->active || s->started == s->stress->streams) {
            continue;
        }
        uint64_t dice = next_random(&s->random);
        talk->bytes = make_text(talk->text, 4 + dice % (s->stress->payload - 3),
                                &s->random);
        talk->lease = 1 + (dice >> 32) % 100;
        int rc = axion_client_submit(s->client, talk->text, talk->bytes,
                                     talk->lease, talk, &talk->id);
        if (rc == AXION_ERR_NO_STREAM_SLOT) {
            return;
        }
        if (rc != AXION_OK) {
            s->stress->fault = "submit failed";
            return;
        }
        talk->active = 1;
        talk->at = 0;
        talk->tokens = 0;
        talk->cancelled = 0;
        s->started++;
    }
}


static void
client_disturb(struct speaker *s)
{
    uint64_t dice = next_random(&s->random);
    struct talk *talk = &s->talks[(dice >> 8) % s->stress->in_flight];

    if (!s->stress->disturb || !talk->active || talk->cancelled) {
        return;
    }
    switch (dice % 64) {
    case 0:
        axion_client_cancel(s->client, talk->id);
        talk->cancelled = 1;
        s->stress->cancelled++;
        break;
    case 1:
    case 2:
    case 3:
        axion_client_pause(s->client, talk->id);
        axion_client_resume(s->client, talk->id);
        break;
    case 4:
    case 5:
        axion_client_topup(s->client, talk->id, 1 + (dice >> 40) % 50);
        break;
    default:
        break;
    }
}


static void
hear_tokens(struct speaker *s, struct talk *talk,
            const struct axion_event *event)
{
    if (event->tokens.position != talk->tokens) {
        s->stress->fault = "position";
    }
    for (uint32_t i = 0; i < event->tokens.n_tokens; i++) {
        if (event->tokens.ids[i] != talk->tokens++) {
            s->stress->fault = "token id";
        }
    }
    uint32_t bytes = event->tokens.text_bytes;
    if (bytes > talk->bytes - talk->at ||
        memcmp(talk->text + talk->at, event->tokens.text, bytes) != 0) {
        s->stress->fault = "text";
        return;
    }
    talk->at += bytes;
    s->stress->text_bytes += bytes;
}


static void
hear_done(struct speaker *s, struct talk *talk, const struct axion_event *event)
{
    const struct axion_cq_done *done = &event->done;

    talk->active = 0;
    s->finished++;
    if (done->completion_tokens != talk->tokens) {
        s->stress->fault = "number of tokens";
    }
    if (done->reason == AXION_FINISH_STOP) {
        if (talk->at != talk->bytes) {
            s->stress->fault = "text is not whole";
        }
    } else if (done->reason != AXION_FINISH_CANCELLED || !talk->cancelled) {
        s->stress->fault = "reason";
    }
}


static int
client_hear(struct speaker *s)
{
    struct axion_event event;
    int rc;
    int n = 0;

    while ((rc = axion_client_peek(s->client, &event)) == AXION_OK) {
        struct talk *talk = event.user;

        s->stress->events++;
        n++;
        if (talk == NULL || talk->id != event.id || !talk->active) {
            s->stress->fault = "event of another stream";
        } else if (event.op == AXION_CQ_TOKENS) {
            hear_tokens(s, talk, &event);
        } else if (event.op == AXION_CQ_DONE) {
            hear_done(s, talk, &event);
        } else if (event.op != AXION_CQ_ACCEPTED ||
                   event.accepted.context_tokens != talk->bytes) {
            s->stress->fault = "unexpected event";
        }
        axion_client_advance(s->client);
        client_disturb(s);
    }
    if (rc != AXION_AGAIN) {
        s->stress->fault = axion_client_why(s->client);
    }
    return n;
}


static void
client_sleep(struct speaker *s)
{
    struct axion_event event;

    if (axion_client_arm(s->client) != 0) {
        return;
    }
    s->stress->sleeps++;
    while (sleep_on(axion_client_fd(s->client))) {
        if (axion_client_peek(s->client, &event) == AXION_OK) {
            s->stress->fault = "the client's wake-up was lost";
            return;
        }
        if (axion_client_arm(s->client) != 0) {
            s->stress->fault = "the client's room wake-up was lost";
            return;
        }
    }
    if (axion_client_service(s->client) != AXION_OK) {
        s->stress->fault = "the engine is gone";
    }
}


void
stress_client(struct axion_client *client, struct stress *stress)
{
    struct speaker s = {
        .client = client, .stress = stress, .random = stress->seed};
    uint32_t idle = 0;

    s.talks = calloc(stress->in_flight, sizeof(*s.talks));
    while (s.finished < stress->streams && stress->fault == NULL) {
        uint32_t started = s.started;

        client_start(&s);
        if (client_hear(&s) > 0 || s.started != started) {
            idle = 0;
        } else if (idle++ >= stress->idle_turns) {
            client_sleep(&s);
        }
    }
    free(s.talks);
}
