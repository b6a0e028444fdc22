/*
 * What the echo engine answers.  The text is that of the last message (chat),
 * the prompt, or the token ids as decimal numbers; directives are taken out
 * of it.  Tokens are at most four bytes (or !bytes=N) of whole characters,
 * a token never crosses the end of the text, and the text is repeated when
 * !tokens=N asks for more.  So anybody can compute the answer to a prompt.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "shm/errors.h"
#include "tests/echo/echo.h"

#define TOKEN_BYTES    4u
#define TOKEN_MAX      4096u
#define DIRECTIVE_MAX  64u

struct directive {
    const char *name;
    size_t offset;
    int64_t bare; /* its value without "=N" */
};

#define AT(field) offsetof(struct echo_directives, field)

static const struct directive directives[] = {
    {"tokens", AT(tokens), 0},
    {"bytes", AT(bytes), 0},
    {"delay_ms", AT(delay_ms), 0},
    {"accept_delay_ms", AT(accept_delay_ms), 0},
    {"first_delay_ms", AT(first_delay_ms), 0},
    {"error", AT(error), AXION_ERR_INTERNAL},
    {"error_after", AT(error_after), 0},
    {"retry_after_ms", AT(retry_after_ms), 0},
    {"die_after", AT(die_after), 0},
    {"die", AT(die_after), 0},
    {"stall_after", AT(stall_after), 0},
    {"hang_after", AT(hang_after), 0},
    {"hang", AT(hang_after), 0},
    {"lease_low", AT(lease_low), 0},
    {"cached", AT(cached), 0},
    {"progress", AT(progress), 0},
    {"grammar", AT(grammar), 0},
};


/* An error by its number or its name in errors.def. */
static int
parse_value(const char *text, int64_t *value)
{
    char *end;
    unsigned i;
    const struct axion_error_info *info;

    *value = strtoll(text, &end, 10);
    if (end != text && *end == '\0' && *value >= 0)
        return 1;
    for (i = 0; (info = axion_error_at(i)) != NULL; i++) {
        if (strcmp(info->name, text) == 0) {
            *value = info->number;
            return 1;
        }
    }
    return 0;
}


/* One word "!name" or "!name=value"; 0 when it is ordinary text. */
static int
take_directive(struct echo_directives *d, const char *word, size_t bytes)
{
    char text[DIRECTIVE_MAX], *equals;
    int64_t value;
    size_t i;

    if (bytes < 2 || bytes > sizeof(text) || word[0] != '!')
        return 0;
    memcpy(text, word + 1, bytes - 1);
    text[bytes - 1] = '\0';
    equals = strchr(text, '=');
    if (equals != NULL)
        *equals = '\0';
    for (i = 0; i < sizeof(directives) / sizeof(directives[0]); i++) {
        if (strcmp(directives[i].name, text) != 0)
            continue;
        value = directives[i].bare;
        if (equals != NULL && !parse_value(equals + 1, &value))
            return 0;
        memcpy((char *) d + directives[i].offset, &value, sizeof(value));
        return 1;
    }
    return 0;
}


/* Takes the directives out of text, in place, each with the space that
 * follows it. */
static size_t
take_directives(struct echo_directives *d, char *text, size_t bytes)
{
    size_t from = 0, to = 0;

    while (from < bytes) {
        size_t n = 0;

        if (text[from] == '!' &&
            (from == 0 || isspace((unsigned char) text[from - 1]))) {
            while (from + n < bytes &&
                   !isspace((unsigned char) text[from + n]))
                n++;
            if (take_directive(d, text + from, n)) {
                from += n + (from + n < bytes);
                continue;
            }
        }
        text[to++] = text[from++];
    }
    return to;
}


/* Bytes of the token at text: whole characters, at most `max`, at least one
 * character. */
static size_t
token_length(const char *text, size_t bytes, size_t max)
{
    size_t n = bytes < max ? bytes : max;

    while (n > 0 && n < bytes && ((unsigned char) text[n] & 0xc0) == 0x80)
        n--;
    if (n == 0) {
        n = 1;
        while (n < bytes && ((unsigned char) text[n] & 0xc0) == 0x80)
            n++;
    }
    return n;
}


