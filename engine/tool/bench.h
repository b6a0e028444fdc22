/*
 * `axion bench`: prefill and decode rates of a model, measured as llama-bench
 * measures them (random tokens, one warm-up, mean and deviation of the
 * repetitions), so that the two can stand side by side.
 */
#ifndef AX_TOOL_BENCH_H
#define AX_TOOL_BENCH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "engine/exec/exec.h"
#include "engine/exec/peaks.h"
#include "engine/model/model.h"


#define AX_BENCH_REPS_MAX  1000u
#define AX_BENCH_STEPS_MAX 65536u


enum ax_bench_format {
    AX_BENCH_TABLE,
    AX_BENCH_CSV,
    AX_BENCH_JSON,
    AX_BENCH_JSONL
};


/* One line of the result. */
struct ax_bench_result {
    const struct ax_model_info *info;
    const char *kv_type;
    uint32_t n_threads;
    uint32_t n_batch;
    bool names_batch; /* tests differ by it */
    uint32_t n_prompt;
    uint32_t n_gen;
    uint32_t n_depth;
    uint32_t n_sequences;
    uint32_t n_reps;
    uint64_t samples_ns[AX_BENCH_REPS_MAX];
    uint64_t step_p50_ns; /* of one executor step */
    uint64_t step_p99_ns;
    uint64_t rss_bytes;    /* of the process, behind the test */
    struct ax_peaks peaks; /* zeros unless asked for, as these two: */
    uint64_t read_bytes;   /* weights read between the repetitions */
    uint64_t read_ns;
};


/* The subcommand; argv[0] is its name.  Returns the exit status. */
int ax_tool_bench(int argc, char **argv);

/* Head, one line each, tail. */
void ax_bench_print_begin(FILE *out, enum ax_bench_format format);
void ax_bench_print(FILE *out, enum ax_bench_format format,
                    const struct ax_bench_result *result, uint32_t index);
void ax_bench_print_end(FILE *out, enum ax_bench_format format);

/* "pp512+tg128 @ d2048 x 4 b64", as the table shows it. */
void ax_bench_test_name(const struct ax_bench_result *r, char *out,
                        size_t size);

/* Where the time went, by kind of stage; for -v. */
void ax_bench_print_counters(FILE *out, const struct ax_exec *exec);

#endif /* AX_TOOL_BENCH_H */
