/*
 * Shows that balances in a file lose and double nothing: two users see one
 * balance, a restart finds what was spent, a torn write costs at most the
 * last change, somebody else's file is refused; the tenant's queue keeps its
 * order; processes that are killed with SIGKILL wherever they are leave a
 * balance that is whole, and their leases are settled by a journal or charged
 * in full.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "api/balances.h"
#include "api/balances_private.h"
#include "api/tenants_file.h"
#include "shm/errors.h"

#define ENGINE 77u

static const struct axion_price no_price;
static char folder[] = "/tmp/axion-balances-XXXXXX";
static char path[64];


static struct axion_balances *
open_balances(void)
{
    struct axion_balances *b;
    char why[128];
    unsigned repaired;
    int rc = axion_balances_open(&b, path, &repaired, why, sizeof(why));

    if (rc != AXION_OK)
        fail_msg("%s: %s", path, why);
    assert_int_equal(repaired, 0);
    return b;
}


static struct axion_payer
payer(const char *name, const struct axion_limits *limits)
{
    return (struct axion_payer){
        .number = axion_tenant_number(name, strlen(name)),
        .name = {name, (uint32_t)strlen(name)},
        .limits = limits,
    };
}


/* NONE with the lease, or what refused it. */
static enum axion_limit_kind
admit(struct axion_balances *b, const struct axion_payer *p, uint64_t wanted,
      struct axion_lease *lease, uint64_t *granted)
{
    struct axion_limit_time now = axion_limit_now();
    struct axion_verdict v;

    assert_int_equal(axion_balances_admit(b, p, &no_price, &now, wanted, 0,
                                          lease, granted, &v),
                     AXION_OK);
    return v.kind;
}


static struct axion_balance
balance_of(struct axion_balances *b, const struct axion_payer *p)
{
    struct axion_balance balance = {0};

    assert_int_equal(axion_balances_read(b, p->number, &p->name, &balance), 1);
    return balance;
}


static uint64_t
spent(struct axion_balances *b, const struct axion_payer *p)
{
    return balance_of(b, p).windows[AXION_WINDOW_MONTH].tokens;
}


static int
fresh(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}


/* ---- one file ---- */

static void
test_two_users_one_balance(void **state)
{
    struct axion_limits l = {.budget = {0, 100}};
    struct axion_payer p = payer("acme", &l);
    struct axion_balances *a = open_balances(), *b = open_balances();
    struct axion_lease one = {0}, two = {0}, three = {0};
    struct axion_limit_time now = axion_limit_now();
    struct axion_balance none;
    uint64_t granted;

    (void)state;
    assert_int_equal(axion_balances_gateway(a), axion_balances_gateway(b));
    assert_int_equal(axion_balances_read(a, p.number, &p.name, &none), 0);
    assert_int_equal(axion_balances_join(a), AXION_OK);
    assert_int_equal(axion_balances_join(b), AXION_OK);
    assert_int_equal(admit(a, &p, 60, &one, &granted), AXION_LIMIT_NONE);
    assert_int_equal(granted, 60);
    assert_int_equal(admit(b, &p, 60, &two, &granted), AXION_LIMIT_NONE);
    assert_int_equal(granted, 40);
    assert_int_equal(admit(b, &p, 60, &three, &granted),
                     AXION_LIMIT_BUDGET_MONTH);
    assert_int_equal(three.id, 0);
    axion_balances_settle(a, &l, &now, &one, 10, 0, 20, AXION_LIMIT_NONE);
    assert_int_equal(spent(b, &p), 70);
    assert_int_equal(balance_of(b, &p).active, 1);
    assert_int_equal(balance_of(b, &p).refused[AXION_LIMIT_BUDGET_MONTH], 1);
    axion_balances_settle(b, &l, &now, &two, 10, 0, 30,
                          AXION_LIMIT_BUDGET_MONTH);
    assert_int_equal(spent(a, &p), 70);
    assert_int_equal(balance_of(a, &p).ended[AXION_LIMIT_BUDGET_MONTH], 1);
    axion_balances_close(a);
    axion_balances_close(b);
}


