/*
 * Quickselect by accumulated weight.  The pivots come from a fixed generator
 * instead of from the data, so that no row of logits is a bad case and the
 * same row always takes the same path.
 */
#include "engine/sample/select.h"

#include <stddef.h>

#define SMALL 24u


static uint32_t
pivot_index(uint32_t *state, uint32_t n)
{
    *state = *state * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)*state * n) >> 32);
}


static void
swap(struct ax_candidate *a, struct ax_candidate *b)
{
    struct ax_candidate t = *a;
    *a = *b;
    *b = t;
}


/* Moves what comes before the pivot to the front; returns its new place and
 * in *weight the sum of what lies before it. */
static uint32_t
partition(struct ax_candidate *c, uint32_t n, uint32_t pivot, double *weight)
{
    swap(&c[pivot], &c[n - 1]);
    const struct ax_candidate p = c[n - 1];
    double sum = 0;
    uint32_t m = 0;
    for (uint32_t i = 0; i + 1 < n; i++) {
        if (ax_candidate_before(&c[i], &p)) {
            sum += (double)c[i].weight;
            swap(&c[i], &c[m++]);
        }
    }
    swap(&c[m], &c[n - 1]);
    *weight = sum;
    return m;
}


static void
insertion_sort(struct ax_candidate *c, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        struct ax_candidate v = c[i];
        uint32_t j = i;
        for (; j > 0 && ax_candidate_before(&v, &c[j - 1]); j--) {
            c[j] = c[j - 1];
        }
        c[j] = v;
    }
}


struct ax_candidate
ax_select_boundary(struct ax_candidate *c, uint32_t n, double target)
{
    uint32_t state = 1;
    double before = 0; /* weight of all that comes before c[0] */

    while (n > SMALL) {
        double sum;
        uint32_t m = partition(c, n, pivot_index(&state, n), &sum);
        if (m > 0 && before + sum >= target) {
            n = m;
            continue;
        }
        before += sum + (double)c[m].weight;
        if (before >= target || m + 1 == n) {
            return c[m];
        }
        c += m + 1;
        n -= m + 1;
    }
    insertion_sort(c, n);
    for (uint32_t i = 0; i + 1 < n; i++) {
        before += (double)c[i].weight;
        if (before >= target) {
            return c[i];
        }
    }
    return c[n - 1];
}


float
ax_select_kth(float *v, uint32_t n, uint32_t k)
{
    uint32_t state = 1;

    for (;;) {
        float p = v[pivot_index(&state, n)];
        uint32_t larger = 0, end = n; /* v[0, larger) > p, v[end, n) < p */
        for (uint32_t i = 0; i < end;) {
            float x = v[i];
            if (x > p) {
                v[i++] = v[larger];
                v[larger++] = x;
            } else if (x < p) {
                v[i] = v[--end];
                v[end] = x;
            } else {
                i++;
            }
        }
        if (k <= larger) {
            n = larger;
        } else if (k <= end) {
            return p;
        } else {
            v += end;
            n -= end;
            k -= end;
        }
    }
}
