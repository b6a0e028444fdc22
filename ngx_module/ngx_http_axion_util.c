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
