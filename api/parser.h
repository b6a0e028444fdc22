/*
 * What the files of the request parser share; internal to this folder.
 *
 *   request.c            entry: bytes → JSON → payload, in that order
 *   request_json.c       the JSON text itself: limits, duplicates, offsets
 *   request_scalars.c    fields with one value → the payload's head
 *   request_messages.c   model, messages, prompt, stop, logit_bias → sections
 *   request_grammar.c    what the answer must be → one section
 *   request_unsupported.c  fields that OpenAI knows and Axion refuses
 *
 * Every function returns AXION_OK or the error that it put into
 * parser->failure.
 */
#ifndef AXION_API_PARSER_H
#define AXION_API_PARSER_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include "api/json_tree.h"
#include "api/request.h"

/* Which of the two endpoints knows a field. */
#define FOR_CHAT       (1u << AXION_REQUEST_CHAT)
#define FOR_COMPLETION (1u << AXION_REQUEST_COMPLETION)
#define FOR_BOTH       (FOR_CHAT | FOR_COMPLETION)

struct axion_parser {
    enum axion_request_kind kind;
    const struct axion_memory *memory;
    const struct axion_parse_options *options;
    struct axion_parsed *parsed;
    struct axion_failure *failure;
    struct axion_request_head head;
    struct axion_request_writer writer;
    const char *body; /* its bytes, as they came */
    size_t body_bytes;
    uint32_t n_parts;
    /* Where the walk is, and the path made of it when something is wrong:
     * making it for every message would cost more than checking it. */
    size_t message_index;
    size_t part_index;
    char path[AXION_PARAM_BYTES];
};

int axion_parse_fail(struct axion_parser *p, int error, const char *param,
                     const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* INVALID_TYPE: "PARAM must be WANTED, not a string". */
int axion_parse_wrong_type(struct axion_parser *p, const char *param,
                           const char *wanted, const json_t *value);

/* NULL also for a field that is null. */
json_t *axion_parse_get(const json_t *object, const char *name);

/* 1 when the string is exactly `text`, a NUL inside included. */
int axion_parse_is(const json_t *string, const char *text);

/* An integer, also written as 5.0, within [low, high]. */
int axion_parse_integer(struct axion_parser *p, const char *param,
                        const json_t *value, int64_t low, int64_t high,
                        int64_t *result);

/* The whole text → a tree that the caller frees. */
int axion_parse_json(struct axion_parser *p, const char *body, size_t bytes,
                     struct axion_json_tree *tree);
int axion_parse_scalars(struct axion_parser *p, const json_t *root);
int axion_parse_unsupported(struct axion_parser *p, json_t *root);
/* After the head: writes the sections. */
int axion_parse_sections(struct axion_parser *p, const json_t *root);
/* Behind these: the section of what the answer must be, if it is said. */
int axion_parse_grammar(struct axion_parser *p, const json_t *root);
/* Behind the sections, if remote_only: what of the body's `bytes` is text. */
void axion_parse_bytes(struct axion_parser *p, const json_t *root,
                       size_t bytes);

#endif
