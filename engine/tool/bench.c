/*
 * `axion bench`: options, and the runs.
 *
 * A test is n_prompt tokens of prefill in chunks of n_batch, then n_gen steps
 * of decode, for n_sequences sequences at once, behind n_depth tokens that
 * are not timed.  Tokens are pseudo-random from a fixed seed: kernels do not
 * care what they compute, and runs stay comparable.  Nothing is sampled.
 */
#include "engine/tool/bench.h"
#include "engine/tool/bench_list.h"
#include "engine/tool/tool.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "engine/exec/profile.h"
#include "engine/pool/arena.h"
#include "engine/pool/place.h"
#include "engine/pool/pool.h"


#define PAIRS_MAX     16u
#define WARM_STEPS    16u /* of decode: everything has been read once */
#define TOKENS_MAX    (1u << 20)
#define SEQUENCES_MAX 1024u
#define READ_PART     8u /* of a repetition's time: its weights alone */


/* -pg: prompt and generation in one test. */
struct pairs {
    uint32_t n;
    struct {
        uint32_t prompt, gen;
    } v[PAIRS_MAX];
};


struct options {
    const char *path;
    const char *isa;
    struct ax_bench_list prompt, gen, depth, threads, sequences, batch;
    struct pairs pairs;
    uint32_t reps;
    bool no_warmup;
    bool wants_peaks;
    bool pin;
    bool huge_pages;
    uint32_t realtime;
    bool counters;
    const char *profile;
    uint32_t kv_type;
    uint32_t value_type; /* -ctv; AXK_KV_TYPE_END: not given */
    enum ax_bench_format format;
};


struct bench {
    const struct options *o;
    struct ax_model *model;
    struct ax_kv *kv;
    struct ax_exec *exec;
    struct ax_placement placement;
    FILE *profile;
    uint32_t n_batch;
    uint32_t n_sequences;
    struct ax_kv_sequence *sequences;
    struct ax_kv_sequence **table;
    struct ax_step_token *tokens;
    float *logits;
    struct ax_arena logits_arena;
    uint64_t random;
    bool timed; /* steps count */
    uint32_t n_steps;
    uint64_t steps_ns[AX_BENCH_STEPS_MAX]; /* the first ones of a test */
    struct ax_error err;
};


static const char usage[] =
    "usage: axion bench -m FILE [options]\n"
    "  -m, --model FILE       GGUF file\n"
    "  -p, --n-prompt N,...   tokens of prefill (512)\n"
    "  -n, --n-gen N,...      tokens of decode (128)\n"
    "  -pg P,G                a test of P tokens of prefill, then G of "
    "decode;\n"
    "                         may be given several times\n"
    "  -d, --n-depth N,...    tokens in the context before the test (0)\n"
    "  -s, --sequences N,...  sequences at once (1)\n"
    "  -b, --batch-size N,... tokens of one step at most (512)\n"
    "  -t, --threads N,...    compute threads (all CPUs)\n"
    "  -r, --repetitions N    (5)\n"
    "  -o, --output FORMAT    table, csv, json or jsonl (table)\n"
    "      --isa NAME         cap of the instruction set: scalar, avx2, "
    "avxvnni, avx512,\n"
    "                         avx512-bf16, amx, amx-bf16\n"
    "      --no-warmup        no repetition ahead of those that count\n"
    "      --peaks            measures the machine's peaks behind each test, "
    "for "
    "json\n"
    "                         and jsonl\n"
    "      --profile FILE     time, bytes and operations by layer and kind of "
    "work,\n"
    "                         as CSV\n"
    "      --kv-type NAME     how keys and values are kept: f16, bf16 or q8_0 "
    "(f16);\n"
    "                         also -ctk; -ctv may say it once more\n"
    "      --pin              a CPU of its own for each thread\n"
    "      --realtime N       SCHED_FIFO at this priority\n"
    "      --huge-pages       memory on huge pages that were set aside\n"
    "  -v, --verbose          time by kind of work, to stderr\n"
    "N,... may be ranges, 1-4, 512-2048+512 or 1-64*2; an option given again "
    "adds to its list.\n";


/* Numbers that are no list: there are no ranges of them. */
static bool
has_range(const char *text)
{
    return strchr(text, '-') != NULL;
}


