/*
 * Where api/ meets nginx: its memory is a pool, its text an ngx_str_t, its
 * log levels nginx's.  Time that is measured rather than scheduled comes
 * from the monotonic clock; nginx's cached time stands still within a turn
 * of the event loop.
 */


#include "ngx_module/ngx_http_axion_module.h"


#include <sodium.h>


static void *
ngx_http_axion_alloc(void *context, size_t bytes)
{
    return ngx_palloc(context, bytes);
}


struct axion_memory
ngx_http_axion_memory(ngx_pool_t *pool)
{
    struct axion_memory  memory;

    memory.alloc = ngx_http_axion_alloc;
    memory.context = pool;

    return memory;
}


uint64_t
ngx_http_axion_now_us(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}


ngx_uint_t
ngx_http_axion_log_level(int error)
{
    switch (axion_error_info(error)->level) {

    case AXION_LOG_info:
        return NGX_LOG_INFO;

    case AXION_LOG_notice:
        return NGX_LOG_NOTICE;

    case AXION_LOG_warn:
        return NGX_LOG_WARN;

    case AXION_LOG_error:
        return NGX_LOG_ERR;

    default: /* AXION_LOG_crit */
        return NGX_LOG_CRIT;
    }
}


struct axion_text
ngx_http_axion_text(const ngx_str_t *str)
{
    struct axion_text  text;

    text.data = (const char *) str->data;
    text.bytes = (uint32_t) str->len;

    return text;
}


/*
 * The first line of a file that holds a password or a key, read when the
 * configuration is, by the master: workers need not be able to.  `secret` is
 * the room for it and a byte behind, and becomes the line, with zeros behind
 * it.  No message repeats what is in the file.
 */
ngx_int_t
ngx_http_axion_secret_file(ngx_conf_t *cf, ngx_str_t *path, ngx_str_t *secret)
{
    u_char     *end;
    size_t      room, len;
    ssize_t     n;
    ngx_fd_t    fd;
    ngx_err_t   err;

    if (ngx_conf_full_name(cf->cycle, path, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    fd = ngx_open_file(path->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_open_file_n " \"%V\" failed", path);
        return NGX_ERROR;
    }

    room = secret->len;
    n = ngx_read_fd(fd, secret->data, room);
    err = ngx_errno;

    (void) ngx_close_file(fd);

    if (n < 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, err,
                           ngx_read_fd_n " \"%V\" failed", path);
        return NGX_ERROR;
    }

    end = ngx_strlchr(secret->data, secret->data + n, LF);
    len = (end != NULL) ? (size_t) (end - secret->data) : (size_t) n;

    if (len != 0 && end != NULL && end[-1] == CR) {
        len--;
    }

    if (len == 0 || len == room) {
        ngx_explicit_memzero(secret->data, room);
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" does not begin with a line of 1 to %uz "
                           "bytes", path, room - 1);
        return NGX_ERROR;
    }

    ngx_explicit_memzero(secret->data + len, room - len);
    secret->len = len;

    return NGX_OK;
}


/* For names that must not meet again: a system call for a hundred of them.
 * In a process that serves; none takes over what its parent had left. */
void
ngx_http_axion_random(void *out, size_t bytes)
{
    static u_char     left[2048];
    static size_t     n_left;
    static ngx_pid_t  owner;

    if (bytes > n_left || owner != ngx_pid) {
        randombytes_buf(left, sizeof(left));
        n_left = sizeof(left);
        owner = ngx_pid;
    }

    n_left -= bytes;
    ngx_memcpy(out, left + n_left, bytes);
}
