/*
 * Reading a file of tenants: bytes → words (nginx's rules, one statement at a
 * time), statements → drafts (tenant_params.c), drafts → a set.  Words are
 * unescaped into a buffer of the reader's that the next statement uses again;
 * what a draft keeps of them, it copies.
 */
#include "api/tenants_file.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "shm/errors.h"

#define STATEMENT_BYTES_MAX 65536u /* of its unescaped words */

enum statement_end {
    END_OF_TEXT,
    END_SEMICOLON,
    END_BLOCK_BEGINS,
    END_BLOCK_ENDS,
    END_FAULT,
};

struct reader {
    const char *at;
    const char *end;
    uint32_t line;      /* of `at` */
    uint32_t statement; /* where the statement began */
    struct axion_text words[AXION_TENANTS_FILE_WORDS_MAX];
    size_t n_words;
    size_t n_bytes;
    const struct axion_memory *memory;
    struct axion_tenants_fault *fault;
    char bytes[STATEMENT_BYTES_MAX];
};

struct list {
    const struct axion_tenant **tenants;
    size_t n;
    size_t room;
};


static int
refuse(struct reader *r, uint32_t line, const char *format, ...)
{
    va_list args;

    r->fault->line = line;
    va_start(args, format);
    vsnprintf(r->fault->why, sizeof(r->fault->why), format, args);
    va_end(args);
    return AXION_ERR_BAD_OPTION;
}


/* ---- words ---- */


static int
is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}


static char
step(struct reader *r)
{
    if (*r->at == '\n')
        r->line++;
    return *r->at++;
}


static void
skip_space_and_comments(struct reader *r)
{
    while (r->at < r->end) {
        if (*r->at == '#') {
            while (r->at < r->end && *r->at != '\n')
                r->at++;
        } else if (is_space(*r->at)) {
            step(r);
        } else {
            return;
        }
    }
}


/* What a backslash and `c` are together; both where nginx keeps both. */
static int
put_escaped(struct reader *r, char c)
{
    if (r->n_bytes + 2 > sizeof(r->bytes))
        return 0;
    if (c == 't')
        c = '\t';
    else if (c == 'r')
        c = '\r';
    else if (c == 'n')
        c = '\n';
    else if (c != '"' && c != '\'' && c != '\\')
        r->bytes[r->n_bytes++] = '\\';
    r->bytes[r->n_bytes++] = c;
    return 1;
}


/* One word, quoted by `quote` or bare (0); r->at is behind it. */
static int
read_word(struct reader *r, char quote)
{
    struct axion_text *word = &r->words[r->n_words];
    size_t begin = r->n_bytes;

    if (r->n_words == AXION_TENANTS_FILE_WORDS_MAX)
        return refuse(r, r->statement, "more than %u words in one statement",
                      AXION_TENANTS_FILE_WORDS_MAX);
    while (r->at < r->end) {
        char c = *r->at;

        if (quote != 0 ? c == quote
                       : is_space(c) || c == ';' ||
                             (c == '{' && (r->n_bytes == begin ||
                                           r->bytes[r->n_bytes - 1] != '$')))
            break;
        step(r);
        if (c == 0)
            return refuse(r, r->line, "there is a NUL in the file");
        if (c == '\\' && r->at < r->end) {
            if (!put_escaped(r, step(r)))
                break;
        } else if (r->n_bytes == sizeof(r->bytes)) {
            break;
        } else {
            r->bytes[r->n_bytes++] = c;
        }
    }
    if (r->n_bytes + 2 > sizeof(r->bytes))
        return refuse(r, r->statement, "a statement has more than %u bytes",
                      STATEMENT_BYTES_MAX);
    if (quote != 0) {
        if (r->at == r->end)
            return refuse(r, r->statement, "a quote is not closed");
        step(r);
        if (r->at < r->end && !is_space(*r->at) && *r->at != ';' &&
            *r->at != '{')
            return refuse(r, r->line, "unexpected \"%c\" behind a quote",
                          *r->at >= 0x20 && *r->at < 0x7f ? *r->at : '?');
    }
    word->data = r->bytes + begin;
    word->bytes = (uint32_t)(r->n_bytes - begin);
    r->n_words++;
    return AXION_OK;
}


/* The words up to what ends the statement. */
static enum statement_end
read_statement(struct reader *r)
{
    r->n_words = 0;
    r->n_bytes = 0;
    for (;;) {
        skip_space_and_comments(r);
        if (r->n_words == 0)
            r->statement = r->line;
        if (r->at == r->end) {
            if (r->n_words == 0)
                return END_OF_TEXT;
            refuse(r, r->statement, "unexpected end of file, expecting \";\"");
            return END_FAULT;
        }
        switch (*r->at) {
        case ';':
        case '{':
            if (r->n_words == 0) {
                refuse(r, r->line, "unexpected \"%c\"", *r->at);
                return END_FAULT;
            }
            return *r->at++ == ';' ? END_SEMICOLON : END_BLOCK_BEGINS;
        case '}':
            if (r->n_words != 0) {
                refuse(r, r->line, "unexpected \"}\"");
                return END_FAULT;
            }
            r->at++;
            return END_BLOCK_ENDS;
        case '"':
        case '\'':
            if (read_word(r, *r->at++) != AXION_OK)
                return END_FAULT;
            break;
        default:
            if (read_word(r, 0) != AXION_OK)
                return END_FAULT;
        }
    }
}


/* ---- statements ---- */


static int
draft_error(struct reader *r, const struct axion_tenant_draft *draft, int error)
{
    if (error != AXION_OK)
        refuse(r, r->statement, "%s", draft->why);
    return error;
}


