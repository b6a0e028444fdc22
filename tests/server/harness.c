/* See harness.h. */
#include "tests/server/harness.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGS_MAX 32


bool engine_without_io_uring;
const char *engine_program = "axiond";
void (*engine_in_child)(void);


/* ---- the child ---- */

static void
refuse_io_uring(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        perror("seccomp");
        _exit(127);
    }
}


static void
exec_engine(const struct engine *e, const char *path, const char *const *args,
            int log_fd)
{
    char program[512], listen[128];
    const char *build = getenv("AXION_BUILD");
    snprintf(program, sizeof(program), "%s/%s", build != NULL ? build : "build",
             engine_program);
    snprintf(listen, sizeof(listen), "unix:%s", e->socket);
    const char *argv[ARGS_MAX] = {program, "--model",   path, "--listen",
                                  listen,  "--threads", "1"};
    size_t n = 7;
    while (*args != NULL && n + 1 < ARGS_MAX) {
        argv[n++] = *args++;
    }
    dup2(log_fd, STDERR_FILENO);
    if (engine_without_io_uring) {
        refuse_io_uring();
    }
    if (engine_in_child != NULL) {
        engine_in_child();
    }
    execv(program, (char *const *)(uintptr_t)argv);
    fprintf(stderr, "%s: %s\n", program, strerror(errno));
    _exit(127);
}


void
engine_start_on(struct engine *e, const char *path, const char *const *args)
{
    int fds[2];
    if (e->directory[0] == '\0') {
        strcpy(e->directory, "/tmp/axion-test-XXXXXX");
        assert_non_null(mkdtemp(e->directory));
    }
    snprintf(e->socket, sizeof(e->socket), "%s/engine.sock", e->directory);
    assert_int_equal(pipe(fds), 0);
    e->pid = fork();
    assert_true(e->pid >= 0);
    if (e->pid == 0) {
        close(fds[0]);
        exec_engine(e, path, args, fds[1]);
    }
    close(fds[1]);
    e->log = fdopen(fds[0], "r");
    assert_non_null(e->log);
}


static void
start_on_options(struct engine *e, const char *name,
                 const struct tiny_options *o, const char *const *args)
{
    *e = (struct engine){0};
    strcpy(e->directory, "/tmp/axion-test-XXXXXX");
    assert_non_null(mkdtemp(e->directory));
    snprintf(e->model, sizeof(e->model), "%s/%s.gguf", e->directory, name);
    assert_int_equal(tiny_model_write(e->model, o), 0);
    engine_start_on(e, e->model, args);
    engine_wait_loaded(e);
}


void
engine_start(struct engine *e, const char *variant, const char *const *args)
{
    const struct tiny_options *o = tiny_variant_find(variant);
    assert_non_null(o);
    engine_start_options(e, o, args);
}


void
engine_start_options(struct engine *e, const struct tiny_options *o,
                     const char *const *args)
{
    start_on_options(e, "tiny", o, args);
}


void
engine_start_slow(struct engine *e, const char *const *args)
{
    const struct tiny_options o = {
        .format = TINY_Q8_0, .n_layer = 8, .n_embd = 512, .n_ff = 2048};
    start_on_options(e, "big", &o, args);
}


void
engine_wait_log(struct engine *e, const char *words)
{
    char line[2048];
    while (fgets(line, sizeof(line), e->log) != NULL) {
        fputs(line, stdout);
        if (strstr(line, words) != NULL) {
            return;
        }
    }
    fail_msg("axiond ended without saying \"%s\"", words);
}


void
engine_wait_loaded(struct engine *e)
{
    engine_wait_log(e, "ready on");
    engine_wait_log(e, " MB of weights ");
}


int
engine_wait(struct engine *e)
{
    char line[2048];
    int status = 0;
    while (fgets(line, sizeof(line), e->log) != NULL) {
        fputs(line, stdout);
    }
    fclose(e->log);
    assert_int_equal(waitpid(e->pid, &status, 0), e->pid);
    (void)unlink(e->model);
    (void)unlink(e->socket);
    (void)rmdir(e->directory);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}


void
engine_stop(struct engine *e)
{
    assert_int_equal(kill(e->pid, SIGTERM), 0);
    assert_int_equal(engine_wait(e), 0);
}


/* ---- the client ---- */

