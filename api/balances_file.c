/*
 * Opening the file of balances: made if it is not there, repaired if nobody
 * else has it, taken as it is if somebody has.  See balances.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "api/balances_private.h"
#include "shm/errors.h"

#define LOST_IDS (1u << 24)


int
balances_mutex_init(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t attr;
    int error = pthread_mutexattr_init(&attr);

    if (error == 0) {
        error = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
        if (error == 0)
            error = pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
        if (error == 0)
            error = pthread_mutex_init(mutex, &attr);
        pthread_mutexattr_destroy(&attr);
    }
    return error;
}


static void
read_boot(char *boot, size_t bytes)
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, boot, bytes - 1);

    if (fd >= 0)
        close(fd);
    boot[n < 0 ? 0 : n] = '\0';
}


static int
make_places(struct file *file, uint32_t from, uint32_t to)
{
    uint32_t i;
    int error = 0;

    for (i = from; i < to && error == 0; i++)
        error = balances_mutex_init(&file->tenants[i].mutex);
    return error;
}


static int
make_mutexes(struct file *file)
{
    uint32_t i;
    int error = balances_mutex_init(&file->header.mutex);

    for (i = 0; i < PROCESSES_MAX && error == 0; i++) {
        error = balances_mutex_init(&file->processes[i].mutex);
        file->processes[i].pid = 0;
    }
    return error != 0 ? error : make_places(file, 0, file->header.n_places);
}


static int
is_whole(const struct tenant_copy *copy)
{
    return copy->sequence == 0 || copy->sum == balances_sum(copy);
}


/* After a crash of the machine: the newest copy that is whole.  1 when there
 * was none and the balance begins at nothing. */
static unsigned
choose_copy(struct tenant_record *tenant)
{
    struct tenant_copy *current = balances_current(tenant);
    struct tenant_copy *other = &tenant->copies[current == tenant->copies];

    if (is_whole(current))
        return 0;
    if (is_whole(other) && other->sequence != 0) {
        memset(current, 0, sizeof(*current));
        return 0;
    }
    memset(tenant->copies, 0, sizeof(tenant->copies));
    tenant->copies[0].lease = tenant->copies[1].lease = NO_LEASE;
    return 1;
}


static unsigned
repair_tenants(struct file *file, int other_boot)
{
    unsigned i, repaired = 0;

    for (i = 0; i < file->header.n_places; i++) {
        struct tenant_record *tenant = &file->tenants[i];
        struct tenant_copy *current;

        if (tenant->number == 0)
            continue;
        repaired += choose_copy(tenant);
        current = balances_current(tenant);
        balances_redo(file, current);
        if (other_boot)
            axion_balance_rebase(&current->balance);
        current->lease = NO_LEASE;
        current->sum = balances_sum(current);
    }
    return repaired;
}


/* 1 when a tenant's record can have written it. */
static int
is_sane(const struct file *file, const struct lease_record *record)
{
    const struct lease_body *body = &record->body;

    return body->id != 0 && body->tenant < file->header.n_places &&
           (body->state == LEASE_OPEN || body->state == LEASE_WAITING) &&
           (body->id & (LEASES_MAX - 1)) == (uint64_t)(record - file->leases) &&
           file->tenants[body->tenant].number != 0;
}


/* Nobody lives: what was open is an orphan, and they are all there is.  But
 * one that no engine had got cost nothing, if the machine did not restart:
 * then the store that says who got it may be lost. */
