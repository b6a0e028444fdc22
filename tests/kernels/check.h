/*
 * What the files of checkkernels share: the vector instruction sets of this
 * machine, guarded memory, random and nasty numbers, and comparison by bits.
 */

#ifndef CHECK_H
#define CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/axk.h"

#define N_ELEMS(a) (sizeof(a) / sizeof((a)[0]))

/* NULL-terminated: every table but the reference that this CPU runs. */
#define CHECK_ISAS_MAX 12
extern const struct axk_ops *check_isas[CHECK_ISAS_MAX];
extern const struct axk_ops *check_reference;

/* The reference of ops' class of numerics. */
const struct axk_ops *check_reference_of(const struct axk_ops *ops);

/* AXION_TINY_ONLY: fewer and smaller shapes, for sanitizers. */
extern int check_tiny;

/*
 * Memory that ends at an unreadable page, so that one byte past the end
 * faults; filled with 0xa5.  Freed by check_free_all() at the end of a test.
 */
void *check_alloc(size_t bytes);
int check_free_all(void **state);

uint64_t check_random(void);
float check_uniform(void); /* -1 .. 1 */

/* kind 0: uniform; 1: extremes, denormals, zeros, of both signs; 2: ones,
 * the sign changing every 32, so that all quants are 127 or -127. */
void check_fill(float *x, size_t n, int kind);

/* Random ggml blocks; kind 1: extreme quants, tiny, zero and large scales;
 * 2: all quants of a block at one extreme, which saturates what can be. */
void check_fill_weights(uint32_t format, uint32_t n_rows, uint32_t k, int kind,
                        uint8_t *dst);

/* Where a block has its f16 scale and its second one (-1: none). */
void check_scale_offsets(uint32_t format, int *d, int *m);

/* k rounded up to whole blocks of the format. */
uint32_t check_k(uint32_t format, uint32_t k);

/* Equal bits, or both NaN; names the first difference. */
void check_same(const char *what, const char *isa, const float *a,
                const float *b, size_t n);

extern const uint32_t check_formats[];
extern const size_t check_n_formats;

extern const struct CMUnitTest check_matmul_tests[];
extern const size_t check_matmul_count;
extern const struct CMUnitTest check_ops_tests[];
extern const size_t check_ops_count;
extern const struct CMUnitTest check_attention_tests[];
extern const size_t check_attention_count;

int bench_run(const char *filter);

#endif
