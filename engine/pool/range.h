/*
 * A thread's range of a phase's units in one 64-bit word, so that it changes
 * hands by one compare-and-swap:
 *
 *     epoch (22 bits) | held (14) | next (14) | end (14)
 *
 * [held, next) is the piece that the thread works on, empty when held == next;
 * [next, end) is free, for it or for a thief.  The epoch numbers phases over
 * the pool's life, so a word of an older epoch means "not begun in this
 * phase", and whoever comes first, owner or thief, begins it.  Within an epoch
 * held and next only rise on a word, and a thief's store comes only when its
 * word is used up: a piece once let go never looks held again.
 *
 * Pairs: every swap is acquire and release; it hands on the units and, when
 * it lets a piece go, the right to commit it.
 */
#ifndef AX_POOL_RANGE_H
#define AX_POOL_RANGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>


#define AX_RANGE_EPOCH_BITS 22u
#define AX_RANGE_EPOCH_MASK ((1u << AX_RANGE_EPOCH_BITS) - 1)
#define AX_RANGE_UNIT_BITS  14u
#define AX_RANGE_UNIT_MASK  ((1u << AX_RANGE_UNIT_BITS) - 1)


struct ax_range {
    uint32_t held;
    uint32_t next;
    uint32_t end;
};


/* A thread's share of a phase, as it is before anyone has begun it. */
struct ax_range_share {
    uint32_t epoch;
    uint32_t begin;
    uint32_t end;
};


static inline uint64_t
ax_range_pack(uint32_t epoch, struct ax_range r)
{
    return (uint64_t)(epoch & AX_RANGE_EPOCH_MASK) << (3 * AX_RANGE_UNIT_BITS) |
           (uint64_t)r.held << (2 * AX_RANGE_UNIT_BITS) |
           (uint64_t)r.next << AX_RANGE_UNIT_BITS | r.end;
}


static inline struct ax_range
ax_range_unpack(uint64_t word)
{
    return (struct ax_range){
        .held =
            (uint32_t)(word >> (2 * AX_RANGE_UNIT_BITS)) & AX_RANGE_UNIT_MASK,
        .next = (uint32_t)(word >> AX_RANGE_UNIT_BITS) & AX_RANGE_UNIT_MASK,
        .end = (uint32_t)word & AX_RANGE_UNIT_MASK,
    };
}


/* Epoch of a word against another epoch: negative is older. */
static inline int32_t
ax_range_distance(uint64_t word, uint32_t epoch)
{
    uint32_t d = (uint32_t)(word >> (3 * AX_RANGE_UNIT_BITS)) - epoch;

    return (int32_t)(d << (32 - AX_RANGE_EPOCH_BITS));
}


/* What says which piece is held: thieves change only the end. */
static inline uint64_t
ax_range_holder(uint64_t word)
{
    return word >> AX_RANGE_UNIT_BITS;
}


/* The range as it stands in the share's epoch; false in a later one. */
static inline bool
ax_range_open(uint64_t word, const struct ax_range_share *share,
              struct ax_range *out)
{
    int32_t distance = ax_range_distance(word, share->epoch);

    if (distance > 0) {
        return false;
    }
    *out = distance == 0
               ? ax_range_unpack(word)
               : (struct ax_range){share->begin, share->begin, share->end};
    return true;
}


static inline bool
ax_range_swap(_Atomic uint64_t *range, uint64_t *word, uint64_t to)
{
    return atomic_compare_exchange_weak_explicit(
        range, word, to, memory_order_acq_rel, memory_order_acquire);
}


/* The last pieces of a share are not smaller than this part of it. */
#define AX_RANGE_PIECES 16u


/*
 * The owner's next piece: half of what is free, so that pieces are few (each
 * interrupts a stream from memory) but the last ones small; at most max units.
 */
static inline bool
ax_range_take(_Atomic uint64_t *range, const struct ax_range_share *share,
              uint32_t max, struct ax_range *piece, uint64_t *held)
{
    uint64_t word = atomic_load_explicit(range, memory_order_acquire);
    struct ax_range r;

    while (ax_range_open(word, share, &r) && r.next < r.end) {
        uint32_t left = r.end - r.next;
        uint32_t least = (share->end - share->begin) / AX_RANGE_PIECES;
        uint32_t n = (left + 1) / 2 < least ? least : (left + 1) / 2;
        n = n < left ? n : left;
        n = n < max ? n : max;
        r.held = r.next;
        r.next += n;
        uint64_t to = ax_range_pack(share->epoch, r);
        if (ax_range_swap(range, &word, to)) {
            *piece = r;
            *held = ax_range_holder(to);
            return true;
        }
    }
    return false;
}


/*
 * For a thief: the upper half of what is free, or all of it when the owner
 * has not begun.
 */
static inline bool
ax_range_steal(_Atomic uint64_t *range, const struct ax_range_share *share,
               struct ax_range *stolen)
{
    uint64_t word = atomic_load_explicit(range, memory_order_acquire);
    struct ax_range r;

    while (ax_range_open(word, share, &r) && r.next < r.end) {
        bool begun = ax_range_distance(word, share->epoch) == 0;
        uint32_t middle = r.next + (begun ? (r.end - r.next) / 2 : 0);
        *stolen = (struct ax_range){middle, middle, r.end};
        r.end = middle;
        if (ax_range_swap(range, &word, ax_range_pack(share->epoch, r))) {
            return true;
        }
    }
    return false;
}


/* Lets the piece go; false if it was let go before. */
static inline bool
ax_range_let_go(_Atomic uint64_t *range, uint64_t held)
{
    uint64_t word = atomic_load_explicit(range, memory_order_acquire);

    while (ax_range_holder(word) == held) {
        uint32_t epoch = (uint32_t)(word >> (3 * AX_RANGE_UNIT_BITS));
        struct ax_range r = ax_range_unpack(word);
        r.held = r.next;
        if (ax_range_swap(range, &word, ax_range_pack(epoch, r))) {
            return true;
        }
    }
    return false;
}

#endif /* AX_POOL_RANGE_H */
