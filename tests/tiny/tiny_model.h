/*
 * Tiny random models in GGUF, Llamas and relatives, written by the tests that
 * need them, so that none is committed and a test can run without the network.
 *
 * The bytes are a pure function of the options: an integer generator, single
 * exact float operations, no libm, so that every machine writes the same
 * file and goldens of another implementation stay valid.  Weights are scaled
 * so that logits have a spread of about 2: margins are real and greedy text
 * does not end in a loop at once.  The vocabulary is byte-level BPE in GPT-2's
 * alphabet: 3 control tokens, 256 bytes, 72 merges; 331 in all, a prime, so
 * that no kernel meets only round row counts.
 *
 * tests/golden/make_model_goldens.py runs the program tiny-model over
 * tiny_variants[] and asks llama.cpp about each file.  Changing anything here
 * changes the files: make the goldens anew in the same commit.
 */

#ifndef TESTS_TINY_TINY_MODEL_H
#define TESTS_TINY_TINY_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tiny_format {
    TINY_F32,
    TINY_F16,
    TINY_Q4_0,
    TINY_Q4_1,
    TINY_Q8_0,
    TINY_BF16,
    TINY_Q5_0,
    TINY_Q5_1,
    TINY_Q2_K,
    TINY_Q3_K,
    TINY_Q4_K,
    TINY_Q5_K,
    TINY_Q6_K,
    TINY_IQ4_NL,
    TINY_IQ4_XS,
    TINY_MXFP4,
    TINY_FORMATS
};

enum tiny_family {
    TINY_LLAMA,
    TINY_QWEN2,  /* biases on Q, K, V */
    TINY_QWEN3,  /* RMS norms of Q's and K's heads */
    TINY_GEMMA3, /* norms before and after, sliding window */
    TINY_QWEN3MOE, /* as QWEN3, with experts */
};

#define TINY_N_VOCAB 331
#define TINY_TOKEN_ENDOFTEXT 0
#define TINY_TOKEN_BOS 1 /* <|im_start|> */
#define TINY_TOKEN_EOS 2 /* <|im_end|> */
/* The token of byte b is TINY_TOKEN_BYTES + b. */
#define TINY_TOKEN_BYTES 3

/* Zero in a number means the default in brackets. */
struct tiny_options {
    enum tiny_family family;
    enum tiny_format format;  /* of every matrix; norms are F32 */
    uint32_t gguf_version;    /* 2 or 3 [3] */
    uint32_t n_layer;         /* [2] */
    uint32_t n_embd;          /* multiple of the format's block [128] */
    uint32_t n_head;          /* [4] */
    uint32_t n_head_kv;       /* [2] */
    uint32_t n_ff;            /* multiple of the format's block [192] */
    uint32_t n_ctx;           /* context_length [1024] */
    uint64_t seed;            /* of the weights [1] */
    bool tied;                /* no output.weight */
    bool rope_factors;        /* rope_freqs.weight, as Llama 3.1 scales */
    uint32_t window;          /* of Gemma, in tokens [24] */
    uint32_t n_expert;        /* of LLAMA (0: dense) and QWEN3MOE [8] */
    uint32_t n_expert_used;   /* [2] */
};

struct tiny_variant {
    const char *name;
    struct tiny_options options;
};

/* What the goldens cover; ends with a NULL name. */
extern const struct tiny_variant tiny_variants[];

/* NULL if there is none of that name. */
const struct tiny_options *tiny_variant_find(const char *name);

/*
 * The whole file in memory, to be freed by the caller; *size is its length.
 * NULL where memory lacks or the options do not fit together.
 */
uint8_t *tiny_model_build(const struct tiny_options *options, size_t *size);

/* Writes the file; 0, or -1 with errno set. */
int tiny_model_write(const char *path, const struct tiny_options *options);

#endif
