/*
 * axion tokenize FILE [TEXT]: the ids and pieces of a text, from the command
 * line or standard input, by the model's own tokenizer.  Only the file's
 * header is read, not the weights.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "engine/gguf/gguf.h"
#include "engine/model/packfile.h"
#include "engine/model/vocab.h"
#include "engine/text/tokenizer.h"
#include "engine/tool/tool.h"

#define INPUT_MAX (256u << 20)

struct tokenize_options {
    const char *model;
    uint32_t ids, special, add_special, help;
};

#define AT(field) offsetof(struct tokenize_options, field)

static const struct ax_option options_table[] = {
    {"model", AX_OPTION_TEXT, AT(model), "FILE", NULL,
     "the model; all behind the options is TEXT then", 0, 0, NULL, 'm'},
    {"ids", AX_OPTION_FLAG, AT(ids), NULL, NULL, "print only ids, on one line",
     0, 0, NULL, 0},
    {"special", AX_OPTION_FLAG, AT(special), NULL, NULL,
     "recognise control tokens in the text", 0, 0, NULL, 0},
    {"add-special", AX_OPTION_FLAG, AT(add_special), NULL, NULL,
     "add BOS and EOS as the model says", 0, 0, NULL, 0},
    {"help", AX_OPTION_FLAG, AT(help), NULL, NULL, "print this and exit", 0, 0,
     NULL, 0},
    {NULL, AX_OPTION_FLAG, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};


static int
open_tokenizer(struct ax_tokenizer **out, const char *path,
               struct ax_error *err)
{
    struct ax_gguf *g;
    struct ax_vocab vocab = {0};
    int rc = ax_pack_or_gguf_open(&g, path, err);
    if (rc != AXION_OK) {
        return rc;
    }
    const struct ax_gguf_tensor *t = ax_gguf_tensor(g, "token_embd.weight");
    if (t == NULL) {
        rc = ax_error_set(err, AXION_ERR_MODEL_FILE,
                          "the file has no token_embd.weight");
    } else {
        rc = ax_vocab_read(&vocab, g, (uint32_t)t->ne[1], err);
    }
    if (rc == AXION_OK && vocab.params.model == NULL) {
        rc = ax_error_set(err, AXION_ERR_MODEL_FILE,
                          "the file has no tokenizer");
    }
    if (rc == AXION_OK) {
        char why[AX_ERROR_TEXT];
        if (ax_tokenizer_open(out, &vocab.params, why, sizeof(why)) != 0) {
            rc = ax_error_set(err, AXION_ERR_MODEL_UNSUPPORTED, "%s", why);
        }
    }
    ax_vocab_free(&vocab);
    ax_gguf_close(g);
    return rc;
}


/* All of standard input, or NULL. */
static char *
read_input(size_t *bytes)
{
    size_t room = 1 << 16;
    char *text = malloc(room);
    *bytes = 0;
    while (text != NULL) {
        *bytes += fread(text + *bytes, 1, room - *bytes, stdin);
        if (*bytes < room) {
            break;
        }
        char *more = room < INPUT_MAX ? realloc(text, room *= 2) : NULL;
        if (more == NULL) {
            free(text);
        }
        text = more;
    }
    return text;
}


/* Arguments joined with blanks, as a shell's user means them. */
static char *
join(char **args, int n, size_t *bytes)
{
    size_t room = 1;
    for (int i = 0; i < n; i++) {
        room += strlen(args[i]) + 1;
    }
    char *text = malloc(room);
    *bytes = 0;
    for (int i = 0; text != NULL && i < n; i++) {
        *bytes += (size_t)snprintf(text + *bytes, room - *bytes, "%s%s",
                                   i > 0 ? " " : "", args[i]);
    }
    return text;
}


static void
print_tokens(const struct ax_tokenizer *t, const int32_t *ids, size_t n,
             bool ids_only)
{
    char bytes[AX_TOKENIZER_TOKEN_BYTES_MAX];
    char shown[4 * AX_TOKENIZER_TOKEN_BYTES_MAX + 1];
    for (size_t i = 0; i < n; i++) {
        if (ids_only) {
            printf("%s%d", i > 0 ? " " : "", ids[i]);
            continue;
        }
        size_t length =
            ax_tokenizer_decode_token(t, ids[i], true, bytes, sizeof(bytes));
        ax_error_escape(shown, sizeof(shown), bytes,
                        length < sizeof(bytes) ? length : sizeof(bytes));
        printf("%8d  \"%s\"\n", ids[i], shown);
    }
    if (ids_only) {
        putchar('\n');
    } else {
        printf("%zu tokens\n", n);
    }
}


static int
tokenize(const struct ax_tokenizer *t, const struct tokenize_options *o,
         const char *text, size_t bytes)
{
    unsigned flags = (o->special ? AX_ENCODE_PARSE_SPECIAL : 0) |
                     (o->add_special ? AX_ENCODE_ADD_SPECIAL : 0);
    size_t n = 0;
    int rc = ax_tokenizer_encode(t, text, bytes, flags, NULL, 0, &n);
    int32_t *ids = malloc((n + 1) * sizeof(*ids));
    if (rc == AX_TEXT_OK && ids != NULL) {
        rc = ax_tokenizer_encode(t, text, bytes, flags, ids, n, &n);
    }
    if (rc != AX_TEXT_OK || ids == NULL) {
        free(ids);
        return ax_tool_fail("tokenize", EXIT_FAILURE,
                            ids == NULL ? "no memory" : ax_text_error_name(rc));
    }
    print_tokens(t, ids, n, o->ids != 0);
    free(ids);
    return EXIT_SUCCESS;
}


int
ax_tool_tokenize(int argc, char **argv)
{
    struct tokenize_options options = {0};
    struct ax_error err;
    struct ax_tokenizer *t;
    int n_args;
    int status =
        ax_tool_options(options_table, &options, argc, argv, &n_args,
                        &options.help, "tokenize [options] FILE [TEXT]",
                        "Without TEXT it reads standard input.");
    if (status >= 0) {
        return status;
    }
    char **words = argv + 1;
    if (options.model == NULL && n_args > 0) {
        options.model = *words++;
        n_args--;
    }
    if (options.model == NULL) {
        return ax_tool_fail(argv[0], TOOL_USAGE, "a model FILE is needed");
    }
    if (open_tokenizer(&t, options.model, &err) != AXION_OK) {
        return ax_tool_fail(argv[0], EXIT_FAILURE, err.text);
    }
    size_t bytes;
    char *text = n_args > 0 ? join(words, n_args, &bytes) : read_input(&bytes);
    status = text != NULL
                 ? tokenize(t, &options, text, bytes)
                 : ax_tool_fail(argv[0], EXIT_FAILURE, "the input is too long");
    free(text);
    ax_tokenizer_close(t);
    return status;
}
