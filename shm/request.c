/*
 * Encoder and decoder of a SUBMIT's payload (request.h).
 *
 * The decoder is a parser of foreign bytes: one pass over the sections, each
 * bounded before it is looked at, and nothing kept but views into the bytes
 * it was given.  It allocates nothing and recurses nowhere.  Padding must be
 * zero and unknown tags are refused, so that one request has one encoding
 * and a later version can give a meaning to what is refused today.  Fields
 * are read with memcpy(): a payload may lie at any address.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "shm/errors.h"
#include "shm/request.h"

#define SECTION_HEAD       8u
#define GROW_MIN           512u
#define TEMPERATURE_MAX    100.0f
#define PENALTY_MAX        100.0f
#define ADDITIVE_MAX       2.0f
#define LOGIT_BIAS_MAX_ABS 100.0f
#define FLAGS_KNOWN                                                            \
    (AXION_REQUEST_STREAM | AXION_REQUEST_SEED | AXION_REQUEST_IGNORE_EOS |    \
     AXION_REQUEST_LOGPROBS)

_Static_assert(sizeof(struct axion_request_head) == 96, "request head");
_Static_assert(sizeof(struct axion_request_head) % 8 == 0, "first section");


/* ---- encoder ---- */

static int
reserve(struct axion_request_writer *w, size_t more)
{
    if (more > w->bytes_max || w->bytes > w->bytes_max - more ||
        w->bytes + more > UINT32_MAX) {
        return AXION_ERR_PAYLOAD_TOO_LARGE;
    }
    size_t need = w->bytes + more;
    if (need <= w->capacity) {
        return AXION_OK;
    }

    size_t want = w->capacity > SIZE_MAX / 2 ? need : w->capacity * 2;
    want = want < GROW_MIN ? GROW_MIN : want;
    want = want > w->bytes_max ? w->bytes_max : want;
    want = want < need ? need : want;

    void *data = w->grow(w->context, w->data, w->bytes, want);
    if (data == NULL) {
        return AXION_ERR_NO_MEMORY;
    }
    w->data = data;
    w->capacity = want;
    return AXION_OK;
}


int
axion_request_begin(struct axion_request_writer *w,
                    const struct axion_request_head *head)
{
    w->bytes = 0;
    w->n_sections = 0;

    int rc = reserve(w, sizeof(*head));
    if (rc != AXION_OK) {
        return rc;
    }
    memcpy(w->data, head, sizeof(*head));
    w->bytes = sizeof(*head);
    return AXION_OK;
}


/* A section of two pieces, the first of which may have none. */
static int
add_pieces(struct axion_request_writer *w, enum axion_request_section tag,
           const void *first, size_t first_bytes, const void *second,
           size_t second_bytes)
{
    if (second_bytes > UINT32_MAX - SECTION_HEAD - 7 - first_bytes) {
        return AXION_ERR_PAYLOAD_TOO_LARGE;
    }
    size_t bytes = first_bytes + second_bytes;
    uint32_t head[2] = {tag, (uint32_t)bytes};
    size_t pad = -bytes & 7;
    int rc = reserve(w, SECTION_HEAD + bytes + pad);
    if (rc != AXION_OK) {
        return rc;
    }
    uint8_t *p = w->data + w->bytes;
    memcpy(p, head, SECTION_HEAD);
    p += SECTION_HEAD;
    if (first_bytes > 0) {
        memcpy(p, first, first_bytes);
    }
    if (second_bytes > 0) {
        memcpy(p + first_bytes, second, second_bytes);
    }
    memset(p + bytes, 0, pad);
    w->bytes += SECTION_HEAD + bytes + pad;
    w->n_sections++;
    return AXION_OK;
}


int
axion_request_add(struct axion_request_writer *w,
                  enum axion_request_section tag, const void *data,
                  size_t bytes)
{
    return add_pieces(w, tag, NULL, 0, data, bytes);
}


