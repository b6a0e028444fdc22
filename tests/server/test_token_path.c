/*
 * Shows what a step of streams that run costs besides computing, whoever drafts
 * and some of them within a grammar: no call of the allocator, no lock, at most
 * one doorbell per sleeping worker and one futex wake, and none of the former
 * at all while the worker is awake.
 *
 * The server runs in a child of ours, so that this program's own malloc() and
 * pthread_mutex_lock() serve it and count; a tracer (ptrace) counts its system
 * calls.  Counts are taken between two moments at which all streams run, and
 * the steps in between come from the load board.
 */
#include <errno.h>
#include <dirent.h>
#include <linux/futex.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "engine/server/server.h"
#include "tests/server/in_child.h"

#define STREAMS     8u
#define SYSCALL_MAX 512u

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* Shared by the test, the server and the tracer. */
struct counts {
    _Atomic uint32_t armed;
    _Atomic uint32_t allocations, locks;
    _Atomic uint32_t calls[SYSCALL_MAX];
    _Atomic uint32_t futex_wakes;
    _Atomic uint32_t tracing; /* 1: all threads are; 2: not allowed */
};

static struct counts *counts;
static struct engine engine;
static struct axion_client *client;
static struct stream streams[STREAMS];
static const char *event_loop, *speculate, *kv_type;


/* ---- what the server's calls go through ---- */

#if !SANITIZED

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t n, size_t bytes);
extern void *__libc_realloc(void *memory, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);
extern void __libc_free(void *memory);


static void
count_allocation(void)
{
    if (counts != NULL && atomic_load(&counts->armed) != 0) {
        atomic_fetch_add(&counts->allocations, 1);
    }
}


void *
malloc(size_t bytes)
{
    count_allocation();
    return __libc_malloc(bytes);
}


void *
calloc(size_t n, size_t bytes)
{
    count_allocation();
    return __libc_calloc(n, bytes);
}


void *
realloc(void *memory, size_t bytes)
{
    count_allocation();
    return __libc_realloc(memory, bytes);
}


void *
aligned_alloc(size_t alignment, size_t bytes)
{
    count_allocation();
    return __libc_memalign(alignment, bytes);
}


void
free(void *memory)
{
    if (memory != NULL) {
        count_allocation();
    }
    __libc_free(memory);
}

#endif


int __real_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);


int
__wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    if (counts != NULL && atomic_load(&counts->armed) != 0) {
        atomic_fetch_add(&counts->locks, 1);
    }
    return __real_pthread_mutex_lock(mutex);
}


/* In the child, in place of axiond. */
static void
serve(void)
{
    char listen[128];
    struct ax_server_options options;
    (void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    in_child_options(&options, listen, &engine);
    options.event_loop = event_loop;
    options.speculate = speculate;
    options.draft = strcmp(speculate, "draft") == 0 ? options.model : NULL;
    options.kv_type = kv_type;
    options.threads = 2;
    in_child_serve(&options);
}


/* ---- the tracer, a process of its own ---- */

/* false: a thread of it is gone, or tracing is not allowed. */
static bool
seize_threads(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *dir = opendir(path);
    bool all = dir != NULL;
    for (struct dirent *entry; all && (entry = readdir(dir)) != NULL;) {
        pid_t tid = (pid_t)atoi(entry->d_name);
        all = tid == 0 ||
              (ptrace(PTRACE_SEIZE, tid, NULL, PTRACE_O_TRACESYSGOOD) == 0 &&
               ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) == 0);
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return all;
}


static void
count_call(pid_t tid)
{
    struct __ptrace_syscall_info info;
    if (atomic_load(&counts->armed) == 0 ||
        ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof(info), &info) <= 0 ||
        info.op != PTRACE_SYSCALL_INFO_ENTRY) {
        return;
    }
    if (info.entry.nr < SYSCALL_MAX) {
        atomic_fetch_add(&counts->calls[info.entry.nr], 1);
    }
    if (info.entry.nr == SYS_futex &&
        (info.entry.args[1] & FUTEX_CMD_MASK) == FUTEX_WAKE) {
        atomic_fetch_add(&counts->futex_wakes, 1);
    }
}


static void
trace(pid_t pid)
{
    int status;
    if (!seize_threads(pid)) {
        atomic_store(&counts->tracing, 2);
        _exit(0);
    }
    atomic_store(&counts->tracing, 1);
    for (pid_t tid; (tid = waitpid(-1, &status, __WALL)) > 0;) {
        if (!WIFSTOPPED(status)) {
            continue;
        }
        int number = WSTOPSIG(status);
        if (number == (SIGTRAP | 0x80)) {
            count_call(tid);
        }
        bool ours = number == (SIGTRAP | 0x80) || status >> 16 != 0;
        (void)ptrace(PTRACE_SYSCALL, tid, NULL, ours ? 0 : number);
    }
    _exit(0);
}


static pid_t
start_tracer(void)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        trace(engine.pid);
    }
    while (atomic_load(&counts->tracing) == 0) {
        sched_yield();
    }
    return pid;
}


/* ---- a measurement ---- */

static void
start(const char *loop, const char *kind, const char *kv)
{
    event_loop = loop;
    speculate = kind;
    kv_type = kv;
    counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(counts != MAP_FAILED);
    engine_in_child = serve;
    engine_start_slow(&engine, (const char *[]){NULL});
    engine_in_child = NULL;
    client = client_open(&engine, "test_token_path");
}


static void
stop(void)
{
    axion_client_close(client);
    engine_stop(&engine);
    struct counts *gone = counts;
    counts = NULL;
    munmap(gone, sizeof(*gone));
}


