/*
 * Shows that what clients receive is what OpenAI's SDKs read: every event and
 * every whole answer is parsed with jansson and compared key by key, and text
 * survives the escaping whatever bytes it has.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "api/error.h"
#include "api/json.h"
#include "api/response.h"
#include "tests/api/harness.h"

static const struct axion_cq_done done = {
    .reason = AXION_FINISH_STOP,
    .prompt_tokens = 12,
    .cached_tokens = 4,
    .completion_tokens = 3,
    .queue_us = 1500,
    .prefill_us = 2000,
    .decode_us = 4000,
};

struct answer {
    struct test_memory memory;
    struct axion_response response;
    struct axion_out out;
};


static void
open_answer(struct answer *a, enum axion_request_kind kind, int stream,
            int include_usage)
{
    struct axion_response_options options = {
        .kind = kind,
        .stream = stream,
        .include_usage = include_usage,
        .created = 1700000000,
        .model = {"mo\"del", 6},
        .fingerprint = {"fp_1", 4},
        .random = {0xde, 0xad, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff},
    };

    test_memory_init(&a->memory);
    assert_int_equal(axion_response_open(&a->response, &options,
                                         &a->memory.memory),
                     AXION_OK);
    axion_out_grow(&a->out, &a->memory.memory, 1, 1u << 24);
}


static void
write_answer(struct answer *a, const char *const *texts, size_t n)
{
    size_t i;

    axion_response_begin(&a->response, &a->out);
    for (i = 0; i < n; i++)
        axion_response_text(&a->response, &a->out, texts[i],
                            strlen(texts[i]));
    axion_response_end(&a->response, &a->out, &done);
    assert_int_equal(axion_out_status(&a->out), AXION_OK);
}


/* The next `data:` event at *at as a tree; asserts its frame. */
static json_t *
next_event(const struct answer *a, size_t *at)
{
    const char *start = a->out.data + *at;
    const char *end = memmem(start, a->out.bytes - *at, "\n\n", 2);
    json_error_t error;
    json_t *event;

    assert_non_null(end);
    assert_memory_equal(start, "data: ", 6);
    event = json_loadb(start + 6, (size_t) (end - start - 6), 0, &error);
    assert_non_null(event);
    *at += (size_t) (end - start) + 2;
    return event;
}


static void
assert_ends_with_done(const struct answer *a, size_t at)
{
    static const char last[] = "data: [DONE]\n\n";

    assert_int_equal(a->out.bytes - at, sizeof(last) - 1);
    assert_memory_equal(a->out.data + at, last, sizeof(last) - 1);
}


static void
assert_common(json_t *event, const char *id, const char *object)
{
    const char *got_id, *got_object, *model, *fingerprint;
    json_int_t created;

    assert_int_equal(json_unpack(event, "{s:s,s:s,s:I,s:s,s:s}", "id",
                                 &got_id, "object", &got_object, "created",
                                 &created, "model", &model,
                                 "system_fingerprint", &fingerprint),
                     0);
    assert_string_equal(got_id, id);
    assert_string_equal(got_object, object);
    assert_int_equal(created, 1700000000);
    assert_string_equal(model, "mo\"del");
    assert_string_equal(fingerprint, "fp_1");
}


static void
assert_usage(json_t *object)
{
    int prompt, completion, total, cached;

    assert_int_equal(
        json_unpack(object, "{s:{s:i,s:i,s:i,s:{s:i}}}", "usage",
                    "prompt_tokens", &prompt, "completion_tokens",
                    &completion, "total_tokens", &total,
                    "prompt_tokens_details", "cached_tokens", &cached),
        0);
    assert_int_equal(prompt, 12);
    assert_int_equal(completion, 3);
    assert_int_equal(total, 15);
    assert_int_equal(cached, 4);
}


static json_t *
only_choice(json_t *event)
{
    json_t *choices = json_object_get(event, "choices");

    assert_int_equal(json_array_size(choices), 1);
    return json_array_get(choices, 0);
}


static const char *
choice_text(json_t *event, const char *inner, const char *key)
{
    json_t *choice = only_choice(event);

    if (inner != NULL)
        choice = json_object_get(choice, inner);
    return json_string_value(json_object_get(choice, key));
}


#define CHAT_ID "chatcmpl-dead00000000000000000000000000ff"
#define TEXT_ID "cmpl-dead00000000000000000000000000ff"


