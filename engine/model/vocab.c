/*
 * tokenizer.ggml.*: counts against the model, ids inside the vocabulary,
 * lengths inside the tokenizer's limits.  What the strings mean is checked by
 * ax_tokenizer_open().
 */
#include "engine/model/vocab.h"

#include <stdlib.h>
#include <string.h>


void
ax_vocab_free(struct ax_vocab *v)
{
    free(v->tokens);
    free(v->merges);
    free(v->model);
    free(v->pre);
    *v = (struct ax_vocab){0};
}


int
ax_vocab_copy_string(const struct ax_gguf *g, const char *key, char **out,
                     struct ax_error *err)
{
    struct ax_gguf_str s;
    int rc = ax_gguf_str(g, key, &s, err);

    *out = NULL;
    if (rc != AXION_OK) {
        return rc == AXION_AGAIN ? AXION_OK : rc;
    }
    if (memchr(s.p, '\0', s.n) != NULL) {
        return ax_error_set(err, AXION_ERR_MODEL_FILE,
                            "%s: key %s: a string with a NUL byte",
                            ax_gguf_label(g), key);
    }
    *out = strndup(s.p, s.n);
    return *out != NULL ? AXION_OK
                        : ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
}


static int
read_strings(const struct ax_gguf *g, const char *key, uint32_t max,
             uint32_t bytes_max, struct ax_tokenizer_str **out, uint32_t *n,
             struct ax_error *err)
{
    uint64_t count = 0;
    int rc = ax_gguf_strings(g, key, NULL, &count, err);

    *out = NULL;
    *n = 0;
    if (rc != AXION_OK) {
        return rc == AXION_AGAIN ? AXION_OK : rc;
    }
    if (count > max) {
        return ax_error_set(
            err, AXION_ERR_MODEL_FILE, "%s: key %s: %llu strings, at most %u",
            ax_gguf_label(g), key, (unsigned long long)count, max);
    }
    struct ax_gguf_str *strings = calloc(count + 1, sizeof(*strings));
    *out = calloc(count + 1, sizeof(**out));
    if (strings == NULL || *out == NULL) {
        free(strings);
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    rc = ax_gguf_strings(g, key, strings, &count, err);
    for (uint64_t i = 0; i < count && rc == AXION_OK; i++) {
        if (strings[i].n > bytes_max) {
            rc = ax_error_set(err, AXION_ERR_MODEL_FILE,
                              "%s: key %s: string %llu has %llu bytes, at "
                              "most %u",
                              ax_gguf_label(g), key, (unsigned long long)i,
                              (unsigned long long)strings[i].n, bytes_max);
        }
        (*out)[i].p = strings[i].p;
        (*out)[i].n = (uint32_t)strings[i].n;
    }
    free(strings);
    *n = (uint32_t)count;
    return rc;
}


static int
read_values(const struct ax_gguf *g, const char *key, enum ax_gguf_type element,
            uint32_t expected, const void **out, struct ax_error *err)
{
    const void *data;
    uint64_t n;
    int rc = ax_gguf_array(g, key, element, &data, &n, err);

    *out = NULL;
    if (rc != AXION_OK) {
        return rc == AXION_AGAIN ? AXION_OK : rc;
    }
    if (n != expected) {
        return ax_error_set(
            err, AXION_ERR_MODEL_FILE, "%s: key %s: %llu values for %u tokens",
            ax_gguf_label(g), key, (unsigned long long)n, expected);
    }
    *out = data;
    return AXION_OK;
}


static int
read_id(const struct ax_gguf *g, const char *key, uint32_t n_vocab,
        int64_t *out, struct ax_error *err)
{
    uint32_t id;
    int rc = ax_gguf_u32(g, key, &id, err);

    *out = AX_TOKEN_NONE;
    if (rc != AXION_OK) {
        return rc == AXION_AGAIN ? AXION_OK : rc;
    }
    if (id >= n_vocab) {
        return ax_error_set(err, AXION_ERR_MODEL_FILE,
                            "%s: key %s: token %u, the vocabulary has %u",
                            ax_gguf_label(g), key, id, n_vocab);
    }
    *out = id;
    return AXION_OK;
}


static int
read_flag(const struct ax_gguf *g, const char *key, enum ax_tristate *out,
          struct ax_error *err)
{
    bool value;
    int rc = ax_gguf_bool(g, key, &value, err);

