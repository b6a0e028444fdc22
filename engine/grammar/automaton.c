/*
 * See automaton.h.  The mapping holds
 *
 *   nodes[], below[], marks[], depth[]   frames; [0] is the outermost caller
 *   frame_table[]                        frames by hash
 *   states[], threads[], next[][class]   states; [0] is none, [1] is dead
 *   state_table[]                        states by hash
 *
 * A thread is a frame as well: the node that takes a byte, on the chain below.
 * A frame is made after the one below it, so its number is larger: collect()
 * moves frames down in their order and needs no second table.
 */
#include "engine/grammar/automaton.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "engine/grammar/program.h"

#define FRAME_TABLE   (2 * AX_GRAMMAR_FRAMES_MAX)
#define STATE_TABLE   (2 * AX_GRAMMAR_STATES_MAX)
#define THREADS_TOTAL (1u << 18)
#define NO_FRAME      UINT32_MAX

struct state {
    uint32_t first, n; /* threads[first .. first + n) */
    uint32_t hash;
    bool accepts;
};

struct ax_automaton {
    const struct ax_grammar *g;
    uint64_t left;
    uint32_t generation;
    uint32_t mark; /* of the walk at hand */
    uint32_t n_frames, n_states, n_threads;
    void *memory;
    size_t bytes;
    uint32_t *nodes, *below, *marks;
    uint16_t *depth;
    uint32_t *frame_table; /* 0: free */
    struct state *states;
    uint32_t *threads;
    uint32_t *next;        /* [STATES_MAX][n_classes], 0: not known */
    uint32_t *state_table; /* 0: free */

    /* of the walk at hand */
    uint32_t found[AX_GRAMMAR_THREADS_MAX];
    uint32_t n_found;
    bool found_end;
    struct {
        uint32_t node, below;
    } path[AX_GRAMMAR_THREADS_MAX];
    uint32_t n_path;
};


/* ---- memory ---- */

/* The next part of the mapping; without one only its size is counted. */
static void *
cut(struct ax_automaton *a, size_t bytes)
{
    size_t at = a->bytes;
    a->bytes += (bytes + 63) / 64 * 64;
    return a->memory != NULL ? (char *)a->memory + at : NULL;
}


static void
lay_out(struct ax_automaton *a, uint32_t n_classes)
{
    a->bytes = 0;
    size_t frames = AX_GRAMMAR_FRAMES_MAX, word = sizeof(uint32_t);
    a->nodes = cut(a, frames * word);
    a->below = cut(a, frames * word);
    a->marks = cut(a, frames * word);
    a->depth = cut(a, frames * sizeof(*a->depth));
    a->frame_table = cut(a, FRAME_TABLE * word);
    a->states = cut(a, AX_GRAMMAR_STATES_MAX * sizeof(*a->states));
    a->threads = cut(a, THREADS_TOTAL * word);
    a->next = cut(a, AX_GRAMMAR_STATES_MAX * n_classes * word);
    a->state_table = cut(a, STATE_TABLE * word);
}


size_t
ax_automaton_bytes(uint32_t n_classes)
{
    struct ax_automaton a = {.memory = NULL};
    lay_out(&a, n_classes);
    return sizeof(a) + a.bytes;
}


static uint32_t
hash_of(uint32_t hash, uint32_t word)
{
    hash = (hash ^ word) * 0x9e3779b1u;
    return hash ^ hash >> 15;
}


static void
empty(struct ax_automaton *a)
{
    memset(a->frame_table, 0, FRAME_TABLE * sizeof(*a->frame_table));
    memset(a->state_table, 0, STATE_TABLE * sizeof(*a->state_table));
    memset(a->next, 0,
           (size_t)a->n_states * a->g->n_classes * sizeof(*a->next));
    a->n_frames = 1;
    a->n_threads = 0;
    a->states[0] = a->states[AX_GRAMMAR_DEAD] = (struct state){0};
    a->n_states = 2;
}


