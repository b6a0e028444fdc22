/*
 * Builds a GGUF file in memory: header, metadata, tensor table, data.  The
 * layout is that of ggml's docs/gguf.md: little endian, strings as u64 length
 * and bytes, tensor data aligned to 32 and at offsets from the data's start.
 *
 * Values come from splitmix64 and are stored at once in the file's format: a
 * quantized block is a random scale and random levels, not a rounded float,
 * so that every level of a format occurs and no quantizer is involved.  The
 * only float operations are one exact conversion and one multiplication,
 * which no compiler can contract into anything else.
 */

#include "tests/tiny/tiny_model.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/tiny/tiny_blocks.h"
#include "tests/tiny/tiny_vocab.h"

enum gguf_type {
    GGUF_U32 = 4,
    GGUF_I32 = 5,
    GGUF_F32 = 6,
    GGUF_BOOL = 7,
    GGUF_STRING = 8,
    GGUF_ARRAY = 9,
};

#define ALIGNMENT 32
#define TENSORS_MAX (3 + 13 * 64)

struct tensor {
    char name[40];
    uint32_t n_dims;
    uint64_t shape[3]; /* [n_in, n_out, experts]: n_in is contiguous */
    enum tiny_format format;
    uint32_t gain_256; /* spread of a row's output, in 1/256; 0 for vectors */
    uint64_t offset;
};

struct builder {
    uint8_t *data;
    size_t size, capacity;
    bool failed;
    uint64_t random;
    struct tensor tensors[TENSORS_MAX];
    uint32_t n_tensors;
};

/* Formats with blocks of 256 need rows of that. */
#define K_SIZES .n_embd = 256, .n_ff = 256

const struct tiny_variant tiny_variants[] = {
    {"f32", {.format = TINY_F32, .seed = 11}},
    {"f16", {.format = TINY_F16, .seed = 12}},
    {"q4_0", {.format = TINY_Q4_0, .seed = 13}},
    {"q4_1", {.format = TINY_Q4_1, .seed = 14}},
    {"q8_0", {.format = TINY_Q8_0, .seed = 15}},
    {"q8_0-tied", {.format = TINY_Q8_0, .seed = 16, .tied = true}},
    {"f16-rope", {.format = TINY_F16, .seed = 17, .rope_factors = true}},
    {"q4_0-deep",
     {.format = TINY_Q4_0,
      .seed = 18,
      .n_layer = 3,
      .n_embd = 64,
      .n_head = 8,
      .n_head_kv = 8,
      .n_ff = 160,
      .gguf_version = 2,
      .tied = true}},
    {"f32-qwen2", {.format = TINY_F32, .seed = 19, .family = TINY_QWEN2}},
    {"q8_0-qwen3",
     {.format = TINY_Q8_0, .seed = 20, .family = TINY_QWEN3, .tied = true}},
    {"f16-gemma3",
     {.format = TINY_F16,
      .seed = 21,
      .family = TINY_GEMMA3,
      .n_layer = 7,
      .n_embd = 64,
      .n_ff = 96,
      .window = 40,
      .tied = true}},
    {"bf16", {.format = TINY_BF16, .seed = 31}},
    {"q5_0", {.format = TINY_Q5_0, .seed = 32}},
    {"q5_1", {.format = TINY_Q5_1, .seed = 33}},
    {"iq4_nl", {.format = TINY_IQ4_NL, .seed = 34}},
    {"mxfp4", {.format = TINY_MXFP4, .seed = 35}},
    {"q2_k", {.format = TINY_Q2_K, .seed = 36, K_SIZES}},
    {"q3_k", {.format = TINY_Q3_K, .seed = 37, K_SIZES}},
    {"q4_k", {.format = TINY_Q4_K, .seed = 38, K_SIZES}},
    {"q5_k", {.format = TINY_Q5_K, .seed = 39, K_SIZES}},
    {"q6_k", {.format = TINY_Q6_K, .seed = 40, K_SIZES}},
    {"iq4_xs", {.format = TINY_IQ4_XS, .seed = 41, K_SIZES}},
    {"f32-mixtral", {.format = TINY_F32, .seed = 51, .n_expert = 5}},
    {"f16-qwen3moe",
     {.format = TINY_F16,
      .seed = 52,
      .family = TINY_QWEN3MOE,
      .n_layer = 3,
      .n_ff = 96,
      .n_expert = 12,
      .n_expert_used = 4,
      .tied = true}},
    /* A seed with which no position's experts hang on one rounding. */
    {"q8_0-qwen3moe",
     {.format = TINY_Q8_0, .seed = 56, .family = TINY_QWEN3MOE, .n_ff = 64}},
    {NULL, {0}},
};


