/*
 * Shows that accepted bodies arrive in the payload as they were meant: every
 * field, its default, its aliases, and the texts byte for byte.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/api/harness.h"

struct accepted {
    struct test_memory memory;
    struct axion_parsed parsed;
    struct axion_request_view view;
    size_t cursor;
};


static void
accept(struct accepted *a, enum axion_request_kind kind, const char *body)
{
    struct axion_failure failure;

    test_memory_init(&a->memory);
    a->cursor = 0;
    if (test_parse(&a->memory, kind, body, 0, &a->parsed, &failure) !=
        AXION_OK)
        fail_msg("%s: %s (%s)", body, failure.message, failure.param);
    test_decode(&a->parsed, &a->view);
    assert_int_equal(a->view.head.kind, kind);
}


static void
accept_chat(struct accepted *a, const char *fields)
{
    char body[4096];

    snprintf(body, sizeof(body),
             "{\"model\":\"m\",\"messages\":[{\"role\":\"user\","
             "\"content\":\"hi\"}]%s%s}",
             fields[0] ? "," : "", fields);
    accept(a, AXION_REQUEST_CHAT, body);
}


static void
accept_prompt(struct accepted *a, const char *prompt)
{
    char body[4096];

    snprintf(body, sizeof(body), "{\"model\":\"m\",\"prompt\":%s}", prompt);
    accept(a, AXION_REQUEST_COMPLETION, body);
}


static void
release(struct accepted *a)
{
    test_memory_free(&a->memory);
}


static void
assert_part(struct accepted *a, unsigned tag, const char *text, size_t bytes)
{
    struct axion_text part;

    assert_int_equal(axion_request_next_part(&a->view, &a->cursor, &part),
                     tag);
    assert_int_equal(part.bytes, bytes);
    assert_memory_equal(part.data, text, bytes);
}


static void
assert_text_part(struct accepted *a, unsigned tag, const char *text)
{
    assert_part(a, tag, text, strlen(text));
}


static void
assert_parts_end(struct accepted *a)
{
    struct axion_text part;

    assert_int_equal(axion_request_next_part(&a->view, &a->cursor, &part),
                     0);
}


static void
test_defaults(void **state)
{
    struct accepted a;

    (void) state;
    accept_chat(&a, "");
    assert_int_equal(a.view.head.flags, 0);
    assert_int_equal(a.view.head.max_tokens, 0);
    assert_true(a.view.head.temperature == 1.0f);
    assert_true(a.view.head.top_p == 1.0f);
    assert_true(a.view.head.min_p == 0.0f);
    assert_int_equal(a.view.head.top_k, 0);
    assert_true(a.view.head.repetition_penalty == 1.0f);
    assert_true(a.view.head.presence_penalty == 0.0f);
    assert_true(a.view.head.frequency_penalty == 0.0f);
    assert_int_equal(a.view.n_stops, 0);
    assert_int_equal(a.view.n_logit_bias, 0);
    assert_false(a.parsed.stream);
    assert_false(a.parsed.include_usage);
    assert_null(a.parsed.user.data);
    assert_string_equal(a.parsed.model.data, "m");
    assert_int_equal(a.view.model.bytes, 1);
    release(&a);
}


static void
test_identity_comes_from_the_options(void **state)
{
    struct accepted a;

    (void) state;
    accept_chat(&a, "\"priority\":0,\"tenant\":1,\"cache_salt\":\"x\","
                    "\"deadline_ms\":9");
    assert_int_equal(a.view.head.tenant, 77);
    assert_int_equal(a.view.head.priority, 2);
    assert_int_equal(a.view.head.deadline_ms, 0);
    axion_parsed_deadline(&a.parsed, 1234);
    test_decode(&a.parsed, &a.view);
    assert_int_equal(a.view.head.deadline_ms, 1234);
    assert_memory_equal(a.view.head.cache_salt, "0123456789abcde", 16);
    release(&a);
}


static void
test_every_field(void **state)
{
    struct accepted a;
    struct axion_logit_bias bias;

    (void) state;
    accept_chat(&a, "\"max_tokens\":17,\"temperature\":0.5,\"top_p\":0.25,"
                    "\"top_k\":40,\"min_p\":0.125,"
                    "\"repetition_penalty\":1.5,\"presence_penalty\":-2,"
                    "\"frequency_penalty\":2,\"stop\":[\"a\",\"bc\"],"
                    "\"seed\":-1,\"stream\":true,"
                    "\"stream_options\":{\"include_usage\":true},\"n\":1,"
                    "\"ignore_eos\":true,\"logit_bias\":{\"7\":-100},"
                    "\"user\":\"u\",\"metadata\":{\"k\":\"v\"}");
    assert_int_equal(a.view.head.max_tokens, 17);
    assert_int_equal(a.parsed.max_tokens, 17);
    assert_true(a.view.head.temperature == 0.5f);
    assert_true(a.view.head.top_p == 0.25f);
    assert_int_equal(a.view.head.top_k, 40);
    assert_true(a.view.head.min_p == 0.125f);
    assert_true(a.view.head.repetition_penalty == 1.5f);
    assert_true(a.view.head.presence_penalty == -2.0f);
    assert_true(a.view.head.frequency_penalty == 2.0f);
    assert_int_equal(a.view.n_stops, 2);
    assert_memory_equal(a.view.stops[1].data, "bc", 2);
    assert_true(a.view.head.seed == UINT64_MAX);
    assert_int_equal(a.view.head.flags, AXION_REQUEST_STREAM |
                                            AXION_REQUEST_SEED |
                                            AXION_REQUEST_IGNORE_EOS);
    assert_true(a.parsed.stream);
    assert_true(a.parsed.include_usage);
    assert_int_equal(a.view.n_logit_bias, 1);
    memcpy(&bias, a.view.logit_bias, sizeof(bias));
    assert_int_equal(bias.token, 7);
    assert_true(bias.bias == -100.0f);
    assert_string_equal(a.parsed.user.data, "u");
    release(&a);
}


static void
test_aliases_and_which_wins(void **state)
{
    struct accepted a;

    (void) state;
    accept_chat(&a, "\"max_completion_tokens\":5,\"max_tokens\":9,"
                    "\"repeat_penalty\":1.25");
    assert_int_equal(a.view.head.max_tokens, 5);
    assert_true(a.view.head.repetition_penalty == 1.25f);
    release(&a);
    accept_chat(&a, "\"repetition_penalty\":1.5,\"repeat_penalty\":1.25,"
                    "\"top_k\":-1,\"max_tokens\":3.0");
    assert_true(a.view.head.repetition_penalty == 1.5f);
    assert_int_equal(a.view.head.top_k, 0);
    assert_int_equal(a.view.head.max_tokens, 3);
    release(&a);
}


static void
test_null_is_not_given(void **state)
{
    struct accepted a;

    (void) state;
    accept_chat(&a, "\"max_tokens\":null,\"temperature\":null,"
                    "\"stop\":null,\"stream\":null,\"stream_options\":null,"
                    "\"n\":null,\"logit_bias\":null,\"user\":null,"
                    "\"metadata\":null,\"tools\":null,"
                    "\"response_format\":null,\"modalities\":null,"
                    "\"logprobs\":null,\"seed\":null");
    assert_int_equal(a.view.head.flags, 0);
    release(&a);
}


static void
test_harmless_values_of_unsupported_fields(void **state)
{
    static const char *const fields[] = {
        "\"tools\":[]", "\"tool_choice\":\"auto\"", "\"functions\":[]",
        "\"function_call\":\"none\"", "\"logprobs\":false",
        "\"top_logprobs\":0", "\"n\":1",
        "\"response_format\":{\"type\":\"text\"}",
        "\"modalities\":[\"text\"]", "\"audio\":null",
        "\"typical_p\":1.0", "\"mirostat\":0", "\"min_tokens\":0",
        "\"add_generation_prompt\":true", "\"guided_json\":null",
        "\"chat_template_kwargs\":{}", "\"stop\":[]", "\"logit_bias\":{}",
        "\"parallel_tool_calls\":true", "\"store\":true",
        "\"service_tier\":\"auto\"", "\"nobody_knows\":[{\"a\":[1e3]}]"};
    struct accepted a;
    size_t i;

    (void) state;
    for (i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        accept_chat(&a, fields[i]);
        release(&a);
    }
}


static void
test_messages_in_order(void **state)
{
    struct accepted a;

    (void) state;
    accept(&a, AXION_REQUEST_CHAT,
           "{\"model\":\"m\",\"messages\":["
           "{\"role\":\"developer\",\"content\":\"rules\"},"
           "{\"content\":[{\"type\":\"text\",\"text\":\"one\"},"
           "{\"text\":\"\",\"type\":\"text\"}],\"role\":\"user\","
           "\"name\":\"ann\"},"
           "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[],"
           "\"refusal\":null}]}");
    assert_int_equal(a.parsed.n_messages, 3);
    assert_int_equal(a.view.n_messages, 3);
    assert_text_part(&a, AXION_SECTION_ROLE, "system");
    assert_text_part(&a, AXION_SECTION_TEXT, "rules");
    assert_text_part(&a, AXION_SECTION_ROLE, "user");
    assert_text_part(&a, AXION_SECTION_NAME, "ann");
    assert_text_part(&a, AXION_SECTION_TEXT, "one");
    assert_text_part(&a, AXION_SECTION_TEXT, "");
    assert_text_part(&a, AXION_SECTION_ROLE, "assistant");
    assert_text_part(&a, AXION_SECTION_TEXT, "");
    assert_parts_end(&a);
    release(&a);
}


static void
test_text_is_kept_byte_for_byte(void **state)
{
    struct accepted a;

    (void) state;
    accept(&a, AXION_REQUEST_CHAT,
           "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":"
           "\"a\\u0000b \\ud83d\\ude00 \xf0\x9f\x98\x80 \\n\\t\\\"\\\\ "
           "<|im_start|>system \xef\xbf\xbd\"}]}");
    assert_text_part(&a, AXION_SECTION_ROLE, "user");
    static const char text[] = "a\0b \xf0\x9f\x98\x80 \xf0\x9f\x98\x80 \n\t\""
                               "\\ <|im_start|>system \xef\xbf\xbd";
    assert_part(&a, AXION_SECTION_TEXT, text, sizeof(text) - 1);
    release(&a);
}


static void
test_prompts(void **state)
{
    static const char *const texts[] = {"\"hi\"", "[\"hi\"]"};
    static const char *const ids[] = {"[1,2,2147483647]",
                                      "[[1,2,2147483647]]"};
    static const uint32_t expected[] = {1, 2, 2147483647};
    struct accepted a;
    size_t i;

    (void) state;
    for (i = 0; i < 2; i++) {
        accept_prompt(&a, texts[i]);
        assert_int_equal(a.view.prompt.bytes, 2);
        assert_memory_equal(a.view.prompt.data, "hi", 2);
        release(&a);
        accept_prompt(&a, ids[i]);
        assert_true(a.view.has_tokens);
        assert_int_equal(a.view.n_tokens, 3);
        assert_memory_equal(a.view.tokens, expected, sizeof(expected));
        release(&a);
    }
}


static void
test_long_texts_grow_the_payload(void **state)
{
    size_t bytes = 900u << 10;
    char *body = malloc(bytes + 256);
    struct axion_failure failure;
    struct accepted a;
    size_t n;

    (void) state;
    assert_non_null(body);
    n = (size_t) sprintf(body, "{\"model\":\"m\",\"prompt\":\"");
    memset(body + n, 'x', bytes);
    strcpy(body + n + bytes, "\",\"max_tokens\":1}");
    test_memory_init(&a.memory);
    assert_int_equal(test_parse(&a.memory, AXION_REQUEST_COMPLETION, body, 0,
                                &a.parsed, &failure),
                     AXION_OK);
    test_decode(&a.parsed, &a.view);
    assert_int_equal(a.view.prompt.bytes, bytes);
    /* One payload, hardly larger than the body: no doubling from small. */
    assert_true(a.memory.bytes < bytes + (64u << 10));
    release(&a);
    free(body);
}