void
request_init(struct request_options *o, const char *prompt, uint32_t max_tokens)
{
    *o = (struct request_options){
        .head = {.kind = AXION_REQUEST_COMPLETION,
                 .flags = AXION_REQUEST_STREAM | AXION_REQUEST_SEED |
                          AXION_REQUEST_IGNORE_EOS,
                 .top_p = 1,
                 .repetition_penalty = 1,
                 .priority = 1,
                 .max_tokens = max_tokens},
        .prompt = prompt,
        .lease = AXION_LEASE_UNLIMITED,
    };
}


static void *
grow(void *context, void *data, size_t old, size_t bytes)
{
    (void)context;
    (void)old;
    return realloc(data, bytes);
}


static void
add(struct axion_request_writer *w, enum axion_request_section tag,
    const void *data, size_t bytes)
{
    assert_int_equal(axion_request_add(w, tag, data, bytes), AXION_OK);
}


static void
encode(struct axion_request_writer *w, const struct request_options *o)
{
    struct axion_request_head head = o->head;
    *w = (struct axion_request_writer){.bytes_max = 8u << 20, .grow = grow};
    head.kind =
        o->user_message != NULL ? AXION_REQUEST_CHAT : AXION_REQUEST_COMPLETION;
    assert_int_equal(axion_request_begin(w, &head), AXION_OK);
    if (o->model != NULL) {
        add(w, AXION_SECTION_MODEL, o->model, strlen(o->model));
    }
    if (o->user_message != NULL) {
        add(w, AXION_SECTION_ROLE, "user", 4);
        add(w, AXION_SECTION_TEXT, o->user_message, strlen(o->user_message));
    } else if (o->ids != NULL) {
        add(w, AXION_SECTION_TOKENS, o->ids, o->n_ids * sizeof(*o->ids));
    } else {
        add(w, AXION_SECTION_PROMPT, o->prompt, strlen(o->prompt));
    }
    if (o->stop != NULL) {
        add(w, AXION_SECTION_STOP, o->stop, strlen(o->stop));
    }
    if (o->grammar_kind != 0) {
        axion_request_add_grammar(w, o->grammar_kind, o->grammar,
                                  strlen(o->grammar));
    }
    if (o->n_biases > 0) {
        add(w, AXION_SECTION_LOGIT_BIAS, o->biases,
            o->n_biases * sizeof(*o->biases));
    }
    assert_int_equal(axion_request_end(w), AXION_OK);
}


static void
wait_fd(struct axion_client *c)
{
    struct pollfd p = {.fd = axion_client_fd(c), .events = POLLIN};
    while (poll(&p, 1, -1) < 0) {
        assert_int_equal(errno, EINTR);
    }
}


struct axion_client *
client_open(const struct engine *e, const char *name)
{
    return client_open_credit(e, name, 0);
}


struct axion_client *
client_open_credit(const struct engine *e, const char *name, uint32_t credit)
{
    struct axion_client_options o = {
        .path = e->socket, .name = name, .streams = 128, .credit = credit};
    struct axion_client *c;
    assert_int_equal(axion_client_open(&c, &o), AXION_OK);
    int rc;
    while ((rc = axion_client_service(c)) == AXION_AGAIN) {
        wait_fd(c);
    }
    assert_int_equal(rc, AXION_OK);
    return c;
}


void
submit(struct axion_client *c, const struct request_options *o,
       struct stream *s)
{
    submit_leased(c, o, 0, s);
}


void
submit_leased(struct axion_client *c, const struct request_options *o,
              uint64_t lease_id, struct stream *s)
{
    struct axion_request_writer w;
    memset(s, 0, sizeof(*s));
    encode(&w, o);
    assert_int_equal(axion_client_submit_leased(c, w.data, w.bytes, o->lease,
                                                lease_id, s, &s->id),
                     AXION_OK);
    free(w.data);
}


static void
take_tokens(struct stream *s, const struct axion_event *e)
{
    assert_true(s->accepted && !s->ended);
    assert_int_equal(e->tokens.position, s->n_tokens);
    assert_true(s->n_tokens + e->tokens.n_tokens <= TOKENS_MAX);
    assert_true(s->text_bytes + e->tokens.text_bytes <= TEXT_MAX);
    memcpy(s->tokens + s->n_tokens, e->tokens.ids,
           e->tokens.n_tokens * sizeof(uint32_t));
    memcpy(s->text + s->text_bytes, e->tokens.text, e->tokens.text_bytes);
    s->n_tokens += e->tokens.n_tokens;
    s->text_bytes += e->tokens.text_bytes;
}