int
axion_request_add_grammar(struct axion_request_writer *w,
                          enum axion_grammar_kind kind, const void *source,
                          size_t bytes)
{
    struct axion_grammar_head head = {.kind = kind};

    return add_pieces(w, AXION_SECTION_GRAMMAR, &head, sizeof(head), source,
                      bytes);
}


int
axion_request_end(struct axion_request_writer *w)
{
    struct axion_request_head head;

    memcpy(&head, w->data, sizeof(head));
    head.version = AXION_REQUEST_VERSION;
    head.bytes = (uint32_t)w->bytes;
    head.n_sections = w->n_sections;
    memcpy(w->data, &head, sizeof(head));
    return AXION_OK;
}


/* ---- decoder ---- */

struct section {
    uint32_t tag;
    uint32_t bytes;
    const uint8_t *data;
};

/* What one pass over the sections has to remember. */
struct walk {
    struct axion_request_view *view;
    uint32_t n_sections;
    int has_model;
    int has_name; /* in the current message */
};


/* Takes one section off p; returns the bytes used, 0 where it is broken. */
static size_t
take_section(struct section *section, const uint8_t *p, size_t left)
{
    uint32_t head[2];

    if (left < SECTION_HEAD) {
        return 0;
    }
    memcpy(head, p, SECTION_HEAD);
    size_t pad = -(size_t)head[1] & 7;
    if (head[1] > left - SECTION_HEAD || pad > left - SECTION_HEAD - head[1]) {
        return 0;
    }
    section->tag = head[0];
    section->bytes = head[1];
    section->data = p + SECTION_HEAD;
    for (size_t i = 0; i < pad; i++) {
        if (section->data[section->bytes + i] != 0) {
            return 0;
        }
    }
    return SECTION_HEAD + section->bytes + pad;
}


static int
between(float value, float low, float high)
{
    return isfinite(value) && value >= low && value <= high;
}


static const char *
head_fault(const struct axion_request_head *h, size_t bytes)
{
    if (h->version != AXION_REQUEST_VERSION) {
        return "request version";
    }
    if (h->bytes != bytes) {
        return "request bytes differ from the payload's";
    }
    if (h->kind != AXION_REQUEST_CHAT && h->kind != AXION_REQUEST_COMPLETION) {
        return "request kind";
    }
    if ((h->flags & ~(uint32_t)FLAGS_KNOWN) != 0) {
        return "request flags";
    }
    if (!between(h->temperature, 0, TEMPERATURE_MAX)) {
        return "temperature";
    }
    if (!between(h->top_p, 0, 1) || h->top_p == 0) {
        return "top_p";
    }
    if (!between(h->min_p, 0, 1)) {
        return "min_p";
    }
    if (!between(h->repetition_penalty, 0, PENALTY_MAX) ||
        h->repetition_penalty == 0) {
        return "repetition_penalty";
    }
    if (!between(h->presence_penalty, -ADDITIVE_MAX, ADDITIVE_MAX)) {
        return "presence_penalty";
    }
    if (!between(h->frequency_penalty, -ADDITIVE_MAX, ADDITIVE_MAX)) {
        return "frequency_penalty";
    }
    if (h->top_logprobs > AXION_TOP_LOGPROBS_MAX) {
        return "top_logprobs";
    }
    if (h->priority > 2) {
        return "priority";
    }
    return NULL;
}


static void
set_text(struct axion_text *text, const struct section *section)
{
    text->data = (const char *)section->data;
    text->bytes = section->bytes;
}


/* Sections of a chat: role starts a message, name and texts belong to it. */
static const char *
chat_fault(struct walk *walk, const struct section *s)
{
    struct axion_request_view *view = walk->view;

    if (view->head.kind != AXION_REQUEST_CHAT) {
        return "message in a completion";
    }
    if (s->tag == AXION_SECTION_ROLE) {
        if (s->bytes == 0 || s->bytes > AXION_ROLE_BYTES_MAX) {
            return "role's length";
        }
        if (view->n_messages == AXION_MESSAGES_MAX) {
            return "too many messages";
        }
        view->n_messages++;
        walk->has_name = 0;
        return NULL;
    }
    if (view->n_messages == 0) {
        return "message part without a role";
    }
    if (s->tag == AXION_SECTION_NAME) {
        if (walk->has_name) {
            return "second name in a message";
        }
        walk->has_name = 1;
    }
    return NULL;
}


