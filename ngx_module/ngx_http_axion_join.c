/*
 * Engines that join and leave without a reload:
 *
 *   engine unix:/run/axion/[*].sock [interval=TIME];   (without the brackets)
 *
 * Each worker looks into the directory for itself, when it starts and then
 * once in an interval.  A socket that suits the pattern and is new gets an
 * engine, which is connected at once; from then on it is like one that is
 * listed, in routing, status and metrics.  One whose socket is gone leaves
 * when its channel is closed and no request stands in its queues: an engine
 * that drains has removed its socket and finishes its streams.  A socket that
 * a crashed engine left behind stays, and is tried until somebody listens.
 *
 * A directory that is away is an empty one; one that cannot be read for
 * another reason changes nothing.  Engines are bounded together with those
 * that are listed; what is beyond is left out and logged once.
 *
 * Memory.  An engine that left is kept for the next that joins, with its
 * table of streams: what a worker holds is bounded by the most it had at
 * once.  Nothing outside of the upstreams' arrays points to an engine without
 * streams, but for its name in requests (_dispatch.c copies it).
 */


#include "ngx_module/ngx_http_axion_limits.h"
#include "ngx_module/ngx_http_axion_zone.h"


#include <fnmatch.h>
#include <sys/un.h>


#define NGX_HTTP_AXION_JOIN_INTERVAL  1000
#define NGX_HTTP_AXION_ENTRIES_MAX    4096


/* "engine unix:DIRECTORY/PATTERN" */
struct ngx_http_axion_pattern_s {
    ngx_str_t                    name;       /* as it is configured */
    u_char                      *directory;
    u_char                      *glob;
    ngx_msec_t                   interval;
    ngx_http_axion_main_conf_t  *main;
    ngx_http_axion_upstream_t   *upstream;

    /* the worker's own */
    ngx_event_t                  timer;
    ngx_err_t                    err;        /* the directory's, if logged */
    unsigned                     full:1;     /* logged: no room for all */
};


/* The sockets of one look. */
typedef struct {
    u_char                       names[NGX_HTTP_AXION_ENGINES_MAX]
                                      [NGX_HTTP_AXION_ENGINE_NAME];
    ngx_uint_t                   n;
    ngx_uint_t                   more;       /* than fit in here */
} ngx_http_axion_found_t;


static void ngx_http_axion_pattern_timer(ngx_event_t *ev);
static void ngx_http_axion_look_around(ngx_http_axion_pattern_t *pattern);
static ngx_int_t ngx_http_axion_list_sockets(
    ngx_http_axion_pattern_t *pattern, ngx_http_axion_found_t *found);
static ngx_uint_t ngx_http_axion_is_socket(ngx_http_axion_pattern_t *pattern,
    ngx_dir_t *dir, u_char *path);
static void ngx_http_axion_join_found(ngx_http_axion_pattern_t *pattern,
    ngx_http_axion_found_t *found);
static ngx_http_axion_engine_t *ngx_http_axion_join(
    ngx_http_axion_pattern_t *pattern, u_char *name);
static ngx_http_axion_engine_t *ngx_http_axion_make_engine(
    ngx_http_axion_main_conf_t *amcf, u_char *name);
static void ngx_http_axion_leave_lost(ngx_http_axion_pattern_t *pattern,
    ngx_http_axion_found_t *found);
static ngx_uint_t ngx_http_axion_suits(ngx_http_axion_pattern_t *pattern,
    ngx_http_axion_engine_t *engine);
static void ngx_http_axion_drop_engine(ngx_http_axion_main_conf_t *amcf,
    ngx_http_axion_engine_t *engine);
static void ngx_http_axion_remove(ngx_array_t *engines, ngx_uint_t i);
static ngx_http_axion_engine_t *ngx_http_axion_engine_of(
    ngx_array_t *engines, u_char *name);


/* ---- configuration ---- */


ngx_uint_t
ngx_http_axion_is_pattern(ngx_str_t *name)
{
    return strpbrk((char *) name->data, "*?[") != NULL;
}


