/*
 * The running interpreter: one render's state, and what its parts offer each
 * other.
 *
 * Every function that computes returns a value from the render's pool, or
 * NULL when the render is over: ax_jinja_fail() was called, a limit was
 * reached, or the pool is full.  Callers pass NULL on and look no further.
 */
#ifndef AX_TEXT_JINJA_RUN_H
#define AX_TEXT_JINJA_RUN_H

#include "engine/text/jinja_ast.h"
#include "engine/text/template.h"


struct ax_variable {
    const char *name; /* compared as text */
    struct ax_value *value;
};


/* A block that names live in; lookups go on in the parent. */
struct ax_scope {
    struct ax_scope *parent;
    struct ax_variable *vars;
    uint32_t n;
    uint32_t cap;
    bool kept; /* a macro refers to it */
};


struct ax_jinja {
    struct ax_pool *pool;
    struct ax_value *vars; /* the request's dict */
    struct ax_scope *scope;
    struct ax_buf *out;        /* what {{ }} writes to */
    struct ax_value *captured; /* AX_N_CAPTURE */
    int64_t now_s;
    uint64_t steps_left;
    uint64_t output_max;
    uint32_t calls_left; /* macro calls and loops */
    uint32_t eval_left;  /* C recursion */
    uint32_t line;
    enum { AX_FLOW_NEXT, AX_FLOW_BREAK, AX_FLOW_CONTINUE } flow;
    int rc;
    char error[256];
    uint32_t error_line;
};


/* Arguments of a call, evaluated. */
struct ax_call {
    struct ax_value **args;
    uint32_t n;
    const char **names; /* keywords */
    struct ax_value **values;
    uint32_t n_names;
};


/* ---- jinja_eval.c, jinja_exec.c ---- */

struct ax_value *ax_jinja_fail(struct ax_jinja *j, int rc, const char *format,
                               ...) __attribute__((format(printf, 3, 4)));

/* Counts work; false ends the render. */
bool ax_jinja_charge(struct ax_jinja *j, size_t steps);

struct ax_value *ax_jinja_eval(struct ax_jinja *j, const struct ax_node *node);
bool ax_jinja_exec(struct ax_jinja *j, const struct ax_node *node);
struct ax_value *ax_jinja_call(struct ax_jinja *j, struct ax_value *callee,
                               const struct ax_call *call);
struct ax_value *ax_jinja_call_macro(struct ax_jinja *j,
                                     const struct ax_function *macro,
                                     const struct ax_call *call);
void ax_scope_set(struct ax_jinja *j, const char *name, struct ax_value *value);
struct ax_scope *ax_scope_push(struct ax_jinja *j, struct ax_scope *parent);

/* Positional i, or the keyword of that name, or NULL. */
struct ax_value *ax_arg(const struct ax_call *call, uint32_t i,
                        const char *name);


/* ---- jinja_ops.c ---- */

bool ax_jinja_truth(const struct ax_value *v);
struct ax_value *ax_jinja_arithmetic(struct ax_jinja *j, int op,
                                     struct ax_value *a, struct ax_value *b);
struct ax_value *ax_jinja_negate(struct ax_jinja *j, struct ax_value *a);

/* 0 or 1; -1 when the render is over. */
int ax_jinja_compare(struct ax_jinja *j, int op, struct ax_value *a,
                     struct ax_value *b);
int ax_jinja_contains(struct ax_jinja *j, struct ax_value *container,
                      struct ax_value *item);

/* a < b for sorting: *less is set, false when they have no order. */
bool ax_jinja_less(struct ax_jinja *j, const struct ax_value *a,
                   const struct ax_value *b, bool *less);

/* Object access as a.name and a[key] do it; undefined where missing. */
struct ax_value *ax_jinja_attribute(struct ax_jinja *j, struct ax_value *object,
                                    const char *name, size_t n);
struct ax_value *ax_jinja_item(struct ax_jinja *j, struct ax_value *object,
                               struct ax_value *key);
struct ax_value *ax_jinja_slice(struct ax_jinja *j, struct ax_value *object,
                                struct ax_value *start, struct ax_value *stop,
                                struct ax_value *step);

/* Any iterable as a list: strings by character, dicts by key. */
struct ax_value *ax_jinja_to_list(struct ax_jinja *j, struct ax_value *v);

/* A python integer argument within int64; false reports. */
bool ax_jinja_integer(struct ax_jinja *j, const struct ax_value *v,
                      int64_t *out);
const char *ax_jinja_type_name(const struct ax_value *v);


/* ---- jinja_print.c ---- */

/* str(v); strings come back as they are. */
struct ax_value *ax_jinja_string(struct ax_jinja *j, struct ax_value *v);
bool ax_jinja_print(struct ax_jinja *j, struct ax_buf *b,
                    const struct ax_value *v);
struct ax_value *ax_jinja_json(struct ax_jinja *j, struct ax_value *v,
                               const struct ax_call *call);
/* "%s and %d" % args, "{} and {name}".format(...) */
struct ax_value *ax_jinja_percent(struct ax_jinja *j,
                                  const struct ax_string *format,
                                  struct ax_value *args);
struct ax_value *ax_jinja_format(struct ax_jinja *j,
                                 const struct ax_string *format,
                                 const struct ax_call *call);


/* ---- jinja_methods.c, jinja_filters.c, jinja_tests.c, jinja_globals.c ---- */

/* A bound method, or NULL when the object has none of that name. */
struct ax_value *ax_jinja_method(struct ax_jinja *j, struct ax_value *object,
                                 const char *name, size_t n);
struct ax_value *ax_jinja_function(struct ax_jinja *j, const char *name,
                                   ax_function_fn fn, struct ax_value *self);
struct ax_value *ax_jinja_replace(struct ax_jinja *j, const struct ax_string *s,
                                  const struct ax_string *from,
                                  const struct ax_string *to, int64_t count);

/* strip: sides is 'l', 'r' or 'b'; chars NULL is white space. */
struct ax_string ax_jinja_strip(const struct ax_string *s, char sides,
                                const struct ax_string *chars);

/* how: 'u'pper, 'l'ower, 't'itle, 'c'apitalize. */
struct ax_value *ax_jinja_case(struct ax_jinja *j, const struct ax_string *s,
                               char how);

struct ax_value *ax_jinja_apply_filter(struct ax_jinja *j, const char *name,
                                       const void *builtin,
                                       struct ax_value *value,
                                       const struct ax_call *call);
int ax_jinja_apply_test(struct ax_jinja *j, const char *name,
                        const void *builtin, struct ax_value *value,
                        const struct ax_call *call);
struct ax_value *ax_jinja_global(struct ax_jinja *j, const char *name);

#endif /* AX_TEXT_JINJA_RUN_H */
