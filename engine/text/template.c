/*
 * Compiled templates and renders, see template.h.
 *
 * The compiled template is a pool with the tree in it.  A render sets up the
 * interpreter's state on the stack, runs the tree, and turns the output's
 * bytes with trust into segments.
 */
#include "engine/text/template.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine/text/jinja_run.h"
#include "engine/text/utf8.h"


#define COMPILED_BYTES_MAX (256u * 1024u * 1024u)
#define STEPS_MAX          20000000u
#define OUTPUT_BYTES_MAX   (64u * 1024u * 1024u)
#define CALL_DEPTH_MAX     64u

/* C recursion: about 1 KiB of stack each in a build with sanitizers. */
#define EVAL_DEPTH_MAX 1000u


struct ax_template {
    struct ax_pool *pool;
    const struct ax_node *root;
};


int
ax_template_open(struct ax_template **out, const char *source, size_t len,
                 char *err, size_t err_size)
{
    struct ax_parse_error error = {0};
    struct ax_template *t = calloc(1, sizeof(*t));

    *out = NULL;
    if (t == NULL) {
        snprintf(err, err_size, "template: out of memory");
        return AX_TEXT_NO_MEMORY;
    }
    if (len > AX_TEMPLATE_SOURCE_MAX) {
        snprintf(err, err_size, "template: %zu bytes, allowed are %u", len,
                 AX_TEMPLATE_SOURCE_MAX);
        free(t);
        return AX_TEXT_TOO_LONG;
    }

    int rc = ax_pool_open(&t->pool, COMPILED_BYTES_MAX);

    if (rc == 0) {
        t->root = ax_jinja_parse(t->pool, source, len, &error);
        rc = t->root == NULL ? error.rc : 0;
    }
    if (rc != 0) {
        snprintf(err, err_size, "template, line %u: %s", error.line,
                 error.text[0] != '\0' ? error.text : ax_text_error_name(rc));
        ax_template_close(t);
        return rc;
    }
    if (err_size > 0) {
        err[0] = '\0';
    }
    *out = t;
    return 0;
}


void
ax_template_close(struct ax_template *t)
{
    if (t != NULL) {
        ax_pool_close(t->pool);
        free(t);
    }
}


static size_t
run_end(const uint8_t *mask, size_t n, size_t from)
{
    const uint8_t *other = memchr(mask + from, !mask[from], n - from);

    return other == NULL ? n : (size_t)(other - mask);
}


/* Runs of equal trust become segments. */
static bool
make_segments(struct ax_pool *pool, const struct ax_buf *b,
              struct ax_rendered *out)
{
    size_t count = b->n > 0;

    if (b->mask != NULL) {
        count = 0;
        for (size_t at = 0; at < b->n; at = run_end(b->mask, b->n, at)) {
            count++;
        }
    }

    out->segs = ax_pool_alloc(pool, (count + 1) * sizeof(*out->segs));
    if (out->segs == NULL) {
        return false;
    }
    for (size_t at = 0; at < b->n;) {
        size_t end = b->mask != NULL ? run_end(b->mask, b->n, at) : b->n;

        out->segs[out->n_segs++] = (struct ax_text_segment){
            b->p + at, end - at,
            b->mask != NULL ? b->mask[at] != 0 : b->trusted};
        at = end;
    }
    if (b->n > 0) {
        b->p[b->n] = '\0'; /* buffers keep a byte to spare */
        out->text = b->p;
        out->text_len = b->n;
    }
    return true;
}


static void
take_limits(struct ax_jinja *j, const struct ax_template_limits *limits)
{
    static const struct ax_template_limits none;

    if (limits == NULL) {
        limits = &none;
    }
    j->steps_left = limits->steps_max != 0 ? limits->steps_max : STEPS_MAX;
    j->output_max = limits->output_bytes_max != 0 ? limits->output_bytes_max
                                                  : OUTPUT_BYTES_MAX;
    j->calls_left = limits->depth_max != 0 ? limits->depth_max : CALL_DEPTH_MAX;
    j->eval_left = EVAL_DEPTH_MAX;
}


/* The pool's own failure is what counts: it may have caused others. */
static int
final_error(struct ax_jinja *j, bool ok)
{
    int rc = ax_pool_error(j->pool);

    if (rc != 0) {
        j->rc = rc;
        snprintf(j->error, sizeof(j->error), "%s",
                 rc == AX_TEXT_LIMIT_MEMORY
                     ? "the template needs too much memory"
                     : "out of memory");
        j->error_line = j->line;
    } else if (!ok) {
        ax_jinja_fail(j, AX_TEXT_BAD_OPERATION, "bad arguments of a call");
    }
    return j->rc;
}


/* A message that was cut may end inside a character. */
static void
trim_partial(char *text)
{
    size_t n = strlen(text), at = 0;

    while (at < n) {
        uint32_t cp;
        size_t len;

        if (ax_utf8_decode(text + at, n - at, &cp, &len) == AX_UTF8_PARTIAL) {
            text[at] = '\0';
            return;
        }
        at += len;
    }
}


int
ax_template_render(const struct ax_template *t, struct ax_pool *pool,
                   struct ax_value *vars,
                   const struct ax_template_limits *limits, int64_t now_s,
                   struct ax_rendered *out)
{
    struct ax_jinja j = {.pool = pool, .vars = vars, .now_s = now_s};
    bool ok = vars != NULL && ax_pool_error(pool) == 0;

    memset(out, 0, sizeof(*out));
    out->text = "";
    take_limits(&j, limits);
    if (ok) {
        j.scope = ax_scope_push(&j, NULL);
        j.out = ax_buf_new(pool);
        ok = j.scope != NULL && j.out != NULL && ax_jinja_exec(&j, t->root);
    }
    if (ok) {
        ok = make_segments(pool, j.out, out);
    }

    int rc = final_error(&j, ok);

    if (rc != 0) {
        memcpy(out->error, j.error, sizeof(out->error));
        trim_partial(out->error);
        out->error_line = j.error_line;
        out->n_segs = 0;
        out->text = "";
        out->text_len = 0;
    }
    return rc;
}
