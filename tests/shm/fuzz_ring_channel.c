/*
 * libFuzzer: a client's bytes against the engine's end.  The input is a
 * program of a few instructions: write a record, an index or any word of the
 * region, send a message, let the engine take a turn.  The channel may break
 * with a reason; it may never read or write outside, assert, or lie about
 * its streams.
 */
#include "shm/channel.h"
#include "tests/shm/fuzz_ring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* Every byte handed out is read, so that ASan sees it. */
static volatile uint8_t sink;

struct world {
    struct axion_channel *channel;
    struct axion_mapping map;
    int fd;
    uint32_t sq_tail;
    uint32_t open; /* streams, as the engine was told */
};


/* 0 where the first bytes, used as HELLO's, were refused. */
static int
connect_world(struct world *w, struct input *input)
{
    const struct axion_channel_options options = {.streams_max = 64,
                                                  .stream_buffer_bytes = 512};
    struct axion_hello hello = {
        .head = {AXION_WIRE_MAGIC, AXION_WIRE_VERSION, AXION_MSG_HELLO},
        .sq_entries = fuzz_geometry.sq_entries,
        .cq_entries = fuzz_geometry.cq_entries,
        .arena_bytes = fuzz_geometry.arena_bytes,
        .streams = fuzz_geometry.streams,
        .credit = fuzz_geometry.credit,
    };
    uint8_t mode = take_u8(input);
    int memfd;
    int fds[2];

    require(axion_region_create(&w->map, &memfd, &fuzz_geometry) == 0);
    require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0);
    w->fd = fds[0];
    if (mode == 0) {
        take(input, &hello, sizeof(hello)); /* a foreign HELLO */
    } else if (mode == 1) {
        w->sq_tail = take_u32(input); /* anywhere */
        axion_index_publish(&w->map.region->sq_tail, w->sq_tail);
        axion_index_publish(&w->map.region->sq_head, w->sq_tail);
    }
    require(axion_message_send(w->fd, &hello, sizeof(hello), memfd) == 0);
    close(memfd);
    require(axion_channel_open(&w->channel, fds[1], &options) == 0);
    int rc = axion_channel_service(w->channel);
    require(rc == AXION_OK || axion_channel_why(w->channel)[0] != 0);
    return rc == AXION_OK;
}


static void
write_record(struct world *w, struct input *input)
{
    struct axion_sqe sqe;

    memset(&sqe, 0, sizeof(sqe));
    sqe.op = take_u8(input) % 8;
    sqe.stream = take_u8(input) % 5;
    sqe.generation = take_u8(input);
    sqe.payload_offset = take_u32(input);
    sqe.payload_bytes = take_u32(input);
    sqe.lease_tokens = take_u8(input);
    w->map.sq[w->sq_tail & (fuzz_geometry.sq_entries - 1)] = sqe;
    axion_index_publish(&w->map.region->sq_tail, ++w->sq_tail);
}


static void
write_submit(struct world *w, struct input *input)
{
    struct axion_sqe sqe;

    memset(&sqe, 0, sizeof(sqe));
    sqe.op = AXION_SQ_SUBMIT;
    sqe.stream = take_u8(input) % 4;
    sqe.generation = 1 + take_u8(input) % 4;
    sqe.payload_offset = 64u * take_u8(input);
    sqe.payload_bytes = take_u8(input);
    w->map.sq[w->sq_tail & (fuzz_geometry.sq_entries - 1)] = sqe;
    axion_index_publish(&w->map.region->sq_tail, ++w->sq_tail);
}


/* Any word of the header or the rings. */
static void
write_word(struct world *w, struct input *input)
{
    uint32_t *words = (uint32_t *)w->map.region;
    uint32_t n = (AXION_REGION_HEADER + 64 * (16 + 64)) / 4;

    words[take_u32(input) % n] = take_u32(input);
}


static void
speak(void *context, axion_stream_id id, void *user)
{
    const struct axion_cq_accepted accepted = {0};
    const struct axion_cq_done done = {.reason = AXION_FINISH_STOP};
    static const char text[64] = "0123456789012345678901234567890123456789";
    const uint32_t ids[4] = {1, 2, 3, 4};
    struct {
        struct world *w;
        uint8_t what;
    } *c = context;

    require(user == (void *)(uintptr_t)id);
    switch (c->what % 8) {
    case 0:
        axion_channel_done(c->w->channel, id, &done);
        c->w->open--;
        break;
    case 1:
        axion_channel_error(c->w->channel, id, AXION_ERR_INTERNAL, 1, text);
        c->w->open--;
        break;
    default:
        axion_channel_accepted(c->w->channel, id, &accepted);
        axion_channel_tokens(c->w->channel, id, ids, c->what % 5, text,
                             c->what / 4, NULL, 0);
    }
}


static int
engine_turn(struct world *w, struct input *input)
{
    struct {
        struct world *w;
        uint8_t what;
    } context = {w, take_u8(input)};
    struct axion_command command;
    int rc;

    for (int i = 0; i < 64; i++) {
        rc = axion_channel_next(w->channel, &command);
        if (rc != AXION_OK) {
            break;
        }
        for (size_t k = 0; k < command.payload_bytes; k++) {
            sink = ((const uint8_t *)command.payload)[k];
        }
        if (command.op == AXION_SQ_SUBMIT) {
            axion_channel_set_user(w->channel, command.id,
                                   (void *)(uintptr_t)command.id);
            w->open++;
        }
    }
    if (context.what & 1) {
        context.what >>= 1;
        axion_channel_each(w->channel, speak, &context);
    }
    axion_channel_flush(w->channel);
    axion_channel_arm(w->channel);
    require(axion_channel_streams(w->channel) >= w->open);
    rc = axion_channel_service(w->channel);
    require(rc == AXION_OK || axion_channel_why(w->channel)[0] != 0);
    return rc == AXION_OK;
}


static int
instruction(struct world *w, struct input *input)
{
    uint8_t message[8];

    switch (take_u8(input) % 8) {
    case 0:
        write_record(w, input);
        return 1;
    case 1:
    case 2:
        write_submit(w, input);
        return 1;
    case 3:
        write_word(w, input);
        return 1;
    case 4:
        axion_index_publish(&w->map.region->cq_head,
                            axion_index_load(&w->map.region->cq_tail));
        return 1;
    case 5:
        take(input, message, sizeof(message));
        send(w->fd, message, 1 + message[0] % 2, MSG_DONTWAIT);
        return 1;
    default:
        return engine_turn(w, input);
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
    axion_channel_close(world.channel);
    axion_region_unmap(&world.map);
    close(world.fd);
    return 0;
}
