/*
 * Values: constructors, lists, dicts, equality.
 *
 * A dict keeps its entries in order of insertion in one array.  Up to eight
 * it is searched in order, beyond that through an index of positions with
 * open addressing, at most half full.  Keys come from clients, so the hash
 * depends on the pool's address, which address space randomisation keeps from
 * them; nothing visible depends on it.
 */
#include "engine/text/jinja_value.h"

#include <math.h>

#include "engine/text/utf8.h"


#define DICT_INDEX_FROM 8u
#define EQUAL_DEPTH_MAX 100


static bool equal(const struct ax_value *a, const struct ax_value *b,
                  int depth);


struct ax_value *
ax_value_new(struct ax_pool *pool, enum ax_value_kind kind)
{
    struct ax_value *v = ax_pool_alloc(pool, sizeof(*v));

    if (v != NULL) {
        memset(v, 0, sizeof(*v));
        v->kind = kind;
    }
    return v;
}


struct ax_value *
ax_value_undefined(struct ax_pool *pool, const char *name)
{
    struct ax_value *v = ax_value_new(pool, AX_V_UNDEFINED);

    if (v != NULL) {
        v->u.name = name;
    }
    return v;
}


/*
 * One object serves for each of the values that conditions make by the
 * thousand.  Nothing writes to them, so all threads may share them.
 */
static const struct ax_value the_none = {.kind = AX_V_NONE};
static const struct ax_value the_true = {.kind = AX_V_BOOL, .u.b = true};
static const struct ax_value the_false = {.kind = AX_V_BOOL};


struct ax_value *
ax_value_none(struct ax_pool *pool)
{
    return ax_pool_error(pool) != 0 ? NULL : (struct ax_value *)&the_none;
}


struct ax_value *
ax_value_bool(struct ax_pool *pool, bool b)
{
    return ax_pool_error(pool) != 0
               ? NULL
               : (struct ax_value *)(b ? &the_true : &the_false);
}


struct ax_value *
ax_value_int(struct ax_pool *pool, int64_t i)
{
    struct ax_value *v = ax_value_new(pool, AX_V_INT);

    if (v != NULL) {
        v->u.i = i;
    }
    return v;
}


struct ax_value *
ax_value_float(struct ax_pool *pool, double f)
{
    struct ax_value *v = ax_value_new(pool, AX_V_FLOAT);

    if (v != NULL) {
        v->u.f = f;
    }
    return v;
}


struct ax_value *
ax_value_view(struct ax_pool *pool, struct ax_string s)
{
    struct ax_value *v = ax_value_new(pool, AX_V_STRING);

    if (v != NULL) {
        v->u.s = s;
    }
    return v;
}


/* text outlives the pool. */
struct ax_value *
ax_value_literal(struct ax_pool *pool, const char *text)
{
    struct ax_string s = {text, strlen(text), NULL, NULL, true};

    return ax_value_view(pool, s);
}


static struct ax_value *
string_repaired(struct ax_pool *pool, const char *p, size_t n, bool trusted)
{
    struct ax_buf *b = ax_buf_new(pool);
    size_t at = 0;

    while (at < n && ax_pool_error(pool) == 0) {
        uint32_t cp;
        char utf8[4];

        at += ax_utf8_next(p + at, n - at, &cp);
        ax_buf_bytes(pool, b, utf8, ax_utf8_encode(cp, utf8), trusted);
    }
    return ax_buf_value(pool, b);
}


struct ax_value *
ax_value_string(struct ax_pool *pool, const char *p, size_t n, bool trusted)
{
    if (!ax_utf8_valid(p, n)) {
        return string_repaired(pool, p, n, trusted);
    }

    char *copy = ax_pool_alloc(pool, n + 1);

    if (copy == NULL) {
        return NULL;
    }
    if (n > 0) {
        memcpy(copy, p, n);
    }
    copy[n] = '\0';
    return ax_value_view(pool,
                         (struct ax_string){copy, n, NULL, NULL, trusted});
}


struct ax_value *
ax_value_list(struct ax_pool *pool)
{
    return ax_value_new(pool, AX_V_LIST);
}


struct ax_value *
ax_value_dict(struct ax_pool *pool)
{
    return ax_value_new(pool, AX_V_DICT);
}


