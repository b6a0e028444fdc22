/*
 * Fairness between tenants by a virtual token counter (Sheng et al.,
 * "Fairness in Serving Large Language Models", OSDI 2024).
 *
 * Each tenant's counter grows by what it was served; admission prefers the
 * smallest.  A tenant that comes back after a time without requests is lifted
 * to the smallest counter of those that are there: it may not spend a credit
 * that it saved up while away.  The table has one place more than there can
 * be live sequences, so there is always one to give away; a tenant forgotten
 * so starts at the smallest counter again.
 */
#include "engine/sched/internal.h"

#include <assert.h>


static uint64_t
smallest_live(const struct ax_sched *s)
{
    uint64_t smallest = UINT64_MAX;
    for (uint32_t i = 0; i < s->n_tenants; i++) {
        const struct tenant *t = &s->tenants[i];
        if (t->live > 0 && t->served < smallest) {
            smallest = t->served;
        }
    }
    return smallest == UINT64_MAX ? 0 : smallest;
}


/* The place of a known tenant, else a free one, else of the one away that
 * was served least: lifting would give it the same counter anyway. */
static uint32_t
place_of(const struct ax_sched *s, uint64_t id)
{
    uint32_t place = NONE;
    for (uint32_t i = 0; i < s->n_tenants; i++) {
        const struct tenant *t = &s->tenants[i];
        if (t->known && t->id == id) {
            return i;
        }
        if (t->live > 0) {
            continue;
        }
        if (place == NONE ||
            (s->tenants[place].known &&
             (!t->known || t->served < s->tenants[place].served))) {
            place = i;
        }
    }
    assert(place != NONE);
    return place;
}


uint32_t
sched_tenant_join(struct ax_sched *s, uint64_t id)
{
    uint32_t i = place_of(s, id);
    struct tenant *t = &s->tenants[i];
    if (!t->known || t->id != id) {
        *t = (struct tenant){.id = id, .known = true};
    }
    if (t->live == 0) {
        uint64_t floor = smallest_live(s);
        t->served = t->served < floor ? floor : t->served;
    }
    t->live++;
    return i;
}


void
sched_tenant_leave(struct ax_sched *s, uint32_t tenant)
{
    assert(s->tenants[tenant].live > 0);
    s->tenants[tenant].live--;
}


void
sched_tenant_charge(struct ax_sched *s, uint32_t tenant,
                    uint64_t virtual_tokens)
{
    s->tenants[tenant].served += virtual_tokens;
}