static bool
parse_one(const char *text, uint32_t max, uint32_t *out)
{
    struct ax_bench_list list = {0};

    if (has_range(text) || !ax_bench_list_add(&list, text, max) ||
        list.n != 1 || list.v[0] == 0) {
        return false;
    }
    *out = list.v[0];
    return true;
}


static bool
parse_pair(const char *text, struct pairs *out)
{
    struct ax_bench_list list = {0};

    if (has_range(text) || !ax_bench_list_add(&list, text, TOKENS_MAX) ||
        list.n != 2 || list.v[0] + list.v[1] == 0 || out->n == PAIRS_MAX) {
        return false;
    }
    out->v[out->n].prompt = list.v[0];
    out->v[out->n++].gen = list.v[1];
    return true;
}


static bool
parse_format(const char *text, enum ax_bench_format *out)
{
    static const char *const names[] = {"table", "csv", "json", "jsonl"};

    for (uint32_t i = 0; i < 4; i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = (enum ax_bench_format)i;
            return true;
        }
    }
    /* llama-bench's name for the same. */
    *out = AX_BENCH_TABLE;
    return strcmp(text, "md") == 0;
}


static bool
parse_option(struct options *o, int option, const char *arg)
{
    switch (option) {
    case 'm':
        o->path = arg;
        return true;
    case 'p':
        return ax_bench_list_add(&o->prompt, arg, TOKENS_MAX);
    case 'n':
        return ax_bench_list_add(&o->gen, arg, TOKENS_MAX);
    case 'd':
        return ax_bench_list_add(&o->depth, arg, TOKENS_MAX);
    case 's':
        return ax_bench_list_add(&o->sequences, arg, SEQUENCES_MAX) &&
               !ax_bench_list_has_zero(&o->sequences);
    case 'b':
        return ax_bench_list_add(&o->batch, arg, AX_EXEC_BATCH_MAX) &&
               !ax_bench_list_has_zero(&o->batch);
    case 'g':
        return parse_pair(arg, &o->pairs);
    case 'P':
        o->profile = arg;
        return true;
    case 'k':
        o->kv_type = axk_kv_type_of(arg);
        return o->kv_type != AXK_KV_TYPE_END;
    case 'V':
        o->value_type = axk_kv_type_of(arg);
        return o->value_type != AXK_KV_TYPE_END;
    case 'w':
        o->no_warmup = true;
        return true;
    case 'x':
        o->wants_peaks = true;
        return true;
    case 'y':
        o->pin = true;
        return true;
    case 'z':
        return parse_one(arg, 99, &o->realtime);
    case 'H':
        o->huge_pages = true;
        return true;
    case 't':
        return ax_bench_list_add(&o->threads, arg, AX_POOL_THREADS_MAX) &&
               !ax_bench_list_has_zero(&o->threads);
    case 'r':
        return parse_one(arg, AX_BENCH_REPS_MAX, &o->reps);
    case 'o':
        return parse_format(arg, &o->format);
    case 'i':
        o->isa = arg;
        return true;
    case 'v':
        o->counters = true;
        return true;
    default:
        return false;
    }
}


