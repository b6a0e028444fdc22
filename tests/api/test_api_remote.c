/*
 * Shows what goes to a remote and what comes back of it: whose members are
 * rewritten, which are left out, that everything else survives byte for byte,
 * and that no text is taken for more than it is; events out of bytes however
 * they are cut.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "api/json_walk.h"
#include "api/remote.h"
#include "api/remote_floor.h"
#include "api/sse.h"
#include "tests/api/harness.h"


static const char *
request_of(const char *body, const char *model, uint32_t max_tokens, int stream)
{
    static char text[4096];
    struct axion_remote_wish wish = {
        {model, (uint32_t)strlen(model)}, max_tokens, stream};
    struct axion_out out;

    axion_out_fixed(&out, text, sizeof(text) - 1);
    axion_remote_request(&out, body, strlen(body), &wish);
    if (axion_out_status(&out) != AXION_OK)
        return "refused";
    text[out.bytes] = '\0';
    return text;
}


static void
test_request(void **state)
{
    (void)state;
    assert_string_equal(
        request_of(" {\"model\":\"a\", \"x\" : [1, {\"model\":2}]\n} ", "b\"",
                   0, 0),
        "{\"model\":\"b\\\"\",\"stream\":false,\"x\":[1, {\"model\":2}]}");
    assert_string_equal(
        request_of("{\"stream\":true,\"stream_options\":{},\"max_tokens\":9,"
                   "\"priority\":1,\"cache\\u005fsalt\":\"s\"}",
                   "m", 5, 1),
        "{\"model\":\"m\",\"stream\":true,\"stream_options\":"
        "{\"include_usage\":true},\"max_tokens\":5}");
    assert_string_equal(
        request_of("{\"max_completion_tokens\":9}", "m", 5, 0),
        "{\"model\":\"m\",\"stream\":false,\"max_completion_tokens\":5}");
    assert_string_equal(request_of("{\"max_tokens\":9}", "m", 0, 0),
                        "{\"model\":\"m\",\"stream\":false,\"max_tokens\":9}");
    assert_string_equal(request_of("{}", "m", 7, 0),
                        "{\"model\":\"m\",\"stream\":false,\"max_tokens\":7}");
    assert_string_equal(request_of("[]", "m", 7, 0), "refused");
    assert_string_equal(
        request_of("{\"n\":2,\"n_predict\":99,\"n_cmpl\":9}", "m", 7, 0),
        "{\"model\":\"m\",\"stream\":false,\"n\":2,\"max_tokens\":7}");
    assert_string_equal(
        request_of("{\"prompt_token_ids\":[1,2],\"input_ids\":[1],"
                   "\"prompt_token_ids_b64\":\"AAAA\","
                   "\"custom_logit_processor\":\"x\"}",
                   "m", 7, 0),
        "{\"model\":\"m\",\"stream\":false,\"max_tokens\":7}");
}


/* max_tokens bounds each: how many there are is known, and bounded. */
static void
test_answers(void **state)
{
    static const struct {
        const char *fields;
        int error;
        uint32_t n_answers;
        uint32_t n_tokens;
    } cases[] = {
        {"\"prompt\":\"x\"", AXION_OK, 1, 0},
        {"\"prompt\":\"x\",\"n\":3", AXION_OK, 3, 0},
        {"\"prompt\":\"x\",\"n\":3,\"best_of\":5", AXION_OK, 5, 0},
        {"\"prompt\":[\"x\",\"y\"],\"n\":3", AXION_OK, 6, 0},
        {"\"prompt\":[[1],[2,3],[3]]", AXION_OK, 3, 4},
        {"\"prompt\":[[7,8]],\"n\":2", AXION_OK, 2, 2},
        {"\"prompt\":[[7],\"x\"]", AXION_OK, 2, 1},
        {"\"prompt\":\"x\",\"n\":1024", AXION_OK, 1024, 0},
        {"\"prompt\":\"x\",\"n\":1025", AXION_ERR_UNSUPPORTED_FIELD, 0, 0},
        {"\"prompt\":[\"x\",\"y\"],\"n\":1024", AXION_ERR_INVALID_VALUE, 0, 0},
    };
    static const struct axion_parse_options options = {
        .payload_bytes_max = 4096, .remote = 1};
    struct axion_failure failure;
    struct axion_parsed parsed;
    struct test_memory memory;
    char body[256];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int n = snprintf(body, sizeof(body), "{\"model\":\"m\",%s}",
                         cases[i].fields);

        test_memory_init(&memory);
        assert_int_equal(axion_request_parse(
                             &parsed, AXION_REQUEST_COMPLETION, body, (size_t)n,
                             &options, &memory.memory, &failure),
                         cases[i].error);
        if (cases[i].error == AXION_OK) {
            assert_int_equal(parsed.n_answers, cases[i].n_answers);
            assert_int_equal(parsed.n_tokens, cases[i].n_tokens);
        }
        test_memory_free(&memory);
    }
}


