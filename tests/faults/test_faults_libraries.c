/*
 * Shows that the libraries take every single failure in-process: tokenizer,
 * chat template, request parser, listening socket, and both ends of a channel
 * with one exchange.  For each N: a named error of the right kind or the same
 * result, no descriptor or mapping left, and the try after it works.  Under
 * AddressSanitizer (make asan-ubsan) nothing leaks either.
 *
 * Loading a model and running a step is tests/engine/test_load_faults.c.
 */
#include <string.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "api/request.h"
#include "engine/text/template.h"
#include "engine/text/tokenizer.h"
#include "tests/faults/faults.h"
#include "tests/shm/pair.h"
#include "tests/text/small_vocab.h"

#define IDS_MAX    64
#define BLOCKS_MAX 64
#define OUTPUT_MAX 512
#define POOL_BYTES (1u << 20)
#define FAULTS_MAX 100000
#define ALL_KINDS                                                              \
    (FAULT_MEMORY | FAULT_MAPPING | FAULT_RECEIVE | FAULT_SEND |               \
     FAULT_DESCRIPTOR)

/* What a scenario made, to be the same each time it succeeds. */
struct output {
    uint8_t bytes[OUTPUT_MAX];
    size_t n;
};

struct scenario {
    const char *name;
    int (*run)(struct output *out); /* 0 or an error */
    int (*is_named)(int error);     /* the right one for a shortage */
    uint32_t kinds;
};


static void
put(struct output *out, const void *data, size_t bytes)
{
    assert_true(bytes <= OUTPUT_MAX - out->n);
    memcpy(out->bytes + out->n, data, bytes);
    out->n += bytes;
}


static int
is_text_memory(int error)
{
    return error == AX_TEXT_NO_MEMORY;
}


static int
is_memory(int error)
{
    return error == AXION_ERR_NO_MEMORY;
}


static int
is_system(int error)
{
    return error == AXION_ERR_NO_MEMORY || error == AXION_ERR_SYSTEM ||
           error == AXION_ERR_ENGINE_LOST;
}


/* ---- text ---- */

static int
tokenize(const struct ax_tokenizer_params *params, struct output *out)
{
    static const char text[] = "Hello, w\xc3\xb6rld  12 <|im_end|>";
    struct ax_tokenizer *t;
    int32_t ids[IDS_MAX];
    char why[256] = "";
    size_t n = 0;
    int rc = ax_tokenizer_open(&t, params, why, sizeof(why));
    if (rc != AX_TEXT_OK) {
        assert_null(t);
        assert_true(why[0] != 0);
        return rc;
    }
    rc = ax_tokenizer_encode(t, text, sizeof(text) - 1, AX_ENCODE_PARSE_SPECIAL,
                             ids, IDS_MAX, &n);
    if (rc == AX_TEXT_OK) {
        assert_true(n > 0 && n <= IDS_MAX);
        put(out, ids, n * sizeof(*ids));
    }
    ax_tokenizer_close(t);
    return rc;
}


static int
run_bpe(struct output *out)
{
    return tokenize(small_vocab("gpt2", "llama-bpe"), out);
}


static int
run_spm(struct output *out)
{
    return tokenize(small_vocab("llama", NULL), out);
}


static int
render(const struct ax_template *t, struct output *out)
{
    struct ax_rendered r;
    struct ax_pool *pool;
    int rc = ax_pool_open(&pool, POOL_BYTES);
    if (rc != AX_TEXT_OK) {
        return rc;
    }
    struct ax_value *vars = ax_value_dict(pool);
    struct ax_value *list = ax_value_list(pool);
    for (int i = 0; i < 3; i++) {
        ax_value_append(pool, list, ax_value_string(pool, "ab", 2, false));
    }
    ax_value_put(pool, vars, "messages", list);
    rc = ax_pool_error(pool);
    if (rc == AX_TEXT_OK) {
        rc = ax_template_render(t, pool, vars, NULL, 0, &r);
    }
    if (rc == AX_TEXT_OK) {
        put(out, r.text, r.text_len);
    }
    ax_pool_close(pool);
    return rc;
}


