/* See prompt.h.  Parts of one message's content are joined with a line feed,
 * as llama.cpp and vLLM do for templates that take content as a string. */
#include "engine/server/prompt.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define POOL_BYTES_MIN (64u << 20)


static int
text_error(int rc, const char *line, struct ax_error *err)
{
    switch (rc) {
    case AX_TEXT_NO_MEMORY:
        return ax_error_set(err, AXION_ERR_NO_MEMORY,
                            "no memory for the prompt");
    case AX_TEXT_TOO_LONG:
    case AX_TEXT_LIMIT_STEPS:
    case AX_TEXT_LIMIT_DEPTH:
    case AX_TEXT_LIMIT_OUTPUT:
    case AX_TEXT_LIMIT_MEMORY:
        return ax_error_set(err, AXION_ERR_TEMPLATE_LIMIT,
                            "chat template: %s %s", ax_text_error_name(rc),
                            line);
    default:
        return ax_error_set(err, AXION_ERR_TEMPLATE_FAILED, "chat template: %s",
                            line);
    }
}


/* The vocabulary's name of a token, a trusted string; "" if there is none. */
static struct ax_value *
token_name(const struct ax_prompt_maker *maker, struct ax_pool *pool,
           int32_t id)
{
    struct ax_tokenizer_str s = {"", 0};
    if (id != AX_TOKEN_NONE) {
        s = ax_tokenizer_token_text(maker->tokenizer, id);
    }
    return ax_value_string(pool, s.p, s.n, true);
}


static int
tokenize(const struct ax_prompt_maker *maker,
         const struct ax_text_segment *segments, size_t n_segments,
         unsigned flags, int32_t *ids, uint32_t cap, uint32_t *n,
         struct ax_error *err)
{
    size_t count = 0;
    int rc = ax_tokenizer_encode_segments(
        maker->tokenizer, segments, n_segments, flags | AX_ENCODE_STOP_AT_CAP,
        ids, cap, &count);
    if (rc != AX_TEXT_OK) {
        return text_error(rc, "", err);
    }
    *n = count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
    if (count == 0) {
        return ax_error_set(err, AXION_ERR_EMPTY_PROMPT,
                            "the prompt has no tokens");
    }
    return AXION_OK;
}


/* messages is a list of {role, content} in pool. */
static int
render(const struct ax_prompt_maker *maker, struct ax_pool *pool,
       struct ax_value *messages, int32_t *ids, uint32_t cap, uint32_t *n,
       struct ax_error *err)
{
    struct ax_value *vars = ax_value_dict(pool);
    ax_value_put(pool, vars, "messages", messages);
    ax_value_put(pool, vars, "add_generation_prompt",
                 ax_value_bool(pool, true));
    ax_value_put(pool, vars, "bos_token",
                 token_name(maker, pool, ax_tokenizer_bos(maker->tokenizer)));
    ax_value_put(pool, vars, "eos_token",
                 token_name(maker, pool, ax_tokenizer_eos(maker->tokenizer)));
    int rc = ax_pool_error(pool);
    if (rc != AX_TEXT_OK) {
        return text_error(rc, "", err);
    }
    struct ax_rendered out;
    rc = ax_template_render(maker->chat_template, pool, vars, NULL,
                            (int64_t)time(NULL), &out);
    if (rc != AX_TEXT_OK) {
        return text_error(rc, out.error, err);
    }
    return tokenize(maker, out.segs, out.n_segs, 0, ids, cap, n, err);
}


static int
no_template(const struct ax_prompt_maker *maker, struct ax_error *err)
{
    return ax_error_set(err, AXION_ERR_TEMPLATE_FAILED, "%s",
                        maker->template_note);
}


static void
add_message(struct ax_pool *pool, struct ax_value *messages, const char *role,
            size_t role_bytes, const char *content, size_t content_bytes)
{
    struct ax_value *message = ax_value_dict(pool);
    ax_value_put(pool, message, "role",
                 ax_value_string(pool, role, role_bytes, false));
    ax_value_put(pool, message, "content",
                 ax_value_string(pool, content, content_bytes, false));
    ax_value_append(pool, messages, message);
}


