/*
 * The harness of tests/shm, see pair.h.  Failures are cmocka's.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "tests/shm/pair.h"

const struct axion_geometry raw_geometry = {
    .sq_entries = 16,
    .cq_entries = 64,
    .arena_bytes = 65536,
    .streams = 8,
    .credit = 4,
};


static void
socket_pair(int fds[2])
{
    int flags = SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC;

    assert_int_equal(socketpair(AF_UNIX, flags, 0, fds), 0);
}


void
pair_open(struct pair *pair, const struct axion_client_options *client,
          const struct axion_channel_options *channel)
{
    const struct axion_client_options client_default = {.streams = 8,
                                                        .name = "pair"};
    const struct axion_channel_options channel_default = {0};
    int fds[2];

    socket_pair(fds);
    assert_int_equal(
        axion_client_open_fd(&pair->client, fds[0],
                             client != NULL ? client : &client_default),
        AXION_OK);
    assert_int_equal(
        axion_channel_open(&pair->channel, fds[1],
                           channel != NULL ? channel : &channel_default),
        AXION_OK);
    assert_int_equal(axion_client_service(pair->client), AXION_AGAIN);
    assert_int_equal(axion_channel_service(pair->channel), AXION_OK);
    assert_int_equal(axion_client_service(pair->client), AXION_OK);
}


void
pair_close(struct pair *pair)
{
    axion_client_close(pair->client);
    axion_channel_close(pair->channel);
    memset(pair, 0, sizeof(*pair));
}


axion_stream_id
pair_submit(struct pair *pair, const char *payload)
{
    const struct axion_cq_accepted accepted = {.prompt_tokens = 1};
    struct axion_command command;
    axion_stream_id id;

    assert_int_equal(axion_client_submit(pair->client, payload, strlen(payload),
                                         0, NULL, &id),
                     AXION_OK);
    assert_int_equal(axion_channel_next(pair->channel, &command), AXION_OK);
    assert_int_equal(command.op, AXION_SQ_SUBMIT);
    assert_int_equal(command.id, id);
    axion_channel_accepted(pair->channel, id, &accepted);
    return id;
}


struct axion_event
pair_event(struct pair *pair)
{
    struct axion_event event;

    assert_int_equal(axion_client_peek(pair->client, &event), AXION_OK);
    axion_client_advance(pair->client);
    return event;
}


void
pair_done(struct pair *pair, axion_stream_id id)
{
    const struct axion_cq_done done = {.reason = AXION_FINISH_STOP};

    axion_channel_done(pair->channel, id, &done);
}


/* ---- raw ends ---- */

void
raw_client_open(struct raw *raw, struct axion_channel **channel)
{
    const struct axion_channel_options options = {0};
    struct axion_hello hello = {
        .head = {AXION_WIRE_MAGIC, AXION_WIRE_VERSION, AXION_MSG_HELLO}};
    struct axion_welcome welcome;
    int fds[2];
    int memfd;

    socket_pair(fds);
    raw->fd = fds[0];
    raw->geometry = raw_geometry;
    raw->index = 0;
    assert_int_equal(axion_region_create(&raw->map, &memfd, &raw->geometry),
                     AXION_OK);
    hello.sq_entries = raw->geometry.sq_entries;
    hello.cq_entries = raw->geometry.cq_entries;
    hello.arena_bytes = raw->geometry.arena_bytes;
    hello.streams = raw->geometry.streams;
    hello.credit = raw->geometry.credit;
    assert_int_equal(axion_message_send(raw->fd, &hello, sizeof(hello), memfd),
                     AXION_OK);
    close(memfd);
    assert_int_equal(axion_channel_open(channel, fds[1], &options), AXION_OK);
    assert_int_equal(axion_channel_service(*channel), AXION_OK);
    assert_int_equal(recv(raw->fd, &welcome, sizeof(welcome), 0),
                     sizeof(welcome));
}


void
raw_engine_open(struct raw *raw, struct axion_client **client)
{
    const struct axion_client_options options = {
        .streams = raw_geometry.streams,
        .credit = raw_geometry.credit,
        .sq_entries = raw_geometry.sq_entries,
        .cq_entries = raw_geometry.cq_entries,
        .arena_bytes = raw_geometry.arena_bytes,
    };
    struct axion_welcome welcome = {
        .head = {AXION_WIRE_MAGIC, AXION_WIRE_VERSION, AXION_MSG_WELCOME},
        .payload_bytes_max = raw_geometry.arena_bytes,
    };
    struct axion_hello hello;
    const char *why;
    size_t bytes;
    int fds[2];
    int memfd;

    socket_pair(fds);
    raw->fd = fds[1];
    raw->geometry = raw_geometry;
    assert_int_equal(axion_client_open_fd(client, fds[0], &options), AXION_OK);
    assert_int_equal(axion_message_take(raw->fd, &hello, sizeof(hello), &bytes,
                                        &memfd, &why),
                     AXION_OK);
    assert_int_equal(axion_region_adopt(&raw->map, memfd, &raw->geometry, &why),
                     AXION_OK);
    close(memfd);
    raw->index = axion_index_load(&raw->map.region->cq_tail);
    assert_int_equal(axion_message_send(raw->fd, &welcome, sizeof(welcome), -1),
                     AXION_OK);
    assert_int_equal(axion_client_service(*client), AXION_OK);
}


void
raw_close(struct raw *raw)
{
    axion_region_unmap(&raw->map);
    close(raw->fd);
}


void
raw_sqe(struct raw *raw, const struct axion_sqe *sqe)
{
    raw->map.sq[raw->index & (raw->geometry.sq_entries - 1)] = *sqe;
    axion_index_publish(&raw->map.region->sq_tail, ++raw->index);
}


void
raw_cqe(struct raw *raw, const struct axion_cqe *cqe)
{
    raw->map.cq[raw->index & (raw->geometry.cq_entries - 1)] = *cqe;
    axion_index_publish(&raw->map.region->cq_tail, ++raw->index);
}


/* ---- what the process holds ---- */

int
open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    assert_non_null(dir);
    while (readdir(dir) != NULL) {
        n++;
    }
    closedir(dir);
    return n;
}


int
ring_maps(void)
{
    FILE *file = fopen("/proc/self/maps", "r");
    char line[512];
    int n = 0;

    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        n += strstr(line, "memfd:axion-") != NULL;
    }
    fclose(file);
    return n;
}


uint64_t
next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1du;
}


uint64_t
test_seed(void)
{
    const char *text = getenv("AXION_SEED");
    uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : 0;

    return seed != 0 ? seed : 0x9e3779b97f4a7c15u;
}