static uint32_t
count_tokens(const char *text, size_t bytes)
{
    uint32_t n = 0;
    size_t at = 0;

    while (at < bytes) {
        at += token_length(text + at, bytes - at, TOKEN_BYTES);
        n++;
    }
    return n;
}


/* The last message's parts joined; also counts all of the prompt. */
static int
take_messages(struct echo_answer *a, const struct axion_request_view *view)
{
    struct axion_text part;
    size_t cursor = 0;
    unsigned tag;

    a->text = malloc(view->sections_bytes + 1);
    if (a->text == NULL)
        return AXION_ERR_NO_MEMORY;
    while ((tag = axion_request_next_part(view, &cursor, &part)) != 0) {
        if (tag == AXION_SECTION_ROLE)
            a->text_bytes = 0;
        if (tag != AXION_SECTION_TEXT)
            continue;
        memcpy(a->text + a->text_bytes, part.data, part.bytes);
        a->text_bytes += part.bytes;
        a->prompt_tokens += count_tokens(part.data, part.bytes);
    }
    return AXION_OK;
}


static int
take_prompt(struct echo_answer *a, const struct axion_request_view *view)
{
    a->text = malloc(view->prompt.bytes + 1);
    if (a->text == NULL)
        return AXION_ERR_NO_MEMORY;
    memcpy(a->text, view->prompt.data, view->prompt.bytes);
    a->text_bytes = view->prompt.bytes;
    a->prompt_tokens = count_tokens(a->text, a->text_bytes);
    return AXION_OK;
}


static int
take_ids(struct echo_answer *a, const struct axion_request_view *view)
{
    uint32_t i, id;

    a->text = malloc(11 * (size_t) view->n_tokens + 1);
    if (a->text == NULL)
        return AXION_ERR_NO_MEMORY;
    for (i = 0; i < view->n_tokens; i++) {
        memcpy(&id, view->tokens + 4 * (size_t) i, sizeof(id));
        a->text_bytes += (size_t) sprintf(a->text + a->text_bytes,
                                          i ? " %u" : "%u", id);
    }
    a->prompt_tokens = view->n_tokens;
    return AXION_OK;
}


/* With !grammar the answer is the grammar that came, "none" if none did:
 * kind, colon, source. */
static int
take_grammar(struct echo_answer *a, const struct axion_request_view *view)
{
    static const char *const names[] = {
        "none", "gbnf", "json_schema", "json_object", "regex", "choice"};

    if (a->directives.grammar < 0)
        return view->grammar_kind == 0 ? AXION_OK
                                       : AXION_ERR_UNSUPPORTED_FIELD;
    free(a->text);
    a->text = NULL;
    if (asprintf(&a->text, "%s:%.*s", names[view->grammar_kind],
                 (int) view->grammar.bytes, view->grammar.data) < 0)
        return AXION_ERR_NO_MEMORY;
    a->text_bytes = strlen(a->text);
    return AXION_OK;
}


/* A text shorter than one token is repeated until it fills it. */
static int
fill_text(struct echo_answer *a)
{
    static const char nothing[] = "echo";
    size_t bytes;
    char *text;

    if (a->text_bytes == 0) {
        free(a->text);
        a->text = strdup(nothing);
        a->text_bytes = sizeof(nothing) - 1;
    }
    if (a->text == NULL)
        return AXION_ERR_NO_MEMORY;
    if (a->text_bytes >= a->token_bytes || a->directives.bytes < 0)
        return AXION_OK;
    bytes = a->text_bytes;
    text = malloc(a->token_bytes + bytes);
    if (text == NULL)
        return AXION_ERR_NO_MEMORY;
    for (a->text_bytes = 0; a->text_bytes < a->token_bytes;
         a->text_bytes += bytes)
        memcpy(text + a->text_bytes, a->text, bytes);
    free(a->text);
    a->text = text;
    return AXION_OK;
}


