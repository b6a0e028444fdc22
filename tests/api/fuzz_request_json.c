/*
 * Feeds any bytes to the request parser of both endpoints.  Shows that it
 * neither crashes nor leaks, that a refusal is always a named 4xx error which
 * renders as JSON, and that the engine's decoder takes whatever was accepted:
 * the two ends cannot disagree about a limit.  The same where a remote may do
 * what engines cannot: what is counted for it is no more than there is.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include "api/request.h"

#define BLOCKS_MAX 64u

struct fuzz_memory {
    void *blocks[BLOCKS_MAX];
    size_t n_blocks;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);


static void *
fuzz_alloc(void *context, size_t bytes)
{
    struct fuzz_memory *m = context;

    if (m->n_blocks == BLOCKS_MAX)
        abort(); /* a handful per request, whatever the body is */
    m->blocks[m->n_blocks] = malloc(bytes ? bytes : 1);
    return m->blocks[m->n_blocks++];
}


static void
check_refusal(const struct axion_failure *failure)
{
    char room[8192];
    struct axion_out out;
    json_t *body;
    int status = axion_failure_status(failure);

    if (status < 400 || status >= 500)
        abort();
    axion_out_fixed(&out, room, sizeof(room));
    axion_failure_body(&out, failure);
    if (axion_out_status(&out) != AXION_OK)
        abort();
    body = json_loadb(out.data, out.bytes, 0, NULL);
    if (body == NULL)
        abort();
    json_decref(body);
}


static void
check_payload(const struct axion_parsed *parsed)
{
    struct axion_request_view view;
    char why[128];

    if (axion_request_decode(&view, parsed->payload, parsed->payload_bytes,
                             why, sizeof(why)) != AXION_OK)
        abort();
    if (view.n_messages != parsed->n_messages ||
        view.model.bytes != parsed->model.bytes)
        abort();
}


/* What is counted of the text was in it. */
static void
check_counts(const struct axion_parsed *parsed, size_t bytes)
{
    if (parsed->text_bytes > bytes || parsed->n_media > bytes ||
        parsed->n_tokens > bytes || parsed->n_answers == 0 ||
        parsed->n_answers > AXION_ANSWERS_MAX)
        abort();
    if (parsed->remote_only &&
        (parsed->payload != NULL || parsed->payload_bytes > bytes))
        abort();
}


static void
parse(enum axion_request_kind kind, int remote, const uint8_t *data,
      size_t bytes)
{
    struct axion_parse_options options = {.payload_bytes_max = 1u << 20,
                                          .remote = remote};
    struct fuzz_memory m = {.n_blocks = 0};
    struct axion_memory memory = {fuzz_alloc, &m};
    struct axion_parsed parsed;
    struct axion_failure failure;

    if (axion_request_parse(&parsed, kind, data, bytes, &options, &memory,
                            &failure) == AXION_OK) {
        check_counts(&parsed, bytes);
        if (!parsed.remote_only)
            check_payload(&parsed);
    } else {
        check_refusal(&failure);
    }
    while (m.n_blocks > 0)
        free(m.blocks[--m.n_blocks]);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    int remote;

    for (remote = 0; remote <= 1; remote++) {
        parse(AXION_REQUEST_CHAT, remote, data, bytes);
        parse(AXION_REQUEST_COMPLETION, remote, data, bytes);
    }
    return 0;
}