void
ax_list_push(struct ax_pool *pool, struct ax_list *list, struct ax_value *item)
{
    if (item == NULL) {
        return;
    }
    if (list->n == list->cap) {
        size_t cap = list->cap + list->cap / 2 + 8;
        void *q =
            ax_pool_grow(pool, list->items, list->n * sizeof(*list->items),
                         cap * sizeof(*list->items));
        if (q == NULL) {
            return;
        }
        list->items = q;
        list->cap = cap;
    }
    list->items[list->n++] = item;
}


void
ax_value_append(struct ax_pool *pool, struct ax_value *list,
                struct ax_value *item)
{
    if (list != NULL) {
        ax_list_push(pool, &list->u.list, item);
    }
}


/* ---- dicts ------------------------------------------------------------- */

static uint32_t
mix(const struct ax_pool *pool, uint64_t h)
{
    h ^= (uint64_t)(uintptr_t)pool;
    h *= 0x9e3779b97f4a7c15u;
    h ^= h >> 29;
    h *= 0xbf58476d1ce4e5b9u;
    return (uint32_t)(h >> 32);
}


/* Equal keys hash equally: numbers by value, the rest by text or not at all. */
static uint32_t
key_hash(const struct ax_pool *pool, const struct ax_value *key)
{
    uint64_t h = (uint64_t)(uintptr_t)pool;

    switch (key->kind) {
    case AX_V_STRING:
        for (size_t i = 0; i < key->u.s.n; i++) {
            h = (h ^ (uint8_t)key->u.s.p[i]) * 0x100000001b3u;
            h ^= h >> 31;
        }
        return mix(pool, h);
    case AX_V_BOOL:
        return mix(pool, key->u.b);
    case AX_V_INT:
        return mix(pool, (uint64_t)key->u.i);
    case AX_V_FLOAT:
        return fabs(key->u.f) < 9e18 && key->u.f == floor(key->u.f)
                   ? mix(pool, (uint64_t)(int64_t)key->u.f)
                   : 1;
    default:
        return 0;
    }
}


static bool
index_build(struct ax_pool *pool, struct ax_dict *d, uint32_t size)
{
    uint32_t *index = ax_pool_alloc(pool, size * sizeof(*index));

    if (index == NULL) {
        return false;
    }
    memset(index, 0xff, size * sizeof(*index));
    for (size_t i = 0; i < d->n; i++) {
        uint32_t at = d->entries[i].hash & (size - 1);

        while (index[at] != UINT32_MAX) {
            at = (at + 1) & (size - 1);
        }
        index[at] = (uint32_t)i;
    }
    d->index = index;
    d->index_size = size;
    return true;
}


static struct ax_dict_entry *
find_hashed(const struct ax_dict *d, uint32_t hash, const struct ax_value *key,
            int depth)
{
    if (d->index == NULL) {
        for (size_t i = 0; i < d->n; i++) {
            if (d->entries[i].hash == hash &&
                equal(d->entries[i].key, key, depth)) {
                return &d->entries[i];
            }
        }
        return NULL;
    }

    uint32_t at = hash & (d->index_size - 1);

    while (d->index[at] != UINT32_MAX) {
        struct ax_dict_entry *entry = &d->entries[d->index[at]];

        if (entry->hash == hash && equal(entry->key, key, depth)) {
            return entry;
        }
        at = (at + 1) & (d->index_size - 1);
    }
    return NULL;
}


struct ax_dict_entry *
ax_dict_find(const struct ax_pool *pool, const struct ax_dict *d,
             const struct ax_value *key)
{
    return find_hashed(d, key_hash(pool, key), key, EQUAL_DEPTH_MAX);
}


struct ax_value *
ax_dict_get(const struct ax_pool *pool, const struct ax_dict *d,
            const char *key, size_t n)
{
    struct ax_value v = {.kind = AX_V_STRING};

    v.u.s = (struct ax_string){key, n, NULL, NULL, true};

    struct ax_dict_entry *entry = ax_dict_find(pool, d, &v);

    return entry == NULL ? NULL : entry->item;
}


void
ax_dict_put(struct ax_pool *pool, struct ax_dict *d, struct ax_value *key,
            struct ax_value *item)
{
    if (key == NULL || item == NULL) {
        return;
    }

    struct ax_dict_entry *entry = ax_dict_find(pool, d, key);

    if (entry != NULL) {
        entry->item = item;
        return;
    }
    if (d->n == d->cap) {
        size_t cap = d->cap + d->cap / 2 + 4;
        void *q = ax_pool_grow(pool, d->entries, d->n * sizeof(*d->entries),
                               cap * sizeof(*d->entries));
        if (q == NULL) {
            return;
        }
        d->entries = q;
        d->cap = cap;
    }

