/* The load board and the costs beside it: readers see whole states or none,
 * cannot write, cannot make themselves a writable mapping, and give up on a
 * writer that never ends. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "tests/shm/pair.h"

#define READS 20000


static void
test_whole_states_or_none(void **state)
{
    struct axion_board board;
    struct axion_board_writer *writer;
    struct pair pair;

    (void)state;
    assert_int_equal(axion_board_open(&writer), AXION_OK);
    const struct axion_channel_options options = {.board = writer};
    pair_open(&pair, NULL, &options);

    struct axion_board written = {.state = AXION_ENGINE_READY,
                                  .sequence = 77,
                                  .n_models = 1,
                                  .heartbeat = 5};
    strcpy(written.models[0].id, "smollm2");
    axion_board_publish(writer, &written);
    assert_int_equal(axion_client_board(pair.client, &board), AXION_OK);
    assert_int_equal(board.magic, AXION_WIRE_MAGIC);
    assert_int_equal(board.version, AXION_WIRE_VERSION);
    assert_int_equal(board.state, AXION_ENGINE_READY);
    assert_int_equal(board.heartbeat, 5);
    assert_string_equal(board.models[0].id, "smollm2");
    pair_close(&pair);
    axion_board_close(writer);
    axion_board_close(NULL);
}


/* What steps cost, beside the board: as many as there are. */
static void
test_costs_beside_the_board(void **state)
{
    static struct axion_costs written, copy;
    struct axion_board_writer *writer;
    struct pair pair;

    (void)state;
    assert_int_equal(axion_board_open(&writer), AXION_OK);
    const struct axion_channel_options options = {.board = writer};
    pair_open(&pair, NULL, &options);
    assert_int_equal(axion_client_costs(pair.client, &copy), AXION_OK);
    assert_int_equal(copy.n, 0);

    written.n_ops = AXION_COST_OPS_MAX;
    written.n = AXION_COSTS_MAX;
    strcpy(written.ops[AXION_COST_OPS_MAX - 1], "ffn_down");
    written.costs[AXION_COSTS_MAX - 1] = (struct axion_cost){
        .layer = 79, .op = AXION_COST_OPS_MAX - 1, .ns = 5, .bytes = 1ull << 40};
    axion_board_publish_costs(writer, &written);
    assert_int_equal(axion_client_costs(pair.client, &copy), AXION_OK);
    assert_int_equal(copy.sequence, 2);
    assert_int_equal(copy.n, AXION_COSTS_MAX);
    assert_memory_equal(copy.ops, written.ops, sizeof(copy.ops));
    assert_memory_equal(copy.costs, written.costs, sizeof(copy.costs));

    written.n = 1;
    axion_board_publish_costs(writer, &written);
    assert_int_equal(axion_client_costs(pair.client, &copy), AXION_OK);
    assert_int_equal(copy.n, 1);
    pair_close(&pair);
    axion_board_close(writer);
}


static void
test_only_the_engine_can_write(void **state)
{
    struct axion_board_writer *writer;

    (void)state;
    assert_int_equal(axion_board_open(&writer), AXION_OK);
    int fd = axion_board_fd(writer);
    assert_true(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) ==
                MAP_FAILED);
    assert_int_equal(errno, EPERM);
    assert_int_equal(write(fd, "x", 1), -1);
    assert_int_equal(ftruncate(fd, 0), -1);
    void *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(map != MAP_FAILED);
    assert_int_equal(mprotect(map, 4096, PROT_READ | PROT_WRITE), -1);
    munmap(map, 4096);
    axion_board_close(writer);
}


/* An engine that writes what it likes into its board. */
struct hostile {
    void *board;
    size_t bytes;
    int fd;
    int socket;
};


static struct axion_client *
hostile_open(struct hostile *h, size_t bytes)
{
    const struct axion_client_options options = {.streams = 8};
    struct axion_welcome welcome = {
        .head = {AXION_WIRE_MAGIC, AXION_WIRE_VERSION, AXION_MSG_WELCOME},
        .board_bytes = (uint32_t)bytes};
    struct axion_client *client;
    struct axion_board copy;
    int fds[2];

    h->bytes = bytes;
    h->fd = memfd_create("axion-board", MFD_ALLOW_SEALING | MFD_CLOEXEC);
    assert_int_equal(ftruncate(h->fd, (off_t)bytes), 0);
    h->board =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, h->fd, 0);
    assert_true(h->board != MAP_FAILED);
    fcntl(h->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds);
    h->socket = fds[1];
    assert_int_equal(axion_client_open_fd(&client, fds[0], &options), AXION_OK);
    assert_int_equal(axion_client_board(client, &copy),
                     AXION_ERR_ENGINE_UNAVAILABLE);
    assert_int_equal(
        axion_message_send(fds[1], &welcome, sizeof(welcome), h->fd), AXION_OK);
    assert_int_equal(axion_client_service(client), AXION_OK);
    return client;
}


static void
hostile_close(struct hostile *h, struct axion_client *client)
{
    axion_client_close(client);
    munmap(h->board, h->bytes);
    close(h->fd);
    close(h->socket);
}