static void
test_ids_grow_the_payload(void **state)
{
    size_t n_ids = 100000, n, i;
    char *body = malloc(2 * n_ids + 256);
    struct axion_failure failure;
    struct accepted a;

    (void) state;
    assert_non_null(body);
    n = (size_t) sprintf(body, "{\"model\":\"m\",\"prompt\":[");
    for (i = 0; i < n_ids; i++)
        n += (size_t) sprintf(body + n, i ? ",%zu" : "%zu", i % 10);
    strcpy(body + n, "]}");
    test_memory_init(&a.memory);
    assert_int_equal(test_parse(&a.memory, AXION_REQUEST_COMPLETION, body, 0,
                                &a.parsed, &failure),
                     AXION_OK);
    test_decode(&a.parsed, &a.view);
    assert_int_equal(a.view.n_tokens, n_ids);
    release(&a);
    free(body);
}


static void
test_memory_may_end_anywhere(void **state)
{
    static const char body[] =
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":"
        "\"hi\"}],\"user\":\"u\",\"logit_bias\":{\"1\":1}}";
    struct axion_failure failure;
    struct accepted a;
    size_t n;

    (void) state;
    for (n = 1;; n++) {
        int error;

        test_memory_init(&a.memory);
        a.memory.fail_at = n;
        error = test_parse(&a.memory, AXION_REQUEST_CHAT, body, 0, &a.parsed,
                           &failure);
        release(&a);
        if (error == AXION_OK)
            break;
        assert_int_equal(error, AXION_ERR_NO_MEMORY);
    }
    assert_true(n > 3);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_identity_comes_from_the_options),
        cmocka_unit_test(test_every_field),
        cmocka_unit_test(test_aliases_and_which_wins),
        cmocka_unit_test(test_null_is_not_given),
        cmocka_unit_test(test_harmless_values_of_unsupported_fields),
        cmocka_unit_test(test_messages_in_order),
        cmocka_unit_test(test_text_is_kept_byte_for_byte),
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_long_texts_grow_the_payload),
        cmocka_unit_test(test_ids_grow_the_payload),
        cmocka_unit_test(test_memory_may_end_anywhere),
    };

    return cmocka_run_group_tests_name("api request", tests, NULL, NULL);
}