/* The lines of a block, its end included. */
static int
read_block(struct reader *r, struct axion_tenant_draft *draft)
{
    uint32_t line = r->statement;
    int error = AXION_OK;

    while (error == AXION_OK) {
        switch (read_statement(r)) {
        case END_SEMICOLON:
            error = draft_error(r, draft,
                                axion_tenant_set(draft, r->words, r->n_words));
            break;
        case END_BLOCK_ENDS:
            r->statement = line;
            return draft_error(r, draft, axion_tenant_end(draft));
        case END_BLOCK_BEGINS:
            return refuse(r, r->statement, "unexpected \"{\"");
        case END_OF_TEXT:
            return refuse(r, line, "the block is not closed");
        case END_FAULT:
            return AXION_ERR_BAD_OPTION;
        }
    }
    return error;
}


static int
append(struct reader *r, struct list *list, const struct axion_tenant *tenant)
{
    const struct axion_tenant **larger;

    if (list->n == AXION_TENANTS_FILE_MAX)
        return refuse(r, r->statement, "more than %u tenants",
                      AXION_TENANTS_FILE_MAX);
    if (list->n == list->room) {
        list->room = list->room == 0 ? 64 : list->room * 2;
        larger =
            r->memory->alloc(r->memory->context, list->room * sizeof(*larger));
        if (larger == NULL)
            return AXION_ERR_NO_MEMORY;
        if (list->n != 0)
            memcpy(larger, list->tenants, list->n * sizeof(*larger));
        list->tenants = larger;
    }
    list->tenants[list->n++] = tenant;
    return AXION_OK;
}


static int
read_tenant(struct reader *r, struct list *list)
{
    static const char name[] = "axion_tenant";
    struct axion_tenant_draft draft;
    int error;

    if (r->words[0].bytes != sizeof(name) - 1 ||
        memcmp(r->words[0].data, name, sizeof(name) - 1) != 0 ||
        r->n_words != 2)
        return refuse(r, r->statement,
                      "a file of tenants has axion_tenant NAME { ... } blocks "
                      "only");
    error = axion_tenant_begin(&draft, r->memory, &r->words[1]);
    if (draft_error(r, &draft, error) != AXION_OK)
        return error;
    draft.tenant->line = r->statement;
    error = read_block(r, &draft);
    return error == AXION_OK ? append(r, list, draft.tenant) : error;
}


static int
read_text(struct reader *r, struct list *list)
{
    int error = AXION_OK;

    while (error == AXION_OK) {
        switch (read_statement(r)) {
        case END_OF_TEXT:
            return AXION_OK;
        case END_BLOCK_BEGINS:
            error = read_tenant(r, list);
            break;
        case END_SEMICOLON:
            return refuse(r, r->statement,
                          "a file of tenants has axion_tenant NAME { ... } "
                          "blocks only");
        case END_BLOCK_ENDS:
            return refuse(r, r->line, "unexpected \"}\"");
        case END_FAULT:
            return AXION_ERR_BAD_OPTION;
        }
    }
    return error;
}


int
axion_tenants_read(struct axion_tenants *set, const char *text, size_t bytes,
                   const struct axion_memory *memory,
                   struct axion_tenants_fault *fault)
{
    const struct axion_tenant *at = NULL;
    struct list list = {NULL, 0, 0};
    struct reader *r;
    int error;

    memset(fault, 0, sizeof(*fault));
    memset(set, 0, sizeof(*set));
    r = memory->alloc(memory->context, sizeof(*r));
    if (r == NULL) {
        snprintf(fault->why, sizeof(fault->why), "out of memory");
        return AXION_ERR_NO_MEMORY;
    }
    memset(r, 0, offsetof(struct reader, bytes));
    r->at = text;
    r->end = text + bytes;
    r->line = 1;
    r->memory = memory;
    r->fault = fault;
    if (bytes > AXION_TENANTS_FILE_BYTES_MAX)
        error = refuse(r, 0, "the file has more than %u bytes",
                       AXION_TENANTS_FILE_BYTES_MAX);
    else
        error = read_text(r, &list);
    if (error == AXION_OK) {
        error = axion_tenants_build(set, list.tenants, list.n, memory, &at,
                                    fault->why, sizeof(fault->why));
        fault->line = at != NULL ? at->line : 0;
    }
    if (error == AXION_ERR_NO_MEMORY && fault->why[0] == 0)
        snprintf(fault->why, sizeof(fault->why), "out of memory");
    return error;
}


int
axion_tenants_apart(const struct axion_tenants *set,
                    const struct axion_tenant *const *others, size_t n,
                    struct axion_tenants_fault *fault)
{
    struct axion_match match;
    const struct axion_tenant *tenant;
    size_t i, k;

    for (i = 0; i < n; i++) {
        tenant = axion_tenants_find_name(set, others[i]->name.data,
                                         others[i]->name.bytes);
        if (tenant != NULL) {
            fault->line = tenant->line;
            snprintf(fault->why, sizeof(fault->why),
                     "axion_tenant \"%s\" is in nginx.conf too",
                     tenant->name.data);
            return AXION_ERR_BAD_OPTION;
        }
        for (k = 0; k < others[i]->n_keys; k++) {
            if (others[i]->keys[k].argon2id.data != NULL)
                continue;
            match = axion_tenants_find_key(set, &others[i]->keys[k].hash);
            if (match.tenant == NULL)
                continue;
            fault->line = match.tenant->line;
            snprintf(fault->why, sizeof(fault->why),
                     "a key of axion_tenant \"%s\" is one of \"%s\" in "
                     "nginx.conf too",
                     match.tenant->name.data, others[i]->name.data);
            return AXION_ERR_BAD_OPTION;
        }
    }
    return AXION_OK;
}