/* An odd sequence for ever, then numbers out of bounds. */
static void
test_hostile_board(void **state)
{
    struct axion_client *client;
    struct axion_board copy;
    struct hostile h;

    (void)state;
    client = hostile_open(&h, sizeof(struct axion_board));
    struct axion_board *board = h.board;

    board->sequence = 1;
    assert_int_equal(axion_client_board(client, &copy), AXION_AGAIN);
    board->sequence = 2;
    assert_int_equal(axion_client_board(client, &copy), AXION_ERR_PROTOCOL);
    board->magic = AXION_WIRE_MAGIC;
    board->version = AXION_WIRE_VERSION;
    board->n_models = UINT32_MAX;
    memset(board->models, 'x', sizeof(board->models));
    assert_int_equal(axion_client_board(client, &copy), AXION_OK);
    assert_int_equal(copy.n_models, AXION_MODELS_MAX);
    assert_int_equal(strlen(copy.models[AXION_MODELS_MAX - 1].id),
                     AXION_NAME_BYTES - 1);
    hostile_close(&h, client);
}


/* The same in the costs; and an older engine's memfd, which ends before. */
static void
test_hostile_costs(void **state)
{
    static struct axion_costs copy;
    struct hostile h;

    (void)state;
    struct axion_client *client = hostile_open(&h, AXION_BOARD_BYTES_FULL);
    struct axion_costs *costs =
        (void *)((char *)h.board + AXION_COSTS_OFFSET);
    memset(costs, 0xff, sizeof(*costs));
    assert_int_equal(axion_client_costs(client, &copy), AXION_AGAIN);
    assert_int_equal(copy.n, 0);
    costs->sequence = 2;
    costs->costs[AXION_COSTS_MAX - 1].op = AXION_COST_OPS_MAX;
    costs->costs[AXION_COSTS_MAX - 2].op = AXION_COST_OPS_MAX - 1;
    assert_int_equal(axion_client_costs(client, &copy), AXION_OK);
    assert_int_equal(copy.n_ops, AXION_COST_OPS_MAX);
    assert_int_equal(copy.n, 1); /* the only one that has a name */
    assert_int_equal(copy.costs[0].op, AXION_COST_OPS_MAX - 1);
    assert_int_equal(strlen(copy.ops[AXION_COST_OPS_MAX - 1]),
                     AXION_COST_OP_BYTES - 1);
    hostile_close(&h, client);

    client = hostile_open(&h, sizeof(struct axion_board));
    assert_int_equal(axion_client_costs(client, &copy), AXION_OK);
    assert_int_equal(copy.n, 0);
    hostile_close(&h, client);
}


/* ---- a reader beside a writer ---- */

struct race {
    struct axion_board_writer *writer;
    int stop;
};


/* Every word of a state says the same number. */
static void
fill(struct axion_board *board, uint32_t n)
{
    memset(board, 0, sizeof(*board));
    board->heartbeat = n;
    board->steps = n;
    board->accepted_tokens_total = n;
    board->models[AXION_MODELS_MAX - 1].reserved[1] = n;
}


static void *
write_boards(void *context)
{
    struct race *race = context;
    struct axion_board board;

    for (uint32_t n = 1; !__atomic_load_n(&race->stop, __ATOMIC_RELAXED); n++) {
        fill(&board, n);
        axion_board_publish(race->writer, &board);
        for (int i = 0; i < 2000; i++) { /* as an engine: mostly outside */
            __asm__ volatile("");
        }
    }
    return NULL;
}


static void
test_reader_beside_writer(void **state)
{
    struct axion_board copy;
    struct race race = {0};
    struct pair pair;
    pthread_t thread;
    uint64_t last = 0;
    int good = 0;

    (void)state;
    assert_int_equal(axion_board_open(&race.writer), AXION_OK);
    const struct axion_channel_options options = {.board = race.writer};
    pair_open(&pair, NULL, &options);
    fill(&copy, 0);
    axion_board_publish(race.writer, &copy);
    assert_int_equal(pthread_create(&thread, NULL, write_boards, &race), 0);
    for (int i = 0; i < READS; i++) {
        int rc = axion_client_board(pair.client, &copy);

        if (rc == AXION_AGAIN) {
            continue;
        }
        assert_int_equal(rc, AXION_OK);
        assert_true(copy.heartbeat >= last);
        assert_int_equal(copy.steps, copy.heartbeat);
        assert_int_equal(copy.accepted_tokens_total, copy.heartbeat);
        assert_int_equal(copy.models[AXION_MODELS_MAX - 1].reserved[1],
                         copy.heartbeat);
        last = copy.heartbeat;
        good++;
    }
    __atomic_store_n(&race.stop, 1, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    print_message("%d of %d reads found a whole state\n", good, READS);
    assert_int_equal(axion_client_board(pair.client, &copy), AXION_OK);
    pair_close(&pair);
    axion_board_close(race.writer);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_states_or_none),
        cmocka_unit_test(test_only_the_engine_can_write),
        cmocka_unit_test(test_costs_beside_the_board),
        cmocka_unit_test(test_hostile_board),
        cmocka_unit_test(test_hostile_costs),
        cmocka_unit_test(test_reader_beside_writer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
