/*
 * Prometheus' text format (version 0.0.4).  A family is one head (HELP and
 * TYPE) and its samples behind it, without another family between them; the
 * writer does not reorder, callers write family by family.
 *
 *   static const char name[] = "axion_requests_total";
 *   axion_metric_head(out, name, AXION_COUNTER, "Requests received.");
 *   axion_metric_u64(out, name, labels, n_labels, value);
 *
 * Names come from code, label values from anywhere: those are escaped.
 * axion_metrics_engines() has every engine's figures from the load boards.
 */
#ifndef AXION_API_METRICS_H
#define AXION_API_METRICS_H

#include <stddef.h>
#include <stdint.h>
#include "api/memory.h"
#include "shm/request.h"
#include "shm/wire.h"

#define AXION_METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

enum axion_metric_type {
    AXION_COUNTER,
    AXION_GAUGE,
    AXION_HISTOGRAM,
};

struct axion_label {
    const char *name;
    struct axion_text value;
};

void axion_metric_head(struct axion_out *out, const char *name,
                       enum axion_metric_type type, const char *help);
void axion_metric_u64(struct axion_out *out, const char *name,
                      const struct axion_label *labels, size_t n_labels,
                      uint64_t value);
/* `decimals` 0..6. */
void axion_metric_decimal(struct axion_out *out, const char *name,
                          const struct axion_label *labels, size_t n_labels,
                          double value, int decimals);

/*
 * _bucket, _sum and _count.  counts[i] are the observations in bucket i
 * alone (not cumulative), n_bounds + 1 of them, the last one is +Inf;
 * bounds_us and sum_us are microseconds, written as seconds.
 */
void axion_metric_histogram_us(struct axion_out *out, const char *name,
                               const struct axion_label *labels,
                               size_t n_labels, const uint64_t *bounds_us,
                               size_t n_bounds, const uint64_t *counts,
                               uint64_t sum_us);

/* The same for what is counted in whole units, tokens for example. */
void axion_metric_histogram_u64(struct axion_out *out, const char *name,
                                const struct axion_label *labels,
                                size_t n_labels, const uint64_t *bounds,
                                size_t n_bounds, const uint64_t *counts,
                                uint64_t sum);

/* One engine as its gateway sees it. */
struct axion_engine_view {
    struct axion_text upstream;      /* axion_upstream's name */
    struct axion_text engine;        /* its address */
    const struct axion_board *board; /* NULL: not connected */
    const struct axion_costs *costs; /* NULL: none; see axion_client_costs() */
};

/* All costs together take this much of a page at most: an engine whose own do
 * not fit behind the others' has none there. */
#define AXION_METRICS_COSTS_BYTES (4u * 1024 * 1024)

void axion_metrics_engines(struct axion_out *out,
                           const struct axion_engine_view *engines,
                           size_t n_engines);

#endif
