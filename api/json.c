/*
 * JSON output.  The escaper looks at eight bytes at a time while they are
 * plain ASCII, which is what nearly all tokens are; the writer below it is
 * for status pages and only saves its callers the commas.
 */
#include "api/json.h"

#include <assert.h>
#include <string.h>
#include "api/models.h"
#include "shm/utf8.h"

#define ONES  0x0101010101010101ull
#define HIGHS 0x8080808080808080ull


/* Nonzero when one of the eight bytes is a control, a quote, a backslash or
 * not ASCII.  A byte x below n gives a borrow in x - n; bytes with the high
 * bit are caught by `word` itself, so borrows across bytes only make a word
 * take the careful path, never the fast one wrongly. */
static inline uint64_t
word_needs_care(uint64_t word)
{
    uint64_t quote = word ^ (ONES * '"');
    uint64_t backslash = word ^ (ONES * '\\');

    return (word | (word - ONES * 0x20) | (quote - ONES) | (backslash - ONES)) &
           HIGHS;
}


static size_t
plain_run(const char *text, size_t bytes)
{
    size_t i = 0;

    while (bytes - i >= 8) {
        uint64_t word;

        memcpy(&word, text + i, 8);
        if (word_needs_care(word))
            break;
        i += 8;
    }
    while (i < bytes) {
        unsigned char c = (unsigned char)text[i];
        unsigned n = 1;

        if (c < 0x20 || c == '"' || c == '\\')
            break;
        if (c >= 0x80) {
            n = axion_utf8_step((const unsigned char *)text + i, bytes - i);
            if (n == 0)
                break;
        }
        i += n;
    }
    return i;
}


static void
escape_one(struct axion_out *out, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    char text[6] = {'\\', 'u', '0', '0', 0, 0};

    switch (c) {
    case '"':
        axion_out_bytes(out, "\\\"", 2);
        return;
    case '\\':
        axion_out_bytes(out, "\\\\", 2);
        return;
    case '\n':
        axion_out_bytes(out, "\\n", 2);
        return;
    case '\r':
        axion_out_bytes(out, "\\r", 2);
        return;
    case '\t':
        axion_out_bytes(out, "\\t", 2);
        return;
    default:
        break;
    }
    if (c >= 0x80) {
        axion_out_bytes(out, "\xef\xbf\xbd", 3); /* U+FFFD */
        return;
    }
    text[4] = hex[c >> 4];
    text[5] = hex[c & 15];
    axion_out_bytes(out, text, 6);
}


void
axion_json_escape(struct axion_out *out, const char *text, size_t bytes)
{
    size_t i = 0;

    while (i < bytes) {
        size_t run = plain_run(text + i, bytes - i);

        axion_out_bytes(out, text + i, run);
        i += run;
        if (i < bytes)
            escape_one(out, (unsigned char)text[i++]);
    }
}


void
axion_json_quote(struct axion_out *out, const char *text, size_t bytes)
{
    axion_out_bytes(out, "\"", 1);
    axion_json_escape(out, text, bytes);
    axion_out_bytes(out, "\"", 1);
}


void
axion_json_init(struct axion_json *json, struct axion_out *out)
{
    memset(json, 0, sizeof(*json));
    json->out = out;
}


static void
json_key(struct axion_json *json, const char *key)
{
    if (json->depth > 0) {
        uint8_t *comma = &json->comma[json->depth - 1];

        if (*comma)
            axion_out_bytes(json->out, ",", 1);
        *comma = 1;
    }
    if (key != NULL) {
        axion_json_quote(json->out, key, strlen(key));
        axion_out_bytes(json->out, ":", 1);
    }
}


static void
json_open(struct axion_json *json, const char *key, const char *pair)
{
    assert(json->depth < AXION_JSON_WRITER_DEPTH);
    json_key(json, key);
    axion_out_bytes(json->out, pair, 1);
    json->closers[json->depth] = pair[1];
    json->comma[json->depth] = 0;
    json->depth++;
}


void
axion_json_object(struct axion_json *json, const char *key)
{
    json_open(json, key, "{}");
}


void
axion_json_array(struct axion_json *json, const char *key)
{
    json_open(json, key, "[]");
}


void
axion_json_close(struct axion_json *json)
{
    assert(json->depth > 0);
    json->depth--;
    axion_out_bytes(json->out, &json->closers[json->depth], 1);
}


void
axion_json_u64(struct axion_json *json, const char *key, uint64_t value)
{
    json_key(json, key);
    axion_out_u64(json->out, value);
}


