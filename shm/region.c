/*
 * The shared region: its bounds, its making by the client and its adoption
 * by the engine.
 *
 * A mapping of a foreign file is a promise that somebody else can break: cut
 * the file and the next access is a SIGBUS.  So the engine maps only what
 * cannot be cut: a memfd (plain tmpfs pages, not huge ones, whose pool may be
 * empty when a punched hole is touched again) that carries F_SEAL_SHRINK and
 * F_SEAL_GROW and is as large as HELLO's numbers need.  Seals cannot
 * be taken off, so one look is enough.  A mapping that is refused for any
 * other reason (F_SEAL_WRITE, no address space) fails in mmap() and is an
 * error, not a fault.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "shm/errors.h"
#include "shm/ring.h"


static int
power_of_two_within(uint32_t n, uint32_t low, uint32_t high)
{
    return n >= low && n <= high && (n & (n - 1)) == 0;
}


const char *
axion_geometry_fault(const struct axion_geometry *g, uint32_t streams_max)
{
    if (!power_of_two_within(g->sq_entries, AXION_SQ_ENTRIES_MIN,
                             AXION_SQ_ENTRIES_MAX)) {
        return "sq_entries";
    }
    if (!power_of_two_within(g->cq_entries, AXION_CQ_ENTRIES_MIN,
                             AXION_CQ_ENTRIES_MAX)) {
        return "cq_entries";
    }
    if (g->arena_bytes < AXION_ARENA_BYTES_MIN ||
        g->arena_bytes > AXION_ARENA_BYTES_MAX ||
        g->arena_bytes % AXION_CACHE_LINE != 0) {
        return "arena_bytes";
    }
    if (g->streams == 0 || g->streams > streams_max ||
        g->streams > AXION_STREAMS_MAX) {
        return "streams";
    }
    if (g->credit < AXION_CREDIT_MIN || g->credit > AXION_CREDIT_MAX) {
        return "credit";
    }
    if ((uint64_t)g->streams * g->credit > g->cq_entries) {
        return "streams * credit passes cq_entries";
    }
    return NULL;
}


size_t
axion_region_bytes(const struct axion_geometry *g)
{
    return (size_t)AXION_REGION_HEADER +
           (size_t)g->sq_entries * AXION_RECORD_BYTES +
           (size_t)g->cq_entries * AXION_RECORD_BYTES + g->arena_bytes;
}


static int
map_region(struct axion_mapping *map, int fd, const struct axion_geometry *g)
{
    size_t bytes = axion_region_bytes(g);
    uint8_t *base =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (base == MAP_FAILED) {
        return errno == ENOMEM ? AXION_ERR_NO_MEMORY : AXION_ERR_SYSTEM;
    }
    map->bytes = bytes;
    map->region = (struct axion_region *)base;
    base += AXION_REGION_HEADER;
    map->sq = (struct axion_sqe *)base;
    base += (size_t)g->sq_entries * AXION_RECORD_BYTES;
    map->cq = (struct axion_cqe *)base;
    base += (size_t)g->cq_entries * AXION_RECORD_BYTES;
    map->arena = base;
    return AXION_OK;
}


int
axion_region_create(struct axion_mapping *map, int *fd,
                    const struct axion_geometry *g)
{
    int rc = AXION_ERR_SYSTEM;

    *fd = memfd_create("axion-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*fd < 0) {
        return AXION_ERR_SYSTEM;
    }
    if (ftruncate(*fd, (off_t)axion_region_bytes(g)) != 0 ||
        fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) !=
            0) {
        goto failed;
    }
    rc = map_region(map, *fd, g);
    if (rc != AXION_OK) {
        goto failed;
    }

    struct axion_region *region = map->region;
    region->magic = AXION_WIRE_MAGIC;
    region->version = AXION_WIRE_VERSION;
    region->sq_entries = g->sq_entries;
    region->cq_entries = g->cq_entries;
    region->arena_bytes = g->arena_bytes;
    region->streams = g->streams;
    return AXION_OK;

failed:;
    int kept = errno;
    close(*fd);
    *fd = -1;
    errno = kept;
    return rc;
}


const char *
axion_memfd_fault(int fd, size_t bytes)
{
    struct stat st;
    struct statfs fs;

    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || fstatfs(fd, &fs) != 0 ||
        fs.f_type != TMPFS_MAGIC) {
        return "descriptor is not a memfd";
    }
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 ||
        (seals & F_SEAL_GROW) == 0) {
        return "memfd is not sealed against shrink and grow";
    }
    if (st.st_size < 0 || (uint64_t)st.st_size < bytes) {
        return "memfd is too small";
    }
    return NULL;
}


int
axion_region_adopt(struct axion_mapping *map, int fd,
                   const struct axion_geometry *g, const char **why)
{
    *why = axion_memfd_fault(fd, axion_region_bytes(g));
    if (*why != NULL) {
        return AXION_ERR_CHANNEL_LIMITS;
    }
    int rc = map_region(map, fd, g);
    if (rc == AXION_ERR_SYSTEM) {
        *why = "memfd cannot be mapped for writing";
        return AXION_ERR_CHANNEL_LIMITS;
    }
    return rc;
}


void
axion_region_unmap(struct axion_mapping *map)
{
    if (map->region != NULL) {
        munmap(map->region, map->bytes);
    }
    memset(map, 0, sizeof(*map));
}
