/*
 * The payload of a SUBMIT: one request, already parsed and validated by the
 * gateway, encoded without JSON.  A fixed head, then sections
 * {u32 tag, u32 bytes, data, padding to 8}.  The engine decodes it with
 * axion_request_decode(), which checks every bound again: the gateway is not
 * trusted to be whole.
 *
 * The encoder writes into a buffer of the caller's that it asks to grow, so
 * that nginx can use its pools and nobody else needs malloc.
 */
#ifndef AXION_SHM_REQUEST_H
#define AXION_SHM_REQUEST_H

#include <stddef.h>
#include <stdint.h>

#define AXION_REQUEST_VERSION   1u
#define AXION_STOP_MAX          4u
#define AXION_STOP_BYTES_MAX    256u
#define AXION_LOGIT_BIAS_MAX    1024u
#define AXION_MESSAGES_MAX      4096u
#define AXION_TOP_LOGPROBS_MAX  20u
#define AXION_ROLE_BYTES_MAX    32u
#define AXION_WEIGHT_MAX        1000u
#define AXION_GRAMMAR_BYTES_MAX (256u << 10) /* of a grammar's source */

enum axion_request_kind {
    AXION_REQUEST_CHAT = 1,
    AXION_REQUEST_COMPLETION = 2,
};

enum axion_request_flags {
    AXION_REQUEST_STREAM = 1u << 0, /* may be paused */
    AXION_REQUEST_SEED = 1u << 1,   /* `seed` was given */
    AXION_REQUEST_IGNORE_EOS = 1u << 2,
    AXION_REQUEST_LOGPROBS = 1u << 3, /* reserved for a later issue */
};

struct axion_request_head {
    uint32_t version;
    uint32_t bytes; /* of the whole payload, this head included */
    uint32_t kind;
    uint32_t flags;
    uint64_t seed;
    uint64_t tenant;          /* hash of the tenant's name: fairness */
    uint8_t cache_salt[16];   /* names the prefix cache's realm */
    float temperature;        /* 0 = greedy; default 1 */
    float top_p;              /* (0, 1]; 1 = off */
    float min_p;              /* [0, 1]; 0 = off */
    float repetition_penalty; /* > 0; 1 = off */
    float presence_penalty;   /* [-2, 2] */
    float frequency_penalty;  /* [-2, 2] */
    uint32_t top_k;           /* 0 = off */
    uint32_t max_tokens;      /* 0 = to the end of the context */
    uint32_t top_logprobs;
    uint32_t priority;    /* 0 low, 1 normal, 2 high */
    uint32_t deadline_ms; /* for the first token; 0 = none */
    uint32_t n_sections;
};

enum axion_request_section {
    AXION_SECTION_MODEL = 1,      /* text: the id asked for */
    AXION_SECTION_ROLE = 2,       /* text: starts a message */
    AXION_SECTION_TEXT = 3,       /* text: one part of the message's content */
    AXION_SECTION_PROMPT = 4,     /* text of a completion */
    AXION_SECTION_TOKENS = 5,     /* u32[]: token ids of a completion */
    AXION_SECTION_STOP = 6,       /* text, at most AXION_STOP_MAX times */
    AXION_SECTION_LOGIT_BIAS = 7, /* {u32 token, f32 bias}[] */
    AXION_SECTION_NAME = 8,       /* text: `name` of the current message */
    AXION_SECTION_CONTEXT = 9,    /* u32: prompt and output, tokens; >= 1 */
    AXION_SECTION_WEIGHT = 10,    /* u32: the tenant's, 1 .. WEIGHT_MAX */
    AXION_SECTION_GRAMMAR = 11,   /* struct axion_grammar_head, source text */
};

/*
 * What the answer's text must be, at most one section a request.  The source
 * is as the client wrote it; the engine compiles it, and refuses what it
 * cannot enforce.  An engine from before this section refuses the request as
 * it refuses every section that it does not know: nothing goes unconstrained.
 */
