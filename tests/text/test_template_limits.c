/*
 * Shows that no template and no message takes more than its limits: each kind
 * of excess ends with its own error, the process lives on, and the next
 * render works.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "engine/text/template.h"


#define POOL_BYTES (64u << 20)


/* Renders with a dict {"s": "x"} of variables; error text in out. */
static int
render(const char *source, size_t n, const struct ax_template_limits *limits,
       size_t pool_bytes, struct ax_rendered *out)
{
    struct ax_template *t;
    struct ax_pool *pool;
    char err[256] = "";
    int rc = ax_template_open(&t, source, n, err, sizeof(err));

    memset(out, 0, sizeof(*out));
    if (rc != 0) {
        assert_true(strlen(err) > 0);
        return rc;
    }
    assert_int_equal(ax_pool_open(&pool, pool_bytes), 0);

    struct ax_value *vars = ax_value_dict(pool);

    ax_value_put(pool, vars, "s", ax_value_string(pool, "x", 1, false));
    rc = ax_template_render(t, pool, vars, limits, 0, out);
    if (rc != 0) {
        assert_true(strlen(out->error) > 0);
        assert_int_equal(out->text_len, 0);
        assert_int_equal(out->n_segs, 0);
    }
    out->text = NULL; /* belongs to the pool */
    ax_pool_close(pool);
    ax_template_close(t);
    return rc;
}


static void
ends_with(const char *source, int expected)
{
    struct ax_rendered out;
    int rc = render(source, strlen(source), NULL, POOL_BYTES, &out);

    if (rc != expected) {
        fail_msg("%.60s: %s, not %s (%s)", source, ax_text_error_name(rc),
                 ax_text_error_name(expected), out.error);
    }
}


/* prefix, then middle n times, then suffix; the caller frees. */
static char *
repeated(const char *prefix, const char *middle, size_t n, const char *suffix)
{
    size_t len = strlen(middle);
    char *s = malloc(strlen(prefix) + n * len + strlen(suffix) + 1);

    strcpy(s, prefix);
    for (size_t i = 0, w = strlen(prefix); i < n; i++, w += len) {
        memcpy(s + w, middle, len + 1);
    }
    strcat(s, suffix);
    return s;
}


static void
nested(const char *prefix, const char *middle, size_t n, const char *suffix,
       int expected)
{
    char *s = repeated(prefix, middle, n, suffix);

    ends_with(s, expected);
    free(s);
}


static void
test_endless_work_ends_by_steps(void **state)
{
    (void)state;
    ends_with("{% set l = range(9999) %}{% for a in l %}{% for b in l %}"
              "{% endfor %}{% endfor %}",
              AX_TEXT_LIMIT_STEPS);
    ends_with("{% set l = range(9999) %}{% for a in l %}{% for b in l %}"
              "{% if loop.first and not a or 1 < 2 %}{% endif %}"
              "{% endfor %}{% endfor %}",
              AX_TEXT_LIMIT_STEPS);
    ends_with("{{ range(99999999999) }}", AX_TEXT_LIMIT_MEMORY);
    ends_with("{{ '' * 9223372036854775807 }}", AX_TEXT_LIMIT_STEPS);
    ends_with("{% set ns = namespace(l=[1]) %}{% for i in range(60) %}"
              "{% set ns.l = ns.l + ns.l %}{% endfor %}",
              AX_TEXT_LIMIT_MEMORY);
}


static void
test_memory_is_bounded(void **state)
{
    struct ax_rendered out;
    const char *doubling = "{% set ns = namespace(t='xxxxxxxx') %}"
                           "{% for i in range(60) %}"
                           "{% set ns.t = ns.t ~ ns.t %}{% endfor %}";

    (void)state;
    ends_with(doubling, AX_TEXT_LIMIT_MEMORY);
    ends_with("{{ 'x' * 999999999 }}", AX_TEXT_LIMIT_MEMORY);
    ends_with("{{ s.replace('', 'y' * 100000) * 100000 }}",
              AX_TEXT_LIMIT_MEMORY);
    assert_int_equal(render("{{ s }}", 7, NULL, 256, &out),
                     AX_TEXT_LIMIT_MEMORY);
    assert_int_equal(render("{{ s }}", 7, NULL, 0, &out), AX_TEXT_LIMIT_MEMORY);
}


