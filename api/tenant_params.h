/*
 * The lines of a tenant's block, whoever reads them: nginx's parser for
 * `axion_tenant NAME { ... }` of nginx.conf, ours for a tenants file.  Both
 * hand over one line at a time as words; one table has every parameter of
 * identity with how many words it takes, whether it may come again, and its
 * handler.
 *
 *   axion_tenant_begin()      a name, defaults
 *   axion_tenant_set()        one line, any number of times
 *   axion_tenant_end()        what only the whole block shows
 *
 * What the table does not have is asked of limits.h, whose lines (rates,
 * budgets, the queue) are axion_limits_set()'s.
 *
 * Errors are BAD_OPTION, with a reason that stands alone ("invalid priority
 * ..."); whoever reads adds file and line.  Reasons never repeat what may be
 * a key.
 */
#ifndef AXION_API_TENANT_PARAMS_H
#define AXION_API_TENANT_PARAMS_H

#include <stddef.h>
#include <stdint.h>
#include "api/memory.h"
#include "api/tenant.h"

#define AXION_TENANT_WHY_BYTES 256u

/* A tenant while its block is read.  All texts are copied into `memory`. */
struct axion_tenant_draft {
    struct axion_tenant *tenant;
    const struct axion_memory *memory;
    uint64_t seen; /* a bit per row of the table */
    size_t keys_room;
    size_t models_room;
    size_t aliases_room;
    size_t n_chosen; /* keys by Argon2id */
    char why[AXION_TENANT_WHY_BYTES];
};

/* draft->tenant is allocated here and set to the defaults. */
int axion_tenant_begin(struct axion_tenant_draft *draft,
                       const struct axion_memory *memory,
                       const struct axion_text *name);

/* words[0] is the parameter's name; n >= 1. */
int axion_tenant_set(struct axion_tenant_draft *draft,
                     const struct axion_text *words, size_t n);

int axion_tenant_end(struct axion_tenant_draft *draft);

/* "4096", "32k", "1m": 1 to 2^31-1.  AXION_OK or BAD_OPTION. */
int axion_tokens_parse(uint32_t *tokens, const char *text, size_t bytes);

#endif