static void
test_judged(void **state)
{
    static const char *const good[] = {
        "1", "-0.5e+3", "\"\\ud83d\\ude00\"", "[]", "{}", "[[],{}]", " null ",
        "{\"a\":[1,2,{\"b\":\"\"}],\"c\":true}", "\"\xc3\xa4\"",
    };
    static const char *const bad[] = {
        "",      "01",   "1.",     "[1,]",        "{,}",       "{\"a\"}",
        "{\"a\":}", "{1:2}", "[1 2]", "\"\\x\"",   "\"\\ud800\"", "\"\xff\"",
        "\"\x01\"", "nul",  "[}",    "1 2",         "-",         "\"",
        "[",     "{\"a\":1,}", "\"\\udc00\"", "+1",  ".5",     "1e",
    };
    struct axion_text value;
    char deep[2 * AXION_WALK_DEPTH_MAX + 2];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_int_equal(axion_walk_value(good[i], strlen(good[i]), &value),
                         AXION_OK);
    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_not_equal(axion_walk_value(bad[i], strlen(bad[i]), &value),
                             AXION_OK);
    memset(deep, '[', AXION_WALK_DEPTH_MAX);
    memset(deep + AXION_WALK_DEPTH_MAX, ']', AXION_WALK_DEPTH_MAX);
    assert_int_equal(
        axion_walk_value(deep, 2 * (size_t)AXION_WALK_DEPTH_MAX, &value),
        AXION_OK);
    memset(deep, '[', AXION_WALK_DEPTH_MAX + 1);
    memset(deep + AXION_WALK_DEPTH_MAX + 1, ']', AXION_WALK_DEPTH_MAX + 1);
    assert_int_not_equal(axion_walk_value(deep, sizeof(deep), &value),
                         AXION_OK);
}


static void
test_text(void **state)
{
    static const char string[] = "\"a\\n\\u00e4\\ud83d\\ude00\\\"z\"";
    struct axion_text value = {string, sizeof(string) - 1};
    char text[16];

    (void)state;
    axion_walk_text(&value, text, sizeof(text));
    assert_string_equal(text, "a\n\xc3\xa4\xf0\x9f\x98\x80\"z");
    assert_true(axion_walk_is(&value, text));
    axion_walk_text(&value, text, 6);
    assert_string_equal(text, "a\n");
    value.bytes = 0;
    axion_walk_text(&value, text, sizeof(text));
    assert_string_equal(text, "");
}


static int
read_text(struct axion_remote_answer *answer, struct axion_remote_chunk *chunk,
          const char *text)
{
    return axion_remote_read(answer, chunk, text, strlen(text));
}


