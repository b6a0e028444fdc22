/*
 * Anonymous mappings for large memory; see arena.h.
 */
#include "engine/pool/arena.h"

#include <fcntl.h>
#include <linux/mman.h>
#include <stdatomic.h>
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


static struct {
    atomic_bool wanted; /* set before threads start, read by any of them */
    atomic_uint_least64_t with, without;
} huge;


void
ax_arena_want_huge(bool want)
{
    atomic_store_explicit(&huge.wanted, want, memory_order_relaxed);
}


void
ax_arena_huge_bytes(uint64_t *with, uint64_t *without)
{
    *with = atomic_load_explicit(&huge.with, memory_order_relaxed);
    *without = atomic_load_explicit(&huge.without, memory_order_relaxed);
}


/* From the administrator's pool: reserved and touched, or not at all. */
static bool
map_huge(struct ax_arena *arena, uint64_t bytes)
{
    size_t size = ((size_t)bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
    if (bytes == 0 || bytes > SIZE_MAX / 2 ||
        !atomic_load_explicit(&huge.wanted, memory_order_relaxed)) {
        return false;
    }
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2MB |
                       MAP_POPULATE,
                   -1, 0);
    if (p == MAP_FAILED) {
        atomic_fetch_add_explicit(&huge.without, size, memory_order_relaxed);
        return false;
    }
    atomic_fetch_add_explicit(&huge.with, size, memory_order_relaxed);
    *arena = (struct ax_arena){
        .base = p, .bytes = size, .mapping = p, .mapping_bytes = size};
    return true;
}


int
ax_arena_open(struct ax_arena *arena, uint64_t bytes)
{
    if (map_huge(arena, bytes)) {
        return AXION_OK;
    }
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


bool
ax_arena_populate(const struct ax_arena *arena, size_t offset, size_t bytes)
{
    if (offset >= arena->bytes) {
        return true;
    }
    size_t left = arena->bytes - offset;
    return madvise((char *)arena->base + offset, bytes < left ? bytes : left,
                   MADV_POPULATE_WRITE) == 0;
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
