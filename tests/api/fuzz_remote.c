/*
 * Any bytes as what a remote sends: a stream of events, cut where the first
 * byte says, and the same bytes as a whole answer and as an error.  What must
 * hold: usage stays within its bounds; what the client gets is JSON again, fits
 * the room that was promised for it, says nothing of the remote's id, and the
 * cut changes nothing.
 */
#include <stdlib.h>
#include <string.h>
#include "api/json_walk.h"
#include "api/remote.h"
#include "api/sse.h"
#include "shm/errors.h"

#define BYTES_MAX      65536
#define PROMPT_MAX     500u
#define COMPLETION_MAX 100u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

struct run {
    struct axion_response response;
    struct axion_remote_answer answer;
    uint64_t hash;
};

static char arena[16 * BYTES_MAX];
static size_t arena_used;


static void *
take(void *context, size_t bytes)
{
    void *p = arena + arena_used;

    (void)context;
    bytes = (bytes + 15) & ~(size_t)15;
    if (bytes > sizeof(arena) - arena_used)
        return NULL;
    arena_used += bytes;
    return p;
}


static const struct axion_memory memory = {take, NULL};


static void
expect(int condition)
{
    if (!condition)
        abort();
}


static int
chunk_in(void *context, const char *data, size_t bytes)
{
    static char text[4 * BYTES_MAX];
    struct run *run = context;
    struct axion_remote_chunk chunk;
    struct axion_text value;
    struct axion_out out;
    size_t skip, i;
    int error = axion_remote_read(&run->answer, &chunk, data, bytes);

    run->hash = run->hash * 31 + (uint64_t)error;
    expect(run->answer.prompt_tokens <= PROMPT_MAX &&
           run->answer.completion_tokens <= COMPLETION_MAX &&
           run->answer.cached_tokens <= run->answer.prompt_tokens);
    if (error != AXION_OK)
        return error;
    axion_out_fixed(&out, text,
                    axion_remote_bytes_max(&run->response, bytes));
    axion_remote_write(&out, &run->response, &chunk, &run->answer);
    expect(axion_out_status(&out) == AXION_OK);
    if (out.bytes == 0)
        return AXION_OK;
    skip = run->response.options.stream ? strlen("data: ") : 0;
    expect(axion_walk_value(text + skip, out.bytes - skip, &value) ==
           AXION_OK);
    if (skip)
        expect(memchr(text, '\n', out.bytes) == text + out.bytes - 2);
    value = axion_walk_find(&value, "id");
    expect(axion_walk_is(&value, run->response.id));
    for (i = 0; i < out.bytes; i++)
        run->hash = run->hash * 31 + (uint8_t)text[i];
    return AXION_OK;
}


static uint64_t
stream_in(const char *data, size_t bytes, size_t cut, int usage)
{
    struct axion_response_options options = {
        .stream = 1, .include_usage = usage, .model = {"m", 1}};
    struct axion_sse sse;
    struct run run;

    arena_used = 0;
    memset(&run, 0, sizeof(run));
    run.answer.prompt_max = PROMPT_MAX;
    run.answer.completion_max = COMPLETION_MAX;
    expect(axion_response_open(&run.response, &options, &memory) == AXION_OK);
    axion_sse_open(&sse, &memory, BYTES_MAX);
    if (axion_sse_feed(&sse, data, cut, chunk_in, &run) == AXION_OK)
        (void)axion_sse_feed(&sse, data + cut, bytes - cut, chunk_in, &run);
    return run.hash;
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct axion_response_options options = {.model = {"m", 1}};
    struct run run;
    size_t cut;

    if (bytes < 1 || bytes > BYTES_MAX / 2)
        return 0;
    cut = bytes > 1 ? data[0] % (bytes - 1) : 0;
    data++;
    bytes--;
    expect(stream_in((const char *)data, bytes, cut, 0) ==
           stream_in((const char *)data, bytes, 0, 0));
    (void)stream_in((const char *)data, bytes, cut, 1);

    arena_used = 0;
    memset(&run, 0, sizeof(run));
    run.answer.prompt_max = PROMPT_MAX;
    run.answer.completion_max = COMPLETION_MAX;
    expect(axion_response_open(&run.response, &options, &memory) == AXION_OK);
    (void)chunk_in(&run, (const char *)data, bytes);
    axion_remote_read_error(&run.answer, (const char *)data, bytes);
    expect(memchr(run.answer.message, '\0', sizeof(run.answer.message)) !=
           NULL);
    return 0;
}