static void
test_read(void **state)
{
    struct axion_remote_answer a;
    struct axion_remote_chunk c;

    (void)state;
    memset(&a, 0, sizeof(a));
    assert_int_equal(
        read_text(&a, &c,
                  "{\"choices\":[{\"delta\":{\"content\":\"x\"}},"
                  "{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}},"
                  "{\"delta\":{\"tool_calls\":[{}]},\"finish_reason\":"
                  "\"length\"}],\"usage\":null}"),
        AXION_OK);
    assert_int_equal(c.n_choices, 3);
    assert_int_equal(c.n_pieces, 2);
    assert_int_equal(a.reason, AXION_FINISH_LENGTH);
    assert_true(a.ended);
    assert_false(a.has_usage);
    assert_int_equal(
        read_text(&a, &c,
                  "{\"choices\":[],\"usage\":{\"prompt_tokens\":4294967295,"
                  "\"completion_tokens\":2,\"prompt_tokens_details\":"
                  "{\"cached_tokens\":3}}}"),
        AXION_OK);
    assert_int_equal(a.prompt_tokens, AXION_REMOTE_TOKENS_MAX);
    assert_int_equal(a.completion_tokens, 2);
    assert_int_equal(a.cached_tokens, 3);
    assert_true(a.bounded);
    assert_null(c.usage.data);
    assert_int_equal(read_text(&a, &c,
                               "{\"choices\":[],\"usage\":"
                               "{\"prompt_tokens\":4294967296}}"),
                     AXION_ERR_REMOTE_PROTOCOL);
    assert_int_equal(read_text(&a, &c, "{\"error\":{\"message\":\"m\"}}"),
                     AXION_ERR_REMOTE_FAILED);
    assert_string_equal(a.message, "m");
    assert_int_equal(read_text(&a, &c, "{\"choices\":{}}"),
                     AXION_ERR_REMOTE_PROTOCOL);
}


static void
usage_of(struct axion_remote_answer *a, const char *usage)
{
    struct axion_remote_chunk c;
    char text[256];

    a->has_usage = a->bounded = 0;
    snprintf(text, sizeof(text), "{\"choices\":[],\"usage\":%s}", usage);
    assert_int_equal(read_text(a, &c, text), AXION_OK);
    assert_int_equal(c.usage.data != NULL, a->has_usage && !a->bounded);
}


/* What cannot be is cut down; what is there for form's sake is none. */
static void
test_usage(void **state)
{
    struct axion_parsed parsed = {.n_answers = 3};
    struct axion_remote_answer a = {0};

    (void)state;
    axion_remote_bound(&a, 1000, 10, 0, &parsed);
    usage_of(&a, "{\"prompt_tokens\":5096,\"completion_tokens\":30}");
    assert_true(a.has_usage && !a.bounded);
    usage_of(&a, "{\"prompt_tokens\":5097,\"completion_tokens\":31,"
                 "\"prompt_tokens_details\":{\"cached_tokens\":9999}}");
    assert_true(a.has_usage && a.bounded);
    assert_int_equal(a.prompt_tokens, 5096);
    assert_int_equal(a.completion_tokens, 30);
    assert_int_equal(a.cached_tokens, 5096);
    assert_int_equal(a.told[0], 5097);
    assert_int_equal(a.told[1], 31);
    axion_remote_bound(&a, 1000, 0, 200, &parsed);
    usage_of(&a, "{\"prompt_tokens\":601,\"completion_tokens\":601}");
    assert_int_equal(a.prompt_tokens, 600);
    assert_int_equal(a.completion_tokens, 600);
    parsed.n_media = UINT32_MAX;
    axion_remote_bound(&a, SIZE_MAX / 2, UINT32_MAX, 0, &parsed);
    assert_int_equal(a.prompt_max, AXION_REMOTE_TOKENS_MAX);
    assert_int_equal(a.completion_max, AXION_REMOTE_TOKENS_MAX);
    usage_of(&a, "{}");
    assert_false(a.has_usage);
    usage_of(&a, "{\"prompt_tokens\":null,\"completion_tokens\":7}");
    assert_false(a.has_usage);
    usage_of(&a, "{\"prompt_tokens\":0,\"completion_tokens\":7}");
    assert_false(a.has_usage);
}


static uint32_t
floor_of(const char *body, enum axion_request_kind kind, uint32_t n_ids)
{
    struct axion_parsed parsed = {.kind = kind, .n_tokens = n_ids};
    int echoed;

    return axion_floor_prompt(body, strlen(body), &parsed, &echoed);
}


