/*
 * Shows that the output stage never cuts a character, never shows a byte of a
 * stop string, and gives the same text however the bytes are cut into pushes.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "engine/text/stream.h"
#include "engine/text/utf8.h"


#define MEM_BYTES (AX_STREAM_STOPS_MAX * AX_STREAM_STOP_BYTES_MAX * 3 + 4096)

static _Alignas(max_align_t) char mem[MEM_BYTES];


/* Pushes text in pieces of the given sizes, cyclically; returns the output. */
static const char *
run(const char *text, size_t n, const char *const *stops, const size_t *sizes,
    size_t n_sizes, int *hit)
{
    static char result[65536];
    struct ax_stream_stop list[AX_STREAM_STOPS_MAX];
    size_t n_stops = 0, at = 0, w = 0;

    for (; stops != NULL && stops[n_stops] != NULL; n_stops++) {
        list[n_stops].p = stops[n_stops];
        list[n_stops].n = strlen(stops[n_stops]);
    }

    struct ax_stream *s = ax_stream_init(mem, sizeof(mem), list, n_stops);

    assert_non_null(s);
    for (size_t i = 0; at < n; i++) {
        size_t len = sizes[i % n_sizes] < n - at ? sizes[i % n_sizes] : n - at;
        size_t room = ax_stream_out_max(s, len);
        char *out = malloc(room + 1); /* exact: ASan sees a byte over */
        size_t k = ax_stream_push(s, text + at, len, out);

        assert_true(k <= room);
        assert_true(ax_utf8_valid(out, k));
        memcpy(result + w, out, k);
        w += k;
        at += len;
        free(out);
    }

    char *out = malloc(ax_stream_out_max(s, 0) + 1);
    size_t k = ax_stream_finish(s, out);

    memcpy(result + w, out, k);
    w += k;
    free(out);
    assert_int_equal(w, ax_stream_emitted(s));
    result[w] = '\0';
    *hit = ax_stream_stop_index(s);
    return result;
}


/* Whole, byte by byte and in odd pieces: always `expected`. */
static void
check(const char *text, size_t n, const char *const *stops,
      const char *expected, int expected_hit)
{
    static const size_t whole[] = {65536}, single[] = {1};
    static const size_t odd[] = {3, 1, 2, 5};
    int hit;

    assert_string_equal(run(text, n, stops, whole, 1, &hit), expected);
    assert_int_equal(hit, expected_hit);
    assert_string_equal(run(text, n, stops, single, 1, &hit), expected);
    assert_int_equal(hit, expected_hit);
    assert_string_equal(run(text, n, stops, odd, 4, &hit), expected);
    assert_int_equal(hit, expected_hit);
}


static void
check_text(const char *text, const char *const *stops, const char *expected,
           int expected_hit)
{
    check(text, strlen(text), stops, expected, expected_hit);
}


static void
test_plain_text_passes(void **state)
{
    (void)state;
    check_text("", NULL, "", -1);
    check_text("plain", NULL, "plain", -1);
    check_text("h\u00e9llo \u4f60\u597d \U0001f642", NULL,
               "h\u00e9llo \u4f60\u597d \U0001f642", -1);
    check("a\0b", 3, NULL, "a", -1); /* the rest hides behind the NUL */
}


static void
test_bad_bytes_become_replacement(void **state)
{
    (void)state;
    check_text("a\xffz", NULL, "a\ufffdz", -1);
    check_text("\xc3", NULL, "\ufffd", -1);
    check_text("\xe4\xbd", NULL, "\ufffd", -1);
    check_text("\xe4\xbdx", NULL, "\ufffdx", -1);
    check_text("\xf0\x9f\x99", NULL, "\ufffd", -1);
    check_text("\xf0\x9f\x99\xf0\x9f\x99\x82", NULL, "\ufffd\U0001f642", -1);
    check_text("\xc0\xaf", NULL, "\ufffd\ufffd", -1);
    check_text("\xed\xa0\x80", NULL, "\ufffd\ufffd\ufffd", -1);
    check_text("\xf5\x80", NULL, "\ufffd\ufffd", -1);
    check_text("\x80\x80", NULL, "\ufffd\ufffd", -1);
}


static void
test_stop_across_borders(void **state)
{
    static const char *const stop[] = {"STOP", NULL};
    static const char *const wide[] = {"\u4f60\u597d", NULL};
    static const char *const mark[] = {"\ufffd!", NULL};

    (void)state;
    check_text("one STOP two", stop, "one ", 0);
    check_text("STOP", stop, "", 0);
    check_text("STO", stop, "STO", -1);
    check_text("STO P", stop, "STO P", -1);
    check_text("STSTOP", stop, "ST", 0);
    check_text("x\u4f60\u597dy", wide, "x", 0);
    check_text("x\u4f60y", wide, "x\u4f60y", -1);
    check_text("x\u4f60", wide, "x\u4f60", -1);
    check_text("x\xff!y", mark, "x", 0);
}


