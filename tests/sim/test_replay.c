/*
 * Shows that arrivals and lengths as in the public traces are played to the
 * end, twice the same, with nobody refused, and that goodput is what it should
 * be where the machine could carry more: a scheduler that wastes steps, starves
 * or lets many wait for one shows here first.  The clock is virtual.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define LOADS 4u

struct row {
    char name[32];
    double load, asked, good, part, p50_ms, p99_ms, tpot_ms;
    unsigned preempted, refused;
};

static char program[400];


static void
play(const char *trace, struct row rows[LOADS])
{
    char line[500];
    uint32_t n = 0;
    (void)snprintf(line, sizeof(line), "%s %s", program, trace);
    FILE *f = popen(line, "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f) != NULL) {
        struct row r = {0}; /* compared as bytes */
        if (sscanf(line,
                   "%31s prefixes %lf %lf %lf %lf%% %lf %lf %lf %*f%% %u %u",
                   r.name, &r.load, &r.asked, &r.good, &r.part, &r.p50_ms,
                   &r.p99_ms, &r.tpot_ms, &r.preempted, &r.refused) == 10) {
            assert_true(n < LOADS);
            rows[n++] = r;
        }
    }
    assert_int_equal(pclose(f), 0);
    assert_int_equal(n, LOADS);
}


/* Below what the machine could just carry at least so many per cent of them
 * are in time; beyond it some are still. */
static void
expect_goodput(const char *trace, double part)
{
    struct row rows[LOADS], again[LOADS];
    memset(rows, 0, sizeof(rows));
    memset(again, 0, sizeof(again));
    play(trace, rows);
    play(trace, again);
    assert_memory_equal(rows, again, sizeof(rows));
    for (uint32_t i = 0; i < LOADS; i++) {
        const struct row *r = &rows[i];
        assert_string_equal(r->name, trace);
        assert_int_equal(r->refused, 0);
        assert_true(r->asked > 0 && r->good > 0 && r->tpot_ms > 0);
        if (r->load < 0.7 && r->part < part) {
            fail_msg("%s at %.1f: %.1f %% in time, not %.0f", trace, r->load,
                     r->part, part);
        }
    }
}


static void
traces_are_served_in_time(void **state)
{
    (void)state;
    expect_goodput("azure-conv", 95);
    expect_goodput("burst", 90);
    if (getenv("AXION_SANITIZED") == NULL) {
        expect_goodput("mooncake-conv", 70);
        expect_goodput("documents", 95);
    }
}


int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(traces_are_served_in_time),
    };
    /* Beside this one. */
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    (void)snprintf(program, sizeof(program), "%.*sreplay",
                   slash != NULL ? (int)(slash + 1 - argv[0]) : 0, argv[0]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
