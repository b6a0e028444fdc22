/*
 * The arena behind values: chunks that grow, one bound, freed at once.
 *
 * Chunks double up to a megabyte; a larger request gets a chunk of its own.
 * The latest allocation of a chunk can be extended in place, which is what
 * growing buffers live on.  The first failure is remembered, so that builders
 * can go on with NULL and be asked once at the end.
 */
#include "engine/text/jinja_value.h"

#include <stdalign.h>
#include <stdlib.h>


#define CHUNK_FIRST 4096u
#define CHUNK_MOST  (1024u * 1024u)
#define ALIGN       alignof(max_align_t)


struct chunk {
    struct chunk *next;
    size_t n;
    size_t cap;
    alignas(max_align_t) char data[];
};


struct ax_pool {
    struct chunk *chunks; /* newest first */
    size_t used;          /* bytes of all chunks */
    size_t bytes_max;
    int error;
};


int
ax_pool_open(struct ax_pool **out, size_t bytes_max)
{
    struct ax_pool *pool = calloc(1, sizeof(*pool));

    *out = pool;
    if (pool == NULL) {
        return AX_TEXT_NO_MEMORY;
    }
    pool->bytes_max = bytes_max;
    return 0;
}


void
ax_pool_close(struct ax_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    while (pool->chunks != NULL) {
        struct chunk *next = pool->chunks->next;

        free(pool->chunks);
        pool->chunks = next;
    }
    free(pool);
}


int
ax_pool_error(const struct ax_pool *pool)
{
    return pool->error;
}


static struct chunk *
chunk_add(struct ax_pool *pool, size_t size)
{
    size_t cap = pool->chunks == NULL ? CHUNK_FIRST : pool->chunks->cap * 2;

    if (cap > CHUNK_MOST) {
        cap = CHUNK_MOST;
    }
    if (cap < size) {
        cap = size;
    }
    if (cap > pool->bytes_max - pool->used) {
        cap = size; /* near the bound: no room to spare */
    }
    if (cap > pool->bytes_max - pool->used) {
        pool->error = AX_TEXT_LIMIT_MEMORY;
        return NULL;
    }

    struct chunk *c = malloc(sizeof(*c) + cap);

    if (c == NULL) {
        pool->error = AX_TEXT_NO_MEMORY;
        return NULL;
    }
    c->next = pool->chunks;
    c->n = 0;
    c->cap = cap;
    pool->chunks = c;
    pool->used += cap;
    return c;
}


void *
ax_pool_alloc(struct ax_pool *pool, size_t size)
{
    struct chunk *c = pool->chunks;

    if (pool->error != 0) {
        return NULL;
    }
    if (size > SIZE_MAX / 4) {
        pool->error = AX_TEXT_LIMIT_MEMORY;
        return NULL;
    }
    size = (size + ALIGN - 1) / ALIGN * ALIGN;
    if (c == NULL || size > c->cap - c->n) {
        c = chunk_add(pool, size);
        if (c == NULL) {
            return NULL;
        }
    }

    void *p = c->data + c->n;

    c->n += size;
    return p;
}


void *
ax_pool_grow(struct ax_pool *pool, void *p, size_t old_size, size_t new_size)
{
    struct chunk *c = pool->chunks;
    size_t old_room = (old_size + ALIGN - 1) / ALIGN * ALIGN;

    if (p != NULL && c != NULL && pool->error == 0 && new_size < SIZE_MAX / 4 &&
        (char *)p + old_room == c->data + c->n) {
        size_t room = (new_size + ALIGN - 1) / ALIGN * ALIGN;

        if (room - old_room <= c->cap - c->n) {
            c->n += room - old_room;
            return p;
        }
    }

    void *q = ax_pool_alloc(pool, new_size);

    if (q != NULL && old_size > 0) {
        memcpy(q, p, old_size);
    }
    return q;
}
