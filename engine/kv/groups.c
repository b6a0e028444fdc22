/*
 * Which layers share a block; see kv.h.
 *
 * Kinds are full attention and each window size, in the order in which the
 * layers name them.  A group has layers_max layers of one kind; the larger
 * that number, the fewer tables a sequence has, and the more is padded where a
 * kind's layers are no multiple of it.  Taken is the largest whose padding is
 * at most a twelfth of all layers, and of full attention's, which take most of
 * a long sequence's memory; one layer for each group has none.
 */
#include "engine/kv/internal.h"

#include <stdlib.h>


#define PADDING_PART 12u


int
kv_check_shape(const struct ax_kv_shape *shape, struct ax_error *err)
{
    if (shape->n_layer == 0 || shape->n_layer > AX_KV_LAYERS_MAX ||
        shape->n_head_kv == 0 || shape->n_head_kv > 65536 ||
        shape->head_dim == 0 || shape->head_dim > AXK_HEAD_DIM_MAX ||
        shape->type >= AXK_KV_TYPE_END) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "no KV cache for %u layers of %u heads of %u",
                            shape->n_layer, shape->n_head_kv, shape->head_dim);
    }
    return AXION_OK;
}


static uint32_t
window_of(const struct ax_kv_shape *shape, uint32_t layer)
{
    return shape->windows != NULL ? shape->windows[layer] : 0;
}


/* The windows and how many layers each kind has; false: too many kinds. */
static bool
count_kinds(const struct ax_kv_shape *shape, struct kv_layout *l)
{
    for (uint32_t i = 0; i < shape->n_layer; i++) {
        uint32_t tokens = window_of(shape, i), w = 0;
        if (tokens == 0) {
            l->n_full_layers++;
            continue;
        }
        while (w < l->n_windows && l->windows[w].tokens != tokens) {
            w++;
        }
        if (w == AX_KV_WINDOWS_MAX) {
            return false;
        }
        l->n_windows += w == l->n_windows;
        l->windows[w].tokens = tokens;
        l->windows[w].n_layers++;
    }
    return true;
}


static uint32_t
groups_of(uint32_t n_layers, uint32_t layers_max)
{
    return (n_layers + layers_max - 1) / layers_max;
}


static uint32_t
count_groups(const struct kv_layout *l, uint32_t layers_max)
{
    uint32_t n = groups_of(l->n_full_layers, layers_max);
    for (uint32_t w = 0; w < l->n_windows; w++) {
        n += groups_of(l->windows[w].n_layers, layers_max);
    }
    return n;
}


static bool
pads_much(uint32_t n_layers, uint32_t n_groups, uint32_t layers_max)
{
    return (uint64_t)n_groups * layers_max - n_layers > n_layers / PADDING_PART;
}


/* Blocks that hold what a window sees, also further back where truncation may
 * go, and what a step writes behind it. */
static uint32_t
held_max(const struct ax_kv_shape *shape, uint32_t tokens)
{
    uint64_t positions =
        (uint64_t)tokens - 1 + shape->back_tokens_max + shape->step_tokens_max;
    if (shape->step_tokens_max == 0 || positions > UINT32_MAX - 64) {
        return UINT32_MAX;
    }
    return (uint32_t)(positions + AX_KV_BLOCK_TOKENS - 2) / AX_KV_BLOCK_TOKENS +
           1;
}


int
kv_lay_out(struct kv_layout *l, const struct ax_kv_shape *shape,
           struct ax_error *err)
{
    *l = (struct kv_layout){.back_tokens = shape->back_tokens_max};
    if (!count_kinds(shape, l)) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "more than %u sizes of sliding windows",
                            AX_KV_WINDOWS_MAX);
    }
    uint32_t n = shape->n_layer;
    while (pads_much(l->n_full_layers, groups_of(l->n_full_layers, n), n) ||
           pads_much(shape->n_layer, count_groups(l, n), n)) {
        n--;
    }
    l->layers_max = n;
    l->n_groups = count_groups(l, n);
    if (l->n_groups > AX_KV_GROUPS_MAX) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "%u groups of layers with one window; %u are the "
                            "most",
                            l->n_groups, AX_KV_GROUPS_MAX);
    }
    l->n_full = groups_of(l->n_full_layers, n);
    uint32_t next = l->n_full;
    for (uint32_t w = 0; w < l->n_windows; w++) {
        struct kv_window *window = &l->windows[w];
        window->group0 = next;
        window->n_groups = groups_of(window->n_layers, n);
        window->held_max = held_max(shape, window->tokens);
        next += window->n_groups;
    }
    l->layer_bytes =
        axk_kv_block_bytes(shape->type, shape->n_head_kv, shape->head_dim);
    l->block_bytes = l->layer_bytes * n;
    return AXION_OK;
}


void
kv_place_layers(const struct kv_layout *l, const struct ax_kv_shape *shape,
                struct kv_place *places)
{
    uint32_t n_full = 0, n_of[AX_KV_WINDOWS_MAX] = {0};

    for (uint32_t i = 0; i < shape->n_layer; i++) {
        uint32_t tokens = window_of(shape, i), w = 0;
        while (tokens != 0 && l->windows[w].tokens != tokens) {
            w++;
        }
        uint32_t at = tokens == 0 ? n_full++ : n_of[w]++;
        uint32_t group0 = tokens == 0 ? 0 : l->windows[w].group0;
        places[i] =
            (struct kv_place){group0 + at / l->layers_max, at % l->layers_max};
    }
}


uint32_t
kv_first_seen(const struct kv_window *window, uint32_t position)
{
    return position >= window->tokens
               ? (position - window->tokens + 1) / AX_KV_BLOCK_TOKENS
               : 0;
}


uint64_t
kv_needed(const struct kv_layout *l, uint32_t n_tokens)
{
    uint32_t n = ax_kv_blocks_for(n_tokens);
    uint64_t sum = (uint64_t)l->n_full * n;
    for (uint32_t w = 0; w < l->n_windows; w++) {
        uint32_t most = l->windows[w].held_max;
        sum += (uint64_t)l->windows[w].n_groups * (n < most ? n : most);
    }
    return sum;
}


uint64_t
ax_kv_bytes_needed(const struct ax_kv_shape *shape, uint32_t n_tokens)
{
    struct kv_layout l;

    if (kv_check_shape(shape, NULL) != AXION_OK ||
        kv_lay_out(&l, shape, NULL) != AXION_OK) {
        return 0;
    }
    return kv_needed(&l, n_tokens) * l.block_bytes;
}
