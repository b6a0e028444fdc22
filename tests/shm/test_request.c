/* The payload of a SUBMIT: what is encoded is decoded, every malformed field
 * is refused with its name, and no cut or changed byte is read past. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "shm/errors.h"
#include "shm/request.h"

struct fixture {
    struct axion_request_writer w;
    struct axion_request_head head;
    int grows_left; /* grow() fails when it is 0 */
};


static void *
grow(void *context, void *data, size_t old, size_t bytes)
{
    struct fixture *f = context;

    (void)old;
    if (f->grows_left == 0) {
        return NULL;
    }
    f->grows_left--;
    return realloc(data, bytes);
}


static void
start(struct fixture *f, enum axion_request_kind kind)
{
    memset(f, 0, sizeof(*f));
    f->grows_left = 1000;
    f->w.grow = grow;
    f->w.context = f;
    f->w.bytes_max = 1 << 20;
    f->head = (struct axion_request_head){
        .kind = kind,
        .flags = AXION_REQUEST_STREAM | AXION_REQUEST_SEED,
        .seed = 42,
        .tenant = 7,
        .temperature = 1,
        .top_p = 0.9f,
        .repetition_penalty = 1,
        .max_tokens = 100,
        .priority = 1,
    };
    assert_int_equal(axion_request_begin(&f->w, &f->head), AXION_OK);
}


static void
add(struct fixture *f, enum axion_request_section tag, const char *text)
{
    assert_int_equal(axion_request_add(&f->w, tag, text, strlen(text)),
                     AXION_OK);
}


/* Decodes a copy that ends with its allocation, at an odd address. */
static int
decode(const void *data, size_t bytes, struct axion_request_view *view,
       char why[64])
{
    uint8_t *copy = malloc(bytes + 1);

    memcpy(copy + 1, data, bytes);
    int rc = axion_request_decode(view, copy + 1, bytes, why, 64);
    size_t cursor = 0;
    struct axion_text part;
    while (axion_request_next_part(view, &cursor, &part) != 0) {
        assert_true(cursor <= view->sections_bytes);
    }
    free(copy);
    return rc;
}


static void
finish(struct fixture *f, const char *expected)
{
    struct axion_request_view view;
    char why[64];

    assert_int_equal(axion_request_end(&f->w), AXION_OK);
    int rc = decode(f->w.data, f->w.bytes, &view, why);
    assert_string_equal(why, expected);
    assert_int_equal(rc, expected[0] == 0 ? AXION_OK : AXION_ERR_PROTOCOL);
    free(f->w.data);
}


static void
test_chat_round_trip(void **state)
{
    static const char *const parts[] = {"system",
                                        "be brief",
                                        "user",
                                        "bob",
                                        "Grüße",
                                        "",
                                        "second \xf0\x9f\x98\x80"};
    static const enum axion_request_section tags[] = {
        AXION_SECTION_ROLE, AXION_SECTION_TEXT, AXION_SECTION_ROLE,
        AXION_SECTION_NAME, AXION_SECTION_TEXT, AXION_SECTION_TEXT,
        AXION_SECTION_TEXT};
    const struct axion_logit_bias bias[2] = {{5, -100}, {6, 1.5f}};
    struct axion_request_view view;
    struct axion_text part;
    struct fixture f;
    size_t cursor = 0;
    char why[64];

    (void)state;
    start(&f, AXION_REQUEST_CHAT);
    add(&f, AXION_SECTION_MODEL, "smollm2");
    for (size_t i = 0; i < 7; i++) {
        add(&f, tags[i], parts[i]);
    }
    add(&f, AXION_SECTION_STOP, "\n\n");
    add(&f, AXION_SECTION_STOP, "END");
    assert_int_equal(
        axion_request_add(&f.w, AXION_SECTION_LOGIT_BIAS, bias, sizeof(bias)),
        AXION_OK);
    assert_int_equal(axion_request_end(&f.w), AXION_OK);

    assert_int_equal(
        axion_request_decode(&view, f.w.data, f.w.bytes, why, sizeof(why)),
        AXION_OK);
    assert_int_equal(view.head.seed, 42);
    assert_int_equal(view.head.n_sections, 11);
    assert_int_equal(view.head.bytes, f.w.bytes);
    assert_int_equal(view.model.bytes, 7);
    assert_memory_equal(view.model.data, "smollm2", 7);
    assert_int_equal(view.n_messages, 2);
    assert_int_equal(view.n_stops, 2);
    assert_memory_equal(view.stops[1].data, "END", 3);
    assert_int_equal(view.n_logit_bias, 2);
    assert_memory_equal(view.logit_bias, bias, sizeof(bias));
    assert_null(view.prompt.data);
    assert_false(view.has_tokens);
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(axion_request_next_part(&view, &cursor, &part),
                         tags[i]);
        assert_int_equal(part.bytes, strlen(parts[i]));
        assert_memory_equal(part.data, parts[i], part.bytes);
    }
    assert_int_equal(axion_request_next_part(&view, &cursor, &part), 0);
    assert_int_equal(axion_request_next_part(&view, &cursor, &part), 0);
    free(f.w.data);
}


