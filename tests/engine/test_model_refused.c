/*
 * A model whose file is well formed but whose content is not: unknown
 * architectures, hyper-parameters out of range, tensors that are missing, of
 * another shape, used by nobody or not finite, a vocabulary that does not
 * fit.  Each is refused at load by name, none reaches the kernels.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/engine/bytes.h"


static void
refused(struct bytes *b, int number, const char *words)
{
    struct ax_model *m;
    struct ax_error err = { 0 };
    int rc = bytes_open_model(b, &m, &err);

    if (rc != number || m != NULL || strstr(err.text, words) == NULL
        || strncmp(err.text, "/proc/self/fd/", 14) != 0) {
        fail_msg("found %d \"%s\", expected %d with \"%s\"", rc, err.text,
                 number, words);
    }
    bytes_free(b);
}


static void
a_whole_model_opens(void **state)
{
    struct bytes b = { 0 };
    struct ax_model *m;
    struct ax_error err = { 0 };
    struct ax_tokenizer_params params;

    (void) state;
    bytes_tiny(&b, NULL);
    if (bytes_open_model(&b, &m, &err) != AXION_OK) {
        fail_msg("%s", err.text);
    }
    const struct ax_model_info *info = ax_model_info(m);
    assert_string_equal(info->architecture, "llama");
    assert_string_equal(info->name, "tiny");
    assert_string_equal(info->weight_format, "F32");
    assert_non_null(info->chat_template);
    assert_int_equal(info->n_vocab, 331);
    assert_int_equal(info->n_layer, 2);
    assert_int_equal(info->n_ctx, 1024);
    assert_int_equal(info->eos_id, 2);
    assert_int_equal(info->eot_id, AX_TOKEN_NONE);
    assert_int_equal(ax_model_tokenizer_params(m, &params, &err), AXION_OK);
    assert_int_equal(params.n_tokens, 331);
    assert_string_equal(params.model, "gpt2");
    assert_int_equal(params.tokens[0].n, strlen("<|endoftext|>"));
    ax_model_close(m);
    bytes_free(&b);
}


static void
architectures_are_named(void **state)
{
    struct bytes b = { 0 };

    (void) state;
    bytes_tiny(&b, NULL);
    /* The value follows the key, a type and a length. */
    size_t at = bytes_find(&b, "general.architecture") + 8 + 20 + 4 + 8;
    memcpy(b.p + at, "lla\na", 5);
    refused(&b, AXION_ERR_MODEL_UNSUPPORTED,
            "architecture \"lla\\x0aa\" is not supported; known: llama");
    bytes_tiny(&b, NULL);
    memcpy(b.p + bytes_find(&b, "general.architecture") + 8, "genera1", 7);
    refused(&b, AXION_ERR_MODEL_FILE, "general.architecture is missing");
}


static void
with_u32(const char *key, uint32_t value, int number, const char *words)
{
    struct bytes b = { 0 };

    bytes_tiny(&b, NULL);
    bytes_set_u32(&b, key, value);
    refused(&b, number, words);
}


static void
hyper_parameters_are_bounded(void **state)
{
    const uint32_t nan = 0x7fc00000, zero = 0, minus = 0xbf800000;

    (void) state;
    with_u32("llama.block_count", 0, AXION_ERR_MODEL_FILE,
             "llama.block_count: found 0");
    with_u32("llama.block_count", 1u << 30, AXION_ERR_MODEL_FILE,
             "expected 1 to 1024");
    with_u32("llama.block_count", 3, AXION_ERR_MODEL_FILE,
             "tensor blk.2.attn_norm.weight is missing");
    with_u32("llama.block_count", 1, AXION_ERR_MODEL_UNSUPPORTED,
             "tensor blk.1.");
    with_u32("llama.context_length", 0, AXION_ERR_MODEL_FILE,
             "llama.context_length: found 0");
    with_u32("llama.context_length", UINT32_MAX, AXION_ERR_MODEL_FILE,
             "llama.context_length: found 4294967295");
    with_u32("llama.embedding_length", 160, AXION_ERR_MODEL_FILE,
             "tensor token_embd.weight: found [128, 331, 1, 1], "
             "expected [160, 331]");
    with_u32("llama.feed_forward_length", 96, AXION_ERR_MODEL_FILE,
             "tensor blk.0.ffn_gate.weight: found");
    with_u32("llama.attention.head_count", 0, AXION_ERR_MODEL_FILE,
             "llama.attention.head_count: found 0");
    with_u32("llama.attention.head_count_kv", 0, AXION_ERR_MODEL_FILE,
             "llama.attention.head_count_kv: found 0");
    with_u32("llama.attention.head_count_kv", 3, AXION_ERR_MODEL_FILE,
             "3 does not divide the 4 heads");
    with_u32("llama.rope.dimension_count", 64, AXION_ERR_MODEL_FILE,
             "llama.rope.dimension_count: found 64");
    with_u32("llama.rope.dimension_count", 31, AXION_ERR_MODEL_FILE,
             "31 is odd");
    with_u32("llama.rope.freq_base", zero, AXION_ERR_MODEL_FILE,
             "llama.rope.freq_base: found 0");
    with_u32("llama.attention.layer_norm_rms_epsilon", nan,
             AXION_ERR_MODEL_FILE, "rms_epsilon: found");
    with_u32("llama.attention.layer_norm_rms_epsilon", zero,
             AXION_ERR_MODEL_FILE, "rms_epsilon: found 0");
    with_u32("llama.attention.layer_norm_rms_epsilon", minus,
             AXION_ERR_MODEL_FILE, "rms_epsilon: found -1");
}


