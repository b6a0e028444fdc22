/*
 * Strings with trust: views, growing buffers, search.
 *
 * A buffer keeps one flag for its trust until bytes of the other kind come;
 * only then it gets a mask.  Templates without a client's text and contents
 * without a template around them therefore cost no mask at all.
 */
#include "engine/text/jinja_value.h"


struct ax_string
ax_string_slice(const struct ax_string *s, size_t from, size_t n)
{
    struct ax_string r = *s;

    r.p = s->p + from;
    r.n = n;
    r.buf = NULL;
    if (s->mask != NULL) {
        r.mask = s->mask + from;
    }
    return r;
}


bool
ax_string_is(const struct ax_string *s, const char *text)
{
    size_t n = strlen(text);

    return s->n == n && memcmp(s->p, text, n) == 0;
}


/* Order of code points, which is the order of UTF-8's bytes. */
int
ax_string_compare(const struct ax_string *a, const struct ax_string *b)
{
    size_t n = a->n < b->n ? a->n : b->n;
    int c = n > 0 ? memcmp(a->p, b->p, n) : 0;

    return c != 0 ? c : (a->n > b->n) - (a->n < b->n);
}


size_t
ax_string_find(const struct ax_string *s, const char *p, size_t n, size_t from)
{
    if (from > s->n || n > s->n - from) {
        return SIZE_MAX;
    }
    if (n == 0) {
        return from;
    }

    const char *hit = memmem(s->p + from, s->n - from, p, n);

    return hit == NULL ? SIZE_MAX : (size_t)(hit - s->p);
}


struct ax_buf *
ax_buf_new(struct ax_pool *pool)
{
    struct ax_buf *b = ax_pool_alloc(pool, sizeof(*b));

    if (b != NULL) {
        memset(b, 0, sizeof(*b));
    }
    return b;
}


/* Room for n more bytes and one to spare; false changes nothing. */
static bool
buf_reserve(struct ax_pool *pool, struct ax_buf *b, size_t n)
{
    if (n < b->cap - b->n) {
        return true;
    }
    if (n > SIZE_MAX / 8 - b->cap) {
        n = SIZE_MAX / 8 - b->cap; /* the pool refuses it by its bound */
    }

    size_t cap = b->n + n;

    cap += cap / 2 + 32;
    if (b->mask != NULL) {
        uint8_t *mask = ax_pool_alloc(pool, cap);

        if (mask == NULL) {
            return false;
        }
        memcpy(mask, b->mask, b->n);
        b->mask = mask;
    }

    char *p = ax_pool_grow(pool, b->p, b->n, cap);

    if (p == NULL) {
        return false;
    }
    b->p = p;
    b->cap = cap;
    return true;
}


static bool
buf_need_mask(struct ax_pool *pool, struct ax_buf *b)
{
    b->mask = ax_pool_alloc(pool, b->cap);
    if (b->mask == NULL) {
        return false;
    }
    memset(b->mask, b->trusted, b->n);
    return true;
}


void
ax_buf_add(struct ax_pool *pool, struct ax_buf *b, const struct ax_string *s)
{
    if (b == NULL || s->n == 0 || !buf_reserve(pool, b, s->n)) {
        return;
    }
    if (b->n == 0 && s->mask == NULL) {
        b->mask = NULL;
        b->trusted = s->trusted;
    }
    if (b->mask == NULL && (s->mask != NULL || s->trusted != b->trusted) &&
        !buf_need_mask(pool, b)) {
        return;
    }
    if (b->mask != NULL) {
        if (s->mask != NULL) {
            memcpy(b->mask + b->n, s->mask, s->n);
        } else {
            memset(b->mask + b->n, s->trusted, s->n);
        }
    }
    memcpy(b->p + b->n, s->p, s->n);
    b->n += s->n;
}


void
ax_buf_bytes(struct ax_pool *pool, struct ax_buf *b, const char *p, size_t n,
             bool trusted)
{
    struct ax_string s = {p, n, NULL, NULL, trusted};

    ax_buf_add(pool, b, &s);
}


void
ax_buf_text(struct ax_pool *pool, struct ax_buf *b, const char *text)
{
    ax_buf_bytes(pool, b, text, strlen(text), true);
}


static struct ax_string
buf_string(struct ax_buf *b)
{
    struct ax_string s = {"", 0, NULL, NULL, true};

    if (b != NULL && b->n > 0) {
        s = (struct ax_string){b->p, b->n, b->mask, b, b->trusted};
    }
    return s;
}


struct ax_value *
ax_buf_value(struct ax_pool *pool, struct ax_buf *b)
{
    return b == NULL ? NULL : ax_value_view(pool, buf_string(b));
}


struct ax_value *
ax_string_concat(struct ax_pool *pool, const struct ax_string *a,
                 const struct ax_string *b)
{
    if (a->n == 0) {
        return ax_value_view(pool, *b);
    }
    if (b->n == 0) {
        return ax_value_view(pool, *a);
    }

    struct ax_buf *buf = a->buf;

    if (buf == NULL || a->p != buf->p || a->n != buf->n) {
        buf = ax_buf_new(pool);
        ax_buf_add(pool, buf, a);
    }
    ax_buf_add(pool, buf, b);
    return ax_pool_error(pool) != 0 ? NULL : ax_buf_value(pool, buf);
}