enum axion_grammar_kind {
    AXION_GRAMMAR_GBNF = 1,        /* llama.cpp's dialect, `root` starts */
    AXION_GRAMMAR_JSON_SCHEMA = 2, /* the schema's JSON text */
    AXION_GRAMMAR_JSON_OBJECT = 3, /* any JSON object; no source */
    AXION_GRAMMAR_REGEX = 4,       /* the whole answer matches */
    AXION_GRAMMAR_CHOICE = 5,      /* JSON text: an array of strings */
};

struct axion_grammar_head {
    uint32_t kind;
    uint32_t reserved; /* 0 */
};

struct axion_logit_bias {
    uint32_t token;
    float bias;
};

/* A view into a decoded payload; valid as long as the payload's bytes. */
struct axion_text {
    const char *data;
    uint32_t bytes;
};

/* ---- encoder ---- */

/*
 * grow() returns memory of at least `bytes` that starts with the bytes so
 * far, or NULL.  axion_request_begin() copies the head (its version, bytes
 * and n_sections are the encoder's own); every add and the end return
 * AXION_OK, AXION_ERR_NO_MEMORY, or AXION_ERR_PAYLOAD_TOO_LARGE when the
 * payload passes bytes_max.  After an error only a new begin is allowed.
 */
struct axion_request_writer {
    uint8_t *data;
    size_t bytes;
    size_t capacity;
    size_t bytes_max;
    uint32_t n_sections;
    void *(*grow)(void *context, void *data, size_t old, size_t bytes);
    void *context;
};

int axion_request_begin(struct axion_request_writer *w,
                        const struct axion_request_head *head);
int axion_request_add(struct axion_request_writer *w,
                      enum axion_request_section tag, const void *data,
                      size_t bytes);
/* The GRAMMAR section in one piece; `kind` and `bytes` are checked by who
 * decodes. */
int axion_request_add_grammar(struct axion_request_writer *w,
                              enum axion_grammar_kind kind, const void *source,
                              size_t bytes);
int axion_request_end(struct axion_request_writer *w);

/* ---- decoder ---- */

struct axion_request_view {
    struct axion_request_head head; /* a checked copy */
    struct axion_text model;
    struct axion_text prompt; /* data == NULL: none */
    const uint8_t *tokens;    /* n_tokens u32, maybe unaligned: memcpy */
    uint32_t n_tokens;
    uint32_t has_tokens;
    uint32_t n_messages;
    uint32_t n_stops;
    struct axion_text stops[AXION_STOP_MAX];
    uint32_t max_context;      /* of the tenant, tokens; 0: the model's own */
    uint32_t weight;           /* of the tenant beside others; 0: not said */
    const uint8_t *logit_bias; /* struct axion_logit_bias[], unaligned */
    uint32_t n_logit_bias;
    uint32_t grammar_kind;     /* enum axion_grammar_kind; 0: none */
    struct axion_text grammar; /* its source */
    const uint8_t *sections;   /* for axion_request_next_part() */
    size_t sections_bytes;
};

/*
 * Checks everything: sizes, counts, finite numbers and ranges, UTF-8 of
 * texts, that a chat has messages and a completion one prompt.  Returns
 * AXION_OK, or AXION_ERR_PROTOCOL with a reason in why[0..why_bytes).
 */
int axion_request_decode(struct axion_request_view *view, const void *data,
                         size_t bytes, char *why, size_t why_bytes);

/*
 * Walks roles, names and texts in order.  *cursor starts at 0.  Returns the
 * section's tag (ROLE, NAME or TEXT), or 0 at the end.
 */
unsigned axion_request_next_part(const struct axion_request_view *view,
                                 size_t *cursor, struct axion_text *part);

/* 1 when bytes are well-formed UTF-8 without surrogates; NUL is allowed. */
int axion_utf8_valid(const void *data, size_t bytes);

#endif