/* Nothing that a server might leave out is taken for proved. */
static void
test_floor_of_a_prompt(void **state)
{
    static const char text[] = "0123456789abcdef0123456789abcdef";
    struct axion_parsed parsed = {.kind = AXION_REQUEST_COMPLETION};
    char body[512];
    int echoed;

    (void)state;
    snprintf(body, sizeof(body),
             "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"},"
             "{\"role\":\"assistant\",\"content\":\"%s\"},"
             "{\"role\":\"system\",\"content\":[{\"text\":\"%s\"},{},3]},"
             "7]}",
             text, text, text);
    assert_int_equal(floor_of(body, AXION_REQUEST_CHAT, 0), 4);
    snprintf(body, sizeof(body),
             "{\"prompt\":[\"%s\",\"%s\",[1,2,3]],\"truncation\":null}",
             text, text);
    assert_int_equal(floor_of(body, AXION_REQUEST_COMPLETION, 3), 7);
    snprintf(body, sizeof(body),
             "{\"prompt\":\"%s\",\"truncate_prompt_tokens\":1}", text);
    assert_int_equal(floor_of(body, AXION_REQUEST_COMPLETION, 0), 0);
    assert_int_equal(
        floor_of("{\"prompt\":\"                                        "
                 "\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n\\n\"}",
                 AXION_REQUEST_COMPLETION, 0),
        0);
    assert_int_equal(floor_of("{\"prompt\":\"────────────────────────────────"
                              "\u3000\u3000\u3000\u3000\u3000\u3000xäa\"}",
                              AXION_REQUEST_COMPLETION, 0),
                     0);
    assert_int_equal(
        floor_of("{\"prompt\":\"äöäöäöäö\"}", AXION_REQUEST_COMPLETION, 0), 1);
    assert_int_equal(floor_of("none", AXION_REQUEST_COMPLETION, 0), 0);
    assert_int_equal(floor_of("{}", AXION_REQUEST_CHAT, 0), 0);
    snprintf(body, sizeof(body), "{\"prompt\":\"%s\",\"echo\":true}", text);
    assert_int_equal(axion_floor_prompt(body, strlen(body), &parsed, &echoed),
                     2);
    assert_int_equal(echoed, 1);
    assert_int_equal(floor_of("{\"echo\":false,\"prompt\":\"\"}",
                              AXION_REQUEST_COMPLETION, 0),
                     0);
}


static void
settled(struct axion_remote_answer *a, uint32_t prompt, uint32_t completion,
        int raised)
{
    axion_remote_settle(a);
    assert_int_equal(a->prompt_tokens, prompt);
    assert_int_equal(a->completion_tokens, completion);
    assert_int_equal(a->raised, raised);
    assert_true(a->cached_tokens <= prompt);
}


/* Too little is raised to what is proved, and never beyond what can be. */
static void
test_usage_too_little(void **state)
{
    struct axion_remote_answer a = {.prompt_max = 50, .completion_max = 9,
                                    .prompt_min = 20};
    struct axion_remote_chunk c;
    int i;

    (void)state;
    for (i = 0; i < 3; i++)
        assert_int_equal(
            read_text(&a, &c,
                      "{\"choices\":[{\"delta\":{\"content\":\"x\"}},"
                      "{\"delta\":{\"reasoning\":\"y\",\"reasoning_content\":"
                      "\"y\"}}],\"usage\":{\"prompt_tokens\":20,"
                      "\"completion_tokens\":9}}"),
            AXION_OK);
    assert_int_equal(a.text_bytes, 6);
    settled(&a, 20, 9, 0);
    assert_int_equal(read_text(&a, &c,
                               "{\"choices\":[],\"usage\":{\"prompt_tokens\":"
                               "1,\"completion_tokens\":2,"
                               "\"prompt_tokens_details\":"
                               "{\"cached_tokens\":1}}}"),
                     AXION_OK);
    assert_null(c.usage.data);
    settled(&a, 20, 3, 1);
    assert_int_equal(a.told[0], 1);
    assert_int_equal(a.told[1], 2);
    a.text_bytes = 16 * 5;
    settled(&a, 20, 5, 1);
    a.echoed = 1;
    settled(&a, 20, 2, 1);
    a.echoed = 0;
    a.text_bytes = UINT64_MAX;
    a.prompt_min = UINT32_MAX;
    settled(&a, 50, 9, 1);
    a.believed = 1;
    settled(&a, 1, 2, 0);
}


