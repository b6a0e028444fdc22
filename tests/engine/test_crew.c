/*
 * How many threads a step gets (engine/pool/crew.h), told by a made-up clock:
 * nothing is tried while nobody is late; a busy neighbour costs a thread where
 * that is faster and only there; the thread comes back when the neighbour has
 * gone; trials cost at most a fiftieth of the time; classes of steps do not
 * disturb each other; steps of changing sizes are judged together.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/pool/crew.h"


#define MS      1000000u
#define SECOND  (1000u * MS)
#define ALL     4u


/* A machine: what a step takes with so many threads, and what they miss. */
struct machine {
    struct ax_crew crew;
    uint64_t       now_ns;
    uint64_t       took_ns;             /* in steps */
    uint32_t       step_us[ALL + 1];    /* [threads] */
    uint32_t       missed[ALL + 1];     /* of 1000 units */
    uint32_t       steps[ALL + 1];      /* that ran with so many */
    uint32_t       seed;                /* 0: every step takes the same */
};


static void
machine_init(struct machine *m, uint32_t n_threads)
{
    *m = (struct machine) { .now_ns = SECOND };
    ax_crew_init(&m->crew, n_threads);
}


/* The times of one and two threads. */
static void
two_threads(struct machine *m, uint32_t one_us, uint32_t two_us,
            uint32_t missed)
{
    m->step_us[1] = one_us;
    m->step_us[2] = two_us;
    m->missed[2] = missed;
}


static uint32_t
step(struct machine *m, uint32_t n_tokens)
{
    struct ax_crew_step s = {
        .n_tokens = n_tokens,
        .n_threads = ax_crew_threads(&m->crew, n_tokens),
        .start_ns = m->now_ns,
        .units = 1000,
    };
    uint64_t ns = (uint64_t) m->step_us[s.n_threads] * 1000;

    assert_in_range(s.n_threads, 1, m->crew.n_threads);
    if (m->seed != 0) {
        /* From half to one and a half times of it. */
        m->seed = m->seed * 1664525u + 1013904223u;
        ns = ns / 2 + ns * (m->seed >> 16) / 65536;
    }
    s.missed = m->missed[s.n_threads];
    m->now_ns += ns;
    m->took_ns += ns;
    s.end_ns = m->now_ns;
    m->steps[s.n_threads]++;
    ax_crew_learn(&m->crew, &s);
    return s.n_threads;
}


/* Steps of so many tokens for so long. */
static void
run(struct machine *m, uint32_t n_tokens, uint64_t ns)
{
    uint64_t end_ns = m->now_ns + ns;

    m->took_ns = 0;
    for (uint32_t t = 0; t <= ALL; t++) {
        m->steps[t] = 0;
    }
    while (m->now_ns < end_ns) {
        (void) step(m, n_tokens);
    }
}


static uint32_t
steps(const struct machine *m)
{
    uint32_t n = 0;

    for (uint32_t t = 1; t <= ALL; t++) {
        n += m->steps[t];
    }
    return n;
}


static void
nothing_is_tried_while_nobody_is_late(void **state)
{
    struct machine m;

    (void) state;
    machine_init(&m, 2);
    /* Even where one thread were faster: who is not late works. */
    two_threads(&m, 1000, 3000, 20);
    run(&m, 1, 60ull * SECOND);
    assert_int_equal(m.steps[1], 0);
}


static void
one_thread_has_nobody_to_send_away(void **state)
{
    struct machine m;

    (void) state;
    machine_init(&m, 1);
    m.step_us[1] = 3000;
    m.missed[1] = 500;
    run(&m, 1, 5ull * SECOND);
    assert_int_equal(m.steps[1], steps(&m));
}


static void
a_busy_neighbour_costs_a_thread_where_that_is_faster(void **state)
{
    struct machine m;

    (void) state;
    machine_init(&m, 2);
    two_threads(&m, 3500, 4000, 250);
    run(&m, 1, 1ull * SECOND);
    /* From then on: hardly slower than one thread at its best. */
    run(&m, 1, 60ull * SECOND);
    assert_true(m.took_ns < (uint64_t) steps(&m) * 3500 * 1020);
    assert_true(m.steps[1] > m.steps[2] * 8);
}


