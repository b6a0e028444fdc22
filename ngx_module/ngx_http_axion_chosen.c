/*
 * Keys that a person chose, sent as TENANT:SECRET and tried against the
 * tenant's Argon2id hashes.  One try takes tens of milliseconds, so it runs
 * in a thread of nginx's pools, never on the event loop, and once for all
 * requests that ask the same.
 *
 * A question names all the hashes that it is tried against, so an answer is
 * never that of a key which is gone.  Bounds: a worker runs two jobs at a time
 * (each may take 256 MiB), 64 more wait (_verify.c).
 */


#include "ngx_module/ngx_http_axion_verify.h"


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


/* The thread's while a job runs. */
typedef struct {
    struct axion_text            asked[AXION_TENANT_CHOSEN_MAX + 1];
    ngx_uint_t                   n_asked;    /* the secret is the last */
    ngx_http_axion_found_t       found;
} ngx_http_axion_guess_t;


static ngx_int_t ngx_http_axion_fill_guess(ngx_http_axion_job_t *job,
    ngx_http_axion_ctx_t *ctx);
static void ngx_http_axion_try_guess(void *data);
static ngx_int_t ngx_http_axion_keep_guess(ngx_http_axion_job_t *job);
static void ngx_http_axion_release_guess(ngx_http_axion_job_t *job);


static const ngx_http_axion_verifier_t  ngx_http_axion_chosen_verifier = {
    offsetof(ngx_http_axion_main_conf_t, chosen),
    NGX_HTTP_AXION_CHOSEN_RUNNING,
    NGX_HTTP_AXION_CHOSEN_JOBS,
    0,
    NGX_HTTP_AXION_CHOSEN_TRIES,
    "no memory to verify a key by Argon2id",
    ngx_http_axion_fill_guess,
    ngx_http_axion_try_guess,
    ngx_http_axion_keep_guess,
    ngx_http_axion_release_guess
};

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
#if (NGX_THREADS)
        ctx->unverified = 1;
        ctx->verifier = &ngx_http_axion_chosen_verifier;
#endif
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

char *
ngx_http_axion_chosen_pool(ngx_conf_t *cf, ngx_http_axion_main_conf_t *amcf)
{
    amcf->may_choose = 1;

    return ngx_http_axion_verify_pool(cf, amcf);
}


static ngx_int_t
ngx_http_axion_fill_guess(ngx_http_axion_job_t *job,
    ngx_http_axion_ctx_t *ctx)
{
    ngx_uint_t               i;
    struct axion_memory      memory;
    ngx_http_axion_guess_t  *guess;

    memory = ngx_http_axion_memory(job->pool);

    guess = ngx_pcalloc(job->pool, sizeof(ngx_http_axion_guess_t));
    if (guess == NULL) {
        return NGX_ERROR;
    }

    guess->n_asked = ngx_http_axion_question(ctx->claimed, &ctx->secret,
                                             guess->asked);

    for (i = 0; i < guess->n_asked; i++) {
        guess->asked[i].data = axion_memory_copy(&memory,
                                                 guess->asked[i].data,
                                                 guess->asked[i].bytes);
        if (guess->asked[i].data == NULL) {
            return NGX_ERROR;
        }
    }

    job->data = guess;

    return NGX_OK;
}


/* In a thread. */
static void
ngx_http_axion_try_guess(void *data)
{
    ngx_http_axion_guess_t *guess = data;

    int                 rc;
    ngx_uint_t          i;
    struct axion_text  *secret;

    secret = &guess->asked[guess->n_asked - 1];
    guess->found.index = NGX_HTTP_AXION_CHOSEN_WRONG;

    for (i = 0; i + 1 < guess->n_asked; i++) {
        rc = axion_key_verify(guess->asked[i].data, secret->data,
                              secret->bytes);

        if (rc == AXION_OK) {
            guess->found.index = i;
            return;
        }

        if (rc != AXION_ERR_UNAUTHENTICATED) {
            guess->found.index = NGX_HTTP_AXION_CHOSEN_FAILED;
        }
    }
}


static ngx_int_t
ngx_http_axion_keep_guess(ngx_http_axion_job_t *job)
{
    ngx_http_axion_found_t  *found;
    ngx_http_axion_guess_t  *guess;

    guess = job->data;

    if (guess->found.index == NGX_HTTP_AXION_CHOSEN_FAILED) {
        return NGX_ERROR;
    }

    found = axion_cache_put(&job->known->cache, &job->question,
                            ngx_current_msec
                            + (guess->found.index >= 0
                                   ? NGX_HTTP_AXION_CHOSEN_TTL
                                   : NGX_HTTP_AXION_CHOSEN_TTL_WRONG));
    *found = guess->found;

    return NGX_OK;
}


static void
ngx_http_axion_release_guess(ngx_http_axion_job_t *job)
{
    struct axion_text       *secret;
    ngx_http_axion_guess_t  *guess;

    guess = job->data;
    secret = &guess->asked[guess->n_asked - 1];
    sodium_memzero((char *) secret->data, secret->bytes);
}

#else

char *
ngx_http_axion_chosen_pool(ngx_conf_t *cf, ngx_http_axion_main_conf_t *amcf)
{
    return "argon2id keys need an nginx with threads (--with-threads)";
}

#endif
