/*
 * The load board, and the costs behind it: one writer, any number of readers
 * that cannot disturb it.
 *
 * The engine maps its memfd first and then seals it with F_SEAL_FUTURE_WRITE:
 * its own mapping stays writable, nobody can make another one, so clients
 * may hold the descriptor and still only read.  Consistency is a seqlock:
 * `sequence` is odd while the writer is inside.  The state itself is copied
 * in relaxed atomic words, so that a reader that is overtaken reads a mixture,
 * sees it by the sequence, and tries again, without a data race in the
 * language's sense.  Readers bound their tries (axion_client_board()); the
 * writer never waits.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "shm/channel.h"
#include "shm/ring.h"

#define BOARD_WORDS (sizeof(struct axion_board) / sizeof(uint32_t))
#define STATE_WORD  (offsetof(struct axion_board, state) / sizeof(uint32_t))

_Static_assert(sizeof(struct axion_board) % sizeof(uint32_t) == 0, "words");
_Static_assert(sizeof(struct axion_cost) == 32, "cost");
_Static_assert(offsetof(struct axion_costs, n) == sizeof(uint32_t),
               "the costs' state starts right behind their sequence");
_Static_assert(offsetof(struct axion_board, state) ==
                   offsetof(struct axion_board, sequence) + 4,
               "the state starts right behind the sequence");

#define COSTS_HEAD_WORDS                                                       \
    (offsetof(struct axion_costs, costs) / sizeof(uint32_t))
#define COST_WORDS (sizeof(struct axion_cost) / sizeof(uint32_t))

struct axion_board_writer {
    int fd;
    struct axion_board *board;
    struct axion_costs *costs; /* in the same mapping */
};


/* Fences that TSan does not know, see axion_full_fence(): its view of the
 * seqlock rests on every word being atomic. */
#if defined(__SANITIZE_THREAD__)
#pragma GCC diagnostic ignored "-Wtsan"
#endif


/* Words [from, end), into what readers see. */
static void
words_in(void *to, const void *from, size_t first, size_t end)
{
    uint32_t *t = to;
    const uint32_t *f = from;

    for (size_t i = first; i < end; i++) {
        __atomic_store_n(&t[i], f[i], __ATOMIC_RELAXED);
    }
}


static void
words_out(void *to, const void *from, size_t first, size_t end)
{
    uint32_t *t = to;
    const uint32_t *f = from;

    for (size_t i = first; i < end; i++) {
        t[i] = __atomic_load_n(&f[i], __ATOMIC_RELAXED);
    }
}


/* Pairs with the writer's last store-release of the sequence. */
static uint32_t
read_begin(const uint32_t *sequence)
{
    return __atomic_load_n(sequence, __ATOMIC_ACQUIRE);
}


static int
read_end(const uint32_t *sequence, uint32_t before)
{
    /* Pairs with the writer's fence after its odd store: whoever has read a
     * word of the new state sees at least the odd sequence. */
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return before == __atomic_load_n(sequence, __ATOMIC_RELAXED);
}


static void
write_begin(uint32_t *sequence)
{
    uint32_t even = __atomic_load_n(sequence, __ATOMIC_RELAXED);

    __atomic_store_n(sequence, even + 1, __ATOMIC_RELAXED);
    /* Pairs with the reader's acquire fence. */
    __atomic_thread_fence(__ATOMIC_RELEASE);
}


static void
write_end(uint32_t *sequence)
{
    uint32_t odd = __atomic_load_n(sequence, __ATOMIC_RELAXED);

    /* Pairs with the reader's first load-acquire. */
    __atomic_store_n(sequence, odd + 1, __ATOMIC_RELEASE);
}


int
axion_board_read(const struct axion_board *board, struct axion_board *copy)
{
    uint32_t before = read_begin(&board->sequence);

    if (before & 1) {
        return 0;
    }
    words_out(copy, board, 0, BOARD_WORDS);
    copy->sequence = before;
    return read_end(&board->sequence, before);
}


int
axion_costs_read(const struct axion_costs *costs, struct axion_costs *copy)
{
    uint32_t before = read_begin(&costs->sequence);

    if (before & 1) {
        return 0;
    }
    words_out(copy, costs, 0, COSTS_HEAD_WORDS);
    if (copy->n > AXION_COSTS_MAX) {
        copy->n = AXION_COSTS_MAX;
    }
    words_out(copy, costs, COSTS_HEAD_WORDS,
              COSTS_HEAD_WORDS + copy->n * COST_WORDS);
    copy->sequence = before;
    return read_end(&costs->sequence, before);
}


void
axion_board_publish(struct axion_board_writer *writer,
                    const struct axion_board *state)
{
    struct axion_board *board = writer->board;

    write_begin(&board->sequence);
    words_in(board, state, STATE_WORD, BOARD_WORDS);
    write_end(&board->sequence);
}


void
axion_board_publish_costs(struct axion_board_writer *writer,
                          const struct axion_costs *state)
{
    struct axion_costs *costs = writer->costs;

    write_begin(&costs->sequence);
    words_in(costs, state, 1, COSTS_HEAD_WORDS + state->n * COST_WORDS);
    write_end(&costs->sequence);
}


int
axion_board_open(struct axion_board_writer **out)
{
    struct axion_board_writer *writer = calloc(1, sizeof(*writer));

    *out = NULL;
    if (writer == NULL) {
        return AXION_ERR_NO_MEMORY;
    }
    writer->fd = memfd_create("axion-board", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (writer->fd < 0 || ftruncate(writer->fd, AXION_BOARD_BYTES_FULL) != 0) {
        goto failed;
    }
    void *map = mmap(NULL, AXION_BOARD_BYTES_FULL, PROT_READ | PROT_WRITE,
                     MAP_SHARED, writer->fd, 0);
    if (map == MAP_FAILED) {
        goto failed;
    }
    writer->board = map;
    writer->costs = (void *)((char *)map + AXION_COSTS_OFFSET);
    if (fcntl(writer->fd, F_ADD_SEALS,
              F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW |
                  F_SEAL_SEAL) != 0) {
        goto failed;
    }
    writer->board->magic = AXION_WIRE_MAGIC;
    writer->board->version = AXION_WIRE_VERSION;
    *out = writer;
    return AXION_OK;

failed:
    axion_board_close(writer);
    return AXION_ERR_SYSTEM;
}


void
axion_board_close(struct axion_board_writer *writer)
{
    if (writer == NULL) {
        return;
    }
    if (writer->board != NULL) {
        munmap(writer->board, AXION_BOARD_BYTES_FULL);
    }
    if (writer->fd >= 0) {
        close(writer->fd);
    }
    free(writer);
}


int
axion_board_fd(const struct axion_board_writer *writer)
{
    return writer->fd;
}