static void
mixture_refused(const char *key, uint32_t value, int number, const char *words)
{
    struct bytes b = { 0 };

    bytes_tiny(&b, "f32-mixtral");
    bytes_set_u32(&b, key, value);
    refused(&b, number, words);
}


static void
mixtures_of_experts_are_bounded(void **state)
{
    struct bytes b = { 0 };

    (void) state;
    mixture_refused("llama.expert_count", 2000, AXION_ERR_MODEL_FILE,
                    "llama.expert_count: found 2000, expected 1 to 1024");
    mixture_refused("llama.expert_count", 4, AXION_ERR_MODEL_FILE,
                    "tensor blk.0.ffn_gate_inp.weight: found [128, 5");
    mixture_refused("llama.expert_used_count", 0, AXION_ERR_MODEL_FILE,
                    "llama.expert_used_count: found 0");
    mixture_refused("llama.expert_used_count", 6, AXION_ERR_MODEL_FILE,
                    "found 6, expected 1 to 5");
    mixture_refused("llama.feed_forward_length", 96, AXION_ERR_MODEL_FILE,
                    "tensor blk.0.ffn_gate_exps.weight: found "
                    "[128, 192, 5, 1], expected [128, 96, 5]");
    mixture_refused("llama.feed_forward_length", 100,
                    AXION_ERR_MODEL_UNSUPPORTED,
                    "ffn_gate_exps.weight: experts of 100 rows");
    bytes_tiny(&b, "f32-mixtral");
    bytes_set_dim(&b, "blk.1.ffn_down_exps.weight", 2, 1);
    refused(&b, AXION_ERR_MODEL_FILE, "blk.1.ffn_down_exps.weight");
}


static void
keys_of_another_type_are_refused(void **state)
{
    struct bytes b = { 0 };
    uint32_t type = AX_GGUF_F32;

    (void) state;
    bytes_tiny(&b, NULL);
    size_t at = bytes_find(&b, "llama.block_count") + 8 + 17;
    memcpy(b.p + at, &type, 4);
    refused(&b, AXION_ERR_MODEL_FILE,
            "key llama.block_count: found f32, expected an integer");
}


static void
missing_tensors_are_named(void **state)
{
    static const char *const names[] = {
        "token_embd.weight", "output_norm.weight", "blk.1.attn_q.weight",
        "blk.0.ffn_down.weight", "blk.1.ffn_norm.weight",
    };

    (void) state;
    for (size_t i = 0; i < 5; i++) {
        struct bytes b = { 0 };
        char words[80];
        bytes_tiny(&b, NULL);
        b.p[bytes_find(&b, names[i]) + 8] = '#';
        snprintf(words, sizeof(words), "tensor %s is missing", names[i]);
        refused(&b, AXION_ERR_MODEL_FILE, words);
    }
}


static void
tensors_that_nobody_uses_are_refused(void **state)
{
    struct bytes b = { 0 };

    (void) state;
    /* Without its name the output is taken for tied, and this is left. */
    bytes_tiny(&b, NULL);
    memcpy(b.p + bytes_find(&b, "output.weight") + 8, "0utput", 6);
    refused(&b, AXION_ERR_MODEL_UNSUPPORTED,
            "tensor 0utput.weight: the architecture has no use for it");
}


static void
swapped_dimensions_are_refused(void **state)
{
    struct bytes b = { 0 };

    (void) state;
    bytes_tiny(&b, NULL);
    bytes_set_dim(&b, "blk.0.ffn_up.weight", 0, 192);
    bytes_set_dim(&b, "blk.0.ffn_up.weight", 1, 128);
    refused(&b, AXION_ERR_MODEL_FILE,
            "tensor blk.0.ffn_up.weight: found [192, 128, 1, 1], expected "
            "[128, 192]");
}


/* Overwrites 4 bytes of a tensor's data. */
static void
set_data(struct bytes *b, const char *tensor, size_t offset, uint32_t value)
{
    struct ax_gguf *g;

    assert_int_equal(ax_gguf_open_fd(&g, bytes_memfd(b, b->n), "t", NULL),
                     AXION_OK);
    const struct ax_gguf_tensor *t = ax_gguf_tensor(g, tensor);
    assert_non_null(t);
    memcpy(b->p + t->offset + offset, &value, sizeof(value));
    ax_gguf_close(g);
}


