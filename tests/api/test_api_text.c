/*
 * Shows the texts that are not answers: errors as body and as event, model
 * lists, metrics, the JSON writer of the status page, numbers.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "api/error.h"
#include "api/json.h"
#include "api/metrics.h"
#include "api/models.h"

static char room[1 << 16];


static void
assert_text(const struct axion_out *out, const char *text)
{
    assert_int_equal(axion_out_status(out), AXION_OK);
    if (out->bytes != strlen(text) || memcmp(out->data, text, out->bytes))
        fail_msg("got %.*s, not %s", (int) out->bytes, out->data, text);
}


static void
start(struct axion_out *out)
{
    axion_out_fixed(out, room, sizeof(room));
}


static void
test_error_body_and_event(void **state)
{
    struct axion_failure failure;
    struct axion_out out;

    (void) state;
    axion_failure_set(&failure, AXION_ERR_INVALID_TYPE, "messages[0].role",
                      "%s \"%d\"", "bad", 5);
    assert_int_equal(axion_failure_status(&failure), 400);
    start(&out);
    axion_failure_body(&out, &failure);
    assert_text(&out, "{\"error\":{\"message\":\"bad \\\"5\\\"\","
                      "\"type\":\"invalid_request_error\","
                      "\"param\":\"messages[0].role\","
                      "\"code\":\"invalid_type\"}}\n");
    axion_failure_set(&failure, AXION_ERR_QUEUE_FULL, NULL, NULL);
    start(&out);
    axion_failure_sse(&out, &failure);
    assert_text(&out, "data: {\"error\":{\"message\":\"the engine's queue is "
                      "full\",\"type\":\"server_error\",\"param\":null,"
                      "\"code\":\"overloaded\"}}\n\n");
}


/* Every error of the table gives a body with four keys. */
static void
test_every_error_renders(void **state)
{
    const struct axion_error_info *info;
    unsigned i;

    (void) state;
    for (i = 0; (info = axion_error_at(i)) != NULL; i++) {
        struct axion_failure failure;
        struct axion_out out;
        json_t *body;

        axion_failure_event(&failure, info->number, 0, NULL, 0);
        start(&out);
        axion_failure_body(&out, &failure);
        body = json_loadb(out.data, out.bytes, 0, NULL);
        assert_non_null(body);
        assert_int_equal(
            json_object_size(json_object_get(body, "error")), 4);
        json_decref(body);
    }
    assert_true(i > 30);
}


static void
test_long_messages_are_cut_between_characters(void **state)
{
    static char text[3 * 1000 + 1];
    struct axion_failure failure;
    size_t i;

    (void) state;
    for (i = 0; i < 1000; i++)
        memcpy(text + 3 * i, "\xe2\x82\xac", 3);
    for (i = 0; i < 3; i++) {
        axion_failure_set(&failure, AXION_ERR_INVALID_VALUE, text + 3 * i,
                          "%.*s%s", (int) i, "xy", text);
        assert_true(axion_utf8_valid(failure.message,
                                     strlen(failure.message)));
        assert_true(axion_utf8_valid(failure.param, strlen(failure.param)));
        assert_non_null(strstr(failure.message, "..."));
        assert_true(strlen(failure.message) > AXION_MESSAGE_BYTES - 8);
        axion_failure_event(&failure, AXION_ERR_INTERNAL, 0, text + i,
                            sizeof(text) - 1 - i);
        assert_true(strlen(failure.message) < AXION_MESSAGE_BYTES);
    }
}


static void
test_retry_after(void **state)
{
    struct axion_failure failure;

    (void) state;
    axion_failure_set(&failure, AXION_ERR_RATE_LIMITED, NULL, NULL);
    assert_int_equal(axion_retry_after_seconds(&failure), 1);
    failure.retry_after_ms = 1;
    assert_int_equal(axion_retry_after_seconds(&failure), 1);
    failure.retry_after_ms = 1000;
    assert_int_equal(axion_retry_after_seconds(&failure), 1);
    failure.retry_after_ms = 1001;
    assert_int_equal(axion_retry_after_seconds(&failure), 2);
    failure.retry_after_ms = UINT32_MAX - 1;
    assert_int_equal(axion_retry_after_seconds(&failure), 4294968);
    failure.retry_after_ms = AXION_RETRY_NEVER;
    assert_int_equal(axion_retry_after_seconds(&failure), 0);
    failure.error = AXION_ERR_INVALID_JSON;
    assert_int_equal(axion_retry_after_seconds(&failure), 0);
}


