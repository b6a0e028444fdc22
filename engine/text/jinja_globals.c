/*
 * Functions that every template sees: range, dict, namespace, joiner,
 * raise_exception, strftime_now.
 *
 * Nothing here reaches outside the render: the time comes from the caller.
 */
#include "engine/text/jinja_run.h"

#include <time.h>


#define FORMAT_MAX 256


static struct ax_value *
global_range(struct ax_jinja *j, struct ax_value *self,
             const struct ax_call *call)
{
    int64_t bound[3] = {0, 0, 1};
    struct ax_value *list = ax_value_list(j->pool);

    (void)self;
    for (uint32_t i = 0; i < call->n && i < 3; i++) {
        if (!ax_jinja_integer(j, call->args[i], &bound[i])) {
            return NULL;
        }
    }
    if (call->n == 1) {
        bound[1] = bound[0];
        bound[0] = 0;
    }
    if (call->n == 0 || bound[2] == 0) {
        return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION, "bad range");
    }
    for (int64_t i = bound[0];
         list != NULL && (bound[2] > 0 ? i < bound[1] : i > bound[1]);) {
        if (!ax_jinja_charge(j, 1)) {
            return NULL;
        }
        ax_value_append(j->pool, list, ax_value_int(j->pool, i));
        if (__builtin_add_overflow(i, bound[2], &i)) {
            break;
        }
    }
    return list;
}


/* dict(a=1) and dict(other, a=1); the same makes a namespace. */
static struct ax_value *
make_dict(struct ax_jinja *j, const struct ax_call *call,
          enum ax_value_kind kind)
{
    struct ax_value *dict = ax_value_new(j->pool, kind);

    if (dict == NULL || !ax_jinja_charge(j, 1 + call->n_names)) {
        return NULL;
    }
    if (call->n > 0 && (call->args[0]->kind == AX_V_DICT ||
                        call->args[0]->kind == AX_V_NAMESPACE)) {
        const struct ax_dict *from = &call->args[0]->u.dict;

        if (!ax_jinja_charge(j, from->n)) {
            return NULL;
        }
        for (size_t i = 0; i < from->n; i++) {
            ax_dict_put(j->pool, &dict->u.dict, from->entries[i].key,
                        from->entries[i].item);
        }
    }
    for (uint32_t i = 0; i < call->n_names; i++) {
        ax_value_put(j->pool, dict, call->names[i], call->values[i]);
    }
    return dict;
}


static struct ax_value *
global_dict(struct ax_jinja *j, struct ax_value *self,
            const struct ax_call *call)
{
    (void)self;
    return make_dict(j, call, AX_V_DICT);
}


static struct ax_value *
global_namespace(struct ax_jinja *j, struct ax_value *self,
                 const struct ax_call *call)
{
    (void)self;
    return make_dict(j, call, AX_V_NAMESPACE);
}


/* Nothing at the first call, then the separator; self keeps the state. */
static struct ax_value *
joiner_call(struct ax_jinja *j, struct ax_value *self,
            const struct ax_call *call)
{
    struct ax_list *state = &self->u.list;

    (void)call;
    if (state->n == 1) {
        ax_value_append(j->pool, self, ax_value_none(j->pool));
        return ax_value_literal(j->pool, "");
    }
    return state->items[0];
}


static struct ax_value *
global_joiner(struct ax_jinja *j, struct ax_value *self,
              const struct ax_call *call)
{
    struct ax_value *sep = ax_arg(call, 0, "sep");
    struct ax_value *state = ax_value_list(j->pool);

    (void)self;
    ax_value_append(j->pool, state,
                    sep != NULL ? sep : ax_value_literal(j->pool, ", "));
    return state != NULL ? ax_jinja_function(j, "joiner", joiner_call, state)
                         : NULL;
}


static struct ax_value *
global_raise_exception(struct ax_jinja *j, struct ax_value *self,
                       const struct ax_call *call)
{
    struct ax_value *text = call->n > 0 ? ax_jinja_string(j, call->args[0])
                                        : ax_value_literal(j->pool, "");
    (void)self;
    if (text == NULL) {
        return NULL;
    }
    return ax_jinja_fail(
        j, AX_TEXT_RAISED, "%.*s",
        (int)(text->u.s.n < sizeof(j->error) ? text->u.s.n : sizeof(j->error)),
        text->u.s.p);
}


static struct ax_value *
global_strftime_now(struct ax_jinja *j, struct ax_value *self,
                    const struct ax_call *call)
{
    struct ax_value *format = ax_arg(call, 0, "format");
    char pattern[FORMAT_MAX + 2], out[4 * FORMAT_MAX];
    time_t now = (time_t)j->now_s;
    struct tm tm;

    (void)self;
    if (format == NULL || format->kind != AX_V_STRING ||
        format->u.s.n >= FORMAT_MAX || gmtime_r(&now, &tm) == NULL) {
        return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                             "strftime_now: bad format or time");
    }

    /* a blank in front tells an empty result from one that did not fit */
    pattern[0] = ' ';
    memcpy(pattern + 1, format->u.s.p, format->u.s.n);
    pattern[1 + format->u.s.n] = '\0';

    size_t n = strftime(out, sizeof(out), pattern, &tm);

    if (n == 0) {
        return ax_jinja_fail(j, AX_TEXT_BAD_OPERATION,
                             "strftime_now: result is too long");
    }
    return ax_value_string(j->pool, out + 1, n - 1, true);
}


struct ax_value *
ax_jinja_global(struct ax_jinja *j, const char *name)
{
    static const struct {
        const char *name;
        ax_function_fn fn;
    } globals[] = {{"range", global_range},
                   {"dict", global_dict},
                   {"namespace", global_namespace},
                   {"joiner", global_joiner},
                   {"raise_exception", global_raise_exception},
                   {"strftime_now", global_strftime_now}};

    for (size_t i = 0; i < sizeof(globals) / sizeof(globals[0]); i++) {
        if (strcmp(globals[i].name, name) == 0) {
            return ax_jinja_function(j, globals[i].name, globals[i].fn, NULL);
        }
    }
    return NULL;
}
