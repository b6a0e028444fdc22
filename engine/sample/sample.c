/*
 * The stages of sample.h, in their order.  The scratch memory:
 *
 *   x[n_vocab]       the logits after bias and penalties, if there are any
 *   w[n_vocab]       weights, exp of logits
 *   counts[n_vocab]  uses of a token; all zero between calls
 *   group[n_groups]  largest logit of each group of GROUP tokens
 *   kept[], work[]   candidates by ascending id, and some to select in
 *   bucket[]         weight of candidates by distance from the largest logit
 *
 * A banned token has the logit BANNED: finite, so that differences stay
 * finite, and so low that its weight is 0.
 */
#include "engine/sample/sample.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "engine/sample/random.h"
#include "engine/sample/select.h"

#define GROUP            64u
#define BLOCK            256u /* draw: weights summed together */
#define LANES            8u
#define BUCKETS          2048u
#define BUCKETS_PER_UNIT 64.0f
#define BANNED           (-1e30f)
#define EDITED_MAX       1e29f
#define COUNT_DONE       0x80000000u

struct ax_sampler {
    uint32_t n_vocab;
    uint32_t n_groups;
    const struct axk_ops *ops;
    float *x;
    float *w;
    float *group;
    float *group_work;
    double *block;
    uint32_t *counts;
    struct ax_candidate *kept;
    struct ax_candidate *work;
    double bucket[BUCKETS];
};


void
ax_sampling_defaults(struct ax_sampling *sampling)
{
    *sampling = (struct ax_sampling){
        .temperature = 1, .top_p = 1, .repetition_penalty = 1};
}


static bool
in_range(float value, float low, float high)
{
    return value >= low && value <= high; /* false for NaN */
}


int
ax_sampling_check(const struct ax_sampling *p, uint32_t n_vocab,
                  const char **field)
{
    const char *unused;
    field = field != NULL ? field : &unused;

    if (!in_range(p->temperature, 0, 1e6f)) {
        *field = "temperature";
    } else if (!in_range(p->top_p, 0, 1) || p->top_p == 0) {
        *field = "top_p";
    } else if (!in_range(p->min_p, 0, 1)) {
        *field = "min_p";
    } else if (!in_range(p->repetition_penalty, 1e-6f, 1e6f)) {
        *field = "repetition_penalty";
    } else if (!in_range(p->presence_penalty, -1e6f, 1e6f)) {
        *field = "presence_penalty";
    } else if (!in_range(p->frequency_penalty, -1e6f, 1e6f)) {
        *field = "frequency_penalty";
    } else {
        for (uint32_t i = 0; i < p->n_bias; i++) {
            *field = "logit_bias";
            if (p->bias[i].token >= n_vocab) {
                return AXION_ERR_INVALID_TOKEN;
            }
            if (!in_range(p->bias[i].bias, -1e6f, 1e6f)) {
                return AXION_ERR_INVALID_VALUE;
            }
        }
        return AXION_OK;
    }
    return AXION_ERR_INVALID_VALUE;
}


int
ax_sampler_open(struct ax_sampler **out, uint32_t n_vocab,
                const struct axk_ops *ops)
{
    assert(n_vocab > 0 && n_vocab <= (1u << 30) && ops != NULL);
    *out = NULL;
    struct ax_sampler *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return AXION_ERR_NO_MEMORY;
    }
    s->n_vocab = n_vocab;
    s->n_groups = (n_vocab + GROUP - 1) / GROUP;
    s->ops = ops;
    s->x = calloc(n_vocab, sizeof(*s->x));
    s->w = calloc(n_vocab, sizeof(*s->w));
    s->group = calloc(s->n_groups, sizeof(*s->group));
    s->group_work = calloc(s->n_groups, sizeof(*s->group_work));
    s->block = calloc(n_vocab / BLOCK + 1, sizeof(*s->block));
    s->counts = calloc(n_vocab, sizeof(*s->counts));
    s->kept = calloc(n_vocab, sizeof(*s->kept));
    s->work = calloc(n_vocab, sizeof(*s->work));
    if (s->x == NULL || s->w == NULL || s->group == NULL ||
        s->group_work == NULL || s->block == NULL || s->counts == NULL ||
        s->kept == NULL || s->work == NULL) {
        ax_sampler_close(s);
        return AXION_ERR_NO_MEMORY;
    }
    *out = s;
    return AXION_OK;
}


