/*
 * Keys that a person chose, sent as TENANT:SECRET and tried against the
 * tenant's Argon2id hashes.  One try takes tens of milliseconds, so it runs
 * in a thread of nginx's pools, never on the event loop, and once for all
 * requests that ask the same.
 *
 * Who waits.  The PREACCESS handler asks before limit_req and limit_conn ask
 * for $axion_tenant; the request waits there and goes on when its job is
 * done.  What the job found is in a cache then, where the request finds it.
 * A question names all the hashes that it is tried against, so an answer is
 * never that of a key which is gone.
 *
 * Bounds.  A worker runs two jobs at a time (each may take 256 MiB), 64 more
 * wait, and what comes then is refused with 503.  A job holds a timer that is
 * not cancelable, so that a worker which is told to end answers first.  A
 * request that ends while it waits takes itself out of its job's queue.
 *
 * Threads.  Between post and done the job's second half, `asked` and `found`,
 * belongs to the thread; it allocates nothing there and touches nothing else.
 */


#include "ngx_module/ngx_http_axion_module.h"


#include <sodium.h>


#define NGX_HTTP_AXION_CHOSEN_CACHED       1024
#define NGX_HTTP_AXION_CHOSEN_TTL          (10 * 60 * 1000)
#define NGX_HTTP_AXION_CHOSEN_TTL_WRONG    (60 * 1000)


/* Which of the tenant's hashes by Argon2id it is. */
typedef struct {
    int32_t  index;

#define NGX_HTTP_AXION_CHOSEN_WRONG   -1
#define NGX_HTTP_AXION_CHOSEN_FAILED  -2     /* no memory to try it */
} ngx_http_axion_found_t;


#if (NGX_THREADS)


#define NGX_HTTP_AXION_CHOSEN_RUNNING      2
#define NGX_HTTP_AXION_CHOSEN_JOBS         66
#define NGX_HTTP_AXION_CHOSEN_TRIES        3
#define NGX_HTTP_AXION_CHOSEN_ALIVE        (60 * 1000)


typedef struct {
    ngx_http_axion_main_conf_t  *main;
    ngx_pool_t                  *pool;
    ngx_thread_task_t           *task;
    struct axion_cache_digest    question;
    ngx_queue_t                  link;       /* in main->chosen.jobs */
    ngx_queue_t                  requests;   /* ctx->chosen */
    ngx_event_t                  timer;
    unsigned                     running:1;

    /* the thread's while it runs */
    struct axion_text            asked[AXION_TENANT_CHOSEN_MAX + 1];
    ngx_uint_t                   n_asked;    /* the secret is the last */
    ngx_http_axion_found_t       found;
} ngx_http_axion_job_t;


static ngx_http_axion_job_t *ngx_http_axion_find_job(
    ngx_http_axion_ctx_t *ctx);
static ngx_http_axion_job_t *ngx_http_axion_make_job(
    ngx_http_axion_ctx_t *ctx);
static void ngx_http_axion_free_job(ngx_http_axion_job_t *job);
static void ngx_http_axion_start_jobs(ngx_http_axion_main_conf_t *amcf);
static void ngx_http_axion_run_job(void *data, ngx_log_t *log);
static void ngx_http_axion_job_done(ngx_event_t *ev);
static void ngx_http_axion_job_alive(ngx_event_t *ev);
static void ngx_http_axion_leave_job(void *data);

#endif


static ngx_uint_t ngx_http_axion_question(const struct axion_tenant *tenant,
    const struct axion_text *secret, struct axion_text *texts);
static const struct axion_key *ngx_http_axion_chosen_key(
    const struct axion_tenant *tenant, int32_t index);


/* The tenant's hashes and the secret behind them; 0: it has no hash. */
static ngx_uint_t
ngx_http_axion_question(const struct axion_tenant *tenant,
    const struct axion_text *secret, struct axion_text *texts)
{
    size_t      i;
    ngx_uint_t  n;

    for (i = 0, n = 0; i < tenant->n_keys; i++) {
        if (tenant->keys[i].argon2id.data != NULL) {
            texts[n++] = tenant->keys[i].argon2id;
        }
    }

    if (n == 0) {
        return 0;
    }

    texts[n++] = *secret;

    return n;
}


static const struct axion_key *
ngx_http_axion_chosen_key(const struct axion_tenant *tenant, int32_t index)
{
    size_t  i;

    for (i = 0; i < tenant->n_keys; i++) {
        if (tenant->keys[i].argon2id.data != NULL && index-- == 0) {
            return &tenant->keys[i];
        }
    }

    return NULL;
}