static void
where_it_is_slower_the_trial_is_paid_for(void **state)
{
    struct machine m;

    (void) state;
    machine_init(&m, 2);
    two_threads(&m, 7000, 3500, 250);
    run(&m, 1, 60ull * SECOND);
    assert_true(m.took_ns < (uint64_t) steps(&m) * 3500 * 1020);
    assert_true(m.steps[1] > 0);
}


/* Who is no faster leaves the CPU to the neighbours, and stays away. */
static void
equally_fast_is_left_to_the_neighbours(void **state)
{
    struct machine m;

    (void) state;
    machine_init(&m, 2);
    two_threads(&m, 3950, 4000, 250);
    run(&m, 1, 2ull * SECOND);
    assert_int_equal(m.crew.classes[0].kept, 1);
    two_threads(&m, 4000, 3950, 250);
    run(&m, 1, 60ull * SECOND);
    assert_int_equal(m.crew.classes[0].kept, 1);
}


/* Much slower is seen at once: what a benchmark of half a second measures. */
static void
the_first_verdict_comes_within_some_steps(void **state)
{
    static const uint32_t sizes_us[] = { 1000, 3500, 40000 };
    struct machine m;

    (void) state;
    for (size_t i = 0; i < sizeof(sizes_us) / sizeof(sizes_us[0]); i++) {
        uint32_t us = sizes_us[i];
        machine_init(&m, 2);
        two_threads(&m, us, us * 5 / 4, 250);
        run(&m, 1, 100ull * MS + 14ull * us * 1000);
        assert_int_equal(m.crew.classes[0].kept, 1);
    }
}


static void
the_thread_comes_back_when_the_neighbour_has_gone(void **state)
{
    struct machine m;

    (void) state;
    machine_init(&m, 2);
    two_threads(&m, 3500, 4500, 250);
    run(&m, 1, 5ull * SECOND);
    assert_int_equal(m.crew.classes[0].kept, 1);
    two_threads(&m, 3500, 2500, 0);
    run(&m, 1, 5ull * SECOND);
    assert_int_equal(m.crew.classes[0].kept, 2);
    run(&m, 1, 60ull * SECOND);
    assert_int_equal(m.steps[1], 0);
}


/* Steps that take anything from half to one and a half of their time. */
static void
noise_does_not_make_it_slower(void **state)
{
    struct machine m;

    (void) state;
    for (uint32_t seed = 1; seed <= 20; seed++) {
        machine_init(&m, 2);
        m.seed = seed;
        two_threads(&m, 3500, 4200, 250);
        run(&m, 1, 2ull * SECOND);
        run(&m, 1, 120ull * SECOND);
        assert_true(m.steps[1] > m.steps[2] * 4);
        two_threads(&m, 6000, 3500, 250);
        run(&m, 1, 3ull * SECOND);
        run(&m, 1, 120ull * SECOND);
        assert_true(m.steps[2] > m.steps[1] * 40);
    }
}


static void
of_many_threads_as_many_as_help_are_kept(void **state)
{
    struct machine m;

    (void) state;
    machine_init(&m, 4);
    m.step_us[1] = 8000;
    m.step_us[2] = 4000;
    m.step_us[3] = 5000;
    m.step_us[4] = 6000;
    for (uint32_t t = 2; t <= 4; t++) {
        m.missed[t] = 200;
    }
    run(&m, 1, 20ull * SECOND);
    assert_int_equal(m.crew.classes[0].kept, 2);
    m.step_us[3] = 3000;
    m.step_us[4] = 2500;
    m.missed[2] = m.missed[3] = m.missed[4] = 0;
    run(&m, 1, 10ull * SECOND);
    assert_int_equal(m.crew.classes[0].kept, 4);
}