static void
test_restart_keeps_budgets(void **state)
{
    struct axion_limits l = {.budget = {0, 100}};
    struct axion_payer p = payer("acme", &l);
    struct axion_balances *b = open_balances();
    struct axion_limit_time now = axion_limit_now();
    struct axion_lease settled = {0}, open = {0}, waiting = {0};
    struct axion_balances_figures figures;
    uint32_t gateway = axion_balances_gateway(b);
    uint64_t granted;

    (void)state;
    assert_int_equal(axion_balances_join(b), AXION_OK);
    (void)admit(b, &p, 50, &settled, &granted);
    axion_balances_settle(b, &l, &now, &settled, 5, 0, 6, AXION_LIMIT_NONE);
    (void)admit(b, &p, 30, &open, &granted);
    axion_balances_send(b, &open, ENGINE);
    l.concurrency = 1;
    l.queue = 1;
    l.wait_ms = 1000;
    assert_int_equal(admit(b, &p, 30, &waiting, &granted),
                     AXION_LIMIT_CONCURRENCY);
    assert_int_not_equal(waiting.id, 0);
    axion_balances_close(b);

    b = open_balances();
    assert_int_equal(axion_balances_gateway(b), gateway);
    assert_int_equal(spent(b, &p), 41);
    assert_int_equal(balance_of(b, &p).active, 1);
    assert_int_equal(balance_of(b, &p).waiting, 0);
    axion_balances_figures(b, &figures);
    assert_int_equal(figures.orphans, 1);
    assert_int_equal(figures.leases, 1);

    /* the engine's journal knows it, and knows it once */
    assert_int_equal(axion_balances_journal(b, settled.id, &now, 1, 0, 1),
                     AXION_ERR_NOT_FOUND);
    assert_int_equal(axion_balances_journal(b, open.id, &now, 4, 2, 3),
                     AXION_OK);
    assert_int_equal(axion_balances_journal(b, open.id, &now, 4, 2, 3),
                     AXION_ERR_NOT_FOUND);
    assert_int_equal(spent(b, &p), 18);
    assert_int_equal(balance_of(b, &p).cached_tokens, 2);
    assert_int_equal(balance_of(b, &p).active, 0);
    axion_balances_close(b);
}


/* A place of the table that two tenants' leases had, one after the other:
 * repairing the first one's record does not undo the second one's lease. */
static void
test_restart_keeps_reused_places(void **state)
{
    struct axion_limits l = {.budget = {0, 100}};
    struct axion_payer first = payer("first", &l), p = payer("acme", &l);
    struct axion_balances *b = open_balances();
    struct axion_limit_time now = axion_limit_now();
    struct axion_lease before = {0}, open = {0}, later = {0};
    struct axion_balances_figures figures;
    uint64_t granted;
    uint32_t index;

    (void)state;
    assert_int_equal(axion_balances_join(b), AXION_OK);
    (void)admit(b, &first, 50, &before, &granted);
    index = before.index;
    axion_balances_settle(b, &l, &now, &before, 5, 0, 6, AXION_LIMIT_NONE);
    axion_balances_part(b);
    assert_int_equal(axion_balances_join(b), AXION_OK);
    (void)admit(b, &p, 30, &open, &granted);
    assert_int_equal(open.index, index);
    axion_balances_send(b, &open, ENGINE);
    (void)admit(b, &p, 30, &later, &granted);
    axion_balances_settle(b, &l, &now, &later, 5, 0, 5, AXION_LIMIT_NONE);
    axion_balances_close(b);

    b = open_balances();
    axion_balances_figures(b, &figures);
    assert_int_equal(figures.orphans, 1);
    assert_int_equal(balance_of(b, &p).active, 1);
    assert_int_equal(spent(b, &p), 40);
    assert_int_equal(axion_balances_journal(b, open.id, &now, 4, 2, 3),
                     AXION_OK);
    assert_int_equal(spent(b, &p), 17);
    assert_int_equal(spent(b, &first), 11);
    axion_balances_close(b);
}


static void
scribble(size_t offset, const void *data, size_t bytes)
{
    int fd = open(path, O_RDWR);

    assert_int_equal(pwrite(fd, data, bytes, (off_t)offset), (ssize_t)bytes);
    close(fd);
}


