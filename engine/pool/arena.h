/*
 * Large memory reserved once: weights, KV blocks, activations.
 *
 * An arena is one anonymous mapping, aligned to 2 MiB and advised to huge
 * pages (reading weights from huge pages is about 10 % faster, see
 * kernel-prototype.md in the project's facts): the kernel grants them where it
 * has some together when a page is first touched.  ax_arena_take() cuts pieces
 * off in order; nothing is ever given back but the whole.
 *
 * Whoever wants them for certain (--huge-pages) takes them from the pool that
 * the administrator has set aside (vm.nr_hugepages): they are there, and
 * zeroed, when open returns, so that no step waits for the kernel.  An arena
 * that the pool has not enough for is advised as always; ax_arena_huge_bytes()
 * tells.
 */
#ifndef AX_ARENA_H
#define AX_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>


struct ax_arena {
    void *base;   /* NULL: not open */
    size_t bytes; /* usable */
    size_t used;
    void *mapping; /* as mmap gave it */
    size_t mapping_bytes;
};


/* AXION_OK or AXION_ERR_NO_MEMORY; bytes may be 0. */
int ax_arena_open(struct ax_arena *arena, uint64_t bytes);
void ax_arena_close(struct ax_arena *arena);

/*
 * Bytes [offset, offset + bytes) of a file as an arena that cannot be written
 * to; all who map the file share its pages.  offset is a multiple of 2 MiB.
 * AXION_ERR_NO_MEMORY.
 */
int ax_arena_map(struct ax_arena *arena, int fd, uint64_t offset,
                 uint64_t bytes);

/*
 * Brings in the pages of [offset, offset + bytes), as much of it as there is,
 * so that the first write there need not wait for one to be zeroed.  What is
 * written there already stays: any time, beside any thread.  False: the
 * kernel cannot (Linux before 5.14) or has no memory for it.
 */
bool ax_arena_populate(const struct ax_arena *arena, size_t offset,
                       size_t bytes);

/* What the kernel counts as this process's in memory, shared pages included;
 * 0: it does not say. */
uint64_t ax_resident_bytes(void);

/* For arenas of the whole process that are opened from here on. */
void ax_arena_want_huge(bool want);
/* Bytes opened since with such pages, and without. */
void ax_arena_huge_bytes(uint64_t *with, uint64_t *without);

/* Aligned to AX_ARENA_ALIGN; NULL when the arena is too small. */
#define AX_ARENA_ALIGN 64u
void *ax_arena_take(struct ax_arena *arena, size_t bytes);

#endif /* AX_ARENA_H */