void
axion_json_decimal(struct axion_json *json, const char *key, double value,
                   int decimals)
{
    json_key(json, key);
    axion_out_decimal(json->out, value, decimals);
}


void
axion_json_bool(struct axion_json *json, const char *key, int value)
{
    json_key(json, key);
    axion_out_text(json->out, value ? "true" : "false");
}


void
axion_json_null(struct axion_json *json, const char *key)
{
    json_key(json, key);
    axion_out_text(json->out, "null");
}


void
axion_json_text(struct axion_json *json, const char *key, const char *text,
                size_t bytes)
{
    json_key(json, key);
    axion_json_quote(json->out, text, bytes);
}


void
axion_json_string(struct axion_json *json, const char *key, const char *text)
{
    axion_json_text(json, key, text, strlen(text));
}


const char *
axion_engine_state_name(uint32_t state)
{
    switch (state) {
    case AXION_ENGINE_LOADING:
        return "loading";
    case AXION_ENGINE_READY:
        return "ready";
    case AXION_ENGINE_DRAINING:
        return "draining";
    case AXION_ENGINE_FAILED:
        return "failed";
    default:
        return "unknown";
    }
}


static void
json_engine_load(struct axion_json *json, const struct axion_board *board)
{
    axion_json_u64(json, "running", board->running);
    axion_json_u64(json, "waiting", board->waiting);
    axion_json_u64(json, "parked", board->parked);
    axion_json_u64(json, "batch_max", board->batch_max);
    axion_json_u64(json, "kv_blocks_total", board->kv_blocks_total);
    axion_json_u64(json, "kv_blocks_used", board->kv_blocks_used);
    axion_json_u64(json, "kv_blocks_cached", board->kv_blocks_cached);
    axion_json_u64(json, "kv_block_tokens", board->kv_block_tokens);
    axion_json_u64(json, "kv_bytes", board->kv_bytes);
    axion_json_u64(json, "weight_bytes", board->weight_bytes);
    axion_json_u64(json, "resident_bytes", board->resident_bytes);
    axion_json_u64(json, "load_us", board->load_us);
    axion_json_decimal(json, "tokens_per_second",
                       board->tokens_per_second_milli / 1e3, 3);
    axion_json_decimal(json, "prefill_tokens_per_second",
                       board->prefill_per_second_milli / 1e3, 3);
    axion_json_u64(json, "steps", board->steps);
}


static void
json_engine_counters(struct axion_json *json, const struct axion_board *board)
{
    axion_json_u64(json, "requests_total", board->requests_total);
    axion_json_u64(json, "requests_refused", board->requests_refused);
    axion_json_u64(json, "requests_done", board->requests_done);
    axion_json_u64(json, "requests_cancelled", board->requests_cancelled);
    axion_json_u64(json, "requests_failed", board->requests_failed);
    axion_json_u64(json, "prompt_tokens_total", board->prompt_tokens_total);
    axion_json_u64(json, "cached_tokens_total", board->cached_tokens_total);
    axion_json_u64(json, "completion_tokens_total",
                   board->completion_tokens_total);
}


static void
json_engine_models(struct axion_json *json, const struct axion_board *board)
{
    uint32_t i;

    axion_json_array(json, "models");
    for (i = 0; i < board->n_models && i < AXION_MODELS_MAX; i++) {
        const struct axion_board_model *model = &board->models[i];

        axion_json_object(json, NULL);
        axion_json_text(json, "id", model->id, axion_board_model_bytes(model));
        axion_json_u64(json, "context_tokens", model->context_tokens);
        axion_json_u64(json, "vocabulary", model->vocabulary);
        axion_json_u64(json, "parameters", model->parameters);
        axion_json_close(json);
    }
    axion_json_close(json);
}


void
axion_json_engine(struct axion_json *json, const char *key,
                  const struct axion_engine_view *engine)
{
    const struct axion_board *board = engine->board;

    axion_json_object(json, key);
    axion_json_text(json, "address", engine->engine.data, engine->engine.bytes);
    if (board == NULL) {
        axion_json_string(json, "state", "unavailable");
        axion_json_close(json);
        return;
    }
    axion_json_string(json, "state", axion_engine_state_name(board->state));
    if (board->state == AXION_ENGINE_LOADING ||
        (board->state == AXION_ENGINE_READY && board->load_permille < 1000))
        axion_json_decimal(json, "loaded", board->load_permille / 1e3, 3);
    axion_json_u64(json, "pid", board->engine_pid);
    axion_json_u64(json, "started", board->started);
    json_engine_load(json, board);
    json_engine_counters(json, board);
    json_engine_models(json, board);
    axion_json_close(json);
}