static void
take(struct stream *s, const struct axion_event *e)
{
    assert_false(s->ended);
    switch (e->op) {
    case AXION_CQ_ACCEPTED:
        s->accepted = true;
        s->acceptance = e->accepted;
        break;
    case AXION_CQ_TOKENS:
        take_tokens(s, e);
        break;
    case AXION_CQ_LEASE_LOW:
        s->lease_lows++;
        s->lease_low = e->lease_low;
        break;
    case AXION_CQ_DONE:
        s->ended = true;
        s->done = e->done;
        break;
    case AXION_CQ_ERROR:
        s->ended = true;
        s->error = e->error.error;
        s->retry_after_ms = e->error.retry_after_ms;
        snprintf(s->detail, sizeof(s->detail), "%.*s", (int)e->error.text_bytes,
                 e->error.text);
        break;
    default:
        break;
    }
}


bool
pump(struct axion_client *c)
{
    struct axion_event e;
    bool any = false;
    int rc;
    while ((rc = axion_client_peek(c, &e)) == AXION_OK) {
        if (e.user != NULL) {
            take(e.user, &e);
        }
        axion_client_advance(c);
        any = true;
    }
    assert_true(rc == AXION_AGAIN || rc == AXION_ERR_ENGINE_LOST);
    return any;
}


void
wait_some(struct axion_client *c)
{
    while (!pump(c)) {
        if (axion_client_arm(c) == 0) {
            wait_fd(c);
            int rc = axion_client_service(c);
            if (rc == AXION_ERR_ENGINE_LOST && pump(c)) {
                return; /* what it said before it went */
            }
            assert_true(rc == AXION_OK || rc == AXION_AGAIN);
        }
    }
}


void
wait_ended(struct axion_client *c, const struct stream *s)
{
    while (!s->ended) {
        wait_some(c);
    }
}


void
wait_accepted(struct axion_client *c, const struct stream *s)
{
    while (!s->accepted && !s->ended) {
        wait_some(c);
    }
}


void
wait_tokens(struct axion_client *c, const struct stream *s, uint32_t n)
{
    while (s->n_tokens < n && !s->ended) {
        wait_some(c);
    }
}


void
submit_short(struct axion_client *c, const struct request_options *o,
             const struct stream *alone, struct stream *s)
{
    struct request_options leased = *o;
    uint32_t n = alone->n_tokens - 1;
    leased.lease = alone->done.prompt_tokens + n;
    submit(c, &leased, s);
    wait_tokens(c, s, n);
}


void
go_on(struct axion_client *c, const struct stream *alone, struct stream *s)
{
    if (!s->ended) {
        axion_client_topup(c, s->id, alone->n_tokens);
    }
    wait_ended(c, s);
    expect_same(alone, s);
}


void
read_board(struct axion_client *c, struct axion_board *board)
{
    while (axion_client_board(c, board) != AXION_OK) {
    }
}


void
run_alone(struct axion_client *c, const struct request_options *o,
          struct stream *s)
{
    submit(c, o, s);
    wait_ended(c, s);
    if (s->error != AXION_OK) {
        fail_msg("error %d: %s", s->error, s->detail);
    }
    assert_int_equal(s->done.completion_tokens, s->n_tokens);
}


void
expect_same(const struct stream *a, const struct stream *b)
{
    assert_int_equal(a->error, b->error);
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_memory_equal(a->tokens, b->tokens, a->n_tokens * sizeof(uint32_t));
    assert_int_equal(a->text_bytes, b->text_bytes);
    assert_memory_equal(a->text, b->text, a->text_bytes);
    assert_int_equal(a->done.reason, b->done.reason);
    assert_int_equal(a->done.prompt_tokens, b->done.prompt_tokens);
}


void
stop_idle(struct engine *e, struct axion_client *c)
{
    struct axion_board board;
    read_board(c, &board);
    assert_int_equal(board.running + board.waiting + board.parked, 0);
    assert_int_equal(board.kv_blocks_used, 0);
    axion_client_close(c);
    engine_stop(e);
}