static void
test_numbers(void **state)
{
    static const struct {
        double value;
        int decimals;
        const char *text;
    } decimals[] = {
        {0, 0, "0"},           {1.5, 0, "2"},       {1.25, 2, "1.25"},
        {-1.5, 1, "-1.5"},     {0.0004, 3, "0.000"}, {-0.0001, 3, "0.000"},
        {999.9996, 3, "1000.000"}, {NAN, 3, "0.000"}, {INFINITY, 1, "0.0"},
        {1e300, 1, "1000000000000.0"}, {1.000001, 9, "1.000001"},
    };
    static const struct {
        uint64_t ms;
        const char *text;
    } durations[] = {
        {0, "0ms"},       {12, "12ms"},     {999, "999ms"},
        {1000, "1s"},     {1500, "1.500s"}, {59000, "59s"},
        {360000, "6m0s"}, {3600000, "1h0m0s"},
    };
    struct axion_out out;
    size_t i;

    (void) state;
    start(&out);
    axion_out_u64(&out, UINT64_MAX);
    assert_text(&out, "18446744073709551615");
    for (i = 0; i < sizeof(decimals) / sizeof(decimals[0]); i++) {
        start(&out);
        axion_out_decimal(&out, decimals[i].value, decimals[i].decimals);
        assert_text(&out, decimals[i].text);
    }
    for (i = 0; i < sizeof(durations) / sizeof(durations[0]); i++) {
        start(&out);
        axion_out_duration(&out, durations[i].ms);
        assert_text(&out, durations[i].text);
    }
}


static void
make_board(struct axion_board *board, const char *first, const char *second)
{
    memset(board, 0, sizeof(*board));
    board->state = AXION_ENGINE_READY;
    board->n_models = second != NULL ? 2 : 1;
    board->models[0].created = 5;
    board->models[0].context_tokens = 8192;
    memcpy(board->models[0].id, first, strlen(first));
    if (second != NULL)
        memcpy(board->models[1].id, second, strlen(second));
    board->running = 3;
    board->tokens_per_second_milli = 12345;
    board->step_us_total = 1500000;
    board->step_threads_total = 17;
}


#define MODEL_A                                                              \
    "{\"id\":\"a\",\"object\":\"model\",\"created\":5,"                      \
    "\"owned_by\":\"axion\",\"max_model_len\":8192}"


static void
test_models_are_listed_once(void **state)
{
    struct axion_board one, two;
    const struct axion_board *boards[] = {&one, &two};
    struct axion_text glob = {"a*", 2};
    struct axion_tenant tenant = {.models = &glob, .n_models = 1};
    struct axion_identity who = axion_identity_of(&tenant, NULL);
    struct axion_out out;

    (void) state;
    make_board(&one, "a", "b");
    make_board(&two, "a", NULL);
    start(&out);
    axion_models_list(&out, boards, 2, NULL);
    assert_text(&out, "{\"object\":\"list\",\"data\":[" MODEL_A
                      ",{\"id\":\"b\",\"object\":\"model\",\"created\":0,"
                      "\"owned_by\":\"axion\",\"max_model_len\":0}]}\n");
    start(&out);
    axion_models_list(&out, boards, 2, &who);
    assert_text(&out, "{\"object\":\"list\",\"data\":[" MODEL_A "]}\n");
    start(&out);
    axion_models_list(&out, boards, 0, NULL);
    assert_text(&out, "{\"object\":\"list\",\"data\":[]}\n");
    start(&out);
    assert_int_equal(axion_models_one(&out, boards, 2, &who, "a", 1),
                     AXION_OK);
    assert_text(&out, MODEL_A "\n");
    assert_int_equal(axion_models_one(&out, boards, 2, &who, "b", 1),
                     AXION_ERR_MODEL_NOT_FOUND);
    assert_int_equal(axion_models_one(&out, boards, 2, NULL, "c", 1),
                     AXION_ERR_MODEL_NOT_FOUND);
    assert_int_equal(axion_models_one(&out, boards, 2, NULL, "", 0),
                     AXION_ERR_MODEL_NOT_FOUND);
}


