/*
 * Shows that axiond takes every single failure of the system: the Nth
 * allocation, mapping, read, message or descriptor fails, for every N that
 * its start (or one request, connection included) has, or STARTS_MAX of them
 * evenly spread where a start has more.
 *
 * A start that fails is one crit line and exit status 1; one that goes on all
 * the same serves.  A request that fails has a named error, and the next one
 * is served by the same process as if nothing had been.  At the end it drains
 * and exits with 0, which under a sanitizer means that nothing leaked.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/faults/faults.h"
#include "tests/server/harness.h"
#include "tests/tiny/tiny_model.h"

#define NEVER (INT64_MAX / 2)
/* Starts that one kind of fault may cost; beyond it, N are taken at equal
 * distances (test_load_faults takes all of loading's). */
#define STARTS_MAX 200

static struct engine engine;
static char model[] = "/tmp/axion-faults-XXXXXX";
static struct stream reference;
static struct request_options completion, chat;


/* ---- one request on a channel of its own ---- */

static int
wait_for(struct axion_client *c)
{
    struct pollfd p = {.fd = axion_client_fd(c), .events = POLLIN};
    while (poll(&p, 1, -1) < 0) {
        assert_int_equal(errno, EINTR);
    }
    return axion_client_service(c);
}


static int
serve_stream(struct axion_client *c, const struct request_options *o,
             struct stream *s)
{
    int rc = AXION_OK;
    submit(c, o, s);
    while (!s->ended) {
        if (!pump(c) && rc != AXION_OK && rc != AXION_AGAIN) {
            return rc;
        }
        if (!s->ended && axion_client_arm(c) == 0) {
            rc = wait_for(c);
        }
    }
    return s->error;
}


/* AXION_OK, the channel's error or the stream's. */
static int
ask(const struct request_options *o, struct stream *s)
{
    struct axion_client_options options = {.path = engine.socket,
                                           .name = "faults"};
    struct axion_client *c;
    int rc = axion_client_open(&c, &options);
    if (rc != AXION_OK) {
        return rc;
    }
    while ((rc = axion_client_service(c)) == AXION_AGAIN) {
        wait_for(c);
    }
    if (rc == AXION_OK) {
        rc = serve_stream(c, o, s);
    }
    axion_client_close(c);
    return rc;
}


static void
expect_served(void)
{
    static struct stream s;
    int rc = ask(&completion, &s);
    if (rc != AXION_OK) {
        fail_msg("without a fault: %s %s", axion_error_info(rc)->name,
                 s.detail);
    }
    expect_same(&reference, &s);
}


/* ---- starts ---- */

/* True once it serves, all loaded; else it has ended, with one line that says why. */
static bool
starts(const char *const *args)
{
    char line[2048], last[2048] = "";
    engine = (struct engine){0};
    engine_start_on(&engine, model, args);
    while (fgets(line, sizeof(line), engine.log) != NULL) {
        if (strstr(line, " MB of weights ") != NULL) {
            return true;
        }
        strcpy(last, line);
    }
    int code = engine_wait(&engine);
    if (code != 1 || strstr(last, "[crit]") == NULL) {
        fail_msg("%s failed: exit %d after \"%s\"", faults->call, code, last);
    }
    printf("    %s: %s", faults->call, strstr(last, "[crit]"));
    return false;
}


/* The engine's own files go with engine_wait(), the model is shared. */
static void
stop(void)
{
    engine_stop(&engine);
}


static int64_t
calls_of_a_start(uint32_t kinds, const char *const *args)
{
    faults_arm(kinds, NEVER);
    assert_true(starts(args));
    stop();
    int64_t left = atomic_load(&faults->countdown);
    faults_disarm();
    return NEVER - left;
}


static void
each_start(uint32_t kinds, const char *what, const char *const *args)
{
    int64_t total = calls_of_a_start(kinds, args);
    int64_t stride = (total + STARTS_MAX - 1) / STARTS_MAX;
    uint32_t refused = 0, served = 0;
    assert_true(total > 0);
    for (int64_t n = 0; n < total; n += stride) {
        faults_arm(kinds, n);
        if (starts(args)) {
            /* Threads differ in their order: the last may not be reached. */
            (void)faults_disarm();
            expect_served();
            stop();
            served++;
        } else {
            assert_true(faults_disarm());
            refused++;
        }
    }
    printf("%s: %lld calls; %u starts refused, %u served all the same\n", what,
           (long long)total, refused, served);
    assert_true(starts(args));
    expect_served();
    stop();
}


