/*
 * The load board: one writer, any number of readers that cannot disturb it.
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
_Static_assert(offsetof(struct axion_board, state) ==
                   offsetof(struct axion_board, sequence) + 4,
               "the state starts right behind the sequence");

struct axion_board_writer {
    int fd;
    struct axion_board *board;
};


/* Fences that TSan does not know, see axion_full_fence(): its view of the
 * seqlock rests on every word being atomic. */
#if defined(__SANITIZE_THREAD__)
#pragma GCC diagnostic ignored "-Wtsan"
#endif


static void
copy_words_in(struct axion_board *to, const struct axion_board *from)
{
    uint32_t *t = (uint32_t *)to;
    const uint32_t *f = (const uint32_t *)from;

    for (size_t i = STATE_WORD; i < BOARD_WORDS; i++) {
        __atomic_store_n(&t[i], f[i], __ATOMIC_RELAXED);
    }
}


int
axion_board_read(const struct axion_board *board, struct axion_board *copy)
{
    const uint32_t *f = (const uint32_t *)board;
    uint32_t *t = (uint32_t *)copy;

    /* Pairs with the writer's last store-release of the sequence. */
    uint32_t before = __atomic_load_n(&board->sequence, __ATOMIC_ACQUIRE);
    if (before & 1) {
        return 0;
    }
    for (size_t i = 0; i < BOARD_WORDS; i++) {
        t[i] = __atomic_load_n(&f[i], __ATOMIC_RELAXED);
    }
    /* Pairs with the writer's fence after its odd store: whoever has read a
     * word of the new state sees at least the odd sequence. */
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    uint32_t after = __atomic_load_n(&board->sequence, __ATOMIC_RELAXED);
    copy->sequence = before;
    return before == after;
}


void
axion_board_publish(struct axion_board_writer *writer,
                    const struct axion_board *state)
{
    struct axion_board *board = writer->board;
    uint32_t sequence = __atomic_load_n(&board->sequence, __ATOMIC_RELAXED);

    __atomic_store_n(&board->sequence, sequence + 1, __ATOMIC_RELAXED);
    /* Pairs with the reader's acquire fence. */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    copy_words_in(board, state);
    /* Pairs with the reader's first load-acquire. */
    __atomic_store_n(&board->sequence, sequence + 2, __ATOMIC_RELEASE);
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
    if (writer->fd < 0 ||
        ftruncate(writer->fd, sizeof(struct axion_board)) != 0) {
        goto failed;
    }
    void *map = mmap(NULL, sizeof(struct axion_board), PROT_READ | PROT_WRITE,
                     MAP_SHARED, writer->fd, 0);
    if (map == MAP_FAILED) {
        goto failed;
    }
    writer->board = map;
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
        munmap(writer->board, sizeof(struct axion_board));
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