static void
test_torn_write(void **state)
{
    struct axion_limits l = {0};
    struct axion_payer p = payer("acme", &l);
    struct axion_limit_time now = axion_limit_now();
    size_t at = offsetof(struct file, tenants) +
                p.number % TENANTS_MIN * sizeof(struct tenant_record) +
                offsetof(struct tenant_record, copies);
    struct axion_lease lease = {0};
    struct axion_balances *b = open_balances();
    char why[128];
    unsigned repaired;
    uint64_t granted, bad = 0x5555;

    (void)state;
    assert_int_equal(axion_balances_join(b), AXION_OK);
    (void)admit(b, &p, 50, &lease, &granted);
    axion_balances_settle(b, &l, &now, &lease, 5, 0, 6, AXION_LIMIT_NONE);
    (void)admit(b, &p, 50, &lease, &granted); /* the change that tears */
    axion_balances_close(b);
    {
        struct tenant_copy copies[2];
        int fd = open(path, O_RDONLY);

        assert_int_equal(pread(fd, copies, sizeof(copies), (off_t)at),
                         (ssize_t)sizeof(copies));
        close(fd);
        scribble(
            at + (copies[1].sequence > copies[0].sequence) * sizeof(copies[0]) +
                offsetof(struct tenant_copy, balance),
            &bad, sizeof(bad));
    }
    b = open_balances();
    assert_int_equal(spent(b, &p), 11);
    axion_balances_close(b);

    /* both copies: it begins at nothing, and that is said */
    scribble(at + offsetof(struct tenant_copy, balance), &bad, sizeof(bad));
    bad = 0x6666;
    scribble(at + sizeof(struct tenant_copy) +
                 offsetof(struct tenant_copy, balance),
             &bad, sizeof(bad));
    bad = 1000;
    scribble(at + sizeof(struct tenant_copy), &bad, sizeof(bad));
    scribble(at, &bad, sizeof(bad));
    assert_int_equal(axion_balances_open(&b, path, &repaired, why, sizeof(why)),
                     AXION_OK);
    assert_int_equal(repaired, 1);
    assert_int_equal(spent(b, &p), 0);
    axion_balances_close(b);
}


static void
test_other_files_refused(void **state)
{
    struct axion_balances *b;
    char why[128];
    unsigned repaired;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    uint32_t version = BALANCES_VERSION + 1;

    (void)state;
    assert_int_equal(write(fd, "hello", 5), 5);
    close(fd);
    assert_int_equal(axion_balances_open(&b, path, &repaired, why, sizeof(why)),
                     AXION_ERR_BAD_OPTION);
    assert_null(b);
    unlink(path);
    axion_balances_close(open_balances());
    scribble(offsetof(struct header, version), &version, sizeof(version));
    assert_int_equal(axion_balances_open(&b, path, &repaired, why, sizeof(why)),
                     AXION_ERR_BAD_OPTION);
    assert_non_null(strstr(why, "another version"));
    unlink(path);
    assert_int_equal(symlink("/tmp", path), 0);
    assert_int_equal(axion_balances_open(&b, path, &repaired, why, sizeof(why)),
                     AXION_ERR_SYSTEM);
}


/* More tenants than there is room for: the last are told so, the others keep
 * what they have; one whose windows are over makes room. */
