/*
 * Chat templates: the model's own Jinja, compiled once, rendered per request.
 *
 * The language is the part of Jinja2 that chat templates use, with the
 * environment that transformers gives them: trim_blocks and lstrip_blocks on,
 * autoescape off, break and continue, {% generation %} ignored, tojson that
 * escapes no HTML, raise_exception() and strftime_now().  There is no way to
 * a file, a clock, an attribute of a host object or code.
 *
 * A template comes out of a model file and a message from a client: both are
 * hostile.  Compile bounds source size and nesting.  Render counts steps and
 * bytes and ends with a named error when a limit is reached.
 *
 * A compiled template is immutable: any number of threads may render it at
 * once, each with its own pool.  Runs on the text helper thread, never
 * between two steps of the model.
 */
#ifndef AX_TEXT_TEMPLATE_H
#define AX_TEXT_TEMPLATE_H

#include <stddef.h>
#include <stdint.h>

#include "engine/text/text.h"
#include "engine/text/value.h"


#define AX_TEMPLATE_SOURCE_MAX (1024u * 1024u)
#define AX_TEMPLATE_NEST_MAX   128


struct ax_template;


/* Zero means the default given here. */
struct ax_template_limits {
    uint64_t steps_max;        /* 20 million nodes and bytes visited */
    uint64_t output_bytes_max; /* 64 MiB */
    uint32_t depth_max;        /* 64 nested macro calls and loops */
};


/* Result of a render; all of it lives in the pool. */
struct ax_rendered {
    const char *text; /* [text_len], terminated */
    size_t text_len;
    struct ax_text_segment *segs; /* together they are text */
    size_t n_segs;
    char error[256];     /* one line on failure, else "" */
    uint32_t error_line; /* 1.. in the template, 0 none */
};


/*
 * 0, AX_TEXT_NO_MEMORY, AX_TEXT_BAD_SYNTAX, AX_TEXT_UNSUPPORTED or
 * AX_TEXT_TOO_LONG; on an error *out is NULL and err holds one line with the
 * template's line number.
 */
int ax_template_open(struct ax_template **out, const char *source, size_t len,
                     char *err, size_t err_size);
void ax_template_close(struct ax_template *t);

/*
 * Renders with the variables of `vars`, a dict (messages, tools,
 * add_generation_prompt, bos_token, ...), allocating from `pool`.  limits may
 * be NULL.  now_s is what strftime_now() shows: seconds since the epoch,
 * already moved by the zone the operator wants.
 *
 * 0, or AX_TEXT_RAISED (error is the template's own message for the client),
 * AX_TEXT_BAD_OPERATION, AX_TEXT_LIMIT_*, AX_TEXT_NO_MEMORY.
 */
int ax_template_render(const struct ax_template *t, struct ax_pool *pool,
                       struct ax_value *vars,
                       const struct ax_template_limits *limits, int64_t now_s,
                       struct ax_rendered *out);

#endif /* AX_TEXT_TEMPLATE_H */