int
ax_automaton_open(struct ax_automaton **out, const struct ax_grammar *grammar)
{
    *out = NULL;
    struct ax_automaton *a = calloc(1, sizeof(*a));
    if (a == NULL) {
        return AXION_ERR_NO_MEMORY;
    }
    a->g = grammar;
    lay_out(a, grammar->n_classes); /* for its size */
    a->memory = mmap(NULL, a->bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (a->memory == MAP_FAILED) {
        free(a);
        return AXION_ERR_NO_MEMORY;
    }
    lay_out(a, grammar->n_classes);
    empty(a);
    *out = a;
    return AXION_OK;
}


void
ax_automaton_close(struct ax_automaton *a)
{
    if (a != NULL) {
        munmap(a->memory, a->bytes);
        free(a);
    }
}


void
ax_automaton_allow(struct ax_automaton *a, uint64_t units)
{
    a->left = units;
}


uint64_t
ax_automaton_left(const struct ax_automaton *a)
{
    return a->left;
}


bool
ax_automaton_spend(struct ax_automaton *a, uint32_t units)
{
    if (a->left < units) {
        a->left = 0;
        return false;
    }
    a->left -= units;
    return true;
}


uint32_t
ax_automaton_generation(const struct ax_automaton *a)
{
    return a->generation;
}


/* ---- frames ---- */

static uint32_t *
frame_place(const struct ax_automaton *a, uint32_t node, uint32_t below)
{
    uint32_t at = hash_of(hash_of(0x51ed27u, node), below) % FRAME_TABLE;
    for (;; at = (at + 1) % FRAME_TABLE) {
        uint32_t id = a->frame_table[at];
        if (id == 0 || (a->nodes[id] == node && a->below[id] == below)) {
            return &a->frame_table[at];
        }
    }
}


/* NO_FRAME: memory is full. */
static uint32_t
frame(struct ax_automaton *a, uint32_t node, uint32_t below)
{
    uint32_t *place = frame_place(a, node, below);
    if (*place == 0) {
        if (a->n_frames == AX_GRAMMAR_FRAMES_MAX) {
            return NO_FRAME;
        }
        uint32_t id = a->n_frames++;
        a->nodes[id] = node;
        a->below[id] = below;
        a->depth[id] = (uint16_t)(a->depth[below] + 1);
        a->marks[id] = 0;
        *place = id;
    }
    return *place;
}


/* ---- walks over what takes no byte ---- */

static void
next_mark(struct ax_automaton *a)
{
    if (++a->mark == 0) { /* marks of 2^32 walks ago */
        memset(a->marks, 0, a->n_frames * sizeof(*a->marks));
        a->mark = 1;
    }
}


static void
begin_walk(struct ax_automaton *a)
{
    next_mark(a);
    a->n_found = a->n_path = 0;
    a->found_end = false;
}


/* Remembers a node on a chain; *is_new: it was not there in this walk. */
static enum ax_grammar_answer
visit(struct ax_automaton *a, uint32_t node, uint32_t below, uint32_t *id,
      bool *is_new)
{
    *id = frame(a, node, below);
    if (*id == NO_FRAME) {
        return AX_GRAMMAR_FULL;
    }
    *is_new = a->marks[*id] != a->mark;
    a->marks[*id] = a->mark;
    return AX_GRAMMAR_DONE;
}


/* One call deeper; a call that ends its rule needs no frame.  *node is
 * NO_FRAME where that is too deep. */
static enum ax_grammar_answer
call(struct ax_automaton *a, uint32_t *node, uint32_t *below)
{
    const struct ax_grammar_node *n = &a->g->nodes[*node];
    *node = n->arg;
    if (a->g->nodes[n->next].kind == AX_NODE_END) {
        return AX_GRAMMAR_DONE;
    }
    if (a->depth[*below] >= AX_GRAMMAR_CALLS_MAX) {
        *node = NO_FRAME;
        return AX_GRAMMAR_DONE;
    }
    *below = frame(a, n->next, *below);
    return *below != NO_FRAME ? AX_GRAMMAR_DONE : AX_GRAMMAR_FULL;
}


/* A thread or a branch that this walk has not seen: the first is noted, the
 * second is left for later. */
static enum ax_grammar_answer
meet(struct ax_automaton *a, uint32_t node, uint32_t below, bool *is_new)
{
    const struct ax_grammar_node *n = &a->g->nodes[node];
    uint32_t id;
    enum ax_grammar_answer answer = visit(a, node, below, &id, is_new);
    if (answer != AX_GRAMMAR_DONE || !*is_new) {
        return answer;
    }
    if (n->kind == AX_NODE_BYTES) {
        if (a->n_found == AX_GRAMMAR_THREADS_MAX) {
            return AX_GRAMMAR_AMBIGUOUS;
        }
        a->found[a->n_found++] = id;
        return AX_GRAMMAR_DONE;
    }
    if (a->g->nodes[n->arg].fruitful) {
        if (a->n_path == AX_GRAMMAR_THREADS_MAX) {
            return AX_GRAMMAR_AMBIGUOUS;
        }
        a->path[a->n_path].node = n->arg;
        a->path[a->n_path++].below = below;
    }
    return AX_GRAMMAR_DONE;
}


/* From one node until a byte is needed, leaving branches in path[]. */
static enum ax_grammar_answer
follow(struct ax_automaton *a, uint32_t node, uint32_t below)
{
    for (;;) {
        enum ax_grammar_answer answer = AX_GRAMMAR_DONE;
        const struct ax_grammar_node *n = &a->g->nodes[node];
        bool is_new = true;
        if (!n->fruitful) {
            return AX_GRAMMAR_DONE;
        }
        if (!ax_automaton_spend(a, 1)) {
            return AX_GRAMMAR_AGAIN;
        }
        switch ((enum ax_grammar_kind)n->kind) {
        case AX_NODE_END:
            if (below == 0) {
                a->found_end = true;
                return AX_GRAMMAR_DONE;
            }
            node = a->nodes[below];
            below = a->below[below];
            break;
        case AX_NODE_CALL:
            answer = call(a, &node, &below);
            if (answer != AX_GRAMMAR_DONE || node == NO_FRAME) {
                return answer;
            }
            break;
        case AX_NODE_BYTES:
        case AX_NODE_SPLIT:
            answer = meet(a, node, below, &is_new);
            if (answer != AX_GRAMMAR_DONE || !is_new ||
                n->kind == AX_NODE_BYTES) {
                return answer;
            }
            node = n->next;
            break;
        }
    }
}


static enum ax_grammar_answer
walk(struct ax_automaton *a, uint32_t node, uint32_t below)
{
    enum ax_grammar_answer answer = follow(a, node, below);
    while (answer == AX_GRAMMAR_DONE && a->n_path > 0) {
        a->n_path--;
        answer = follow(a, a->path[a->n_path].node, a->path[a->n_path].below);
    }
    return answer;
}


/* ---- states ---- */

static void
sift_down(uint32_t *heap, uint32_t at, uint32_t n)
{
    uint32_t value = heap[at];
    for (uint32_t child; (child = 2 * at + 1) < n; at = child) {
        child += child + 1 < n && heap[child + 1] > heap[child];
        if (heap[child] <= value) {
            break;
        }
        heap[at] = heap[child];
    }
    heap[at] = value;
}


/* In place, on the way of a token: qsort() allocates from 1 KiB on. */
static void
sort(uint32_t *numbers, uint32_t n)
{
    for (uint32_t i = n / 2; i-- > 0;) {
        sift_down(numbers, i, n);
    }
    for (uint32_t i = n; i-- > 1;) {
        uint32_t most = numbers[0];
        numbers[0] = numbers[i];
        numbers[i] = most;
        sift_down(numbers, 0, i);
    }
}


static bool
same_as_found(const struct ax_automaton *a, const struct state *s,
              uint32_t hash)
{
    return s->hash == hash && s->n == a->n_found &&
           s->accepts == a->found_end &&
           memcmp(a->threads + s->first, a->found, s->n * sizeof(*a->found)) ==
               0;
}


/* The state of what a walk has found. */
static enum ax_grammar_answer
intern_found(struct ax_automaton *a, uint32_t *state)
{
    if (a->n_found == 0 && !a->found_end) {
        *state = AX_GRAMMAR_DEAD;
        return AX_GRAMMAR_DONE;
    }
    sort(a->found, a->n_found);
    uint32_t hash = a->found_end ? 77 : 13;
    for (uint32_t i = 0; i < a->n_found; i++) {
        hash = hash_of(hash, a->found[i]);
    }
    uint32_t at = hash % STATE_TABLE;
    for (; a->state_table[at] != 0; at = (at + 1) % STATE_TABLE) {
        *state = a->state_table[at];
        if (same_as_found(a, &a->states[*state], hash)) {
            return AX_GRAMMAR_DONE;
        }
    }
    if (a->n_states == AX_GRAMMAR_STATES_MAX ||
        a->n_threads + a->n_found > THREADS_TOTAL) {
        return AX_GRAMMAR_FULL;
    }
    *state = a->state_table[at] = a->n_states++;
    a->states[*state] =
        (struct state){a->n_threads, a->n_found, hash, a->found_end};
    memcpy(a->threads + a->n_threads, a->found, a->n_found * sizeof(*a->found));
    a->n_threads += a->n_found;
    return AX_GRAMMAR_DONE;
}


enum ax_grammar_answer
ax_automaton_start(struct ax_automaton *a, uint32_t *state)
{
    begin_walk(a);
    enum ax_grammar_answer answer = walk(a, a->g->start, 0);
    return answer == AX_GRAMMAR_DONE ? intern_found(a, state) : answer;
}


static enum ax_grammar_answer
step(struct ax_automaton *a, const struct state *s, uint8_t byte,
     uint32_t *next)
{
    enum ax_grammar_answer answer = AX_GRAMMAR_DONE;
    begin_walk(a);
    for (uint32_t i = 0; i < s->n && answer == AX_GRAMMAR_DONE; i++) {
        uint32_t thread = a->threads[s->first + i];
        const struct ax_grammar_node *n = &a->g->nodes[a->nodes[thread]];
        if (!ax_automaton_spend(a, 1)) {
            return AX_GRAMMAR_AGAIN;
        }
        if (ax_byte_set_has(&a->g->sets[n->arg], byte)) {
            answer = walk(a, n->next, a->below[thread]);
        }
    }
    return answer == AX_GRAMMAR_DONE ? intern_found(a, next) : answer;
}


enum ax_grammar_answer
ax_automaton_step(struct ax_automaton *a, uint32_t state, uint8_t byte,
                  uint32_t *next)
{
    assert(state != 0 && state < a->n_states);
    uint32_t *known = &a->next[state * a->g->n_classes + a->g->class_of[byte]];
    if (*known == 0) {
        uint32_t made;
        enum ax_grammar_answer answer = step(a, &a->states[state], byte, &made);
        if (answer != AX_GRAMMAR_DONE) {
            return answer;
        }
        *known = made;
    }
    *next = *known;
    return AX_GRAMMAR_DONE;
}


bool
ax_automaton_accepts(const struct ax_automaton *a, uint32_t state)
{
    return a->states[state].accepts;
}


bool
ax_automaton_ends(const struct ax_automaton *a, uint32_t state)
{
    return a->states[state].n == 0;
}


enum ax_grammar_answer
ax_automaton_loops(struct ax_automaton *a, uint32_t state, bool loops[256])
{
    bool same[256];
    for (uint32_t c = 0; c < a->g->n_classes; c++) {
        uint32_t next;
        enum ax_grammar_answer answer =
            ax_automaton_step(a, state, a->g->example_of[c], &next);
        if (answer != AX_GRAMMAR_DONE) {
            return answer;
        }
        same[c] = next == state;
    }
    for (uint32_t b = 0; b < 256; b++) {
        loops[b] = same[a->g->class_of[b]];
    }
    return AX_GRAMMAR_DONE;
}


/* ---- forgetting ---- */

/* Marks what the found threads stand on. */
static void
mark_found(struct ax_automaton *a)
{
    next_mark(a);
    for (uint32_t i = 0; i < a->n_found; i++) {
        uint32_t id = a->found[i];
        for (; id != 0 && a->marks[id] != a->mark; id = a->below[id]) {
            a->marks[id] = a->mark;
        }
    }
}


/* Moves marked frames down; below[] and marks[] of a frame that is left
 * behind are not needed any more, so marks[] keeps where each went. */
static void
move_frames(struct ax_automaton *a)
{
    uint32_t n = 1;
    a->marks[0] = 0;
    for (uint32_t id = 1; id < a->n_frames; id++) {
        if (a->marks[id] != a->mark) {
            continue;
        }
        a->nodes[n] = a->nodes[id];
        a->below[n] = a->marks[a->below[id]];
        a->depth[n] = a->depth[id];
        a->marks[id] = n++;
    }
    for (uint32_t i = 0; i < a->n_found; i++) {
        a->found[i] = a->marks[a->found[i]];
    }
    a->n_frames = n;
}


void
ax_automaton_collect(struct ax_automaton *a, uint32_t *state)
{
    struct state keep = a->states[*state];
    a->n_found = keep.n;
    memcpy(a->found, a->threads + keep.first, keep.n * sizeof(*a->found));
    mark_found(a);
    move_frames(a);
    uint32_t n_frames = a->n_frames;
    empty(a);
    a->n_frames = n_frames;
    memset(a->marks, 0, n_frames * sizeof(*a->marks));
    a->mark = 0;
    for (uint32_t id = 1; id < n_frames; id++) {
        *frame_place(a, a->nodes[id], a->below[id]) = id;
    }
    a->generation++;
    a->found_end = keep.accepts;
    enum ax_grammar_answer answer = intern_found(a, state);
    assert(answer == AX_GRAMMAR_DONE);
}