const struct tiny_options *
tiny_variant_find(const char *name)
{
    const struct tiny_variant *variant;

    for (variant = tiny_variants; variant->name != NULL; variant++) {
        if (strcmp(variant->name, name) == 0) {
            return &variant->options;
        }
    }
    return NULL;
}


/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t
random_u64(struct builder *b)
{
    uint64_t z = (b->random += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}


static uint64_t
isqrt(uint64_t x)
{
    uint64_t low = 0, high = (uint64_t)1 << 32;

    while (high - low > 1) {
        uint64_t mid = low + (high - low) / 2;

        if (mid * mid <= x) {
            low = mid;
        } else {
            high = mid;
        }
    }
    return low;
}


/* [-1, 1) with 23 bits, exact in f32. */
static float
random_unit(struct builder *b)
{
    int32_t i = (int32_t)(random_u64(b) >> 40) - (1 << 23);

    return (float)i / (float)(1 << 23);
}


static float
float_of_bits(uint32_t bits)
{
    float f;

    memcpy(&f, &bits, sizeof(f));
    return f;
}


static void
put(struct builder *b, const void *bytes, size_t n)
{
    if (b->failed) {
        return;
    }
    if (n > b->capacity - b->size) {
        size_t capacity = b->capacity * 2 + n + 4096;
        uint8_t *data = realloc(b->data, capacity);

        if (data == NULL) {
            b->failed = true;
            return;
        }
        b->data = data;
        b->capacity = capacity;
    }
    memcpy(b->data + b->size, bytes, n);
    b->size += n;
}


static void
put_u16(struct builder *b, uint16_t value)
{
    uint8_t bytes[2] = {(uint8_t)value, (uint8_t)(value >> 8)};

    put(b, bytes, sizeof(bytes));
}


static void
put_u32(struct builder *b, uint32_t value)
{
    put_u16(b, (uint16_t)value);
    put_u16(b, (uint16_t)(value >> 16));
}


static void
put_u64(struct builder *b, uint64_t value)
{
    put_u32(b, (uint32_t)value);
    put_u32(b, (uint32_t)(value >> 32));
}


static void
put_f32(struct builder *b, float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    put_u32(b, bits);
}


static void
put_string(struct builder *b, const char *text)
{
    put_u64(b, strlen(text));
    put(b, text, strlen(text));
}


static void
align(struct builder *b)
{
    static const uint8_t zeros[ALIGNMENT];

    put(b, zeros, (ALIGNMENT - b->size % ALIGNMENT) % ALIGNMENT);
}


static void
put_key(struct builder *b, const char *key, enum gguf_type type)
{
    put_string(b, key);
    put_u32(b, type);
}


static uint32_t
put_meta_u32(struct builder *b, const char *key, uint32_t value)
{
    put_key(b, key, GGUF_U32);
    put_u32(b, value);
    return 1;
}


static uint32_t
put_meta_f32(struct builder *b, const char *key, float value)
{
    put_key(b, key, GGUF_F32);
    put_f32(b, value);
    return 1;
}


static uint32_t
put_meta_bool(struct builder *b, const char *key, bool value)
{
    uint8_t byte = value;

    put_key(b, key, GGUF_BOOL);
    put(b, &byte, 1);
    return 1;
}


static uint32_t
put_meta_string(struct builder *b, const char *key, const char *value)
{
    put_key(b, key, GGUF_STRING);
    put_string(b, value);
    return 1;
}


static void
put_array_head(struct builder *b, const char *key, enum gguf_type type,
               uint64_t n)
{
    put_key(b, key, GGUF_ARRAY);
    put_u32(b, type);
    put_u64(b, n);
}


static uint32_t
put_tokenizer(struct builder *b)
{
    char text[TINY_TOKEN_SIZE];
    uint32_t i, n = 0;

    n += put_meta_string(b, "tokenizer.ggml.model", "gpt2");
    n += put_meta_string(b, "tokenizer.ggml.pre", "smollm");
    put_array_head(b, "tokenizer.ggml.tokens", GGUF_STRING, TINY_N_VOCAB);
    for (i = 0; i < TINY_N_VOCAB; i++) {
        tiny_token_text(i, text);
        put_string(b, text);
    }
    put_array_head(b, "tokenizer.ggml.token_type", GGUF_I32, TINY_N_VOCAB);
    for (i = 0; i < TINY_N_VOCAB; i++) {
        put_u32(b, i < TINY_TOKEN_BYTES ? 3 : 1); /* control : normal */
    }
    put_array_head(b, "tokenizer.ggml.merges", GGUF_STRING, TINY_N_MERGES);
    for (i = 0; i < TINY_N_MERGES; i++) {
        tiny_merge_text(i, text);
        put_string(b, text);
    }
    n += 3;
    n += put_meta_u32(b, "tokenizer.ggml.bos_token_id", TINY_TOKEN_BOS);
    n += put_meta_u32(b, "tokenizer.ggml.eos_token_id", TINY_TOKEN_EOS);
    n += put_meta_u32(b, "tokenizer.ggml.unknown_token_id",
                      TINY_TOKEN_ENDOFTEXT);
    n += put_meta_bool(b, "tokenizer.ggml.add_bos_token", false);
    n += put_meta_bool(b, "tokenizer.ggml.add_space_prefix", false);
    n += put_meta_string(b, "tokenizer.chat_template", tiny_chat_template);
    return n;
}


static const char *
architecture(const struct tiny_options *o)
{
    static const char *const names[] = {"llama", "qwen2", "qwen3", "gemma3",
                                        "qwen3moe"};

    return names[o->family];
}


/* "{architecture}.{key}" */
static uint32_t
put_arch_u32(struct builder *b, const struct tiny_options *o, const char *key,
             uint32_t value)
{
    char name[64];

    snprintf(name, sizeof(name), "%s.%s", architecture(o), key);
    return put_meta_u32(b, name, value);
}


static uint32_t
put_arch_f32(struct builder *b, const struct tiny_options *o, const char *key,
             float value)
{
    char name[64];

    snprintf(name, sizeof(name), "%s.%s", architecture(o), key);
    return put_meta_f32(b, name, value);
}


/* RMS norms of Q's and K's heads. */
static bool
has_head_norms(const struct tiny_options *o)
{
    return o->family == TINY_QWEN3 || o->family == TINY_GEMMA3 ||
           o->family == TINY_QWEN3MOE;
}


static uint32_t
put_family_keys(struct builder *b, const struct tiny_options *o)
{
    uint32_t n = 0, head = o->n_embd / o->n_head;

    if (o->n_expert > 0) {
        n += put_arch_u32(b, o, "expert_count", o->n_expert);
        n += put_arch_u32(b, o, "expert_used_count", o->n_expert_used);
    }
    if (o->family == TINY_QWEN3MOE) {
        n += put_arch_u32(b, o, "expert_feed_forward_length", o->n_ff);
    }
    if (has_head_norms(o)) {
        n += put_arch_u32(b, o, "attention.key_length", head);
        n += put_arch_u32(b, o, "attention.value_length", head);
    }
    if (o->family == TINY_GEMMA3) {
        n += put_arch_u32(b, o, "attention.sliding_window", o->window);
        n += put_meta_string(b, "gemma3.rope.scaling.type", "linear");
        n += put_arch_f32(b, o, "rope.scaling.factor", 4.0f);
    }
    return n;
}


static uint32_t
put_metadata(struct builder *b, const struct tiny_options *o)
{
    uint32_t n = 0;

    n += put_meta_string(b, "general.architecture", architecture(o));
    n += put_meta_string(b, "general.name", "tiny");
    n += put_meta_u32(b, "general.quantization_version", 2);
    n += put_arch_u32(b, o, "block_count", o->n_layer);
    n += put_arch_u32(b, o, "context_length", o->n_ctx);
    n += put_arch_u32(b, o, "embedding_length", o->n_embd);
    n += put_arch_u32(b, o, "feed_forward_length", o->n_ff);
    n += put_arch_u32(b, o, "attention.head_count", o->n_head);
    n += put_arch_u32(b, o, "attention.head_count_kv", o->n_head_kv);
    n += put_arch_f32(b, o, "rope.freq_base", 10000.0f);
    /* 2^-17, near the customary 1e-5 and exact in decimal and binary */
    n += put_arch_f32(b, o, "attention.layer_norm_rms_epsilon",
                      float_of_bits(0x37000000));
    n += put_arch_u32(b, o, "rope.dimension_count", o->n_embd / o->n_head);
    n += put_arch_u32(b, o, "vocab_size", TINY_N_VOCAB);
    return n + put_family_keys(b, o) + put_tokenizer(b);
}


static uint64_t
tensor_bytes(const struct tensor *t)
{
    const struct tiny_block_format *f = &tiny_block_formats[t->format];

    return t->shape[0] / f->values * f->bytes * t->shape[1] * t->shape[2];
}


static void
add_tensor(struct builder *b, const char *name, uint64_t n_in, uint64_t n_out,
           enum tiny_format format, uint32_t gain_256)
{
    struct tensor *t;

    assert(b->n_tensors < TENSORS_MAX);
    t = &b->tensors[b->n_tensors++];
    snprintf(t->name, sizeof(t->name), "%s", name);
    t->n_dims = gain_256 == 0 ? 1 : 2;
    t->shape[0] = n_in;
    t->shape[1] = n_out;
    t->shape[2] = 1;
    t->format = format;
    t->gain_256 = gain_256;
}


static void
add_layer_tensor(struct builder *b, uint32_t layer, const char *what,
                 uint64_t n_in, uint64_t n_out, enum tiny_format format,
                 uint32_t gain_256)
{
    char name[40];

    snprintf(name, sizeof(name), "blk.%u.%s.weight", (unsigned)layer, what);
    add_tensor(b, name, n_in, n_out, format, gain_256);
}


static void
add_layer_vector(struct builder *b, uint32_t layer, const char *what,
                 uint64_t n)
{
    char name[40];

    snprintf(name, sizeof(name), "blk.%u.%s", (unsigned)layer, what);
    add_tensor(b, name, n, 1, TINY_F32, 0);
}


/* What relatives of Llama have besides. */
static void
add_family_vectors(struct builder *b, const struct tiny_options *o,
                   uint32_t layer)
{
    uint64_t n = o->n_embd, head = n / o->n_head;

    if (o->family == TINY_QWEN2) {
        add_layer_vector(b, layer, "attn_q.bias", n);
        add_layer_vector(b, layer, "attn_k.bias", head * o->n_head_kv);
        add_layer_vector(b, layer, "attn_v.bias", head * o->n_head_kv);
    }
    if (has_head_norms(o)) {
        add_layer_vector(b, layer, "attn_q_norm.weight", head);
        add_layer_vector(b, layer, "attn_k_norm.weight", head);
    }
    if (o->family == TINY_GEMMA3) {
        add_layer_vector(b, layer, "post_attention_norm.weight", n);
        add_layer_vector(b, layer, "post_ffw_norm.weight", n);
    }
}


static void
add_experts(struct builder *b, const struct tiny_options *o, uint32_t layer,
            const char *what, uint64_t n_in, uint64_t n_out, uint32_t gain_256)
{
    add_layer_tensor(b, layer, what, n_in, n_out, o->format, gain_256);
    b->tensors[b->n_tensors - 1].n_dims = 3;
    b->tensors[b->n_tensors - 1].shape[2] = o->n_expert;
}


static void
add_feed_forward(struct builder *b, const struct tiny_options *o,
                 uint32_t layer)
{
    uint64_t n = o->n_embd, ff = o->n_ff;

    if (o->n_expert > 0) {
        /* A wide spread: rounding seldom decides who is chosen. */
        add_layer_tensor(b, layer, "ffn_gate_inp", n, o->n_expert, TINY_F32,
                         1024);
        add_experts(b, o, layer, "ffn_gate_exps", n, ff, 256);
        add_experts(b, o, layer, "ffn_up_exps", n, ff, 256);
        add_experts(b, o, layer, "ffn_down_exps", ff, n, 384);
        return;
    }
    add_layer_tensor(b, layer, "ffn_gate", n, ff, o->format, 256);
    add_layer_tensor(b, layer, "ffn_up", n, ff, o->format, 256);
    add_layer_tensor(b, layer, "ffn_down", ff, n, o->format, 384);
}


static void
add_tensors(struct builder *b, const struct tiny_options *o)
{
    enum tiny_format format = o->format;
    uint64_t n = o->n_embd;
    uint64_t head = n / o->n_head, n_kv = head * o->n_head_kv;
    uint32_t i;

    add_tensor(b, "token_embd.weight", n, TINY_N_VOCAB, format, 512);
    if (o->rope_factors) {
        add_tensor(b, "rope_freqs.weight", head / 2, 1, TINY_F32, 0);
    }
    for (i = 0; i < o->n_layer; i++) {
        add_layer_tensor(b, i, "attn_norm", n, 1, TINY_F32, 0);
        add_layer_tensor(b, i, "attn_q", n, n, format, 384);
        add_layer_tensor(b, i, "attn_k", n, n_kv, format, 384);
        add_layer_tensor(b, i, "attn_v", n, n_kv, format, 256);
        add_layer_tensor(b, i, "attn_output", n, n, format, 256);
        add_layer_tensor(b, i, "ffn_norm", n, 1, TINY_F32, 0);
        add_feed_forward(b, o, i);
        add_family_vectors(b, o, i);
    }
    add_tensor(b, "output_norm.weight", n, 1, TINY_F32, 0);
    if (!o->tied) {
        add_tensor(b, "output.weight", n, TINY_N_VOCAB, format, 512);
    }
}


static void
put_tensor_table(struct builder *b)
{
    uint64_t offset = 0;
    uint32_t i, d;

    for (i = 0; i < b->n_tensors; i++) {
        struct tensor *t = &b->tensors[i];

        t->offset = offset;
        put_string(b, t->name);
        put_u32(b, t->n_dims);
        for (d = 0; d < t->n_dims; d++) {
            put_u64(b, t->shape[d]);
        }
        put_u32(b, tiny_block_formats[t->format].ggml_type);
        put_u64(b, offset);
        offset += tensor_bytes(t);
        offset += (ALIGNMENT - offset % ALIGNMENT) % ALIGNMENT;
    }
}


/* Largest value of a weight drawn evenly from [-a, a): with n_in inputs of
 * variance 1, a = gain * sqrt(3 / n_in) gives outputs of deviation gain. */
static float
amplitude(const struct tensor *t)
{
    uint64_t root = isqrt(((uint64_t)3 << 40) / t->shape[0]); /* * 2^20 */

    return (float)(uint32_t)(root * t->gain_256 >> 8) / (float)(1 << 20);
}


static void
put_vector(struct builder *b, const struct tensor *t)
{
    bool factors = strcmp(t->name, "rope_freqs.weight") == 0;
    bool bias = strstr(t->name, ".bias") != NULL;
    uint64_t i;

    for (i = 0; i < t->shape[0]; i++) {
        if (factors) {
            /* low dimensions as trained, high ones slowed up to 8 times */
            uint64_t half = t->shape[0] / 2;

            put_f32(b, i < half ? 1.0f
                                : (float)(1 + 7 * (i - half + 1) / half));
        } else {
            put_f32(b, (bias ? 0.0f : 1.0f) + random_unit(b) / 4);
        }
    }
}


/* One block of weights in about [-a, a]. */
static void
put_block(struct builder *b, const struct tiny_block_format *format, float a)
{
    uint8_t block[TINY_BLOCK_BYTES_MAX];
    uint64_t r = random_u64(b);
    /* blocks differ in scale by up to a quarter */
    float scale = a * (float)(192 + (r >> 58)) / 256;
    uint32_t i;

    assert(format->bytes <= sizeof(block));
    for (i = format->lead; i < format->bytes; i++) {
        block[i] = (uint8_t)(random_u64(b) >> 56);
    }
    format->finish(block, scale, r);
    put(b, block, format->bytes);
}


/* f32 cut to its upper half: bfloat16, towards zero. */
static uint16_t
bfloat16(float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof(bits));
    return (uint16_t)(bits >> 16);
}


