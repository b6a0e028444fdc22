/*
 * Filters that walk lists: length, join, map, select, sort and their kin.
 *
 * Sorting is a merge sort (stable, as Python's is) with a comparison that can
 * fail; every comparison costs a step.  `attribute` arguments may be paths
 * ("function.name") and integers.
 */
#include "engine/text/jinja_filters.h"

#include "engine/text/utf8.h"


#define PATH_MAX_BYTES 256


static struct ax_value *
filter_length(struct ax_jinja *j, struct ax_value *v,
              const struct ax_call *call)
{
    (void)call;
    switch (v->kind) {
    case AX_V_STRING:
        return ax_jinja_charge(j, 1 + v->u.s.n / 16)
                   ? ax_value_int(j->pool,
                                  (int64_t)ax_utf8_count(v->u.s.p, v->u.s.n))
                   : NULL;
    case AX_V_LIST:
    case AX_V_TUPLE:
        return ax_value_int(j->pool, (int64_t)v->u.list.n);
    case AX_V_DICT:
        return ax_value_int(j->pool, (int64_t)v->u.dict.n);
    case AX_V_UNDEFINED:
        return ax_value_int(j->pool, 0);
    default:
        return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                             "object of type '%s' has no length",
                             ax_jinja_type_name(v));
    }
}


/* A list of its own, which the caller may change. */
static struct ax_value *
copy_list(struct ax_jinja *j, struct ax_value *v)
{
    struct ax_value *items = ax_jinja_to_list(j, v);
    struct ax_value *copy = ax_value_list(j->pool);

    if (items == NULL || copy == NULL ||
        !ax_jinja_charge(j, 1 + items->u.list.n / 4)) {
        return NULL;
    }
    for (size_t i = 0; i < items->u.list.n; i++) {
        ax_value_append(j->pool, copy, items->u.list.items[i]);
    }
    return copy;
}


static struct ax_value *
filter_list(struct ax_jinja *j, struct ax_value *v, const struct ax_call *call)
{
    (void)call;
    return copy_list(j, v);
}


static struct ax_value *
filter_first(struct ax_jinja *j, struct ax_value *v, const struct ax_call *call)
{
    struct ax_value *items = ax_jinja_to_list(j, v);

    (void)call;
    if (items == NULL) {
        return NULL;
    }
    return items->u.list.n > 0 ? items->u.list.items[0]
                               : ax_value_undefined(j->pool, "first item");
}


static struct ax_value *
filter_last(struct ax_jinja *j, struct ax_value *v, const struct ax_call *call)
{
    struct ax_value *items = ax_jinja_to_list(j, v);

    (void)call;
    if (items == NULL) {
        return NULL;
    }
    return items->u.list.n > 0 ? items->u.list.items[items->u.list.n - 1]
                               : ax_value_undefined(j->pool, "last item");
}


static struct ax_value *
filter_reverse(struct ax_jinja *j, struct ax_value *v,
               const struct ax_call *call)
{
    struct ax_value *list = copy_list(j, v);
    struct ax_buf *b = ax_buf_new(j->pool);

    (void)call;
    if (list == NULL || b == NULL) {
        return NULL;
    }

    struct ax_list *l = &list->u.list;

    for (size_t i = 0; i < l->n / 2; i++) {
        struct ax_value *t = l->items[i];

        l->items[i] = l->items[l->n - 1 - i];
        l->items[l->n - 1 - i] = t;
    }
    if (v->kind != AX_V_STRING) {
        return list;
    }
    for (size_t i = 0; i < l->n; i++) {
        ax_buf_add(j->pool, b, &l->items[i]->u.s);
    }
    return ax_buf_value(j->pool, b);
}


/* ---- attributes of items ----------------------------------------------- */

/* One step of a path; what is missing becomes `otherwise` if there is one. */
static struct ax_value *
item_step(struct ax_jinja *j, struct ax_value *item, struct ax_value *key,
          struct ax_value *otherwise)
{
    item = ax_jinja_item(j, item, key);
    return item != NULL && item->kind == AX_V_UNDEFINED && otherwise != NULL
               ? otherwise
               : item;
}


