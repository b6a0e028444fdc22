/*
 * Shows what names a prompt's beginning (and what does not), that engines
 * share prefixes out evenly and keep their own when another one leaves, and
 * that a renamed payload is the same request for another model.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "api/route.h"
#include "tests/api/harness.h"

#define TEXT_BYTES 8192

static struct test_memory memory;


static struct axion_parsed
parse(enum axion_request_kind kind, const char *body)
{
    struct axion_parsed parsed;
    struct axion_failure failure;

    assert_int_equal(test_parse(&memory, kind, body, 0, &parsed, &failure),
                     AXION_OK);
    return parsed;
}


/* `n` letters, every 64th one given, so that texts agree up to a place. */
static const char *
letters(char *text, size_t n, char every)
{
    size_t i;

    for (i = 0; i < n; i++)
        text[i] = i % 64 == 63 ? every : 'x';
    text[n] = '\0';
    return text;
}


static uint64_t
chat(size_t n_system, const char *user, const char *rest)
{
    static char text[TEXT_BYTES], body[2 * TEXT_BYTES];
    struct axion_parsed parsed;

    snprintf(body, sizeof(body),
             "{\"model\":\"m\",\"messages\":[{\"role\":\"system\","
             "\"content\":\"%s\"},{\"role\":\"user\",\"content\":\"%s\"}%s]}",
             letters(text, n_system, 'a'), user, rest);
    parsed = parse(AXION_REQUEST_CHAT, body);
    return axion_route_prefix(&parsed, 4096);
}


static uint64_t
completion(size_t n, char every, const char *tail, size_t bytes_max)
{
    static char text[TEXT_BYTES], body[2 * TEXT_BYTES];
    struct axion_parsed parsed;

    snprintf(body, sizeof(body), "{\"model\":\"m\",\"prompt\":\"%s%s\"}",
             letters(text, n, every), tail);
    parsed = parse(AXION_REQUEST_COMPLETION, body);
    return axion_route_prefix(&parsed, bytes_max);
}


static void
test_turns_of_a_conversation_agree(void **state)
{
    uint64_t first = chat(400, "hello", "");

    (void)state;
    assert_int_not_equal(first, 0);
    assert_int_equal(chat(400, "hello",
                          ",{\"role\":\"assistant\",\"content\":\"hi\"}"
                          ",{\"role\":\"user\",\"content\":\"and now?\"}"),
                     first);
    assert_int_not_equal(chat(400, "goodbye", ""), first);
    assert_int_not_equal(chat(401, "hello", ""), first);
    /* beyond what is looked at */
    assert_int_equal(chat(4200, "hello", ""), chat(4200, "goodbye", ""));
}


static void
test_short_prompts_have_none(void **state)
{
    (void)state;
    assert_int_equal(chat(20, "hello", ""), 0);
    assert_int_equal(completion(255, 'a', "", 4096), 0);
    assert_int_not_equal(completion(256, 'a', "", 4096), 0);
}


static void
test_completions_agree_in_what_they_share(void **state)
{
    (void)state;
    assert_int_equal(completion(512, 'a', "one", 4096),
                     completion(512, 'a', "another", 4096));
    assert_int_equal(completion(6000, 'a', "one", 4096),
                     completion(5000, 'a', "another", 4096));
    assert_int_not_equal(completion(512, 'a', "", 4096),
                         completion(512, 'b', "", 4096));
    assert_int_not_equal(completion(512, 'a', "", 4096),
                         completion(512, 'a', "", 256));
}


static void
test_realms_do_not_agree(void **state)
{
    static char text[TEXT_BYTES], body[2 * TEXT_BYTES];
    struct axion_request_head head;
    struct axion_parsed parsed;
    uint64_t one;

    (void)state;
    snprintf(body, sizeof(body), "{\"model\":\"m\",\"prompt\":\"%s\"}",
             letters(text, 600, 'a'));
    parsed = parse(AXION_REQUEST_COMPLETION, body);
    one = axion_route_prefix(&parsed, 4096);
    memcpy(&head, parsed.payload, sizeof(head));
    head.cache_salt[3] ^= 1;
    memcpy((uint8_t *)parsed.payload, &head, sizeof(head));
    assert_int_not_equal(axion_route_prefix(&parsed, 4096), one);
}


