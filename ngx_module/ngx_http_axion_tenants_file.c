/*
 * axion_tenants file=PATH: tenants that change without a reload.
 *
 * Read first when the configuration is, so that nginx -t knows a wrong file;
 * then by each worker for itself when it has changed (_watch.c).  Reading is a
 * job for a thread where nginx has them, since a large file takes longer than
 * streams may stand still.
 *
 * A file that is wrong changes nothing: the state before it stays in force,
 * and the reason is logged once, with file and line.
 *
 * Generations.  A set lives in a pool of its own and counts who holds it: the
 * file, and every request that asked it, to its end.  The last one that lets
 * go destroys the pool.  The set of the configuration itself lives in the
 * cycle's pool like everything that is configured.
 */


#include "ngx_module/ngx_http_axion_limits.h"
#include "ngx_module/ngx_http_axion_zone.h"


struct ngx_http_axion_tenants_file_s {
    ngx_http_axion_watch_t           watch;
    ngx_http_axion_main_conf_t      *main;
    ngx_http_axion_tenants_t        *tenants;   /* in force */
    int                              kept;      /* its text (_keep.c) */
    unsigned                         loading:1; /* a reading is under way */
};


/* One reading, in a thread or not. */
typedef struct {
    ngx_http_axion_tenants_file_t   *file;
    ngx_http_axion_tenants_t        *tenants;   /* its pool is the reading's */
    ngx_http_axion_look_t            look;
    ngx_err_t                        err;
    int                              error;
    struct axion_tenants_fault       fault;
} ngx_http_axion_reading_t;


static ngx_http_axion_reading_t *ngx_http_axion_open_reading(
    ngx_http_axion_tenants_file_t *file);
static void ngx_http_axion_read_tenants(void *data, ngx_log_t *log);
static void ngx_http_axion_parse_tenants(ngx_http_axion_reading_t *reading,
    const char *text, size_t bytes, ngx_log_t *log);
static void ngx_http_axion_restore_tenants(
    ngx_http_axion_tenants_file_t *file, ngx_log_t *log);
static void ngx_http_axion_take_tenants(ngx_http_axion_reading_t *reading,
    ngx_log_t *log);
static void ngx_http_axion_refuse_tenants(ngx_http_axion_reading_t *reading,
    ngx_log_t *log);
static void ngx_http_axion_tenants_timer(ngx_event_t *ev);
static void ngx_http_axion_start_reading(ngx_http_axion_tenants_file_t *file);
#if (NGX_THREADS)
static void ngx_http_axion_reading_done(ngx_event_t *ev);
#endif
static void ngx_http_axion_let_go(void *data);
static void ngx_http_axion_drop_tenants_file(void *data);


#define NGX_HTTP_AXION_TENANTS_INTERVAL  (5 * 1000)
#define NGX_HTTP_AXION_TENANTS_POOL      (64 * 1024)


/* ---- configuration ---- */


char *
ngx_http_axion_tenants(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_axion_loc_conf_t  *alcf = conf;

    char                            *rv;
    ngx_str_t                       *value, path;
    ngx_msec_t                       interval;
    ngx_uint_t                       i;
    ngx_http_axion_level_t          *level;
    ngx_http_axion_main_conf_t      *amcf;
    ngx_http_axion_tenants_file_t   *file, **f;

    level = ngx_http_axion_level(cf, alcf);
    if (level == NULL) {
        return NGX_CONF_ERROR;
    }

    if (level->file != NULL) {
        return "is duplicate";
    }

    value = cf->args->elts;
    interval = NGX_HTTP_AXION_TENANTS_INTERVAL;
    ngx_str_null(&path);

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "file=", 5) == 0 && value[i].len > 5) {
            path.data = value[i].data + 5;
            path.len = value[i].len - 5;

        } else if (ngx_strncmp(value[i].data, "interval=", 9) == 0) {
            rv = ngx_http_axion_watch_interval(cf, &value[i], &interval);
            if (rv != NGX_CONF_OK) {
                return rv;
            }

        } else {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "unknown parameter \"%V\"", &value[i]);
            return NGX_CONF_ERROR;
        }
    }

    if (path.len == 0) {
        return "needs file=PATH";
    }

    if (ngx_conf_full_name(cf->cycle, &path, 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_axion_module);

#if (NGX_THREADS)
    rv = ngx_http_axion_chosen_pool(cf, amcf);
    if (rv != NGX_CONF_OK) {
        return rv;
    }
#else
    rv = NGX_CONF_OK;
#endif

    f = amcf->tenants_files.elts;

    for (i = 0; i < amcf->tenants_files.nelts; i++) {
        if (f[i]->watch.name.len == path.len
            && ngx_strncmp(f[i]->watch.name.data, path.data, path.len) == 0)
        {
            level->file = f[i];
            f[i]->watch.interval = ngx_min(f[i]->watch.interval, interval);
            return rv;
        }
    }

    file = ngx_pcalloc(cf->pool, sizeof(ngx_http_axion_tenants_file_t));
    if (file == NULL) {
        return NGX_CONF_ERROR;
    }

    f = ngx_array_push(&amcf->tenants_files);
    if (f == NULL) {
        return NGX_CONF_ERROR;
    }

    *f = file;

    file->watch.name = path;
    file->watch.interval = interval;
    file->main = amcf;
    level->file = file;

    return rv;
}


