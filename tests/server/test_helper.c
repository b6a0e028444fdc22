/*
 * Shows that the helper thread lets keys take turns, keeps the order within
 * one, gives back what was dropped without running it, and does not wait for
 * a long job when it is closed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <poll.h>
#include <semaphore.h>
#include <string.h>
#include "engine/server/helper.h"

#define JOBS 12

struct test_job {
    struct ax_job job; /* first: jobs point here */
    char name;
};

static struct ax_helper *helper;
static sem_t entered, go;
static struct test_job jobs[JOBS];
static unsigned n_jobs;
static char ran[JOBS + 1]; /* the helper's until its jobs are taken */
static unsigned n_ran;


static void
note(struct ax_job *job)
{
    ran[n_ran++] = ((struct test_job *)job)->name;
}


static void
note_and_wait(struct ax_job *job)
{
    note(job);
    sem_post(&entered);
    sem_wait(&go);
}


static struct ax_job *
submit(char name, uint64_t key, void (*run)(struct ax_job *job))
{
    struct test_job *t = &jobs[n_jobs++];
    *t = (struct test_job){.job = {.run = run, .key = key}, .name = name};
    ax_helper_submit(helper, &t->job);
    return &t->job;
}


/* The thread is in a job of key 0 that ends with go; what is submitted until
 * then waits. */
static void
start(void)
{
    n_jobs = n_ran = 0;
    memset(ran, 0, sizeof(ran));
    sem_init(&entered, 0, 0);
    sem_init(&go, 0, 0);
    assert_int_equal(ax_helper_open(&helper), 0);
    submit('0', 0, note_and_wait);
    sem_wait(&entered);
}


/* Takes all jobs; their names in the order they came back. */
static void
take_all(char *names)
{
    unsigned n = 0;
    sem_post(&go);
    while (n < n_jobs) {
        struct pollfd p = {.fd = ax_helper_fd(helper), .events = POLLIN};
        assert_int_equal(poll(&p, 1, -1), 1);
        for (struct ax_job *j = ax_helper_take(helper); j != NULL;
             j = j->next) {
            names[n++] = ((struct test_job *)j)->name;
        }
    }
    names[n] = '\0';
}


static void
test_keys_take_turns(void **state)
{
    char names[JOBS + 1];
    (void)state;
    start();
    for (const char *p = "ABCDEF"; *p != '\0'; p++) {
        submit(*p, 7, note);
    }
    submit('x', 8, note);
    submit('y', 8, note);
    take_all(names);
    assert_string_equal(names, ran);
    const char *x = strchr(ran, 'x');
    const char *y = strchr(ran, 'y');
    assert_in_range(x - ran, 1, 2); /* one of the other key at most */
    assert_in_range(y - ran, 3, 4);
    char order[JOBS + 1] = "";
    unsigned n = 0;
    for (const char *p = ran; *p != '\0'; p++) {
        if (*p >= 'A' && *p <= 'F') {
            order[n++] = *p;
        }
    }
    assert_string_equal(order, "ABCDEF");
    ax_helper_close(helper);
}


static void
test_all_keys_are_served(void **state)
{
    char names[JOBS + 1];
    (void)state;
    start();
    for (unsigned i = 1; i < JOBS; i++) {
        submit((char)('0' + i), i * 0x123456789abcdefull, note);
    }
    take_all(names);
    assert_int_equal(strlen(ran), JOBS);
    ax_helper_close(helper);
}


static void
test_dropped_jobs_come_back_unrun(void **state)
{
    char names[JOBS + 1];
    (void)state;
    start();
    submit('A', 7, note);
    struct ax_job *b = submit('B', 7, note);
    submit('C', 7, note);
    ax_helper_drop(b);
    take_all(names);
    assert_string_equal(names, "0ABC");
    assert_string_equal(ran, "0AC");
    /* The record serves again. */
    n_ran = n_jobs = 0;
    memset(ran, 0, sizeof(ran));
    submit('D', 7, note);
    submit('E', 7, note);
    take_all(names);
    assert_string_equal(ran, "DE");
    ax_helper_close(helper);
}


/* The end of a process does not wait for a long job, and what has not begun
 * is never run.  Thread and helper are left behind, as in the process. */
static void
test_close_leaves_a_long_job(void **state)
{
    (void)state;
    start();
    submit('A', 7, note);
    submit('B', 0, note);
    assert_false(ax_helper_close(helper));
    sem_post(&go);
    struct pollfd p = {.fd = ax_helper_fd(helper), .events = POLLIN};
    assert_int_equal(poll(&p, 1, -1), 1);
    struct ax_job *done = ax_helper_take(helper);
    assert_ptr_equal(done, &jobs[0].job);
    assert_null(done->next);
    assert_string_equal(ran, "0");
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_take_turns),
        cmocka_unit_test(test_all_keys_are_served),
        cmocka_unit_test(test_dropped_jobs_come_back_unrun),
        cmocka_unit_test(test_close_leaves_a_long_job), /* last */
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