static void
test_completion_round_trip(void **state)
{
    const uint32_t ids[3] = {1, 0, UINT32_MAX};
    struct axion_request_view view;
    struct fixture f;
    char why[64];

    (void)state;
    start(&f, AXION_REQUEST_COMPLETION);
    assert_int_equal(axion_request_add(&f.w, AXION_SECTION_PROMPT, "a\0b", 3),
                     AXION_OK);
    axion_request_end(&f.w);
    assert_int_equal(
        axion_request_decode(&view, f.w.data, f.w.bytes, why, sizeof(why)),
        AXION_OK);
    assert_int_equal(view.prompt.bytes, 3);

    assert_int_equal(axion_request_begin(&f.w, &f.head), AXION_OK);
    assert_int_equal(
        axion_request_add(&f.w, AXION_SECTION_TOKENS, ids, sizeof(ids)),
        AXION_OK);
    axion_request_end(&f.w);
    assert_int_equal(
        axion_request_decode(&view, f.w.data, f.w.bytes, why, sizeof(why)),
        AXION_OK);
    assert_int_equal(view.n_tokens, 3);
    assert_true(view.has_tokens);
    assert_memory_equal(view.tokens, ids, sizeof(ids));

    /* An empty prompt is a prompt: the engine names what is wrong with it. */
    assert_int_equal(axion_request_begin(&f.w, &f.head), AXION_OK);
    add(&f, AXION_SECTION_PROMPT, "");
    finish(&f, "");
}


static void
test_head_fields(void **state)
{
    struct {
        const char *why;
        size_t offset;
        float value;
    } const floats[] = {
#define FIELD(name) offsetof(struct axion_request_head, name)
        {"temperature", FIELD(temperature), -0.1f},
        {"temperature", FIELD(temperature), NAN},
        {"temperature", FIELD(temperature), INFINITY},
        {"temperature", FIELD(temperature), 101},
        {"top_p", FIELD(top_p), 0},
        {"top_p", FIELD(top_p), 1.01f},
        {"top_p", FIELD(top_p), NAN},
        {"min_p", FIELD(min_p), -0.01f},
        {"min_p", FIELD(min_p), 1.01f},
        {"repetition_penalty", FIELD(repetition_penalty), 0},
        {"repetition_penalty", FIELD(repetition_penalty), -1},
        {"repetition_penalty", FIELD(repetition_penalty), INFINITY},
        {"presence_penalty", FIELD(presence_penalty), 2.1f},
        {"presence_penalty", FIELD(presence_penalty), -2.1f},
        {"frequency_penalty", FIELD(frequency_penalty), NAN},
        {"frequency_penalty", FIELD(frequency_penalty), -3},
    };
    struct {
        const char *why;
        size_t offset;
        uint32_t value;
    } const words[] = {
        {"request version", FIELD(version), 0},
        {"request version", FIELD(version), 2},
        {"request bytes differ from the payload's", FIELD(bytes), 0},
        {"request bytes differ from the payload's", FIELD(bytes), UINT32_MAX},
        {"request kind", FIELD(kind), 0},
        {"request kind", FIELD(kind), 3},
        {"request flags", FIELD(flags), 16},
        {"top_logprobs", FIELD(top_logprobs), 21},
        {"priority", FIELD(priority), 3},
        {"number of sections", FIELD(n_sections), 1},
        {"number of sections", FIELD(n_sections), 3},
#undef FIELD
    };
    struct axion_request_view view;
    char why[64];

    (void)state;
    for (size_t i = 0; i < 16 + 11; i++) {
        struct fixture f;

        start(&f, AXION_REQUEST_CHAT);
        add(&f, AXION_SECTION_ROLE, "user");
        add(&f, AXION_SECTION_TEXT, "hello");
        axion_request_end(&f.w);
        if (i < 16) {
            memcpy(f.w.data + floats[i].offset, &floats[i].value, 4);
        } else {
            memcpy(f.w.data + words[i - 16].offset, &words[i - 16].value, 4);
        }
        assert_int_equal(decode(f.w.data, f.w.bytes, &view, why),
                         AXION_ERR_PROTOCOL);
        assert_string_equal(why, i < 16 ? floats[i].why : words[i - 16].why);
        free(f.w.data);
    }
}


