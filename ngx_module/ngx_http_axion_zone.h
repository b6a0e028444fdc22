/*
 * The counters that all workers share, in one zone that outlives a reload.
 *
 * Plain counters are atomics that only grow.  The number of live streams is
 * kept per process slot: a worker that is killed cannot take its part back,
 * so whoever gets the slot next starts it at zero.  Engines keep their
 * counters over a reload by their name; the table is as large as the number
 * of engines allowed, and entries of engines that are gone are taken over.
 */
#ifndef _NGX_HTTP_AXION_ZONE_H_INCLUDED_
#define _NGX_HTTP_AXION_ZONE_H_INCLUDED_


#include "ngx_module/ngx_http_axion_module.h"


#define NGX_HTTP_AXION_ERRORS_MAX   128
#define NGX_HTTP_AXION_TTFT_BOUNDS  14


struct ngx_http_axion_stats_s {
    /* by endpoint and class of status; 0: no status was sent */
    ngx_atomic_t   requests[NGX_HTTP_AXION_ENDPOINTS][6];
    ngx_atomic_t   errors[NGX_HTTP_AXION_ERRORS_MAX];
    ngx_atomic_t   prompt_tokens;
    ngx_atomic_t   cached_tokens;
    ngx_atomic_t   completion_tokens;
    ngx_atomic_t   cancels;
    ngx_atomic_t   pauses;
    ngx_atomic_t   retries;
    ngx_atomic_t   ttft[NGX_HTTP_AXION_TTFT_BOUNDS + 1];
    ngx_atomic_t   ttft_sum_us;
};


struct ngx_http_axion_zone_s {
    ngx_http_axion_stats_t         stats;
    ngx_atomic_t                   streams[NGX_MAX_PROCESSES];
    u_char                         secret[AXION_REALM_SECRET_BYTES];
    ngx_http_axion_engine_stats_t  engines[NGX_HTTP_AXION_ENGINES_MAX];
};


extern const uint64_t  ngx_http_axion_ttft_bounds_us[];


#endif /* _NGX_HTTP_AXION_ZONE_H_INCLUDED_ */