static void
test_table_of_tenants_full(void **state)
{
    struct axion_limits l = {0};
    struct axion_balances *b = open_balances();
    struct axion_limit_time now = axion_limit_now();
    struct axion_lease lease = {0};
    struct axion_payer p;
    struct axion_verdict v;
    uint64_t granted;
    struct rlimit old, one_doubling;
    char name[16];
    unsigned i;
    int rc;

    (void)state;
    assert_int_equal(axion_balances_join(b), AXION_OK);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    one_doubling = old;
    one_doubling.rlim_cur = offsetof(struct file, tenants) +
                            2 * TENANTS_MIN * sizeof(struct tenant_record);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &one_doubling), 0);
    for (i = 0; i < 2 * PROBES_MAX + 1; i++) {
        snprintf(name, sizeof(name), "t%u", i);
        p = payer(name, &l);
        p.number = 5; /* all would like the same place */
        rc = axion_balances_admit(b, &p, &no_price, &now, 9, 0, &lease,
                                  &granted, &v);
        if (rc != AXION_OK)
            break;
        axion_balances_settle(b, &l, &now, &lease, i, 0, 0, AXION_LIMIT_NONE);
    }
    assert_int_equal(i, 2 * PROBES_MAX);
    assert_int_equal(rc, AXION_ERR_NO_MEMORY);
    assert_int_equal(axion_balances_reserve(b, 3 * TENANTS_MIN),
                     AXION_ERR_SYSTEM);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(lease.id, 0);
    now.wall_s += 64 * 86400;
    assert_int_equal(axion_balances_admit(b, &p, &no_price, &now, 9, 0, &lease,
                                          &granted, &v),
                     AXION_OK);
    axion_balances_settle(b, &l, &now, &lease, 1, 0, 1, AXION_LIMIT_NONE);
    assert_int_equal(spent(b, &p), 2);
    p = payer("t7", &l);
    p.number = 5;
    assert_int_equal(spent(b, &p), 7);
    axion_balances_close(b);
}


/* As many as a tenants file may have: each has a balance, also after the
 * file was opened again, and another user of it sees the table grow. */
static void
test_table_of_tenants_grows(void **state)
{
    struct axion_limits l = {0};
    struct axion_balances *a = open_balances(), *b = open_balances();
    struct axion_limit_time now = axion_limit_now();
    struct axion_balances_figures figures;
    struct axion_lease lease = {0};
    struct axion_verdict v;
    uint64_t granted;
    char name[16];
    unsigned i;

    (void)state;
    assert_int_equal(axion_balances_join(a), AXION_OK);
    assert_int_equal(axion_balances_join(b), AXION_OK);
    for (i = 0; i < AXION_TENANTS_FILE_MAX; i++) {
        struct axion_balances *by = i % 2 ? a : b;
        struct axion_payer p;

        if (i == 50000)
            assert_int_equal(axion_balances_reserve(a, 70000), AXION_OK);
        snprintf(name, sizeof(name), "t%u", i);
        p = payer(name, &l);
        assert_int_equal(axion_balances_admit(by, &p, &no_price, &now, 9, 0,
                                              &lease, &granted, &v),
                         AXION_OK);
        axion_balances_settle(by, &l, &now, &lease, i, 0, 1, AXION_LIMIT_NONE);
    }
    axion_balances_close(a);
    axion_balances_close(b);
    a = open_balances();
    for (i = 0; i < AXION_TENANTS_FILE_MAX; i++) {
        struct axion_payer p;

        snprintf(name, sizeof(name), "t%u", i);
        p = payer(name, &l);
        assert_int_equal(spent(a, &p), i + 1);
    }
    axion_balances_figures(a, &figures);
    assert_int_equal(figures.tenants, AXION_TENANTS_FILE_MAX);
    assert_int_equal(figures.places, TENANTS_MAX);
    axion_balances_close(a);
}


/* One tenant without a limit of its own does not take the last lease. */
static void
test_leases_of_one_tenant(void **state)
{
    static struct axion_lease leases[PAYER_LEASES];
    struct axion_limits l = {0};
    struct axion_payer p = payer("acme", &l), other = payer("beta", &l);
    struct axion_balances *b = open_balances();
    struct axion_limit_time now = axion_limit_now();
    struct axion_lease more = {0};
    struct axion_verdict v;
    uint64_t granted;
    unsigned i;

    (void)state;
    memset(leases, 0, sizeof(leases));
    assert_int_equal(axion_balances_join(b), AXION_OK);
    for (i = 0; i < PAYER_LEASES; i++)
        assert_int_equal(admit(b, &p, 9, &leases[i], &granted),
                         AXION_LIMIT_NONE);
    assert_int_equal(admit(b, &p, 9, &more, &granted), AXION_LIMIT_CONCURRENCY);
    assert_int_equal(more.id, 0);
    assert_int_equal(axion_balances_admit(b, &p, &no_price, &now, 9,
                                          AXION_ADMIT_FORCE, &more, &granted,
                                          &v),
                     AXION_OK);
    assert_int_equal(v.kind, AXION_LIMIT_CONCURRENCY);
    assert_int_equal(v.limit, PAYER_LEASES);
    assert_int_equal(more.id, 0);
    assert_int_equal(admit(b, &other, 9, &more, &granted), AXION_LIMIT_NONE);
    axion_balances_settle(b, &l, &now, &leases[0], 1, 0, 1, AXION_LIMIT_NONE);
    assert_int_equal(admit(b, &p, 9, &leases[0], &granted), AXION_LIMIT_NONE);
    axion_balances_close(b);
}


