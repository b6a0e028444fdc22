/*
 * Steps behind the packing: a step runs while later layers are not packed, in
 * the order of the layers, with the bits of a whole model; a weight that is NaN
 * in the last layer ends it with the error that names it and nothing computed;
 * who waits can be called off; a model closes in the middle of packing.  The
 * file is asked for ahead of being read, and nothing of it stays: the weights
 * are the process's own memory, on huge pages where the kernel has them.
 *
 * Packing is held back by a gate that the tests open, so nothing here depends
 * on how fast anything is.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/exec/exec.h"
#include "engine/model/packing.h"
#include "engine/model/plan.h"
#include "tests/engine/bytes.h"
#include "tests/tiny/tiny_model.h"

#define LAYERS    4u
#define TOKENS    40u
#define ROWS      2u
#define CALLED_OFF 77
#define ASKED_MAX 1000000u

static const struct tiny_options dense = {.format = TINY_Q4_1,
                                          .n_layer = LAYERS};
static const struct tiny_options tied = {
    .format = TINY_Q8_0, .n_layer = LAYERS, .tied = true};
static const struct tiny_options mixture = {
    .family = TINY_QWEN3MOE, .format = TINY_Q4_0, .n_layer = LAYERS};
static const struct tiny_options gemma = {
    .family = TINY_GEMMA3, .format = TINY_Q4_0, .n_layer = LAYERS};


/* A file, a model on it, and what runs it. */
struct rig {
    char path[64];
    atomic_uint allowed; /* layers that may be packed */
    atomic_uint over;    /* calls */
    struct ax_model *model;
    struct ax_kv *kv;
    struct ax_exec *exec;
    float logits[ROWS * TINY_N_VOCAB];
    /* What at_layer has seen. */
    uint32_t asked, entered;
    uint32_t give_up_at; /* layer, or LAYERS: never */
    bool opens;          /* lets a layer through when it is asked for it */
};


static bool
may_pack(void *context, uint32_t layer)
{
    struct rig *r = context;

    return layer < atomic_load(&r->allowed);
}


static void
over(void *context)
{
    struct rig *r = context;

    atomic_fetch_add(&r->over, 1);
}


static void
write_bytes(struct rig *r, const void *bytes, size_t n)
{
    strcpy(r->path, "/tmp/axion-packing-XXXXXX");
    int fd = mkstemp(r->path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), (ssize_t)n);
    close(fd);
}


static void
write_model(struct rig *r, const struct tiny_options *o)
{
    size_t n;
    uint8_t *bytes = tiny_model_build(o, &n);

    assert_non_null(bytes);
    write_bytes(r, bytes, n);
    free(bytes);
}


static void
open_rig(struct rig *r, bool behind, uint32_t threads, uint32_t allowed)
{
    struct ax_model_options mo = {.path = r->path,
                                  .n_threads = threads,
                                  .behind = behind,
                                  .packed = over,
                                  .may_pack = behind ? may_pack : NULL,
                                  .context = r};
    struct ax_exec_options eo = {.n_threads = threads,
                                 .batch_tokens_max = TOKENS,
                                 .logits_max = ROWS,
                                 .counters = true};
    struct ax_error err = {0};

    atomic_store(&r->allowed, allowed);
    r->give_up_at = LAYERS;
    assert_int_equal(ax_model_open(&r->model, &mo, &err), AXION_OK);
    struct ax_kv_shape shape = ax_model_kv_shape(r->model);
    assert_int_equal(ax_kv_open(&r->kv, &shape, 1 << 22, &err), AXION_OK);
    assert_int_equal(ax_exec_open(&r->exec, r->model, r->kv, &eo, &err),
                     AXION_OK);
}


static void
close_rig(struct rig *r)
{
    ax_exec_close(r->exec);
    ax_kv_close(r->kv);
    ax_model_close(r->model);
    unlink(r->path);
}


/* Before a layer, and while its weights are waited for. */
static int
at_layer(void *context, uint32_t layer)
{
    struct rig *r = context;
    struct ax_packing *packing = ax_model_packing(r->model);

    r->asked++;
    assert_true(r->asked < ASKED_MAX);
    if (layer == r->give_up_at) {
        return CALLED_OFF;
    }
    /* Layers come in order, none before those in front of it are packed. */
    assert_true(layer >= r->entered);
    assert_true(ax_packing_layers(packing) >= layer);
    r->entered = layer;
    if (r->opens && layer + 1 > atomic_load(&r->allowed)) {
        atomic_store(&r->allowed, layer + 1);
    }
    return 0;
}