/* args: "engine", the pattern, maybe "interval=". */
char *
ngx_http_axion_add_pattern(ngx_conf_t *cf,
    ngx_http_axion_upstream_t *upstream)
{
    char                         *rv;
    u_char                       *slash;
    ngx_str_t                    *value;
    ngx_uint_t                    i;
    ngx_http_axion_pattern_t     *pattern, **p;
    ngx_http_axion_main_conf_t   *amcf;

    value = cf->args->elts;
    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_axion_module);

    pattern = ngx_pcalloc(cf->pool, sizeof(ngx_http_axion_pattern_t));
    if (pattern == NULL) {
        return NGX_CONF_ERROR;
    }

    pattern->name = value[1];
    pattern->interval = NGX_HTTP_AXION_JOIN_INTERVAL;
    pattern->main = amcf;
    pattern->upstream = upstream;

    if (cf->args->nelts == 3) {

        if (ngx_strncmp(value[2].data, "interval=", 9) != 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "unknown parameter \"%V\" of \"engine\"",
                               &value[2]);
            return NGX_CONF_ERROR;
        }

        rv = ngx_http_axion_watch_interval(cf, &value[2], &pattern->interval);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    pattern->directory = ngx_pnalloc(cf->pool, value[1].len + 1);
    if (pattern->directory == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_cpystrn(pattern->directory, value[1].data, value[1].len + 1);
    pattern->directory += sizeof("unix:") - 1;

    slash = (u_char *) strrchr((char *) pattern->directory, '/');
    pattern->glob = slash + 1;
    *slash = '\0';

    if (strpbrk((char *) pattern->directory, "*?[") != NULL
        || strpbrk((char *) pattern->glob, "*?[") == NULL)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid engine \"%V\", only the last part of its "
                           "path may be a pattern", &value[1]);
        return NGX_CONF_ERROR;
    }

    p = amcf->patterns.elts;

    for (i = 0; i < amcf->patterns.nelts; i++) {
        if (p[i]->upstream == upstream && p[i]->name.len == value[1].len
            && ngx_strcmp(p[i]->name.data, value[1].data) == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate engine \"%V\"", &value[1]);
            return NGX_CONF_ERROR;
        }
    }

    p = ngx_array_push(&amcf->patterns);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    *p = pattern;
    upstream->n_patterns++;

    return NGX_CONF_OK;
}


/* ---- looking ---- */


void
ngx_http_axion_start_patterns(ngx_http_axion_main_conf_t *amcf)
{
    ngx_uint_t                  i;
    ngx_http_axion_pattern_t  **pattern;

    ngx_queue_init(&amcf->spare);
    pattern = amcf->patterns.elts;

    for (i = 0; i < amcf->patterns.nelts; i++) {

        if (!pattern[i]->upstream->used) {
            continue;
        }

        pattern[i]->timer.handler = ngx_http_axion_pattern_timer;
        pattern[i]->timer.data = pattern[i];
        pattern[i]->timer.log = ngx_cycle->log;
        pattern[i]->timer.cancelable = 1;

        ngx_http_axion_pattern_timer(&pattern[i]->timer);
    }
}


static void
ngx_http_axion_pattern_timer(ngx_event_t *ev)
{
    ngx_http_axion_pattern_t *pattern = ev->data;

    ngx_http_axion_look_around(pattern);
    ngx_add_timer(ev, pattern->interval);
}


static void
ngx_http_axion_look_around(ngx_http_axion_pattern_t *pattern)
{
    ngx_http_axion_found_t  found;

    if (ngx_http_axion_list_sockets(pattern, &found) != NGX_OK) {
        return;
    }

    ngx_http_axion_leave_lost(pattern, &found);
    ngx_http_axion_join_found(pattern, &found);

    if (found.more && !pattern->full) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "axion: more than %d engines, some of \"%V\" are left "
                      "out", (int) NGX_HTTP_AXION_ENGINES_MAX,
                      &pattern->name);
    }

    pattern->full = (found.more != 0);
}


/* NGX_ERROR: nobody knows what is there. */
static ngx_int_t
ngx_http_axion_list_sockets(ngx_http_axion_pattern_t *pattern,
    ngx_http_axion_found_t *found)
{
    u_char      *path, *end;
    ngx_int_t    rc;
    ngx_dir_t    dir;
    ngx_str_t    name;
    ngx_uint_t   n;

    found->n = 0;
    found->more = 0;

    name.data = pattern->directory[0] != '\0' ? pattern->directory
                                              : (u_char *) "/";
    name.len = ngx_strlen(name.data);

    if (ngx_open_dir(&name, &dir) == NGX_ERROR) {
        rc = (ngx_errno == NGX_ENOENT) ? NGX_OK : NGX_ERROR;

        if (pattern->err != ngx_errno) {
            pattern->err = ngx_errno;
            ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, ngx_errno,
                          "axion: cannot look for engines \"%V\"",
                          &pattern->name);
        }

        return rc;
    }

    pattern->err = 0;

    for (n = 0; n < NGX_HTTP_AXION_ENTRIES_MAX; n++) {

        if (ngx_read_dir(&dir) == NGX_ERROR) {
            break;
        }

        if (fnmatch((char *) pattern->glob, (char *) ngx_de_name(&dir),
                    FNM_PERIOD)
            != 0)
        {
            continue;
        }

        if (found->n == NGX_HTTP_AXION_ENGINES_MAX) {
            found->more = 1;
            break;
        }

        path = found->names[found->n];
        end = ngx_snprintf(path, NGX_HTTP_AXION_ENGINE_NAME, "unix:%s/%s%Z",
                           pattern->directory, ngx_de_name(&dir));

        if (end[-1] == '\0' && ngx_http_axion_is_socket(pattern, &dir, path))
        {
            found->n++;
        }
    }

    (void) ngx_close_dir(&dir);

    return NGX_OK;
}