/* item.a.b for the path "a.b", item[n] for an integer, item for NULL. */
static struct ax_value *
path_or(struct ax_jinja *j, struct ax_value *item, struct ax_value *path,
        struct ax_value *otherwise)
{
    if (path == NULL || path->kind == AX_V_NONE) {
        return item;
    }
    if (path->kind != AX_V_STRING) {
        return item_step(j, item, path, otherwise);
    }
    for (size_t at = 0; item != NULL && at <= path->u.s.n;) {
        size_t dot = ax_string_find(&path->u.s, ".", 1, at);
        size_t end = dot == SIZE_MAX ? path->u.s.n : dot;
        struct ax_value *key =
            ax_value_view(j->pool, ax_string_slice(&path->u.s, at, end - at));

        if (key == NULL || !ax_jinja_charge(j, 1)) {
            return NULL;
        }
        item = item_step(j, item, key, otherwise);
        at = end + 1;
    }
    return item;
}


static struct ax_value *
item_path(struct ax_jinja *j, struct ax_value *item, struct ax_value *path)
{
    return path_or(j, item, path, NULL);
}


static struct ax_value *
filter_join(struct ax_jinja *j, struct ax_value *v, const struct ax_call *call)
{
    struct ax_value *sep = ax_arg(call, 0, "d");
    struct ax_value *attribute = ax_arg(call, 1, "attribute");
    struct ax_value *items = ax_jinja_to_list(j, v);
    struct ax_buf *b = ax_buf_new(j->pool);

    sep = sep != NULL ? ax_jinja_string(j, sep) : ax_value_literal(j->pool, "");
    if (items == NULL || sep == NULL || b == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < items->u.list.n; i++) {
        struct ax_value *item = item_path(j, items->u.list.items[i], attribute);

        if (item == NULL || !ax_jinja_charge(j, 1 + sep->u.s.n / 16)) {
            return NULL;
        }
        if (i > 0) {
            ax_buf_add(j->pool, b, &sep->u.s);
        }
        if (!ax_jinja_print(j, b, item)) {
            return NULL;
        }
    }
    return ax_buf_value(j->pool, b);
}


/* The filter or test that an argument names, as a terminated string. */
static const char *
name_arg(struct ax_jinja *j, const struct ax_value *v)
{
    if (v == NULL || v->kind != AX_V_STRING || v->u.s.n >= PATH_MAX_BYTES) {
        ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                      "expected the name of a filter or test");
        return NULL;
    }

    struct ax_value *copy = ax_value_string(j->pool, v->u.s.p, v->u.s.n, true);

    return copy != NULL ? copy->u.s.p : NULL;
}


/* A call's arguments without the first k. */
static struct ax_call
rest_of(const struct ax_call *call, uint32_t k)
{
    struct ax_call rest = *call;

    rest.args += k;
    rest.n -= k;
    return rest;
}


static struct ax_value *
map_item(struct ax_jinja *j, struct ax_value *item, const struct ax_call *call,
         const char *name)
{
    struct ax_value *attribute = ax_arg(call, UINT32_MAX, "attribute");
    struct ax_value *otherwise = ax_arg(call, UINT32_MAX, "default");

    if (name != NULL) {
        struct ax_call rest = rest_of(call, 1);

        return ax_jinja_apply_filter(j, name, ax_jinja_filter(name), item,
                                     &rest);
    }

    return path_or(j, item, attribute, otherwise);
}


/* What map and select walk: anything false, None too, is an empty list. */
static struct ax_value *
items_or_none(struct ax_jinja *j, struct ax_value *v)
{
    return ax_jinja_truth(v) ? ax_jinja_to_list(j, v) : ax_value_list(j->pool);
}


/* map('filter', ...) or map(attribute='path', default=x) */
static struct ax_value *
filter_map(struct ax_jinja *j, struct ax_value *v, const struct ax_call *call)
{
    struct ax_value *items = items_or_none(j, v);
    struct ax_value *list = ax_value_list(j->pool);
    const char *name = NULL;

    if (call->n > 0) {
        name = name_arg(j, call->args[0]);
        if (name == NULL) {
            return NULL;
        }
    }
    for (size_t i = 0; items != NULL && i < items->u.list.n; i++) {
        struct ax_value *mapped =
            map_item(j, items->u.list.items[i], call, name);

        if (mapped == NULL || !ax_jinja_charge(j, 1)) {
            return NULL;
        }
        ax_value_append(j->pool, list, mapped);
    }
    return items != NULL ? list : NULL;
}


