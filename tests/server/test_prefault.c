/*
 * Shows that nobody waits for pages of KV that an idle engine brings in, and
 * that it brings in none beside requests, parked ones included.
 *
 * The server runs in a child of ours, where the call that asks the kernel for a
 * piece is this program's: it lasts for as long as the test wants, and brings
 * in nothing, so the kernel need not know how.
 */
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "engine/kv/kv.h"
#include "tests/server/in_child.h"

/* Shared with the child. */
struct shared {
    _Atomic uint32_t pieces; /* begun */
    atomic_bool held;        /* they last */
    pid_t parent;            /* but not beyond the test itself */
};

static struct shared *shared;
static struct engine engine;
static struct axion_client *client;


/* ---- the child ---- */

bool __wrap_ax_kv_populate(struct ax_kv *kv, uint64_t bytes_max);


bool
__wrap_ax_kv_populate(struct ax_kv *kv, uint64_t bytes_max)
{
    (void)kv;
    (void)bytes_max;
    atomic_fetch_add(&shared->pieces, 1);
    while (atomic_load(&shared->held) && getppid() == shared->parent) {
        sched_yield();
    }
    return atomic_load(&shared->pieces) < 3;
}


static void
serve(void)
{
    char listen[128];
    struct ax_server_options options;
    in_child_options(&options, listen, &engine);
    in_child_serve(&options);
}


/* ---- the tests ---- */

static void
wait_pieces(uint32_t n)
{
    while (atomic_load(&shared->pieces) < n) {
        sched_yield();
    }
}


/* Idle, within its first piece, which lasts. */
static void
start(void)
{
    atomic_store(&shared->pieces, 0);
    atomic_store(&shared->held, true);
    shared->parent = getpid();
    engine = (struct engine){0};
    engine_in_child = serve;
    engine_start(&engine, "q4_0", (const char *[]){NULL});
    engine_in_child = NULL;
    client = client_open(&engine, "test_prefault");
    wait_pieces(1);
}


static void
stop(void)
{
    axion_client_close(client);
    engine_stop(&engine);
}


static void
ask(struct stream *s)
{
    struct request_options o;
    request_init(&o, "it was a dark and stormy night", 12);
    run_alone(client, &o, s);
    assert_int_equal(s->n_tokens, 12);
}


static void
who_comes_waits_for_no_pages(void **state)
{
    static struct stream s;
    (void)state;
    start();
    ask(&s);
    ask(&s);
    assert_int_equal(atomic_load(&shared->pieces), 1);
    atomic_store(&shared->held, false);
    stop();
}


static void
none_are_brought_in_beside_requests(void **state)
{
    static struct stream alone, parked, s;
    struct request_options o;
    (void)state;
    start();
    ask(&alone);
    request_init(&o, "it was a dark and stormy night", 12);
    submit_short(client, &o, &alone, &parked); /* until its lease grows */
    atomic_store(&shared->held, false);
    for (uint32_t i = 0; i < 20; i++) {
        ask(&s);
    }
    assert_int_equal(atomic_load(&shared->pieces), 1);
    go_on(client, &alone, &parked);
    wait_pieces(3); /* and on it goes, to its end */
    ask(&s);
    assert_int_equal(atomic_load(&shared->pieces), 3);
    stop();
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_comes_waits_for_no_pages),
        cmocka_unit_test(none_are_brought_in_beside_requests),
    };
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