static const char *
prompt_fault(struct walk *walk, const struct section *s)
{
    struct axion_request_view *view = walk->view;

    if (view->head.kind != AXION_REQUEST_COMPLETION) {
        return "prompt in a chat";
    }
    if (view->prompt.data != NULL || view->has_tokens) {
        return "second prompt";
    }
    if (s->tag == AXION_SECTION_PROMPT) {
        set_text(&view->prompt, s);
        return NULL;
    }
    if (s->bytes % sizeof(uint32_t) != 0) {
        return "length of the token ids";
    }
    view->tokens = s->data;
    view->n_tokens = s->bytes / sizeof(uint32_t);
    view->has_tokens = 1;
    return NULL;
}


static const char *
logit_bias_fault(struct axion_request_view *view, const struct section *s)
{
    if (view->logit_bias != NULL) {
        return "second logit_bias";
    }
    if (s->bytes % sizeof(struct axion_logit_bias) != 0 ||
        s->bytes / sizeof(struct axion_logit_bias) > AXION_LOGIT_BIAS_MAX) {
        return "logit_bias length";
    }
    view->logit_bias = s->data;
    view->n_logit_bias = s->bytes / sizeof(struct axion_logit_bias);
    for (uint32_t i = 0; i < view->n_logit_bias; i++) {
        struct axion_logit_bias bias;

        memcpy(&bias, s->data + i * sizeof(bias), sizeof(bias));
        if (!between(bias.bias, -LOGIT_BIAS_MAX_ABS, LOGIT_BIAS_MAX_ABS)) {
            return "logit_bias value";
        }
    }
    return NULL;
}


static const char *
context_fault(struct axion_request_view *view, const struct section *s)
{
    if (view->max_context != 0) {
        return "second context";
    }
    if (s->bytes != sizeof(view->max_context)) {
        return "context's length";
    }
    memcpy(&view->max_context, s->data, sizeof(view->max_context));
    return view->max_context != 0 ? NULL : "context of 0 tokens";
}


static const char *
weight_fault(struct axion_request_view *view, const struct section *s)
{
    if (view->weight != 0) {
        return "second weight";
    }
    if (s->bytes != sizeof(view->weight)) {
        return "weight's length";
    }
    memcpy(&view->weight, s->data, sizeof(view->weight));
    return view->weight != 0 && view->weight <= AXION_WEIGHT_MAX
               ? NULL
               : "weight out of range";
}


static const char *
grammar_fault(struct axion_request_view *view, const struct section *s)
{
    struct axion_grammar_head head;

    if (view->grammar_kind != 0) {
        return "second grammar";
    }
    if (s->bytes < sizeof(head) ||
        s->bytes - sizeof(head) > AXION_GRAMMAR_BYTES_MAX) {
        return "grammar's length";
    }
    memcpy(&head, s->data, sizeof(head));
    if (head.kind < AXION_GRAMMAR_GBNF || head.kind > AXION_GRAMMAR_CHOICE ||
        head.reserved != 0) {
        return "grammar's kind";
    }
    view->grammar_kind = head.kind;
    view->grammar.data = (const char *)s->data + sizeof(head);
    view->grammar.bytes = s->bytes - (uint32_t)sizeof(head);
    if ((view->grammar.bytes == 0) !=
        (head.kind == AXION_GRAMMAR_JSON_OBJECT)) {
        return "grammar's length";
    }
    return axion_utf8_valid(view->grammar.data, view->grammar.bytes)
               ? NULL
               : "text is not UTF-8";
}


