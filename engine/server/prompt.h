/*
 * From messages or text to token ids: the long text work of a request.
 *
 * Chat messages become the values of the model's own template, {messages:
 * [{role, content}], add_generation_prompt, bos_token, eos_token}; what it
 * renders is tokenized in segments, so that only the template's own bytes can
 * be control tokens.  A completion's text is the client's own composition of
 * the whole prompt: its control tokens count, and the model's BOS is added.
 *
 * Runs on the helper thread and in the tool; immutable, any number of
 * threads.
 */
#ifndef AX_SERVER_PROMPT_H
#define AX_SERVER_PROMPT_H

#include <stdint.h>
#include "engine/error.h"
#include "engine/text/template.h"
#include "engine/text/tokenizer.h"
#include "shm/request.h"

struct ax_prompt_maker {
    const struct ax_tokenizer *tokenizer;
    const struct ax_template *chat_template; /* NULL: none */
    const char *template_note;               /* why there is none */
};

struct ax_prompt_message {
    const char *role;
    const char *content;
};

/*
 * Both write at most cap ids and set *n to their count.  More than cap says
 * that the prompt does not fit; a text is then not counted to its end, and ids
 * is undefined.  TEMPLATE_FAILED, TEMPLATE_LIMIT, EMPTY_PROMPT,
 * INVALID_TOKEN, NO_MEMORY, with a line for the client in err.
 */
int ax_prompt_of_request(const struct ax_prompt_maker *maker,
                         const struct axion_request_view *view, int32_t *ids,
                         uint32_t cap, uint32_t *n, struct ax_error *err);
int ax_prompt_of_messages(const struct ax_prompt_maker *maker,
                          const struct ax_prompt_message *messages,
                          uint32_t n_messages, int32_t *ids, uint32_t cap,
                          uint32_t *n, struct ax_error *err);

#endif
