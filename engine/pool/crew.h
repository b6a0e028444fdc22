/*
 * How many compute threads a step should have on a machine that is shared.
 *
 * Beside somebody else's busy process a step of a few tokens can be faster
 * with a thread less: threads meet a hundred times in such a step, and thread
 * 0 has to be there at its end, so what one thread waits for its CPU, all wait
 * for.  Nobody can tell from inside which is faster, so it is tried: when
 * threads have been late for their shares, some steps run with one thread
 * less, and what took less time is kept; with fewer than all, one more is
 * tried again and again.
 *
 * A trial is a sequential test: blocks of steps as other, kept, other and so
 * on, the first against what the kept number took lately, and after each block
 * of the other a verdict if the two are far apart, where far means less from
 * block to block.  At the end one thread less wins what is even, since it
 * leaves a CPU to the neighbours; one more must win by a margin.  Steps of
 * different sizes are compared by what each size usually takes; one that was
 * never seen ends a trial.  Who has lost is tried again later and later, and
 * never before what was lost is a hundredth of the time since.
 *
 * Where no thread is late nothing is ever tried.  Steps are judged in classes
 * by their tokens, each class for itself; larger steps, prompts, always have
 * all threads: they are long enough for the others to make up for a late one.
 *
 * Reads no clock, decides nothing about values: every number of threads
 * gives the same bits.  One caller at a time; no memory but the struct.
 */
#ifndef AX_POOL_CREW_H
#define AX_POOL_CREW_H

#include <stdbool.h>
#include <stdint.h>


#define AX_CREW_TOKENS_MAX 64u /* of a step that is judged */
#define AX_CREW_CLASSES    4u  /* up to 8, 16, 32, 64 tokens */


/* A step that ran. */
struct ax_crew_step {
    uint32_t n_tokens;
    uint32_t n_threads; /* as ax_crew_threads() said */
    uint64_t start_ns;
    uint64_t end_ns;
    uint64_t units;  /* of work, as the pool counts them */
    uint64_t missed; /* of them, what threads did less than their share */
};


/* What steps took, and what their sizes usually take. */
struct ax_crew_sum {
    double ns;
    double usual_ns;
};


struct ax_crew_class {
    uint32_t kept;     /* threads */
    uint32_t other;    /* that are being tried; 0: no trial */
    uint32_t block;    /* of the trial; 0, 2, .. have the other number */
    uint32_t steps;    /* of this block so far, with the unjudged first */
    uint64_t block_ns; /* and their time */
    struct ax_crew_sum kept_sum, other_sum;
    bool less;        /* the last trial was of fewer threads */
    uint32_t firm;    /* trials that changed nothing, since the last that did */
    uint32_t known;   /* steps behind the two below; a few are enough */
    float missed;     /* share of the units, moving average */
    float slowness;   /* time over the usual one, moving average */
    uint64_t end_ns;  /* of the last step */
    uint64_t next_ns; /* no trial before */
};


struct ax_crew {
    uint32_t n_threads;
    struct ax_crew_class classes[AX_CREW_CLASSES];
    struct ax_crew_usual {
        float ns;       /* moving average of a step of so many tokens */
        uint32_t steps; /* behind it, up to its length */
    } usual[AX_CREW_TOKENS_MAX + 1];
};


void ax_crew_init(struct ax_crew *crew, uint32_t n_threads);

/* Threads that the next step, of so many tokens, should have: 1 to all. */
uint32_t ax_crew_threads(const struct ax_crew *crew, uint32_t n_tokens);

/* A step of 1 token or more has run to its end; those that did not are not
 * told. */
void ax_crew_learn(struct ax_crew *crew, const struct ax_crew_step *step);

#endif /* AX_POOL_CREW_H */
