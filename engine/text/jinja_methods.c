/*
 * Methods of lists and dicts, and the look-up of methods by name.
 *
 * Lists and dicts that a template builds can be changed in place, as in plain
 * Jinja2.  A look-up makes a bound function; the tables are short enough to
 * be searched in order.
 */
#include "engine/text/jinja_methods.h"


struct ax_value *
ax_jinja_function(struct ax_jinja *j, const char *name, ax_function_fn fn,
                  struct ax_value *self)
{
    struct ax_value *v = ax_value_new(j->pool, AX_V_FUNCTION);

    if (v != NULL) {
        v->u.fn.fn = fn;
        v->u.fn.self = self;
        v->u.fn.name = name;
    }
    return v;
}


bool
ax_arg_integer(struct ax_jinja *j, const struct ax_call *call, uint32_t i,
               const char *name, int64_t otherwise, int64_t *out)
{
    struct ax_value *v = ax_arg(call, i, name);

    *out = otherwise;
    return v == NULL || ax_jinja_integer(j, v, out);
}


/* ---- lists ------------------------------------------------------------- */

static struct ax_value *
list_append(struct ax_jinja *j, struct ax_value *self,
            const struct ax_call *call)
{
    if (call->n != 1) {
        return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                             "append takes one argument");
    }
    ax_value_append(j->pool, self, call->args[0]);
    return ax_value_none(j->pool);
}


static struct ax_value *
list_extend(struct ax_jinja *j, struct ax_value *self,
            const struct ax_call *call)
{
    struct ax_value *items =
        call->n == 1 ? ax_jinja_to_list(j, call->args[0]) : NULL;
    size_t n = items != NULL ? items->u.list.n : 0;

    if (items == NULL || !ax_jinja_charge(j, 1 + n)) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        ax_value_append(j->pool, self, items->u.list.items[i]);
    }
    return ax_value_none(j->pool);
}


static struct ax_value *
list_pop(struct ax_jinja *j, struct ax_value *self, const struct ax_call *call)
{
    struct ax_list *list = &self->u.list;
    int64_t at;

    if (!ax_arg_integer(j, call, 0, NULL, -1, &at) ||
        !ax_jinja_charge(j, 1 + list->n / 8)) {
        return NULL;
    }
    at += at < 0 ? (int64_t)list->n : 0;
    if (at < 0 || at >= (int64_t)list->n) {
        return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                             "pop index out of range");
    }

    struct ax_value *v = list->items[at];

    memmove(list->items + at, list->items + at + 1,
            (list->n - (size_t)at - 1) * sizeof(*list->items));
    list->n--;
    return v;
}


static struct ax_value *
list_insert(struct ax_jinja *j, struct ax_value *self,
            const struct ax_call *call)
{
    struct ax_list *list = &self->u.list;
    int64_t at, n = (int64_t)list->n;

    if (call->n != 2 || !ax_arg_integer(j, call, 0, NULL, 0, &at) ||
        !ax_jinja_charge(j, 1 + list->n / 8)) {
        return j->rc != 0 || ax_pool_error(j->pool) != 0
                   ? NULL
                   : ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                                   "insert takes an index and an item");
    }
    at = at < -n ? 0 : at < 0 ? at + n : at > n ? n : at;
    ax_value_append(j->pool, self, call->args[1]);
    if ((int64_t)list->n == n + 1) {
        memmove(list->items + at + 1, list->items + at,
                (size_t)(n - at) * sizeof(*list->items));
        list->items[at] = call->args[1];
    }
    return ax_value_none(j->pool);
}


static struct ax_value *
list_count(struct ax_jinja *j, struct ax_value *self,
           const struct ax_call *call)
{
    int64_t count = 0;

    if (call->n != 1 || !ax_jinja_charge(j, 1 + self->u.list.n)) {
        return NULL;
    }
    for (size_t i = 0; i < self->u.list.n; i++) {
        count += ax_value_equal(self->u.list.items[i], call->args[0]);
    }
    return ax_value_int(j->pool, count);
}


static struct ax_value *
list_index(struct ax_jinja *j, struct ax_value *self,
           const struct ax_call *call)
{
    if (call->n < 1 || !ax_jinja_charge(j, 1 + self->u.list.n)) {
        return NULL;
    }
    for (size_t i = 0; i < self->u.list.n; i++) {
        if (ax_value_equal(self->u.list.items[i], call->args[0])) {
            return ax_value_int(j->pool, (int64_t)i);
        }
    }
    return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION, "item is not in list");
}


static const struct ax_method list_methods[] = {{"append", list_append},
                                                {"extend", list_extend},
                                                {"pop", list_pop},
                                                {"insert", list_insert},
                                                {"count", list_count},
                                                {"index", list_index},
                                                {NULL, NULL}};

/* tuples do not change: the last two only */
static const struct ax_method *const tuple_methods = list_methods + 4;


/* ---- dicts ------------------------------------------------------------- */

static struct ax_value *
dict_get(struct ax_jinja *j, struct ax_value *self, const struct ax_call *call)
{
    struct ax_value *key = ax_arg(call, 0, NULL);
    struct ax_value *otherwise = ax_arg(call, 1, NULL);

    if (key == NULL) {
        return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION, "get needs a key");
    }

    struct ax_dict_entry *entry = ax_dict_find(j->pool, &self->u.dict, key);

    return entry != NULL       ? entry->item
           : otherwise != NULL ? otherwise
                               : ax_value_none(j->pool);
}


