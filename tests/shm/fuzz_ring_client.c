/*
 * libFuzzer: an engine's bytes against the client's end.  The input is a
 * program: write an event, an index or any word of the region, send a
 * message, let the client take a turn.  The channel may break with a reason;
 * every event handed out must be whole: its text UTF-8, its stream one that
 * was submitted, its user the one given.
 */
#include "shm/client.h"
#include "shm/request.h"
#include "tests/shm/fuzz_ring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* Every byte handed out is read, so that ASan sees it. */
static volatile uint8_t sink;

struct world {
    struct axion_client *client;
    struct axion_mapping map;
    int fd;
    uint32_t cq_tail;
    uint32_t generations[4];
    uint32_t positions[4];
};


static int
connect_world(struct world *w, struct input *input)
{
    const struct axion_client_options options = {
        .streams = fuzz_geometry.streams,
        .credit = fuzz_geometry.credit,
        .sq_entries = fuzz_geometry.sq_entries,
        .cq_entries = fuzz_geometry.cq_entries,
        .arena_bytes = fuzz_geometry.arena_bytes,
    };
    uint8_t answer[256];
    struct axion_welcome welcome = {
        .head = {AXION_WIRE_MAGIC, AXION_WIRE_VERSION, AXION_MSG_WELCOME},
        .payload_bytes_max = 4096};
    uint8_t mode = take_u8(input);
    struct axion_hello hello;
    const char *why;
    size_t bytes;
    int memfd;
    int fds[2];

    require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0);
    w->fd = fds[1];
    require(axion_client_open_fd(&w->client, fds[0], &options) == 0);
    require(axion_message_take(w->fd, &hello, sizeof(hello), &bytes, &memfd,
                               &why) == 0);
    require(axion_region_adopt(&w->map, memfd, &fuzz_geometry, &why) == 0);
    w->cq_tail = axion_index_load(&w->map.region->cq_tail);
    if (mode == 0) {
        take(input, answer, sizeof(answer)); /* a foreign answer */
        require(axion_message_send(w->fd, answer,
                                   1 + take_u8(input) % sizeof(answer),
                                   take_u8(input) % 2 ? memfd : -1) == 0);
    } else {
        require(axion_message_send(w->fd, &welcome, sizeof(welcome), -1) == 0);
    }
    close(memfd);
    int rc = axion_client_service(w->client);
    require(rc == AXION_OK || rc > 0);
    return rc == AXION_OK;
}


static void
write_record(struct world *w, const void *record)
{
    memcpy(&w->map.cq[w->cq_tail++ & (fuzz_geometry.cq_entries - 1)], record,
           AXION_RECORD_BYTES);
}


static void
write_any_event(struct world *w, struct input *input)
{
    struct axion_cqe cqe;

    take(input, &cqe, sizeof(cqe));
    cqe.op %= 8;
    cqe.stream %= 5;
    write_record(w, &cqe);
    axion_index_publish(&w->map.region->cq_tail, w->cq_tail);
}


/* An event that is right but for what the input makes wrong. */
static void
write_event(struct world *w, struct input *input)
{
    struct axion_cqe cqe;
    uint8_t record[AXION_RECORD_BYTES];

    memset(&cqe, 0, sizeof(cqe));
    cqe.op = 1 + take_u8(input) % 6;
    cqe.stream = take_u8(input) % 4;
    cqe.generation = w->generations[cqe.stream];
    cqe.done.reason = 1 + take_u8(input) % 4;
    if (cqe.op == AXION_CQ_TOKENS) {
        cqe.tokens.position = w->positions[cqe.stream];
        cqe.tokens.n_tokens = take_u8(input) % 16;
        cqe.tokens.text_bytes = take_u8(input);
        cqe.tokens.ext_bytes = take_u8(input) % 8;
        cqe.payload_bytes = cqe.tokens.n_tokens * 4u + cqe.tokens.text_bytes +
                            cqe.tokens.ext_bytes;
        cqe.span = (uint16_t)axion_span(cqe.payload_bytes, 32);
    } else if (cqe.op == AXION_CQ_ERROR) {
        cqe.error.error = take_u32(input);
        cqe.error.text_bytes = cqe.payload_bytes = take_u8(input);
        cqe.span = (uint16_t)axion_span(cqe.payload_bytes, 32);
    }
    write_record(w, &cqe);
    for (uint32_t i = 0; i < cqe.span; i++) {
        memset(record, 'a' + (int)i, sizeof(record));
        record[i % 64] = take_u8(input);
        write_record(w, record);
    }
    axion_index_publish(&w->map.region->cq_tail, w->cq_tail);
}


