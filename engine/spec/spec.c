/* See spec.h.  A place is a sequence's proposer, its rates, and what it said
 * last: drafts[compared ..] wait for the tokens that come.
 *
 * `suffix` has two opinions: what followed the longest repeated suffix, and
 * what stands where a copy has come to (copy.h).  Each has rates of its own;
 * the likelier one is proposed, and the other's first token, `silent`, is
 * compared as well, so that both are known. */
#include "engine/spec/spec.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include "engine/spec/bigram.h"
#include "engine/spec/copy.h"
#include "engine/spec/suffix.h"

#define NONE           UINT32_MAX
#define INDEX_TOKENS   1024u
#define SUFFIX_MAX     65536u /* tokens of one automaton, then it starts again */
#define SUFFIX_KEEP    8192u  /* with so many of the latest */
#define PROBE_STEPS    64u
#define PROBE_DRAFTS   3u
#define PROBE_SURVIVAL 0.6f


/* A proposal's first token, and where its rate is. */
struct guess {
    int32_t token;
    uint32_t match;
    struct ax_spec_rates *rates; /* NULL: there is none */
};

struct place {
    uint32_t slot;    /* NONE: free */
    uint64_t used;    /* step number */
    uint32_t first;   /* index of the first token that is indexed */
    uint32_t indexed; /* tokens[first .. indexed) are */
    struct ax_suffix suffix;
    struct ax_bigram *bigram;
    struct ax_spec_rates rates;
    struct ax_copy copy;
    struct ax_spec_rates copy_rates;
    struct ax_spec_rates *said_rates; /* of what was proposed */
    uint32_t match;                   /* behind which the drafts stand */
    struct guess silent;
    uint32_t n_drafts, compared;
    int32_t drafts[AX_SPEC_DRAFT_MAX];
    float survive[AX_SPEC_DRAFT_MAX];
};

struct ax_spec {
    struct ax_spec_options options;
    struct place *places; /* [sequences] */
    uint32_t *place_of;   /* [slots] */
    uint32_t *item_of;    /* [slots], of the step in item_step */
    uint64_t *item_step;  /* [slots] */
    struct ax_spec_item *items;
    struct place **item_places;
    uint32_t n_items;
    uint64_t step;
    uint64_t tried;  /* the step in which something was computed last */
    uint32_t budget; /* tokens to index in this step */
    void *memory;
    uint64_t bytes;
};


enum ax_spec_kind
ax_spec_kind(const char *name)
{
    static const char *const names[] = {"off", "suffix", "bigram", "draft"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0) {
            return (enum ax_spec_kind)i;
        }
    }
    return AX_SPEC_OFF;
}


/* ---- open and close ---- */

static uint32_t
suffix_tokens(const struct ax_spec *s)
{
    return s->options.ctx < SUFFIX_MAX ? s->options.ctx : SUFFIX_MAX;
}


static size_t
place_bytes(const struct ax_spec *s)
{
    switch (s->options.kind) {
    case AX_SPEC_SUFFIX:
        return ax_suffix_bytes(suffix_tokens(s));
    case AX_SPEC_BIGRAM:
        return (sizeof(struct ax_bigram) + 63) / 64 * 64;
    default:
        return 0;
    }
}


/* Address space; pages come with their first use. */
static int
reserve(struct ax_spec *s)
{
    size_t bytes = place_bytes(s);
    s->bytes = (uint64_t)bytes * s->options.sequences;
    if (s->bytes == 0) {
        return AXION_OK;
    }
    char *at = mmap(NULL, s->bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
        return AXION_ERR_NO_MEMORY;
    }
    s->memory = at;
    uint64_t key;
    if (getrandom(&key, sizeof(key), 0) != sizeof(key)) {
        return AXION_ERR_SYSTEM;
    }
    for (uint32_t i = 0; i < s->options.sequences; i++, at += bytes) {
        if (s->options.kind == AX_SPEC_SUFFIX) {
            ax_suffix_init(&s->places[i].suffix, at, suffix_tokens(s), key);
        } else {
            s->places[i].bigram = (struct ax_bigram *)(void *)at;
        }
    }
    return AXION_OK;
}