static void
put_matrix(struct builder *b, const struct tensor *t)
{
    const struct tiny_block_format *format = &tiny_block_formats[t->format];
    float a = amplitude(t);
    uint64_t n = t->shape[0] * t->shape[1] * t->shape[2] / format->values, i;

    for (i = 0; i < n; i++) {
        switch (t->format) {
        case TINY_F32:
            put_f32(b, random_unit(b) * a);
            break;
        case TINY_F16:
            put_u16(b, tiny_half(random_unit(b) * a));
            break;
        case TINY_BF16:
            put_u16(b, bfloat16(random_unit(b) * a));
            break;
        default:
            put_block(b, format, a);
            break;
        }
    }
}


static bool
options_resolve(struct tiny_options *o)
{
    uint32_t block;

    if (o->format >= TINY_FORMATS) {
        return false;
    }
    block = tiny_block_formats[o->format].values;
    o->gguf_version = o->gguf_version == 0 ? 3 : o->gguf_version;
    o->n_layer = o->n_layer == 0 ? 2 : o->n_layer;
    o->n_embd = o->n_embd == 0 ? 128 : o->n_embd;
    o->n_head = o->n_head == 0 ? 4 : o->n_head;
    o->n_head_kv = o->n_head_kv == 0 ? 2 : o->n_head_kv;
    o->n_ff = o->n_ff == 0 ? 192 : o->n_ff;
    o->n_ctx = o->n_ctx == 0 ? 1024 : o->n_ctx;
    o->seed = o->seed == 0 ? 1 : o->seed;
    o->window = o->window == 0 ? 24 : o->window;
    if (o->n_expert == 0 && o->family == TINY_QWEN3MOE) {
        o->n_expert = 8;
    }
    o->n_expert_used = o->n_expert_used == 0 ? 2 : o->n_expert_used;
    return o->gguf_version >= 2 && o->gguf_version <= 3 &&
           o->n_expert <= 256 &&
           (o->n_expert == 0 || o->n_expert_used <= o->n_expert) &&
           (o->n_expert == 0 || o->family == TINY_LLAMA ||
            o->family == TINY_QWEN3MOE) &&
           o->n_layer <= 64 && o->n_embd <= 4096 && o->n_ff <= 16384 &&
           o->n_embd % block == 0 && o->n_ff % block == 0 &&
           o->n_embd % o->n_head == 0 && o->n_head % o->n_head_kv == 0 &&
           o->n_embd / o->n_head % 2 == 0;
}


