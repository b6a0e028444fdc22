/*
 * The inside of values: what jinja_*.c work on.
 *
 * A string is a view of bytes with trust, either one flag for all of it or a
 * byte each (mask).  A view may end where the used part of a growing buffer
 * ends; appending to it then extends the buffer in place, which other views
 * cannot see.  That keeps `out = out + piece` in a loop linear in time and
 * memory though nothing in the pool is ever freed.
 *
 * Nothing here fails with a message: allocation failure is remembered by the
 * pool (ax_pool_error) and shows as NULL or as text that stays short, and the
 * interpreter looks at the pool with every step.
 */
#ifndef AX_TEXT_JINJA_VALUE_H
#define AX_TEXT_JINJA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "engine/text/value.h"


enum ax_value_kind {
    AX_V_UNDEFINED,
    AX_V_NONE,
    AX_V_BOOL,
    AX_V_INT,
    AX_V_FLOAT,
    AX_V_STRING,
    AX_V_LIST,
    AX_V_TUPLE,
    AX_V_DICT,
    AX_V_NAMESPACE, /* a dict whose attributes can be set */
    AX_V_FUNCTION,  /* builtin, bound method or macro */
    AX_V_LOOP       /* the variable `loop` */
};


struct ax_buf {
    char *p;
    uint8_t *mask; /* NULL: all bytes are as `trusted` says */
    size_t n;
    size_t cap;
    bool trusted;
};


struct ax_string {
    const char *p;
    size_t n;
    const uint8_t *mask; /* NULL: all bytes are as `trusted` says */
    struct ax_buf *buf;  /* NULL: not at the end of a buffer */
    bool trusted;
};


struct ax_list {
    struct ax_value **items;
    size_t n;
    size_t cap;
};


struct ax_dict_entry {
    struct ax_value *key;
    struct ax_value *item;
    uint32_t hash;
};


struct ax_dict {
    struct ax_dict_entry *entries; /* in order of insertion */
    size_t n;
    size_t cap;
    uint32_t *index;     /* NULL while small */
    uint32_t index_size; /* power of two */
};


struct ax_jinja;
struct ax_call;
struct ax_node;
struct ax_scope;

typedef struct ax_value *(*ax_function_fn)(struct ax_jinja *j,
                                           struct ax_value *self,
                                           const struct ax_call *call);

struct ax_function {
    ax_function_fn fn;
    struct ax_value *self;       /* of a method */
    const struct ax_node *macro; /* of a macro, with its home scope */
    struct ax_scope *scope;
    struct ax_value *caller;
    const char *name;
};


/* One turn; its attributes are computed when asked for. */
struct ax_loop {
    struct ax_value *const *items;
    size_t n;
    size_t at;
};


struct ax_value {
    enum ax_value_kind kind;
    union {
        bool b;
        int64_t i;
        double f;
        struct ax_string s;
        struct ax_list list; /* list and tuple */
        struct ax_dict dict; /* dict and namespace */
        struct ax_function fn;
        struct ax_loop loop;
        const char *name; /* undefined: what was missing */
    } u;
};


struct ax_value *ax_value_new(struct ax_pool *pool, enum ax_value_kind kind);
struct ax_value *ax_value_undefined(struct ax_pool *pool, const char *name);
struct ax_value *ax_value_literal(struct ax_pool *pool, const char *text);
struct ax_value *ax_value_view(struct ax_pool *pool, struct ax_string s);

/* Deep equality as Python has it: 1 == 1.0 == True, trust ignored. */
bool ax_value_equal(const struct ax_value *a, const struct ax_value *b);

/* Entry for a key, or NULL. */
struct ax_dict_entry *ax_dict_find(const struct ax_pool *pool,
                                   const struct ax_dict *d,
                                   const struct ax_value *key);
struct ax_value *ax_dict_get(const struct ax_pool *pool,
                             const struct ax_dict *d, const char *key,
                             size_t n);
void ax_dict_put(struct ax_pool *pool, struct ax_dict *d, struct ax_value *key,
                 struct ax_value *item);
void ax_dict_remove(struct ax_pool *pool, struct ax_dict *d,
                    struct ax_dict_entry *entry);
void ax_list_push(struct ax_pool *pool, struct ax_list *list,
                  struct ax_value *item);


/* ---- strings ---- */

struct ax_string ax_string_slice(const struct ax_string *s, size_t from,
                                 size_t n);
bool ax_string_is(const struct ax_string *s, const char *text);
int ax_string_compare(const struct ax_string *a, const struct ax_string *b);

static inline bool
ax_string_equal(const struct ax_string *a, const struct ax_string *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->p, b->p, a->n) == 0);
}

/* First occurrence at or after `from`, SIZE_MAX if none. */
size_t ax_string_find(const struct ax_string *s, const char *p, size_t n,
                      size_t from);

/* A buffer in the pool. */
struct ax_buf *ax_buf_new(struct ax_pool *pool);
void ax_buf_add(struct ax_pool *pool, struct ax_buf *b,
                const struct ax_string *s);
void ax_buf_bytes(struct ax_pool *pool, struct ax_buf *b, const char *p,
                  size_t n, bool trusted);
void ax_buf_text(struct ax_pool *pool, struct ax_buf *b, const char *text);
struct ax_value *ax_buf_value(struct ax_pool *pool, struct ax_buf *b);

/* a + b, in place where a ends its buffer. */
struct ax_value *ax_string_concat(struct ax_pool *pool,
                                  const struct ax_string *a,
                                  const struct ax_string *b);

/* More room for p, in place if nothing was allocated since. */
void *ax_pool_grow(struct ax_pool *pool, void *p, size_t old_size,
                   size_t new_size);

#endif /* AX_TEXT_JINJA_VALUE_H */