static int
allocate(struct ax_spec *s)
{
    const struct ax_spec_options *o = &s->options;
    s->places = calloc(o->sequences, sizeof(*s->places));
    s->items = calloc(o->sequences, sizeof(*s->items));
    s->item_places = calloc(o->sequences, sizeof(struct place *));
    s->place_of = calloc(o->slots, sizeof(*s->place_of));
    s->item_of = calloc(o->slots, sizeof(*s->item_of));
    s->item_step = calloc(o->slots, sizeof(*s->item_step));
    if (s->places == NULL || s->items == NULL || s->item_places == NULL ||
        s->place_of == NULL || s->item_of == NULL || s->item_step == NULL) {
        return AXION_ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < o->slots; i++) {
        s->place_of[i] = NONE;
    }
    for (uint32_t i = 0; i < o->sequences; i++) {
        s->places[i].slot = NONE;
    }
    return reserve(s);
}


int
ax_spec_open(struct ax_spec **out, const struct ax_spec_options *options,
             struct ax_error *err)
{
    *out = NULL;
    if (options->draft_max == 0 || options->draft_max > AX_SPEC_DRAFT_MAX ||
        options->sequences == 0 || options->slots == 0 || options->ctx == 0) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "%u drafts for a sequence; 1 to %u expected",
                            options->draft_max, AX_SPEC_DRAFT_MAX);
    }
    struct ax_spec *s = calloc(1, sizeof(*s));
    if (s != NULL) {
        s->options = *options;
    }
    if (s == NULL ||
        (options->kind != AX_SPEC_OFF && allocate(s) != AXION_OK)) {
        ax_spec_close(s);
        return ax_error_set(err, AXION_ERR_NO_MEMORY,
                            "no memory to speculate for %u sequences",
                            options->sequences);
    }
    *out = s;
    return AXION_OK;
}


void
ax_spec_close(struct ax_spec *s)
{
    if (s == NULL) {
        return;
    }
    if (s->memory != NULL) {
        munmap(s->memory, s->bytes);
    }
    free(s->places);
    free(s->items);
    free(s->item_places);
    free(s->place_of);
    free(s->item_of);
    free(s->item_step);
    free(s);
}


uint64_t
ax_spec_bytes(const struct ax_spec *s)
{
    return s->bytes;
}


/* ---- places ---- */

static struct place *
place_of(struct ax_spec *s, uint32_t slot)
{
    if (s->options.kind == AX_SPEC_OFF) {
        return NULL;
    }
    assert(slot < s->options.slots);
    return s->place_of[slot] != NONE ? &s->places[s->place_of[slot]] : NULL;
}


void
ax_spec_forget(struct ax_spec *s, uint32_t slot)
{
    struct place *p = place_of(s, slot);
    if (p != NULL) {
        p->slot = NONE;
        p->used = 0; /* the first to be taken */
        s->place_of[slot] = NONE;
    }
}


static void
start(struct ax_spec *s, struct place *p, uint32_t slot)
{
    p->slot = slot;
    p->first = p->indexed = 0;
    p->n_drafts = p->compared = 0;
    ax_spec_rates_init(&p->rates);
    ax_spec_rates_init_copy(&p->copy_rates);
    p->said_rates = &p->rates;
    p->silent.rates = NULL;
    if (s->options.kind == AX_SPEC_SUFFIX) {
        ax_suffix_reset(&p->suffix);
        ax_copy_reset(&p->copy);
    } else if (s->options.kind == AX_SPEC_BIGRAM) {
        ax_bigram_reset(p->bigram);
    }
}


/* The sequence's place, or that of who was longest not in a step. */
static struct place *
take_place(struct ax_spec *s, uint32_t slot)
{
    struct place *p = place_of(s, slot);
    if (p == NULL) {
        p = &s->places[0];
        for (uint32_t i = 1; i < s->options.sequences; i++) {
            if (s->places[i].used < p->used) {
                p = &s->places[i];
            }
        }
        assert(p->used < s->step); /* a step has no more than places */
        if (p->slot != NONE) {
            ax_spec_forget(s, p->slot);
        }
        start(s, p, slot);
        s->place_of[slot] = (uint32_t)(p - s->places);
    }
    p->used = s->step;
    return p;
}


/* ---- the text ---- */

/* An automaton cannot forget: it begins again with the latest tokens. */
static void
begin_again(struct place *p, uint32_t n_tokens)
{
    uint32_t keep = p->suffix.tokens_max / 2;
    keep = keep < SUFFIX_KEEP ? keep : SUFFIX_KEEP;
    p->first = p->indexed = n_tokens > keep ? n_tokens - keep : 0;
    ax_suffix_reset(&p->suffix);
}


/* The place in the text that the automaton means. */
static uint32_t
suffix_at(const struct place *p)
{
    return p->first + p->suffix.match_end + 1;
}