void
ax_sampler_close(struct ax_sampler *s)
{
    if (s == NULL) {
        return;
    }
    free(s->x);
    free(s->w);
    free(s->group);
    free(s->group_work);
    free(s->block);
    free(s->counts);
    free(s->kept);
    free(s->work);
    free(s);
}


/* An exponent of all ones is a NaN or an infinity. */
static bool
all_finite(const float *x, uint32_t n)
{
    uint32_t bad = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof(bits));
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return bad == 0;
}


static float
clamp_edited(float x)
{
    return x > EDITED_MAX ? EDITED_MAX : x < -EDITED_MAX ? -EDITED_MAX : x;
}


static void
apply_bias(const struct ax_sampling *p, float *x)
{
    for (uint32_t i = 0; i < p->n_bias; i++) {
        uint32_t id = p->bias[i].token;
        float bias = p->bias[i].bias;
        x[id] = bias <= AX_SAMPLING_BIAS_BANNED ? BANNED
                                                : clamp_edited(x[id] + bias);
    }
}


static void
apply_allowed(const struct ax_sampling *p, float *x, uint32_t n)
{
    for (uint32_t begin = 0; begin < n; begin += 64) {
        uint64_t bits = p->allowed[begin / 64];
        uint32_t end = begin + 64 < n ? begin + 64 : n;
        if (bits == ~(uint64_t)0) {
            continue;
        }
        for (uint32_t i = begin; i < end; i++, bits >>= 1) {
            x[i] = (bits & 1) != 0 ? x[i] : BANNED;
        }
    }
}


static float
penalized(const struct ax_sampling *p, float x, uint32_t uses)
{
    if (x > 0) {
        x /= p->repetition_penalty;
    } else {
        x *= p->repetition_penalty;
    }
    if (uses > 0) {
        x -= (float)uses * p->frequency_penalty + p->presence_penalty;
    }
    return clamp_edited(x);
}


/* Counts the answer's tokens, edits each distinct token once, and clears the
 * counts by the same walk: the history is the only state. */
static void
apply_penalties(struct ax_sampler *s, const struct ax_sampling *p,
                const struct ax_sample_history *h)
{
    uint32_t first = p->repetition_penalty == 1 ? h->n_prompt : 0;

    for (uint32_t i = h->n_prompt; i < h->n_tokens; i++) {
        s->counts[h->tokens[i]]++;
    }
    for (uint32_t i = first; i < h->n_tokens; i++) {
        uint32_t *count = &s->counts[h->tokens[i]];
        if ((*count & COUNT_DONE) == 0) {
            float *x = &s->x[h->tokens[i]];
            if (*x > BANNED) {
                *x = penalized(p, *x, *count);
            }
            *count |= COUNT_DONE;
        }
    }
    for (uint32_t i = first; i < h->n_tokens; i++) {
        s->counts[h->tokens[i]] = 0;
    }
}


static const float *
edit_logits(struct ax_sampler *s, const struct ax_sampling *p,
            const struct ax_sample_history *h, const float *logits)
{
    bool penalties = p->repetition_penalty != 1 || p->presence_penalty != 0 ||
                     p->frequency_penalty != 0;
    if (!penalties && p->n_bias == 0 && p->allowed == NULL) {
        return logits;
    }
    memcpy(s->x, logits, s->n_vocab * sizeof(*s->x));
    apply_bias(p, s->x);
    if (p->allowed != NULL) {
        apply_allowed(p, s->x, s->n_vocab); /* over what a bias has raised */
    }
    if (penalties) {
        apply_penalties(s, p, h);
    }
    return s->x;
}


/* Fills group[] and returns the largest value of all. */
static float
group_maxima(struct ax_sampler *s, const float *x)
{
    float largest = x[0];
    for (uint32_t g = 0; g < s->n_groups; g++) {
        uint32_t begin = g * GROUP;
        uint32_t end = begin + GROUP < s->n_vocab ? begin + GROUP : s->n_vocab;
        float m = x[begin];
        for (uint32_t i = begin + 1; i < end; i++) {
            m = x[i] > m ? x[i] : m;
        }
        s->group[g] = m;
        largest = m > largest ? m : largest;
    }
    return largest;
}


/* All tokens of at least `floor`, by ascending id; only groups whose largest
 * reaches it are looked at.  Returns their number. */
static uint32_t
gather(struct ax_sampler *s, const float *x, float floor)
{
    uint32_t n = 0;
    for (uint32_t g = 0; g < s->n_groups; g++) {
        if (s->group[g] < floor) {
            continue;
        }
        uint32_t begin = g * GROUP;
        uint32_t end = begin + GROUP < s->n_vocab ? begin + GROUP : s->n_vocab;
        for (uint32_t i = begin; i < end; i++) {
            if (x[i] >= floor && x[i] > BANNED) {
                s->kept[n].logit = x[i];
                s->kept[n].weight = 1;
                s->kept[n].id = i;
                n++;
            }
        }
    }
    return n;
}