static void
repair_leases(struct file *file, int other_boot)
{
    static const struct axion_limits no_limits;
    struct axion_limit_time now = axion_limit_now();
    unsigned i;

    for (i = 0; i < file->header.n_places; i++) {
        struct tenant_copy *current = balances_current(&file->tenants[i]);

        if (file->tenants[i].number == 0)
            continue;
        current->balance.active = current->balance.waiting = 0;
    }
    file->header.orphans = 0;
    for (i = 0; i < LEASES_MAX; i++) {
        struct lease_record *record = &file->leases[i];
        struct axion_balance *balance;

        if (record->owner == OWNER_NONE)
            continue;
        if (!is_sane(file, record) || record->body.state != LEASE_OPEN) {
            record->body.state = LEASE_FREE;
            record->owner = OWNER_NONE;
            continue;
        }
        balance =
            &balances_current(&file->tenants[record->body.tenant])->balance;
        balance->active++;
        if (record->engine == 0 && !other_boot) {
            (void)axion_limits_settle(balance, &no_limits, &now, 0, 0, 0,
                                      &record->body.hold);
            record->body.state = LEASE_FREE;
            record->owner = OWNER_NONE;
            continue;
        }
        record->owner = OWNER_ORPHAN;
        file->header.orphans++;
        record->orphan_ns = now.ns;
    }
    for (i = 0; i < file->header.n_places; i++) {
        struct tenant_copy *current = balances_current(&file->tenants[i]);

        if (file->tenants[i].number != 0)
            current->sum = balances_sum(current);
    }
}


static int
format_file(struct file *file)
{
    struct header *header = &file->header;

    do {
        header->gateway = randombytes_random();
    } while (header->gateway == 0);
    header->version = BALANCES_VERSION;
    header->layout_bytes = sizeof(*file);
    header->n_places = TENANTS_MIN;
    read_boot(header->boot, sizeof(header->boot));
    if (make_mutexes(file) != 0)
        return AXION_ERR_SYSTEM;
    atomic_thread_fence(memory_order_seq_cst);
    header->magic = BALANCES_MAGIC;
    return AXION_OK;
}


static int
repair(struct file *file, unsigned *repaired)
{
    char boot[sizeof(file->header.boot)];
    int other;

    read_boot(boot, sizeof(boot));
    other = strcmp(boot, file->header.boot) != 0;
    memcpy(file->header.boot, boot, sizeof(boot));
    if (make_mutexes(file) != 0)
        return AXION_ERR_SYSTEM;
    /* Ids that the disk has not heard of may be in an engine's journal. */
    file->header.serial += LOST_IDS;
    *repaired = repair_tenants(file, other);
    balances_count_tenants(file);
    repair_leases(file, other);
    return AXION_OK;
}


/* TENANTS_MIN doubled some times. */
static int
is_table(uint32_t n_places)
{
    return n_places >= TENANTS_MIN && n_places <= TENANTS_MAX &&
           (n_places & (n_places - 1)) == 0;
}


static int
check_header(const struct header *header, char *why, size_t why_bytes)
{
    if (header->magic != BALANCES_MAGIC) {
        snprintf(why, why_bytes, "it is no file of balances");
        return AXION_ERR_BAD_OPTION;
    }
    if (header->version != BALANCES_VERSION ||
        header->layout_bytes != sizeof(struct file) ||
        !is_table(header->n_places)) {
        snprintf(why, why_bytes,
                 "it was written by another version of Axion (its format is "
                 "%u, this one's %u)",
                 header->version, BALANCES_VERSION);
        return AXION_ERR_BAD_OPTION;
    }
    return AXION_OK;
}


static int
fail(char *why, size_t why_bytes, const char *what)
{
    int error = errno;

    snprintf(why, why_bytes, "%s: %s", what, strerror(error));
    errno = error;
    return AXION_ERR_SYSTEM;
}


/* A file that is too small for one of ours: another version's, or none. */
static int
too_small(const struct axion_balances *b, char *why, size_t why_bytes)
{
    struct header header = {0};

    if (pread(b->fd, &header, sizeof(header), 0) < 0)
        return fail(why, why_bytes, "pread()");
    header.layout_bytes = 0;
    return check_header(&header, why, why_bytes);
}


static size_t
bytes_with(uint32_t n_places)
{
    return offsetof(struct file, tenants) +
           n_places * sizeof(struct tenant_record);
}


/* Memory is there for as many tenants as there may ever be, the file only for
 * those that it has places for: nothing behind them is touched. */
