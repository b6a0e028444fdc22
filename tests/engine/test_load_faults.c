/*
 * Loading a model and running a step when the Nth allocation, mapping, read
 * or thread fails, for every N until nothing fails any more: a clean error
 * each time, nothing left behind (ASan looks), and the try after it works.
 * The linker's --wrap puts the faults in.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/exec/exec.h"
#include "tests/engine/bytes.h"


#define TOKENS  8u

/* Calls until the one that fails; negative: none does. */
static atomic_long countdown = -1;


static bool
fails(void)
{
    return atomic_fetch_sub(&countdown, 1) == 0;
}


void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
char *__real_strdup(const char *s);
char *__wrap_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
char *__wrap_strndup(const char *s, size_t n);
void *__real_mmap(void *p, size_t n, int prot, int flags, int fd, off_t off);
void *__wrap_mmap(void *p, size_t n, int prot, int flags, int fd, off_t off);
ssize_t __real_pread(int fd, void *p, size_t n, off_t off);
ssize_t __wrap_pread(int fd, void *p, size_t n, off_t off);
int __real_pthread_create(pthread_t *t, const pthread_attr_t *attr,
    void *(*start)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *attr,
    void *(*start)(void *), void *arg);


void *
__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}


void *
__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}


void *
__wrap_realloc(void *p, size_t size)
{
    return fails() ? NULL : __real_realloc(p, size);
}


void *
__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : __real_aligned_alloc(alignment, size);
}


char *
__wrap_strdup(const char *s)
{
    return fails() ? NULL : __real_strdup(s);
}


char *
__wrap_strndup(const char *s, size_t n)
{
    return fails() ? NULL : __real_strndup(s, n);
}


void *
__wrap_mmap(void *p, size_t n, int prot, int flags, int fd, off_t off)
{
    if (fails()) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return __real_mmap(p, n, prot, flags, fd, off);
}


ssize_t
__wrap_pread(int fd, void *p, size_t n, off_t off)
{
    if (fails()) {
        errno = EIO;
        return -1;
    }
    return __real_pread(fd, p, n, off);
}


int
__wrap_pthread_create(pthread_t *t, const pthread_attr_t *attr,
                      void *(*start)(void *), void *arg)
{
    return fails() ? EAGAIN : __real_pthread_create(t, attr, start, arg);
}


static int
run_step(const struct ax_model *m, struct ax_kv *kv, struct ax_exec *e,
         float *logits)
{
    uint32_t block;
    struct ax_kv_sequence seq = { .blocks = &block, .blocks_max = 1 };
    struct ax_kv_sequence *table[] = { &seq };
    struct ax_step_token tokens[TOKENS];

    assert_true(ax_model_info(m)->n_vocab == 331);
    assert_int_equal(ax_kv_reserve(kv, &seq, TOKENS), AXION_OK);
    for (uint32_t i = 0; i < TOKENS; i++) {
        tokens[i] = (struct ax_step_token) {
            .token = (int32_t) (i + 40),
            .position = i,
            .logits_row = i + 1 == TOKENS ? 0 : AX_NO_LOGITS,
        };
    }
    struct ax_step step = {
        .tokens = tokens, .n_tokens = TOKENS, .n_sequences = 1,
        .sequences = table, .logits = logits, .n_logits = 1,
    };
    int rc = ax_exec_step(e, &step);
    ax_kv_release(kv, &seq);
    return rc;
}


/* File to logits; the first error, with its line. */
static int
whole_way(const char *path, float *logits, struct ax_error *err)
{
    struct ax_model_options mo = { .path = path, .n_threads = 2 };
    struct ax_exec_options eo = { .n_threads = 2, .batch_tokens_max = TOKENS,
                                  .logits_max = 1, .counters = true };
    struct ax_model *m = NULL;
    struct ax_kv *kv = NULL;
    struct ax_exec *e = NULL;
    int rc = ax_model_open(&m, &mo, err);

    if (rc == AXION_OK) {
        struct ax_kv_shape shape = ax_model_kv_shape(m);
        rc = ax_kv_open(&kv, &shape, 1 << 20, err);
    }
    if (rc == AXION_OK) {
        rc = ax_exec_open(&e, m, kv, &eo, err);
    }
    if (rc == AXION_OK) {
        /* From here on nothing may be allocated at all. */
        long before = atomic_load(&countdown);
        rc = run_step(m, kv, e, logits);
        assert_int_equal(atomic_load(&countdown), before);
    }
    ax_exec_close(e);
    ax_kv_close(kv);
    ax_model_close(m);
    return rc;
}


static void
fail_one_by_one(const char *path, uint32_t faults_min, float *expected)
{
    float logits[331];
    struct ax_error err;

    assert_int_equal(whole_way(path, expected, &err), AXION_OK);

    uint32_t faults = 0;
    for (long n = 0;; n++) {
        memset(&err, 0, sizeof(err));
        atomic_store(&countdown, n);
        int rc = whole_way(path, logits, &err);
        long left = atomic_exchange(&countdown, -1);
        if (left >= 0) {
            /* The fault was never reached: the whole way needs n calls. */
            assert_int_equal(rc, AXION_OK);
            break;
        }
        faults++;
        if (rc != AXION_ERR_NO_MEMORY && rc != AXION_ERR_SYSTEM) {
            fail_msg("fault %ld gave %d \"%s\"", n, rc, err.text);
        }
        assert_int_equal(err.number, rc);
        assert_true(strlen(err.text) > 0);
    }
    printf("%u faults, each a clean error\n", faults);
    assert_true(faults >= faults_min);
    assert_int_equal(whole_way(path, logits, &err), AXION_OK);
    assert_memory_equal(expected, logits, sizeof(logits));
}


static void
every_fault_is_a_clean_error(void **state)
{
    struct bytes b = { 0 };
    float packed[331], mapped[331];
    char path[64] = "/tmp/axion-faults-XXXXXX", pack[80];
    struct ax_model *m;

    (void) state;
    bytes_tiny(&b, "q4_1");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, b.p, b.n), (ssize_t) b.n);
    fail_one_by_one(path, 41, packed);

    /* The same from a pack file. */
    struct ax_model_options mo = { .path = path, .n_threads = 1 };
    snprintf(pack, sizeof(pack), "%s.axpack", path);
    assert_int_equal(ax_model_open(&m, &mo, NULL), AXION_OK);
    assert_int_equal(ax_model_pack(m, pack, NULL), AXION_OK);
    ax_model_close(m);
    fail_one_by_one(pack, 30, mapped);
    assert_memory_equal(packed, mapped, sizeof(packed));
    unlink(pack);
    unlink(path);
    close(fd);
    bytes_free(&b);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_fault_is_a_clean_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