static void
test_overlapping_stops(void **state)
{
    static const char *const nested[] = {"b", "abc", NULL};
    static const char *const same_end[] = {"bc", "abc", NULL};
    static const char *const periodic[] = {"aab", NULL};
    static const char *const four[] = {"w", "xyz", "yz", "\n\n", NULL};

    (void)state;
    check_text("..abc", nested, "..a", 0);  /* completes first */
    check_text("..abc", same_end, "..", 1); /* the longest of both */
    check_text("aaaaab", periodic, "aaa", 0);
    check_text("aaaa", periodic, "aaaa", -1);
    check_text("a\n\nb", four, "a", 3);
    check_text(".xyz", four, ".", 1);
    check_text(".xy.", four, ".xy.", -1);
}


static void
test_holds_back_only_what_may_stop(void **state)
{
    struct ax_stream_stop stop = {"abcabd", 6};
    struct ax_stream *s = ax_stream_init(mem, sizeof(mem), &stop, 1);
    char out[64];

    (void)state;
    assert_int_equal(ax_stream_push(s, "xxabc", 5, out), 2);
    assert_memory_equal(out, "xx", 2);
    assert_int_equal(ax_stream_push(s, "ab", 2, out), 0);
    assert_int_equal(ax_stream_push(s, "c", 1, out), 3);
    assert_memory_equal(out, "abc", 3);
    assert_int_equal(ax_stream_push(s, "q", 1, out), 6 - 3 + 1);
    assert_memory_equal(out, "abcq", 4);
    assert_false(ax_stream_stopped(s));
}


static void
test_nothing_after_the_stop(void **state)
{
    struct ax_stream_stop stop = {"##", 2};
    struct ax_stream *s = ax_stream_init(mem, sizeof(mem), &stop, 1);
    char out[64];

    (void)state;
    assert_int_equal(ax_stream_push(s, "a##b", 4, out), 1);
    assert_true(ax_stream_stopped(s));
    assert_int_equal(ax_stream_push(s, "more", 4, out), 0);
    assert_int_equal(ax_stream_finish(s, out), 0);
    assert_int_equal(ax_stream_emitted(s), 1);
}


static void
test_bad_stops_are_refused(void **state)
{
    static char longest[AX_STREAM_STOP_BYTES_MAX + 1];
    struct ax_stream_stop empty = {"", 0}, invalid = {"\xff", 1};
    struct ax_stream_stop over = {longest, sizeof(longest)};
    struct ax_stream_stop most = {longest, sizeof(longest) - 1};
    struct ax_stream_stop five[5] = {most, most, most, most, most};

    (void)state;
    memset(longest, 'a', sizeof(longest));
    assert_int_equal(ax_stream_size(&empty, 1), 0);
    assert_int_equal(ax_stream_size(&invalid, 1), 0);
    assert_int_equal(ax_stream_size(&over, 1), 0);
    assert_int_equal(ax_stream_size(five, 5), 0);
    assert_null(ax_stream_init(mem, sizeof(mem), five, 5));
    assert_null(ax_stream_init(mem, ax_stream_size(five, 4) - 1, five, 4));
    assert_non_null(ax_stream_init(mem, ax_stream_size(five, 4), five, 4));
}


/* Against a search over the whole repaired text. */
static void
test_random_against_plain_search(void **state)
{
    static const char *const alphabet[] = {
        "a", "b", "\u00e9", "\xc3", "\u4f60", "\xe4\xbd", "\xff"};
    static const size_t single[] = {1};
    uint32_t seed = 1;

    (void)state;
    for (int round = 0; round < 3000; round++) {
        char text[128] = "", repaired[512], stop[64] = "";
        size_t w = 0;

        for (int i = 0; i < 12; i++) {
            seed = seed * 1664525 + 1013904223;
            strcat(text, alphabet[(seed >> 16) % 7]);
            if (i < 3) {
                strcat(stop, alphabet[(seed >> 20) % 3]);
            }
        }
        for (size_t at = 0; at < strlen(text);) {
            uint32_t cp;

            at += ax_utf8_next(text + at, strlen(text) - at, &cp);
            w += ax_utf8_encode(cp, repaired + w);
        }
        repaired[w] = '\0';

        const char *const stops[] = {stop, NULL};
        char *found = strstr(repaired, stop);
        int hit;

        if (found != NULL) {
            *found = '\0';
        }
        assert_string_equal(run(text, strlen(text), stops, single, 1, &hit),
                            repaired);
        assert_int_equal(hit, found != NULL ? 0 : -1);
    }
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_text_passes),
        cmocka_unit_test(test_bad_bytes_become_replacement),
        cmocka_unit_test(test_stop_across_borders),
        cmocka_unit_test(test_overlapping_stops),
        cmocka_unit_test(test_holds_back_only_what_may_stop),
        cmocka_unit_test(test_nothing_after_the_stop),
        cmocka_unit_test(test_bad_stops_are_refused),
        cmocka_unit_test(test_random_against_plain_search)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