static int
is_too_long(const char *text)
{
    struct axion_remote_answer a = {0};

    axion_remote_read_error(&a, text, strlen(text));
    return a.too_long;
}


/* OpenAI, llama-server, vLLM and SGLang say it each in its own way. */
static void
test_too_long(void **state)
{
    (void)state;
    assert_true(is_too_long("{\"error\":{\"message\":\"m\",\"code\":"
                            "\"context_length_exceeded\"}}"));
    assert_true(is_too_long("{\"error\":{\"code\":400,\"message\":\"m\","
                            "\"type\":\"exceed_context_size_error\"}}"));
    assert_true(is_too_long("{\"object\":\"error\",\"message\":\"This "
                            "model's maximum context length is 9 tokens.\"}"));
    assert_true(is_too_long("{\"error\":\"longer than the model's context "
                            "length (9 tokens)\"}"));
    assert_false(is_too_long("{\"error\":{\"message\":\"m\",\"code\":400}}"));
    assert_false(is_too_long("context length"));
}


/* Of a body in which `%s` is 1,000 bytes: is it counted as text? */
static int
counts(enum axion_request_kind kind, const char *format, uint32_t n_media)
{
    static char hidden[1001], body[4096];
    struct axion_parse_options options = {.payload_bytes_max = 65536,
                                          .remote = 1};
    struct axion_parsed parsed;
    struct axion_failure failure;
    struct test_memory memory;

    memset(hidden, 'A', sizeof(hidden) - 1);
    snprintf(body, sizeof(body), format, hidden);
    test_memory_init(&memory);
    assert_int_equal(axion_request_parse(&parsed, kind, body, strlen(body),
                                         &options, &memory.memory, &failure),
                     AXION_OK);
    test_memory_free(&memory);
    assert_int_equal(parsed.n_media, n_media);
    if (parsed.n_tokens == 0 && parsed.remote_only)
        assert_int_equal(parsed.payload_bytes, parsed.text_bytes);
    return parsed.text_bytes >= 1000;
}


#define CHAT(parts)                                                            \
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":["          \
    "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:,\"}}," parts       \
    "]}]}"