/* what: 'k'eys, 'v'alues, or pairs. */
static struct ax_value *
dict_list(struct ax_jinja *j, struct ax_value *self, char what)
{
    struct ax_value *list = ax_value_list(j->pool);

    if (!ax_jinja_charge(j, 1 + self->u.dict.n)) {
        return NULL;
    }
    for (size_t i = 0; list != NULL && i < self->u.dict.n; i++) {
        const struct ax_dict_entry *entry = &self->u.dict.entries[i];
        struct ax_value *v = what == 'k' ? entry->key : entry->item;

        if (what == 'p') {
            v = ax_value_new(j->pool, AX_V_TUPLE);
            if (v == NULL) {
                return NULL;
            }
            ax_list_push(j->pool, &v->u.list, entry->key);
            ax_list_push(j->pool, &v->u.list, entry->item);
        }
        ax_value_append(j->pool, list, v);
    }
    return list;
}


static struct ax_value *
dict_keys(struct ax_jinja *j, struct ax_value *self, const struct ax_call *call)
{
    (void)call;
    return dict_list(j, self, 'k');
}


static struct ax_value *
dict_values(struct ax_jinja *j, struct ax_value *self,
            const struct ax_call *call)
{
    (void)call;
    return dict_list(j, self, 'v');
}


static struct ax_value *
dict_items(struct ax_jinja *j, struct ax_value *self,
           const struct ax_call *call)
{
    (void)call;
    return dict_list(j, self, 'p');
}


static struct ax_value *
dict_copy(struct ax_jinja *j, struct ax_value *self, const struct ax_call *call)
{
    struct ax_value *copy = ax_value_dict(j->pool);

    (void)call;
    if (!ax_jinja_charge(j, 1 + self->u.dict.n)) {
        return NULL;
    }
    for (size_t i = 0; copy != NULL && i < self->u.dict.n; i++) {
        ax_dict_put(j->pool, &copy->u.dict, self->u.dict.entries[i].key,
                    self->u.dict.entries[i].item);
    }
    return copy;
}


static struct ax_value *
dict_update(struct ax_jinja *j, struct ax_value *self,
            const struct ax_call *call)
{
    if (call->n > 0 && call->args[0]->kind == AX_V_DICT) {
        const struct ax_dict *from = &call->args[0]->u.dict;
        size_t n = from->n;

        if (!ax_jinja_charge(j, 1 + n)) {
            return NULL;
        }
        for (size_t i = 0; i < n; i++) {
            ax_dict_put(j->pool, &self->u.dict, from->entries[i].key,
                        from->entries[i].item);
        }
    }
    for (uint32_t i = 0; i < call->n_names; i++) {
        ax_value_put(j->pool, self, call->names[i], call->values[i]);
    }
    return ax_value_none(j->pool);
}


static struct ax_value *
dict_pop(struct ax_jinja *j, struct ax_value *self, const struct ax_call *call)
{
    struct ax_value *key = ax_arg(call, 0, NULL);
    struct ax_value *otherwise = ax_arg(call, 1, NULL);
    struct ax_dict_entry *entry;

    if (key == NULL || !ax_jinja_charge(j, 1 + self->u.dict.n)) {
        return NULL;
    }
    entry = ax_dict_find(j->pool, &self->u.dict, key);
    if (entry == NULL) {
        return otherwise != NULL ? otherwise
                                 : ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                                                 "pop: no such key");
    }

    struct ax_value *item = entry->item;

    ax_dict_remove(j->pool, &self->u.dict, entry);
    return item;
}


static struct ax_value *
dict_setdefault(struct ax_jinja *j, struct ax_value *self,
                const struct ax_call *call)
{
    struct ax_value *v = NULL;

    if (call->n > 0) {
        struct ax_dict_entry *entry =
            ax_dict_find(j->pool, &self->u.dict, call->args[0]);
        v = entry != NULL ? entry->item
            : call->n > 1 ? call->args[1]
                          : ax_value_none(j->pool);
        ax_dict_put(j->pool, &self->u.dict, call->args[0], v);
    }
    return v;
}


static const struct ax_method dict_methods[] = {
    {"get", dict_get},   {"items", dict_items},
    {"keys", dict_keys}, {"values", dict_values},
    {"copy", dict_copy}, {"update", dict_update},
    {"pop", dict_pop},   {"setdefault", dict_setdefault},
    {NULL, NULL}};


struct ax_value *
ax_jinja_method(struct ax_jinja *j, struct ax_value *object, const char *name,
                size_t n)
{
    const struct ax_method *m;

    switch (object->kind) {
    case AX_V_STRING:
        m = ax_string_methods;
        break;
    case AX_V_LIST:
        m = list_methods;
        break;
    case AX_V_TUPLE:
        m = tuple_methods;
        break;
    case AX_V_DICT:
        m = dict_methods;
        break;
    default:
        return NULL;
    }
    for (; m->name != NULL; m++) {
        if (strlen(m->name) == n && memcmp(m->name, name, n) == 0) {
            return ax_jinja_function(j, m->name, m->fn, object);
        }
    }
    return NULL;
}