static void
build(struct builder *b, const struct tiny_options *o)
{
    size_t counts, n_kv;
    uint32_t i;

    put(b, "GGUF", 4);
    put_u32(b, o->gguf_version);
    add_tensors(b, o);
    put_u64(b, b->n_tensors);
    counts = b->size;
    put_u64(b, 0);
    n_kv = put_metadata(b, o);
    if (!b->failed) {
        b->data[counts] = (uint8_t)n_kv; /* fits one byte */
    }
    put_tensor_table(b);
    for (i = 0; i < b->n_tensors; i++) {
        align(b);
        if (b->tensors[i].gain_256 == 0) {
            put_vector(b, &b->tensors[i]);
        } else {
            put_matrix(b, &b->tensors[i]);
        }
    }
    align(b);
}


uint8_t *
tiny_model_build(const struct tiny_options *options, size_t *size)
{
    struct tiny_options o = *options;
    struct builder *b;
    uint8_t *data = NULL;

    if (!options_resolve(&o)) {
        errno = EINVAL;
        return NULL;
    }
    b = calloc(1, sizeof(*b));
    if (b == NULL) {
        return NULL;
    }
    b->random = o.seed;
    build(b, &o);
    if (b->failed) {
        free(b->data);
        errno = ENOMEM;
    } else {
        data = b->data;
        *size = b->size;
    }
    free(b);
    return data;
}


int
tiny_model_write(const char *path, const struct tiny_options *options)
{
    size_t size;
    uint8_t *data = tiny_model_build(options, &size);
    bool ok = false;
    FILE *file;

    if (data == NULL) {
        return -1;
    }
    file = fopen(path, "wb");
    if (file != NULL) {
        ok = fwrite(data, 1, size, file) == size;
        ok = fclose(file) == 0 && ok;
    }
    free(data);
    return ok ? 0 : -1;
}
