/*
 * The result formats of `axion bench`.  Field names are llama-bench's where
 * the thing is the same, so that scripts read both.
 */
#include "engine/tool/bench.h"

#include <math.h>
#include <stdbool.h>
#include <time.h>


struct statistics {
    double mean_ns, deviation_ns;
    double mean_rate, deviation_rate; /* tokens per second */
};


static uint64_t
tokens_of(const struct ax_bench_result *r)
{
    return (uint64_t)(r->n_prompt + r->n_gen) * r->n_sequences;
}


static double
rate(const struct ax_bench_result *r, uint32_t i)
{
    return 1e9 * (double)tokens_of(r) / (double)r->samples_ns[i];
}


static double
deviation(double sum, double squares, double n)
{
    double variance = n > 1 ? (squares - sum * sum / n) / (n - 1) : 0;

    return variance > 0 ? sqrt(variance) : 0;
}


static struct statistics
statistics(const struct ax_bench_result *r)
{
    double ns = 0, ns2 = 0, ts = 0, ts2 = 0, n = r->n_reps;

    for (uint32_t i = 0; i < r->n_reps; i++) {
        double t = (double)r->samples_ns[i];
        ns += t;
        ns2 += t * t;
        ts += rate(r, i);
        ts2 += rate(r, i) * rate(r, i);
    }
    return (struct statistics){
        .mean_ns = ns / n,
        .deviation_ns = deviation(ns, ns2, n),
        .mean_rate = ts / n,
        .deviation_rate = deviation(ts, ts2, n),
    };
}


void
ax_bench_test_name(const struct ax_bench_result *r, char *out, size_t size)
{
    int used;

    if (r->n_prompt > 0 && r->n_gen > 0) {
        used = snprintf(out, size, "pp%u+tg%u", r->n_prompt, r->n_gen);
    } else if (r->n_prompt > 0) {
        used = snprintf(out, size, "pp%u", r->n_prompt);
    } else {
        used = snprintf(out, size, "tg%u", r->n_gen);
    }
    if (r->n_depth > 0 && used > 0 && (size_t)used < size) {
        used += snprintf(out + used, size - (size_t)used, " @ d%u", r->n_depth);
    }
    if (r->n_sequences > 1 && used > 0 && (size_t)used < size) {
        used +=
            snprintf(out + used, size - (size_t)used, " x %u", r->n_sequences);
    }
    if (r->names_batch && used > 0 && (size_t)used < size) {
        snprintf(out + used, size - (size_t)used, " b%u", r->n_batch);
    }
}


static void
print_string(FILE *out, const char *s)
{
    fputc('"', out);
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') {
            fprintf(out, "\\%c", c);
        } else if (c < 0x20) {
            fprintf(out, "\\u%04x", c);
        } else {
            fputc(c, out);
        }
    }
    fputc('"', out);
}


static void
print_table_row(FILE *out, const struct ax_bench_result *r)
{
    struct statistics s = statistics(r);
    char name[80], test[64];

    snprintf(name, sizeof(name), "%s %s", r->info->architecture,
             r->info->weight_format);
    ax_bench_test_name(r, test, sizeof(test));
    fprintf(out,
            "| %-22s | %8.2f MiB | %8.2f M | %-7s | %7u | %18s | "
            "%10.2f ± %.2f |\n",
            name, (double)r->info->file_bytes / 1048576.0,
            (double)r->info->n_params / 1e6, r->info->isa, r->n_threads, test,
            s.mean_rate, s.deviation_rate);
}


static void
print_csv_row(FILE *out, const struct ax_bench_result *r)
{
    struct statistics s = statistics(r);

    fprintf(
        out,
        "\"%s\",\"%s\",%llu,%llu,\"%s\",\"%s\",\"%s\",\"%s\",%u,%u,%u,%u,%u,%u,"
        "%.0f,%.0f,%.2f,%.2f,%llu,%llu\n",
        AXION_VERSION, r->info->weight_format,
        (unsigned long long)r->info->file_bytes,
        (unsigned long long)r->info->n_params, r->info->architecture,
        r->info->isa, r->kv_type, r->kv_type, r->n_threads, r->n_batch,
        r->n_prompt, r->n_gen, r->n_depth, r->n_sequences, s.mean_ns,
        s.deviation_ns, s.mean_rate, s.deviation_rate,
        (unsigned long long)r->step_p50_ns, (unsigned long long)r->step_p99_ns);
}


