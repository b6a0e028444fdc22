/*
 * The counters that all workers share, in one zone that outlives a reload.
 *
 * Plain counters are atomics that only grow.  The number of live streams is
 * kept per process slot: a worker that is killed cannot take its part back,
 * so whoever gets the slot next starts it at zero.  Engines keep their
 * counters over a reload by their name; the table is as large as the number
 * of engines allowed, and entries of engines that are gone are taken over.
 *
 * Models get an entry when a request of theirs is accepted or a load board
 * names them, and keep it; more than the table holds are not counted by
 * model.  A client cannot make an entry: no engine accepts a wrong name.
 */
#ifndef _NGX_HTTP_AXION_ZONE_H_INCLUDED_
#define _NGX_HTTP_AXION_ZONE_H_INCLUDED_


#include "ngx_module/ngx_http_axion_module.h"


#define NGX_HTTP_AXION_ERRORS_MAX   128
#define NGX_HTTP_AXION_TTFT_BOUNDS  14
#define NGX_HTTP_AXION_MODELS_MAX   64
#define NGX_HTTP_AXION_BOUNDS_MAX   22
#define NGX_HTTP_AXION_USAGE_MAX    512
#define NGX_HTTP_AXION_REMOTES_MAX  64    /* bits of ctx->remotes_tried */


struct ngx_http_axion_stats_s {
    /* by endpoint and class of status; 0: no status was sent */
    ngx_atomic_t   requests[NGX_HTTP_AXION_ENDPOINTS][6];
    ngx_atomic_t   errors[NGX_HTTP_AXION_ERRORS_MAX];
    ngx_atomic_t   prompt_tokens;
    ngx_atomic_t   cached_tokens;
    ngx_atomic_t   completion_tokens;
    ngx_atomic_t   cancels;
    ngx_atomic_t   pauses;
    ngx_atomic_t   dispatches;
    ngx_atomic_t   fallbacks;
    ngx_atomic_t   retries;
    ngx_atomic_t   joins;            /* of engines, by workers */
    ngx_atomic_t   leaves;
    ngx_atomic_t   tenants_read;     /* of files, by workers */
    ngx_atomic_t   tenants_refused;
    ngx_atomic_t   quota_connects;
    ngx_atomic_t   quota_failures;
    ngx_atomic_t   quota_asks;
    ngx_atomic_t   quota_answers;
    ngx_atomic_t   quota_alone;
    ngx_atomic_t   quota_refused;
    ngx_atomic_t   ttft[NGX_HTTP_AXION_TTFT_BOUNDS + 1];
    ngx_atomic_t   ttft_sum_us;
};


/* Times have bounds of their own, in microseconds, and so have tokens. */
typedef struct {
    ngx_atomic_t   counts[NGX_HTTP_AXION_BOUNDS_MAX + 1];
    ngx_atomic_t   sum;
} ngx_http_axion_histogram_t;


typedef enum {
    NGX_HTTP_AXION_FINISHED_STOP = 0,
    NGX_HTTP_AXION_FINISHED_LENGTH,
    NGX_HTTP_AXION_FINISHED_ABORT,
    NGX_HTTP_AXION_FINISHED_REASONS
} ngx_http_axion_finished_e;


struct ngx_http_axion_model_s {
    u_char                         name[AXION_NAME_BYTES + 1];
    ngx_atomic_t                   prompt_tokens;
    ngx_atomic_t                   generation_tokens;
    ngx_atomic_t                   finished[NGX_HTTP_AXION_FINISHED_REASONS];
    /* times */
    ngx_http_axion_histogram_t     ttft;
    ngx_http_axion_histogram_t     inter_token;
    ngx_http_axion_histogram_t     e2e;
    ngx_http_axion_histogram_t     queue;
    ngx_http_axion_histogram_t     prefill;
    ngx_http_axion_histogram_t     decode;
    ngx_http_axion_histogram_t     inference;
    /* tokens */
    ngx_http_axion_histogram_t     request_prompt;
    ngx_http_axion_histogram_t     request_generation;
    ngx_http_axion_histogram_t     request_max_tokens;
};


/* What was used by one tenant, key and model. */
typedef struct {
    u_char                         names[3][AXION_NAME_BYTES + 1];
    uint32_t                       hash;     /* of the names */
    ngx_atomic_t                   requests;
    ngx_atomic_t                   prompt_tokens;
    ngx_atomic_t                   cached_tokens;
    ngx_atomic_t                   completion_tokens;
    ngx_atomic_t                   drafted_tokens;
    ngx_atomic_t                   accepted_tokens;
    ngx_atomic_t                   wasted_tokens;
    ngx_atomic_t                   cost;     /* billionths */
} ngx_http_axion_usage_t;


/* Counters of one remote, found by its label over a reload. */
typedef struct {
    u_char                         name[320];
    ngx_atomic_t                   requests;
    ngx_atomic_t                   failures;
    ngx_atomic_t                   overflows;
    ngx_atomic_t                   bounded;  /* usage that cannot be */
    ngx_atomic_t                   raised;   /* usage that is too little */
    ngx_atomic_t                   passed;   /* contexts of tenants */
} ngx_http_axion_remote_stats_t;


struct ngx_http_axion_zone_s {
    ngx_http_axion_stats_t         stats;
    ngx_atomic_t                   n_models;
    ngx_http_axion_model_t         models[NGX_HTTP_AXION_MODELS_MAX];
    ngx_atomic_t                   n_usage;
    ngx_http_axion_usage_t         usage[NGX_HTTP_AXION_USAGE_MAX];
    ngx_http_axion_usage_t         other_usage;
    ngx_atomic_t                   streams[NGX_MAX_PROCESSES];
    u_char                         secret[AXION_REALM_SECRET_BYTES];
    ngx_http_axion_engine_stats_t  engines[NGX_HTTP_AXION_ENGINES_MAX];
    ngx_http_axion_remote_stats_t  remotes[NGX_HTTP_AXION_REMOTES_MAX];
};


extern const uint64_t    ngx_http_axion_ttft_bounds_us[];
extern const uint64_t    ngx_http_axion_time_bounds_us[];
extern const ngx_uint_t  ngx_http_axion_time_bounds;
extern const uint64_t    ngx_http_axion_token_bounds[];
extern const ngx_uint_t  ngx_http_axion_token_bounds_n;


#endif /* _NGX_HTTP_AXION_ZONE_H_INCLUDED_ */
