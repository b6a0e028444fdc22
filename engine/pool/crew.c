/* See crew.h. */
#include "engine/pool/crew.h"

#include <stddef.h>


/* A block: long enough for some turns of the kernel's scheduler, which are of
 * 4 ms beside a busy process, and never many steps. */
#define BLOCK_NS        40000000u
#define BLOCK_STEPS_MIN 4u
#define BLOCK_STEPS_MAX 64u

/* kept, other, other, kept */
#define BLOCKS 4u

/* A thread is late: a fifth of its share is done by others, in the mean of
 * about so many steps.  Beside a busy process it is from a third to all of it,
 * undisturbed a tenth. */
#define MISSED_STEPS 16.0f
#define MISSED_MIN   0.2f

/* The other number wins if it takes less than this part of the time. */
#define WIN 0.97

/* Between trials of a class, and so many times what the last one lost. */
#define PERIOD_NS 1000000000u
#define LOST_MAX  100u


void
ax_crew_init(struct ax_crew *crew, uint32_t n_threads)
{
    *crew = (struct ax_crew){.n_threads = n_threads};
    for (uint32_t i = 0; i < AX_CREW_CLASSES; i++) {
        crew->classes[i].kept = n_threads;
    }
}


/* AX_CREW_CLASSES: none. */
static uint32_t
class_of(uint32_t n_tokens)
{
    uint32_t i = 0;

    while (i < AX_CREW_CLASSES && n_tokens > 1u << i) {
        i++;
    }
    return i;
}


static bool
tries_other(const struct ax_crew_class *c)
{
    return c->other != 0 && (c->block == 1 || c->block == 2);
}


uint32_t
ax_crew_threads(const struct ax_crew *crew, uint32_t n_tokens)
{
    uint32_t i = class_of(n_tokens);

    if (i == AX_CREW_CLASSES) {
        return crew->n_threads;
    }
    const struct ax_crew_class *c = &crew->classes[i];
    return tries_other(c) ? c->other : c->kept;
}


static void
begin_trial(struct ax_crew_class *c, uint32_t other, uint32_t n_tokens)
{
    c->less = other < c->kept;
    c->other = other;
    c->n_tokens = n_tokens;
    c->block = 0;
    c->steps = 0;
    c->block_ns = 0;
    c->kept_sum = c->other_sum = (struct ax_crew_sum){0};
}


static void
end_trial(struct ax_crew_class *c, uint64_t now_ns, uint64_t lost_ns)
{
    uint64_t wait_ns = lost_ns * LOST_MAX;

    c->other = 0;
    c->next_ns = now_ns + (wait_ns > PERIOD_NS ? wait_ns : PERIOD_NS);
}


/* Fewer when threads are late, else more; in turn where both may help. */
static void
consider(const struct ax_crew *crew, struct ax_crew_class *c,
         const struct ax_crew_step *step)
{
    bool late = c->missed * (float)c->kept > MISSED_MIN;

    if (step->end_ns < c->next_ns) {
        return;
    }
    if (c->kept > 1 && late && (c->kept == crew->n_threads || !c->less)) {
        begin_trial(c, c->kept - 1, step->n_tokens);
    } else if (c->kept < crew->n_threads) {
        begin_trial(c, c->kept + 1, step->n_tokens);
    }
}


static void
judge(struct ax_crew_class *c, uint64_t now_ns)
{
    double kept_ns = (double)c->kept_sum.ns / c->kept_sum.steps;
    double other_ns = (double)c->other_sum.ns / c->other_sum.steps;
    double lost_ns = (other_ns - kept_ns) * c->other_sum.steps;

    if (other_ns < kept_ns * WIN) {
        c->kept = c->other;
        c->missed = 0;
    }
    end_trial(c, now_ns, lost_ns > 0 ? (uint64_t)lost_ns : 0);
}


/* A step of the trial; the first of a block still has threads to wake up, or
 * to put to sleep, and does not count. */
static void
count(struct ax_crew_class *c, const struct ax_crew_step *step)
{
    struct ax_crew_sum *sum = tries_other(c) ? &c->other_sum : &c->kept_sum;
    uint64_t ns = step->end_ns - step->start_ns;

    if (c->steps++ > 0) {
        sum->ns += ns;
        sum->steps++;
        c->block_ns += ns;
    }
    if (c->steps > BLOCK_STEPS_MAX ||
        (c->steps > BLOCK_STEPS_MIN && c->block_ns >= BLOCK_NS)) {
        c->block++;
        c->steps = 0;
        c->block_ns = 0;
        if (c->block == BLOCKS) {
            judge(c, step->end_ns);
        }
    }
}


void
ax_crew_learn(struct ax_crew *crew, const struct ax_crew_step *step)
{
    uint32_t i = class_of(step->n_tokens);

    if (i == AX_CREW_CLASSES || crew->n_threads == 1) {
        return;
    }
    struct ax_crew_class *c = &crew->classes[i];
    if (step->n_threads == c->kept && step->units > 0) {
        float missed = (float)step->missed / (float)step->units;
        c->missed += (missed - c->missed) / MISSED_STEPS;
    }
    if (c->other == 0) {
        consider(crew, c, step);
    } else if (step->n_tokens != c->n_tokens) {
        /* Nothing is known; what it may have cost is paid for all the same. */
        end_trial(c, step->end_ns, c->other_sum.ns / 2);
    } else {
        count(c, step);
    }
}
