/* See control.h. */
#include "engine/spec/control.h"

#include <math.h>

/* What was known before counts as much as so many tokens of a class; then the
 * mean becomes an EMA, and forgets. */
#define RATE_BEFORE 6.0f
#define RATE_TAU    0.08f

/* Rates of a suffix automaton on mixed text, rounded. */
static const float rates_before[AX_SPEC_CLASSES] = {
    0.15f, 0.25f, 0.40f, 0.55f, 0.70f, 0.80f, 0.90f, 0.95f,
};

/* Of copies with edits, found again behind them. */
static const float copy_rates_before[AX_SPEC_CLASSES] = {
    0.35f, 0.60f, 0.70f, 0.80f, 0.85f, 0.90f, 0.95f, 0.95f,
};


uint32_t
ax_spec_class(uint32_t match)
{
    static const uint32_t first[AX_SPEC_CLASSES] = {1, 2, 3, 4, 6, 9, 16, 32};
    uint32_t class = 0;
    while (class + 1 < AX_SPEC_CLASSES && match >= first[class + 1]) {
        class ++;
    }
    return class;
}


static void
begin_with(struct ax_spec_rates *rates, const float *before)
{
    for (uint32_t i = 0; i < AX_SPEC_CLASSES; i++) {
        rates->rate[i] = before[i];
        rates->step[i] = 1 / (RATE_BEFORE + 1);
    }
}


void
ax_spec_rates_init(struct ax_spec_rates *rates)
{
    begin_with(rates, rates_before);
}


void
ax_spec_rates_init_copy(struct ax_spec_rates *rates)
{
    begin_with(rates, copy_rates_before);
}


void
ax_spec_rates_learn(struct ax_spec_rates *rates, uint32_t match, bool right)
{
    uint32_t class = ax_spec_class(match);
    float *rate = &rates->rate[class], *step = &rates->step[class];
    *rate += ((right ? 1.0f : 0.0f) - *rate) * *step;
    *step = *step > RATE_TAU ? *step / (1 + *step) : RATE_TAU;
}


void
ax_spec_survival(const struct ax_spec_rates *rates, uint32_t match, uint32_t n,
                 float *survive)
{
    float all = 1;
    for (uint32_t j = 0; j < n; j++) {
        all *= rates->rate[ax_spec_class(match + j)];
        survive[j] = all;
    }
}


/* ---- the law ---- */

static struct ax_spec_item *
likeliest(struct ax_spec_item *items, uint32_t n_items)
{
    struct ax_spec_item *best = 0;
    for (uint32_t i = 0; i < n_items; i++) {
        struct ax_spec_item *item = &items[i];
        if (item->k < item->n &&
            (best == 0 || item->survive[item->k] > best->survive[best->k])) {
            best = item;
        }
    }
    return best;
}


static float
draws_us(const struct ax_cost *cost, const struct ax_spec_step *step,
         uint32_t drafts)
{
    uint32_t at_once = step->n_drawn;
    return at_once == 0
               ? 0
               : cost->draw_us *
                     (float)((step->n_rows + drafts + at_once - 1) / at_once);
}


static float
added_us(const struct ax_cost *cost, const struct ax_spec_step *step,
         uint32_t drafts, float keys_us, uint32_t rounds)
{
    return ax_cost_of(cost, step->n_tokens + drafts) -
           ax_cost_of(cost, step->n_tokens) + keys_us +
           step->round_us * (float)rounds;
}


/* Hands out up to n drafts, as far as there is room; returns the number with
 * the best quotient, or n when it is to hand out just so many. */
static uint32_t
hand_out(const struct ax_cost *cost, const struct ax_spec_step *step,
         struct ax_spec_item *items, uint32_t n_items, uint32_t n,
         float room_us)
{
    float tokens = (float)step->n_decodes, keys_us = 0;
    float bare_us = ax_cost_of(cost, step->n_decodes) + step->other_us;
    float best =
        tokens / (bare_us + draws_us(cost, step, 0)) * AX_SPEC_GAIN_MIN;
    uint32_t best_n = 0, rounds = 0;
    for (uint32_t i = 0; i < n_items; i++) {
        items[i].k = 0;
    }
    for (uint32_t given = 1; given <= n; given++) {
        struct ax_spec_item *item = likeliest(items, n_items);
        if (item == 0) {
            break;
        }
        tokens += item->survive[item->k++];
        rounds = item->k > rounds ? item->k : rounds;
        keys_us += cost->key_query_us * (float)item->positions;
        float us = added_us(cost, step, given, keys_us, rounds);
        if (us > room_us) {
            break;
        }
        float rate = tokens / (bare_us + AX_SPEC_DOUBT * us +
                               draws_us(cost, step, given));
        if (rate > best) {
            best = rate;
            best_n = given;
        }
    }
    return best_n;
}


float
ax_spec_added_us(const struct ax_cost *cost, const struct ax_spec_step *step,
                 const struct ax_spec_item *items, uint32_t n_items)
{
    uint32_t drafts = 0, rounds = 0;
    float keys_us = 0;
    for (uint32_t i = 0; i < n_items; i++) {
        uint32_t k = items[i].k;
        drafts += k;
        rounds = k > rounds ? k : rounds;
        keys_us += cost->key_query_us * (float)items[i].positions * (float)k;
    }
    return added_us(cost, step, drafts, keys_us, rounds);
}


float
ax_spec_choose(const struct ax_cost *cost, const struct ax_spec_step *step,
               struct ax_spec_item *items, uint32_t n_items)
{
    uint32_t n = cost->n_points == 0 ? 0 : step->drafts_max;
    n = hand_out(cost, step, items, n_items, n, HUGE_VALF);
    (void)hand_out(cost, step, items, n_items, n, HUGE_VALF);
    float wanted_us = ax_spec_added_us(cost, step, items, n_items);
    if (wanted_us > step->room_us) {
        n = hand_out(cost, step, items, n_items, n, step->room_us);
        (void)hand_out(cost, step, items, n_items, n, HUGE_VALF);
    }
    return wanted_us;
}