static void
write_word(struct world *w, struct input *input)
{
    uint32_t *words = (uint32_t *)w->map.region;
    uint32_t n = (AXION_REGION_HEADER + 64 * (16 + 64)) / 4;

    words[take_u32(input) % n] = take_u32(input);
}


static void
check_event(struct world *w, const struct axion_event *event)
{
    uint32_t slot = (uint32_t)event->id;

    require(slot < 4 && event->id >> 32 == w->generations[slot]);
    require(event->user == w);
    if (event->op == AXION_CQ_TOKENS) {
        require(event->tokens.position == w->positions[slot]);
        w->positions[slot] += event->tokens.n_tokens;
        require(axion_utf8_valid(event->tokens.text, event->tokens.text_bytes));
        for (uint32_t i = 0; i < event->tokens.n_tokens; i++) {
            sink = (uint8_t)event->tokens.ids[i];
        }
        for (uint32_t i = 0; i < event->tokens.ext_bytes; i++) {
            sink = event->tokens.ext[i];
        }
    } else if (event->op == AXION_CQ_ERROR) {
        require(event->error.error > 0);
        require(axion_utf8_valid(event->error.text, event->error.text_bytes));
    } else if (event->op == AXION_CQ_DONE) {
        require(event->done.reason >= 1 && event->done.reason <= 4);
    }
}


static int
client_turn(struct world *w, struct input *input)
{
    uint8_t payload[256] = {0};
    struct axion_event event;
    axion_stream_id id = 0;
    uint8_t what = take_u8(input);
    int rc;

    for (int i = 0; i < 100; i++) {
        rc = axion_client_peek(w->client, &event);
        if (rc != AXION_OK) {
            require(rc == AXION_AGAIN || axion_client_why(w->client)[0] != 0);
            break;
        }
        check_event(w, &event);
        axion_client_advance(w->client);
    }
    uint32_t streams = axion_client_streams(w->client);
    require(streams <= 4);
    if (what & 1) {
        rc = axion_client_submit(w->client, payload, what, what, w, &id);
        if (rc == AXION_OK) {
            w->generations[(uint32_t)id] = (uint32_t)(id >> 32);
            w->positions[(uint32_t)id] = 0;
        }
    }
    id = (uint64_t)w->generations[what % 4] << 32 | what % 4;
    if (what & 4) {
        axion_client_pause(w->client, id);
    }
    if (what & 8) {
        axion_client_cancel(w->client, id);
    }
    if (what & 16) {
        axion_client_topup(w->client, id, what & 32);
        axion_client_resume(w->client, id);
    }
    axion_client_arm(w->client);
    rc = axion_client_service(w->client);
    require(rc == AXION_OK || rc > 0);
    return rc == AXION_OK;
}


static int
instruction(struct world *w, struct input *input)
{
    uint8_t message[8];

    switch (take_u8(input) % 8) {
    case 0:
        write_any_event(w, input);
        return 1;
    case 1:
    case 2:
        write_event(w, input);
        return 1;
    case 3:
        write_word(w, input);
        return 1;
    case 4:
        axion_index_publish(&w->map.region->sq_head,
                            axion_index_load(&w->map.region->sq_tail));
        return 1;
    case 5:
        take(input, message, sizeof(message));
        send(w->fd, message, 1 + message[0] % 2, MSG_DONTWAIT);
        return 1;
    default:
        return client_turn(w, input);
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct input input = {data, bytes};
    struct world world;

    memset(&world, 0, sizeof(world));
    if (connect_world(&world, &input)) {
        while (input.bytes > 0 && instruction(&world, &input)) {
        }
    }
    axion_client_close(world.client);
    axion_region_unmap(&world.map);
    close(world.fd);
    return 0;
}