static bool
parse_options(int argc, char **argv, struct options *o)
{
    static const struct option long_options[] = {
        {"model", required_argument, NULL, 'm'},
        {"n-prompt", required_argument, NULL, 'p'},
        {"n-gen", required_argument, NULL, 'n'},
        {"pg", required_argument, NULL, 'g'},
        {"profile", required_argument, NULL, 'P'},
        {"kv-type", required_argument, NULL, 'k'},
        {"ctk", required_argument, NULL, 'k'},
        {"ctv", required_argument, NULL, 'V'},
        {"no-warmup", no_argument, NULL, 'w'},
        {"peaks", no_argument, NULL, 'x'},
        {"pin", no_argument, NULL, 'y'},
        {"realtime", required_argument, NULL, 'z'},
        {"huge-pages", no_argument, NULL, 'H'},
        {"n-depth", required_argument, NULL, 'd'},
        {"sequences", required_argument, NULL, 's'},
        {"batch-size", required_argument, NULL, 'b'},
        {"threads", required_argument, NULL, 't'},
        {"repetitions", required_argument, NULL, 'r'},
        {"output", required_argument, NULL, 'o'},
        {"isa", required_argument, NULL, 'i'},
        {"verbose", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int option;

    optind = 1;
    /* llama-bench's -pg is a long option with one hyphen. */
    while ((option = getopt_long_only(argc, argv, "m:p:n:d:s:b:t:r:o:vh",
                                      long_options, NULL)) != -1) {
        if (!parse_option(o, option, optarg)) {
            if (option != 'h' && option != '?') {
                fprintf(stderr, "axion bench: bad value of -%c: %s\n", option,
                        optarg);
            }
            return false;
        }
    }
    if (o->path == NULL || optind != argc) {
        fprintf(stderr, "axion bench: a model (-m) is needed, and no other "
                        "arguments\n");
        return false;
    }
    if (o->value_type != AXK_KV_TYPE_END && o->value_type != o->kv_type) {
        fprintf(stderr,
                "axion bench: keys and values are kept alike: not -ctk %s and "
                "-ctv %s\n",
                axk_kv_type_name(o->kv_type), axk_kv_type_name(o->value_type));
        return false;
    }
    return true;
}


static uint32_t
next_token(struct bench *b)
{
    /* xorshift64: any sequence without a short period does. */
    b->random ^= b->random << 13;
    b->random ^= b->random >> 7;
    b->random ^= b->random << 17;
    return (uint32_t)(b->random >> 33) % ax_model_info(b->model)->n_vocab;
}


static int
run_step(struct bench *b, uint32_t n_tokens, uint32_t n_logits)
{
    struct ax_step step = {
        .tokens = b->tokens,
        .n_tokens = n_tokens,
        .n_sequences = b->n_sequences,
        .sequences = b->table,
        .logits = b->logits,
        .n_logits = n_logits,
    };
    uint64_t start = ax_pool_clock_ns();
    int rc = ax_exec_step(b->exec, &step);

    if (b->timed && b->n_steps < AX_BENCH_STEPS_MAX) {
        b->steps_ns[b->n_steps++] = ax_pool_clock_ns() - start;
    }
    return rc == AXION_OK ? rc
                          : ax_error_set(&b->err, rc, "a step failed: %s",
                                         axion_error_info(rc)->text);
}


/* n tokens of prefill of one sequence, logits for the very last. */
static int
prefill(struct bench *b, uint32_t sequence, uint32_t n)
{
    struct ax_kv_sequence *seq = &b->sequences[sequence];
    uint32_t end = seq->n_tokens + n;
    int rc = AXION_OK;

    while (seq->n_tokens < end && rc == AXION_OK) {
        uint32_t start = seq->n_tokens;
        uint32_t left = end - start;
        uint32_t m = left < b->n_batch ? left : b->n_batch;
        rc = ax_kv_reserve(b->kv, seq, start + m);
        for (uint32_t i = 0; i < m; i++) {
            b->tokens[i] = (struct ax_step_token){
                .token = (int32_t)next_token(b),
                .position = start + i,
                .sequence = sequence,
                .logits_row = start + i + 1 == end ? 0 : AX_NO_LOGITS,
            };
        }
        if (rc == AXION_OK) {
            rc = run_step(b, m, start + m == end ? 1 : 0);
        }
    }
    return rc;
}


static int
prefill_all(struct bench *b, uint32_t n)
{
    int rc = AXION_OK;

    for (uint32_t s = 0; s < b->n_sequences && rc == AXION_OK; s++) {
        rc = prefill(b, s, n);
    }
    return rc;
}


/* One token of every sequence. */
static int
decode(struct bench *b)
{
    for (uint32_t s = 0; s < b->n_sequences; s++) {
        struct ax_kv_sequence *seq = &b->sequences[s];
        b->tokens[s] = (struct ax_step_token){
            .token = (int32_t)next_token(b),
            .position = seq->n_tokens,
            .sequence = s,
            .logits_row = s,
        };
        int rc = ax_kv_reserve(b->kv, seq, seq->n_tokens + 1);
        if (rc != AXION_OK) {
            return rc;
        }
    }
    return run_step(b, b->n_sequences, b->n_sequences);
}


/* One repetition; ns NULL: the one that warms up, which need not decode to
 * the end. */
static int
run_once(struct bench *b, const struct ax_bench_result *r, uint64_t *ns)
{
    for (uint32_t s = 0; s < b->n_sequences; s++) {
        ax_kv_release(b->kv, &b->sequences[s]);
    }
    b->random = 0x9e3779b97f4a7c15u;
    ax_exec_counters_enable(b->exec, false);
    int rc = prefill_all(b, r->n_depth);
    uint64_t start = ax_pool_clock_ns();
    b->timed = ns != NULL;
    ax_exec_counters_enable(b->exec, b->timed);
    if (rc == AXION_OK) {
        rc = prefill_all(b, r->n_prompt);
    }
    uint32_t n_gen = b->timed || r->n_gen < WARM_STEPS ? r->n_gen : WARM_STEPS;
    for (uint32_t i = 0; i < n_gen && rc == AXION_OK; i++) {
        rc = decode(b);
    }
    if (b->timed) {
        *ns = ax_pool_clock_ns() - start;
    }
    b->timed = false;
    return rc;
}


static void
close_run(struct bench *b)
{
    ax_exec_close(b->exec);
    ax_placement_end(&b->placement);
    ax_kv_close(b->kv);
    if (b->sequences != NULL) {
        free(b->sequences[0].blocks);
    }
    free(b->sequences);
    free(b->table);
    free(b->tokens);
    ax_arena_close(&b->logits_arena);
    b->exec = NULL;
    b->kv = NULL;
    b->sequences = NULL;
    b->table = NULL;
    b->tokens = NULL;
    b->logits = NULL;
}


static int
open_run(struct bench *b, const struct ax_bench_result *r)
{
    const struct ax_model_info *info = ax_model_info(b->model);
    uint64_t length = (uint64_t)r->n_depth + r->n_prompt + r->n_gen;
    struct ax_kv_shape shape = ax_model_kv_shape(b->model);
    uint32_t n = r->n_sequences;

    shape.type = (enum axk_kv_type)b->o->kv_type;
    if (length > info->n_ctx) {
        return ax_error_set(&b->err, AXION_ERR_BAD_OPTION,
                            "%llu tokens of context; the model has %u",
                            (unsigned long long)length, info->n_ctx);
    }
    uint32_t blocks = ax_kv_blocks_for((uint32_t)length);
    struct ax_exec_options eo = {
        .n_threads = r->n_threads,
        .batch_tokens_max = r->n_batch > n ? r->n_batch : n,
        .logits_max = n,
        .sequences_max = n,
        .counters = b->o->counters || b->profile != NULL,
    };
    b->n_batch = r->n_batch;
    b->n_sequences = n;
    b->sequences = calloc(n, sizeof(*b->sequences));
    b->table = calloc(n, sizeof(*b->table));
    b->tokens = calloc(eo.batch_tokens_max, sizeof(*b->tokens));
    size_t logits = (size_t)n * info->n_vocab * sizeof(*b->logits);
    if (ax_arena_open(&b->logits_arena, logits) == AXION_OK) {
        b->logits = ax_arena_take(&b->logits_arena, logits);
    }
    shape.step_tokens_max = b->n_batch;
    int rc =
        ax_kv_open(&b->kv, &shape,
                   n * ax_kv_bytes_needed(&shape, (uint32_t)length), &b->err);
    if (rc != AXION_OK) {
        return rc;
    }
    /* Not the kernel's zeroing of pages is to be measured. */
    while (ax_kv_populate(b->kv, UINT64_MAX)) {
    }
    size_t table = (size_t)blocks * ax_kv_groups(b->kv);
    uint32_t *tables = calloc(n * table, sizeof(*tables));
    if (b->sequences == NULL || b->table == NULL || b->tokens == NULL ||
        b->logits == NULL || tables == NULL) {
        free(tables);
        return ax_error_set(&b->err, AXION_ERR_NO_MEMORY, "no memory");
    }
    for (uint32_t s = 0; s < n; s++) {
        b->sequences[s].blocks = tables + s * table;
        b->sequences[s].blocks_max = blocks;
        b->table[s] = &b->sequences[s];
    }
    rc = ax_exec_open(&b->exec, b->model, b->kv, &eo, &b->err);
    return rc != AXION_OK
               ? rc
               : ax_pool_place(ax_exec_pool(b->exec), &b->placement, &b->err);
}


static int
compare_ns(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}


static void
find_percentiles(struct bench *b, struct ax_bench_result *r)
{
    uint32_t n = b->n_steps;

    qsort(b->steps_ns, n, sizeof(b->steps_ns[0]), compare_ns);
    r->step_p50_ns = n > 0 ? b->steps_ns[n / 2] : 0;
    r->step_p99_ns = n > 0 ? b->steps_ns[(uint64_t)n * 99 / 100] : 0;
}


/* The weights alone, for a part of the time that the repetition took. */
static void
read_weights(struct bench *b, struct ax_bench_result *r, uint64_t rep_ns)
{
    uint64_t until = r->read_ns + rep_ns / READ_PART;

    do {
        ax_peaks_weights(b->exec, &r->read_bytes, &r->read_ns);
    } while (r->read_ns < until);
}


static int
run_test(struct bench *b, struct ax_bench_result *r)
{
    int rc = open_run(b, r);

    b->n_steps = 0;
    r->read_bytes = 0;
    r->read_ns = 0;
    if (rc == AXION_OK && !b->o->no_warmup) {
        rc = run_once(b, r, NULL);
    }
    for (uint32_t i = 0; i < r->n_reps && rc == AXION_OK; i++) {
        rc = run_once(b, r, &r->samples_ns[i]);
        if (rc == AXION_OK && b->o->wants_peaks) {
            read_weights(b, r, r->samples_ns[i]);
        }
    }
    if (rc == AXION_OK) {
        find_percentiles(b, r);
    }
    return rc;
}


static int
write_profile(struct bench *b, const struct ax_bench_result *r)
{
    char name[64], test[80];

    if (b->profile == NULL) {
        return AXION_OK;
    }
    ax_bench_test_name(r, name, sizeof(name));
    /* What the table has a column of. */
    if (b->o->threads.n > 1) {
        snprintf(test, sizeof(test), "%s t%u", name, r->n_threads);
    } else {
        snprintf(test, sizeof(test), "%s", name);
    }
    return ax_profile_write(b->profile, b->exec, test, &r->peaks) == 0
               ? AXION_OK
               : ax_error_set(&b->err, AXION_ERR_SYSTEM, "cannot write %s",
                              b->o->profile);
}


static int
open_profile(struct bench *b)
{
    if (b->o->profile == NULL) {
        return AXION_OK;
    }
    b->profile = fopen(b->o->profile, "we");
    if (b->profile == NULL) {
        return ax_error_set(&b->err, AXION_ERR_BAD_OPTION, "%s: %s",
                            b->o->profile, strerror(errno));
    }
    fputs(AX_PROFILE_HEAD, b->profile);
    return AXION_OK;
}


static int
close_profile(struct bench *b)
{
    return b->profile == NULL || fclose(b->profile) == 0
               ? AXION_OK
               : ax_error_set(&b->err, AXION_ERR_SYSTEM, "cannot write %s",
                              b->o->profile);
}


/* One test with everything chosen; prints its line. */
static int
run_and_print(struct bench *b, struct ax_bench_result *r, uint32_t *index)
{
    int rc = run_test(b, r);

    r->rss_bytes = ax_resident_bytes();
    if (rc == AXION_OK && (b->o->wants_peaks || b->profile != NULL)) {
        rc = ax_peaks_measure(r->n_threads, &r->peaks, &b->err);
    }
    if (rc == AXION_OK) {
        ax_bench_print(stdout, b->o->format, r, (*index)++);
        if (b->o->counters) {
            ax_bench_print_counters(stderr, b->exec);
        }
        rc = write_profile(b, r);
    }
    close_run(b);
    return rc;
}


static int
run_tests(struct bench *b, struct ax_bench_result *r, uint32_t *index)
{
    const struct options *o = b->o;
    int rc = AXION_OK;

    for (uint32_t i = 0; i < o->prompt.n && rc == AXION_OK; i++) {
        r->n_prompt = o->prompt.v[i];
        r->n_gen = 0;
        if (r->n_prompt > 0) {
            rc = run_and_print(b, r, index);
        }
    }
    for (uint32_t i = 0; i < o->gen.n && rc == AXION_OK; i++) {
        r->n_prompt = 0;
        r->n_gen = o->gen.v[i];
        if (r->n_gen > 0) {
            rc = run_and_print(b, r, index);
        }
    }
    for (uint32_t i = 0; i < o->pairs.n && rc == AXION_OK; i++) {
        r->n_prompt = o->pairs.v[i].prompt;
        r->n_gen = o->pairs.v[i].gen;
        rc = run_and_print(b, r, index);
    }
    return rc;
}


/* All tests with these threads at this depth. */
static int
run_batches(struct bench *b, struct ax_bench_result *r, uint32_t *index)
{
    const struct options *o = b->o;
    int rc = AXION_OK;

    for (uint32_t i = 0; i < o->batch.n; i++) {
        for (uint32_t s = 0; s < o->sequences.n && rc == AXION_OK; s++) {
            r->n_batch = o->batch.v[i];
            r->n_sequences = o->sequences.v[s];
            rc = run_tests(b, r, index);
        }
    }
    return rc;
}


static int
run_all(struct bench *b, struct ax_bench_result *r)
{
    const struct options *o = b->o;
    uint32_t index = 0;
    int rc = AXION_OK;

    for (uint32_t t = 0; t < o->threads.n; t++) {
        for (uint32_t d = 0; d < o->depth.n && rc == AXION_OK; d++) {
            r->n_threads = o->threads.v[t];
            r->n_depth = o->depth.v[d];
            rc = run_batches(b, r, &index);
        }
    }
    return rc;
}


/* To standard error: the results are another program's to read. */
static void
say_huge_pages(const struct options *o)
{
    uint64_t with, without;
    ax_arena_huge_bytes(&with, &without);
    if (o->huge_pages && without > 0) {
        fprintf(stderr,
                "axion bench: --huge-pages: vm.nr_hugepages has too few for "
                "%.0f MB of %.0f: the kernel's choice of pages there\n",
                (double)without / 1e6, (double)(with + without) / 1e6);
    }
}


int
ax_tool_bench(int argc, char **argv)
{
    struct options o = {
        .prompt = {.n = 1, .v = {512}},
        .gen = {.n = 1, .v = {128}},
        .depth = {.n = 1, .v = {0}},
        .threads = {.n = 1, .v = {ax_pool_cpus()}},
        .sequences = {.n = 1, .v = {1}},
        .batch = {.n = 1, .v = {512}},
        .reps = 5,
        .value_type = AXK_KV_TYPE_END,
    };

    if (!parse_options(argc, argv, &o)) {
        fputs(usage, stderr);
        return 2;
    }
    struct ax_bench_result *r = calloc(1, sizeof(*r));
    struct bench *b = calloc(1, sizeof(*b));
    if (r == NULL || b == NULL) {
        fprintf(stderr, "axion bench: no memory\n");
        free(b);
        free(r);
        return 1;
    }
    struct ax_model_options mo = {.path = o.path, .isa = o.isa};
    b->o = &o;
    ax_placement_init(&b->placement, o.pin, o.realtime);
    ax_arena_want_huge(o.huge_pages);
    int rc = open_profile(b);
    if (rc == AXION_OK) {
        rc = ax_model_open(&b->model, &mo, &b->err);
    }
    if (rc == AXION_OK) {
        r->info = ax_model_info(b->model);
        r->n_reps = o.reps;
        r->kv_type = axk_kv_type_name(o.kv_type);
        r->names_batch = o.batch.n > 1;
        ax_bench_print_begin(stdout, o.format);
        rc = run_all(b, r);
        ax_bench_print_end(stdout, o.format);
    }
    say_huge_pages(&o);
    int closed = close_profile(b);
    rc = rc == AXION_OK ? closed : rc;
    if (rc != AXION_OK) {
        fprintf(stderr, "axion bench: %s\n",
                b->err.number != AXION_OK ? b->err.text
                                          : axion_error_info(rc)->text);
    }
    ax_model_close(b->model);
    free(b);
    free(r);
    return ax_tool_status(rc);
}