static void
add_to_suffix(struct place *p, const int32_t *tokens)
{
    ax_suffix_add(&p->suffix, tokens[p->indexed]);
    ax_copy_add(&p->copy, tokens, p->indexed + 1);
    ax_copy_anchor(&p->copy, suffix_at(p), p->suffix.match);
}


static void
index_text(struct ax_spec *s, struct place *p, const int32_t *tokens,
           uint32_t n_tokens)
{
    /* Preempted: its text is computed again, and indexed already. */
    while (p->indexed < n_tokens && s->budget > 0) {
        if (s->options.kind == AX_SPEC_SUFFIX) {
            if (ax_suffix_full(&p->suffix)) {
                begin_again(p, n_tokens);
            }
            add_to_suffix(p, tokens);
        } else {
            ax_bigram_add(p->bigram, tokens[p->indexed]);
        }
        p->indexed++;
        s->budget--;
    }
}


static bool
indexes(const struct ax_spec *s)
{
    return s->options.kind == AX_SPEC_SUFFIX ||
           s->options.kind == AX_SPEC_BIGRAM;
}


/* ---- a step ---- */

void
ax_spec_begin_step(struct ax_spec *s)
{
    s->step++;
    s->budget = INDEX_TOKENS;
    s->n_items = 0;
}


void
ax_spec_follow(struct ax_spec *s, uint32_t slot, const int32_t *tokens,
               uint32_t n_tokens)
{
    if (s->options.kind != AX_SPEC_OFF) {
        struct place *p = take_place(s, slot);
        if (indexes(s)) {
            index_text(s, p, tokens, n_tokens);
        }
    }
}


static float
rate_of(const struct guess *guess)
{
    return guess->rates == NULL
               ? 0
               : guess->rates->rate[ax_spec_class(guess->match)];
}


/* The likelier of both opinions, where they differ in the place. */
static uint32_t
ask_suffix(struct place *p, const int32_t *tokens, uint32_t n_tokens,
           int32_t *out, uint32_t max)
{
    struct guess suffix = {.match = p->suffix.match};
    struct guess copy = {.match = p->copy.run + 1};
    if (ax_suffix_propose(&p->suffix, tokens + p->first, &suffix.token, 1)) {
        suffix.rates = &p->rates;
    }
    if ((suffix.rates == NULL || p->copy.at != suffix_at(p)) &&
        ax_copy_propose(&p->copy, tokens, n_tokens, &copy.token, 1)) {
        copy.rates = &p->copy_rates;
    }
    bool copies = rate_of(&copy) > rate_of(&suffix);
    p->match = copies ? copy.match : suffix.match;
    p->said_rates = copies ? copy.rates : &p->rates;
    p->silent = copies ? suffix : copy;
    return copies ? ax_copy_propose(&p->copy, tokens, n_tokens, out, max)
                  : ax_suffix_propose(&p->suffix, tokens + p->first, out, max);
}


static uint32_t
ask(struct ax_spec *s, struct place *p, int32_t *tokens, uint32_t n_prompt,
    uint32_t n_tokens, uint32_t max)
{
    const struct ax_spec_options *o = &s->options;
    int32_t *out = tokens + n_tokens;
    p->match = 1;
    switch (o->kind) {
    case AX_SPEC_SUFFIX:
        return max > 0 ? ask_suffix(p, tokens, n_tokens, out, max) : 0;
    case AX_SPEC_BIGRAM:
        return ax_bigram_propose(p->bigram, out, max);
    case AX_SPEC_DRAFT:
        return max; /* as many as are chosen, once they are */
    default:
        return o->custom.propose(o->custom.context, p->slot, tokens, n_prompt,
                                 n_tokens, out, max);
    }
}


uint32_t
ax_spec_propose(struct ax_spec *s, uint32_t slot, int32_t *tokens,
                uint32_t n_prompt, uint32_t n_tokens, uint32_t max)
{
    if (s->options.kind == AX_SPEC_OFF) {
        return 0;
    }
    struct place *p = take_place(s, slot);
    p->n_drafts = p->compared = 0;
    p->silent.rates = NULL;
    if (indexes(s)) {
        index_text(s, p, tokens, n_tokens);
        if (p->indexed < n_tokens) {
            return 0; /* it is behind */
        }
    }
    max = max < s->options.draft_max ? max : s->options.draft_max;
    p->n_drafts = ask(s, p, tokens, n_prompt, n_tokens, max);
    if (p->n_drafts == 0) {
        return 0;
    }
    if (s->options.kind != AX_SPEC_DRAFT) {
        memcpy(p->drafts, tokens + n_tokens, p->n_drafts * sizeof(int32_t));
    }
    ax_spec_survival(p->said_rates, p->match, p->n_drafts, p->survive);
    s->items[s->n_items] = (struct ax_spec_item){
        .survive = p->survive, .n = p->n_drafts, .positions = n_tokens};
    s->item_places[s->n_items] = p;
    s->item_of[slot] = s->n_items++;
    s->item_step[slot] = s->step;
    uint32_t n = p->n_drafts;
    if (s->options.kind == AX_SPEC_DRAFT) {
        p->n_drafts = 0; /* nothing was said yet */
    }
    return n;
}