static void
test_sections_out_of_place(void **state)
{
    static const char long_role[] = "123456789012345678901234567890123";
    char long_stop[AXION_STOP_BYTES_MAX + 2];
    struct fixture f;

    (void)state;
    memset(long_stop, 'x', sizeof(long_stop));
    long_stop[sizeof(long_stop) - 1] = 0;

    start(&f, AXION_REQUEST_CHAT);
    finish(&f, "chat without messages");
    start(&f, AXION_REQUEST_COMPLETION);
    finish(&f, "completion without a prompt");
    start(&f, AXION_REQUEST_CHAT);
    add(&f, AXION_SECTION_TEXT, "x");
    finish(&f, "message part without a role");
    start(&f, AXION_REQUEST_CHAT);
    add(&f, AXION_SECTION_NAME, "x");
    finish(&f, "message part without a role");
    start(&f, AXION_REQUEST_CHAT);
    add(&f, AXION_SECTION_ROLE, "");
    finish(&f, "role's length");
    start(&f, AXION_REQUEST_CHAT);
    add(&f, AXION_SECTION_ROLE, long_role);
    finish(&f, "role's length");
    start(&f, AXION_REQUEST_CHAT);
    add(&f, AXION_SECTION_ROLE, "user");
    add(&f, AXION_SECTION_NAME, "x");
    add(&f, AXION_SECTION_NAME, "y");
    finish(&f, "second name in a message");
    start(&f, AXION_REQUEST_CHAT);
    add(&f, AXION_SECTION_ROLE, "user");
    add(&f, AXION_SECTION_PROMPT, "x");
    finish(&f, "prompt in a chat");
    start(&f, AXION_REQUEST_COMPLETION);
    add(&f, AXION_SECTION_ROLE, "user");
    finish(&f, "message in a completion");
    start(&f, AXION_REQUEST_COMPLETION);
    add(&f, AXION_SECTION_PROMPT, "x");
    add(&f, AXION_SECTION_TOKENS, "1234");
    finish(&f, "second prompt");
    start(&f, AXION_REQUEST_COMPLETION);
    add(&f, AXION_SECTION_TOKENS, "");
    add(&f, AXION_SECTION_PROMPT, "x");
    finish(&f, "second prompt");
    start(&f, AXION_REQUEST_COMPLETION);
    add(&f, AXION_SECTION_TOKENS, "12345");
    finish(&f, "length of the token ids");
    start(&f, AXION_REQUEST_COMPLETION);
    add(&f, AXION_SECTION_MODEL, "a");
    add(&f, AXION_SECTION_MODEL, "b");
    finish(&f, "second model");
    start(&f, AXION_REQUEST_COMPLETION);
    add(&f, AXION_SECTION_STOP, "");
    finish(&f, "stop string's length");
    start(&f, AXION_REQUEST_COMPLETION);
    add(&f, AXION_SECTION_STOP, long_stop);
    finish(&f, "stop string's length");
    start(&f, AXION_REQUEST_COMPLETION);
    for (int i = 0; i < 5; i++) {
        add(&f, AXION_SECTION_STOP, "x");
    }
    finish(&f, "too many stop strings");
    start(&f, AXION_REQUEST_COMPLETION);
    add(&f, AXION_SECTION_PROMPT, "\xed\xa0\x80");
    finish(&f, "text is not UTF-8");
    start(&f, AXION_REQUEST_COMPLETION);
    add(&f, 99, "x");
    finish(&f, "unknown section");
    start(&f, AXION_REQUEST_COMPLETION);
    add(&f, 0, "");
    finish(&f, "unknown section");

    static const uint32_t context = 4096, none = 0;

    start(&f, AXION_REQUEST_CHAT);
    axion_request_add(&f.w, AXION_SECTION_CONTEXT, &context, 4);
    axion_request_add(&f.w, AXION_SECTION_CONTEXT, &context, 4);
    finish(&f, "second context");

    start(&f, AXION_REQUEST_CHAT);
    axion_request_add(&f.w, AXION_SECTION_CONTEXT, &context, 3);
    finish(&f, "context's length");

    start(&f, AXION_REQUEST_CHAT);
    axion_request_add(&f.w, AXION_SECTION_CONTEXT, &none, 4);
    finish(&f, "context of 0 tokens");

    static const uint32_t weight = AXION_WEIGHT_MAX,
                          more = AXION_WEIGHT_MAX + 1;

    start(&f, AXION_REQUEST_CHAT);
    axion_request_add(&f.w, AXION_SECTION_WEIGHT, &weight, 4);
    axion_request_add(&f.w, AXION_SECTION_WEIGHT, &weight, 4);
    finish(&f, "second weight");

    start(&f, AXION_REQUEST_CHAT);
    axion_request_add(&f.w, AXION_SECTION_WEIGHT, &weight, 2);
    finish(&f, "weight's length");

    start(&f, AXION_REQUEST_CHAT);
    axion_request_add(&f.w, AXION_SECTION_WEIGHT, &more, 4);
    finish(&f, "weight out of range");
}


