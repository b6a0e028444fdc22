/*
 * A small vocabulary, see small_vocab.h.  Byte tokens are <0xXX> for the
 * SentencePiece kind and GPT-2's printable characters for the other.
 */
#include "tests/text/small_vocab.h"

#include <stdio.h>
#include <string.h>

#include "engine/text/utf8.h"


#define N_TOKENS_MAX 400

/* "\xc4\xa0" is how byte-level vocabularies write a space. */
static const char *const merges[] = {"h e",
                                     "l l",
                                     "ll o",
                                     "he llo",
                                     "\xc4\xa0 w",
                                     "o r",
                                     "\xc4\xa0w or",
                                     "l d",
                                     "\xc4\xa0wor ld",
                                     "a a",
                                     "aa aa",
                                     "aaaa aaaa",
                                     "\xc4\xa0 \xc4\xa0",
                                     "< |"};

static const char *const spm_pieces[] = {"\xe2\x96\x81",
                                         "h",
                                         "e",
                                         "l",
                                         "o",
                                         "w",
                                         "r",
                                         "d",
                                         "a",
                                         "he",
                                         "ll",
                                         "llo",
                                         "hello",
                                         "\xe2\x96\x81hello",
                                         "\xe2\x96\x81w",
                                         "or",
                                         "ld",
                                         "\xe2\x96\x81wor",
                                         "\xe2\x96\x81world",
                                         "aa",
                                         "aaaa",
                                         "<",
                                         "/",
                                         "s",
                                         ">",
                                         "</",
                                         "s>",
                                         "</s>"};

#define N_MERGES (sizeof(merges) / sizeof(merges[0]))
#define N_PIECES (sizeof(spm_pieces) / sizeof(spm_pieces[0]))

static char texts[N_TOKENS_MAX][32];
static struct ax_tokenizer_str tokens[N_TOKENS_MAX];
static struct ax_tokenizer_str merge_lines[N_MERGES];
static int32_t types[N_TOKENS_MAX];
static float scores[N_TOKENS_MAX];
static uint32_t n_tokens;


static void
add(const char *text, int32_t type, float score)
{
    snprintf(texts[n_tokens], sizeof(texts[0]), "%s", text);
    tokens[n_tokens].p = texts[n_tokens];
    tokens[n_tokens].n = (uint32_t)strlen(text);
    types[n_tokens] = type;
    scores[n_tokens] = score;
    n_tokens++;
}


static void
add_bytes(bool spm)
{
    uint32_t next = 0x100;

    for (unsigned b = 0; b < 256; b++) {
        bool plain =
            (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        char text[8] = "";

        if (spm) {
            snprintf(text, sizeof(text), "<0x%02X>", b);
        } else {
            text[ax_utf8_encode(plain ? b : next++, text)] = '\0';
        }
        add(text, spm ? AX_TOKEN_TYPE_BYTE : AX_TOKEN_TYPE_NORMAL, 0);
    }
}


static void
add_merges(void)
{
    for (size_t i = 0; i < N_MERGES; i++) {
        const char *space = strchr(merges[i], ' ');
        char text[32];

        snprintf(text, sizeof(text), "%.*s%s", (int)(space - merges[i]),
                 merges[i], space + 1);
        add(text, AX_TOKEN_TYPE_NORMAL, 0);
        merge_lines[i].p = merges[i];
        merge_lines[i].n = (uint32_t)strlen(merges[i]);
    }
}


const struct ax_tokenizer_params *
small_vocab(const char *kind, const char *pre)
{
    static struct ax_tokenizer_params params;
    bool spm = strcmp(kind, "llama") == 0;

    n_tokens = 0;
    add("<unk>", AX_TOKEN_TYPE_UNKNOWN, 0);
    add("<|im_start|>", AX_TOKEN_TYPE_CONTROL, 0);
    add("<|im_end|>", AX_TOKEN_TYPE_CONTROL, 0);
    add("<tool>", AX_TOKEN_TYPE_USER_DEFINED, 0);
    add_bytes(spm);
    if (spm) {
        for (size_t i = 0; i < N_PIECES; i++) {
            bool control = strcmp(spm_pieces[i], "</s>") == 0;

            add(spm_pieces[i],
                control ? AX_TOKEN_TYPE_CONTROL : AX_TOKEN_TYPE_NORMAL,
                -(float)i);
        }
    } else {
        add_merges();
    }

    ax_tokenizer_defaults(&params);
    params.model = kind;
    params.pre = pre;
    params.n_tokens = n_tokens;
    params.tokens = tokens;
    params.types = types;
    params.scores = spm ? scores : NULL;
    params.n_merges = spm ? 0 : N_MERGES;
    params.merges = merge_lines;
    params.bos_id = SMALL_START;
    params.eos_id = SMALL_END;
    params.unk_id = SMALL_UNK;
    return &params;
}
