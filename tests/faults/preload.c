/*
 * Lets the Nth allocation fail in a program that is not ours to link anew:
 * nginx, with the module in it (LD_PRELOAD).  Counted are calls that have
 * the module among their callers, whoever passed them on: what nginx, OpenSSL
 * or glibc allocate for themselves is not ours to test.
 *
 * The file that AXION_FAULTS names is mapped, and shared with the test and
 * with every process that forks from here; without it nothing fails.
 *
 *   bytes 0..7    calls until one fails; 0: none does
 *   bytes 8..15   calls so far
 *   bytes 16..23  calls that were failed
 *
 * The allocator behind it is glibc's own, under the names that it has for
 * this; what it has allocated itself, free() gives back as always.
 */
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MODULE     "ngx_http_axion_module.so"
#define FRAMES_MAX 48

struct faults {
    int64_t until;
    int64_t calls;
    int64_t failed;
};

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t n, size_t bytes);
extern void *__libc_realloc(void *memory, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);

void *memalign(size_t alignment, size_t bytes);

static struct faults *faults;
static uintptr_t module_from, module_to;
static __thread int looking; /* what is called meanwhile allocates, too */


static int
take_range(struct dl_phdr_info *info, size_t bytes, void *context)
{
    (void)bytes;
    (void)context;
    if (strstr(info->dlpi_name, MODULE) == NULL) {
        return 0;
    }
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];

        if (part->p_type == PT_LOAD && (part->p_flags & PF_X) != 0) {
            module_from = info->dlpi_addr + part->p_vaddr;
            module_to = module_from + part->p_memsz;
        }
    }
    return 1;
}


static int
is_for_module(void)
{
    void *frames[FRAMES_MAX];
    int found = 0;

    if (looking) {
        return 0;
    }
    looking = 1;
    if (module_to == 0) {
        (void)dl_iterate_phdr(take_range, NULL);
    }
    int n = module_to != 0 ? backtrace(frames, FRAMES_MAX) : 0;
    for (int i = 0; i < n; i++) {
        uintptr_t at = (uintptr_t)frames[i];

        found |= at >= module_from && at < module_to;
    }
    looking = 0;
    return found;
}


__attribute__((constructor)) static void
map_faults(void)
{
    const char *path = getenv("AXION_FAULTS");
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;

    if (fd < 0) {
        return;
    }
    void *memory =
        mmap(NULL, sizeof(*faults), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    faults = memory == MAP_FAILED ? NULL : memory;
    close(fd);
}


static int
fails(void)
{
    if (faults == NULL || !is_for_module()) {
        return 0;
    }
    __atomic_fetch_add(&faults->calls, 1, __ATOMIC_RELAXED);
    if (__atomic_load_n(&faults->until, __ATOMIC_RELAXED) == 0 ||
        __atomic_sub_fetch(&faults->until, 1, __ATOMIC_RELAXED) != 0) {
        return 0;
    }
    __atomic_fetch_add(&faults->failed, 1, __ATOMIC_RELAXED);
    errno = ENOMEM;
    return 1;
}


void *
malloc(size_t bytes)
{
    return fails() ? NULL : __libc_malloc(bytes);
}


void *
calloc(size_t n, size_t bytes)
{
    return fails() ? NULL : __libc_calloc(n, bytes);
}


void *
realloc(void *memory, size_t bytes)
{
    return fails() ? NULL : __libc_realloc(memory, bytes);
}


void *
memalign(size_t alignment, size_t bytes)
{
    return fails() ? NULL : __libc_memalign(alignment, bytes);
}


void *
aligned_alloc(size_t alignment, size_t bytes)
{
    return memalign(alignment, bytes);
}


int
posix_memalign(void **memory, size_t alignment, size_t bytes)
{
    int kept = errno;
    void *got = memalign(alignment, bytes);

    errno = kept;
    if (got == NULL) {
        return ENOMEM;
    }
    *memory = got;
    return 0;
}