static void
test_grammar(void **state)
{
    static char source[AXION_GRAMMAR_BYTES_MAX + 1];
    static const uint32_t kinds[][2] = {{0, 0}, {6, 0}, {1, 1}};
    static const char *const whole[] = {
        "root ::= \"ja\"", "{\"type\":\"string\"}", "", "[a-zä]+", "[\"a\"]"};
    struct axion_request_view view;
    struct fixture f;
    char why[64];

    (void)state;
    memset(source, 'x', sizeof(source));
    for (int kind = AXION_GRAMMAR_GBNF; kind <= AXION_GRAMMAR_CHOICE; kind++) {
        const char *text = whole[kind - 1];

        start(&f, AXION_REQUEST_COMPLETION);
        assert_int_equal(
            axion_request_add_grammar(&f.w, kind, text, strlen(text)),
            AXION_OK);
        add(&f, AXION_SECTION_PROMPT, "x");
        axion_request_end(&f.w);
        assert_int_equal(
            axion_request_decode(&view, f.w.data, f.w.bytes, why, sizeof(why)),
            AXION_OK);
        assert_int_equal(view.grammar_kind, kind);
        assert_int_equal(view.grammar.bytes, strlen(text));
        assert_memory_equal(view.grammar.data, text, strlen(text));
        free(f.w.data);
    }
    start(&f, AXION_REQUEST_COMPLETION);
    axion_request_add_grammar(&f.w, AXION_GRAMMAR_REGEX, "a", 1);
    axion_request_add_grammar(&f.w, AXION_GRAMMAR_JSON_OBJECT, "", 0);
    finish(&f, "second grammar");
    start(&f, AXION_REQUEST_COMPLETION);
    add(&f, AXION_SECTION_GRAMMAR, "1234567");
    finish(&f, "grammar's length");
    start(&f, AXION_REQUEST_COMPLETION);
    axion_request_add_grammar(&f.w, AXION_GRAMMAR_REGEX, "", 0);
    finish(&f, "grammar's length");
    start(&f, AXION_REQUEST_COMPLETION);
    axion_request_add_grammar(&f.w, AXION_GRAMMAR_JSON_OBJECT, "{}", 2);
    finish(&f, "grammar's length");
    start(&f, AXION_REQUEST_COMPLETION);
    axion_request_add_grammar(&f.w, AXION_GRAMMAR_GBNF, source, sizeof(source));
    finish(&f, "grammar's length");
    start(&f, AXION_REQUEST_COMPLETION);
    axion_request_add_grammar(&f.w, AXION_GRAMMAR_GBNF, "\xff", 1);
    finish(&f, "text is not UTF-8");
    for (size_t i = 0; i < 3; i++) {
        start(&f, AXION_REQUEST_COMPLETION);
        axion_request_add(&f.w, AXION_SECTION_GRAMMAR, kinds[i], 8);
        finish(&f, "grammar's kind");
    }
    start(&f, AXION_REQUEST_COMPLETION);
    assert_int_equal(axion_request_add_grammar(&f.w, AXION_GRAMMAR_GBNF, source,
                                               SIZE_MAX - 3),
                     AXION_ERR_PAYLOAD_TOO_LARGE);
    free(f.w.data);
}


