/*
 * KV blocks as numbers: what the scheduler's tests give it in place of the
 * real block pool.  Counts what each slot holds and never more than there is.
 */
#ifndef TESTS_SCHED_FAKE_KV_H
#define TESTS_SCHED_FAKE_KV_H

#include <stdint.h>
#include "engine/sched/sched.h"

#define FAKE_SLOTS_MAX 256u

struct fake_kv {
    uint32_t total, used, block_tokens;
    uint32_t held[FAKE_SLOTS_MAX];
};

static inline uint32_t
fake_blocks(const struct fake_kv *kv, uint32_t n_tokens)
{
    return (n_tokens + kv->block_tokens - 1) / kv->block_tokens;
}

static inline int
fake_reserve(void *context, uint32_t slot, uint32_t n_tokens)
{
    struct fake_kv *kv = context;
    uint32_t want = fake_blocks(kv, n_tokens);
    if (want <= kv->held[slot]) {
        return AXION_OK;
    }
    if (want - kv->held[slot] > kv->total - kv->used) {
        return AXION_ERR_KV_EXHAUSTED;
    }
    kv->used += want - kv->held[slot];
    kv->held[slot] = want;
    return AXION_OK;
}

static inline void
fake_release(void *context, uint32_t slot, uint32_t n_computed)
{
    (void)n_computed;
    struct fake_kv *kv = context;
    kv->used -= kv->held[slot];
    kv->held[slot] = 0;
}

static inline uint32_t
fake_free(void *context)
{
    const struct fake_kv *kv = context;
    return kv->total - kv->used;
}

static inline struct ax_sched_kv
fake_kv_of(struct fake_kv *kv)
{
    return (struct ax_sched_kv){.context = kv,
                                .reserve = fake_reserve,
                                .release = fake_release,
                                .blocks_free = fake_free};
}

#endif
