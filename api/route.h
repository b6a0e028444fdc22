/*
 * What a gateway that has several engines looks at in a request's payload
 * (shm/request.h): where its prompt begins, so that requests which begin
 * alike meet the same prefix cache; and the model's name, which another
 * model's replaces when that one stands in.
 */
#ifndef AXION_API_ROUTE_H
#define AXION_API_ROUTE_H

#include <stddef.h>
#include <stdint.h>
#include "api/memory.h"
#include "api/request.h"

#define AXION_PREFIX_BYTES_MIN 256u   /* of a prompt that is worth it */
#define AXION_PREFIX_BYTES_MAX 16384u /* of a prompt that are looked at */

/*
 * A number for how the prompt begins; 0: it has less than PREFIX_BYTES_MIN.
 * Of a chat the messages up to the user's first count, at most bytes_max of
 * them: that is what the turns of a conversation have in common.  Of a
 * completion as much of the prompt as the largest power of two that it has
 * and bytes_max allows: a prompt that grows keeps its number up to the next
 * power of two.  Keyed by the cache's realm, as the engine's own names are.
 */
uint64_t axion_route_prefix(const struct axion_parsed *parsed,
                            size_t bytes_max);

/* How well `number` (of an engine's name) suits the prefix: the largest wins
 * (rendezvous hashing), so that an engine that leaves moves its own only. */
uint64_t axion_route_weight(uint64_t prefix, uint64_t number);

/* Has `model` served instead: a new payload from `memory`, parsed->served
 * points to `model`'s bytes.  AXION_OK or NO_MEMORY. */
int axion_route_rename(struct axion_parsed *parsed,
                       const struct axion_text *model,
                       const struct axion_memory *memory);

#endif
