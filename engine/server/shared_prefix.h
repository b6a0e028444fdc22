/*
 * What the operator has declared shared: a text with which prompts of all
 * tenants may begin, usually the system prompt of an application.
 *
 * KV blocks that lie wholly within it belong to nobody's realm: every tenant
 * finds them in the prefix cache (engine/kv/cache.h), and how long a request
 * takes then tells no more than that somebody used a public text.
 *
 * The text counts where it is the first system message of a chat, as the
 * model's own template renders it, and where a completion's prompt begins
 * with it.  Made at load, immutable, any number of threads.
 */
#ifndef AX_SERVER_SHARED_PREFIX_H
#define AX_SERVER_SHARED_PREFIX_H

#include <stdint.h>
#include "engine/error.h"
#include "engine/server/prompt.h"

#define AX_SHARED_PREFIX_BYTES_MAX (1u << 20)

struct ax_shared_prefix;

/*
 * Reads the file; at most ctx tokens of it count.  BAD_OPTION with a line when
 * it cannot be read, is empty, too large or no UTF-8; NO_MEMORY.
 */
int ax_shared_prefix_open(struct ax_shared_prefix **out, const char *path,
                          const struct ax_prompt_maker *maker, uint32_t ctx,
                          struct ax_error *err);
void ax_shared_prefix_close(struct ax_shared_prefix *prefix); /* NULL: fine */

/* How many of the first tokens are declared; 0 without a prefix. */
uint32_t ax_shared_prefix_match(const struct ax_shared_prefix *prefix,
                                const int32_t *tokens, uint32_t n_tokens);

/* Tokens of its two forms, for the log. */
uint32_t ax_shared_prefix_chat_tokens(const struct ax_shared_prefix *prefix);
uint32_t ax_shared_prefix_text_tokens(const struct ax_shared_prefix *prefix);

#endif