/* Names of a tenant's own: listed where something stands behind them that it
 * may use, and found one by one; patterns are found only. */
static void
test_aliases_are_models(void **state)
{
    struct axion_board board;
    const struct axion_board *boards[] = {&board};
    struct axion_text glob = {"a*", 2};
    struct axion_alias aliases[] = {
        {{"x", 1}, {"a", 1}},  {{"y", 1}, {"b", 1}}, /* not allowed */
        {{"z", 1}, {"az", 2}},                       /* not there */
        {{"x", 1}, {"b", 1}},                        /* behind the first */
        {{"a", 1}, {"a", 1}},  {{"g*", 2}, {"a", 1}},
    };
    struct axion_tenant tenant = {
        .models = &glob, .n_models = 1, .aliases = aliases, .n_aliases = 6};
    struct axion_identity who = axion_identity_of(&tenant, NULL);
    static const char *const hidden[] = {"y", "z", "b"};
    struct axion_out out;
    size_t i;

    (void) state;
    make_board(&board, "a", "b");
    start(&out);
    axion_models_list(&out, boards, 1, &who);
    assert_text(&out, "{\"object\":\"list\",\"data\":[" MODEL_A
                      ",{\"id\":\"x\",\"object\":\"model\",\"created\":5,"
                      "\"owned_by\":\"axion\",\"max_model_len\":8192}]}\n");
    start(&out);
    assert_int_equal(axion_models_one(&out, boards, 1, &who, "gpt", 3),
                     AXION_OK);
    for (i = 0; i < 3; i++)
        assert_int_equal(axion_models_one(&out, boards, 1, &who, hidden[i], 1),
                         AXION_ERR_MODEL_NOT_FOUND);
    aliases[4].model.data = "b"; /* hides the model of that name */
    start(&out);
    assert_int_equal(axion_models_one(&out, boards, 1, &who, "a", 1),
                     AXION_ERR_MODEL_NOT_FOUND);
}


/* The engine may write what it likes: no terminator, any count. */
static void
test_hostile_board_stays_in_bounds(void **state)
{
    static struct axion_board board;
    const struct axion_board *boards[] = {&board};
    struct axion_engine_view view = {.board = &board};
    struct axion_json json;
    struct axion_out out;

    (void) state;
    memset(&board, 0xff, sizeof(board));
    start(&out);
    axion_models_list(&out, boards, 1, NULL);
    assert_int_equal(axion_out_status(&out), AXION_OK);
    start(&out);
    axion_metrics_engines(&out, &view, 1);
    assert_int_equal(axion_out_status(&out), AXION_OK);
    start(&out);
    axion_json_init(&json, &out);
    axion_json_engine(&json, NULL, &view);
    assert_int_equal(axion_out_status(&out), AXION_OK);
}


static void
test_metrics(void **state)
{
    static const uint64_t bounds[] = {1000, 2500000};
    static const uint64_t counts[] = {2, 3, 4};
    struct axion_label labels[] = {
        {"tenant", {"a\"b\\c\nd\xff", 8}}};
    struct axion_out out;

    (void) state;
    start(&out);
    axion_metric_head(&out, "x_total", AXION_COUNTER, "Help.");
    axion_metric_u64(&out, "x_total", labels, 1, 7);
    axion_metric_decimal(&out, "y", NULL, 0, 1.5, 2);
    assert_text(&out, "# HELP x_total Help.\n# TYPE x_total counter\n"
                      "x_total{tenant=\"a\\\"b\\\\c\\nd\xef\xbf\xbd\"} 7\n"
                      "y 1.50\n");
    start(&out);
    labels[0].value.bytes = 1;
    axion_metric_histogram_us(&out, "t", labels, 1, bounds, 2, counts,
                              1250000);
    assert_text(&out, "t_bucket{tenant=\"a\",le=\"0.001000\"} 2\n"
                      "t_bucket{tenant=\"a\",le=\"2.500000\"} 5\n"
                      "t_bucket{tenant=\"a\",le=\"+Inf\"} 9\n"
                      "t_sum{tenant=\"a\"} 1.250000\n"
                      "t_count{tenant=\"a\"} 9\n");
    start(&out);
    axion_metric_histogram_u64(&out, "n", NULL, 0, bounds, 1, counts, 1250);
    assert_text(&out, "n_bucket{le=\"1000\"} 2\n"
                      "n_bucket{le=\"+Inf\"} 5\n"
                      "n_sum 1250\n"
                      "n_count 5\n");
}