static int
map_file(struct axion_balances *b, int sole, char *why, size_t why_bytes)
{
    struct stat st;
    void *at;
    int error;

    if (fstat(b->fd, &st) != 0)
        return fail(why, why_bytes, "fstat()");
    if (st.st_size != 0 && (uint64_t)st.st_size < bytes_with(TENANTS_MIN))
        return too_small(b, why, why_bytes);
    if (st.st_size == 0 && !sole) {
        snprintf(why, why_bytes, "it is empty and in use");
        return AXION_ERR_BAD_OPTION;
    }
    error = posix_fallocate(b->fd, 0, (off_t)bytes_with(TENANTS_MIN));
    if (error != 0) {
        errno = error;
        return fail(why, why_bytes, "posix_fallocate()");
    }
    at = mmap(NULL, sizeof(struct file), PROT_READ | PROT_WRITE, MAP_SHARED,
              b->fd, 0);
    if (at == MAP_FAILED)
        return fail(why, why_bytes, "mmap()");
    b->file = at;
    return AXION_OK;
}


/* Of a file whose header is good: all that it promises is there. */
static int
allocate_places(struct axion_balances *b, char *why, size_t why_bytes)
{
    int error =
        posix_fallocate(b->fd, 0, (off_t)bytes_with(b->file->header.n_places));

    if (error == 0)
        return AXION_OK;
    errno = error;
    return fail(why, why_bytes, "posix_fallocate()");
}


/* Killed in here, it has changed nothing that counts. */
int
balances_double_places(struct axion_balances *b)
{
    uint32_t n = b->file->header.n_places;

    if (n >= TENANTS_MAX ||
        posix_fallocate(b->fd, 0, (off_t)bytes_with(2 * n)) != 0 ||
        make_places(b->file, n, 2 * n) != 0)
        return 0;
    atomic_store(&b->file->header.n_places, 2 * n);
    return 1;
}


void
balances_count_tenants(struct file *file)
{
    uint32_t i, n = 0;

    for (i = 0; i < file->header.n_places; i++)
        n += file->tenants[i].number != 0;
    atomic_store(&file->header.n_tenants, n);
}


static int
is_blank(const struct header *header)
{
    static const struct header blank;

    return memcmp(header, &blank, sizeof(header->magic)) == 0;
}


static int
open_file(struct axion_balances *b, unsigned *repaired, char *why,
          size_t why_bytes)
{
    int sole, rc;

    b->fd = open(b->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (b->fd < 0)
        return fail(why, why_bytes, "open()");
    sole = flock(b->fd, LOCK_EX | LOCK_NB) == 0;
    if (!sole && flock(b->fd, LOCK_SH) != 0)
        return fail(why, why_bytes, "flock()");
    rc = map_file(b, sole, why, why_bytes);
    if (rc == AXION_OK && sole && is_blank(&b->file->header)) {
        rc = format_file(b->file);
    } else if (rc == AXION_OK) {
        rc = check_header(&b->file->header, why, why_bytes);
        if (rc == AXION_OK)
            rc = allocate_places(b, why, why_bytes);
        if (rc == AXION_OK && sole)
            rc = repair(b->file, repaired);
    }
    if (rc == AXION_OK && sole && flock(b->fd, LOCK_SH) != 0)
        return fail(why, why_bytes, "flock()");
    return rc;
}


int
axion_balances_open(struct axion_balances **out, const char *path,
                    unsigned *repaired, char *why, size_t why_bytes)
{
    struct axion_balances *b = calloc(1, sizeof(*b));
    int rc = AXION_ERR_NO_MEMORY;

    *out = NULL;
    *repaired = 0;
    snprintf(why, why_bytes, "no memory");
    if (b == NULL)
        return rc;
    b->fd = -1;
    b->path = strdup(path);
    if (b->path != NULL)
        rc = open_file(b, repaired, why, why_bytes);
    if (rc != AXION_OK) {
        axion_balances_close(b);
        return rc;
    }
    *out = b;
    return AXION_OK;
}


void
axion_balances_close(struct axion_balances *b)
{
    if (b == NULL)
        return;
    if (b->file != NULL) {
        axion_balances_part(b);
        munmap(b->file, sizeof(*b->file));
    }
    if (b->fd >= 0)
        close(b->fd);
    free(b->path);
    free(b);
}


const char *
axion_balances_path(const struct axion_balances *b)
{
    return b->path;
}


uint32_t
axion_balances_gateway(const struct axion_balances *b)
{
    return b->file->header.gateway;
}
