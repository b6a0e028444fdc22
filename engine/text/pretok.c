/*
 * Pre-tokenizers, see pretok.h.
 *
 * The expressions are those of each model's tokenizer.json, written without
 * \s: PCRE2 and Unicode disagree about U+180E, so white space is spelled out
 * as the property White_Space.  None looks behind, so a piece can be matched
 * as a subject of its own, which is what "applied to the pieces" means.
 *
 * Text is hostile.  The expressions backtrack at most once over a run, which
 * keeps matching linear; the match limit is a second fence, and reaching it
 * is an error, never a silently different cut.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/text/pretok.h"

#include <assert.h>
#include <pcre2.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>


#define MATCH_LIMIT    (1u << 30)
#define HEAP_LIMIT_KIB (256u * 1024u)

#define WS                                                                     \
    "\\x{9}-\\x{d} \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}"                 \
    "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define S_PLUS_END "[" WS "]+(?![^" WS "])"
#define S_PLUS     "[" WS "]+"
#define S_STAR     "[" WS "]*"
#define S_OPT      "[" WS "]?"
#define NOT_SLN    "[^" WS "\\p{L}\\p{N}]+"
#define CONTRACTION                                                            \
    "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]"                       \
    "|'[dD])"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"

#define GPT2                                                                   \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?" NOT_SLN "|" S_PLUS_END

#define WORDS_DIGITS(digits)                                                   \
    CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?" NOT_SLN         \
                "[\\r\\n]*|" S_STAR "[\\r\\n]+|" S_PLUS_END "|" S_PLUS

#define CASED(tail, digits)                                                    \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" tail                          \
    "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" tail "|" digits              \
    "| ?" NOT_SLN "[\\r\\n/]*|" S_STAR "[\\r\\n]+|" S_PLUS_END "|" S_PLUS

/* Letters of all alphabets that have case, as DeepSeek spells them. */
#define CASED_LETTERS                                                          \
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}"              \
    "\\x{1bc}-\\x{1bf}\\x{1c4}-\\x{293}\\x{295}-\\x{2af}\\x{370}-\\x{373}"     \
    "\\x{376}\\x{377}\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{38a}"       \
    "\\x{38c}\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}"              \
    "\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}"                    \
    "\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}"                \
    "\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}"                \
    "\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}"                \
    "\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}"       \
    "\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}"                 \
    "\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}"       \
    "\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}"                \
    "\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}"                 \
    "\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}"        \
    "\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}"                 \
    "\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}\\x{2183}\\x{2184}"        \
    "\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}\\x{2cf2}"       \
    "\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}"       \
    "\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}"                \
    "\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}"                \
    "\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}"            \
    "\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}"          \
    "\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"

/* Han, and what DeepSeek's range writes beside it. */
#define HAN_HANGUL                                                             \
    "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}"                                   \
    "\\x{ac00}-\\x{d7ff}]+"


struct ax_pretok_def {
    const char *names; /* " name name " */
    bool ignore_merges;
    bool add_bos;
    const char *stages[AX_PRETOK_STAGES_MAX];
};


static const struct ax_pretok_def defs[] = {
    {.names = " smollm starcoder refact command-r codeshell exaone minerva-7b "
              "mellum2 ",
     .stages = {"\\p{N}", GPT2}},

    {.names =
         " gpt-2 phi-2 mpt olmo jais trillion granite-docling exaone4 gigachat "
         "jina-es jina-de jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert ",
     .stages = {GPT2}},

    {.names =
         " llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 "
         "jina-v5-nano ",
     .ignore_merges = true,
     .add_bos = true,
     .stages = {WORDS_DIGITS("\\p{N}{1,3}")}},

    {.names = " glm4 glm5 ",
     .ignore_merges = true,
     .stages = {WORDS_DIGITS("\\p{N}{1,3}")}},

    {.names = " chatglm-bpe dbrx smaug-bpe ",
     .stages = {WORDS_DIGITS("\\p{N}{1,3}")}},

    {.names = " qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan "
              "solar-open grok-2 ",
     .stages = {WORDS_DIGITS("\\p{N}")}},

    {.names = " qwen35 ",
     .stages = {CONTRACTION
                "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^" WS
                "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" S_STAR "[\\r\\n]+|" S_PLUS_END
                "|" S_PLUS}},

    {.names = " tekken ",
     .ignore_merges = true,
     .add_bos = true,
     .stages = {CASED("", "\\p{N}")}},

    {.names = " gpt-4o llama4 kanana2 talkie minimax-m2 ",
     .stages = {CASED(CONTRACTION "?", "\\p{N}{1,3}")}},

    {.names = " deepseek-llm ",
     .stages = {"[\\r\\n]", S_OPT "[" CASED_LETTERS "]+",
                S_OPT "[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}"
                      "\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+",
                S_PLUS "\\z", HAN_HANGUL, "\\p{N}+"}},

    {.names = " deepseek-coder ",
     .stages = {"[\\r\\n]", S_OPT "\\p{L}+", S_OPT "\\p{P}+", HAN_HANGUL,
                "\\p{N}"}},

    {.names = " deepseek-v3 hunyuan-dense joyai-llm hy_v4 ",
     .stages = {"\\p{N}{1,3}", "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{30ff}]+",
                "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
                "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
                "| ?[\\p{P}\\p{S}]+[\\r\\n]*|" S_STAR "[\\r\\n]+|" S_PLUS_END
                "|" S_PLUS}},

    /* merges may not cross a change between newlines and other text */
    {.names = " gemma4 ", .stages = {"[^\\n]+|[\\n]+"}},

    {.names = " falcon ",
     .stages = {"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]"}},

    {.names = " default ",
     .stages = {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+",
                "[0-9][0-9][0-9]"}}};