#define ENGINES  5
#define PREFIXES 20000

static unsigned
heaviest(uint64_t prefix, unsigned without)
{
    uint64_t weight, most = 0;
    unsigned i, best = ENGINES;

    for (i = 0; i < ENGINES; i++) {
        if (i == without)
            continue;
        weight = axion_route_weight(prefix, 0x9e3779b97f4a7c15u * (i + 1));
        if (best == ENGINES || weight > most) {
            best = i;
            most = weight;
        }
    }
    return best;
}


static void
test_engines_share_evenly_and_keep_their_own(void **state)
{
    unsigned counts[ENGINES] = {0};
    unsigned i, best;

    (void)state;
    for (i = 0; i < PREFIXES; i++) {
        uint64_t prefix = 0xd1342543de82ef95u * (i + 1);

        best = heaviest(prefix, ENGINES);
        counts[best]++;
        if (best != 2)
            assert_int_equal(heaviest(prefix, 2), best);
    }
    for (i = 0; i < ENGINES; i++)
        assert_in_range(counts[i], PREFIXES / ENGINES * 9 / 10,
                        PREFIXES / ENGINES * 11 / 10);
}


static void
test_renamed(void **state)
{
    struct axion_parsed parsed =
        parse(AXION_REQUEST_CHAT,
              "{\"model\":\"first\",\"max_tokens\":7,\"stop\":[\"end\"],"
              "\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}");
    static const char *const names[] = {"a", "12345678", "a longer name / x"};
    struct axion_request_view view;
    struct axion_text part;
    size_t i, cursor;

    (void)state;
    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct axion_text model = {names[i], (uint32_t)strlen(names[i])};

        assert_int_equal(
            axion_route_rename(&parsed, &model, &memory.memory), AXION_OK);
        assert_ptr_equal(parsed.served.data, names[i]);
        assert_memory_equal(parsed.model.data, "first", 6);
        test_decode(&parsed, &view);
        assert_int_equal(view.model.bytes, model.bytes);
        assert_memory_equal(view.model.data, model.data, model.bytes);
        assert_int_equal(view.head.max_tokens, 7);
        assert_int_equal(view.n_messages, 1);
        assert_int_equal(view.n_stops, 1);
        cursor = 0;
        assert_int_equal(axion_request_next_part(&view, &cursor, &part),
                         AXION_SECTION_ROLE);
        assert_int_equal(axion_request_next_part(&view, &cursor, &part),
                         AXION_SECTION_TEXT);
        assert_memory_equal(part.data, "hello", 5);
    }
}


static void
test_no_memory_changes_nothing(void **state)
{
    struct axion_parsed parsed = parse(AXION_REQUEST_COMPLETION,
                                       "{\"model\":\"m\",\"prompt\":\"p\"}");
    const uint8_t *payload = parsed.payload;
    struct axion_text model = {"n", 1};

    (void)state;
    memory.fail_at = 1;
    assert_int_equal(axion_route_rename(&parsed, &model, &memory.memory),
                     AXION_ERR_NO_MEMORY);
    memory.fail_at = 0;
    assert_ptr_equal(parsed.payload, payload);
    assert_int_equal(parsed.served.data[0], 'm');
}


static int
setup(void **state)
{
    (void)state;
    test_memory_init(&memory);
    return 0;
}


static int
teardown(void **state)
{
    (void)state;
    test_memory_free(&memory);
    return 0;
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(test_turns_of_a_conversation_agree),
        T(test_short_prompts_have_none),
        T(test_completions_agree_in_what_they_share),
        T(test_realms_do_not_agree),
        T(test_engines_share_evenly_and_keep_their_own),
        T(test_renamed),
        T(test_no_memory_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
