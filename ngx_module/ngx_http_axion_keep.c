/*
 * The last good version of a file that is re-read, for workers that take the
 * place of dead ones: the file may be wrong or away just then, and what they
 * were forked with may let in a key that was revoked since.
 *
 * It lies in memory that the master makes before it forks: a header, and the
 * file's text behind it.  Whoever has read a good version writes it there
 * under a lock that ends with its process; a checksum tells what somebody
 * killed has left half written, which counts as nothing.  In any thread, but
 * one at a time in a process.
 */


#include "ngx_module/ngx_http_axion_module.h"


#include <sodium.h>
#include <sys/mman.h>


typedef struct {
    uint64_t                     bytes;
    u_char                       sum[crypto_shorthash_BYTES];
} ngx_http_axion_kept_t;


static void ngx_http_axion_keep_close(void *data);
static ngx_int_t ngx_http_axion_keep_lock(int fd, short type);
static void ngx_http_axion_keep_sum(u_char *sum, const char *text,
    size_t bytes);
static ngx_int_t ngx_http_axion_keep_read(int fd, char *text, size_t bytes,
    off_t offset);


/* In the master; closed with the pool. */
ngx_int_t
ngx_http_axion_keep_open(ngx_pool_t *pool, int *fd)
{
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(pool, sizeof(int));
    if (cln == NULL) {
        return NGX_ERROR;
    }

    *fd = memfd_create("axion tenants", MFD_CLOEXEC);

    if (*fd == -1) {
        ngx_log_error(NGX_LOG_EMERG, pool->log, ngx_errno,
                      "memfd_create() failed");
        return NGX_ERROR;
    }

    *(int *) cln->data = *fd;
    cln->handler = ngx_http_axion_keep_close;

    return NGX_OK;
}


static void
ngx_http_axion_keep_close(void *data)
{
    (void) close(*(int *) data);
}


void
ngx_http_axion_keep_text(int fd, const char *text, size_t bytes)
{
    ngx_http_axion_kept_t  kept;

    kept.bytes = bytes;
    ngx_http_axion_keep_sum(kept.sum, text, bytes);

    if (ngx_http_axion_keep_lock(fd, F_WRLCK) != NGX_OK) {
        return;
    }

    /* half of it, for want of memory, has not this checksum */

    if (pwrite(fd, &kept, sizeof(kept), 0) == (ssize_t) sizeof(kept)) {
        (void) !pwrite(fd, text, bytes, sizeof(kept));
    }

    (void) ngx_http_axion_keep_lock(fd, F_UNLCK);
}


/* To be given back with ngx_free(); NULL: there is none. */
char *
ngx_http_axion_kept(int fd, size_t bytes_max, size_t *bytes)
{
    char                   *text;
    u_char                  sum[crypto_shorthash_BYTES];
    ngx_http_axion_kept_t   kept;

    text = NULL;

    if (ngx_http_axion_keep_lock(fd, F_RDLCK) != NGX_OK) {
        return NULL;
    }

    if (ngx_http_axion_keep_read(fd, (char *) &kept, sizeof(kept), 0)
        == NGX_OK
        && kept.bytes <= bytes_max)
    {
        text = ngx_alloc(kept.bytes + 1, ngx_cycle->log);
    }

    if (text != NULL) {
        *bytes = kept.bytes;

        if (ngx_http_axion_keep_read(fd, text, *bytes, sizeof(kept))
            == NGX_OK)
        {
            ngx_http_axion_keep_sum(sum, text, *bytes);

        } else {
            ngx_memzero(sum, sizeof(sum));
        }

        if (ngx_memcmp(sum, kept.sum, sizeof(sum)) != 0) {
            ngx_free(text);
            text = NULL;
        }
    }

    (void) ngx_http_axion_keep_lock(fd, F_UNLCK);

    return text;
}


static ngx_int_t
ngx_http_axion_keep_lock(int fd, short type)
{
    struct flock  lock;

    ngx_memzero(&lock, sizeof(struct flock));
    lock.l_type = type;
    lock.l_whence = SEEK_SET;

    while (fcntl(fd, F_SETLKW, &lock) == -1) {
        if (ngx_errno != NGX_EINTR) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static void
ngx_http_axion_keep_sum(u_char *sum, const char *text, size_t bytes)
{
    static const u_char  key[crypto_shorthash_KEYBYTES];

    (void) crypto_shorthash(sum, (const u_char *) text, bytes, key);
}


static ngx_int_t
ngx_http_axion_keep_read(int fd, char *text, size_t bytes, off_t offset)
{
    size_t   n;
    ssize_t  got;

    for (n = 0; n < bytes; n += got) {
        got = pread(fd, text + n, bytes - n, offset + n);

        if (got <= 0) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}