static void
test_logit_bias(void **state)
{
    static struct axion_logit_bias many[AXION_LOGIT_BIAS_MAX + 1];
    const struct axion_logit_bias bad[] = {{1, NAN}, {1, 100.5f}, {1, -101}};
    struct fixture f;

    (void)state;
    start(&f, AXION_REQUEST_COMPLETION);
    add(&f, AXION_SECTION_LOGIT_BIAS, "1234567");
    finish(&f, "logit_bias length");
    start(&f, AXION_REQUEST_COMPLETION);
    axion_request_add(&f.w, AXION_SECTION_LOGIT_BIAS, many, sizeof(many));
    finish(&f, "logit_bias length");
    start(&f, AXION_REQUEST_COMPLETION);
    add(&f, AXION_SECTION_LOGIT_BIAS, "");
    add(&f, AXION_SECTION_LOGIT_BIAS, "");
    finish(&f, "second logit_bias");
    for (size_t i = 0; i < 3; i++) {
        start(&f, AXION_REQUEST_COMPLETION);
        axion_request_add(&f.w, AXION_SECTION_LOGIT_BIAS, &bad[i], 8);
        finish(&f, "logit_bias value");
    }
}


static void
test_too_many_messages(void **state)
{
    struct fixture f;

    (void)state;
    start(&f, AXION_REQUEST_CHAT);
    for (uint32_t i = 0; i < AXION_MESSAGES_MAX; i++) {
        add(&f, AXION_SECTION_ROLE, "user");
    }
    finish(&f, "");
    start(&f, AXION_REQUEST_CHAT);
    for (uint32_t i = 0; i <= AXION_MESSAGES_MAX; i++) {
        add(&f, AXION_SECTION_ROLE, "user");
    }
    finish(&f, "too many messages");
}


/* Each cut, with the head's length made to agree, and each single byte set to
 * several values: never read past the end (ASan), never more than views. */