/*
 * Identity by a chosen key, if `key` may be one: it is known, or is wrong, or
 * ctx->unverified tells that a job has to find out.
 */
void
ngx_http_axion_by_chosen_key(ngx_http_axion_ctx_t *ctx,
    const struct axion_text *key)
{
    ngx_uint_t               n;
    struct axion_text        name, texts[AXION_TENANT_CHOSEN_MAX + 1];
    ngx_http_axion_found_t  *found;
    ngx_http_axion_known_t  *known;

    known = &ctx->main->chosen;

    if (known->cache.entries == NULL
        || !axion_key_split(key, &name, &ctx->secret))
    {
        return;
    }

    ctx->claimed = ngx_http_axion_find_tenant(ctx, name.data, name.bytes);

    if (ctx->claimed == NULL) {
        return;
    }

    n = ngx_http_axion_question(ctx->claimed, &ctx->secret, texts);

    if (n == 0) {
        return;
    }

    axion_cache_ask(&known->cache, texts, n, &ctx->question);

    found = axion_cache_find(&known->cache, &ctx->question, ngx_current_msec);

    if (found == NULL) {
        ctx->unverified = 1;
        return;
    }

    if (found->index >= 0) {
        ngx_http_axion_let_in(ctx, ctx->claimed,
                              ngx_http_axion_chosen_key(ctx->claimed,
                                                        found->index));
    }
}


/* In a worker that may meet chosen keys. */
ngx_int_t
ngx_http_axion_open_chosen(ngx_http_axion_main_conf_t *amcf, ngx_pool_t *pool)
{
    struct axion_memory  memory;

    if (!amcf->may_choose) {
        return NGX_OK;
    }

    memory = ngx_http_axion_memory(pool);

    return (axion_cache_open(&amcf->chosen.cache, &memory,
                             NGX_HTTP_AXION_CHOSEN_CACHED,
                             sizeof(ngx_http_axion_found_t))
            == AXION_OK)
               ? NGX_OK : NGX_ERROR;
}


/* For tenants that have changed: what is remembered cannot be wrong, but
 * should not outlive a key that is gone. */
void
ngx_http_axion_forget_chosen(ngx_http_axion_main_conf_t *amcf)
{
    if (amcf->chosen.cache.entries != NULL) {
        axion_cache_clear(&amcf->chosen.cache);
    }
}


#if (NGX_THREADS)

/* The pool that the operator made for this, `thread_pool axion`, or nginx's
 * default one. */