/* ---- the queue ---- */

static void
test_queue(void **state)
{
    struct axion_limits l = {.concurrency = 1, .queue = 2, .wait_ms = 60000};
    struct axion_payer p = payer("acme", &l);
    struct axion_balances *b = open_balances();
    struct axion_limit_time now = axion_limit_now();
    struct axion_lease first = {0}, second = {0}, third = {0}, fourth = {0};
    uint64_t granted;

    (void)state;
    assert_int_equal(axion_balances_join(b), AXION_OK);
    assert_int_equal(admit(b, &p, 9, &first, &granted), AXION_LIMIT_NONE);
    assert_int_equal(granted, AXION_NEVER);
    assert_int_equal(admit(b, &p, 9, &second, &granted),
                     AXION_LIMIT_CONCURRENCY);
    assert_int_equal(admit(b, &p, 9, &third, &granted),
                     AXION_LIMIT_CONCURRENCY);
    assert_int_equal(admit(b, &p, 9, &fourth, &granted),
                     AXION_LIMIT_CONCURRENCY);
    assert_true(second.id != 0 && third.id != 0 && fourth.id == 0);
    assert_int_equal(balance_of(b, &p).waiting, 2);
    axion_balances_settle(b, &l, &now, &first, 1, 0, 1, AXION_LIMIT_NONE);

    /* there is room, but not for a newcomer */
    axion_balances_leave(b, &third, AXION_LIMIT_CONCURRENCY);
    assert_int_equal(admit(b, &p, 9, &fourth, &granted),
                     AXION_LIMIT_CONCURRENCY);
    assert_int_equal(admit(b, &p, 9, &second, &granted), AXION_LIMIT_NONE);
    axion_balances_leave(b, &fourth, AXION_LIMIT_NONE);
    axion_balances_settle(b, &l, &now, &second, 1, 0, 1, AXION_LIMIT_NONE);
    assert_int_equal(balance_of(b, &p).active, 0);
    assert_int_equal(balance_of(b, &p).waiting, 0);
    assert_int_equal(balance_of(b, &p).refused[AXION_LIMIT_CONCURRENCY], 2);
    axion_balances_close(b);
}


/* ---- the dead ---- */

static pid_t
child(void (*run)(struct axion_balances *b, int out), struct axion_balances *b,
      int out)
{
    pid_t pid = fork();

    if (pid == 0) {
        run(b, out);
        _exit(1);
    }
    return pid;
}


static void
kill_child(pid_t pid)
{
    int status;

    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}


/* One lease at an engine, one that no engine saw, one that waits, one that
 * is not limited: then it is killed. */
static void
leave_leases(struct axion_balances *b, int out)
{
    struct axion_limits l = {.budget = {0, 1000}};
    struct axion_limits waiting = {
        .concurrency = 1, .queue = 1, .wait_ms = 60000};
    struct axion_limits none = {0};
    struct axion_payer p = payer("acme", &l), w = payer("acme", &waiting);
    struct axion_payer free_rider = payer("other", &none);
    struct axion_lease leases[4] = {{0}};
    uint64_t granted;

    if (axion_balances_join(b) != AXION_OK)
        _exit(2);
    (void)admit(b, &p, 100, &leases[0], &granted);
    axion_balances_send(b, &leases[0], ENGINE);
    (void)admit(b, &p, 200, &leases[1], &granted);
    (void)admit(b, &w, 400, &leases[2], &granted);
    (void)admit(b, &free_rider, 800, &leases[3], &granted);
    axion_balances_send(b, &leases[3], ENGINE + 1);
    axion_balances_seen(b, &leases[3], 7, 0, 8);
    if (write(out, leases, sizeof(leases)) != sizeof(leases))
        _exit(3);
    pause();
}