/* select, reject and their attr forms: keep where the test gives `keep`. */
static struct ax_value *
select_items(struct ax_jinja *j, struct ax_value *v, const struct ax_call *call,
             bool attr, bool keep)
{
    struct ax_value *items = items_or_none(j, v);
    struct ax_value *list = ax_value_list(j->pool);
    struct ax_value *path = attr && call->n > 0 ? call->args[0] : NULL;
    struct ax_call rest = {0};
    const char *name = NULL;

    if (attr && path == NULL) {
        return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                             "expected the name of an attribute");
    }
    if (call->n > attr) {
        name = name_arg(j, call->args[attr]);
        rest = rest_of(call, attr + 1u);
        if (name == NULL) {
            return NULL;
        }
    }
    for (size_t i = 0; items != NULL && i < items->u.list.n; i++) {
        struct ax_value *item = items->u.list.items[i];
        struct ax_value *tested = item_path(j, item, path);

        if (tested == NULL || !ax_jinja_charge(j, 1)) {
            return NULL;
        }

        int rc = name == NULL
                     ? ax_jinja_truth(tested)
                     : ax_jinja_apply_test(j, name, ax_jinja_test(name), tested,
                                           &rest);
        if (rc < 0) {
            return NULL;
        }
        if ((rc != 0) == keep) {
            ax_value_append(j->pool, list, item);
        }
    }
    return items != NULL ? list : NULL;
}


static struct ax_value *
filter_select(struct ax_jinja *j, struct ax_value *v,
              const struct ax_call *call)
{
    return select_items(j, v, call, false, true);
}


static struct ax_value *
filter_reject(struct ax_jinja *j, struct ax_value *v,
              const struct ax_call *call)
{
    return select_items(j, v, call, false, false);
}


static struct ax_value *
filter_selectattr(struct ax_jinja *j, struct ax_value *v,
                  const struct ax_call *call)
{
    return select_items(j, v, call, true, true);
}


static struct ax_value *
filter_rejectattr(struct ax_jinja *j, struct ax_value *v,
                  const struct ax_call *call)
{
    return select_items(j, v, call, true, false);
}


/* ---- order ------------------------------------------------------------- */

/* What to sort by: the item at the path, lower case unless told. */
static struct ax_value *
sort_key(struct ax_jinja *j, struct ax_value *item, struct ax_value *path,
         bool case_sensitive)
{
    struct ax_value *key = item_path(j, item, path);

    return key != NULL && !case_sensitive && key->kind == AX_V_STRING
               ? ax_jinja_case(j, &key->u.s, 'l')
               : key;
}


struct sorting {
    struct ax_value *key;
    struct ax_value *item;
};


static bool
merge(struct ax_jinja *j, const struct sorting *from, struct sorting *to,
      size_t left, size_t middle, size_t right, bool reverse)
{
    size_t a = left, b = middle;

    for (size_t i = left; i < right; i++) {
        bool take_b = a == middle;

        if (a < middle && b < right) {
            /* b goes first only if it is strictly before a: stable */
            if (!ax_jinja_charge(j, 1) ||
                !(reverse
                      ? ax_jinja_less(j, from[a].key, from[b].key, &take_b)
                      : ax_jinja_less(j, from[b].key, from[a].key, &take_b))) {
                return false;
            }
        }
        to[i] = take_b ? from[b++] : from[a++];
    }
    return true;
}


static struct ax_value *
sort_list(struct ax_jinja *j, struct ax_value *list, struct ax_value *path,
          bool case_sensitive, bool reverse)
{
    size_t n = list->u.list.n;
    struct sorting *from = ax_pool_alloc(j->pool, (n + 1) * sizeof(*from));
    struct sorting *to = ax_pool_alloc(j->pool, (n + 1) * sizeof(*to));

    if (from == NULL || to == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        from[i].item = list->u.list.items[i];
        from[i].key = sort_key(j, from[i].item, path, case_sensitive);
        if (from[i].key == NULL) {
            return NULL;
        }
    }
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t left = 0; left < n; left += 2 * width) {
            size_t middle = left + width < n ? left + width : n;
            size_t right = left + 2 * width < n ? left + 2 * width : n;

            if (!merge(j, from, to, left, middle, right, reverse)) {
                return NULL;
            }
        }

        struct sorting *t = from;

        from = to;
        to = t;
    }
    for (size_t i = 0; i < n; i++) {
        list->u.list.items[i] = from[i].item;
    }
    return list;
}


static bool
flag(const struct ax_call *call, uint32_t i, const char *name)
{
    struct ax_value *v = ax_arg(call, i, name);

    return v != NULL && ax_jinja_truth(v);
}