static int
run_template(struct output *out)
{
    static const char source[] =
        "{% macro say(m) %}[{{ m | upper }}]{% endmacro %}"
        "{% for m in messages | map('trim') %}{{ say(m) }}"
        "{{ loop.index ~ {'a': [1, m]} | tojson }}{% endfor %}";
    struct ax_template *t;
    char why[256] = "";
    int rc = ax_template_open(&t, source, sizeof(source) - 1, why, sizeof(why));
    if (rc != AX_TEXT_OK) {
        assert_null(t);
        assert_true(why[0] != 0);
        return rc;
    }
    rc = render(t, out);
    ax_template_close(t);
    return rc;
}


/* ---- requests ---- */

struct blocks {
    void *block[BLOCKS_MAX];
    size_t n;
};


static void *
take_block(void *context, size_t bytes)
{
    struct blocks *b = context;
    void *block = malloc(bytes > 0 ? bytes : 1);
    assert_true(b->n < BLOCKS_MAX);
    if (block != NULL) {
        b->block[b->n++] = block;
    }
    return block;
}


static int
run_parser(struct output *out)
{
    static const char body[] =
        "{\"model\":\"tiny\",\"messages\":[{\"role\":\"system\",\"content\":"
        "\"\\u00e9\"},{\"role\":\"user\",\"content\":[{\"type\":\"text\","
        "\"text\":\"hello\"}]}],\"stop\":[\"a\",\"b\"],\"logit_bias\":"
        "{\"5\":-1.5},\"user\":\"me\",\"temperature\":0.5,\"stream\":true}";
    struct blocks blocks = {.n = 0};
    struct axion_memory memory = {take_block, &blocks};
    struct axion_parse_options options = {.payload_bytes_max = 1u << 20};
    struct axion_parsed parsed;
    struct axion_failure failure = {0};
    int rc = axion_request_parse(&parsed, AXION_REQUEST_CHAT, body,
                                 sizeof(body) - 1, &options, &memory, &failure);
    if (rc == AXION_OK) {
        put(out, parsed.payload, parsed.payload_bytes);
    }
    while (blocks.n > 0) {
        free(blocks.block[--blocks.n]);
    }
    return rc;
}


/* ---- the ring ---- */

static int
run_listen(struct output *out)
{
    char spec[64], path[128], why[128] = "";
    int fd;
    (void)out;
    snprintf(spec, sizeof(spec), "unix:/tmp/axion-faults-%d.sock,mode=0600",
             (int)getpid());
    int rc = axion_listen(spec, &fd, path, sizeof(path), why, sizeof(why));
    if (rc == AXION_OK) {
        close(fd);
        unlink(path);
    } else {
        assert_true(fd == -1 && why[0] != 0);
    }
    return rc;
}


/* Takes one command and answers it whole; AXION_AGAIN: there was none. */
static int
serve(struct axion_channel *channel)
{
    static const uint32_t id = 7;
    struct axion_cq_accepted accepted = {.prompt_tokens = 3};
    struct axion_cq_done done = {.reason = AXION_FINISH_STOP,
                                 .completion_tokens = 1};
    struct axion_command command;
    int rc = axion_channel_service(channel);
    if (rc == AXION_OK) {
        rc = axion_channel_next(channel, &command);
    }
    if (rc == AXION_OK) {
        axion_channel_accepted(channel, command.id, &accepted);
        (void)axion_channel_tokens(channel, command.id, &id, 1, "seven", 5,
                                   NULL, 0);
        axion_channel_done(channel, command.id, &done);
        rc = axion_channel_flush(channel);
    }
    return rc;
}


/* Both ends in turn, as their loops would call them: armed, and called again
 * because something arrived. */
static int
exchange(struct axion_client *client, struct axion_channel *channel,
         struct output *out)
{
    axion_stream_id id;
    struct axion_event event = {0};
    int rc = axion_client_service(client);
    if (rc == AXION_AGAIN) {
        rc = axion_channel_service(channel);
    }
    if (rc == AXION_OK) {
        rc = axion_client_service(client);
    }
    if (rc == AXION_OK) {
        (void)axion_channel_arm(channel);
        rc = axion_client_submit(client, "payload", 7, 1, out, &id);
    }
    if (rc == AXION_OK) {
        (void)axion_client_arm(client);
        rc = serve(channel);
    }
    while (rc == AXION_OK && event.op != AXION_CQ_DONE) {
        rc = axion_client_service(client);
        if (rc != AXION_OK || (rc = axion_client_peek(client, &event)) != 0) {
            break;
        }
        put(out, &event.op, sizeof(event.op));
        axion_client_advance(client);
    }
    return rc;
}