/* Something else may have a name that suits. */
static ngx_uint_t
ngx_http_axion_is_socket(ngx_http_axion_pattern_t *pattern, ngx_dir_t *dir,
    u_char *path)
{
    struct stat  st;

    if (dir->de->d_type != DT_UNKNOWN) {
        return dir->de->d_type == DT_SOCK;
    }

    return lstat((char *) path + sizeof("unix:") - 1, &st) == 0
           && S_ISSOCK(st.st_mode);
}


/* ---- joining ---- */


static void
ngx_http_axion_join_found(ngx_http_axion_pattern_t *pattern,
    ngx_http_axion_found_t *found)
{
    ngx_uint_t                i;
    ngx_http_axion_engine_t  *engine;

    for (i = 0; i < found->n; i++) {

        engine = ngx_http_axion_engine_of(&pattern->upstream->engines,
                                          found->names[i]);
        if (engine != NULL) {
            ngx_http_axion_zone_touch(engine);
            continue;
        }

        engine = ngx_http_axion_join(pattern, found->names[i]);

        if (engine == NULL) {
            found->more = 1;
            return;
        }

        ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                      "axion: engine \"%V\" joins axion_upstream \"%V\"",
                      &engine->name, &pattern->upstream->name);

        (void) ngx_atomic_fetch_add(&pattern->main->zone->stats.joins, 1);

        ngx_http_axion_engine_connect(engine);
    }
}


/* NULL: no room for one more. */
static ngx_http_axion_engine_t *
ngx_http_axion_join(ngx_http_axion_pattern_t *pattern, u_char *name)
{
    ngx_http_axion_engine_t  *engine, **e;

    engine = ngx_http_axion_engine_of(&pattern->main->engines, name);

    if (engine == NULL) {
        engine = ngx_http_axion_make_engine(pattern->main, name);
        if (engine == NULL) {
            return NULL;
        }

        e = ngx_array_push(&pattern->main->engines);
        if (e == NULL) {
            ngx_queue_insert_tail(&pattern->main->spare, &engine->spare);
            return NULL;
        }

        *e = engine;
    }

    e = ngx_array_push(&pattern->upstream->engines);
    if (e == NULL) {
        ngx_http_axion_drop_engine(pattern->main, engine);
        return NULL;
    }

    *e = engine;

    return engine;
}


static ngx_http_axion_engine_t *
ngx_http_axion_make_engine(ngx_http_axion_main_conf_t *amcf, u_char *name)
{
    u_char                   *data;
    ngx_queue_t              *q;
    ngx_http_axion_left_t    *left;
    ngx_http_axion_engine_t  *engine;

    if (amcf->engines.nelts >= NGX_HTTP_AXION_ENGINES_MAX) {
        return NULL;
    }

    if (ngx_queue_empty(&amcf->spare)) {

        engine = ngx_pcalloc(amcf->cycle->pool,
                             sizeof(ngx_http_axion_engine_t));
        data = ngx_pnalloc(amcf->cycle->pool, NGX_HTTP_AXION_ENGINE_NAME);

        if (engine == NULL || data == NULL) {
            return NULL;
        }

        left = NULL;

    } else {
        q = ngx_queue_head(&amcf->spare);
        ngx_queue_remove(q);

        engine = ngx_queue_data(q, ngx_http_axion_engine_t, spare);
        data = engine->name.data;
        left = engine->left;

        ngx_memzero(engine, sizeof(ngx_http_axion_engine_t));
    }

    engine->name.data = data;
    engine->name.len = ngx_cpystrn(data, name, NGX_HTTP_AXION_ENGINE_NAME)
                       - data;
    engine->left = left;
    engine->joined = 1;
    engine->number = axion_tenant_number((char *) data, engine->name.len);

    ngx_http_axion_engine_init(amcf, engine);

    if (ngx_http_axion_limits_table(amcf, engine) != NGX_OK) {
        ngx_queue_insert_tail(&amcf->spare, &engine->spare);
        return NULL;
    }

    ngx_http_axion_zone_join(amcf, engine);

    return engine;
}