static const struct ax_pretok_def *
find_def(const char *name)
{
    size_t n = strlen(name);

    if (n == 0 || strchr(name, ' ') != NULL) {
        return NULL;
    }
    for (size_t i = 0; i < sizeof(defs) / sizeof(defs[0]); i++) {
        const char *p = defs[i].names;

        while ((p = strstr(p, name)) != NULL) {
            if (p[-1] == ' ' && p[n] == ' ') {
                return &defs[i];
            }
            p++;
        }
    }
    return NULL;
}


static int
compile_stage(struct ax_pretok *pt, const char *pattern)
{
    int error;
    PCRE2_SIZE at;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                     PCRE2_UTF | PCRE2_UCP, &error, &at, NULL);
    if (code == NULL) {
        return AX_TEXT_NO_MEMORY;
    }

    /* Without JIT (W^X policies) the interpreter matches the same. */
    (void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
    pt->codes[pt->n_stages++] = code;
    return 0;
}


int
ax_pretok_open(struct ax_pretok *pt, const char *name, char *err,
               size_t err_size)
{
    if (name == NULL) {
        name = "default";
    }
    memset(pt, 0, sizeof(*pt));
    pt->def = find_def(name);
    if (pt->def == NULL) {
        snprintf(err, err_size,
                 "tokenizer: pre-tokenizer \"%.64s\" is not "
                 "supported",
                 name);
        return AX_TEXT_UNSUPPORTED;
    }

    for (size_t i = 0; i < AX_PRETOK_STAGES_MAX; i++) {
        if (pt->def->stages[i] != NULL) {
            int rc = compile_stage(pt, pt->def->stages[i]);

            if (rc != 0) {
                snprintf(err, err_size,
                         "tokenizer: cannot compile stage %zu "
                         "of pre-tokenizer \"%.64s\"",
                         i, name);
                return rc;
            }
        }
    }

    pcre2_match_context *context = pcre2_match_context_create(NULL);

    if (context == NULL) {
        snprintf(err, err_size, "tokenizer: out of memory");
        return AX_TEXT_NO_MEMORY;
    }
    pcre2_set_match_limit(context, MATCH_LIMIT);
    pcre2_set_heap_limit(context, HEAP_LIMIT_KIB);
    pt->match_context = context;
    return 0;
}


void
ax_pretok_close(struct ax_pretok *pt)
{
    for (size_t i = 0; i < AX_PRETOK_STAGES_MAX; i++) {
        pcre2_code_free(pt->codes[i]);
    }
    pcre2_match_context_free(pt->match_context);
    memset(pt, 0, sizeof(*pt));
}


bool
ax_pretok_ignore_merges(const struct ax_pretok *pt)
{
    return pt->def != NULL && pt->def->ignore_merges;
}


bool
ax_pretok_add_bos(const struct ax_pretok *pt)
{
    return pt->def != NULL && pt->def->add_bos;
}


int
ax_pretok_scratch_open(struct ax_pretok_scratch *s, const struct ax_pretok *pt)
{
    memset(s, 0, sizeof(*s));
    for (size_t i = 0; i < pt->n_stages; i++) {
        s->match_data[i] = pcre2_match_data_create(1, NULL);
        if (s->match_data[i] == NULL) {
            return AX_TEXT_NO_MEMORY;
        }
    }
    return 0;
}


void
ax_pretok_scratch_close(struct ax_pretok_scratch *s)
{
    for (size_t i = 0; i < AX_PRETOK_STAGES_MAX; i++) {
        pcre2_match_data_free(s->match_data[i]);
    }
    memset(s, 0, sizeof(*s));
}


struct splitter {
    const struct ax_pretok *pt;
    struct ax_pretok_scratch *scratch;
    ax_pretok_word_fn word;
    void *arg;
};


/* Recursion goes one level per stage, at most AX_PRETOK_STAGES_MAX deep. */
static int
split_stage(const struct splitter *sp, size_t stage, const char *p, size_t n)
{
    if (n == 0) {
        return 0;
    }
    if (stage == sp->pt->n_stages) {
        return sp->word(sp->arg, p, n);
    }

    pcre2_match_data *data = sp->scratch->match_data[stage];
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(data);
    size_t at = 0;

    while (at < n) {
        int rc = pcre2_match(sp->pt->codes[stage], (PCRE2_SPTR)p, n, at,
                             PCRE2_NO_UTF_CHECK, data, sp->pt->match_context);
        size_t start = n, end = n;

        if (rc >= 0) {
            start = span[0];
            end = span[1];
        } else if (rc == PCRE2_ERROR_NOMEMORY) {
            return AX_TEXT_NO_MEMORY;
        } else if (rc != PCRE2_ERROR_NOMATCH) {
            return AX_TEXT_LIMIT_STEPS;
        }
        assert(start >= at && end > at); /* no stage matches emptiness */

        rc = split_stage(sp, stage + 1, p + at, start - at);
        if (rc == 0) {
            rc = split_stage(sp, stage + 1, p + start, end - start);
        }
        if (rc != 0) {
            return rc;
        }
        at = end;
    }
    return 0;
}


int
ax_pretok_split(const struct ax_pretok *pt, struct ax_pretok_scratch *s,
                const char *text, size_t n, ax_pretok_word_fn word, void *arg)
{
    struct splitter sp = {pt, s, word, arg};

    return split_stage(&sp, 0, text, n);
}
