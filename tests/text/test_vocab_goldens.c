/*
 * Shows that the pre-tokenizers of other models give the ids that llama.cpp
 * ships as its own test data: ggml-vocab-NAME.gguf with .inp (strings) and
 * .out (ids).  Looks in $AXION_LLAMA_MODELS, else .cache/llama-models; skips
 * with 77 where there are none (tests/text/fetch_llama_models.sh).
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/model/vocab.h"
#include "engine/text/tokenizer.h"


#define SEPARATOR "\n__ggml_vocab_test__\n"
#define IDS_MAX   8192

static const char *folder;


static char *
slurp(const char *name, const char *suffix)
{
    char path[512], *data = NULL;
    size_t cap = 0;
    FILE *file;

    snprintf(path, sizeof(path), "%s/ggml-vocab-%s.gguf%s", folder, name,
             suffix);
    file = fopen(path, "rb");
    if (file == NULL) {
        fail_msg("%s cannot be read", path);
    }
    if (getdelim(&data, &cap, EOF, file) < 0) {
        fail_msg("%s is empty", path);
    }
    fclose(file);
    return data;
}


static struct ax_tokenizer *
open_vocab(const char *name)
{
    struct ax_tokenizer *t = NULL;
    struct ax_gguf *gguf = NULL;
    struct ax_vocab vocab = {0};
    struct ax_error error = {0};
    char path[512], err[256] = "";
    uint64_t n = 0;

    snprintf(path, sizeof(path), "%s/ggml-vocab-%s.gguf", folder, name);
    int rc = ax_gguf_open(&gguf, path, &error);

    if (rc == 0) {
        rc = ax_gguf_strings(gguf, "tokenizer.ggml.tokens", NULL, &n, &error);
    }
    if (rc == 0) {
        rc = ax_vocab_read(&vocab, gguf, (uint32_t)n, &error);
    }
    if (rc == 0) {
        rc = ax_tokenizer_open(&t, &vocab.params, err, sizeof(err));
    }
    if (rc != 0) {
        fail_msg("%s: %s%s", path, error.text, err);
    }
    ax_vocab_free(&vocab);
    ax_gguf_close(gguf);
    return t;
}


/* One line of ids; returns where the next line starts. */
static const char *
check_line(const struct ax_tokenizer *t, const char *name, const char *text,
           size_t len, const char *expected)
{
    static int32_t ids[IDS_MAX];
    size_t n;

    assert_int_equal(ax_tokenizer_encode(t, text, len, 0, ids, IDS_MAX, &n), 0);
    for (size_t i = 0; i < n; i++) {
        char *end;
        long id = strtol(expected, &end, 10);

        if (end == expected || id != ids[i]) {
            fail_msg("%s: \"%.*s\": id %zu is %d, not %ld", name, (int)len,
                     text, i, ids[i], id);
        }
        expected = end;
    }
    expected += strspn(expected, " ");
    if (*expected != '\n') {
        fail_msg("%s: \"%.*s\": too few ids", name, (int)len, text);
    }
    return expected + 1;
}


static void
test_ids_equal_llama_cpp(void **state)
{
    const char *name = *state;
    struct ax_tokenizer *t = open_vocab(name);
    char *in = slurp(name, ".inp"), *out = slurp(name, ".out");
    const char *text = in, *expected = out;
    size_t count = 0;

    for (;;) {
        const char *end = strstr(text, SEPARATOR);
        size_t len = end != NULL ? (size_t)(end - text) : strlen(text);

        /* the file ends with a separator: nothing stands behind it */
        if (end == NULL && len == 0) {
            break;
        }
        expected = check_line(t, name, text, len, expected);
        count++;
        if (end == NULL) {
            break;
        }
        text = end + strlen(SEPARATOR);
    }
    assert_true(count > 30);
    ax_tokenizer_close(t);
    free(in);
    free(out);
}


#define VOCAB(name)                                                            \
    {                                                                          \
        name, test_ids_equal_llama_cpp, NULL, NULL, (void *)name               \
    }

int
main(void)
{
    const struct CMUnitTest tests[] = {
        VOCAB("gpt-2"),     VOCAB("llama-bpe"),    VOCAB("llama-spm"),
        VOCAB("phi-3"),     VOCAB("qwen2"),        VOCAB("qwen35"),
        VOCAB("starcoder"), VOCAB("refact"),       VOCAB("command-r"),
        VOCAB("falcon"),    VOCAB("deepseek-llm"), VOCAB("deepseek-coder"),
        VOCAB("gemma-4")};

    folder = getenv("AXION_LLAMA_MODELS");
    if (folder == NULL) {
        folder = ".cache/llama-models";
    }
    if (access(folder, R_OK) != 0) {
        printf("SKIP: no %s (tests/text/fetch_llama_models.sh)\n", folder);
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