static int
run_step(struct rig *r, bool asks)
{
    static uint32_t blocks[256];
    struct ax_kv_sequence seq = {.blocks = blocks, .blocks_max = 256};
    struct ax_kv_sequence *table[] = {&seq};
    struct ax_step_token tokens[TOKENS];

    assert_int_equal(ax_kv_reserve(r->kv, &seq, TOKENS), AXION_OK);
    for (uint32_t i = 0; i < TOKENS; i++) {
        tokens[i] = (struct ax_step_token){
            .token = (int32_t)(i * 7 % TINY_N_VOCAB),
            .position = i,
            .logits_row = i + ROWS >= TOKENS ? i + ROWS - TOKENS : AX_NO_LOGITS,
        };
    }
    struct ax_step step = {
        .tokens = tokens,
        .n_tokens = TOKENS,
        .n_sequences = 1,
        .sequences = table,
        .logits = r->logits,
        .n_logits = ROWS,
        .at_layer = asks ? at_layer : NULL,
        .context = r,
    };
    r->entered = 0;
    int rc = ax_exec_step(r->exec, &step);
    ax_kv_release(r->kv, &seq);
    return rc;
}


static void
expect_same_bits(const struct tiny_options *o, uint32_t threads)
{
    static struct rig whole, behind;

    memset(&whole, 0, sizeof(whole));
    memset(&behind, 0, sizeof(behind));
    write_model(&whole, o);
    strcpy(behind.path, whole.path);
    open_rig(&whole, false, threads, LAYERS);
    assert_int_equal(run_step(&whole, false), AXION_OK);
    assert_int_equal(ax_exec_waited_ns(whole.exec), 0);
    assert_int_equal(atomic_load(&whole.over), 1);

    /* No layer may be packed before the step is asked about it. */
    open_rig(&behind, true, threads, 0);
    assert_int_equal(ax_packing_layers(ax_model_packing(behind.model)), 0);
    assert_int_equal(ax_model_info(behind.model)->load_us, 0);
    behind.opens = true;
    assert_int_equal(run_step(&behind, true), AXION_OK);
    assert_int_equal(behind.entered, LAYERS - 1);
    assert_true(ax_exec_waited_ns(behind.exec) > 0);
    assert_memory_equal(whole.logits, behind.logits, sizeof(whole.logits));
    /* A matrix that only the end reads may be missing until then, not now. */
    assert_int_equal(ax_packing_permille(ax_model_packing(behind.model)), 1000);
    assert_int_equal(ax_model_wait(behind.model, NULL), AXION_OK);
    assert_int_equal(atomic_load(&behind.over), 1);
    assert_true(ax_model_info(behind.model)->load_us > 0);

    memset(behind.logits, 0, sizeof(behind.logits));
    assert_int_equal(run_step(&behind, true), AXION_OK);
    assert_int_equal(ax_exec_waited_ns(behind.exec), 0);
    assert_memory_equal(whole.logits, behind.logits, sizeof(whole.logits));
    close_rig(&behind);
    close_rig(&whole);
}


static void
a_step_that_follows_has_the_bits_of_a_whole_model(void **state)
{
    (void)state;
    for (uint32_t threads = 1; threads <= 3; threads++) {
        expect_same_bits(&dense, threads);
        expect_same_bits(&tied, threads);
        expect_same_bits(&mixture, threads);
        expect_same_bits(&gemma, threads);
    }
}


/* Without at_layer, and with packing as fast as it likes. */
static void
nobody_has_to_ask(void **state)
{
    static struct rig r;
    float first[ROWS * TINY_N_VOCAB];

    (void)state;
    memset(&r, 0, sizeof(r));
    write_model(&r, &dense);
    open_rig(&r, true, 2, UINT32_MAX);
    assert_int_equal(run_step(&r, false), AXION_OK);
    memcpy(first, r.logits, sizeof(first));
    assert_int_equal(run_step(&r, false), AXION_OK);
    assert_memory_equal(first, r.logits, sizeof(first));
    close_rig(&r);
}