static void
test_chat_stream(void **state)
{
    static const char *const texts[] = {"Hel", "lo \"x\"\n"};
    struct answer a;
    size_t at = 0, i;
    json_t *event;

    (void) state;
    open_answer(&a, AXION_REQUEST_CHAT, 1, 0);
    write_answer(&a, texts, 2);
    event = next_event(&a, &at);
    assert_common(event, CHAT_ID, "chat.completion.chunk");
    assert_string_equal(choice_text(event, "delta", "role"), "assistant");
    assert_true(json_is_null(
        json_object_get(only_choice(event), "finish_reason")));
    assert_null(json_object_get(event, "usage"));
    json_decref(event);
    for (i = 0; i < 2; i++) {
        event = next_event(&a, &at);
        assert_common(event, CHAT_ID, "chat.completion.chunk");
        assert_string_equal(choice_text(event, "delta", "content"),
                            texts[i]);
        json_decref(event);
    }
    event = next_event(&a, &at);
    assert_string_equal(choice_text(event, NULL, "finish_reason"), "stop");
    assert_int_equal(
        json_object_size(json_object_get(only_choice(event), "delta")), 0);
    json_decref(event);
    assert_ends_with_done(&a, at);
    test_memory_free(&a.memory);
}


static void
test_chat_stream_with_usage(void **state)
{
    static const char *const texts[] = {"x"};
    struct answer a;
    size_t at = 0, i;
    json_t *event;

    (void) state;
    open_answer(&a, AXION_REQUEST_CHAT, 1, 1);
    write_answer(&a, texts, 1);
    for (i = 0; i < 3; i++) {
        event = next_event(&a, &at);
        assert_true(json_is_null(json_object_get(event, "usage")));
        json_decref(event);
    }
    event = next_event(&a, &at);
    assert_common(event, CHAT_ID, "chat.completion.chunk");
    assert_int_equal(json_array_size(json_object_get(event, "choices")), 0);
    assert_usage(event);
    json_decref(event);
    assert_ends_with_done(&a, at);
    test_memory_free(&a.memory);
}


static void
test_completion_stream(void **state)
{
    static const char *const texts[] = {"x", "y"};
    struct answer a;
    size_t at = 0, i;
    json_t *event;

    (void) state;
    open_answer(&a, AXION_REQUEST_COMPLETION, 1, 0);
    write_answer(&a, texts, 2);
    for (i = 0; i < 2; i++) {
        event = next_event(&a, &at);
        assert_common(event, TEXT_ID, "text_completion");
        assert_string_equal(choice_text(event, NULL, "text"), texts[i]);
        json_decref(event);
    }
    event = next_event(&a, &at);
    assert_string_equal(choice_text(event, NULL, "text"), "");
    assert_string_equal(choice_text(event, NULL, "finish_reason"), "stop");
    json_decref(event);
    assert_ends_with_done(&a, at);
    test_memory_free(&a.memory);
}


static void
check_whole(enum axion_request_kind kind, const char *object,
            const char *inner, const char *key)
{
    static const char *const texts[] = {"Hel", "", "lo \xe2\x82\xac\x01"};
    double queue_ms, per_second;
    int computed;
    json_error_t error;
    struct answer a;
    json_t *whole;

    open_answer(&a, kind, 0, 0);
    write_answer(&a, texts, 3);
    whole = json_loadb(a.out.data, a.out.bytes, 0, &error);
    assert_non_null(whole);
    assert_common(whole, kind == AXION_REQUEST_CHAT ? CHAT_ID : TEXT_ID,
                  object);
    assert_string_equal(choice_text(whole, inner, key),
                        "Hello \xe2\x82\xac\x01");
    assert_string_equal(choice_text(whole, NULL, "finish_reason"), "stop");
    assert_usage(whole);
    assert_int_equal(json_unpack(whole, "{s:{s:i,s:f,s:f}}", "timings",
                                 "prompt_n", &computed, "queue_ms",
                                 &queue_ms, "predicted_per_second",
                                 &per_second),
                     0);
    assert_int_equal(computed, 8);
    assert_true(queue_ms == 1.5);
    assert_true(per_second == 500.0);
    json_decref(whole);
    test_memory_free(&a.memory);
}


static void
test_whole_answers(void **state)
{
    (void) state;
    check_whole(AXION_REQUEST_CHAT, "chat.completion", "message", "content");
    check_whole(AXION_REQUEST_COMPLETION, "text_completion", NULL, "text");
}


