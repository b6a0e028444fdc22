/*
 * Files that are re-read without a reload: tenants and JWK sets.  Each worker
 * watches for itself, on a timer: twice in an interval it looks at inode,
 * size and times, and has the file read when they are others.  A file that
 * was renamed into place is whole and read at once, one that is written where
 * it is when it has stood still for half an interval; so a change counts
 * within the interval, and half a file never does.
 *
 * What is wrong changes nothing.  It is logged once: a version of the file
 * that was refused for what it is is not read again, one that could not be
 * read (no descriptor, no memory) at every look until it can, without a word
 * more: the key that it revokes would be good for ever.
 */


#include "ngx_module/ngx_http_axion_module.h"


static void ngx_http_axion_look_of(ngx_http_axion_look_t *look,
    const struct stat *st);
static ngx_uint_t ngx_http_axion_same_look(const ngx_http_axion_look_t *a,
    const ngx_http_axion_look_t *b);
static ngx_err_t ngx_http_axion_read_fd(int fd, char *text, size_t size);


#define NGX_HTTP_AXION_WATCH_MIN  200
#define NGX_HTTP_AXION_WATCH_MAX  (60 * 60 * 1000)


/* "interval=TIME" of a directive. */
char *
ngx_http_axion_watch_interval(ngx_conf_t *cf, ngx_str_t *arg,
    ngx_msec_t *interval)
{
    ngx_int_t  msec;
    ngx_str_t  time;

    time.data = arg->data + sizeof("interval=") - 1;
    time.len = arg->len - (sizeof("interval=") - 1);

    msec = ngx_parse_time(&time, 0);

    if (msec == NGX_ERROR || msec < NGX_HTTP_AXION_WATCH_MIN
        || msec > NGX_HTTP_AXION_WATCH_MAX)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid \"%V\", it must be between 200ms and 1h",
                           arg);
        return NGX_CONF_ERROR;
    }

    *interval = msec;

    return NGX_CONF_OK;
}


static void
ngx_http_axion_look_of(ngx_http_axion_look_t *look, const struct stat *st)
{
    ngx_memzero(look, sizeof(ngx_http_axion_look_t));

    look->device = st->st_dev;
    look->inode = st->st_ino;
    look->size = st->st_size;
    look->modified = st->st_mtim;
    look->changed = st->st_ctim;
}


static ngx_uint_t
ngx_http_axion_same_look(const ngx_http_axion_look_t *a,
    const ngx_http_axion_look_t *b)
{
    return a->device == b->device && a->inode == b->inode
           && a->size == b->size
           && a->modified.tv_sec == b->modified.tv_sec
           && a->modified.tv_nsec == b->modified.tv_nsec
           && a->changed.tv_sec == b->changed.tv_sec
           && a->changed.tv_nsec == b->changed.tv_nsec;
}


/*
 * The whole file, to be given back with ngx_free(); NULL: *err says why,
 * NGX_EAGAIN that somebody writes it just now.  In any thread.
 */
char *
ngx_http_axion_read_watched(const ngx_http_axion_watch_t *watch,
    size_t bytes_max, ngx_http_axion_look_t *look, size_t *bytes,
    ngx_err_t *err)
{
    int                     fd;
    char                   *text;
    struct stat             before, after;
    ngx_http_axion_look_t   then;

    text = NULL;
    *err = 0;

    fd = open((char *) watch->name.data, O_RDONLY|O_NONBLOCK|O_CLOEXEC);

    if (fd == -1 || fstat(fd, &before) == -1) {
        *err = ngx_errno;
        goto done;
    }

    ngx_http_axion_look_of(look, &before);

    if (!S_ISREG(before.st_mode)) {
        *err = NGX_EINVAL;
        goto done;
    }

    if (before.st_size > (off_t) bytes_max) {
        *err = EFBIG;
        goto done;
    }

    *bytes = before.st_size;

    text = ngx_alloc(*bytes + 1, ngx_cycle->log);
    if (text == NULL) {
        *err = NGX_ENOMEM;
        goto done;
    }

    *err = ngx_http_axion_read_fd(fd, text, *bytes);

    if (*err == 0 && fstat(fd, &after) == -1) {
        *err = ngx_errno;
    }

    if (*err == 0) {
        ngx_http_axion_look_of(&then, &after);
        *err = ngx_http_axion_same_look(look, &then) ? 0 : NGX_EAGAIN;
    }

    if (*err != 0) {
        ngx_free(text);
        text = NULL;
    }

done:

    if (fd != -1) {
        (void) close(fd);
    }

    return text;
}