static void
large_steps_have_all_threads(void **state)
{
    struct machine m;

    (void) state;
    machine_init(&m, 2);
    two_threads(&m, 3500, 4500, 250);
    run(&m, 1, 5ull * SECOND);
    assert_int_equal(ax_crew_threads(&m.crew, AX_CREW_TOKENS_MAX + 1), 2);
    run(&m, AX_CREW_TOKENS_MAX + 1, 10ull * SECOND);
    assert_int_equal(m.steps[2], steps(&m));
    assert_int_equal(m.crew.classes[0].kept, 1);
}


/* Each class for itself, and a class's trial goes on behind other steps. */
static void
classes_are_apart(void **state)
{
    struct machine m;

    (void) state;
    machine_init(&m, 2);
    two_threads(&m, 3500, 4500, 250);
    for (uint32_t i = 0; i < 1000; i++) {
        (void) step(&m, 1);
        (void) step(&m, 512);
    }
    assert_int_equal(m.crew.classes[0].kept, 1);
    for (uint32_t i = 1; i < AX_CREW_CLASSES; i++) {
        assert_int_equal(m.crew.classes[i].kept, 2);
    }
    run(&m, AX_CREW_TOKENS_MAX, 2ull * SECOND);
    assert_int_equal(m.crew.classes[AX_CREW_CLASSES - 1].kept, 1);
}


/* Speculation: sizes change from step to step, and take what they take. */
static void
changing_sizes_are_judged_together(void **state)
{
    struct machine m;

    (void) state;
    for (uint32_t good = 1; good <= 2; good++) {
        machine_init(&m, 2);
        for (uint32_t i = 0; i < 20000; i++) {
            uint32_t n = 1 + i * 2654435761u % 7;
            uint32_t us = 3000 + 500 * n;
            two_threads(&m, good == 1 ? us : us * 2, us * 5 / 4, 250);
            (void) step(&m, n);
        }
        assert_int_equal(m.crew.classes[0].kept, good);
        assert_true(m.steps[3 - good] > 0);
        assert_true(m.steps[good] > m.steps[3 - good] * 40);
    }
}


/* One more sequence than ever: as many threads as before until it is known. */
static void
a_size_never_seen_ends_a_trial(void **state)
{
    struct machine m;

    (void) state;
    machine_init(&m, 2);
    two_threads(&m, 3500, 4500, 250);
    while (m.steps[1] == 0) {
        (void) step(&m, 1);
    }
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(step(&m, 2), i == 0 ? 1 : 2);
    }
    assert_int_equal(m.crew.classes[0].kept, 2);
    run(&m, 2, 2ull * SECOND);
    assert_int_equal(m.crew.classes[0].kept, 1);
}


/* A trial that was left alone for long is none. */
static void
a_pause_ends_a_trial(void **state)
{
    struct machine m;

    (void) state;
    machine_init(&m, 2);
    two_threads(&m, 3500, 4500, 250);
    while (m.steps[1] == 0) {
        (void) step(&m, 1);
    }
    m.now_ns += 10ull * SECOND;
    (void) step(&m, 1);
    assert_int_equal(m.crew.classes[0].other, 0);
    assert_int_equal(m.crew.classes[0].kept, 2);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_tried_while_nobody_is_late),
        cmocka_unit_test(one_thread_has_nobody_to_send_away),
        cmocka_unit_test(a_busy_neighbour_costs_a_thread_where_that_is_faster),
        cmocka_unit_test(where_it_is_slower_the_trial_is_paid_for),
        cmocka_unit_test(equally_fast_is_left_to_the_neighbours),
        cmocka_unit_test(the_first_verdict_comes_within_some_steps),
        cmocka_unit_test(the_thread_comes_back_when_the_neighbour_has_gone),
        cmocka_unit_test(noise_does_not_make_it_slower),
        cmocka_unit_test(of_many_threads_as_many_as_help_are_kept),
        cmocka_unit_test(large_steps_have_all_threads),
        cmocka_unit_test(classes_are_apart),
        cmocka_unit_test(changing_sizes_are_judged_together),
        cmocka_unit_test(a_size_never_seen_ends_a_trial),
        cmocka_unit_test(a_pause_ends_a_trial),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
