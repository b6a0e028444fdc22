/*
 * Shows that templates mean what Jinja2 says they mean: every case of
 * tests/golden/text/jinja.json gives Jinja2's text, or fails where it fails.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "engine/text/template.h"
#include "tests/text/json_values.h"


#define GOLDENS "tests/golden/text/jinja.json"
#define NOW     (1767225600 + 3600 * 13) /* as golden_templates.py */


static int
render(const json_t *source, const json_t *context, struct ax_pool *pool,
       struct ax_rendered *out)
{
    struct ax_template *t;
    int rc = ax_template_open(&t, json_string_value(source),
                              json_string_length(source), out->error,
                              sizeof(out->error));
    if (rc != 0) {
        return rc;
    }
    rc = ax_template_render(t, pool, json_to_vars(pool, context), NULL, NOW,
                            out);
    ax_template_close(t);
    return rc;
}


/* True if the case came out as Jinja2 had it. */
static bool
check(const json_t *row, const json_t *context)
{
    const json_t *source = json_object_get(row, "template");
    const char *expected = json_string_value(json_object_get(row, "text"));
    struct ax_pool *pool;
    struct ax_rendered out;
    bool ok;

    assert_int_equal(ax_pool_open(&pool, 16 << 20), 0);
    int rc = render(source, context, pool, &out);

    ok =
        expected == NULL ? rc != 0 : rc == 0 && strcmp(out.text, expected) == 0;
    if (!ok) {
        print_error("%s\n  gives    %s\n  not      %s\n",
                    json_string_value(source), rc != 0 ? out.error : out.text,
                    expected != NULL ? expected : "an error");
    }
    ax_pool_close(pool);
    return ok;
}


static void
test_same_as_jinja2(void **state)
{
    json_error_t error;
    json_t *rows = json_load_file(GOLDENS, JSON_ALLOW_NUL, &error);
    size_t failed = 0, i;
    json_t *row;

    (void)state;
    if (rows == NULL) {
        fail_msg("%s: %s", GOLDENS, error.text);
    }

    const json_t *context = json_object_get(json_array_get(rows, 0), "context");

    json_array_foreach(rows, i, row)
    {
        failed += i > 0 && !check(row, context);
    }
    assert_true(json_array_size(rows) > 100);
    assert_int_equal(failed, 0);
    json_decref(rows);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_as_jinja2)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