static void
weights_that_are_no_numbers_are_refused(void **state)
{
    struct bytes b = { 0 };

    (void) state;
    bytes_tiny(&b, NULL);
    set_data(&b, "blk.1.attn_k.weight", 4 * 128 * 33, 0x7f800000);
    refused(&b, AXION_ERR_MODEL_FILE,
            "tensor blk.1.attn_k.weight: row 33 has a weight that is NaN or "
            "infinite");
    bytes_tiny(&b, NULL);
    set_data(&b, "blk.0.ffn_norm.weight", 4 * 7, 0x7fc00000);
    refused(&b, AXION_ERR_MODEL_FILE,
            "tensor blk.0.ffn_norm.weight: value 7 is NaN");
    bytes_tiny(&b, "q4_1");
    set_data(&b, "blk.0.attn_v.weight", 0, 0x7c007c00);
    refused(&b, AXION_ERR_MODEL_FILE, "tensor blk.0.attn_v.weight: row 0");
}


static void
vocabularies_must_fit(void **state)
{
    struct bytes b = { 0 };

    (void) state;
    with_u32("tokenizer.ggml.eos_token_id", 331, AXION_ERR_MODEL_FILE,
             "tokenizer.ggml.eos_token_id: token 331, the vocabulary has 331");
    with_u32("tokenizer.ggml.bos_token_id", UINT32_MAX, AXION_ERR_MODEL_FILE,
             "tokenizer.ggml.bos_token_id: token 4294967295");
    bytes_tiny(&b, NULL);
    memcpy(b.p + bytes_find(&b, "tokenizer.ggml.tokens") + 8, "x", 1);
    refused(&b, AXION_ERR_MODEL_FILE, "0 tokens for 331 embedding rows");
}


static void
options_are_checked(void **state)
{
    struct bytes b = { 0 };
    struct ax_model *m;
    struct ax_error err = { 0 };
    char path[64];

    (void) state;
    bytes_tiny(&b, NULL);
    int fd = bytes_memfd(&b, b.n);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    struct ax_model_options options = { .path = path, .ctx = 1025 };
    assert_int_equal(ax_model_open(&m, &options, &err), AXION_ERR_BAD_OPTION);
    assert_non_null(strstr(err.text, "a context of 1025 tokens"));
    options.ctx = 0;
    options.isa = "mmx";
    assert_int_equal(ax_model_open(&m, &options, &err), AXION_ERR_BAD_OPTION);
    options.isa = NULL;
    options.n_threads = 3;
    options.ctx = 100;
    assert_int_equal(ax_model_open(&m, &options, &err), AXION_OK);
    assert_int_equal(ax_model_info(m)->n_ctx, 100);
    ax_model_close(m);
    ax_model_close(NULL);
    close(fd);
    bytes_free(&b);
}


static void
note_progress(void *context, uint32_t permille)
{
    uint32_t *last = context;

    assert_true(permille >= *last && permille <= 1000);
    *last = permille;
}


static void
progress_rises_to_the_end(void **state)
{
    struct bytes b = { 0 };
    struct ax_model *m;
    uint32_t last = 0;
    char path[64];

    (void) state;
    bytes_tiny(&b, "q8_0");
    int fd = bytes_memfd(&b, b.n);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    struct ax_model_options options = { .path = path, .progress = note_progress,
                                        .context = &last };
    assert_int_equal(ax_model_open(&m, &options, NULL), AXION_OK);
    assert_int_equal(last, 1000);
    ax_model_close(m);
    close(fd);
    bytes_free(&b);
}


static void
cut_file(void *context, uint32_t permille)
{
    int fd = *(int *) context;

    if (permille == 0) {
        assert_int_equal(ftruncate(fd, 20000), 0);
    }
}


static void
a_file_cut_while_it_loads_is_an_error(void **state)
{
    struct bytes b = { 0 };
    struct ax_model *m;
    struct ax_error err = { 0 };
    char path[64];

    (void) state;
    bytes_tiny(&b, "q8_0");
    int fd = bytes_memfd(&b, b.n);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    struct ax_model_options options = { .path = path, .progress = cut_file,
                                        .context = &fd, .n_threads = 2 };
    assert_int_equal(ax_model_open(&m, &options, &err), AXION_ERR_MODEL_FILE);
    assert_null(m);
    assert_non_null(strstr(err.text, "the file ends at byte 20000"));
    close(fd);
    bytes_free(&b);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_model_opens),
        cmocka_unit_test(architectures_are_named),
        cmocka_unit_test(hyper_parameters_are_bounded),
        cmocka_unit_test(mixtures_of_experts_are_bounded),
        cmocka_unit_test(keys_of_another_type_are_refused),
        cmocka_unit_test(missing_tensors_are_named),
        cmocka_unit_test(tensors_that_nobody_uses_are_refused),
        cmocka_unit_test(swapped_dimensions_are_refused),
        cmocka_unit_test(weights_that_are_no_numbers_are_refused),
        cmocka_unit_test(vocabularies_must_fit),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(progress_rises_to_the_end),
        cmocka_unit_test(a_file_cut_while_it_loads_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