/* The first f16 of the tensor's data, a scale, becomes NaN. */
static void
poison(struct bytes *b, const char *tensor)
{
    struct ax_error err;
    struct ax_gguf *g;
    char path[64];
    int fd = bytes_memfd(b, b->n);

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    assert_int_equal(ax_gguf_open(&g, path, &err), AXION_OK);
    const struct ax_gguf_tensor *t = ax_gguf_tensor(g, tensor);
    assert_non_null(t);
    const uint16_t nan = 0x7e00;
    memcpy(b->p + t->offset, &nan, sizeof(nan));
    ax_gguf_close(g);
    close(fd);
}


static void
a_nan_in_the_last_layer_ends_the_step_by_name(void **state)
{
    static struct rig r;
    struct bytes b = {0};
    struct ax_error err = {0};
    size_t n;

    (void)state;
    for (uint32_t threads = 1; threads <= 2; threads++) {
        memset(&r, 0, sizeof(r));
        b.p = tiny_model_build(&dense, &n);
        b.n = b.room = n;
        poison(&b, "blk.3.ffn_down.weight");
        write_bytes(&r, b.p, b.n);
        bytes_free(&b);
        memset(&b, 0, sizeof(b));
        open_rig(&r, true, threads, 1);
        r.opens = true;
        r.logits[0] = 12345;
        assert_int_equal(run_step(&r, true), AXION_ERR_MODEL_FILE);
        assert_int_equal(r.entered, LAYERS - 1);
        /* Nothing was computed with it, now or later. */
        assert_true(r.logits[0] == 12345);
        assert_int_equal(run_step(&r, true), AXION_ERR_MODEL_FILE);
        assert_true(r.logits[0] == 12345);
        assert_int_equal(ax_model_wait(r.model, &err), AXION_ERR_MODEL_FILE);
        assert_non_null(strstr(err.text, "blk.3.ffn_down.weight"));
        assert_non_null(strstr(err.text, "NaN"));
        assert_non_null(strstr(err.text, r.path));
        assert_int_equal(ax_model_wait(r.model, NULL), AXION_ERR_MODEL_FILE);
        assert_int_equal(atomic_load(&r.over), 1);
        close_rig(&r);
    }
}


static void
who_waits_can_be_called_off(void **state)
{
    static struct rig r;

    (void)state;
    memset(&r, 0, sizeof(r));
    write_model(&r, &dense);
    open_rig(&r, true, 2, 2); /* layers 0 and 1 */
    r.give_up_at = 2;
    assert_int_equal(run_step(&r, true), CALLED_OFF);
    r.give_up_at = LAYERS;
    r.opens = true;
    assert_int_equal(run_step(&r, true), AXION_OK);
    close_rig(&r);
}


static void
a_model_closes_while_it_is_packed(void **state)
{
    static struct rig r;

    (void)state;
    for (uint32_t allowed = 0; allowed < LAYERS; allowed++) {
        memset(&r, 0, sizeof(r));
        write_model(&r, &dense);
        open_rig(&r, true, 1 + allowed % 2, allowed);
        close_rig(&r);
        assert_int_equal(atomic_load(&r.over), 0);
    }
}


/* A file that ends early passes no check at open; one that becomes short
 * afterwards is found out by whoever reads it. */
static void
a_file_cut_short_behind_the_header_is_an_error(void **state)
{
    static struct rig r;
    struct ax_error err = {0};

    (void)state;
    memset(&r, 0, sizeof(r));
    write_model(&r, &dense);
    open_rig(&r, true, 2, 0);
    assert_int_equal(truncate(r.path, 20000), 0);
    atomic_store(&r.allowed, UINT32_MAX);
    int rc = run_step(&r, true);
    assert_int_equal(rc, ax_model_wait(r.model, &err));
    assert_int_equal(rc, AXION_ERR_MODEL_FILE);
    assert_non_null(strstr(err.text, r.path));
    close_rig(&r);
}


/* ---- the file and its pages ---- */

#define CALLS_MAX 4096u

/* In the order in which they were made, on whatever thread. */
static struct call {
    uint64_t from, to;
    bool ahead;
} calls[CALLS_MAX];
static atomic_uint n_calls;


static void
note_call(off_t from, uint64_t n, bool ahead)
{
    uint32_t i = atomic_fetch_add(&n_calls, 1);

    if (i < CALLS_MAX) {
        calls[i] = (struct call){(uint64_t)from, (uint64_t)from + n, ahead};
    }
}


ssize_t __real_pread(int fd, void *p, size_t n, off_t off);
ssize_t __wrap_pread(int fd, void *p, size_t n, off_t off);
int __real_posix_fadvise(int fd, off_t off, off_t n, int advice);
int __wrap_posix_fadvise(int fd, off_t off, off_t n, int advice);


