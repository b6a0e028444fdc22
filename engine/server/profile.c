/*
 * axiond --profile FILE: what the steps of this process have cost, by layer and
 * kind of work, written when it ends.  Meanwhile gateways read the same beside
 * the load board, published behind every step: stages of one layer that have
 * one name are one cost there.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "engine/exec/profile.h"
#include "engine/server/server_private.h"


int
ax_server_profile_open(struct ax_server *s, struct ax_error *err)
{
    if (s->options.profile == NULL) {
        return AXION_OK;
    }
    s->profile = fopen(s->options.profile, "we");
    if (s->profile == NULL) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION, "--profile: %s: %s",
                            s->options.profile, strerror(errno));
    }
    return AXION_OK;
}


/* Costs that have no place: nothing is published for them. */
#define NO_COST UINT16_MAX


/* The place of a name in ops[], or AXION_COST_OPS_MAX. */
static uint32_t
op_of(struct axion_costs *costs, const char *name)
{
    uint32_t i = 0;

    while (i < costs->n_ops && strcmp(costs->ops[i], name) != 0) {
        i++;
    }
    if (i == costs->n_ops && i < AXION_COST_OPS_MAX) {
        snprintf(costs->ops[i], AXION_COST_OP_BYTES, "%s", name);
        costs->n_ops++;
    }
    return i;
}


static uint16_t
cost_of(struct axion_costs *costs, const struct ax_exec_counter *c)
{
    uint32_t op = op_of(costs, c->name);
    uint32_t i = 0;

    while (i < costs->n &&
           (costs->costs[i].op != op || costs->costs[i].layer != c->layer)) {
        i++;
    }
    if (op == AXION_COST_OPS_MAX || i == AXION_COSTS_MAX) {
        return NO_COST;
    }
    if (i == costs->n) {
        costs->costs[costs->n++] =
            (struct axion_cost){.layer = c->layer, .op = op};
    }
    return (uint16_t)i;
}


int
ax_server_profile_begin(struct ax_server *s, struct ax_error *err)
{
    const struct ax_exec *e = s->engine->exec;
    uint32_t n = ax_exec_counters(e), lost = 0;

    if (s->profile == NULL) {
        return AXION_OK;
    }
    s->costs = calloc(1, sizeof(*s->costs));
    s->cost_of = calloc(n > 0 ? n : 1, sizeof(*s->cost_of));
    if (s->costs == NULL || s->cost_of == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    for (uint32_t i = 0; i < n; i++) {
        struct ax_exec_counter c = ax_exec_counter(e, i);
        s->cost_of[i] = cost_of(s->costs, &c);
        lost += s->cost_of[i] == NO_COST;
    }
    if (lost > 0) {
        ax_log(s->log, AXION_LOG_warn,
               "--profile: metrics have the first %u kinds of work by layer, "
               "%u stages are in the file alone",
               s->costs->n, lost);
    }
    return AXION_OK;
}


void
ax_server_profile_publish(struct ax_server *s)
{
    struct axion_costs *costs = s->costs;
    const struct ax_exec *e = s->engine->exec;

    if (costs == NULL) {
        return;
    }
    for (uint32_t i = 0; i < costs->n; i++) {
        struct axion_cost *cost = &costs->costs[i];
        *cost = (struct axion_cost){.layer = cost->layer, .op = cost->op};
    }
    for (uint32_t i = 0; i < ax_exec_counters(e); i++) {
        struct ax_exec_counter c = ax_exec_counter(e, i);
        if (s->cost_of[i] != NO_COST) {
            struct axion_cost *cost = &costs->costs[s->cost_of[i]];
            cost->ns += c.ns;
            cost->bytes += c.bytes;
            cost->operations += c.operations;
        }
    }
    axion_board_publish_costs(s->board_writer, costs);
}


void
ax_server_profile_close(struct ax_server *s)
{
    struct ax_peaks peaks = {0};
    struct ax_error err = {0};

    free(s->costs);
    free(s->cost_of);
    s->costs = NULL;
    s->cost_of = NULL;
    if (s->profile == NULL) {
        return;
    }
    if (s->engine != NULL) {
        if (ax_peaks_measure(s->engine->threads, &peaks, &err) != AXION_OK) {
            ax_log(s->log, AXION_LOG_warn, "the profile has no roofline: %s",
                   err.text);
        }
        fputs(AX_PROFILE_HEAD, s->profile);
        (void)ax_profile_write(s->profile, s->engine->exec, "serve", &peaks);
    }
    bool failed = ferror(s->profile) != 0;
    if (fclose(s->profile) != 0 || failed) {
        ax_log(s->log, AXION_LOG_error, "cannot write %s", s->options.profile);
    }
    s->profile = NULL;
}
