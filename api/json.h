/*
 * Writing JSON straight into an output.  axion_json_escape() is the part
 * that the token path uses: runs of plain bytes are copied, quotes,
 * backslashes and controls escaped, malformed UTF-8 becomes U+FFFD.
 *
 * struct axion_json is a small writer for objects that are not hot (status):
 * it puts the commas.  `key` is NULL inside arrays and for the outermost
 * value.  Nesting is bounded by AXION_JSON_WRITER_DEPTH, asserted.
 */
#ifndef AXION_API_JSON_H
#define AXION_API_JSON_H

#include <stddef.h>
#include <stdint.h>
#include "api/memory.h"
#include "api/metrics.h"

/* An escaped byte never takes more than this many ("\u0001"). */
#define AXION_JSON_ESCAPE_MAX   6u
#define AXION_JSON_WRITER_DEPTH 16u

/* Without the quotes. */
void axion_json_escape(struct axion_out *out, const char *text, size_t bytes);
/* With them. */
void axion_json_quote(struct axion_out *out, const char *text, size_t bytes);

struct axion_json {
    struct axion_out *out;
    unsigned depth;
    char closers[AXION_JSON_WRITER_DEPTH];
    uint8_t comma[AXION_JSON_WRITER_DEPTH];
};

void axion_json_init(struct axion_json *json, struct axion_out *out);
void axion_json_object(struct axion_json *json, const char *key);
void axion_json_array(struct axion_json *json, const char *key);
void axion_json_close(struct axion_json *json);
void axion_json_u64(struct axion_json *json, const char *key, uint64_t value);
void axion_json_decimal(struct axion_json *json, const char *key, double value,
                        int decimals);
void axion_json_bool(struct axion_json *json, const char *key, int value);
void axion_json_null(struct axion_json *json, const char *key);
void axion_json_text(struct axion_json *json, const char *key, const char *text,
                     size_t bytes);
void axion_json_string(struct axion_json *json, const char *key,
                       const char *text);

/* "loading", "ready", "draining", "failed", "unknown". */
const char *axion_engine_state_name(uint32_t state);

/* One engine's object, for axion_status: address, state, pid, load, KV,
 * counters, models. */
void axion_json_engine(struct axion_json *json, const char *key,
                       const struct axion_engine_view *engine);

#endif
