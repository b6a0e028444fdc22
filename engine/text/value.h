/*
 * Values: what a chat template computes with, and how a request gets in.
 *
 * A value is none, a bool, an integer, a float, a string, a list or a dict
 * (insertion order kept, string keys).  All values of a render live in one
 * pool, an arena with a bound on its bytes, and die with it.  Builders return
 * NULL once the pool is full or malloc fails and take NULL for a value, so a
 * caller may build a whole request and look at ax_pool_error() once.
 *
 * Strings carry trust: text from a client is untrusted, and every byte that
 * a template derives from it stays so through slicing, joining, replacing and
 * filters.  See text.h for what that is good for.
 *
 * A pool belongs to one thread at a time.
 */
#ifndef AX_TEXT_VALUE_H
#define AX_TEXT_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/text/text.h"


struct ax_pool;
struct ax_value;


/* bytes_max bounds everything allocated from the pool. */
int ax_pool_open(struct ax_pool **out, size_t bytes_max);
void ax_pool_close(struct ax_pool *pool);

/* 0, AX_TEXT_NO_MEMORY or AX_TEXT_LIMIT_MEMORY; sticky. */
int ax_pool_error(const struct ax_pool *pool);

/* Aligned for any type; NULL as above.  Not zeroed. */
void *ax_pool_alloc(struct ax_pool *pool, size_t size);


struct ax_value *ax_value_none(struct ax_pool *pool);
struct ax_value *ax_value_bool(struct ax_pool *pool, bool b);
struct ax_value *ax_value_int(struct ax_pool *pool, int64_t i);
struct ax_value *ax_value_float(struct ax_pool *pool, double f);

/* Copies the bytes; not UTF-8 is repaired with U+FFFD. */
struct ax_value *ax_value_string(struct ax_pool *pool, const char *p, size_t n,
                                 bool trusted);

struct ax_value *ax_value_list(struct ax_pool *pool);
struct ax_value *ax_value_dict(struct ax_pool *pool);

/* The container holds the value itself, not a copy.  No-ops on NULL. */
void ax_value_append(struct ax_pool *pool, struct ax_value *list,
                     struct ax_value *item);
void ax_value_set(struct ax_pool *pool, struct ax_value *dict, const char *key,
                  size_t key_len, bool key_trusted, struct ax_value *item);

/* Trusted, terminated key: the usual case. */
void ax_value_put(struct ax_pool *pool, struct ax_value *dict, const char *key,
                  struct ax_value *item);

#endif /* AX_TEXT_VALUE_H */
