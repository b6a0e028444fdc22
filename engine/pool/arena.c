/*
 * Anonymous mappings for large memory; see arena.h.
 */
#include "engine/pool/arena.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/errors.h"


#define HUGE_PAGE ((size_t)2 << 20)


/* Address space from a huge page's start on, with these rights. */
static int
reserve(struct ax_arena *arena, uint64_t bytes, int protection)
{
    *arena = (struct ax_arena){0};
    if (bytes > SIZE_MAX / 2 - 2 * HUGE_PAGE) {
        return AXION_ERR_NO_MEMORY;
    }
    size_t size = ((size_t)bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
    size_t room = size + HUGE_PAGE;
    void *p = mmap(NULL, room, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return AXION_ERR_NO_MEMORY;
    }
    uintptr_t aligned = ((uintptr_t)p + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
    arena->mapping = p;
    arena->mapping_bytes = room;
    arena->base = (void *)aligned;
    arena->bytes = size;
    return AXION_OK;
}


int
ax_arena_open(struct ax_arena *arena, uint64_t bytes)
{
    int rc = reserve(arena, bytes, PROT_READ | PROT_WRITE);

    if (rc == AXION_OK) {
        /* Refused where the kernel has none: small pages do. */
        (void)madvise(arena->base, arena->bytes, MADV_HUGEPAGE);
    }
    return rc;
}


int
ax_arena_map(struct ax_arena *arena, int fd, uint64_t offset, uint64_t bytes)
{
    int rc = reserve(arena, bytes, PROT_NONE);

    if (rc != AXION_OK) {
        return rc;
    }
    if (mmap(arena->base, (size_t)bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
             (off_t)offset) == MAP_FAILED) {
        ax_arena_close(arena);
        return AXION_ERR_NO_MEMORY;
    }
    arena->bytes = (size_t)bytes;
    /* Both are favours: large pages where the file system has them, and no
     * page faults while requests are served. */
    (void)madvise(arena->base, arena->bytes, MADV_HUGEPAGE);
    (void)madvise(arena->base, arena->bytes, MADV_POPULATE_READ);
    return AXION_OK;
}


void
ax_arena_close(struct ax_arena *arena)
{
    if (arena->mapping != NULL) {
        munmap(arena->mapping, arena->mapping_bytes);
    }
    *arena = (struct ax_arena){0};
}


uint64_t
ax_resident_bytes(void)
{
    /* "size resident shared ..." in pages; no stdio, which would allocate. */
    char text[128];
    char *end;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;

    if (fd >= 0) {
        close(fd);
    }
    text[n > 0 ? n : 0] = '\0';
    (void)strtoull(text, &end, 10);
    return strtoull(end, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}


void *
ax_arena_take(struct ax_arena *arena, size_t bytes)
{
    size_t left = arena->bytes - arena->used;

    if (bytes > left) {
        return NULL;
    }
    void *p = (char *)arena->base + arena->used;
    size_t step = (bytes + AX_ARENA_ALIGN - 1) & ~(size_t)(AX_ARENA_ALIGN - 1);
    arena->used += step < left ? step : left;
    return p;
}