static void
test_bound_holds_in_a_fixed_window(void **state)
{
    struct answer a;
    struct axion_out window;
    char text[64];
    char *room;
    int stream;
    size_t max;

    (void) state;
    memset(text, 1, sizeof(text));
    for (stream = 0; stream < 2; stream++) {
        open_answer(&a, AXION_REQUEST_CHAT, stream, 1);
        max = axion_response_bytes_max(&a.response, sizeof(text));
        room = malloc(max);
        assert_non_null(room);
        axion_out_fixed(&window, room, max);
        axion_response_begin(&a.response, &window);
        window.bytes = 0;
        axion_response_text(&a.response, &window, text, sizeof(text));
        assert_int_equal(axion_out_status(&window), AXION_OK);
        window.bytes = 0;
        axion_response_end(&a.response, &window, &done);
        assert_int_equal(axion_out_status(&window), AXION_OK);
        free(room);
        test_memory_free(&a.memory);
    }
}


static void
test_window_too_small_is_an_error(void **state)
{
    struct axion_out window;
    char room[8];

    (void) state;
    axion_out_fixed(&window, room, sizeof(room));
    axion_out_text(&window, "12345678");
    assert_int_equal(axion_out_status(&window), AXION_OK);
    axion_out_text(&window, "9");
    assert_int_equal(axion_out_status(&window), AXION_ERR_PAYLOAD_TOO_LARGE);
    assert_int_equal(window.bytes, 8);
}


/* Every byte at every place of a word, against jansson's reading of it. */
static void
test_escape_of_every_byte(void **state)
{
    char text[17], room[256];
    struct axion_out out;
    unsigned byte, at;

    (void) state;
    for (byte = 0; byte < 256; byte++) {
        for (at = 0; at < 16; at++) {
            const char *expected;
            size_t bytes;
            json_t *parsed;

            memset(text, 'a', sizeof(text));
            text[at] = (char) byte;
            axion_out_fixed(&out, room, sizeof(room));
            axion_json_quote(&out, text, 16);
            parsed = json_loadb(out.data, out.bytes,
                                JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
            assert_non_null(parsed);
            expected = json_string_value(parsed);
            bytes = json_string_length(parsed);
            if (byte < 0x80) {
                assert_int_equal(bytes, 16);
                assert_memory_equal(expected, text, 16);
            } else {
                assert_int_equal(bytes, 18);
                assert_memory_equal(expected + at, "\xef\xbf\xbd", 3);
            }
            json_decref(parsed);
        }
    }
}


static void
test_malformed_utf8_is_replaced(void **state)
{
    static const struct {
        const char *text;
        const char *escaped;
    } cases[] = {
        {"\xe2\x82\xac", "\xe2\x82\xac"},
        {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
        {"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xe2\x82z", "\xef\xbf\xbd\xef\xbf\xbdz"},
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf4\x90\x80\x80",
         "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"aaaaaaaa\xffzz", "aaaaaaaa\xef\xbf\xbdzz"},
    };
    struct axion_out out;
    char room[64];
    size_t i;

    (void) state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        axion_out_fixed(&out, room, sizeof(room));
        axion_json_escape(&out, cases[i].text, strlen(cases[i].text));
        assert_int_equal(out.bytes, strlen(cases[i].escaped));
        assert_memory_equal(out.data, cases[i].escaped, out.bytes);
    }
}


static void
test_finish_reasons(void **state)
{
    (void) state;
    assert_string_equal(axion_finish_reason_text(AXION_FINISH_STOP), "stop");
    assert_string_equal(axion_finish_reason_text(AXION_FINISH_LENGTH),
                        "length");
    assert_string_equal(axion_finish_reason_text(AXION_FINISH_LEASE),
                        "length");
    assert_string_equal(axion_finish_reason_text(77), "length");
    assert_string_equal(axion_finish_reason_name(AXION_FINISH_LEASE),
                        "lease");
    assert_string_equal(axion_finish_reason_name(AXION_FINISH_CANCELLED),
                        "cancelled");
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat_stream),
        cmocka_unit_test(test_chat_stream_with_usage),
        cmocka_unit_test(test_completion_stream),
        cmocka_unit_test(test_whole_answers),
        cmocka_unit_test(test_bound_holds_in_a_fixed_window),
        cmocka_unit_test(test_window_too_small_is_an_error),
        cmocka_unit_test(test_escape_of_every_byte),
        cmocka_unit_test(test_malformed_utf8_is_replaced),
        cmocka_unit_test(test_finish_reasons),
    };

    return cmocka_run_group_tests_name("api response", tests, NULL, NULL);
}