static void
test_engine_metrics(void **state)
{
    struct axion_board board;
    struct axion_engine_view views[] = {
        {{"llm", 3}, {"unix:/a", 7}, &board, NULL},
        {{"llm", 3}, {"unix:/b", 7}, NULL, NULL},
    };
    struct axion_out out;

    (void) state;
    make_board(&board, "a", NULL);
    start(&out);
    axion_metrics_engines(&out, views, 2);
    room[out.bytes] = '\0';
    assert_non_null(strstr(
        room, "axion_engine_up{upstream=\"llm\",engine=\"unix:/a\"} 1\n"
              "axion_engine_up{upstream=\"llm\",engine=\"unix:/b\"} 0\n"));
    assert_non_null(strstr(room, "axion_engine_requests_running{upstream="
                                 "\"llm\",engine=\"unix:/a\"} 3\n"));
    assert_non_null(strstr(room, "axion_engine_decode_tokens_per_second{"
                                 "upstream=\"llm\",engine=\"unix:/a\"} "
                                 "12.345\n"));
    assert_non_null(strstr(room, "axion_engine_step_seconds_total{upstream="
                                 "\"llm\",engine=\"unix:/a\"} 1.500000\n"));
    assert_non_null(strstr(room, "axion_engine_step_threads_total{upstream="
                                 "\"llm\",engine=\"unix:/a\"} 17\n"));
    assert_non_null(strstr(room, "{upstream=\"llm\",engine=\"unix:/a\","
                                 "model=\"a\"} 8192\n"));
    assert_null(strstr(room, "running{upstream=\"llm\",engine=\"unix:/b\""));
}


/* Of the engine that keeps a profile alone, under one head each. */
static void
test_engine_costs(void **state)
{
    static struct axion_costs costs = {
        .n = 2,
        .n_ops = 2,
        .ops = {"attention", "ffn \"down\""},
        .costs = {{.layer = 0, .op = 0, .ns = 1500000000, .bytes = 7},
                  {.layer = 1023, .op = 1, .operations = UINT64_MAX}}};
    struct axion_board board;
    struct axion_engine_view views[] = {
        {{"llm", 3}, {"unix:/a", 7}, &board, &costs},
        {{"llm", 3}, {"unix:/b", 7}, &board, NULL},
    };
    struct axion_out out;

    (void) state;
    make_board(&board, "a", NULL);
    start(&out);
    axion_metrics_engines(&out, views, 2);
    room[out.bytes] = '\0';
    assert_non_null(strstr(
        room, "# TYPE axion_engine_op_seconds_total counter\n"
              "axion_engine_op_seconds_total{upstream=\"llm\","
              "engine=\"unix:/a\",layer=\"0\",op=\"attention\"} 1.500000\n"
              "axion_engine_op_seconds_total{upstream=\"llm\","
              "engine=\"unix:/a\",layer=\"1023\",op=\"ffn \\\"down\\\"\"} "
              "0.000000\n# HELP axion_engine_op_bytes_total "));
    assert_non_null(strstr(room, "layer=\"0\",op=\"attention\"} 7\n"));
    assert_non_null(strstr(room, "down\\\"\"} 18446744073709551615\n"));
    assert_null(strstr(room, "engine=\"unix:/b\",layer"));
}