static void
test_cut_and_changed(void **state)
{
    static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};
    struct axion_request_view view;
    struct fixture f;
    char why[64];

    (void)state;
    start(&f, AXION_REQUEST_CHAT);
    add(&f, AXION_SECTION_MODEL, "smollm2");
    add(&f, AXION_SECTION_ROLE, "user");
    add(&f, AXION_SECTION_TEXT, "hello w\xc3\xb6rld");
    add(&f, AXION_SECTION_STOP, "stop");
    axion_request_add_grammar(&f.w, AXION_GRAMMAR_REGEX, "w\xc3\xb6+", 4);
    axion_request_end(&f.w);

    for (size_t n = 0; n < f.w.bytes; n++) {
        uint8_t *cut = malloc(f.w.bytes);
        uint32_t bytes = (uint32_t)n;

        memcpy(cut, f.w.data, f.w.bytes);
        if (n >= sizeof(struct axion_request_head)) {
            memcpy(cut + offsetof(struct axion_request_head, bytes), &bytes, 4);
        }
        assert_int_equal(decode(cut, n, &view, why), AXION_ERR_PROTOCOL);
        free(cut);
    }
    for (size_t i = 0; i < f.w.bytes; i++) {
        uint8_t kept = f.w.data[i];
        for (size_t v = 0; v < sizeof(values); v++) {
            f.w.data[i] = values[v];
            decode(f.w.data, f.w.bytes, &view, why);
        }
        f.w.data[i] = kept;
    }
    assert_int_equal(decode(f.w.data, f.w.bytes, &view, why), AXION_OK);
    free(f.w.data);
}


static void
test_padding_must_be_zero(void **state)
{
    struct axion_request_view view;
    struct fixture f;
    char why[64];

    (void)state;
    start(&f, AXION_REQUEST_COMPLETION);
    add(&f, AXION_SECTION_PROMPT, "x");
    axion_request_end(&f.w);
    f.w.data[f.w.bytes - 1] = 1;
    assert_int_equal(decode(f.w.data, f.w.bytes, &view, why),
                     AXION_ERR_PROTOCOL);
    assert_string_equal(why, "section passes the payload's end");
    free(f.w.data);
}


static void
test_writer_limits(void **state)
{
    struct fixture f;
    char text[100] = {0};

    (void)state;
    start(&f, AXION_REQUEST_COMPLETION);
    f.w.bytes_max = f.w.bytes + 112;
    assert_int_equal(axion_request_add(&f.w, AXION_SECTION_PROMPT, text, 100),
                     AXION_OK);
    assert_int_equal(f.w.bytes, f.w.bytes_max);
    assert_int_equal(axion_request_add(&f.w, AXION_SECTION_STOP, text, 0),
                     AXION_ERR_PAYLOAD_TOO_LARGE);
    assert_int_equal(
        axion_request_add(&f.w, AXION_SECTION_STOP, text, SIZE_MAX - 3),
        AXION_ERR_PAYLOAD_TOO_LARGE);
    free(f.w.data);

    memset(&f, 0, sizeof(f));
    f.w.grow = grow;
    f.w.context = &f;
    f.w.bytes_max = 1 << 20;
    assert_int_equal(axion_request_begin(&f.w, &f.head), AXION_ERR_NO_MEMORY);
    f.w.bytes_max = 10;
    assert_int_equal(axion_request_begin(&f.w, &f.head),
                     AXION_ERR_PAYLOAD_TOO_LARGE);
}


static void
test_utf8(void **state)
{
    static const char *const good[] = {"",
                                       "ascii only, longer than eight",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xef\xbf\xbf",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       "1234567\xc3\xa4"};
    static const char *const bad[] = {"\x80",
                                      "\xbf",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xc2",
                                      "\xc2\x41",
                                      "\xe0\x9f\xbf",
                                      "\xe0\xa0",
                                      "\xed\xa0\x80",
                                      "\xed\xbf\xbf",
                                      "\xe1\x80\xc0",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "\xfe",
                                      "\xf0\x90\x80",
                                      "12345678\xc3",
                                      "\xc3\xa4\xa4"};

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(axion_utf8_valid(good[i], strlen(good[i])));
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(axion_utf8_valid(bad[i], strlen(bad[i])));
    }
    assert_true(axion_utf8_valid("a\0b", 3));
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat_round_trip),
        cmocka_unit_test(test_completion_round_trip),
        cmocka_unit_test(test_head_fields),
        cmocka_unit_test(test_sections_out_of_place),
        cmocka_unit_test(test_grammar),
        cmocka_unit_test(test_logit_bias),
        cmocka_unit_test(test_too_many_messages),
        cmocka_unit_test(test_cut_and_changed),
        cmocka_unit_test(test_padding_must_be_zero),
        cmocka_unit_test(test_writer_limits),
        cmocka_unit_test(test_utf8),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
