/*
 * Shows which addresses of a store are taken and which refused, without a
 * word of theirs in the reason; the commands that are sent; and that replies
 * are read in whatever pieces they come, and nothing else than them.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "api/quota.h"
#include "shm/errors.h"


static int
parse(struct axion_quota_url *url, const char *text, char why[120])
{
    struct axion_text t = {text, (uint32_t)strlen(text)};

    return axion_quota_url_parse(url, &t, why, 120);
}


static void
test_urls(void **state)
{
    struct axion_quota_url u;
    char why[120];

    (void)state;
    assert_int_equal(parse(&u, "redis://redis.internal", why), AXION_OK);
    assert_string_equal(u.host, "redis.internal");
    assert_int_equal(u.port, 6379);
    assert_int_equal(u.db | u.tls | u.local, 0);
    assert_string_equal(u.password, "");
    assert_int_equal(parse(&u, "rediss://me:a%40b:c@[::1]:7000/12", why),
                     AXION_OK);
    assert_string_equal(u.host, "::1");
    assert_string_equal(u.user, "me");
    assert_string_equal(u.password, "a@b:c");
    assert_int_equal(u.port, 7000);
    assert_int_equal(u.db, 12);
    assert_int_equal(u.tls, 1);
    assert_int_equal(parse(&u, "redis://:pw@127.0.0.1/", why), AXION_OK);
    assert_string_equal(u.user, "");
    assert_string_equal(u.password, "pw");
    assert_int_equal(parse(&u, "redis+unix://:pw@/run/redis.sock?db=3", why),
                     AXION_OK);
    assert_string_equal(u.host, "/run/redis.sock");
    assert_int_equal(u.local, 1);
    assert_int_equal(u.db, 3);
}


static void
test_urls_refused(void **state)
{
    static const char *const urls[] = {
        "",
        "redis:",
        "http://SECRET",
        "redis://",
        "redis://:1",
        "redis://host:",
        "redis://host:0",
        "redis://host:65536",
        "redis://host:1a",
        "redis://host/x",
        "redis://host/16384",
        "redis://SECRET@host",
        "redis://me:@host",
        "redis://me:SECRET%zz@host",
        "redis://me:SECRET%00@host",
        "redis://ho st",
        "redis://[host]",
        "redis://[::1",
        "redis://[::1]7",
        "redis+unix://relative",
        "redis+unix:///s?db=",
        "redis+unix:///s?x=1",
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        struct axion_quota_url u;
        char why[120] = "";

        if (parse(&u, urls[i], why) != AXION_ERR_BAD_OPTION || why[0] == '\0')
            fail_msg("\"%s\" was taken", urls[i]);
        assert_null(strstr(why, "SECRET"));
    }
}


static void
expect(int rc, char *command, size_t bytes, const char *wanted)
{
    assert_int_equal(rc, AXION_OK);
    assert_int_equal(bytes, strlen(wanted));
    assert_memory_equal(command, wanted, bytes);
    axion_quota_free(command, bytes);
}


static void
test_commands(void **state)
{
    struct axion_quota_url u;
    char why[120], *command;
    size_t bytes;
    int rc;

    (void)state;
    (void)parse(&u, "redis://:pw@h/3", why);
    rc = axion_quota_auth(&command, &bytes, &u);
    expect(rc, command, bytes, "*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n");
    (void)parse(&u, "redis://me:pw@h/3", why);
    rc = axion_quota_auth(&command, &bytes, &u);
    expect(rc, command, bytes, "*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$2\r\npw\r\n");
    rc = axion_quota_select(&command, &bytes, u.db);
    expect(rc, command, bytes, "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n");
    rc = axion_quota_probe(&command, &bytes, "axion:");
    expect(rc, command, bytes,
           "*4\r\n$4\r\nEVAL\r\n$81\r\n"
           "redis.call('HSET', KEYS[1], 'a', 1)\n"
           "redis.call('EXPIRE', KEYS[1], 60)\nreturn {1}\n"
           "\r\n$1\r\n1\r\n$11\r\naxion:probe\r\n");
}


static void
test_ask(void **state)
{
    struct axion_ask ask = {.serial = 7, .acked = 6, .n = 2};
    struct axion_text tenant = {"acme", 4};
    char *command;
    size_t bytes, tail;
    static const char end[] =
        "$1\r\n3\r\n$18\r\naxion:{acme}:nodes\r\n"
        "$21\r\naxion:{acme}:requests\r\n"
        "$29\r\naxion:{acme}:budget_day:20443\r\n"
        "$2\r\n42\r\n$1\r\n7\r\n$1\r\n6\r\n$1\r\n0\r\n"
        "$1\r\nr\r\n$3\r\n100\r\n$2\r\n60\r\n$8\r\n60000000\r\n$1\r\n1\r\n"
        "$4\r\n2500\r\n$1\r\n5\r\n$1\r\n1\r\n"
        "$1\r\nb\r\n$4\r\n1000\r\n$1\r\n0\r\n$6\r\n172800\r\n$2\r\n50\r\n"
        "$3\r\n150\r\n$2\r\n50\r\n$1\r\n9\r\n";

    (void)state;
    ask.of[0] = (struct axion_ask_account){.account = AXION_RATE_REQUESTS,
                                           .limit = 100,
                                           .count = 60,
                                           .period_us = 60000000,
                                           .owed = 1,
                                           .all = 2500,
                                           .want = 5,
                                           .need = 1};
    ask.of[1] = (struct axion_ask_account){.account = AXION_RATES,
                                           .limit = 1000,
                                           .window = 20443,
                                           .ttl_s = 172800,
                                           .known = 50,
                                           .all = 150,
                                           .want = 50,
                                           .need = 9};
    assert_int_equal(
        axion_quota_ask(&command, &bytes, "axion:", &tenant, 42, &ask),
        AXION_OK);
    tail = sizeof(end) - 1;
    assert_true(bytes > tail);
    assert_memory_equal(command, "*26\r\n$4\r\nEVAL\r\n$", 16);
    assert_memory_equal(command + bytes - tail, end, tail);
    axion_quota_free(command, bytes);
}


static void
test_replies_in_pieces(void **state)
{
    static const char text[] = "+OK\r\n-ERR some thing\r\n"
                               "*3\r\n:1\r\n:500\r\n:1500\r\n:5\r\n";
    size_t piece, at;

    (void)state;
    for (piece = 1; piece < sizeof(text); piece++) {
        struct axion_quota_reader *reader;
        struct axion_quota_reply replies[8];
        unsigned n = 0;

        assert_int_equal(axion_quota_reader_open(&reader), AXION_OK);
        for (at = 0; at < sizeof(text) - 1; at += piece) {
            size_t bytes = sizeof(text) - 1 - at;

            bytes = bytes < piece ? bytes : piece;
            assert_int_equal(axion_quota_feed(reader, text + at, bytes),
                             AXION_OK);
            while (axion_quota_next(reader, &replies[n]) == AXION_OK)
                n++;
        }
        assert_int_equal(n, 4);
        assert_int_equal(replies[0].kind, AXION_QUOTA_STATUS);
        assert_int_equal(replies[1].kind, AXION_QUOTA_ERROR);
        assert_string_equal(replies[1].text, "ERR some thing");
        assert_int_equal(replies[2].kind, AXION_QUOTA_INTEGERS);
        assert_int_equal(replies[2].n, 3);
        assert_int_equal(replies[2].values[2], 1500);
        assert_int_equal(replies[3].kind, AXION_QUOTA_OTHER);
        axion_quota_reader_close(reader);
    }
}


/* What the reader makes of it, or of the answer to a question of one. */
static int
answer_of(const char *text)
{
    struct axion_quota_reader *reader;
    struct axion_quota_reply reply;
    struct axion_answer answer;
    struct axion_ask ask = {.n = 1};
    int rc;

    assert_int_equal(axion_quota_reader_open(&reader), AXION_OK);
    rc = axion_quota_feed(reader, text, strlen(text));
    if (rc == AXION_OK)
        rc = axion_quota_next(reader, &reply);
    if (rc == AXION_OK)
        rc = axion_quota_answer(&reply, &ask, &answer);
    axion_quota_reader_close(reader);
    return rc;
}