/* sort(reverse=False, case_sensitive=False, attribute=None) */
static struct ax_value *
filter_sort(struct ax_jinja *j, struct ax_value *v, const struct ax_call *call)
{
    struct ax_value *list = copy_list(j, v);

    return list != NULL ? sort_list(j, list, ax_arg(call, 2, "attribute"),
                                    flag(call, 1, "case_sensitive"),
                                    flag(call, 0, "reverse"))
                        : NULL;
}


/* dictsort(case_sensitive=False, by='key', reverse=False) */
static struct ax_value *
filter_dictsort(struct ax_jinja *j, struct ax_value *v,
                const struct ax_call *call)
{
    struct ax_call none = {0};
    struct ax_value *by = ax_arg(call, 1, "by");
    struct ax_value *fn =
        v->kind == AX_V_DICT ? ax_jinja_method(j, v, "items", 5) : NULL;
    struct ax_value *list = fn != NULL ? ax_jinja_call(j, fn, &none) : NULL;
    bool by_value = by != NULL && by->kind == AX_V_STRING &&
                    ax_string_is(&by->u.s, "value");
    struct ax_value *at = ax_value_int(j->pool, by_value);

    if (v->kind != AX_V_DICT) {
        return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                             "dictsort needs a dict, not '%s'",
                             ax_jinja_type_name(v));
    }
    return list != NULL && at != NULL
               ? sort_list(j, list, at, flag(call, 0, "case_sensitive"),
                           flag(call, 2, "reverse"))
               : NULL;
}


/* The smallest or largest item. */
static struct ax_value *
extreme(struct ax_jinja *j, struct ax_value *v, const struct ax_call *call,
        bool largest)
{
    struct ax_value *items = ax_jinja_to_list(j, v);
    struct ax_value *path = ax_arg(call, 1, "attribute");
    bool exact = flag(call, 0, "case_sensitive");
    struct ax_value *best = NULL, *best_key = NULL;

    for (size_t i = 0; items != NULL && i < items->u.list.n; i++) {
        struct ax_value *key = sort_key(j, items->u.list.items[i], path, exact);
        bool better = true;

        if (key == NULL || !ax_jinja_charge(j, 1) ||
            (best != NULL &&
             !(largest ? ax_jinja_less(j, best_key, key, &better)
                       : ax_jinja_less(j, key, best_key, &better)))) {
            return NULL;
        }
        if (better) {
            best = items->u.list.items[i];
            best_key = key;
        }
    }
    if (items == NULL) {
        return NULL;
    }
    return best != NULL
               ? best
               : ax_value_undefined(j->pool, "item of an empty sequence");
}


static struct ax_value *
filter_min(struct ax_jinja *j, struct ax_value *v, const struct ax_call *call)
{
    return extreme(j, v, call, false);
}


static struct ax_value *
filter_max(struct ax_jinja *j, struct ax_value *v, const struct ax_call *call)
{
    return extreme(j, v, call, true);
}


static struct ax_value *
filter_sum(struct ax_jinja *j, struct ax_value *v, const struct ax_call *call)
{
    struct ax_value *items = ax_jinja_to_list(j, v);
    struct ax_value *path = ax_arg(call, 0, "attribute");
    struct ax_value *sum = ax_arg(call, 1, "start");

    sum = sum != NULL ? sum : ax_value_int(j->pool, 0);
    for (size_t i = 0; items != NULL && sum != NULL && i < items->u.list.n;
         i++) {
        struct ax_value *item = item_path(j, items->u.list.items[i], path);

        sum =
            item != NULL ? ax_jinja_arithmetic(j, AX_OP_ADD, sum, item) : NULL;
    }
    return items != NULL ? sum : NULL;
}


/* Keys seen so far live in a dict, so this is linear for simple items. */
static struct ax_value *
filter_unique(struct ax_jinja *j, struct ax_value *v,
              const struct ax_call *call)
{
    struct ax_value *items = ax_jinja_to_list(j, v);
    struct ax_value *list = ax_value_list(j->pool);
    struct ax_value *path = ax_arg(call, 1, "attribute");
    bool exact = flag(call, 0, "case_sensitive");
    struct ax_dict seen = {0};

    for (size_t i = 0; items != NULL && i < items->u.list.n; i++) {
        struct ax_value *key = sort_key(j, items->u.list.items[i], path, exact);

        /* containers all hash alike: charge for the search among them */
        if (key == NULL ||
            !ax_jinja_charge(j, key->kind >= AX_V_LIST ? 1 + seen.n : 1)) {
            return NULL;
        }
        if (ax_dict_find(j->pool, &seen, key) == NULL) {
            ax_dict_put(j->pool, &seen, key, key);
            ax_value_append(j->pool, list, items->u.list.items[i]);
        }
    }
    return items != NULL ? list : NULL;
}