    if (rc == AXION_OK) {
        *out = value ? AX_ON : AX_OFF;
    }
    return rc == AXION_AGAIN ? AXION_OK : rc;
}


static int
read_ids(struct ax_tokenizer_params *p, const struct ax_gguf *g,
         uint32_t n_vocab, struct ax_error *err)
{
    const struct {
        const char *key;
        int64_t *out;
    } ids[] = {
        {"tokenizer.ggml.bos_token_id", &p->bos_id},
        {"tokenizer.ggml.eos_token_id", &p->eos_id},
        {"tokenizer.ggml.eot_token_id", &p->eot_id},
        {"tokenizer.ggml.eom_token_id", &p->eom_id},
        {"tokenizer.ggml.unknown_token_id", &p->unk_id},
        {"tokenizer.ggml.padding_token_id", &p->pad_id},
    };
    const struct {
        const char *key;
        enum ax_tristate *out;
    } flags[] = {
        {"tokenizer.ggml.add_bos_token", &p->add_bos},
        {"tokenizer.ggml.add_eos_token", &p->add_eos},
        {"tokenizer.ggml.add_space_prefix", &p->add_space_prefix},
        {"tokenizer.ggml.remove_extra_whitespaces",
         &p->remove_extra_whitespaces},
    };
    int rc = AXION_OK;

    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        if (rc == AXION_OK) {
            rc = read_id(g, ids[i].key, n_vocab, ids[i].out, err);
        }
    }
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if (rc == AXION_OK) {
            rc = read_flag(g, flags[i].key, flags[i].out, err);
        }
    }
    return rc;
}


static int
read_tables(struct ax_vocab *v, const struct ax_gguf *g, uint32_t n_vocab,
            struct ax_error *err)
{
    struct ax_tokenizer_params *p = &v->params;
    int rc = read_strings(g, "tokenizer.ggml.tokens", AX_TOKENIZER_TOKENS_MAX,
                          AX_TOKENIZER_TOKEN_BYTES_MAX, &v->tokens,
                          &p->n_tokens, err);

    if (rc == AXION_OK && p->n_tokens != n_vocab) {
        rc = ax_error_set(err, AXION_ERR_MODEL_FILE,
                          "%s: %u tokens for %u embedding rows",
                          ax_gguf_label(g), p->n_tokens, n_vocab);
    }
    if (rc == AXION_OK) {
        rc = read_strings(g, "tokenizer.ggml.merges", AX_TOKENIZER_MERGES_MAX,
                          2 * AX_TOKENIZER_TOKEN_BYTES_MAX + 1, &v->merges,
                          &p->n_merges, err);
    }
    if (rc == AXION_OK) {
        rc = read_values(g, "tokenizer.ggml.scores", AX_GGUF_F32, p->n_tokens,
                         &p->scores, err);
    }
    if (rc == AXION_OK) {
        rc = read_values(g, "tokenizer.ggml.token_type", AX_GGUF_I32,
                         p->n_tokens, &p->types, err);
    }
    p->tokens = v->tokens;
    p->merges = v->merges;
    return rc;
}


int
ax_vocab_read(struct ax_vocab *v, const struct ax_gguf *g, uint32_t n_vocab,
              struct ax_error *err)
{
    /* The same as ax_tokenizer_defaults(), without linking engine/text. */
    *v = (struct ax_vocab){
        .params =
            {
                .bos_id = AX_TOKEN_NONE,
                .eos_id = AX_TOKEN_NONE,
                .eot_id = AX_TOKEN_NONE,
                .eom_id = AX_TOKEN_NONE,
                .unk_id = AX_TOKEN_NONE,
                .pad_id = AX_TOKEN_NONE,
                .add_bos = AX_UNSET,
                .add_eos = AX_UNSET,
                .add_space_prefix = AX_UNSET,
                .remove_extra_whitespaces = AX_UNSET,
            },
    };
    int rc = ax_vocab_copy_string(g, "tokenizer.ggml.model", &v->model, err);

    if (rc == AXION_OK) {
        rc = read_ids(&v->params, g, n_vocab, err);
    }
    if (rc == AXION_OK && v->model != NULL) {
        rc = ax_vocab_copy_string(g, "tokenizer.ggml.pre", &v->pre, err);
        if (rc == AXION_OK) {
            rc = read_tables(v, g, n_vocab, err);
        }
    }
    v->params.model = v->model;
    v->params.pre = v->pre;
    return rc;
}
