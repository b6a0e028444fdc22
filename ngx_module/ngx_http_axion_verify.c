/*
 * Jobs that verify in a thread of nginx's pools what takes too long for the
 * event loop, once for all requests that ask the same (_verify.h).
 *
 * Who waits.  The PREACCESS handler asks before limit_req and limit_conn ask
 * for $axion_tenant; the request waits there and goes on when its job is
 * done.  What the job found is in a cache then, where the request finds it.
 *
 * Bounds.  Each kind of job has its own: how many a worker runs at a time,
 * how many wait, how many of these one client address may have; what comes
 * beyond that is refused with 503.  A job holds a timer that is not
 * cancelable, so that a worker which is told to end answers first.  A request
 * that ends while it waits takes itself out of its job's queue.
 */


#include "ngx_module/ngx_http_axion_verify.h"


#if (NGX_THREADS)


#define NGX_HTTP_AXION_VERIFY_ALIVE  (60 * 1000)


static ngx_http_axion_known_t *ngx_http_axion_known(
    ngx_http_axion_ctx_t *ctx);
static ngx_http_axion_job_t *ngx_http_axion_find_job(
    ngx_http_axion_ctx_t *ctx);
static ngx_uint_t ngx_http_axion_job_allowed(ngx_http_axion_ctx_t *ctx);
static ngx_http_axion_job_t *ngx_http_axion_make_job(
    ngx_http_axion_ctx_t *ctx);
static void ngx_http_axion_free_job(ngx_http_axion_job_t *job);
static void ngx_http_axion_start_jobs(ngx_http_axion_main_conf_t *amcf,
    const ngx_http_axion_verifier_t *verifier,
    ngx_http_axion_known_t *known);
static void ngx_http_axion_run_job(void *data, ngx_log_t *log);
static void ngx_http_axion_job_done(ngx_event_t *ev);
static void ngx_http_axion_job_alive(ngx_event_t *ev);
static void ngx_http_axion_leave_job(void *data);


/* The pool that the operator made for this, `thread_pool axion`, or nginx's
 * default one. */
char *
ngx_http_axion_verify_pool(ngx_conf_t *cf, ngx_http_axion_main_conf_t *amcf)
{
    ngx_str_t  name = ngx_string("axion");

    if (amcf->thread_pool == NULL) {
        amcf->thread_pool = ngx_thread_pool_add(cf,
                                ngx_thread_pool_get(cf->cycle, &name)
                                    ? &name : NULL);
    }

    return (amcf->thread_pool != NULL) ? NGX_CONF_OK : NGX_CONF_ERROR;
}


static ngx_http_axion_known_t *
ngx_http_axion_known(ngx_http_axion_ctx_t *ctx)
{
    return (ngx_http_axion_known_t *) ((u_char *) ctx->main
                                       + ctx->verifier->known);
}


/*
 * For the PREACCESS phase.  NGX_DECLINED: there is nothing to wait for;
 * NGX_AGAIN: the request waits; else a status.
 */
