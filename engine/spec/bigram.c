/* See bigram.h. */
#include "engine/spec/bigram.h"

#include <string.h>

#define COUNT_MAX 15u


void
ax_bigram_reset(struct ax_bigram *b)
{
    memset(b, 0, sizeof(*b));
    b->ema = 1;
    b->recent[0] = b->recent[1] = -1;
}


static uint32_t
place(int32_t older, int32_t newer)
{
    uint64_t key = (uint64_t)(uint32_t)older << 32 | (uint32_t)newer;
    return (uint32_t)(key * 0x9e3779b97f4a7c15u >> 40) % AX_BIGRAM_SLOTS;
}


static void
note(struct ax_bigram_slot *table, int32_t older, int32_t newer, int32_t next)
{
    struct ax_bigram_slot *slot = &table[place(older, newer)];
    if (slot->count > 0 && slot->context[0] == older &&
        slot->context[1] == newer && slot->next == next) {
        slot->count += slot->count < COUNT_MAX;
    } else if (slot->count <= 1) {
        *slot = (struct ax_bigram_slot){{older, newer}, next, 1};
    } else {
        slot->count--;
    }
}


void
ax_bigram_add(struct ax_bigram *b, int32_t token)
{
    if (b->recent[1] >= 0) {
        note(b->two, -1, b->recent[1], token);
    }
    if (b->recent[0] >= 0) {
        note(b->three, b->recent[0], b->recent[1], token);
    }
    b->recent[0] = b->recent[1];
    b->recent[1] = token;
    b->n_tokens++;
}


static const struct ax_bigram_slot *
look_up(const struct ax_bigram_slot *table, int32_t older, int32_t newer)
{
    const struct ax_bigram_slot *slot = &table[place(older, newer)];
    return slot->count > 0 && slot->context[0] == older &&
                   slot->context[1] == newer
               ? slot
               : NULL;
}


uint32_t
ax_bigram_propose(const struct ax_bigram *b, int32_t *out, uint32_t max)
{
    int32_t older = b->recent[0], newer = b->recent[1];
    uint32_t n = 0;
    max = max < AX_BIGRAM_DRAFTS ? max : AX_BIGRAM_DRAFTS;
    while (n < max) {
        const struct ax_bigram_slot *slot = look_up(b->three, older, newer);
        if (slot == NULL) {
            slot = look_up(b->two, -1, newer);
        }
        if (slot == NULL) {
            break;
        }
        out[n++] = slot->next;
        older = newer;
        newer = slot->next;
    }
    return n;
}


bool
ax_bigram_open(const struct ax_bigram *b)
{
    return b->ema >= AX_BIGRAM_THRESHOLD;
}


void
ax_bigram_learn(struct ax_bigram *b, bool right)
{
    b->ema += ((right ? 1.0f : 0.0f) - b->ema) * AX_BIGRAM_TAU;
}
