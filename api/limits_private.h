/*
 * Buckets and windows, shared by limits.c (what may be spent) and shares.c
 * (which node may spend it).
 */
#ifndef AXION_API_LIMITS_PRIVATE_H
#define AXION_API_LIMITS_PRIVATE_H

#include "api/limits.h"

#define MILLION 1000000ull

/* Lets time drain the bucket; a rate of nothing drains nothing. */
void limits_drain(struct axion_bucket *b, const struct axion_rate *rate,
                  uint64_t now_ns);
uint64_t limits_bucket_left(const struct axion_bucket *b,
                            const struct axion_rate *rate);
/* Until `n` fit; AXION_NEVER. */
uint64_t limits_bucket_wait_ns(const struct axion_bucket *b,
                               const struct axion_rate *rate, uint64_t n);
void limits_bucket_take(struct axion_bucket *b, uint64_t n);

/* Until the day or month `id` ends; at least a second. */
uint64_t limits_window_wait_ns(unsigned kind, uint64_t id, uint64_t wall_s);

/* Brings buckets and windows up to `now`. */
void limits_advance(struct axion_balance *b, const struct axion_limits *limits,
                    const struct axion_limit_time *now);

#endif
