/*
 * The executor: runs a model's plan for one flat step.
 *
 * A step is a list of tokens, each (sequence, position), decodes and prefill
 * chunks mixed as the scheduler likes.  There is one path through the plan,
 * for one token and for 512; by the kernels' batch invariance a logit depends
 * only on its own sequence, never on the company, the cut or the threads.
 *
 * Owns the compute threads and all scratch memory, both made at open; a step
 * takes nothing from the heap.  Thread 0 is the caller of ax_exec_step(); the
 * others wait for it, spinning briefly, then yielding, then asleep.  An idle
 * executor uses no CPU.  One step at a time, from one thread at a time.
 *
 * A step trusts its caller (the scheduler) no further than it can check in a
 * pass over the tokens: token ids, positions, sequences and rows are bounded,
 * and what is wrong is refused before anything runs.
 */
#ifndef AX_EXEC_H
#define AX_EXEC_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/error.h"
#include "engine/kv/kv.h"
#include "engine/model/model.h"


struct ax_pool;


#define AX_NO_LOGITS      UINT32_MAX
#define AX_EXEC_BATCH_MAX 16384u /* bound of batch_tokens_max */


struct ax_step_token {
    int32_t token;
    uint32_t position;
    uint32_t sequence;   /* index into step.sequences */
    uint32_t logits_row; /* 0 .. n_logits - 1, or AX_NO_LOGITS */
};


/*
 * Tokens of one sequence are contiguous, their positions consecutive, with
 * KV room reserved by the caller; the step writes it.  Positions before the
 * first one must have been written by earlier steps.  Every row of logits is
 * asked for exactly once.
 */
struct ax_step {
    const struct ax_step_token *tokens;
    uint32_t n_tokens;
    uint32_t n_sequences;
    struct ax_kv_sequence *const *sequences;
    float *logits; /* [n_logits][n_vocab] */
    uint32_t n_logits;
    /*
     * Called on the caller's thread before each layer, all earlier work
     * done, and again and again while the layer's weights are not packed yet;
     * a nonzero return ends the step, which returns that number.  The KV of
     * the step's positions is then undefined.  May be NULL.
     */
    int (*at_layer)(void *context, uint32_t layer);
    void *context;
};


struct ax_exec_options {
    uint32_t n_threads;        /* compute threads, the caller included */
    uint32_t batch_tokens_max; /* tokens of one step */
    uint32_t logits_max;       /* rows of logits of one step */
    uint32_t sequences_max;    /* of one step; 0: batch_tokens_max */
    bool counters;             /* read the clock at every stage */
    /* Another executor's threads, which outlive no step of this one; its
     * owner stops them before this one is closed.  NULL, or a pool whose jobs
     * may not have as many phases as this model needs: threads of its own. */
    struct ax_pool *pool;
};


/*
 * All steps so far in one stage of one layer, as thread 0 saw it.  bytes is
 * what has to come from memory (packed weights, keys and values), operations
 * are multiplications and additions, 0 for work on rows alone.
 */
struct ax_exec_counter {
    const char *name; /* "ffn_gate+ffn_up"; the same pointer in all layers */
    uint32_t layer;
    bool floats; /* the operations are f32, not int8 */
    uint64_t calls;
    uint64_t ns;
    uint64_t bytes;
    uint64_t operations;
};


/* The same by kind of work. */
struct ax_exec_times {
    uint64_t matmul_ns;
    uint64_t attention_ns;
    uint64_t rows_ns;
};


struct ax_exec;


/*
 * Model and kv must outlive the executor.  AXION_ERR_BAD_OPTION,
 * AXION_ERR_NO_MEMORY, AXION_ERR_SYSTEM (threads).
 */
int ax_exec_open(struct ax_exec **out, const struct ax_model *model,
                 struct ax_kv *kv, const struct ax_exec_options *options,
                 struct ax_error *err);
void ax_exec_close(struct ax_exec *e); /* NULL is fine */

/* Its compute threads, for other work between steps; thread 0 is the caller
 * of ax_exec_step(). */
struct ax_pool *ax_exec_pool(const struct ax_exec *e);

/*
 * AXION_OK; AXION_ERR_INVALID_TOKEN (id outside the vocabulary);
 * AXION_ERR_INTERNAL (the step breaks a rule above); at_layer's number.
 *
 * With a model that is still being packed the step follows: it waits before
 * each stage for the weights that this one reads, and packs meanwhile.  When
 * packing fails it returns that error, and so does every later step.
 */
int ax_exec_step(struct ax_exec *e, const struct ax_step *step);

/* Of the last step: what it waited for weights. */
uint64_t ax_exec_waited_ns(const struct ax_exec *e);

/* Of the last step: how many threads took part.  Beside a busy process some
 * steps have fewer than there are (engine/pool/crew.h). */
uint32_t ax_exec_threads(const struct ax_exec *e);

/* CPU time that the compute threads took so far, the caller's included. */
uint64_t ax_exec_cpu_ns(const struct ax_exec *e);

/* Bytes of scratch memory, for the log. */
uint64_t ax_exec_bytes(const struct ax_exec *e);

/* How many counters there are (0 without them), and counter i of them. */
uint32_t ax_exec_counters(const struct ax_exec *e);
struct ax_exec_counter ax_exec_counter(const struct ax_exec *e, uint32_t i);

/* Whether following steps count; they do from the start. */
void ax_exec_counters_enable(struct ax_exec *e, bool enable);

/* All zero without counters. */
struct ax_exec_times ax_exec_times(const struct ax_exec *e);

#endif /* AX_EXEC_H */