    uint32_t hash = key_hash(pool, key);

    d->entries[d->n] = (struct ax_dict_entry){key, item, hash};
    d->n++;

    if (d->n > DICT_INDEX_FROM && d->n * 2 > d->index_size) {
        uint32_t size = d->index_size == 0 ? 32 : d->index_size * 2;

        if (d->n > UINT32_MAX / 8 || !index_build(pool, d, size)) {
            d->n--;
        }
    } else if (d->index != NULL) {
        uint32_t at = hash & (d->index_size - 1);

        while (d->index[at] != UINT32_MAX) {
            at = (at + 1) & (d->index_size - 1);
        }
        d->index[at] = (uint32_t)(d->n - 1);
    }
}


void
ax_dict_remove(struct ax_pool *pool, struct ax_dict *d,
               struct ax_dict_entry *entry)
{
    size_t at = (size_t)(entry - d->entries);

    memmove(entry, entry + 1, (d->n - at - 1) * sizeof(*entry));
    d->n--;
    if (d->index != NULL && !index_build(pool, d, d->index_size)) {
        d->n = 0; /* out of memory: the render ends anyway */
    }
}


void
ax_value_set(struct ax_pool *pool, struct ax_value *dict, const char *key,
             size_t key_len, bool key_trusted, struct ax_value *item)
{
    if (dict != NULL) {
        ax_dict_put(pool, &dict->u.dict,
                    ax_value_string(pool, key, key_len, key_trusted), item);
    }
}


void
ax_value_put(struct ax_pool *pool, struct ax_value *dict, const char *key,
             struct ax_value *item)
{
    ax_value_set(pool, dict, key, strlen(key), true, item);
}


/* ---- equality ---------------------------------------------------------- */

static bool
is_number(const struct ax_value *v)
{
    return v->kind == AX_V_BOOL || v->kind == AX_V_INT || v->kind == AX_V_FLOAT;
}


static bool
numbers_equal(const struct ax_value *a, const struct ax_value *b)
{
    if (a->kind != AX_V_FLOAT && b->kind != AX_V_FLOAT) {
        int64_t x = a->kind == AX_V_BOOL ? a->u.b : a->u.i;
        int64_t y = b->kind == AX_V_BOOL ? b->u.b : b->u.i;

        return x == y;
    }

    double x = a->kind == AX_V_FLOAT  ? a->u.f
               : a->kind == AX_V_BOOL ? a->u.b
                                      : (double)a->u.i;
    double y = b->kind == AX_V_FLOAT  ? b->u.f
               : b->kind == AX_V_BOOL ? b->u.b
                                      : (double)b->u.i;

    return x == y;
}


static bool
lists_equal(const struct ax_list *a, const struct ax_list *b, int depth)
{
    if (a->n != b->n) {
        return false;
    }
    for (size_t i = 0; i < a->n; i++) {
        if (!equal(a->items[i], b->items[i], depth)) {
            return false;
        }
    }
    return true;
}


/* Order does not matter.  Both are of one pool, so hashes compare. */
static bool
dicts_equal(const struct ax_dict *a, const struct ax_dict *b, int depth)
{
    if (a->n != b->n) {
        return false;
    }
    for (size_t i = 0; i < a->n; i++) {
        const struct ax_dict_entry *entry = &a->entries[i];
        const struct ax_dict_entry *other =
            find_hashed(b, entry->hash, entry->key, depth);

        if (other == NULL || !equal(other->item, entry->item, depth)) {
            return false;
        }
    }
    return true;
}


/* Below the depth limit (a list that holds itself) nothing is equal. */
static bool
equal(const struct ax_value *a, const struct ax_value *b, int depth)
{
    if (is_number(a) && is_number(b)) {
        return numbers_equal(a, b);
    }
    if (a->kind != b->kind || depth == 0) {
        return false;
    }
    switch (a->kind) {
    case AX_V_UNDEFINED:
    case AX_V_NONE:
        return true;
    case AX_V_STRING:
        return ax_string_equal(&a->u.s, &b->u.s);
    case AX_V_LIST:
    case AX_V_TUPLE:
        return lists_equal(&a->u.list, &b->u.list, depth - 1);
    case AX_V_DICT:
        return dicts_equal(&a->u.dict, &b->u.dict, depth - 1);
    default:
        return a == b;
    }
}


bool
ax_value_equal(const struct ax_value *a, const struct ax_value *b)
{
    return equal(a, b, EQUAL_DEPTH_MAX);
}
