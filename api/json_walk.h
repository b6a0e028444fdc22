/*
 * JSON without a tree: what a gateway does with texts of which it needs few
 * members and passes on the rest as it stands.  No memory is taken, nothing
 * is copied; values are spans of the text itself.
 *
 * axion_walk_value() judges (RFC 8259, well-formed UTF-8, nesting of at most
 * AXION_WALK_DEPTH_MAX); the others go through what it has judged good and
 * cannot fail.  Members given twice are both seen: who rewrites an object
 * leaves out all of a name.
 */
#ifndef AXION_API_JSON_WALK_H
#define AXION_API_JSON_WALK_H

#include <stddef.h>
#include <stdint.h>
#include "shm/request.h"

#define AXION_WALK_DEPTH_MAX 64u

struct axion_walk {
    const char *at;
    const char *end;
};

/* One value with nothing but spaces around: AXION_OK with its bytes in
 * *value, else INVALID_JSON. */
int axion_walk_value(const char *text, size_t bytes, struct axion_text *value);

/* Goes into a good value; 0 unless it is an object ('{') or array ('['). */
int axion_walk_enter(struct axion_walk *walk, const struct axion_text *value,
                     char kind);

/* The next element; `key` (with its quotes) is NULL in arrays.  0: no more. */
int axion_walk_next(struct axion_walk *walk, struct axion_text *key,
                    struct axion_text *value);

/* The last member of that name in a good object; data NULL: none. */
struct axion_text axion_walk_find(const struct axion_text *object,
                                  const char *name);

/* Is a good string (with its quotes) this text?  Escapes are read. */
int axion_walk_is(const struct axion_text *string, const char *text);

/* A whole number from 0 to 2^32-1 as written by every serializer. */
int axion_walk_u32(const struct axion_text *value, uint32_t *number);

/* A good string's text with escapes undone, cut between characters to what
 * fits with a NUL behind it; "" for what is no string. */
void axion_walk_text(const struct axion_text *value, char *text,
                     size_t capacity);

#endif