/* Many engines that keep one do not take the page away from all others. */
static void
test_engine_costs_in_bounds(void **state)
{
    enum { ENGINES = 64, REST = 1 << 20 };
    static struct axion_costs costs = {.n = AXION_COSTS_MAX, .n_ops = 1};
    static struct axion_board board;
    struct axion_engine_view views[ENGINES];
    struct axion_out out;
    const char *at;
    uint32_t i;
    int found = 0;
    size_t size = AXION_METRICS_COSTS_BYTES + REST;
    char *page = malloc(size);

    (void) state;
    assert_non_null(page);
    make_board(&board, "a", NULL);
    memset(costs.ops[0], 0xff, AXION_COST_OP_BYTES - 1); /* grows by most */
    for (i = 0; i < AXION_COSTS_MAX; i++)
        costs.costs[i] =
            (struct axion_cost){i, 0, UINT64_MAX, UINT64_MAX, UINT64_MAX};
    for (i = 0; i < ENGINES; i++)
        views[i] = (struct axion_engine_view){
            {"llm", 3}, {i == 0 ? "unix:/a" : "unix:/b", 7}, &board, &costs};
    axion_out_fixed(&out, page, size - 1);
    axion_metrics_engines(&out, views, ENGINES);
    assert_int_equal(axion_out_status(&out), AXION_OK);
    page[out.bytes] = '\0';
    for (at = page; (at = strstr(at, "unix:/a\",layer=\"1023\"")) != NULL; at++)
        found++;
    assert_int_equal(found, 3);
    free(page);
}


static void
test_json_writer(void **state)
{
    struct axion_json json;
    struct axion_out out;

    (void) state;
    start(&out);
    axion_json_init(&json, &out);
    axion_json_object(&json, NULL);
    axion_json_array(&json, "a");
    axion_json_close(&json);
    axion_json_array(&json, "b");
    axion_json_u64(&json, NULL, 1);
    axion_json_object(&json, NULL);
    axion_json_null(&json, "n");
    axion_json_close(&json);
    axion_json_bool(&json, NULL, 1);
    axion_json_close(&json);
    axion_json_string(&json, "s\"", "x\n");
    axion_json_decimal(&json, "d", 0.5, 1);
    axion_json_close(&json);
    assert_text(&out, "{\"a\":[],\"b\":[1,{\"n\":null},true],"
                      "\"s\\\"\":\"x\\n\",\"d\":0.5}");
}


static void
test_engine_status(void **state)
{
    struct axion_board board;
    struct axion_engine_view up = {{"llm", 3}, {"unix:/a", 7}, &board, NULL};
    struct axion_engine_view down = {{"llm", 3}, {"unix:/b", 7}, NULL, NULL};
    struct axion_json json;
    struct axion_out out;
    const char *address, *status, *id;
    int running;
    json_t *parsed;

    (void) state;
    make_board(&board, "a", NULL);
    start(&out);
    axion_json_init(&json, &out);
    axion_json_engine(&json, NULL, &up);
    parsed = json_loadb(out.data, out.bytes, 0, NULL);
    assert_int_equal(json_unpack(parsed, "{s:s,s:s,s:i,s:[{s:s}]}",
                                 "address", &address, "state", &status,
                                 "running", &running, "models", "id", &id),
                     0);
    assert_string_equal(status, "ready");
    assert_int_equal(running, 3);
    assert_string_equal(id, "a");
    json_decref(parsed);
    start(&out);
    axion_json_init(&json, &out);
    axion_json_engine(&json, NULL, &down);
    assert_text(&out,
                "{\"address\":\"unix:/b\",\"state\":\"unavailable\"}");
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error_body_and_event),
        cmocka_unit_test(test_every_error_renders),
        cmocka_unit_test(test_long_messages_are_cut_between_characters),
        cmocka_unit_test(test_retry_after),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_models_are_listed_once),
        cmocka_unit_test(test_aliases_are_models),
        cmocka_unit_test(test_hostile_board_stays_in_bounds),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_engine_metrics),
        cmocka_unit_test(test_engine_costs),
        cmocka_unit_test(test_engine_costs_in_bounds),
        cmocka_unit_test(test_json_writer),
        cmocka_unit_test(test_engine_status),
    };

    return cmocka_run_group_tests_name("api text", tests, NULL, NULL);
}