/* Where the first stop string begins in the endlessly repeated text. */
static int
find_stop(struct echo_answer *a, const struct axion_request_view *view)
{
    size_t bytes = a->text_bytes + AXION_STOP_BYTES_MAX, at;
    char *text;
    uint32_t i;

    if (view->n_stops == 0)
        return AXION_OK;
    text = malloc(bytes);
    if (text == NULL)
        return AXION_ERR_NO_MEMORY;
    for (at = 0; at < bytes; at++)
        text[at] = a->text[at % a->text_bytes];
    for (i = 0; i < view->n_stops; i++) {
        const char *hit =
            memmem(text, bytes, view->stops[i].data, view->stops[i].bytes);

        if (hit != NULL && (uint64_t) (hit - text) < a->limit_bytes)
            a->limit_bytes = (uint64_t) (hit - text);
    }
    free(text);
    return AXION_OK;
}


static void
set_token_limit(struct echo_answer *a, const struct axion_request_view *view,
                uint32_t context_tokens)
{
    uint64_t room = context_tokens - a->prompt_tokens;

    if (view->head.max_tokens != 0 && view->head.max_tokens < room)
        room = view->head.max_tokens;
    if (a->directives.tokens >= 0)
        a->limit_tokens = (uint64_t) a->directives.tokens;
    else if (view->head.flags & AXION_REQUEST_IGNORE_EOS)
        a->limit_tokens = ECHO_NEVER;
    else
        a->limit_tokens = count_tokens(a->text, a->text_bytes);
    if (room < a->limit_tokens) {
        a->limit_tokens = room;
        a->limit_is_length = 1;
    }
}


int
echo_answer_open(struct echo_answer *a, const struct axion_request_view *view,
                 uint32_t context_tokens)
{
    int error;

    memset(a, 0, sizeof(*a));
    memset(&a->directives, 0xff, sizeof(a->directives));
    a->limit_bytes = ECHO_NEVER;
    if (view->has_tokens)
        error = take_ids(a, view);
    else if (view->prompt.data != NULL)
        error = take_prompt(a, view);
    else
        error = take_messages(a, view);
    if (error != AXION_OK)
        return error;
    if (view->max_context != 0 && view->max_context < context_tokens)
        context_tokens = view->max_context;
    if (a->prompt_tokens >= context_tokens)
        return AXION_ERR_CONTEXT_LENGTH;
    a->text_bytes = take_directives(&a->directives, a->text, a->text_bytes);
    a->token_bytes = TOKEN_BYTES;
    if (a->directives.bytes > 0)
        a->token_bytes = a->directives.bytes < TOKEN_MAX
                             ? (size_t) a->directives.bytes
                             : TOKEN_MAX;
    error = take_grammar(a, view);
    if (error == AXION_OK)
        error = fill_text(a);
    if (error == AXION_OK)
        error = find_stop(a, view);
    if (error == AXION_OK)
        set_token_limit(a, view, context_tokens);
    return error;
}


void
echo_answer_close(struct echo_answer *a)
{
    free(a->text);
    a->text = NULL;
}


int
echo_answer_peek(const struct echo_answer *a, struct echo_token *token)
{
    uint32_t hash = 2166136261u;
    size_t n, i;

    if (a->sent_tokens >= a->limit_tokens || a->sent_bytes >= a->limit_bytes)
        return 0;
    n = token_length(a->text + a->at, a->text_bytes - a->at, a->token_bytes);
    if (n > a->limit_bytes - a->sent_bytes)
        n = (size_t) (a->limit_bytes - a->sent_bytes);
    for (i = 0; i < n; i++)
        hash = (hash ^ (unsigned char) a->text[a->at + i]) * 16777619u;
    token->id = hash & 0x7fff;
    token->text = a->text + a->at;
    token->bytes = (uint32_t) n;
    return 1;
}


void
echo_answer_advance(struct echo_answer *a, const struct echo_token *token)
{
    a->sent_tokens++;
    a->sent_bytes += token->bytes;
    a->at += token->bytes;
    if (a->at == a->text_bytes)
        a->at = 0;
}


uint32_t
echo_answer_reason(const struct echo_answer *a)
{
    if (a->sent_bytes >= a->limit_bytes || !a->limit_is_length)
        return AXION_FINISH_STOP;
    return AXION_FINISH_LENGTH;
}
