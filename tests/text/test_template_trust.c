/*
 * Shows that every byte that comes from a client stays untrusted, whatever a
 * template does with it, and that the template's own bytes stay trusted.
 *
 * The client's text is "ABC abc"; expected output marks untrusted bytes by
 * brackets.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "engine/text/template.h"


static void
put_context(struct ax_pool *pool, struct ax_value *vars)
{
    struct ax_value *list = ax_value_list(pool);
    struct ax_value *dict = ax_value_dict(pool);

    ax_value_put(pool, vars, "c", ax_value_string(pool, "ABC abc", 7, false));
    ax_value_put(pool, vars, "t", ax_value_string(pool, "xyz", 3, true));
    ax_value_append(pool, list, ax_value_string(pool, "p", 1, false));
    ax_value_append(pool, list, ax_value_string(pool, "q", 1, false));
    ax_value_put(pool, vars, "l", list);
    ax_value_set(pool, dict, "key", 3, false,
                 ax_value_string(pool, "v\n", 2, false));
    ax_value_put(pool, vars, "d", dict);
}


/* The segments with untrusted ones in brackets. */
static void
mark(const struct ax_rendered *r, char *out)
{
    size_t w = 0;

    for (size_t i = 0; i < r->n_segs; i++) {
        const struct ax_text_segment *s = &r->segs[i];

        if (!s->trusted) {
            out[w++] = '[';
        }
        memcpy(out + w, s->p, s->n);
        w += s->n;
        if (!s->trusted) {
            out[w++] = ']';
        }
    }
    out[w] = '\0';
}


static void
check(const char *source, const char *expected)
{
    struct ax_template *t;
    struct ax_pool *pool;
    struct ax_rendered r;
    char err[256], marked[1024];

    assert_int_equal(
        ax_template_open(&t, source, strlen(source), err, sizeof(err)), 0);
    assert_int_equal(ax_pool_open(&pool, 1 << 20), 0);

    struct ax_value *vars = ax_value_dict(pool);

    put_context(pool, vars);
    int rc = ax_template_render(t, pool, vars, NULL, 0, &r);

    if (rc != 0) {
        fail_msg("%s: %s", source, r.error);
    }
    mark(&r, marked);
    assert_string_equal(marked, expected);
    ax_pool_close(pool);
    ax_template_close(t);
}


static void
test_output_and_joining(void **state)
{
    (void)state;
    check("a{{ c }}b", "a[ABC abc]b");
    check("{{ 'a' + c + 'b' }}", "a[ABC abc]b");
    check("{{ c ~ t ~ c }}", "[ABC abc]xyz[ABC abc]");
    check("{{ t }}{{ c }}{{ c }}", "xyz[ABC abcABC abc]");
    check("{{ l | join('-') }}", "[p]-[q]");
    check("{{ '-'.join(l) }}", "[p]-[q]");
    check("{{ c * 2 }}", "[ABC abcABC abc]");
    check("plain", "plain");
    check("", "");
}


static void
test_cutting(void **state)
{
    (void)state;
    check("{{ c[1:3] }}{{ c[0] }}{{ c[::-1] }}", "[BCAcba CBA]");
    check("{{ ('a' ~ c)[0:3] }}", "a[AB]");
    check("{{ (' ' ~ c ~ ' ').strip() }}", "[ABC abc]");
    check("{{ c.split(' ')[1] }}|{{ (t ~ ' ' ~ c).split()[0] }}", "[abc]|xyz");
    check("{% for x in c[:2] %}{{ x }},{% endfor %}", "[A],[B],");
    check("{{ c | first }}{{ c | last }}{{ c | list }}",
          "[Ac]['[A]', '[B]', '[C]', '[ ]', '[a]', '[b]', '[c]']");
    check("{{ c.partition(' ')[0] }}", "[ABC]");
}


static void
test_changing(void **state)
{
    (void)state;
    check("{{ c | upper }}{{ t | upper }}", "[ABC ABC]XYZ");
    check("{{ (t ~ c) | title }}", "Xyz[abc Abc]");
    check("{{ c.replace('B', '<>') }}", "[A]<>[C abc]");
    check("{{ t.replace('y', c) }}", "x[ABC abc]z");
    check("{{ c | replace(' ', '') }}", "[ABCabc]");
    check("{{ (c ~ '\\n' ~ c) | indent(1, true) }}", " [ABC abc]\n [ABC abc]");
    check("{{ c | trim }}{{ c | string }}{{ c | safe }}",
          "[ABC abcABC abcABC abc]");
    check("{{ c | default('x') }}{{ missing | default(c) }}",
          "[ABC abcABC abc]");
}


static void
test_printing(void **state)
{
    (void)state;
    check("{{ c | tojson }}", "\"[ABC abc]\"");
    check("{{ d | tojson }}", "{\"[key]\": \"[v]\\n\"}");
    check("{{ d }}", "{'[key]': '[v]\\n'}");
    check("{{ '%s=%s' % (t, c) }}", "xyz=[ABC abc]");
    check("{{ '{}={}'.format(t, c) }}", "xyz=[ABC abc]");
    check("{{ c % () }}", "[ABC abc]");
    check("{{ c | length }}", "7");
}


static void
test_blocks_and_macros(void **state)
{
    (void)state;
    check("{% set x %}<{{ c }}>{% endset %}{{ x }}", "<[ABC abc]>");
    check("{% macro m(a) %}({{ a }}){% endmacro %}{{ m(c) }}", "([ABC abc])");
    check("{% filter lower %}T{{ c }}{% endfilter %}", "t[abc abc]");
    check("{% set ns = namespace(o='') %}{% for x in l %}"
          "{% set ns.o = ns.o + '-' + x %}{% endfor %}{{ ns.o }}",
          "-[p]-[q]");
    check("{% set a = c %}{% set b = a + 'x' %}{{ a }}{{ b }}",
          "[ABC abcABC abc]x");
    check("{% set a = 'k' %}{% set b = a + c %}{% set e = a + t %}"
          "{{ a }} {{ b }} {{ e }}",
          "k k[ABC abc] kxyz");
}


/* Two strings that grow from one beginning do not share their ends. */
static void
test_growing_strings_do_not_mix(void **state)
{
    (void)state;
    check("{% set a = t ~ '1' %}{% set b = a ~ '2' %}{% set e = a ~ c %}"
          "{% set f = a ~ '3' %}{{ a }}|{{ b }}|{{ e }}|{{ f }}",
          "xyz1|xyz12|xyz1[ABC abc]|xyz13");
    check("{% set a = c ~ '1' %}{% set b = a ~ '2' %}{% set e = a ~ '3' %}"
          "{{ a }}|{{ b }}|{{ e }}",
          "[ABC abc]1|[ABC abc]12|[ABC abc]13");
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_output_and_joining),
        cmocka_unit_test(test_cutting),
        cmocka_unit_test(test_changing),
        cmocka_unit_test(test_printing),
        cmocka_unit_test(test_blocks_and_macros),
        cmocka_unit_test(test_growing_strings_do_not_mix)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