static const char *
section_fault(struct walk *walk, const struct section *s)
{
    struct axion_request_view *view = walk->view;

    switch (s->tag) {
    case AXION_SECTION_TOKENS:
        return prompt_fault(walk, s);
    case AXION_SECTION_LOGIT_BIAS:
        return logit_bias_fault(view, s);
    case AXION_SECTION_CONTEXT:
        return context_fault(view, s);
    case AXION_SECTION_WEIGHT:
        return weight_fault(view, s);
    case AXION_SECTION_GRAMMAR:
        return grammar_fault(view, s);
    default:
        break;
    }
    if (!axion_utf8_valid(s->data, s->bytes)) {
        return "text is not UTF-8";
    }

    switch (s->tag) {
    case AXION_SECTION_MODEL:
        if (walk->has_model) {
            return "second model";
        }
        walk->has_model = 1;
        set_text(&view->model, s);
        return NULL;
    case AXION_SECTION_STOP:
        if (view->n_stops == AXION_STOP_MAX) {
            return "too many stop strings";
        }
        if (s->bytes == 0 || s->bytes > AXION_STOP_BYTES_MAX) {
            return "stop string's length";
        }
        set_text(&view->stops[view->n_stops++], s);
        return NULL;
    case AXION_SECTION_PROMPT:
        return prompt_fault(walk, s);
    case AXION_SECTION_ROLE:
    case AXION_SECTION_NAME:
    case AXION_SECTION_TEXT:
        return chat_fault(walk, s);
    default:
        return "unknown section";
    }
}


static const char *
request_fault(struct axion_request_view *view, const uint8_t *data,
              size_t bytes)
{
    struct walk walk = {.view = view};
    const char *fault;

    if (bytes < sizeof(view->head)) {
        return "shorter than a request's head";
    }
    memcpy(&view->head, data, sizeof(view->head));
    fault = head_fault(&view->head, bytes);
    if (fault != NULL) {
        return fault;
    }

    view->sections = data + sizeof(view->head);
    view->sections_bytes = bytes - sizeof(view->head);
    for (size_t at = 0; at < view->sections_bytes;) {
        struct section section;
        size_t used = take_section(&section, view->sections + at,
                                   view->sections_bytes - at);

        if (used == 0) {
            return "section passes the payload's end";
        }
        fault = section_fault(&walk, &section);
        if (fault != NULL) {
            return fault;
        }
        walk.n_sections++;
        at += used;
    }
    if (walk.n_sections != view->head.n_sections) {
        return "number of sections";
    }
    if (view->head.kind == AXION_REQUEST_CHAT && view->n_messages == 0) {
        return "chat without messages";
    }
    if (view->head.kind == AXION_REQUEST_COMPLETION &&
        view->prompt.data == NULL && !view->has_tokens) {
        return "completion without a prompt";
    }
    return NULL;
}


int
axion_request_decode(struct axion_request_view *view, const void *data,
                     size_t bytes, char *why, size_t why_bytes)
{
    memset(view, 0, sizeof(*view));

    const char *fault = request_fault(view, data, bytes);
    if (why_bytes > 0) {
        snprintf(why, why_bytes, "%s", fault != NULL ? fault : "");
    }
    return fault == NULL ? AXION_OK : AXION_ERR_PROTOCOL;
}


unsigned
axion_request_next_part(const struct axion_request_view *view, size_t *cursor,
                        struct axion_text *part)
{
    while (*cursor < view->sections_bytes) {
        struct section section;
        size_t used = take_section(&section, view->sections + *cursor,
                                   view->sections_bytes - *cursor);

        if (used == 0) {
            return 0;
        }
        *cursor += used;
        if (section.tag == AXION_SECTION_ROLE ||
            section.tag == AXION_SECTION_NAME ||
            section.tag == AXION_SECTION_TEXT) {
            set_text(part, &section);
            return section.tag;
        }
    }
    return 0;
}