static void
test_output_is_bounded(void **state)
{
    struct ax_template_limits limits = {.output_bytes_max = 100};
    struct ax_rendered out;
    const char *source = "{% for i in range(30) %}12345{% endfor %}";

    (void)state;
    assert_int_equal(render(source, strlen(source), &limits, POOL_BYTES, &out),
                     AX_TEXT_LIMIT_OUTPUT);
    limits.output_bytes_max = 150;
    assert_int_equal(render(source, strlen(source), &limits, POOL_BYTES, &out),
                     0);
}


static void
test_steps_are_a_choice(void **state)
{
    struct ax_template_limits limits = {.steps_max = 100};
    struct ax_rendered out;
    const char *source = "{% for i in range(99) %}{{ i }}{% endfor %}";

    (void)state;
    assert_int_equal(render(source, strlen(source), &limits, POOL_BYTES, &out),
                     AX_TEXT_LIMIT_STEPS);
}


static void
test_recursion_ends_by_depth(void **state)
{
    (void)state;
    ends_with("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
              AX_TEXT_LIMIT_DEPTH);
    ends_with("{% macro a() %}{{ b() }}{% endmacro %}"
              "{% macro b() %}{% for x in [1] %}{{ a() }}{% endfor %}"
              "{% endmacro %}{{ a() }}",
              AX_TEXT_LIMIT_DEPTH);
    ends_with("{% set l = [] %}{% set _ = l.append(l) %}{{ l }}",
              AX_TEXT_LIMIT_DEPTH);
    ends_with("{% set l = [] %}{% set _ = l.append(l) %}{{ l | tojson }}",
              AX_TEXT_LIMIT_DEPTH);
    ends_with("{% set l = [] %}{% set _ = l.append(l) %}"
              "{% set k = [] %}{% set _ = k.append(k) %}{{ l == k }}",
              0);
    ends_with("{% set l = [1] %}{% set _ = l.append(l) %}"
              "{% set k = [1] %}{% set _ = k.append(k) %}{{ l < k }}",
              AX_TEXT_LIMIT_DEPTH);
}


static void
test_nesting_of_the_source_is_bounded(void **state)
{
    (void)state;
    nested("{{ ", "(", 100000, " }}", AX_TEXT_LIMIT_DEPTH);
    nested("{{ ", "[", 63, " }}", AX_TEXT_BAD_SYNTAX);
    nested("{{ ", "not ", 100000, "1 }}", AX_TEXT_LIMIT_DEPTH);
    nested("{{ ", "-", 100000, "1 }}", AX_TEXT_LIMIT_DEPTH);
    nested("{{ ", "1 if ", 100000, "1 }}", AX_TEXT_LIMIT_DEPTH);
    nested("{{ ", "1 if 1 else ", 50000, "1 }}", AX_TEXT_LIMIT_DEPTH);
    nested("", "{% if 1 %}", 20000, "", AX_TEXT_LIMIT_DEPTH);
    nested("", "{% for x in s %}", 20000, "", AX_TEXT_LIMIT_DEPTH);
    nested("{{ s", ".a", 100000, " }}", AX_TEXT_LIMIT_DEPTH);
    nested("{{ s", "|trim", 100000, " }}", AX_TEXT_LIMIT_DEPTH);
    nested("{{ s", "()", 100000, " }}", AX_TEXT_LIMIT_DEPTH);
}


/* What is long but flat is fine. */
static void
test_long_chains_are_no_nesting(void **state)
{
    (void)state;
    nested("{{ 1", " + 1", 50000, " }}", 0);
    nested("{{ s", " ~ s", 50000, " }}", 0);
    nested("{{ 1", " and 1", 50000, " }}", 0);
    nested("{{ 1", " == 1", 50000, " }}", 0);
    nested("{% if 0 %}", "{% elif 0 %}x", 20000, "{% endif %}", 0);
    nested("{{ [1", ",1", 50000, "] }}", 0);
    nested("{{ ", "'a' ", 50000, " }}", 0);
}


/* Text that grows in a loop stays linear in memory. */
static void
test_appending_is_linear(void **state)
{
    struct ax_rendered out;
    const char *source =
        "{% set ns = namespace(t='') %}{% for i in range(20000) %}"
        "{% set ns.t = ns.t + 'ten bytes ' %}{% endfor %}{{ ns.t }}";

    (void)state;
    assert_int_equal(render(source, strlen(source), NULL, 16 << 20, &out), 0);
    assert_int_equal(out.text_len, 200000);
}


