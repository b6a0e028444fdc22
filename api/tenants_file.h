/*
 * A file of tenants: blocks as nginx.conf has them, nothing else, so that one
 * can be moved from there to here as it is.
 *
 *   # who pays: Ann
 *   axion_tenant acme {
 *       key sha256:... name=ci;
 *       models smollm2 "gemma *";
 *   }
 *
 * Words, quotes, backslashes and comments are nginx's.  There is no include:
 * what is re-read while requests run is one file that is whole or is refused.
 * A fault has the line of the statement that is wrong.
 *
 * Bytes are not trusted: the text is bounded, words and statements are, and
 * nothing is ever half taken over.  Pure: a function of the text and the
 * memory, usable in any thread.
 */
#ifndef AXION_API_TENANTS_FILE_H
#define AXION_API_TENANTS_FILE_H

#include <stddef.h>
#include <stdint.h>
#include "api/memory.h"
#include "api/tenant.h"
#include "api/tenant_params.h"

#define AXION_TENANTS_FILE_BYTES_MAX (16u * 1024u * 1024u)
#define AXION_TENANTS_FILE_WORDS_MAX 256u /* of one statement */
#define AXION_TENANTS_FILE_MAX       100000u

struct axion_tenants_fault {
    uint32_t line;
    char why[AXION_TENANT_WHY_BYTES];
};

/*
 * The set of the tenants in `text`, which need not outlive the call.
 * AXION_OK, NO_MEMORY, or BAD_OPTION with *fault.
 */
int axion_tenants_read(struct axion_tenants *set, const char *text,
                       size_t bytes, const struct axion_memory *memory,
                       struct axion_tenants_fault *fault);

/*
 * Whether a name or a key of the set is one of `others` too, who are let in
 * beside it.  AXION_OK, or BAD_OPTION with *fault.
 */
int axion_tenants_apart(const struct axion_tenants *set,
                        const struct axion_tenant *const *others, size_t n,
                        struct axion_tenants_fault *fault);

#endif