static void
test_leases_of_the_dead(void **state)
{
    struct axion_limits l = {0};
    struct axion_payer p = payer("acme", &l), other = payer("other", &l);
    struct axion_balances *b = open_balances();
    struct axion_limit_time now = axion_limit_now();
    struct axion_lease leases[4];
    struct axion_balances_figures figures;
    int pipes[2];
    pid_t pid;

    (void)state;
    assert_int_equal(pipe(pipes), 0);
    pid = child(leave_leases, b, pipes[1]);
    assert_int_equal(axion_balances_join(b), AXION_OK);
    assert_int_equal(read(pipes[0], leases, sizeof(leases)),
                     (ssize_t)sizeof(leases));
    assert_int_equal(axion_balances_sweep(b, &now), 0); /* it lives */
    assert_int_equal(axion_balances_journal(b, leases[0].id, &now, 1, 0, 1),
                     AXION_AGAIN);
    assert_int_equal(spent(b, &p), 300);
    assert_int_equal(balance_of(b, &p).waiting, 1);
    kill_child(pid);

    assert_int_equal(axion_balances_sweep(b, &now), 2);
    assert_int_equal(axion_balances_sweep(b, &now), 0);
    assert_int_equal(spent(b, &p), 100); /* no engine saw the 200 */
    assert_int_equal(balance_of(b, &p).waiting, 0);
    assert_int_equal(balance_of(b, &p).active, 1);
    axion_balances_figures(b, &figures);
    assert_int_equal(figures.leases, 2);
    assert_int_equal(figures.orphans, 2);

    assert_int_equal(axion_balances_forfeit(b, ENGINE, now.ns, &now), 0);
    assert_int_equal(axion_balances_forfeit(b, ENGINE, now.ns + 1, &now), 1);
    assert_int_equal(spent(b, &p), 100); /* in full */
    assert_int_equal(axion_balances_journal(b, leases[0].id, &now, 1, 0, 1),
                     AXION_ERR_NOT_FOUND);
    assert_int_equal(axion_balances_forfeit(b, 0, now.ns + 1, &now), 1);
    assert_int_equal(spent(b, &other), 15); /* what was seen */
    axion_balances_figures(b, &figures);
    assert_int_equal(figures.leases, 0);
    assert_int_equal(figures.forfeited, 2);
    assert_int_equal(figures.processes, 1);
    close(pipes[0]);
    close(pipes[1]);
    axion_balances_close(b);
}


/* nginx as a whole: nobody is left to bury anybody, the next start does. */
static void
test_all_killed(void **state)
{
    struct axion_limits l = {0};
    struct axion_payer p = payer("acme", &l);
    struct axion_balances *b = open_balances();
    struct axion_lease leases[4];
    struct axion_balances_figures figures;
    int pipes[2];
    pid_t pid;

    (void)state;
    assert_int_equal(pipe(pipes), 0);
    pid = child(leave_leases, b, pipes[1]);
    assert_int_equal(read(pipes[0], leases, sizeof(leases)),
                     (ssize_t)sizeof(leases));
    kill_child(pid);
    axion_balances_close(b);
    close(pipes[0]);
    close(pipes[1]);

    b = open_balances();
    assert_int_equal(spent(b, &p), 100); /* no engine saw the 200 */
    assert_int_equal(balance_of(b, &p).waiting, 0);
    assert_int_equal(balance_of(b, &p).active, 1);
    axion_balances_figures(b, &figures);
    assert_int_equal(figures.leases, 2);
    assert_int_equal(figures.orphans, 2);
    axion_balances_close(b);
}


#define TENANTS 3

/* Does everything that a worker does, as fast as it can, until it is killed;
 * the pipe says that it has begun. */