ngx_int_t
ngx_http_axion_wait_for_key(ngx_http_axion_ctx_t *ctx)
{
    ngx_http_cleanup_t    *cln;
    ngx_http_axion_job_t  *job;

    if (ctx->verifying) {
        return NGX_AGAIN;
    }

    (void) ngx_http_axion_identify(ctx->request);

    if (!ctx->unverified) {
        return NGX_DECLINED;
    }

    if (ctx->verifications++ >= ctx->verifier->tries_max) {
        return NGX_HTTP_SERVICE_UNAVAILABLE;
    }

    cln = ngx_http_cleanup_add(ctx->request, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    job = ngx_http_axion_find_job(ctx);

    if (job == NULL) {
        job = ngx_http_axion_make_job(ctx);
    }

    if (job == NULL) {
        return NGX_HTTP_SERVICE_UNAVAILABLE;
    }

    cln->handler = ngx_http_axion_leave_job;
    cln->data = ctx;

    ctx->verifying = 1;
    ngx_queue_insert_tail(&job->requests, &ctx->chosen);

    ngx_http_axion_start_jobs(ctx->main, ctx->verifier, job->known);

    return NGX_AGAIN;
}


static void
ngx_http_axion_leave_job(void *data)
{
    ngx_http_axion_ctx_t  *ctx = data;

    if (ctx->verifying) {
        ctx->verifying = 0;
        ngx_queue_remove(&ctx->chosen);
    }
}


static ngx_http_axion_job_t *
ngx_http_axion_find_job(ngx_http_axion_ctx_t *ctx)
{
    ngx_queue_t           *q, *jobs;
    ngx_http_axion_job_t  *job;

    jobs = &ngx_http_axion_known(ctx)->jobs;

    for (q = ngx_queue_head(jobs);
         q != ngx_queue_sentinel(jobs);
         q = ngx_queue_next(q))
    {
        job = ngx_queue_data(q, ngx_http_axion_job_t, link);

        if (ngx_memcmp(&job->question, &ctx->question,
                       sizeof(struct axion_cache_digest))
            == 0)
        {
            return job;
        }
    }

    return NULL;
}


/* Is there room for one more job, and for one more of this client? */
static ngx_uint_t
ngx_http_axion_job_allowed(ngx_http_axion_ctx_t *ctx)
{
    ngx_uint_t               n;
    ngx_queue_t             *q;
    ngx_str_t               *address;
    ngx_http_axion_job_t    *job;
    ngx_http_axion_known_t  *known;

    known = ngx_http_axion_known(ctx);

    if (known->n_jobs == ctx->verifier->jobs_max) {
        return 0;
    }

    if (ctx->verifier->address_max == 0) {
        return 1;
    }

    address = &ctx->request->connection->addr_text;

    for (q = ngx_queue_head(&known->jobs), n = 0;
         q != ngx_queue_sentinel(&known->jobs);
         q = ngx_queue_next(q))
    {
        job = ngx_queue_data(q, ngx_http_axion_job_t, link);

        if (job->address.len == address->len
            && ngx_memcmp(job->address.data, address->data, address->len) == 0)
        {
            n++;
        }
    }

    return n < ctx->verifier->address_max;
}


/* NULL: there are too many, or no memory. */
static ngx_http_axion_job_t *
ngx_http_axion_make_job(ngx_http_axion_ctx_t *ctx)
{
    ngx_str_t             *address;
    ngx_pool_t            *pool;
    ngx_thread_task_t     *task;
    ngx_http_axion_job_t  *job;

    if (!ngx_http_axion_job_allowed(ctx)) {
        return NULL;
    }

    pool = ngx_create_pool(NGX_HTTP_AXION_CHUNK_BYTES, ngx_cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    task = ngx_thread_task_alloc(pool, sizeof(ngx_http_axion_job_t));
    if (task == NULL) {
        goto failed;
    }

    address = &ctx->request->connection->addr_text;

    job = task->ctx;
    ngx_memzero(job, sizeof(ngx_http_axion_job_t));

    job->main = ctx->main;
    job->verifier = ctx->verifier;
    job->known = ngx_http_axion_known(ctx);
    job->pool = pool;
    job->task = task;
    job->question = ctx->question;
    job->address.len = address->len;
    job->address.data = ngx_pstrdup(pool, address);
    if (job->address.data == NULL) {
        goto failed;
    }

    ngx_queue_init(&job->requests);

    task->handler = ngx_http_axion_run_job;
    task->event.handler = ngx_http_axion_job_done;
    task->event.data = job;
    task->event.log = ngx_cycle->log;

    if (job->verifier->fill(job, ctx) != NGX_OK) {
        goto failed;
    }

    job->timer.handler = ngx_http_axion_job_alive;
    job->timer.data = job;
    job->timer.log = ngx_cycle->log;
    ngx_add_timer(&job->timer, NGX_HTTP_AXION_VERIFY_ALIVE);

    ngx_queue_insert_tail(&job->known->jobs, &job->link);
    job->known->n_jobs++;

    return job;

failed:

    ngx_destroy_pool(pool);

    return NULL;
}


static void
ngx_http_axion_free_job(ngx_http_axion_job_t *job)
{
    job->verifier->release(job);

    ngx_del_timer(&job->timer);
    ngx_queue_remove(&job->link);
    job->known->n_jobs--;
    ngx_destroy_pool(job->pool);
}


/* Drops those whose requests have all gone.  A thread that cannot be had now
 * is asked again when the next job comes or ends, and at the job's timer. */
static void
ngx_http_axion_start_jobs(ngx_http_axion_main_conf_t *amcf,
    const ngx_http_axion_verifier_t *verifier, ngx_http_axion_known_t *known)
{
    ngx_queue_t           *q, *next;
    ngx_http_axion_job_t  *job;

    for (q = ngx_queue_head(&known->jobs);
         q != ngx_queue_sentinel(&known->jobs)
         && known->n_running < verifier->running_max;
         q = next)
    {
        next = ngx_queue_next(q);
        job = ngx_queue_data(q, ngx_http_axion_job_t, link);

        if (job->running) {
            continue;
        }

        if (ngx_queue_empty(&job->requests)) {
            ngx_http_axion_free_job(job);
            continue;
        }

        if (ngx_thread_task_post(amcf->thread_pool, job->task) != NGX_OK) {
            return;
        }

        job->running = 1;
        known->n_running++;
    }
}


static void
ngx_http_axion_run_job(void *data, ngx_log_t *log)
{
    ngx_http_axion_job_t *job = data;

    job->verifier->run(job->data);
}


static void
ngx_http_axion_job_done(ngx_event_t *ev)
{
    ngx_http_axion_job_t *job = ev->data;

    ngx_int_t                         rc;
    ngx_queue_t                      *q;
    ngx_connection_t                 *c;
    ngx_http_axion_ctx_t             *ctx;
    ngx_http_axion_known_t           *known;
    ngx_http_axion_main_conf_t       *amcf;
    const ngx_http_axion_verifier_t  *verifier;

    amcf = job->main;
    known = job->known;
    verifier = job->verifier;
    known->n_running--;

    rc = verifier->keep(job);

    if (rc != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, ev->log, 0, "axion: %s", verifier->failed);
    }

    while (!ngx_queue_empty(&job->requests)) {

        q = ngx_queue_head(&job->requests);
        ctx = ngx_queue_data(q, ngx_http_axion_ctx_t, chosen);

        ngx_http_axion_leave_job(ctx);
        ctx->tenant_known = 0;

        if (rc != NGX_OK) {
            ctx->verifications = verifier->tries_max;
        }

        c = ctx->request->connection;
        ngx_http_set_log_request(c->log, ctx->request);

        ngx_http_core_run_phases(ctx->request);
        ngx_http_run_posted_requests(c);
    }

    ngx_http_axion_free_job(job);
    ngx_http_axion_start_jobs(amcf, verifier, known);
}


static void
ngx_http_axion_job_alive(ngx_event_t *ev)
{
    ngx_http_axion_job_t *job = ev->data;

    ngx_add_timer(&job->timer, NGX_HTTP_AXION_VERIFY_ALIVE);
    ngx_http_axion_start_jobs(job->main, job->verifier, job->known);
}

#else

ngx_int_t
ngx_http_axion_wait_for_key(ngx_http_axion_ctx_t *ctx)
{
    return NGX_DECLINED;
}

#endif