/* Whatever is no payload of a picture, sound or file is, by any name. */
static void
test_prompt_bytes(void **state)
{
    static const char *const texts[] = {
        CHAT("{\"type\":\"text\",\"text\":\"%s\"}"),
        CHAT("{\"type\":\"input_text\",\"text\":\"%s\"}"),
        CHAT("{\"type\":\"output_text\",\"text\":\"%s\"}"),
        CHAT("{\"type\":\"thinking\",\"thinking\":\"%s\"}"),
        CHAT("{\"text\":\"%s\"}"),
        CHAT("\"%s\""),
    };
    static const char *const beside[] = {
        CHAT("{\"type\":\"image_url\",\"text\":\"%s\"}"),
        CHAT("{\"type\":\"image_url\",\"image_url\":{\"text\":\"%s\"}}"),
        CHAT("{\"type\":\"image_url\",\"url\":\"%s\"}"),
        CHAT("{\"type\":\"poem\",\"poem\":\"%s\"}"),
        CHAT("{\"type\":\"file\",\"file\":[\"%s\"]}"),
    };
    static const char *const payloads[] = {
        CHAT("{\"type\":\"image_url\",\"image_url\":{\"url\":\"%s\"}}"),
        CHAT("{\"type\":\"image_url\",\"image_url\":\"%s\"}"),
        CHAT("{\"type\":\"input_image\",\"image_url\":\"%s\"}"),
        CHAT("{\"type\":\"input_audio\",\"input_audio\":{\"data\":\"%s\"}}"),
        CHAT("{\"type\":\"video_url\",\"video_url\":{\"url\":\"%s\"}}"),
        CHAT("{\"type\":\"file\",\"file\":{\"file_data\":\"%s\"}}"),
        CHAT("{\"type\":\"input_file\",\"file_data\":\"%s\"}"),
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_true(counts(AXION_REQUEST_CHAT, texts[i], 1));
    for (i = 0; i < sizeof(beside) / sizeof(beside[0]); i++)
        assert_true(counts(AXION_REQUEST_CHAT, beside[i], 2));
    for (i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++)
        assert_false(counts(AXION_REQUEST_CHAT, payloads[i], 2));
    assert_true(counts(AXION_REQUEST_CHAT,
                       "{\"model\":\"m\",\"messages\":[{\"role\":\"user\","
                       "\"content\":\"\",\"reasoning_content\":\"%s\"}]}",
                       0));
    assert_true(counts(AXION_REQUEST_COMPLETION,
                       "{\"model\":\"m\",\"prompt\":[1],\"suffix\":\"%s\"}",
                       0));
    assert_true(counts(AXION_REQUEST_COMPLETION,
                       "{\"model\":\"m\",\"prompt\":[1],"
                       "\"prompt_embeds\":[\"%s\"]}",
                       0));
    assert_true(counts(AXION_REQUEST_COMPLETION,
                       "{\"model\":\"m\",\"prompt\":[[1],[2,\"%s\"]]}", 0));
    assert_true(counts(AXION_REQUEST_COMPLETION,
                       "{\"model\":\"m\",\"prompt\":[[1],\"%s\"]}", 0));
    assert_true(counts(AXION_REQUEST_COMPLETION,
                       "{\"model\":\"m\",\"prompt\":[[1],{\"a\":\"%s\"}]}", 0));
    assert_true(counts(AXION_REQUEST_COMPLETION,
                       "{\"model\":\"m\",\"prompt\":[[1],[2,[\"%s\"]]]}", 0));
    assert_false(counts(AXION_REQUEST_COMPLETION,
                        "{\"model\":\"m\",\"prompt\":[1],\"echo\":true,"
                        "\"x\":\"%s\"}",
                        0));
}


static int
collect(void *context, const char *data, size_t bytes)
{
    strncat(context, "<", 2);
    strncat(context, data, bytes);
    strncat(context, ">", 2);
    return AXION_OK;
}


/* However it is cut, and with every kind of line end. */
static void
test_events(void **state)
{
    static const char text[] =
        "\xef\xbb\xbf: c\ndata: one\n\ndata:two\r\ndata\r\ndata:  x\r\n\r\n"
        "event: e\rid: 7\rdata: three\r\rdatas: no\n\n\ndata: cut off";
    const size_t bytes = sizeof(text) - 1;
    struct test_memory memory;
    size_t i;

    (void)state;
    test_memory_init(&memory);
    for (i = 0; i <= bytes; i++) {
        struct axion_sse sse;
        char got[256] = "";

        axion_sse_open(&sse, &memory.memory, 4096);
        assert_int_equal(axion_sse_feed(&sse, text, i, collect, got),
                         AXION_OK);
        assert_int_equal(
            axion_sse_feed(&sse, text + i, bytes - i, collect, got), AXION_OK);
        assert_string_equal(got, "<one><two\n\n x><three>");
    }
    test_memory_free(&memory);
}


static void
test_event_too_long(void **state)
{
    struct test_memory memory;
    struct axion_sse sse;
    char line[100];
    int error = AXION_OK, i;

    (void)state;
    test_memory_init(&memory);
    memset(line, 'x', sizeof(line));
    axion_sse_open(&sse, &memory.memory, 1000);
    for (i = 0; i < 20 && error == AXION_OK; i++)
        error = axion_sse_feed(&sse, line, sizeof(line), collect, NULL);
    assert_int_equal(error, AXION_ERR_PAYLOAD_TOO_LARGE);
    assert_int_equal(i, 11);
    test_memory_free(&memory);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request), cmocka_unit_test(test_judged),
        cmocka_unit_test(test_text),    cmocka_unit_test(test_read),
        cmocka_unit_test(test_events),  cmocka_unit_test(test_event_too_long),
        cmocka_unit_test(test_answers), cmocka_unit_test(test_usage),
        cmocka_unit_test(test_floor_of_a_prompt),
        cmocka_unit_test(test_usage_too_little),
        cmocka_unit_test(test_too_long), cmocka_unit_test(test_prompt_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
