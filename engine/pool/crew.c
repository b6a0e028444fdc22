/* See crew.h. */
#include "engine/pool/crew.h"

#include <stddef.h>


/* The largest step of the first class; each next one has twice as many. */
#define CLASS_TOKENS 8u

/* A block: long enough for some turns of the kernel's scheduler, which are of
 * 4 ms beside a busy process, and never many steps. */
#define BLOCK_NS        20000000u
#define BLOCK_STEPS_MIN 2u
#define BLOCK_STEPS_MAX 64u

/* Blocks of the other number in a trial at most, and how much faster or slower
 * it must be for a verdict behind each of them.  What is even behind the last
 * goes to the smaller number; one thread more must win by MORE_WINS. */
#define OTHER_BLOCKS 4u
#define MORE_WINS    0.03
static const double wins[OTHER_BLOCKS] = {0.12, 0.08, 0.05, 0};
static const double loses[OTHER_BLOCKS] = {0.08, 0.05, 0.03, 0};

/* Averages of what is new forget within such a time; of what is usual, within
 * so many steps, and the first ones, which are cold, sooner.  A trial takes
 * some steps' knowledge. */
#define RECENT_NS   50000000.0f
#define USUAL_STEPS 128u
#define KNOWN_MIN   8u

/* A thread is late: a fifth of its share is done by others.  Beside a busy
 * process it is from a third to all of it, undisturbed a tenth. */
#define MISSED_MIN 0.2f

/* Between trials of a class: the first time, doubled while they change nothing,
 * and never less than so many times what the last one lost. */
#define PERIOD_NS 500000000u
#define FIRM_MAX  3u
#define LOST_MAX  100u

/* After such a time without steps everything may have changed. */
#define PAUSE_NS 1000000000u


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

    while (i < AX_CREW_CLASSES && n_tokens > CLASS_TOKENS << i) {
        i++;
    }
    return i;
}


static bool
tries_other(const struct ax_crew_class *c)
{
    return c->other != 0 && c->block % 2 == 0;
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


/* The first block of the kept number is what has been. */
static void
begin_trial(struct ax_crew_class *c, uint32_t other)
{
    c->less = other < c->kept;
    c->other = other;
    c->block = 0;
    c->steps = 0;
    c->block_ns = 0;
    c->kept_sum = (struct ax_crew_sum){
        .ns = (double)c->slowness * BLOCK_NS,
        .usual_ns = BLOCK_NS,
    };
    c->other_sum = (struct ax_crew_sum){0};
}


/* Fewer when threads are late, else more; in turn where both may help. */
static void
consider(const struct ax_crew *crew, struct ax_crew_class *c)
{
    bool late = c->missed * (float)c->kept > MISSED_MIN;

    if (c->end_ns < c->next_ns || c->known < KNOWN_MIN) {
        return;
    }
    if (c->kept > 1 && late && (c->kept == crew->n_threads || !c->less)) {
        begin_trial(c, c->kept - 1);
    } else if (c->kept < crew->n_threads) {
        begin_trial(c, c->kept + 1);
    }
}


static void
end_trial(struct ax_crew_class *c, bool won)
{
    double kept = c->kept_sum.ns / c->kept_sum.usual_ns;
    double other = c->other_sum.ns / c->other_sum.usual_ns;
    double lost_ns = (other - kept) * c->other_sum.usual_ns;

    if (won) {
        c->kept = c->other;
        c->missed = 0;
        c->slowness = (float)other;
        c->firm = 0;
    }
    uint64_t wait_ns = (uint64_t)PERIOD_NS << c->firm;
    if (lost_ns * LOST_MAX > (double)wait_ns) {
        wait_ns = (uint64_t)(lost_ns * LOST_MAX);
    }
    if (!won && c->firm < FIRM_MAX) {
        c->firm++;
    }
    c->other = 0;
    c->next_ns = c->end_ns + wait_ns;
}


/* Behind block i of the other number. */
static void
judge(struct ax_crew_class *c, uint32_t i)
{
    double ratio = c->other_sum.ns / c->other_sum.usual_ns *
                   c->kept_sum.usual_ns / c->kept_sum.ns;
    double win = wins[i];

    if (!c->less && win < MORE_WINS) {
        win = MORE_WINS;
    }
    if (ratio <= 1 - win) {
        end_trial(c, true);
    } else if (i + 1 == OTHER_BLOCKS || ratio >= 1 + loses[i]) {
        end_trial(c, false);
    }
}


/* A step of the trial; the first of a block still has threads to wake up, or
 * to put to sleep, and does not count. */
static void
count(struct ax_crew_class *c, uint64_t ns, const struct ax_crew_usual *usual)
{
    struct ax_crew_sum *sum = tries_other(c) ? &c->other_sum : &c->kept_sum;

    if (c->steps++ > 0) {
        sum->ns += (double)ns;
        sum->usual_ns += (double)usual->ns;
        c->block_ns += ns;
    }
    if (c->steps > BLOCK_STEPS_MAX ||
        (c->steps > BLOCK_STEPS_MIN && c->block_ns >= BLOCK_NS)) {
        uint32_t block = c->block++;
        c->steps = 0;
        c->block_ns = 0;
        if (block % 2 == 0) {
            judge(c, block / 2);
        }
    }
}


/* A step with the kept number.  What is usual stands still in a trial, so that
 * all of its steps are measured by the same. */
static void
observe(struct ax_crew_class *c, const struct ax_crew_step *step,
        struct ax_crew_usual *usual)
{
    float ns = (float)(step->end_ns - step->start_ns);
    float weight = ns / (ns + RECENT_NS);

    if (c->other == 0 || usual->steps == 0) {
        usual->steps += usual->steps < USUAL_STEPS;
        usual->ns += (ns - usual->ns) * 2 / (float)(usual->steps + 1);
    }
    c->known += c->known < KNOWN_MIN;
    float young = 1 / (float)c->known;
    float slowness = usual->ns > 0 ? ns / usual->ns : 1;
    c->slowness +=
        (slowness - c->slowness) * (c->known < KNOWN_MIN ? young : weight);
    if (step->units > 0) {
        float missed = (float)step->missed / (float)step->units;
        c->missed += (missed - c->missed) * weight;
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
    struct ax_crew_usual *usual = &crew->usual[step->n_tokens];
    if (step->start_ns > c->end_ns + PAUSE_NS) {
        c->other = 0;
        c->known = 0;
    }
    c->end_ns = step->end_ns;
    /* A trial cannot judge a size that was never seen, and must not go on for
     * as long as no other comes. */
    if (c->other != 0 && usual->steps == 0) {
        c->other = 0;
        c->next_ns = c->end_ns + PERIOD_NS;
    }
    if (step->n_threads == c->kept) {
        observe(c, step, usual);
    }
    if (c->other == 0) {
        consider(crew, c);
    } else {
        count(c, step->end_ns - step->start_ns, usual);
    }
}