static void
work_hard(struct axion_balances *b, int out)
{
    struct axion_limits l = {
        .budget = {0, 1000000000}, .concurrency = 6, .queue = 3, .wait_ms = 1};
    struct axion_lease leases[8] = {{0}};
    struct axion_limit_time now;
    struct axion_verdict v;
    uint64_t granted[8] = {0}, n = 0;
    struct axion_payer p;
    char names[TENANTS][8];

    if (axion_balances_join(b) != AXION_OK)
        _exit(2);
    srand((unsigned)getpid());
    for (;;) {
        unsigned i = (unsigned)rand() % 8, t = i % TENANTS;
        struct axion_lease *lease = &leases[i];

        snprintf(names[t], sizeof(names[t]), "t%u", t);
        p = payer(names[t], &l);
        now = axion_limit_now();
        if (lease->id == 0 || granted[i] == 0) {
            granted[i] = 0;
            (void)axion_balances_admit(b, &p, &no_price, &now, 50, 0, lease,
                                       &granted[i], &v);
            if (v.kind != AXION_LIMIT_NONE && lease->id != 0 && rand() % 2)
                axion_balances_leave(b, lease, v.kind);
            if (v.kind == AXION_LIMIT_NONE && rand() % 4)
                axion_balances_send(b, lease, ENGINE);
        } else if (rand() % 3 == 0) {
            axion_balances_know(b, &l, &now, lease, 20);
            (void)axion_balances_more(b, &l, &now, lease, 10, &v);
        } else {
            axion_balances_settle(b, &l, &now, lease, 20, 5, 30,
                                  AXION_LIMIT_NONE);
            granted[i] = 0;
        }
        if (n++ == 100 && write(out, "x", 1) != 1)
            _exit(3);
    }
}


static void
test_killed_anywhere(void **state)
{
    struct axion_limits l = {0};
    struct axion_balances *b = open_balances();
    struct axion_limit_time now = axion_limit_now();
    struct axion_balances_figures figures;
    int pipes[2], i, k;
    char x, name[8];

    (void)state;
    assert_int_equal(pipe(pipes), 0);
    for (i = 0; i < 100; i++) {
        pid_t pids[2];

        for (k = 0; k < 2; k++)
            pids[k] = child(work_hard, b, pipes[1]);
        for (k = 0; k < 2; k++)
            assert_int_equal(read(pipes[0], &x, 1), 1);
        for (k = 0; k < 2; k++)
            kill_child(pids[k]);
    }
    (void)axion_balances_sweep(b, &now);
    now = axion_limit_now();
    (void)axion_balances_forfeit(b, 0, UINT64_MAX, &now);
    axion_balances_figures(b, &figures);
    assert_int_equal(figures.leases, 0);
    assert_int_equal(figures.tenants, TENANTS);
    assert_true(figures.forfeited > 0);
    for (k = 0; k < TENANTS; k++) {
        struct axion_balance balance;
        struct axion_payer p;

        snprintf(name, sizeof(name), "t%d", k);
        p = payer(name, &l);
        balance = balance_of(b, &p);
        assert_int_equal(balance.active, 0);
        assert_int_equal(balance.waiting, 0);
        /* every token reserved came back or was charged, once */
        assert_int_equal(balance.windows[AXION_WINDOW_MONTH].tokens,
                         balance.prompt_tokens + balance.completion_tokens);
        assert_true(balance.requests > 50);
    }
    close(pipes[0]);
    close(pipes[1]);
    axion_balances_close(b);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_two_users_one_balance, fresh),
        cmocka_unit_test_setup(test_restart_keeps_budgets, fresh),
        cmocka_unit_test_setup(test_restart_keeps_reused_places, fresh),
        cmocka_unit_test_setup(test_torn_write, fresh),
        cmocka_unit_test_setup(test_other_files_refused, fresh),
        cmocka_unit_test_setup(test_table_of_tenants_full, fresh),
        cmocka_unit_test_setup(test_table_of_tenants_grows, fresh),
        cmocka_unit_test_setup(test_leases_of_one_tenant, fresh),
        cmocka_unit_test_setup(test_queue, fresh),
        cmocka_unit_test_setup(test_leases_of_the_dead, fresh),
        cmocka_unit_test_setup(test_all_killed, fresh),
        cmocka_unit_test_setup(test_killed_anywhere, fresh),
    };
    int failed;

    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/balances", folder);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    rmdir(folder);
    return failed;
}