char *
ngx_http_axion_chosen_pool(ngx_conf_t *cf, ngx_http_axion_main_conf_t *amcf)
{
    ngx_str_t  name = ngx_string("axion");

    if (amcf->may_choose) {
        return NGX_CONF_OK;
    }

    amcf->may_choose = 1;
    amcf->thread_pool = ngx_thread_pool_add(cf,
                            ngx_thread_pool_get(cf->cycle, &name) ? &name
                                                                  : NULL);

    return (amcf->thread_pool != NULL) ? NGX_CONF_OK : NGX_CONF_ERROR;
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

    if (ctx->verifications++ == NGX_HTTP_AXION_CHOSEN_TRIES) {
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

    ngx_http_axion_start_jobs(ctx->main);

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

    jobs = &ctx->main->chosen.jobs;

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


/* NULL: there are too many, or no memory. */
static ngx_http_axion_job_t *
ngx_http_axion_make_job(ngx_http_axion_ctx_t *ctx)
{
    ngx_uint_t               i;
    ngx_pool_t              *pool;
    ngx_thread_task_t       *task;
    struct axion_memory      memory;
    ngx_http_axion_job_t    *job;
    ngx_http_axion_known_t  *known;

    known = &ctx->main->chosen;

    if (known->n_jobs == NGX_HTTP_AXION_CHOSEN_JOBS) {
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

    memory = ngx_http_axion_memory(pool);

    job = task->ctx;
    ngx_memzero(job, sizeof(ngx_http_axion_job_t));

    job->n_asked = ngx_http_axion_question(ctx->claimed, &ctx->secret,
                                           job->asked);

    for (i = 0; i < job->n_asked; i++) {
        job->asked[i].data = axion_memory_copy(&memory, job->asked[i].data,
                                               job->asked[i].bytes);
        if (job->asked[i].data == NULL) {
            goto failed;
        }
    }

    job->main = ctx->main;
    job->pool = pool;
    job->task = task;
    job->question = ctx->question;
    ngx_queue_init(&job->requests);

    task->handler = ngx_http_axion_run_job;
    task->event.handler = ngx_http_axion_job_done;
    task->event.data = job;
    task->event.log = ngx_cycle->log;

    job->timer.handler = ngx_http_axion_job_alive;
    job->timer.data = job;
    job->timer.log = ngx_cycle->log;
    ngx_add_timer(&job->timer, NGX_HTTP_AXION_CHOSEN_ALIVE);

    ngx_queue_insert_tail(&known->jobs, &job->link);
    known->n_jobs++;

    return job;

failed:

    ngx_destroy_pool(pool);

    return NULL;
}


static void
ngx_http_axion_free_job(ngx_http_axion_job_t *job)
{
    struct axion_text  *secret;

    secret = &job->asked[job->n_asked - 1];
    sodium_memzero((char *) secret->data, secret->bytes);

    ngx_del_timer(&job->timer);
    ngx_queue_remove(&job->link);
    job->main->chosen.n_jobs--;
    ngx_destroy_pool(job->pool);
}


/* Drops those whose requests have all gone.  A thread that cannot be had now
 * is asked again when the next job comes or ends, and at the job's timer. */
static void
ngx_http_axion_start_jobs(ngx_http_axion_main_conf_t *amcf)
{
    ngx_queue_t             *q, *next;
    ngx_http_axion_job_t    *job;
    ngx_http_axion_known_t  *known;

    known = &amcf->chosen;

    for (q = ngx_queue_head(&known->jobs);
         q != ngx_queue_sentinel(&known->jobs)
         && known->n_running < NGX_HTTP_AXION_CHOSEN_RUNNING;
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


/* In a thread. */
static void
ngx_http_axion_run_job(void *data, ngx_log_t *log)
{
    ngx_http_axion_job_t *job = data;

    int                 rc;
    ngx_uint_t          i;
    struct axion_text  *secret;

    secret = &job->asked[job->n_asked - 1];
    job->found.index = NGX_HTTP_AXION_CHOSEN_WRONG;

    for (i = 0; i + 1 < job->n_asked; i++) {
        rc = axion_key_verify(job->asked[i].data, secret->data,
                              secret->bytes);

        if (rc == AXION_OK) {
            job->found.index = i;
            return;
        }

        if (rc != AXION_ERR_UNAUTHENTICATED) {
            job->found.index = NGX_HTTP_AXION_CHOSEN_FAILED;
        }
    }
}


static void
ngx_http_axion_job_done(ngx_event_t *ev)
{
    ngx_http_axion_job_t *job = ev->data;

    ngx_queue_t                 *q;
    ngx_connection_t            *c;
    ngx_http_axion_ctx_t        *ctx;
    ngx_http_axion_found_t      *found;
    ngx_http_axion_main_conf_t  *amcf;

    amcf = job->main;
    amcf->chosen.n_running--;

    if (job->found.index != NGX_HTTP_AXION_CHOSEN_FAILED) {
        found = axion_cache_put(&amcf->chosen.cache, &job->question,
                                ngx_current_msec
                                + (job->found.index >= 0
                                       ? NGX_HTTP_AXION_CHOSEN_TTL
                                       : NGX_HTTP_AXION_CHOSEN_TTL_WRONG));
        *found = job->found;

    } else {
        ngx_log_error(NGX_LOG_ERR, ev->log, 0,
                      "axion: no memory to verify a key by Argon2id");
    }

    while (!ngx_queue_empty(&job->requests)) {

        q = ngx_queue_head(&job->requests);
        ctx = ngx_queue_data(q, ngx_http_axion_ctx_t, chosen);

        ngx_http_axion_leave_job(ctx);
        ctx->tenant_known = 0;

        if (job->found.index == NGX_HTTP_AXION_CHOSEN_FAILED) {
            ctx->verifications = NGX_HTTP_AXION_CHOSEN_TRIES;
        }

        c = ctx->request->connection;
        ngx_http_set_log_request(c->log, ctx->request);

        ngx_http_core_run_phases(ctx->request);
        ngx_http_run_posted_requests(c);
    }

    ngx_http_axion_free_job(job);
    ngx_http_axion_start_jobs(amcf);
}


static void
ngx_http_axion_job_alive(ngx_event_t *ev)
{
    ngx_http_axion_job_t *job = ev->data;

    ngx_add_timer(&job->timer, NGX_HTTP_AXION_CHOSEN_ALIVE);
    ngx_http_axion_start_jobs(job->main);
}

#else

char *
ngx_http_axion_chosen_pool(ngx_conf_t *cf, ngx_http_axion_main_conf_t *amcf)
{
    return "argon2id keys need an nginx with threads (--with-threads)";
}


ngx_int_t
ngx_http_axion_wait_for_key(ngx_http_axion_ctx_t *ctx)
{
    return NGX_DECLINED;
}

#endif
