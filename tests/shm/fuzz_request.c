/*
 * libFuzzer: any bytes as the payload of a SUBMIT.  What is accepted must
 * hold what the decoder promises: texts inside the payload and UTF-8, counts
 * within their limits, parts that can be walked.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "shm/errors.h"
#include "shm/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);


static void
require(int condition)
{
    if (!condition) {
        abort();
    }
}


static void
check_text(const struct axion_text *text, const uint8_t *data, size_t bytes)
{
    const uint8_t *start = (const uint8_t *)text->data;

    require(start >= data && text->bytes <= bytes &&
            start + text->bytes <= data + bytes);
    require(axion_utf8_valid(text->data, text->bytes));
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct axion_request_view view;
    struct axion_text part;
    char why[32];
    size_t cursor = 0;
    uint32_t roles = 0;
    unsigned tag;

    int rc = axion_request_decode(&view, data, bytes, why, sizeof(why));
    if (rc != AXION_OK) {
        require(rc == AXION_ERR_PROTOCOL && why[0] != 0);
        return 0;
    }
    require(why[0] == 0 && view.n_stops <= AXION_STOP_MAX);
    require(isfinite(view.head.temperature) && view.head.top_p > 0);
    while ((tag = axion_request_next_part(&view, &cursor, &part)) != 0) {
        check_text(&part, data, bytes);
        roles += tag == AXION_SECTION_ROLE;
    }
    require(roles == view.n_messages && roles <= AXION_MESSAGES_MAX);
    for (uint32_t i = 0; i < view.n_stops; i++) {
        check_text(&view.stops[i], data, bytes);
    }
    if (view.prompt.data != NULL) {
        check_text(&view.prompt, data, bytes);
    }
    if (view.grammar_kind != 0) {
        require(view.grammar_kind <= AXION_GRAMMAR_CHOICE &&
                view.grammar.bytes <= AXION_GRAMMAR_BYTES_MAX);
        check_text(&view.grammar, data, bytes);
    }
    require((view.head.kind == AXION_REQUEST_CHAT) == (roles > 0));
    return 0;
}
