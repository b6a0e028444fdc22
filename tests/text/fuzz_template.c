/*
 * Fuzzes compile and render: any bytes as a template, with a context that has
 * every kind of value.  Limits are small so that an input ends soon; whatever
 * happens, the result is text in segments or a named error.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/text/template.h"
#include "engine/text/utf8.h"


#define POOL_BYTES (8u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static struct ax_value *
string(struct ax_pool *pool, const char *text)
{
    return ax_value_string(pool, text, strlen(text), false);
}


static struct ax_value *
message(struct ax_pool *pool, const char *role, const char *content)
{
    struct ax_value *m = ax_value_dict(pool);

    ax_value_put(pool, m, "role", string(pool, role));
    ax_value_put(pool, m, "content", string(pool, content));
    return m;
}


static struct ax_value *
context(struct ax_pool *pool)
{
    struct ax_value *vars = ax_value_dict(pool);
    struct ax_value *messages = ax_value_list(pool);
    struct ax_value *d = ax_value_dict(pool);

    ax_value_append(pool, messages, message(pool, "system", "S \xff b"));
    ax_value_append(pool, messages, message(pool, "user", "\xc3\xa9 <a>\n"));
    ax_value_append(pool, messages, message(pool, "assistant", ""));
    ax_value_put(pool, vars, "messages", messages);
    ax_value_put(pool, d, "x", ax_value_int(pool, INT64_MIN));
    ax_value_put(pool, d, "items", ax_value_float(pool, 1e300));
    ax_value_put(pool, vars, "d", d);
    ax_value_put(pool, vars, "l", messages);
    ax_value_put(pool, vars, "s", string(pool, "a,b c\n\xe4\xbd\xa0"));
    ax_value_put(pool, vars, "n", ax_value_int(pool, 7));
    ax_value_put(pool, vars, "f", ax_value_float(pool, -0.5));
    ax_value_put(pool, vars, "nil", ax_value_none(pool));
    ax_value_put(pool, vars, "yes", ax_value_bool(pool, true));
    return vars;
}


static void
check(const struct ax_rendered *r, int rc)
{
    size_t n = 0;

    if (rc != 0) {
        if (rc > 0 || rc < AX_TEXT_LIMIT_MEMORY || r->error[0] == '\0') {
            if (rc != AX_TEXT_RAISED) { /* its message may be empty */
                abort();
            }
        }
        return;
    }
    for (size_t i = 0; i < r->n_segs; i++) {
        if (r->segs[i].n == 0 || r->segs[i].p != r->text + n) {
            abort();
        }
        n += r->segs[i].n;
    }
    if (n != r->text_len || r->text[n] != '\0') {
        abort();
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ax_template_limits limits = {.steps_max = 50000,
                                        .output_bytes_max = 1 << 20};
    struct ax_template *t;
    struct ax_pool *pool;
    struct ax_rendered r;
    char err[256];

    if (ax_template_open(&t, (const char *)data, size, err, sizeof(err)) != 0) {
        if (t != NULL || err[0] == '\0') {
            abort();
        }
        return 0;
    }
    if (ax_pool_open(&pool, POOL_BYTES) == 0) {
        check(&r, ax_template_render(t, pool, context(pool), &limits,
                                     1700000000, &r));
    }
    ax_pool_close(pool);
    ax_template_close(t);
    return 0;
}