static void
print_json(FILE *out, const struct ax_bench_result *r, const char *gap)
{
    struct statistics s = statistics(r);
    char when[32];
    time_t now = time(NULL);
    struct tm tm;

    gmtime_r(&now, &tm);
    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
    fprintf(out, "{%s\"build\": \"axion %s\",%s\"model_filename\": ", gap,
            AXION_VERSION, gap);
    print_string(out, r->info->path);
    fprintf(out,
            ",%s\"model_type\": \"%s %s\",%s\"model_size\": %llu,%s"
            "\"model_n_params\": %llu,%s\"isa\": \"%s\",%s"
            "\"type_k\": \"%s\",%s\"type_v\": \"%s\",%s"
            "\"n_threads\": %u,%s\"n_batch\": %u,%s\"n_prompt\": %u,%s"
            "\"n_gen\": %u,%s\"n_depth\": %u,%s\"n_sequences\": %u,%s",
            gap, r->info->architecture, r->info->weight_format, gap,
            (unsigned long long)r->info->file_bytes, gap,
            (unsigned long long)r->info->n_params, gap, r->info->isa, gap,
            r->kv_type, gap, r->kv_type, gap, r->n_threads, gap, r->n_batch,
            gap, r->n_prompt, gap, r->n_gen, gap, r->n_depth, gap,
            r->n_sequences, gap);
    fprintf(out,
            "\"test_time\": \"%s\",%s\"avg_ns\": %.0f,%s"
            "\"stddev_ns\": %.0f,%s\"avg_ts\": %.3f,%s"
            "\"stddev_ts\": %.3f,%s\"step_p50_ns\": %llu,%s"
            "\"step_p99_ns\": %llu,%s\"samples_ns\": [",
            when, gap, s.mean_ns, gap, s.deviation_ns, gap, s.mean_rate, gap,
            s.deviation_rate, gap, (unsigned long long)r->step_p50_ns, gap,
            (unsigned long long)r->step_p99_ns, gap);
    for (uint32_t i = 0; i < r->n_reps; i++) {
        fprintf(out, "%s%llu", i == 0 ? "" : ", ",
                (unsigned long long)r->samples_ns[i]);
    }
    fprintf(out, "],%s\"samples_ts\": [", gap);
    for (uint32_t i = 0; i < r->n_reps; i++) {
        fprintf(out, "%s%.3f", i == 0 ? "" : ", ", rate(r, i));
    }
    fprintf(out,
            "],%s\"load_us\": %llu,%s\"weight_bytes\": %llu,%s"
            "\"rss_bytes\": %llu",
            gap, (unsigned long long)r->info->load_us, gap,
            (unsigned long long)r->info->weight_bytes, gap,
            (unsigned long long)r->rss_bytes);
    if (r->peaks.read_bytes > 0) {
        fprintf(out,
                ",%s\"peak_read_bytes\": %.0f,%s\"peak_int8_ops\": %.0f,%s"
                "\"peak_f32_ops\": %.0f",
                gap, r->peaks.read_bytes, gap, r->peaks.int8_ops, gap,
                r->peaks.f32_ops);
    }
    if (r->read_ns > 0) {
        fprintf(out, ",%s\"weights_read_bytes\": %.0f", gap,
                (double)r->read_bytes * 1e9 / (double)r->read_ns);
    }
    fprintf(out, "%s}", gap[0] == '\n' ? "\n" : "");
}


void
ax_bench_print_begin(FILE *out, enum ax_bench_format format)
{
    if (format == AX_BENCH_TABLE) {
        fprintf(out, "| model                  |         size |     params | "
                     "isa     | threads |               test |"
                     "                t/s |\n"
                     "| ---------------------- | -----------: | ---------: | "
                     "------- | ------: | -----------------: |"
                     " -----------------: |\n");
    } else if (format == AX_BENCH_CSV) {
        fprintf(out,
                "build,weight_format,model_size,model_n_params,"
                "model_type,isa,type_k,type_v,n_threads,n_batch,n_prompt,n_gen,"
                "n_depth,n_sequences,avg_ns,stddev_ns,avg_ts,"
                "stddev_ts,step_p50_ns,step_p99_ns\n");
    } else if (format == AX_BENCH_JSON) {
        fprintf(out, "[");
    }
}


void
ax_bench_print(FILE *out, enum ax_bench_format format,
               const struct ax_bench_result *result, uint32_t index)
{
    switch (format) {
    case AX_BENCH_TABLE:
        print_table_row(out, result);
        break;
    case AX_BENCH_CSV:
        print_csv_row(out, result);
        break;
    case AX_BENCH_JSON:
        fprintf(out, "%s\n", index == 0 ? "" : ",");
        print_json(out, result, "\n  ");
        break;
    case AX_BENCH_JSONL:
        print_json(out, result, " ");
        fprintf(out, "\n");
        break;
    }
    fflush(out);
}


void
ax_bench_print_end(FILE *out, enum ax_bench_format format)
{
    if (format == AX_BENCH_JSON) {
        fprintf(out, "\n]\n");
    }
}


/* All layers of the stages that are named like stage i, if it is the first. */
static bool
sum_layers(const struct ax_exec *exec, uint32_t i, struct ax_exec_counter *sum)
{
    *sum = ax_exec_counter(exec, i);
    for (uint32_t j = 0; j < i; j++) {
        if (ax_exec_counter(exec, j).name == sum->name) {
            return false;
        }
    }
    for (uint32_t j = i + 1; j < ax_exec_counters(exec); j++) {
        struct ax_exec_counter c = ax_exec_counter(exec, j);
        if (c.name == sum->name) {
            sum->calls += c.calls;
            sum->ns += c.ns;
        }
    }
    return sum->calls != 0;
}


void
ax_bench_print_counters(FILE *out, const struct ax_exec *exec)
{
    struct ax_exec_times t = ax_exec_times(exec);
    double total = (double)(t.matmul_ns + t.attention_ns + t.rows_ns);

    for (uint32_t i = 0; i < ax_exec_counters(exec); i++) {
        struct ax_exec_counter c;
        if (sum_layers(exec, i, &c)) {
            fprintf(out, "    %-44s %8llu calls %10.2f us each %5.1f %%\n",
                    c.name, (unsigned long long)c.calls,
                    (double)c.ns / (double)c.calls / 1e3,
                    100.0 * (double)c.ns / (total > 0 ? total : 1));
        }
    }
}