/* Of logits by their distance from the largest: larger ones never have a
 * higher number, since each rounding here keeps the order. */
static uint32_t
bucket_of(float logit, float largest)
{
    float distance = (largest - logit) * BUCKETS_PER_UNIT;
    return distance < (float)(BUCKETS - 1) ? (uint32_t)distance : BUCKETS - 1;
}


/* The boundary (select.h) of kept[n], looked for only in the bucket that it
 * must be in. */
static struct ax_candidate
find_boundary(struct ax_sampler *s, uint32_t n, float largest, double target)
{
    memset(s->bucket, 0, BUCKETS * sizeof(*s->bucket));
    for (uint32_t i = 0; i < n; i++) {
        s->bucket[bucket_of(s->kept[i].logit, largest)] +=
            (double)s->kept[i].weight;
    }
    uint32_t b = 0, last = 0;
    double before = 0;
    for (; b < BUCKETS; b++) {
        if (s->bucket[b] == 0) {
            continue;
        }
        last = b;
        if (before + s->bucket[b] >= target) {
            break;
        }
        before += s->bucket[b];
    }
    if (b == BUCKETS) { /* rounding keeps all of them below the target */
        before -= s->bucket[last];
    }
    uint32_t m = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (bucket_of(s->kept[i].logit, largest) == last) {
            s->work[m++] = s->kept[i];
        }
    }
    return ax_select_boundary(s->work, m, target - before);
}


/* Drops what comes after the boundary; the ascending ids stay ascending. */
static uint32_t
keep_to_boundary(struct ax_sampler *s, uint32_t n, float largest, double target)
{
    struct ax_candidate last = find_boundary(s, n, largest, target);
    uint32_t m = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!ax_candidate_before(&last, &s->kept[i])) {
            s->kept[m++] = s->kept[i];
        }
    }
    return m;
}


/* At least k groups have a largest value of at least the k-th largest of
 * them, so nothing below that is among the k largest of all. */
static uint32_t
keep_top_k(struct ax_sampler *s, const float *x, float largest, uint32_t k)
{
    float floor = -EDITED_MAX;
    if (k <= s->n_groups) {
        memcpy(s->group_work, s->group, s->n_groups * sizeof(*s->group));
        floor = ax_select_kth(s->group_work, s->n_groups, k);
    }
    uint32_t n = gather(s, x, floor);
    return n > k ? keep_to_boundary(s, n, largest, k) : n;
}


/* The sum of w[n] in a fixed order that compilers can vectorize. */
static double
sum_weights(const float *w, uint32_t n)
{
    double lane[LANES] = {0};
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (uint32_t l = 0; l < LANES; l++) {
            lane[l] += (double)w[i + l];
        }
    }
    for (; i < n; i++) {
        lane[i % LANES] += (double)w[i];
    }
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}


/*
 * Without top_k: what cannot be in the nucleus is left out before selection.
 * All tokens lighter than (1 - top_p) * mass / n_vocab weigh less than
 * (1 - top_p) * mass together, so the nucleus is reached without them.
 */
static uint32_t
keep_heavy(struct ax_sampler *s, const struct ax_sampling *p, const float *x,
           float largest, double *mass)
{
    s->ops->exp_sub(s->w, x, largest, s->n_vocab);
    *mass = sum_weights(s->w, s->n_vocab);
    double least = 0.5 * (1 - (double)p->top_p) * *mass / s->n_vocab;
    if (least < (double)p->min_p) {
        least = (double)p->min_p;
    }
    /* A little below, for the roundings of exp and log; the exact cuts come
     * after. */
    float floor = -EDITED_MAX;
    if (least > 0) {
        floor = largest + (float)axk_log64(least) - 1e-3f;
    }
    uint32_t n = gather(s, x, floor);
    for (uint32_t i = 0; i < n; i++) {
        s->kept[i].weight = s->w[s->kept[i].id];
    }
    return n;
}


static double
weigh_kept(struct ax_sampler *s, uint32_t n, float largest)
{
    for (uint32_t i = 0; i < n; i++) {
        s->w[i] = s->kept[i].logit;
    }
    s->ops->exp_sub(s->w, s->w, largest, n);
    for (uint32_t i = 0; i < n; i++) {
        s->kept[i].weight = s->w[i];
    }
    return sum_weights(s->w, n);
}