static void
start_streams(uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct request_options o;
        /* All but the first find its beginning in the prefix cache. */
        request_init(&o,
                     "one two one two one two one two one two one two "
                     "one two one two one two one two one two one two ",
                     900);
        o.head.seed = i;
        o.head.temperature = i % 2 == 0 ? 0 : 1;
        if (i % 4 == 3) {
            o.grammar_kind = AXION_GRAMMAR_GBNF;
            o.grammar = "root ::= [a-z ]*";
        }
        submit(client, &o, &streams[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        wait_tokens(client, &streams[i], 20);
    }
}


static uint64_t
steps_now(void)
{
    struct axion_board board;
    read_board(client, &board);
    assert_true(board.step_threads_total >= board.steps);
    return board.steps;
}


/* Steps between the two moments, at least; awake: the worker never sleeps. */
static uint64_t
watch(uint32_t n, uint32_t tokens, bool awake)
{
    uint32_t until = streams[0].n_tokens + tokens;
    uint64_t before = steps_now();
    atomic_store(&counts->armed, 1);
    while (streams[0].n_tokens < until) {
        if (awake) {
            (void)pump(client);
        } else {
            wait_some(client);
        }
    }
    atomic_store(&counts->armed, 0);
    uint64_t steps = steps_now() - before + 2;
    for (uint32_t i = 0; i < n; i++) {
        assert_false(streams[i].ended);
    }
    return steps;
}


static void
end_streams(uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        axion_client_cancel(client, streams[i].id);
    }
    for (uint32_t i = 0; i < n; i++) {
        wait_ended(client, &streams[i]);
    }
}


/* A request that comes is allocated for and handed over under a lock. */
static void
expect_counting(void)
{
    static struct stream one;
    struct request_options o;
    request_init(&o, "three", 1);
    atomic_store(&counts->armed, 1);
    submit(client, &o, &one);
    wait_ended(client, &one);
    atomic_store(&counts->armed, 0);
    assert_true(atomic_load(&counts->allocations) > 0);
    assert_true(atomic_load(&counts->locks) > 0);
}


static void
test_nothing_is_allocated_or_locked(void **state)
{
    static const char *const loops[] = {"io_uring", "epoll", "epoll"};
    static const char *const kinds[] = {"off", "suffix", "draft"};
    static const char *const types[] = {"q8_0", "f16", "f16"};
    (void)state;
    if (SANITIZED) {
        print_message("skipped: a sanitizer has an allocator of its own\n");
        skip();
    }
    for (int i = 0; i < 3; i++) {
        start(loops[i], kinds[i], types[i]);
        start_streams(STREAMS);
        (void)watch(STREAMS, 100, false);
        assert_int_equal(atomic_load(&counts->allocations), 0);
        assert_int_equal(atomic_load(&counts->locks), 0);
        expect_counting();
        end_streams(STREAMS);
        stop();
    }
}


static bool
may_trace(pid_t tracer)
{
    if (atomic_load(&counts->tracing) == 1) {
        return true;
    }
    print_message("skipped: this process may not trace its child\n");
    (void)waitpid(tracer, NULL, 0);
    return false;
}


/* What a thread does whose CPU another one has: on a machine of its own there
 * is none of it, beside others as much as the kernel makes needful. */
static bool
is_of_shared_cpus(uint32_t call)
{
    return call == SYS_sched_yield || call == SYS_sched_getaffinity ||
           call == SYS_sched_setaffinity;
}


/* Others than the loop's waiting, the doorbell and the threads' waiting and
 * getting out of each other's way must not be there at all. */
static void
expect_calls(uint64_t steps, uint64_t doorbells_max)
{
    uint64_t waits = 0;
    for (uint32_t i = 0; i < SYSCALL_MAX; i++) {
        uint32_t n = atomic_load(&counts->calls[i]);
        if (n == 0 || i == SYS_futex || is_of_shared_cpus(i)) {
            continue;
        }
        if (i == SYS_clock_gettime) {
            continue; /* of a clock that the kernel's vDSO cannot read */
        }
        print_message("%u system calls %u in %lu steps\n", n, i,
                      (unsigned long)steps);
        if (i == SYS_io_uring_enter || i == SYS_epoll_pwait ||
            i == SYS_epoll_pwait2
#ifdef SYS_epoll_wait
            || i == SYS_epoll_wait
#endif
        ) {
            waits += n;
        } else if (i == SYS_sendto) {
            assert_true(n <= doorbells_max);
        } else if (i == SYS_recvmsg) {
            assert_true(n <= 2 * steps); /* the worker's doorbells */
        } else {
            fail_msg("system call %u on the token path", i);
        }
    }
    assert_true(waits <= 2 * steps);
    assert_true(atomic_load(&counts->futex_wakes) <= steps);
}


static void
trace_one(const char *loop, bool awake)
{
    if (SANITIZED) {
        print_message("skipped: a sanitizer makes system calls of its own\n");
        skip();
    }
    start(loop, "suffix", awake ? "f16" : "q8_0");
    pid_t tracer = start_tracer();
    bool may = may_trace(tracer);
    if (may) {
        start_streams(STREAMS);
        uint64_t steps = watch(STREAMS, 60, awake);
        expect_calls(steps, awake ? 0 : steps);
        end_streams(STREAMS);
    }
    stop();
    if (may) {
        (void)waitpid(tracer, NULL, 0);
    } else {
        skip();
    }
}


static void
test_awake_worker_costs_no_doorbell(void **state)
{
    (void)state;
    trace_one("io_uring", true);
    trace_one("epoll", true);
}


static void
test_one_doorbell_per_sleeping_worker(void **state)
{
    (void)state;
    trace_one("io_uring", false);
    trace_one("epoll", false);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_allocated_or_locked),
        cmocka_unit_test(test_awake_worker_costs_no_doorbell),
        cmocka_unit_test(test_one_doorbell_per_sleeping_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
