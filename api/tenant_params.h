/*
 * The lines of a tenant's block, whoever reads them: nginx's parser for
 * `axion_tenant NAME { ... }` of nginx.conf, ours for a tenants file.  Both
 * hand over one line at a time as words; one table has every parameter with
 * how many words it takes, whether it may come again, and its handler.
 *
 *   axion_tenant_begin()      a name, defaults
 *   axion_tenant_set()        one line, any number of times
 *   axion_tenant_end()        what only the whole block shows
 *
 * A parameter of another part (limits) is a row of the table in
 * tenant_params.c whose handler is declared in that part's header.
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

/* What a row's handler gets: the words behind the parameter's name.  It
 * returns AXION_OK, NO_MEMORY, or what axion_tenant_refuse() returned. */
typedef int (*axion_tenant_param)(struct axion_tenant_draft *draft,
                                  const struct axion_text *words, size_t n);

/* Writes the reason; BAD_OPTION. */
int axion_tenant_refuse(struct axion_tenant_draft *draft, const char *format,
                        ...) __attribute__((format(printf, 2, 3)));

/* A copy of `text` with a NUL behind it; data NULL without memory. */
struct axion_text axion_tenant_copy(struct axion_tenant_draft *draft,
                                    const struct axion_text *text);

/* draft->tenant is allocated here and set to the defaults. */
int axion_tenant_begin(struct axion_tenant_draft *draft,
                       const struct axion_memory *memory,
                       const struct axion_text *name);

/* words[0] is the parameter's name; n >= 1. */
int axion_tenant_set(struct axion_tenant_draft *draft,
                     const struct axion_text *words, size_t n);

int axion_tenant_end(struct axion_tenant_draft *draft);

#endif