ssize_t
__wrap_pread(int fd, void *p, size_t n, off_t off)
{
    note_call(off, n, false);
    return __real_pread(fd, p, n, off);
}


int
__wrap_posix_fadvise(int fd, off_t off, off_t n, int advice)
{
    note_call(off, (uint64_t)n, true);
    return __real_posix_fadvise(fd, off, n, advice);
}


/* Place of the first call for all of the tensor, n if there is none. */
static uint32_t
first_call(const struct ax_gguf_tensor *t, bool ahead, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (calls[i].ahead == ahead && calls[i].from == t->offset &&
            calls[i].to == t->offset + t->bytes) {
            return i;
        }
    }
    return n;
}


/* A matrix of these is one piece: all but the first are asked for once, before
 * anybody reads them. */
static void
pieces_are_asked_for_ahead(void **state)
{
    static struct rig r;
    uint32_t asked = 0;

    (void)state;
    memset(&r, 0, sizeof(r));
    write_model(&r, &dense);
    atomic_store(&n_calls, 0);
    open_rig(&r, false, 1, LAYERS);
    const uint32_t n = atomic_load(&n_calls);
    const struct ax_plan *plan = ax_model_plan(r.model);
    assert_true(n > plan->n_matrices && n < CALLS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        asked += calls[i].ahead;
    }
    assert_int_equal(asked, plan->n_matrices - 1);
    for (uint32_t i = 0; i < plan->n_matrices; i++) {
        const struct ax_gguf_tensor *t = plan->matrices[i].tensor;
        uint32_t read = first_call(t, false, n);
        assert_true(read < n);
        assert_true(first_call(t, true, n) < read ||
                    strcmp(t->name, "token_embd.weight") == 0);
    }
    close_rig(&r);
}


/* Of the mapping that has this address: whether a line of it has the words. */
static bool
mapping_has(const void *address, const char *key, const char *words)
{
    char line[512];
    bool inside = false, found = false;
    FILE *smaps = fopen("/proc/self/smaps", "r");

    assert_non_null(smaps);
    while (fgets(line, sizeof(line), smaps) != NULL) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
            inside = (uintptr_t)address >= from && (uintptr_t)address < to;
        } else if (inside && strncmp(line, key, strlen(key)) == 0) {
            found |= strstr(line, words) != NULL;
        }
    }
    fclose(smaps);
    return found;
}


static void
expect_nothing_of(const char *path)
{
    char line[512], name[64];
    FILE *maps = fopen("/proc/self/maps", "r");

    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps) != NULL) {
        assert_null(strstr(line, path));
    }
    fclose(maps);
    for (int fd = 0; fd < 256; fd++) {
        snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
        ssize_t n = readlink(name, line, sizeof(line) - 1);
        line[n > 0 ? n : 0] = '\0';
        assert_null(strstr(line, path));
    }
}


static void
nothing_of_the_file_stays(void **state)
{
    static struct rig r;

    (void)state;
    for (int behind = 0; behind < 2; behind++) {
        memset(&r, 0, sizeof(r));
        write_model(&r, &dense);
        open_rig(&r, behind, 2, LAYERS + 1);
        assert_int_equal(ax_model_wait(r.model, NULL), AXION_OK);
        expect_nothing_of(r.path);
        const void *weights = ax_model_plan(r.model)->matrices[0].packed;
        assert_int_equal((uintptr_t)weights % (2u << 20), 0);
        assert_true(mapping_has(weights, "VmFlags:", " wr "));
        /* A kernel without huge pages knows no such flag. */
        if (access("/sys/kernel/mm/transparent_hugepage/enabled", R_OK) == 0) {
            assert_true(mapping_has(weights, "VmFlags:", " hg"));
        } else {
            printf("no transparent huge pages here: not looked for\n");
        }
        close_rig(&r);
    }
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_that_follows_has_the_bits_of_a_whole_model),
        cmocka_unit_test(nobody_has_to_ask),
        cmocka_unit_test(a_nan_in_the_last_layer_ends_the_step_by_name),
        cmocka_unit_test(who_waits_can_be_called_off),
        cmocka_unit_test(a_model_closes_while_it_is_packed),
        cmocka_unit_test(a_file_cut_short_behind_the_header_is_an_error),
        cmocka_unit_test(pieces_are_asked_for_ahead),
        cmocka_unit_test(nothing_of_the_file_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
