/*
 * What takes too long for the event loop to verify (a chosen key, some
 * signatures of tokens), as jobs for a thread of nginx's pools.  _verify.c
 * has their queues, _chosen.c and _jwt.c what is done in them.
 *
 * Threads.  Between post and done a job's `data` belongs to the thread, which
 * allocates nothing from a pool there and touches nothing else of nginx.
 */
#ifndef _NGX_HTTP_AXION_VERIFY_H_INCLUDED_
#define _NGX_HTTP_AXION_VERIFY_H_INCLUDED_


#include "ngx_module/ngx_http_axion_module.h"


#if (NGX_THREADS)


typedef struct {
    ngx_http_axion_main_conf_t      *main;
    const ngx_http_axion_verifier_t *verifier;
    ngx_http_axion_known_t          *known;
    ngx_pool_t                      *pool;
    ngx_thread_task_t               *task;
    struct axion_cache_digest        question;
    ngx_str_t                        address;   /* of the first who asked */
    ngx_queue_t                      link;      /* in known->jobs */
    ngx_queue_t                      requests;  /* ctx->chosen */
    ngx_event_t                      timer;
    void                            *data;      /* the verifier's */
    unsigned                         running:1;
} ngx_http_axion_job_t;


struct ngx_http_axion_verifier_s {
    size_t       known;        /* offset in ngx_http_axion_main_conf_t */
    ngx_uint_t   running_max;
    ngx_uint_t   jobs_max;     /* with those that run */
    ngx_uint_t   address_max;  /* of one client address; 0: jobs_max */
    ngx_uint_t   tries_max;    /* for one request */
    const char  *failed;       /* for the log */

    /* job->data from the request and job->pool */
    ngx_int_t  (*fill)(ngx_http_axion_job_t *job, ngx_http_axion_ctx_t *ctx);

    /* in a thread */
    void       (*run)(void *data);

    /* into the cache; NGX_ERROR: it could not be tried */
    ngx_int_t  (*keep)(ngx_http_axion_job_t *job);

    /* secrets, and what is not in job->pool */
    void       (*release)(ngx_http_axion_job_t *job);
};


#endif


#endif /* _NGX_HTTP_AXION_VERIFY_H_INCLUDED_ */