static struct ax_value *
filter_items(struct ax_jinja *j, struct ax_value *v, const struct ax_call *call)
{
    struct ax_value *fn;

    if (v->kind == AX_V_UNDEFINED) {
        return ax_value_list(j->pool);
    }
    if (v->kind != AX_V_DICT) {
        return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                             "items needs a mapping, not '%s'",
                             ax_jinja_type_name(v));
    }
    fn = ax_jinja_method(j, v, "items", 5);
    return fn != NULL ? ax_jinja_call(j, fn, call) : NULL;
}


/* batch(linecount, fill_with=None) */
static struct ax_value *
filter_batch(struct ax_jinja *j, struct ax_value *v, const struct ax_call *call)
{
    struct ax_value *items = ax_jinja_to_list(j, v);
    struct ax_value *list = ax_value_list(j->pool);
    struct ax_value *fill = ax_arg(call, 1, "fill_with");
    struct ax_value *row = NULL, *count = ax_arg(call, 0, "linecount");
    int64_t n;

    if (items == NULL || list == NULL || count == NULL ||
        !ax_jinja_integer(j, count, &n) ||
        !ax_jinja_charge(j, 1 + items->u.list.n)) {
        return NULL;
    }
    if (n < 1) {
        return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION, "bad batch size");
    }
    for (size_t i = 0; i < items->u.list.n; i++) {
        if (i % (uint64_t)n == 0) {
            row = ax_value_list(j->pool);
            ax_value_append(j->pool, list, row);
        }
        ax_value_append(j->pool, row, items->u.list.items[i]);
    }
    while (row != NULL && fill != NULL && fill->kind != AX_V_NONE &&
           (int64_t)row->u.list.n < n) {
        if (!ax_jinja_charge(j, 1)) {
            return NULL;
        }
        ax_value_append(j->pool, row, fill);
    }
    return list;
}


/* groupby(attribute): (grouper, list) pairs in the order of the sorted key. */
static struct ax_value *
filter_groupby(struct ax_jinja *j, struct ax_value *v,
               const struct ax_call *call)
{
    struct ax_value *path = ax_arg(call, 0, "attribute");
    struct ax_value *list = copy_list(j, v);
    struct ax_value *groups = ax_value_list(j->pool);
    struct ax_value *last = NULL, *rows = NULL;

    if (list == NULL || path == NULL ||
        sort_list(j, list, path, false, false) == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < list->u.list.n; i++) {
        struct ax_value *item = list->u.list.items[i];
        struct ax_value *key = item_path(j, item, path);

        if (key == NULL || !ax_jinja_charge(j, 1)) {
            return NULL;
        }
        if (last == NULL || !ax_value_equal(last, key)) {
            struct ax_value *pair = ax_value_new(j->pool, AX_V_TUPLE);

            if (pair == NULL) {
                return NULL;
            }
            rows = ax_value_list(j->pool);
            ax_list_push(j->pool, &pair->u.list, key);
            ax_list_push(j->pool, &pair->u.list, rows);
            ax_value_append(j->pool, groups, pair);
            last = key;
        }
        ax_value_append(j->pool, rows, item);
    }
    return groups;
}


const struct ax_filter ax_sequence_filters[] = {
    {"length", filter_length},
    {"count", filter_length},
    {"list", filter_list},
    {"first", filter_first},
    {"last", filter_last},
    {"reverse", filter_reverse},
    {"join", filter_join},
    {"map", filter_map},
    {"select", filter_select},
    {"reject", filter_reject},
    {"selectattr", filter_selectattr},
    {"rejectattr", filter_rejectattr},
    {"sort", filter_sort},
    {"dictsort", filter_dictsort},
    {"min", filter_min},
    {"max", filter_max},
    {"sum", filter_sum},
    {"unique", filter_unique},
    {"items", filter_items},
    {"batch", filter_batch},
    {"groupby", filter_groupby},
    {NULL, NULL}};