static const char *const plain[] = {NULL};
static const char *const epoll[] = {"--event-loop", "epoll", NULL};


static void
test_memory_fails_at_start(void **state)
{
    (void)state;
    each_start(FAULT_MEMORY, "memory", plain);
}


static void
test_mappings_fail_at_start(void **state)
{
    (void)state;
    each_start(FAULT_MAPPING, "mappings", plain);
}


static void
test_reads_fail_at_start(void **state)
{
    (void)state;
    each_start(FAULT_READ, "reads", plain);
}


static void
test_reads_are_short_at_start(void **state)
{
    (void)state;
    each_start(FAULT_SHORT_READ, "short reads", plain);
}


static void
test_descriptors_and_threads_fail_at_start(void **state)
{
    (void)state;
    each_start(FAULT_DESCRIPTOR | FAULT_THREAD, "io_uring", plain);
    each_start(FAULT_DESCRIPTOR | FAULT_THREAD, "epoll", epoll);
}


/* ---- requests ---- */

static void
each_request(uint32_t kinds, const char *what, const struct request_options *o)
{
    static struct stream s;
    uint32_t failed = 0, served = 0;
    for (int64_t n = 0;; n++) {
        faults_arm(kinds, n);
        int rc = ask(o, &s);
        if (!faults_disarm()) {
            assert_int_equal(rc, AXION_OK);
            break;
        }
        if (rc == AXION_OK) {
            served++;
        } else {
            failed++;
            printf("    %s: %s %s\n", faults->call, axion_error_info(rc)->name,
                   s.detail);
            assert_true(rc != AXION_ERR_INTERNAL && rc != AXION_ERR_PROTOCOL);
        }
        expect_served();
    }
    printf("%s: %u requests failed, %u were served all the same\n", what,
           failed, served);
    assert_true(failed + served > 0);
}


static void
each_fault_of_requests(const char *const *args)
{
    assert_true(starts(args));
    each_request(FAULT_MEMORY, "memory, completion", &completion);
    each_request(FAULT_MEMORY, "memory, chat", &chat);
    each_request(FAULT_MAPPING, "mappings", &completion);
    each_request(FAULT_RECEIVE, "recvmsg", &completion);
    each_request(FAULT_SEND, "send", &completion);
    atomic_store(&faults->repeat, 8);
    each_request(FAULT_SEND, "send, several times", &completion);
    atomic_store(&faults->repeat, 0);
    each_request(FAULT_DESCRIPTOR, "descriptors", &completion);
    stop();
}


static void
test_requests(void **state)
{
    (void)state;
    each_fault_of_requests(plain);
}


static void
test_requests_on_epoll(void **state)
{
    (void)state;
    each_fault_of_requests(epoll);
}


static int
prepare(void **state)
{
    (void)state;
    int fd = mkstemp(model);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(tiny_model_write(model, tiny_variant_find("q4_0")), 0);
    faults_share();
    engine_program = "tests/faults/axiond-faults";
    request_init(&completion, "The way of a request", 12);
    request_init(&chat, NULL, 6);
    chat.user_message = "Name three colours.";
    assert_true(starts(plain));
    assert_int_equal(ask(&completion, &reference), AXION_OK);
    stop();
    return 0;
}


static int
clean(void **state)
{
    (void)state;
    return unlink(model);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_fails_at_start),
        cmocka_unit_test(test_mappings_fail_at_start),
        cmocka_unit_test(test_reads_fail_at_start),
        cmocka_unit_test(test_reads_are_short_at_start),
        cmocka_unit_test(test_descriptors_and_threads_fail_at_start),
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_requests_on_epoll),
    };
    setvbuf(stdout, NULL, _IOLBF, 0); /* a hang shows where */
    return cmocka_run_group_tests(tests, prepare, clean);
}
