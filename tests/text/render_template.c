/*
 * Renders templates for scripts: one JSON object per line in, one out.
 *
 * In: {"template": str, "context": {...}, "now": int}.  Out: {"text": str,
 * "segments": [[trusted, str], ...]} or {"error": name, "message": str,
 * "line": int}.  golden_templates.py compares the output with Jinja2's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/text/template.h"
#include "tests/text/json_values.h"


#define POOL_BYTES (256u * 1024u * 1024u)


static json_t *
error_json(int rc, const char *message, uint32_t line)
{
    return json_pack("{s:s, s:s, s:i}", "error", ax_text_error_name(rc),
                     "message", message, "line", (int)line);
}


static json_t *
rendered_json(const struct ax_rendered *r)
{
    json_t *segments = json_array();

    for (size_t i = 0; i < r->n_segs; i++) {
        json_array_append_new(segments, json_pack("[b, s%]", r->segs[i].trusted,
                                                  r->segs[i].p, r->segs[i].n));
    }
    return json_pack("{s:s%, s:o}", "text", r->text, r->text_len, "segments",
                     segments);
}


static json_t *
render(const json_t *job)
{
    const json_t *source = json_object_get(job, "template");
    struct ax_template *t;
    struct ax_pool *pool;
    struct ax_rendered out;
    char err[256];
    json_t *result;

    int rc = ax_template_open(&t, json_string_value(source),
                              json_string_length(source), err, sizeof(err));
    if (rc != 0) {
        return error_json(rc, err, 0);
    }
    if (ax_pool_open(&pool, POOL_BYTES) != 0) {
        abort();
    }
    rc = ax_template_render(
        t, pool, json_to_vars(pool, json_object_get(job, "context")), NULL,
        json_integer_value(json_object_get(job, "now")), &out);
    result = rc == 0 ? rendered_json(&out)
                     : error_json(rc, out.error, out.error_line);
    ax_pool_close(pool);
    ax_template_close(t);
    return result;
}


int
main(void)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;

    while ((n = getline(&line, &cap, stdin)) > 0) {
        json_error_t error;
        json_t *job = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, &error);

        if (job == NULL) {
            fprintf(stderr, "bad job: %s\n", error.text);
            return 1;
        }

        json_t *result = render(job);
        char *text = json_dumps(result, JSON_COMPACT);

        if (text == NULL) {
            fprintf(stderr, "result is not UTF-8\n");
            return 1;
        }
        puts(text);
        free(text);
        json_decref(result);
        json_decref(job);
    }
    free(line);
    return 0;
}