static void
test_no_answers(void **state)
{
    static const char *const texts[] = {
        "*1000000000\r\n:1\r\n",
        "*2\r\n:1\r\n:2\r\n",
        "*0\r\n",
        "*-1\r\n",
        "*3\r\n:1\r\n:2\r\n$1\r\nx\r\n",
        "*3\r\n$1\r\nx\r\n:1\r\n:2\r\n",
        "*3\r\n:1\r\n:2\r\n*1\r\n:1\r\n",
        "*3\r\n:2\r\n:2\r\n:2\r\n",
        "*3\r\n:1\r\n:-2\r\n:2\r\n",
        "$3\r\nabc\r\n",
        "+OK\r\n",
        ":1\r\n",
        "hello\r\n",
    };
    char large[AXION_QUOTA_REPLY_BYTES + 2];
    size_t i;

    (void)state;
    assert_int_equal(answer_of("*3\r\n:1\r\n:2\r\n:3\r\n"), AXION_OK);
    assert_int_equal(answer_of("*3\r\n:1\r\n:2\r\n"), AXION_AGAIN);
    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (answer_of(texts[i]) != AXION_ERR_PROTOCOL)
            fail_msg("taken: %s", texts[i]);
    }
    memset(large, 'x', sizeof(large));
    large[0] = '-';
    large[sizeof(large) - 1] = '\0';
    assert_int_equal(answer_of(large), AXION_ERR_PROTOCOL);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_urls_refused),
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_ask),
        cmocka_unit_test(test_replies_in_pieces),
        cmocka_unit_test(test_no_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