static int
run_channel(struct output *out)
{
    int flags = SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, fds[2];
    struct axion_client_options options = {.streams = 8, .name = "faults"};
    struct axion_channel_options channel_options = {0};
    struct axion_board_writer *board;
    struct axion_client *client = NULL;
    struct axion_channel *channel = NULL;
    int rc = axion_board_open(&board);
    if (rc != AXION_OK) {
        return rc;
    }
    assert_int_equal(socketpair(AF_UNIX, flags, 0, fds), 0);
    channel_options.board = board;
    rc = axion_client_open_fd(&client, fds[0], &options);
    if (rc != AXION_OK) {
        close(fds[1]);
    } else {
        rc = axion_channel_open(&channel, fds[1], &channel_options);
    }
    if (rc == AXION_OK) {
        rc = exchange(client, channel, out);
    }
    axion_client_close(client);
    axion_channel_close(channel);
    axion_board_close(board);
    return rc;
}


/* ---- every fault of every scenario ---- */

static void
each_fault(const struct scenario *s, uint32_t kind)
{
    static struct output expected, got;
    uint32_t failed = 0, same = 0;
    expected.n = 0;
    assert_int_equal(s->run(&expected), 0);
    int fds = open_fds(), maps = ring_maps();
    for (int64_t n = 0; n < FAULTS_MAX; n++) {
        got.n = 0;
        faults_arm(kind, n);
        int rc = s->run(&got);
        int hit = faults_disarm();
        assert_int_equal(open_fds(), fds);
        assert_int_equal(ring_maps(), maps);
        if (rc == 0) {
            assert_int_equal(got.n, expected.n);
            assert_memory_equal(got.bytes, expected.bytes, got.n);
            same += (uint32_t)hit;
        } else if (!s->is_named(rc)) {
            fail_msg("%s: fault %lld (%s) gave %d", s->name, (long long)n,
                     faults->call, rc);
        } else {
            failed++;
        }
        if (!hit) {
            assert_int_equal(rc, 0);
            break;
        }
    }
    got.n = 0;
    assert_int_equal(s->run(&got), 0);
    printf("%s, kind %u: %u failed, %u had the same result\n", s->name, kind,
           failed, same);
}


static void
test_every_fault(void **state)
{
    const struct scenario *s = *state;
    for (uint32_t kind = 1; kind <= ALL_KINDS; kind <<= 1) {
        if (s->kinds & kind) {
            each_fault(s, kind);
        }
    }
}


/* Several in a row: what is tried again fails again. */
static void
test_every_fault_that_stays(void **state)
{
    atomic_store(&faults->repeat, 16);
    test_every_fault(state);
    atomic_store(&faults->repeat, 0);
}


static struct scenario scenarios[] = {
    {"tokenizer, BPE", run_bpe, is_text_memory, FAULT_MEMORY},
    {"tokenizer, SPM", run_spm, is_text_memory, FAULT_MEMORY},
    {"chat template", run_template, is_text_memory, FAULT_MEMORY},
    {"request parser", run_parser, is_memory, FAULT_MEMORY},
    {"listen", run_listen, is_system, FAULT_DESCRIPTOR},
    {"channel", run_channel, is_system, ALL_KINDS},
};


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_every_fault, &scenarios[0]),
        cmocka_unit_test_prestate(test_every_fault, &scenarios[1]),
        cmocka_unit_test_prestate(test_every_fault, &scenarios[2]),
        cmocka_unit_test_prestate(test_every_fault, &scenarios[3]),
        cmocka_unit_test_prestate(test_every_fault, &scenarios[4]),
        cmocka_unit_test_prestate(test_every_fault, &scenarios[5]),
        cmocka_unit_test_prestate(test_every_fault_that_stays, &scenarios[3]),
        cmocka_unit_test_prestate(test_every_fault_that_stays, &scenarios[5]),
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