/* What is watched, for axion_status. */
void
ngx_http_axion_patterns_status(struct axion_json *json,
    ngx_http_axion_main_conf_t *amcf, ngx_http_axion_upstream_t *upstream)
{
    ngx_uint_t                  i;
    ngx_http_axion_pattern_t  **pattern;

    if (upstream->n_patterns == 0) {
        return;
    }

    axion_json_array(json, "watched");
    pattern = amcf->patterns.elts;

    for (i = 0; i < amcf->patterns.nelts; i++) {
        if (pattern[i]->upstream == upstream) {
            axion_json_text(json, NULL, (char *) pattern[i]->name.data,
                            pattern[i]->name.len);
        }
    }

    axion_json_close(json);
}


/* ---- leaving ---- */


static void
ngx_http_axion_leave_lost(ngx_http_axion_pattern_t *pattern,
    ngx_http_axion_found_t *found)
{
    ngx_uint_t                  i, k;
    ngx_array_t                *engines;
    ngx_http_axion_engine_t    *gone, **engine;

    engines = &pattern->upstream->engines;

    for (i = pattern->upstream->n_listed; i < engines->nelts; /* void */ ) {

        engine = engines->elts;

        for (k = 0; k < found->n; k++) {
            if (ngx_strcmp(found->names[k], engine[i]->name.data) == 0) {
                break;
            }
        }

        if (k != found->n || found->more
            || !ngx_http_axion_suits(pattern, engine[i])
            || engine[i]->link != NGX_HTTP_AXION_DOWN
            || !ngx_queue_empty(&engine[i]->streams)
            || !ngx_queue_empty(&engine[i]->starving))
        {
            i++;
            continue;
        }

        ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                      "axion: engine \"%V\" leaves axion_upstream \"%V\"",
                      &engine[i]->name, &pattern->upstream->name);

        (void) ngx_atomic_fetch_add(&pattern->main->zone->stats.leaves, 1);

        gone = engine[i];
        ngx_http_axion_remove(engines, i);
        ngx_http_axion_drop_engine(pattern->main, gone);
    }
}


/* 1: it is of this pattern, not of another one of the upstream. */
static ngx_uint_t
ngx_http_axion_suits(ngx_http_axion_pattern_t *pattern,
    ngx_http_axion_engine_t *engine)
{
    char    *path, *slash;
    size_t   n;

    path = (char *) engine->name.data + sizeof("unix:") - 1;
    slash = strrchr(path, '/');
    n = slash - path;

    return ngx_strlen(pattern->directory) == n
           && ngx_strncmp(pattern->directory, path, n) == 0
           && fnmatch((char *) pattern->glob, slash + 1, FNM_PERIOD) == 0;
}


/* An upstream has it no more: if none has, it is nobody's. */
static void
ngx_http_axion_drop_engine(ngx_http_axion_main_conf_t *amcf,
    ngx_http_axion_engine_t *engine)
{
    ngx_uint_t                   i;
    ngx_http_axion_engine_t    **e;
    ngx_http_axion_upstream_t  **upstream;

    if (!engine->joined) {
        return;
    }

    upstream = amcf->upstreams.elts;

    for (i = 0; i < amcf->upstreams.nelts; i++) {
        if (ngx_http_axion_engine_of(&upstream[i]->engines, engine->name.data)
            != NULL)
        {
            return;
        }
    }

    ngx_http_axion_engine_close(engine);

    e = amcf->engines.elts;

    for (i = 0; i < amcf->engines.nelts; i++) {
        if (e[i] == engine) {
            ngx_http_axion_remove(&amcf->engines, i);
            ngx_queue_insert_tail(&amcf->spare, &engine->spare);
            return;
        }
    }
}


static void
ngx_http_axion_remove(ngx_array_t *engines, ngx_uint_t i)
{
    ngx_http_axion_engine_t  **e;

    e = engines->elts;
    engines->nelts--;

    ngx_memmove(&e[i], &e[i + 1],
                (engines->nelts - i) * sizeof(ngx_http_axion_engine_t *));
}


static ngx_http_axion_engine_t *
ngx_http_axion_engine_of(ngx_array_t *engines, u_char *name)
{
    ngx_uint_t                  i;
    ngx_http_axion_engine_t   **e;

    e = engines->elts;

    for (i = 0; i < engines->nelts; i++) {
        if (ngx_strcmp(e[i]->name.data, name) == 0) {
            return e[i];
        }
    }

    return NULL;
}
