/* See cost.h. */
#include "engine/spec/cost.h"

#define SCALE_RATE 0.03f
#define POINT_RATE 0.02f
#define DRAW_RATE  0.05f
#define RATIO_MAX  2.0f /* of one step: a preempted thread says little */


void
ax_cost_init(struct ax_cost *cost)
{
    *cost = (struct ax_cost){.scale = 1};
}


void
ax_cost_add(struct ax_cost *cost, uint32_t tokens, float us)
{
    uint32_t at = 0;
    while (at < cost->n_points && cost->points[at].tokens < tokens) {
        at++;
    }
    if (!(us > 0) || tokens == 0) {
        return;
    }
    if (at == cost->n_points || cost->points[at].tokens != tokens) {
        if (cost->n_points == AX_COST_POINTS_MAX) {
            return;
        }
        for (uint32_t i = cost->n_points++; i > at; i--) {
            cost->points[i] = cost->points[i - 1];
        }
    }
    cost->points[at] = (struct ax_cost_point){tokens, us};
}


float
ax_cost_of(const struct ax_cost *cost, uint32_t tokens)
{
    const struct ax_cost_point *p = cost->points;
    if (cost->n_points == 0) {
        return 0;
    }
    if (cost->n_points == 1 || tokens <= p[0].tokens) {
        return tokens <= p[0].tokens
                   ? p[0].us
                   : p[0].us * (float)tokens / (float)p[0].tokens;
    }
    float level = p[0].us;
    for (uint32_t i = 1; i < cost->n_points; i++) {
        float us = p[i].us > level ? p[i].us : level;
        if (tokens <= p[i].tokens || i + 1 == cost->n_points) {
            float slope = (us - level) / (float)(p[i].tokens - p[i - 1].tokens);
            float at = level + slope * (float)(tokens - p[i - 1].tokens);
            /* Rounded up it would be above what comes behind the point. */
            return tokens <= p[i].tokens && at > us ? us : at;
        }
        level = us;
    }
    return level;
}


float
ax_cost_of_keys(const struct ax_cost *cost, uint32_t queries,
                uint32_t positions)
{
    if (queries == 0) {
        return 0;
    }
    return (cost->key_us + cost->key_query_us * (float)(queries - 1)) *
           (float)positions;
}


float
ax_cost_at(const struct ax_cost *cost, uint32_t tokens)
{
    for (uint32_t i = 0; i < cost->n_points; i++) {
        if (cost->points[i].tokens == tokens) {
            return cost->points[i].us;
        }
    }
    return 0;
}


/* The points on both sides of `tokens`, by its distance from them. */
static void
move(struct ax_cost *cost, uint32_t tokens, float by)
{
    struct ax_cost_point *p = cost->points;
    uint32_t i = 0;
    while (i + 1 < cost->n_points && p[i + 1].tokens <= tokens) {
        i++;
    }
    float share = 1; /* the lower one's */
    if (i + 1 < cost->n_points && tokens > p[i].tokens) {
        share = (float)(p[i + 1].tokens - tokens) /
                (float)(p[i + 1].tokens - p[i].tokens);
        p[i + 1].us *= 1 + by * (1 - share);
    }
    p[i].us *= 1 + by * share;
}


static float
bounded(float ratio)
{
    return ratio > RATIO_MAX ? RATIO_MAX
                             : (ratio < 1 / RATIO_MAX ? 1 / RATIO_MAX : ratio);
}


void
ax_cost_learn(struct ax_cost *cost, uint32_t tokens, float keys_us, float us)
{
    float expected = ax_cost_of(cost, tokens) + keys_us;
    if (!(expected > 0) || !(us > 0)) {
        return;
    }
    float ratio = us / expected;
    cost->scale +=
        (bounded(ratio / cost->scale) - 1) * cost->scale * SCALE_RATE;
    if (cost->last_tokens != 0 && cost->last_tokens != tokens) {
        float by = (bounded(ratio / cost->last_ratio) - 1) * POINT_RATE;
        move(cost, tokens, by);
        move(cost, cost->last_tokens, -by);
    }
    cost->last_tokens = tokens;
    cost->last_ratio = ratio;
}


void
ax_cost_learn_draws(struct ax_cost *cost, uint32_t rounds, float us)
{
    if (rounds == 0 || !(us > 0)) {
        return;
    }
    float one = us / (float)rounds / cost->scale;
    if (!(cost->draw_us > 0)) {
        cost->draw_us = one;
        return;
    }
    cost->draw_us +=
        (bounded(one / cost->draw_us) - 1) * cost->draw_us * DRAW_RATE;
}