static ngx_err_t
ngx_http_axion_read_fd(int fd, char *text, size_t size)
{
    size_t   bytes;
    ssize_t  n;

    for (bytes = 0; bytes < size; bytes += n) {

        n = read(fd, text + bytes, size - bytes);

        if (n == -1 && ngx_errno == NGX_EINTR) {
            n = 0;
            continue;
        }

        if (n <= 0) {
            return (n == 0) ? NGX_EAGAIN : ngx_errno;
        }
    }

    return 0;
}


/*
 * A version of the file that is refused: `err`, or a fault and its line (0:
 * none).  `kept` tells that another version stays in force.  1: it was
 * logged, 0: it was before.
 */
ngx_uint_t
ngx_http_axion_refuse_watched(ngx_http_axion_watch_t *watch,
    const ngx_http_axion_look_t *look, ngx_err_t err, const char *fault,
    ngx_uint_t line, ngx_uint_t kept, ngx_log_t *log)
{
    ngx_err_t    was;
    ngx_uint_t   level;
    const char  *stays;

    level = kept ? NGX_LOG_ERR : NGX_LOG_EMERG;
    stays = kept ? ", what was read before stays in force" : "";

    was = watch->err;
    watch->err = err;

    if (err == 0 || err == EFBIG || err == NGX_EINVAL) {
        watch->read = *look;
    }

    if (err != 0) {

        if (err == was && kept) {
            return 0;
        }

        ngx_log_error(level, log, err, "axion: cannot read \"%V\"%s",
                      &watch->name, stays);

    } else if (line != 0) {
        ngx_log_error(level, log, 0, "axion: %s in %V:%ui%s", fault,
                      &watch->name, line, stays);

    } else {
        ngx_log_error(level, log, 0, "axion: %s in %V%s", fault, &watch->name,
                      stays);
    }

    return 1;
}


/* In a worker.  1: the file is another one than the configuration's. */
ngx_uint_t
ngx_http_axion_start_watch(ngx_http_axion_watch_t *watch,
    ngx_event_handler_pt handler, void *data, ngx_log_t *log)
{
    struct stat  st;

    watch->timer.handler = handler;
    watch->timer.data = data;
    watch->timer.log = log;
    watch->timer.cancelable = 1;
    ngx_add_timer(&watch->timer, watch->interval / 2);

    /* the master may have read it, and this worker not be allowed to */

    if (access((char *) watch->name.data, R_OK) == -1
        || stat((char *) watch->name.data, &st) == -1)
    {
        ngx_log_error(NGX_LOG_ERR, log, ngx_errno,
                      "axion: workers cannot read \"%V\": its changes will "
                      "not be seen", &watch->name);
        return 0;
    }

    ngx_http_axion_look_of(&watch->seen, &st);

    return !ngx_http_axion_same_look(&watch->seen, &watch->read);
}


/* NGX_OK: it is to be read now; NGX_DECLINED: not yet, or it is the same;
 * NGX_ERROR: it is away since the last look. */
ngx_int_t
ngx_http_axion_look_again(ngx_http_axion_watch_t *watch, ngx_log_t *log)
{
    ngx_err_t              err;
    ngx_uint_t             whole;
    struct stat            st;
    ngx_http_axion_look_t  look;

    if (stat((char *) watch->name.data, &st) == -1) {

        err = ngx_errno;

        if (err == watch->err) {
            return NGX_DECLINED;
        }

        watch->err = err;
        ngx_log_error(NGX_LOG_ERR, log, err,
                      "axion: cannot find \"%V\", what was read before stays "
                      "in force", &watch->name);

        return NGX_ERROR;
    }

    ngx_http_axion_look_of(&look, &st);

    whole = look.inode != watch->read.inode
            || ngx_http_axion_same_look(&look, &watch->seen);

    watch->seen = look;

    return (whole && !ngx_http_axion_same_look(&look, &watch->read))
               ? NGX_OK : NGX_DECLINED;
}