void
ax_spec_said(struct ax_spec *s, uint32_t slot, const int32_t *drafts,
             uint32_t n)
{
    struct place *p = place_of(s, slot);
    assert(p != NULL && s->options.kind == AX_SPEC_DRAFT &&
           n <= ax_spec_chosen(s, slot));
    memcpy(p->drafts, drafts, n * sizeof(int32_t));
    p->n_drafts = n;
    s->items[s->item_of[slot]].k = n;
}


/* Proposers with a gate of their own, or none. */
static void
choose_ungoverned(struct ax_spec *s, uint32_t drafts_max)
{
    for (uint32_t i = 0; i < s->n_items; i++) {
        struct ax_spec_item *item = &s->items[i];
        bool open = s->options.kind == AX_SPEC_CUSTOM ||
                    ax_bigram_open(s->item_places[i]->bigram);
        item->k = !open ? 0 : item->n < drafts_max ? item->n : drafts_max;
        drafts_max -= item->k;
    }
}


/* If a likely draft has not been worth its cost for long, the cost may be
 * known wrongly: compute a few, so that it is learned. */
static void
probe(struct ax_spec *s, const struct ax_cost *cost,
      const struct ax_spec_step *step)
{
    struct ax_spec_item *likely = &s->items[0];
    for (uint32_t i = 0; i < s->n_items; i++) {
        struct ax_spec_item *item = &s->items[i];
        if (item->k > 0) {
            s->tried = s->step;
            return;
        }
        if (item->survive[0] > likely->survive[0]) {
            likely = item;
        }
    }
    /* What a draft model would have said is not known: it is always asked. */
    bool likely_enough = s->options.kind == AX_SPEC_DRAFT ||
                         likely->survive[0] >= PROBE_SURVIVAL;
    if (s->step - s->tried >= PROBE_STEPS && likely_enough) {
        uint32_t k = likely->n < PROBE_DRAFTS ? likely->n : PROBE_DRAFTS;
        likely->k = k < step->drafts_max ? k : step->drafts_max;
        if (ax_spec_added_us(cost, step, s->items, s->n_items) <=
            step->room_us) {
            s->tried = s->step;
        } else {
            likely->k = 0;
        }
    }
}


float
ax_spec_choose_step(struct ax_spec *s, const struct ax_cost *cost,
                    const struct ax_spec_step *step)
{
    float wanted_us = 0;
    if (s->options.kind == AX_SPEC_CUSTOM ||
        s->options.kind == AX_SPEC_BIGRAM) {
        choose_ungoverned(s, step->drafts_max);
        wanted_us = ax_spec_added_us(cost, step, s->items, s->n_items);
    } else if (s->n_items > 0) {
        wanted_us = ax_spec_choose(cost, step, s->items, s->n_items);
        probe(s, cost, step);
    }
    return wanted_us;
}


uint32_t
ax_spec_chosen(const struct ax_spec *s, uint32_t slot)
{
    if (s->options.kind == AX_SPEC_OFF || s->item_step[slot] != s->step) {
        return 0;
    }
    return s->items[s->item_of[slot]].k;
}


void
ax_spec_sampled(struct ax_spec *s, uint32_t slot, int32_t token)
{
    struct place *p = place_of(s, slot);
    if (p == NULL || p->compared == p->n_drafts) {
        return;
    }
    if (p->silent.rates != NULL) {
        ax_spec_rates_learn(p->silent.rates, p->silent.match,
                            p->silent.token == token);
        p->silent.rates = NULL;
    }
    bool right = p->drafts[p->compared] == token;
    if (s->options.kind == AX_SPEC_BIGRAM) {
        ax_bigram_learn(p->bigram, right);
    } else {
        ax_spec_rates_learn(p->said_rates, p->match + p->compared, right);
    }
    p->compared = right ? p->compared + 1 : p->n_drafts;
}
