/*
 * The file is read whole.  All counts are checked against what is left of
 * it, so that a damaged golden fails the test that opens it and nothing else.
 */

#include "tests/golden/golden.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char magic[8] = "AXGOLD\0\1";

struct reader {
    const uint8_t *at, *end;
    bool bad;
};


/* n bytes, or NULL when the file has fewer. */
static const void *
take(struct reader *r, uint64_t n)
{
    const uint8_t *at = r->at;

    if (r->bad || n > (uint64_t)(r->end - r->at)) {
        r->bad = true;
        return NULL;
    }
    r->at += n;
    return at;
}


static uint32_t
take_u32(struct reader *r)
{
    const void *bytes = take(r, sizeof(uint32_t));
    uint32_t value = 0;

    if (bytes != NULL) {
        memcpy(&value, bytes, sizeof(value));
    }
    return value;
}


/* Every field is 4 bytes and the head is 72, so arrays stay aligned. */
static const void *
take_array(struct reader *r, uint32_t n)
{
    return take(r, (uint64_t)n * sizeof(uint32_t));
}


static void
read_position(struct reader *r, struct golden_position *p)
{
    uint32_t bits;

    p->position = take_u32(r);
    p->n_top = take_u32(r);
    bits = take_u32(r);
    memcpy(&p->tail_mass, &bits, sizeof(bits));
    p->top = take_array(r, p->n_top);
    p->log_probs = take_array(r, p->n_top);
}


static void
read_prompt(struct reader *r, struct golden_prompt *p)
{
    uint32_t i;

    p->n_tokens = take_u32(r);
    p->tokens = take_array(r, p->n_tokens);
    p->n_greedy = take_u32(r);
    p->greedy = take_array(r, p->n_greedy);
    p->n_positions = take_u32(r);
    if (r->bad || p->n_positions > p->n_tokens) {
        r->bad = true;
        p->n_positions = 0;
        return;
    }
    p->positions = calloc(p->n_positions, sizeof(*p->positions));
    if (p->positions == NULL) {
        r->bad = true;
        p->n_positions = 0;
        return;
    }
    for (i = 0; i < p->n_positions; i++) {
        read_position(r, &p->positions[i]);
        if (p->positions[i].position >= p->n_tokens ||
            p->positions[i].n_top < 2) {
            r->bad = true;
        }
    }
}


static void
parse(struct reader *r, struct golden *g)
{
    const void *bytes = take(r, sizeof(magic));
    uint32_t i, n;

    if (bytes == NULL || memcmp(bytes, magic, sizeof(magic)) != 0) {
        r->bad = true;
        return;
    }
    bytes = take(r, sizeof(g->oracle) - 1);
    if (bytes != NULL) {
        memcpy(g->oracle, bytes, sizeof(g->oracle) - 1);
    }
    bytes = take(r, sizeof(g->model_sha256));
    if (bytes != NULL) {
        memcpy(g->model_sha256, bytes, sizeof(g->model_sha256));
    }
    n = take_u32(r);
    if (r->bad || n > 1024) {
        r->bad = true;
        return;
    }
    g->prompts = calloc(n, sizeof(*g->prompts));
    if (g->prompts == NULL) {
        r->bad = true;
        return;
    }
    g->n_prompts = n;
    for (i = 0; i < n; i++) {
        read_prompt(r, &g->prompts[i]);
    }
}


static uint8_t *
read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = NULL;
    long length;

    if (file == NULL) {
        return NULL;
    }
    if (fseek(file, 0, SEEK_END) == 0 && (length = ftell(file)) > 0 &&
        fseek(file, 0, SEEK_SET) == 0) {
        data = malloc((size_t)length);
        if (data != NULL &&
            fread(data, 1, (size_t)length, file) != (size_t)length) {
            free(data);
            data = NULL;
        }
        *size = (size_t)length;
    }
    fclose(file);
    return data;
}


int
golden_open(struct golden *golden, const char *path)
{
    struct reader r;
    size_t size = 0;

    memset(golden, 0, sizeof(*golden));
    golden->data = read_file(path, &size);
    if (golden->data == NULL) {
        return -1;
    }
    r = (struct reader){.at = golden->data, .end = golden->data + size};
    parse(&r, golden);
    if (r.bad || r.at != r.end) {
        golden_close(golden);
        return -1;
    }
    return 0;
}


void
golden_close(struct golden *golden)
{
    uint32_t i;

    for (i = 0; i < golden->n_prompts; i++) {
        free(golden->prompts[i].positions);
    }
    free(golden->prompts);
    free(golden->data);
    memset(golden, 0, sizeof(*golden));
}


float
golden_margin(const struct golden_position *position)
{
    return position->log_probs[0] - position->log_probs[1];
}


static double
log_sum_exp(const float *logits, uint32_t n)
{
    float max = logits[0];
    double sum = 0;
    uint32_t i;

    for (i = 1; i < n; i++) {
        max = logits[i] > max ? logits[i] : max;
    }
    for (i = 0; i < n; i++) {
        sum += exp((double)logits[i] - (double)max);
    }
    return (double)max + log(sum);
}


double
golden_kl(const struct golden_position *position, const float *logits,
          uint32_t n_vocab)
{
    double log_total = log_sum_exp(logits, n_vocab);
    double kl = 0, ours_named = 0, ours_tail;
    uint32_t i;

    for (i = 0; i < position->n_top; i++) {
        double log_p = (double)position->log_probs[i];
        double log_q = (double)logits[position->top[i]] - log_total;

        kl += exp(log_p) * (log_p - log_q);
        ours_named += exp(log_q);
    }
    /* A tail below what f32 sums carry tells nothing. */
    ours_tail = 1 - ours_named;
    if (position->tail_mass > 1e-6f && ours_tail > 1e-9) {
        kl += (double)position->tail_mass *
              log((double)position->tail_mass / ours_tail);
    } else if (position->tail_mass > 1e-3f) {
        return INFINITY;
    }
    return kl;
}