int
ax_prompt_of_messages(const struct ax_prompt_maker *maker,
                      const struct ax_prompt_message *messages,
                      uint32_t n_messages, int32_t *ids, uint32_t cap,
                      uint32_t *n, struct ax_error *err)
{
    if (maker->chat_template == NULL) {
        return no_template(maker, err);
    }
    struct ax_pool *pool;
    if (ax_pool_open(&pool, POOL_BYTES_MIN) != AX_TEXT_OK) {
        return text_error(AX_TEXT_NO_MEMORY, "", err);
    }
    struct ax_value *list = ax_value_list(pool);
    for (uint32_t i = 0; i < n_messages; i++) {
        add_message(pool, list, messages[i].role, strlen(messages[i].role),
                    messages[i].content, strlen(messages[i].content));
    }
    int rc = render(maker, pool, list, ids, cap, n, err);
    ax_pool_close(pool);
    return rc;
}


/* `content` has room for all parts and a line feed after each. */
static void
list_messages(struct ax_pool *pool, const struct axion_request_view *view,
              struct ax_value *list, char *content)
{
    struct axion_text part, role = {0};
    size_t cursor = 0, used = 0, parts = 0;
    unsigned tag;
    do {
        tag = axion_request_next_part(view, &cursor, &part);
        if ((tag == 0 || tag == AXION_SECTION_ROLE) && role.data != NULL) {
            add_message(pool, list, role.data, role.bytes, content, used);
        }
        if (tag == AXION_SECTION_ROLE) {
            role = part;
            used = parts = 0;
        } else if (tag == AXION_SECTION_TEXT) {
            if (parts++ > 0) {
                content[used++] = '\n';
            }
            if (part.bytes > 0) {
                memcpy(content + used, part.data, part.bytes);
            }
            used += part.bytes;
        }
    } while (tag != 0);
}


static int
chat(const struct ax_prompt_maker *maker, const struct axion_request_view *view,
     int32_t *ids, uint32_t cap, uint32_t *n, struct ax_error *err)
{
    if (maker->chat_template == NULL) {
        return no_template(maker, err);
    }
    struct ax_pool *pool;
    /* A message's strings, its dict and what the template makes of them. */
    if (ax_pool_open(&pool, POOL_BYTES_MIN + 16 * view->sections_bytes) !=
        AX_TEXT_OK) {
        return text_error(AX_TEXT_NO_MEMORY, "", err);
    }
    int rc = AXION_OK;
    char *content = ax_pool_alloc(pool, view->sections_bytes + 1);
    struct ax_value *list = ax_value_list(pool);
    if (content == NULL) {
        rc = text_error(AX_TEXT_NO_MEMORY, "", err);
    } else {
        list_messages(pool, view, list, content);
        rc = render(maker, pool, list, ids, cap, n, err);
    }
    ax_pool_close(pool);
    return rc;
}


static int
copy_ids(const struct ax_prompt_maker *maker,
         const struct axion_request_view *view, int32_t *ids, uint32_t cap,
         uint32_t *n, struct ax_error *err)
{
    uint32_t n_vocab = ax_tokenizer_n_vocab(maker->tokenizer);
    if (view->n_tokens == 0) {
        return ax_error_set(err, AXION_ERR_EMPTY_PROMPT,
                            "the prompt has no tokens");
    }
    for (uint32_t i = 0; i < view->n_tokens; i++) {
        uint32_t id;
        memcpy(&id, view->tokens + (size_t)i * sizeof(id), sizeof(id));
        if (id >= n_vocab) {
            return ax_error_set(err, AXION_ERR_INVALID_TOKEN,
                                "token id %u at position %u: the vocabulary "
                                "has %u tokens",
                                id, i, n_vocab);
        }
        if (i < cap) {
            ids[i] = (int32_t)id;
        }
    }
    *n = view->n_tokens;
    return AXION_OK;
}


int
ax_prompt_of_request(const struct ax_prompt_maker *maker,
                     const struct axion_request_view *view, int32_t *ids,
                     uint32_t cap, uint32_t *n, struct ax_error *err)
{
    *n = 0;
    if (view->head.kind == AXION_REQUEST_CHAT) {
        return chat(maker, view, ids, cap, n, err);
    }
    if (view->has_tokens) {
        return copy_ids(maker, view, ids, cap, n, err);
    }
    struct ax_text_segment segment = {view->prompt.data, view->prompt.bytes,
                                      true};
    return tokenize(maker, &segment, 1, AX_ENCODE_ADD_SPECIAL, ids, cap, n,
                    err);
}
