/*
 * Shows that the command-line parser takes what it should, names option and
 * value in every error, and that --help has every row of axiond's table.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "engine/server/server.h"

static struct ax_server_options options;
static struct ax_error err;
static char *words[32];
static int n_args;


/* Parses these words as axiond would. */
static int
parse(const char *const *args)
{
    int argc = 1;
    words[0] = "axiond";
    while (*args != NULL) {
        words[argc++] = (char *)(uintptr_t)*args++;
    }
    ax_server_defaults(&options);
    err = (struct ax_error){0};
    return ax_options_parse(ax_server_option_table, &options, argc, words,
                            &n_args, &err);
}

#define PARSE(...) parse((const char *[]){__VA_ARGS__, NULL})


static void
expect_error(int rc, const char *option, const char *value)
{
    assert_int_equal(rc, AXION_ERR_BAD_OPTION);
    assert_non_null(strstr(err.text, option));
    assert_non_null(strstr(err.text, value));
}


static void
test_every_kind_of_value(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--model", "m.gguf", "--listen=unix:/s,mode=0660",
                           "--threads", "3", "--kv-memory=512m",
                           "--drain-timeout", "500ms", "--isa=avx2",
                           "--allow-uid", "33", "--allow-uid=0", "--help"),
                     AXION_OK);
    assert_string_equal(options.model, "m.gguf");
    assert_string_equal(options.listen, "unix:/s,mode=0660");
    assert_int_equal(options.threads, 3);
    assert_int_equal(options.kv_memory, 512u << 20);
    assert_int_equal(options.drain_timeout_ms, 500);
    assert_string_equal(options.isa, "avx2");
    assert_int_equal(options.allow_uid.n, 2);
    assert_int_equal(options.allow_uid.uid[0], 33);
    assert_int_equal(options.help, 1);
    assert_int_equal(options.max_batch, 256); /* a default stays */
    assert_int_equal(n_args, 0);
}


static void
test_positional_arguments_are_kept(void **state)
{
    (void)state;
    assert_int_equal(PARSE("a", "--ctx", "64", "b", "--", "--c"), AXION_OK);
    assert_int_equal(n_args, 3);
    assert_string_equal(words[1], "a");
    assert_string_equal(words[2], "b");
    assert_string_equal(words[3], "--c");
    assert_int_equal(options.ctx, 64);
}


static void
test_letters_stand_for_their_option(void **state)
{
    static const struct ax_option table[] = {
        {"ctx", AX_OPTION_NUMBER, offsetof(struct ax_server_options, ctx), "N",
         NULL, "context", 1, 100, NULL, 'c'},
        {NULL, AX_OPTION_FLAG, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
    };
    char *argv[] = {"x", "-c", "5", "-d", "-cc", "--", "-c", NULL};
    char help[256];
    (void)state;
    assert_int_equal(ax_options_parse(table, &options, 7, argv, &n_args, &err),
                     AXION_OK);
    assert_int_equal(options.ctx, 5);
    assert_int_equal(n_args, 3);
    assert_string_equal(argv[1], "-d"); /* no such letter: an argument */
    assert_string_equal(argv[2], "-cc");
    assert_string_equal(argv[3], "-c");
    char *bad[] = {"x", "-c", NULL};
    expect_error(ax_options_parse(table, &options, 2, bad, &n_args, &err),
                 "--ctx", "needs a value");
    ax_options_help(table, help, sizeof(help));
    assert_non_null(strstr(help, "-c, --ctx N"));
}


static void
test_errors_name_option_and_value(void **state)
{
    (void)state;
    expect_error(PARSE("--thread", "1"), "--thread", "unknown");
    expect_error(PARSE("--threads", "0"), "--threads", "\"0\"");
    expect_error(PARSE("--threads", "-1"), "--threads", "\"-1\"");
    expect_error(PARSE("--threads", "2x"), "--threads", "\"2x\"");
    expect_error(PARSE("--threads", ""), "--threads", "\"\"");
    expect_error(PARSE("--threads"), "--threads", "needs a value");
    expect_error(PARSE("--help=1"), "--help", "no value");
    expect_error(PARSE("--kv-memory", "1t"), "--kv-memory", "\"1t\"");
    expect_error(PARSE("--kv-memory", "99999999999999999999"), "--kv-memory",
                 "9999");
    expect_error(PARSE("--kv-memory", "18014398509481985k"), "--kv-memory",
                 "k\"");
    expect_error(PARSE("--drain-timeout", "1w"), "--drain-timeout", "1w");
    expect_error(PARSE("--isa", "AVX2"), "--isa", "avx512");
    expect_error(PARSE("--isa", ""), "--isa", "\"\"");
    expect_error(PARSE("--isa", "auto|scalar"), "--isa", "auto|scalar");
    expect_error(PARSE("--allow-uid", "www-data"), "--allow-uid", "numeric");
    expect_error(PARSE("--ctx", "9"), "--ctx", "between 16 and 16777216");
    expect_error(PARSE("--ctx", "\x1b[2J\n"), "--ctx", "\\x1b");
}


static void
test_sizes_and_times(void **state)
{
    uint64_t v;
    (void)state;
    assert_int_equal(ax_parse_size("0", &v), AXION_OK);
    assert_int_equal(v, 0);
    assert_int_equal(ax_parse_size("3k", &v), AXION_OK);
    assert_int_equal(v, 3072);
    assert_int_equal(ax_parse_size("2G", &v), AXION_OK);
    assert_int_equal(v, 2ull << 30);
    assert_int_equal(ax_parse_size(" 1", &v), AXION_ERR_BAD_OPTION);
    assert_int_equal(ax_parse_size("1kk", &v), AXION_ERR_BAD_OPTION);
    assert_int_equal(ax_parse_time("2", &v), AXION_OK);
    assert_int_equal(v, 2000);
    assert_int_equal(ax_parse_time("3m", &v), AXION_OK);
    assert_int_equal(v, 180000);
    assert_int_equal(ax_parse_time("1.5s", &v), AXION_ERR_BAD_OPTION);
}


static void
test_help_has_every_option(void **state)
{
    char text[8192], name[64];
    (void)state;
    size_t n = ax_options_help(ax_server_option_table, text, sizeof(text));
    assert_true(n < sizeof(text));
    for (const struct ax_option *o = ax_server_option_table; o->name != NULL;
         o++) {
        snprintf(name, sizeof(name), "  --%s ", o->name);
        assert_non_null(strstr(text, name));
    }
    char small[16];
    assert_int_equal(
        ax_options_help(ax_server_option_table, small, sizeof(small)), n);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind_of_value),
        cmocka_unit_test(test_positional_arguments_are_kept),
        cmocka_unit_test(test_letters_stand_for_their_option),
        cmocka_unit_test(test_errors_name_option_and_value),
        cmocka_unit_test(test_sizes_and_times),
        cmocka_unit_test(test_help_has_every_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
