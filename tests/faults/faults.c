/* The state of faults.h: armed here, counted by wrappers.c. */
#include "tests/faults/faults.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static struct faults own = {.countdown = -1};
struct faults *faults = &own;


static struct faults *
map_state(int fd)
{
    void *map = mmap(NULL, sizeof(struct faults), PROT_READ | PROT_WRITE,
                     MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        perror("faults");
        abort();
    }
    return map;
}


__attribute__((constructor)) static void
adopt_state(void)
{
    const char *fd = getenv("AXION_FAULTS_FD");
    if (fd != NULL) {
        faults = map_state(atoi(fd));
    }
}


void
faults_share(void)
{
    char text[16];
    int fd = memfd_create("faults", 0);
    if (fd < 0 || ftruncate(fd, sizeof(struct faults)) != 0) {
        perror("faults");
        abort();
    }
    faults = map_state(fd);
    atomic_store(&faults->countdown, -1);
    snprintf(text, sizeof(text), "%d", fd);
    setenv("AXION_FAULTS_FD", text, 1);
}


void
faults_arm(uint32_t kinds, int64_t n)
{
    atomic_store(&faults->kinds, kinds);
    faults->call[0] = 0;
    atomic_store(&faults->countdown, n);
}


int
faults_disarm(void)
{
    atomic_store(&faults->kinds, 0);
    return atomic_exchange(&faults->countdown, -1) < 0;
}


int
faults_hit(uint32_t kind, const char *call)
{
    if ((atomic_load(&faults->kinds) & kind) == 0) {
        return 0;
    }
    int64_t left = atomic_fetch_sub(&faults->countdown, 1);
    if (left > 0 || -left > (int64_t)atomic_load(&faults->repeat)) {
        return 0;
    }
    snprintf(faults->call, sizeof(faults->call), "%s", call);
    return 1;
}