static void
test_source_size_is_bounded(void **state)
{
    size_t n = AX_TEMPLATE_SOURCE_MAX + 1;
    char *s = malloc(n);
    struct ax_rendered out;

    (void)state;
    memset(s, 'x', n);
    assert_int_equal(render(s, n, NULL, POOL_BYTES, &out), AX_TEXT_TOO_LONG);
    assert_int_equal(render(s, n - 1, NULL, POOL_BYTES, &out), 0);
    assert_int_equal(out.text_len, n - 1);
    free(s);
}


static void
test_tags_that_need_files_are_refused(void **state)
{
    (void)state;
    ends_with("{% include 'x' %}", AX_TEXT_UNSUPPORTED);
    ends_with("{% import 'x' as y %}", AX_TEXT_UNSUPPORTED);
    ends_with("{% extends 'x' %}", AX_TEXT_UNSUPPORTED);
    ends_with("{% for x in s recursive %}{% endfor %}", AX_TEXT_UNSUPPORTED);
    ends_with("{{ s.__class__.__mro__ }}", AX_TEXT_BAD_OPERATION);
    ends_with("{{ s | nofilter }}", AX_TEXT_UNSUPPORTED);
    ends_with("{{ s is notest }}", AX_TEXT_UNSUPPORTED);
}


static void
test_numbers_do_not_wrap(void **state)
{
    (void)state;
    ends_with("{{ 9223372036854775807 + 1 }}", AX_TEXT_BAD_OPERATION);
    ends_with("{{ -9223372036854775807 - 2 }}", AX_TEXT_BAD_OPERATION);
    ends_with("{{ 9223372036854775807 * 2 }}", AX_TEXT_BAD_OPERATION);
    ends_with("{{ 2 ** 63 }}", AX_TEXT_BAD_OPERATION);
    ends_with("{{ (-9223372036854775807 - 1) // -1 }}", AX_TEXT_BAD_OPERATION);
    ends_with("{{ (-9223372036854775807 - 1) % -1 }}", AX_TEXT_BAD_OPERATION);
    ends_with("{{ -(-9223372036854775807 - 1) }}", AX_TEXT_BAD_OPERATION);
    ends_with("{{ 99999999999999999999 }}", AX_TEXT_BAD_SYNTAX);
    ends_with("{{ [1, 2, 3][::9223372036854775807] }}", 0);
    ends_with("{{ 'abc'[-9223372036854775807:9223372036854775807] }}", 0);
    ends_with("{{ range(9223372036854775806, 9223372036854775807, 5) }}", 0);
    ends_with("{{ 1e308 * 10 | int }}{{ (1e308 * 10) | int }}", 0);
}


static void
test_raised_message_reaches_the_caller(void **state)
{
    struct ax_template *t;
    struct ax_pool *pool;
    struct ax_rendered out;
    char err[256];
    const char *source = "a\nb{{ raise_exception('roles must alternate') }}";

    (void)state;
    assert_int_equal(
        ax_template_open(&t, source, strlen(source), err, sizeof(err)), 0);
    assert_int_equal(ax_pool_open(&pool, POOL_BYTES), 0);
    assert_int_equal(
        ax_template_render(t, pool, ax_value_dict(pool), NULL, 0, &out),
        AX_TEXT_RAISED);
    assert_string_equal(out.error, "roles must alternate");
    assert_int_equal(out.error_line, 2);
    ax_pool_close(pool);
    ax_template_close(t);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_endless_work_ends_by_steps),
        cmocka_unit_test(test_memory_is_bounded),
        cmocka_unit_test(test_output_is_bounded),
        cmocka_unit_test(test_steps_are_a_choice),
        cmocka_unit_test(test_recursion_ends_by_depth),
        cmocka_unit_test(test_nesting_of_the_source_is_bounded),
        cmocka_unit_test(test_long_chains_are_no_nesting),
        cmocka_unit_test(test_appending_is_linear),
        cmocka_unit_test(test_source_size_is_bounded),
        cmocka_unit_test(test_tags_that_need_files_are_refused),
        cmocka_unit_test(test_numbers_do_not_wrap),
        cmocka_unit_test(test_raised_message_reaches_the_caller)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