/* When all of nginx.conf's own tenants are known. */
char *
ngx_http_axion_init_tenants_files(ngx_conf_t *cf,
    ngx_http_axion_main_conf_t *amcf)
{
    ngx_uint_t                        i;
    ngx_pool_cleanup_t               *cln;
    ngx_http_axion_reading_t         *reading;
    ngx_http_axion_tenants_file_t   **file;

    file = amcf->tenants_files.elts;

    for (i = 0; i < amcf->tenants_files.nelts; i++) {

        reading = ngx_http_axion_open_reading(file[i]);
        if (reading == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_http_axion_read_tenants(reading, cf->log);
        ngx_http_axion_take_tenants(reading, cf->log);

        if (file[i]->tenants == NULL
            || ngx_http_axion_keep_open(cf->pool, &file[i]->kept) != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }

        /* the file's own hold ends with the cycle */

        cln = ngx_pool_cleanup_add(cf->pool, 0);
        if (cln == NULL) {
            return NGX_CONF_ERROR;
        }

        cln->handler = ngx_http_axion_drop_tenants_file;
        cln->data = file[i];

        /* the log of now is the old cycle's and goes with it */

        file[i]->tenants->pool->log = &cf->cycle->new_log;
    }

    return NGX_CONF_OK;
}


/* ---- reading ---- */


static ngx_http_axion_reading_t *
ngx_http_axion_open_reading(ngx_http_axion_tenants_file_t *file)
{
    ngx_pool_t                *pool;
    ngx_http_axion_reading_t  *reading;

    pool = ngx_create_pool(NGX_HTTP_AXION_TENANTS_POOL, ngx_cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    reading = ngx_pcalloc(pool, sizeof(ngx_http_axion_reading_t));

    if (reading != NULL) {
        reading->file = file;
        reading->look = file->watch.seen;
        reading->tenants = ngx_pcalloc(pool, sizeof(ngx_http_axion_tenants_t));
    }

    if (reading == NULL || reading->tenants == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    reading->tenants->pool = pool;

    return reading;
}


/* In a thread, but for nginx -t and a worker's start. */
static void
ngx_http_axion_read_tenants(void *data, ngx_log_t *log)
{
    ngx_http_axion_reading_t *reading = data;

    char                        *text;
    size_t                       bytes;

    reading->error = AXION_ERR_SYSTEM;

    text = ngx_http_axion_read_watched(&reading->file->watch,
                                       AXION_TENANTS_FILE_BYTES_MAX,
                                       &reading->look, &bytes, &reading->err);
    if (text == NULL) {
        return;
    }

    ngx_http_axion_parse_tenants(reading, text, bytes, log);

    if (reading->error == AXION_OK && reading->file->tenants != NULL) {
        ngx_http_axion_keep_text(reading->file->kept, text, bytes);
    }

    ngx_free(text);
}


static void
ngx_http_axion_parse_tenants(ngx_http_axion_reading_t *reading,
    const char *text, size_t bytes, ngx_log_t *log)
{
    struct axion_memory          memory;
    ngx_http_axion_main_conf_t  *amcf;

    amcf = reading->file->main;
    memory = ngx_http_axion_memory(reading->tenants->pool);

    reading->error = axion_tenants_read(&reading->tenants->set, text, bytes,
                                        &memory, &reading->fault);

    if (reading->error == AXION_ERR_NO_MEMORY) {
        reading->err = NGX_ENOMEM;
    }

    if (reading->error == AXION_OK) {
        reading->error = axion_tenants_apart(&reading->tenants->set,
                                             amcf->tenants.elts,
                                             amcf->tenants.nelts,
                                             &reading->fault);
    }

    if (reading->error == AXION_OK) {
        ngx_http_axion_limits_reserve(amcf, reading->tenants->set.n_tenants,
                                      log);
    }

    if (reading->error == AXION_OK && reading->tenants->set.n_chosen != 0
        && !amcf->may_choose)
    {
        reading->error = AXION_ERR_BAD_OPTION;
        ngx_cpystrn((u_char *) reading->fault.why,
                    (u_char *) "argon2id keys need an nginx with threads",
                    sizeof(reading->fault.why));
    }
}


/* Takes a good reading over; drops another one and says why, once. */
static void
ngx_http_axion_take_tenants(ngx_http_axion_reading_t *reading, ngx_log_t *log)
{
    ngx_http_axion_tenants_t       *old, *tenants;
    ngx_http_axion_tenants_file_t  *file;

    file = reading->file;
    old = file->tenants;
    tenants = reading->tenants;

    if (reading->error == AXION_OK) {

        tenants->refs = 1;
        tenants->set.generation = (old != NULL) ? old->set.generation + 1 : 1;

        file->watch.read = reading->look;
        file->watch.err = 0;
        file->tenants = tenants;

        if (old != NULL) {
            ngx_log_error(NGX_LOG_NOTICE, log, 0,
                          "axion: \"%V\" is read anew: %uz tenants, "
                          "generation %uL", &file->watch.name,
                          tenants->set.n_tenants, tenants->set.generation);

            ngx_http_axion_let_go(old);
            ngx_http_axion_forget_chosen(file->main);
            ngx_http_axion_count_tenants(file->main, 1);
        }

        return;
    }

    ngx_http_axion_refuse_tenants(reading, log);
    ngx_destroy_pool(tenants->pool);
}


static void
ngx_http_axion_refuse_tenants(ngx_http_axion_reading_t *reading,
    ngx_log_t *log)
{
    ngx_http_axion_tenants_file_t  *file;

    file = reading->file;

    if (ngx_http_axion_refuse_watched(&file->watch, &reading->look,
                                      reading->err, reading->fault.why,
                                      reading->fault.line,
                                      file->tenants != NULL, log)
        && file->tenants != NULL)
    {
        ngx_http_axion_count_tenants(file->main, 0);
    }
}


/* ---- a worker's timer ---- */


void
ngx_http_axion_watch_tenants(ngx_http_axion_main_conf_t *amcf,
    ngx_log_t *log)
{
    ngx_uint_t                        i;
    ngx_http_axion_tenants_t         *forked;
    ngx_http_axion_reading_t         *reading;
    ngx_http_axion_tenants_file_t   **file;

    file = amcf->tenants_files.elts;

    for (i = 0; i < amcf->tenants_files.nelts; i++) {

        /* a worker that takes the place of a dead one starts with what the
         * configuration began with */

        forked = file[i]->tenants;

        if (ngx_http_axion_start_watch(&file[i]->watch,
                                       ngx_http_axion_tenants_timer, file[i],
                                       log))
        {
            reading = ngx_http_axion_open_reading(file[i]);

            if (reading != NULL) {
                ngx_http_axion_read_tenants(reading, log);
                ngx_http_axion_take_tenants(reading, log);
            }

        } else if (file[i]->watch.seen.inode != 0) {
            continue;
        }

        if (file[i]->tenants == forked) {
            ngx_http_axion_restore_tenants(file[i], log);
        }
    }
}


/* The file is wrong or away: what other workers have read before is in force
 * here too. */
static void
ngx_http_axion_restore_tenants(ngx_http_axion_tenants_file_t *file,
    ngx_log_t *log)
{
    char                      *text;
    size_t                     bytes;
    ngx_http_axion_reading_t  *reading;

    text = ngx_http_axion_kept(file->kept, AXION_TENANTS_FILE_BYTES_MAX,
                               &bytes);
    if (text == NULL) {
        return;
    }

    reading = ngx_http_axion_open_reading(file);

    if (reading != NULL) {
        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "axion: what was read of \"%V\" before is kept",
                      &file->watch.name);

        reading->look = file->watch.read;
        ngx_http_axion_parse_tenants(reading, text, bytes, log);
        ngx_http_axion_take_tenants(reading, log);
    }

    ngx_free(text);
}


static void
ngx_http_axion_tenants_timer(ngx_event_t *ev)
{
    ngx_http_axion_tenants_file_t *file = ev->data;

    ngx_add_timer(ev, file->watch.interval / 2);

    if (file->loading) {
        return;
    }

    switch (ngx_http_axion_look_again(&file->watch, ev->log)) {

    case NGX_OK:
        ngx_http_axion_start_reading(file);
        break;

    case NGX_ERROR:
        ngx_http_axion_count_tenants(file->main, 0);
        break;

    default: /* NGX_DECLINED */
        break;
    }
}


static void
ngx_http_axion_start_reading(ngx_http_axion_tenants_file_t *file)
{
    ngx_http_axion_reading_t  *reading;
#if (NGX_THREADS)
    ngx_thread_task_t         *task;
#endif

    reading = ngx_http_axion_open_reading(file);
    if (reading == NULL) {
        return;
    }

#if (NGX_THREADS)

    task = ngx_thread_task_alloc(reading->tenants->pool, 0);

    if (task != NULL) {
        task->ctx = reading;
        task->handler = ngx_http_axion_read_tenants;
        task->event.handler = ngx_http_axion_reading_done;
        task->event.data = reading;
        task->event.log = ngx_cycle->log;

        if (ngx_thread_task_post(file->main->thread_pool, task) == NGX_OK) {
            file->loading = 1;
            return;
        }
    }

#endif

    ngx_http_axion_read_tenants(reading, ngx_cycle->log);
    ngx_http_axion_take_tenants(reading, ngx_cycle->log);
}


#if (NGX_THREADS)

static void
ngx_http_axion_reading_done(ngx_event_t *ev)
{
    ngx_http_axion_reading_t *reading = ev->data;

    reading->file->loading = 0;
    ngx_http_axion_take_tenants(reading, ev->log);
}

#endif


/* ---- who holds a set ---- */


/* The set in force, for as long as the request lives; NULL: no memory. */
ngx_http_axion_tenants_t *
ngx_http_axion_hold_tenants(ngx_http_request_t *r,
    ngx_http_axion_tenants_file_t *file)
{
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    cln->handler = ngx_http_axion_let_go;
    cln->data = file->tenants;

    file->tenants->refs++;

    return file->tenants;
}


static void
ngx_http_axion_let_go(void *data)
{
    ngx_http_axion_tenants_t *tenants = data;

    if (--tenants->refs == 0) {
        ngx_destroy_pool(tenants->pool);
    }
}


static void
ngx_http_axion_drop_tenants_file(void *data)
{
    ngx_http_axion_tenants_file_t *file = data;

    ngx_http_axion_let_go(file->tenants);
}


size_t
ngx_http_axion_count_file_tenants(ngx_http_axion_main_conf_t *amcf)
{
    size_t                            n;
    ngx_uint_t                        i;
    ngx_http_axion_tenants_file_t   **file;

    n = 0;
    file = amcf->tenants_files.elts;

    for (i = 0; i < amcf->tenants_files.nelts; i++) {
        n += file[i]->tenants->set.n_tenants;
    }

    return n;
}


/* The set in force, for whoever looks at it and does not keep it. */
const struct axion_tenants *
ngx_http_axion_tenants_of(ngx_http_axion_tenants_file_t *file)
{
    return (file->tenants != NULL) ? &file->tenants->set : NULL;
}