static uint32_t
keep_min_p(struct ax_sampler *s, uint32_t n, float min_p)
{
    uint32_t m = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (s->kept[i].weight >= min_p) {
            s->kept[m++] = s->kept[i];
        }
    }
    return m;
}


/* The block of BLOCK weights that holds the point, and in *before the weight
 * ahead of it; should rounding put the point behind all, the last that has
 * any weight. */
static uint32_t
draw_block(const double *block, uint32_t n_blocks, double point, double *before)
{
    double sum = 0;
    uint32_t chosen = 0;
    for (uint32_t b = 0; b < n_blocks; b++) {
        if (block[b] > 0) {
            chosen = b;
            *before = sum;
            sum += block[b];
            if (sum > point) {
                break;
            }
        }
    }
    return chosen;
}


/* Index of the weight that holds the point u of [0, 1) of the whole; one of
 * weight 0 is never chosen as long as there is another. */
static uint32_t
draw(struct ax_sampler *s, const float *w, uint32_t n, double u)
{
    uint32_t n_blocks = (n + BLOCK - 1) / BLOCK;
    double total = 0, before = 0;
    for (uint32_t b = 0; b < n_blocks; b++) {
        uint32_t left = n - b * BLOCK;
        s->block[b] = sum_weights(w + b * BLOCK, left < BLOCK ? left : BLOCK);
        total += s->block[b];
    }

    double point = u * total;
    uint32_t begin = draw_block(s->block, n_blocks, point, &before) * BLOCK;
    uint32_t end = begin + BLOCK < n ? begin + BLOCK : n;
    uint32_t chosen = begin;
    for (uint32_t i = begin; i < end && before <= point; i++) {
        if (w[i] > 0) {
            chosen = i;
            before += (double)w[i];
        }
    }
    return chosen;
}


/* exp((x - largest) / temperature) into w[]; in and out may be the same. */
static void
temper(struct ax_sampler *s, const float *x, uint32_t n, float largest,
       float temperature)
{
    if (temperature == 1) {
        s->ops->exp_sub(s->w, x, largest, n);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        float d = (x[i] - largest) / temperature;
        s->w[i] = d > -EDITED_MAX ? d : -EDITED_MAX;
    }
    s->ops->exp_sub(s->w, s->w, 0, n);
}


/* Returns the number kept in kept[], or 0: the filters are off. */
static uint32_t
filter(struct ax_sampler *s, const struct ax_sampling *p, const float *x,
       float largest)
{
    bool top_k = p->top_k > 0 && p->top_k < s->n_vocab;
    if (!top_k && p->top_p >= 1 && p->min_p <= 0) {
        return 0;
    }

    double mass;
    uint32_t n;
    if (top_k) {
        n = keep_top_k(s, x, largest, p->top_k);
        mass = weigh_kept(s, n, largest);
    } else {
        n = keep_heavy(s, p, x, largest, &mass);
    }
    if (p->top_p < 1) {
        n = keep_to_boundary(s, n, largest, (double)p->top_p * mass);
    }
    return keep_min_p(s, n, p->min_p);
}


int
ax_sample(struct ax_sampler *s, const struct ax_sampling *p,
          const struct ax_sample_history *h, const float *logits,
          int32_t *token)
{
    assert(h->n_prompt <= h->n_tokens);
    if (!all_finite(logits, s->n_vocab)) {
        return AXION_ERR_NUMERICAL;
    }
    const float *x = edit_logits(s, p, h, logits);
    if (p->temperature == 0) {
        *token = (int32_t)s->ops->argmax(x, s->n_vocab);
        return x[*token] > BANNED ? AXION_OK : AXION_ERR_INVALID_VALUE;
    }

    float largest = group_maxima(s, x);
    if (largest <= BANNED) {
        return AXION_ERR_INVALID_VALUE;
    }
    double u = ax_random_unit(p->seed, h->n_tokens);
    uint32_t n = filter(s, p, x, largest);
    if (n == 0) {
        temper(s, x, s->n_vocab, largest, p->temperature);
        *token = (int32_t)draw(s, s->w, s->n_vocab, u);
        return AXION_OK;
    }
    for (uint32_t i = 0; i < n; i++) {
        s->w[i] = s->kept[i].logit;
    }
    temper(s, s->w, n, largest, p->temperature);
    *token = (int32_t)s->kept[draw(s, s->w, n, u)].id;
    return AXION_OK;
}
