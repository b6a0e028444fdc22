/*
 * Opening a tokenizer, and the look-ups on an open one.
 *
 * open copies the vocabulary, decides by name what kind it is, computes each
 * token's bytes and finds out which tokens end a generation.  The order
 * matters: names may turn tokens into control tokens, and pieces and the trie
 * of specials are built from the final types.
 *
 * The rules for missing metadata (which ids default to what, which names end
 * a turn) are those of llama.cpp, whose converters wrote the files.
 */
#include "engine/text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/text/encoder.h"
#include "engine/text/utf8.h"


/* End a generation whatever the metadata says; they become control tokens. */
static const char *const eog_names[] = {
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>",
    "<|flush|>", "<|calls|>", "<end_of_turn>", "<|endoftext|>", "</s>",
    "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
    "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>",
    "<\xef\xbd\x9c"
    "end\xe2\x96\x81"
    "of\xe2\x96\x81"
    "sentence"
    "\xef\xbd\x9c>",
    "[e~[",
    /* fill-in-the-middle: padding, repository and file separators */
    "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|fim_repo|>",
    "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>"};

/* In order of preference where the metadata has no eot_token_id. */
static const char *const eot_names[] = {
    "<|eot_id|>",    "<|im_end|>",        "<|end|>", "<end_of_turn>",
    "<|endoftext|>", "<|end_of_text|>",   "<EOT>",   "_<EOT>",
    "[EOT]",         "<end_of_utterance>"};

#define N_ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))


void
ax_tokenizer_defaults(struct ax_tokenizer_params *p)
{
    memset(p, 0, sizeof(*p));
    p->bos_id = p->eos_id = p->eot_id = AX_TOKEN_NONE;
    p->eom_id = p->unk_id = p->pad_id = AX_TOKEN_NONE;
    p->add_bos = p->add_eos = AX_UNSET;
    p->add_space_prefix = p->remove_extra_whitespaces = AX_UNSET;
}


static bool
tristate(enum ax_tristate value, bool otherwise)
{
    return value == AX_UNSET ? otherwise : value == AX_ON;
}


/* Ids out of range count as absent, they are a common fault of files. */
static int32_t
checked_id(const struct ax_tokenizer *t, int64_t id, int32_t otherwise)
{
    if (id < 0 || id >= t->vocab.n_tokens) {
        id = otherwise;
    }
    return id >= 0 && id < t->vocab.n_tokens ? (int32_t)id : AX_TOKEN_NONE;
}


static int32_t
find_name(const struct ax_tokenizer *t, const char *name)
{
    return ax_tokenizer_find(t, name, strlen(name));
}


static void
mark_eog(struct ax_tokenizer *t, int32_t id)
{
    if (id != AX_TOKEN_NONE) {
        t->eog[id] = 1;
        t->vocab.types[id] = AX_TOKEN_TYPE_CONTROL;
    }
}


/*
 * Two families have a name from the list that ends nothing.  gpt-oss ends a
 * message with <|end|> but a turn with <|return|> or <|call|>; Gemma 4 has
 * "</s>" as an HTML tag among its ordinary tokens.
 */
static void
unmark_eog(struct ax_tokenizer *t)
{
    int32_t strike = find_name(t, "</s>");
    int32_t end = find_name(t, "<|end|>");
    bool call = find_name(t, "<|call|>") != AX_TOKEN_NONE ||
                find_name(t, "<|calls|>") != AX_TOKEN_NONE;
    bool other = find_name(t, "<|return|>") != AX_TOKEN_NONE ||
                 find_name(t, "<|flush|>") != AX_TOKEN_NONE;

    if (end != AX_TOKEN_NONE && call && other) {
        t->eog[end] = 0;
    }
    if (strike != AX_TOKEN_NONE && strike != t->eos_id &&
        find_name(t, "<|tool_response>") != AX_TOKEN_NONE) {
        t->eog[strike] = 0;
        t->vocab.types[strike] = AX_TOKEN_TYPE_NORMAL;
    }
}


static int
find_eog(struct ax_tokenizer *t)
{
    t->eog = calloc(t->vocab.n_tokens, 1);
    if (t->eog == NULL) {
        return AX_TEXT_NO_MEMORY;
    }

    for (size_t i = 0; t->eot_id == AX_TOKEN_NONE && i < N_ELEMENTS(eot_names);
         i++) {
        t->eot_id = find_name(t, eot_names[i]);
    }
    for (size_t i = 0; i < N_ELEMENTS(eog_names); i++) {
        mark_eog(t, find_name(t, eog_names[i]));
    }
    unmark_eog(t);
    mark_eog(t, t->eos_id);
    mark_eog(t, t->eot_id);
    mark_eog(t, t->eom_id);
    return 0;
}


/* ---- bytes of tokens --------------------------------------------------- */

/*
 * The printable character that stands for a byte in byte-level vocabularies
 * (GPT-2's bytes_to_unicode): printable Latin-1 is itself, the other bytes
 * are numbered on from U+0100 in order.
 */
static bool
byte_is_itself(unsigned byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) ||
           byte >= 0xae;
}


static void
byte_chars(uint32_t chars[256])
{
    uint32_t next = 0x100;

    for (unsigned b = 0; b < 256; b++) {
        chars[b] = byte_is_itself(b) ? b : next++;
    }
}


static int
char_byte(const uint32_t chars[256], uint32_t cp)
{
    if (cp < 0x100) {
        return byte_is_itself(cp) ? (int)cp : -1;
    }
    for (int b = 0; b < 256; b++) {
        if (chars[b] == cp) {
            return b;
        }
    }
    return -1;
}


/* Text that is no byte-level text stands for itself. */
static size_t
decode_byte_level(const uint32_t chars[256], struct ax_tokenizer_str s,
                  char *out)
{
    size_t n = 0;

    for (size_t at = 0; at < s.n;) {
        uint32_t cp;
        size_t len = ax_utf8_next(s.p + at, s.n - at, &cp);
        int byte = char_byte(chars, cp);

        if (byte >= 0) {
            out[n++] = (char)byte;
        } else {
            memcpy(out + n, s.p + at, len);
            n += len;
        }
        at += len;
    }
    return n;
}


static size_t
decode_space_mark(struct ax_tokenizer_str s, char *out)
{
    size_t n = 0;

    for (size_t at = 0; at < s.n;) {
        if (s.n - at >= 3 && memcmp(s.p + at, "\xe2\x96\x81", 3) == 0) {
            out[n++] = ' ';
            at += 3;
        } else {
            out[n++] = s.p[at++];
        }
    }
    return n;
}


/* "<0x0A>" gives 10; -1 if it is not of that form. */
static int
byte_token_value(struct ax_tokenizer_str s)
{
    static const char hex[] = "0123456789ABCDEF";

    if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>') {
        return -1;
    }

    const char *high = memchr(hex, s.p[3], 16);
    const char *low = memchr(hex, s.p[4], 16);

    return high == NULL || low == NULL ? -1
                                       : (int)((high - hex) * 16 + (low - hex));
}


static size_t
decode_piece(const struct ax_tokenizer *t, const uint32_t chars[256],
             uint32_t id, char *out)
{
    struct ax_tokenizer_str s = ax_symbols_text(&t->vocab, id);
    int byte;

    switch (t->vocab.types[id]) {
    case AX_TOKEN_TYPE_NORMAL:
        return t->kind == AX_TOKENIZER_BPE ? decode_byte_level(chars, s, out)
                                           : decode_space_mark(s, out);
    case AX_TOKEN_TYPE_BYTE:
        byte = byte_token_value(s);
        if (byte < 0) {
            return 0;
        }
        out[0] = (char)byte;
        return 1;

    case AX_TOKEN_TYPE_UNKNOWN:
    case AX_TOKEN_TYPE_CONTROL:
    case AX_TOKEN_TYPE_USER_DEFINED:
        memcpy(out, s.p, s.n);
        return s.n;

    default:
        return 0;
    }
}


static int
build_pieces(struct ax_tokenizer *t)
{
    char buf[AX_TOKENIZER_TOKEN_BYTES_MAX];
    uint32_t chars[256];
    int rc = 0;

    byte_chars(chars);
    for (uint32_t id = 0; rc == 0 && id < t->vocab.n_tokens; id++) {
        size_t n = decode_piece(t, chars, id, buf);

        rc = ax_symbols_add_piece(&t->vocab, id, buf, n);
    }
    return rc;
}


/* Which symbol a byte starts as, and which token stands in for it. */
static void
map_bytes(struct ax_tokenizer *t)
{
    uint32_t chars[256];

    byte_chars(chars);
    for (unsigned b = 0; b < 256; b++) {
        char text[8];
        size_t n = ax_utf8_encode(chars[b], text);
        char plain = (char)b;

        t->byte_symbols[b] = ax_symbols_lookup(&t->vocab, text, n);
        if (t->kind == AX_TOKENIZER_BPE) {
            /* llama.cpp looks up single bytes of the printable form */
            t->byte_tokens[b] =
                n == 1 ? ax_tokenizer_find(t, text, n) : AX_TOKEN_NONE;
            continue;
        }
        snprintf(text, sizeof(text), "<0x%02X>", b);
        t->byte_tokens[b] = ax_tokenizer_find(t, text, 6);
        if (t->byte_tokens[b] == AX_TOKEN_NONE && t->kind == AX_TOKENIZER_SPM) {
            t->byte_tokens[b] = ax_tokenizer_find(t, &plain, 1);
        }
    }
}


/* ---- how few tokens a text can have ------------------------------------ */

static bool
is_special(uint8_t type)
{
    return type == AX_TOKEN_TYPE_CONTROL || type == AX_TOKEN_TYPE_UNKNOWN ||
           type == AX_TOKEN_TYPE_USER_DEFINED;
}


/* What byte-level BPE makes of bytes that end in no token is nothing, where
 * the byte has no token to stand in for it. */
static bool
merges_end_in_tokens(const struct ax_tokenizer *t)
{
    const struct ax_symbols *v = &t->vocab;

    for (uint32_t i = 0; i < v->merges_size; i++) {
        const struct ax_merge *m = &v->merges[i];

        if (m->left != AX_SYMBOL_NONE &&
            (m->result >= v->n_tokens ||
             v->types[m->result] == AX_TOKEN_TYPE_CONTROL)) {
            return false;
        }
    }
    return true;
}


static bool
byte_may_be_dropped(const struct ax_tokenizer *t, unsigned b, bool merges_end)
{
    uint32_t sym = t->byte_symbols[b];

    if (t->byte_tokens[b] != AX_TOKEN_NONE) {
        return false;
    }
    switch (t->kind) {
    case AX_TOKENIZER_BPE:
        return !merges_end || sym >= t->vocab.n_tokens ||
               t->vocab.types[sym] == AX_TOKEN_TYPE_CONTROL;
    case AX_TOKENIZER_SPM:
        return t->unk_id == AX_TOKEN_NONE;
    case AX_TOKENIZER_BPE_SPACE:
        break;
    }
    return true;
}


/* A special token stands for its text; the others for their bytes, or, where
 * spaces are marked, for the marked text. */
static int
build_spans(struct ax_tokenizer *t)
{
    char buf[AX_TOKENIZER_TOKEN_BYTES_MAX];
    uint32_t chars[256];
    int rc = ax_spans_open(&t->spans);

    byte_chars(chars);
    for (uint32_t id = 0; rc == 0 && id < t->vocab.n_tokens; id++) {
        struct ax_tokenizer_str s = ax_symbols_text(&t->vocab, id);

        if (t->kind != AX_TOKENIZER_BPE || is_special(t->vocab.types[id])) {
            ax_spans_add(&t->spans, s.p, s.n);
        }
        if (t->kind == AX_TOKENIZER_BPE) {
            ax_spans_add(&t->spans, buf, decode_byte_level(chars, s, buf));
        }
    }

    bool merges_end = merges_end_in_tokens(t);

    for (unsigned b = 0; b < 256; b++) {
        t->spans.dropped[b] = byte_may_be_dropped(t, b, merges_end);
    }
    return rc;
}


/* ---- open and close ---------------------------------------------------- */

static int
set_kind(struct ax_tokenizer *t, const struct ax_tokenizer_params *p, char *err,
         size_t err_size)
{
    const char *model = p->model != NULL ? p->model : "";

    if (strcmp(model, "gpt2") == 0) {
        t->kind = AX_TOKENIZER_BPE;
        return ax_pretok_open(&t->pretok, p->pre, err, err_size);
    }
    if (strcmp(model, "gemma4") == 0) {
        t->kind = AX_TOKENIZER_BPE_SPACE;
        return ax_pretok_open(&t->pretok, "gemma4", err, err_size);
    }
    if (strcmp(model, "llama") == 0) {
        t->kind = AX_TOKENIZER_SPM;
        return 0;
    }
    snprintf(err, err_size, "tokenizer: model \"%.64s\" is not supported",
             model);
    return AX_TEXT_UNSUPPORTED;
}


static void
set_ids(struct ax_tokenizer *t, const struct ax_tokenizer_params *p)
{
    bool spm = t->kind == AX_TOKENIZER_SPM;
    int32_t bpe_default = t->kind == AX_TOKENIZER_BPE ? 11 : AX_TOKEN_NONE;

    t->bos_id = checked_id(t, p->bos_id, spm ? 1 : bpe_default);
    t->eos_id = checked_id(t, p->eos_id, spm ? 2 : bpe_default);
    t->unk_id = checked_id(t, p->unk_id, spm ? 0 : AX_TOKEN_NONE);
    t->eot_id = checked_id(t, p->eot_id, AX_TOKEN_NONE);
    t->eom_id = checked_id(t, p->eom_id, AX_TOKEN_NONE);
    t->pad_id = checked_id(t, p->pad_id, AX_TOKEN_NONE);

    t->add_bos = tristate(p->add_bos, spm || ax_pretok_add_bos(&t->pretok));
    if (t->kind == AX_TOKENIZER_BPE_SPACE) {
        t->add_bos = true; /* files of Gemma 4 wrongly say otherwise */
    }
    t->add_eos = tristate(p->add_eos, false);
    t->add_space_prefix = spm && tristate(p->add_space_prefix, true);
}


static int
open_parts(struct ax_tokenizer *t, const struct ax_tokenizer_params *p,
           char *err, size_t err_size)
{
    int rc = set_kind(t, p, err, err_size);

    if (rc == 0) {
        rc = ax_symbols_open(&t->vocab, p, err, err_size);
    }
    if (rc == 0 && t->kind != AX_TOKENIZER_SPM) {
        rc = ax_symbols_add_merges(&t->vocab, p, err, err_size);
    }
    if (rc == 0) {
        set_ids(t, p);
        rc = find_eog(t);
    }
    if (rc == 0) {
        rc = build_pieces(t);
    }
    if (rc == 0) {
        map_bytes(t);
        rc = build_spans(t);
    }
    if (rc == 0) {
        rc = ax_symbols_build_specials(&t->vocab);
    }
    return rc;
}


int
ax_tokenizer_open(struct ax_tokenizer **out,
                  const struct ax_tokenizer_params *params, char *err,
                  size_t err_size)
{
    struct ax_tokenizer *t = calloc(1, sizeof(*t));

    *out = NULL;
    if (err_size > 0) {
        err[0] = '\0';
    }

    int rc =
        t == NULL ? AX_TEXT_NO_MEMORY : open_parts(t, params, err, err_size);
    if (rc != 0) {
        if (err_size > 0 && err[0] == '\0') {
            snprintf(err, err_size, "tokenizer: %s", ax_text_error_name(rc));
        }
        ax_tokenizer_close(t);
        return rc;
    }
    *out = t;
    return 0;
}


void
ax_tokenizer_close(struct ax_tokenizer *t)
{
    if (t == NULL) {
        return;
    }
    ax_symbols_close(&t->vocab);
    ax_pretok_close(&t->pretok);
    ax_spans_close(&t->spans);
    free(t->eog);
    free(t);
}


/* ---- look-ups ---------------------------------------------------------- */

static bool
id_valid(const struct ax_tokenizer *t, int32_t id)
{
    return id >= 0 && (uint32_t)id < t->vocab.n_tokens;
}


size_t
ax_tokenizer_decode_token(const struct ax_tokenizer *t, int32_t id,
                          bool special, char *buf, size_t cap)
{
    if (!id_valid(t, id) ||
        (!special && (t->vocab.types[id] == AX_TOKEN_TYPE_CONTROL ||
                      t->vocab.types[id] == AX_TOKEN_TYPE_UNKNOWN))) {
        return 0;
    }

    uint64_t offset = t->vocab.piece_offsets[id];
    size_t n = (size_t)(t->vocab.piece_offsets[id + 1] - offset);
    size_t copied = n < cap ? n : cap;

    if (copied > 0) {
        memcpy(buf, t->vocab.pieces.p + offset, copied);
    }
    return n;
}


size_t
ax_tokenizer_token_bytes_max(const struct ax_tokenizer *t)
{
    return t->vocab.piece_bytes_max;
}


bool
ax_tokenizer_is_eog(const struct ax_tokenizer *t, int32_t id)
{
    return id_valid(t, id) && t->eog[id] != 0;
}


uint32_t
ax_tokenizer_n_vocab(const struct ax_tokenizer *t)
{
    return t->vocab.n_tokens;
}


enum ax_token_type
ax_tokenizer_token_type(const struct ax_tokenizer *t, int32_t id)
{
    return id_valid(t, id) ? (enum ax_token_type)t->vocab.types[id]
                           : AX_TOKEN_TYPE_UNDEFINED;
}


int32_t
ax_tokenizer_bos(const struct ax_tokenizer *t)
{
    return t->bos_id;
}


int32_t
ax_tokenizer_eos(const struct ax_tokenizer *t)
{
    return t->eos_id;
}


int32_t
ax_tokenizer_eot(const struct ax_tokenizer *t)
{
    return t->eot_id;
}


int32_t
ax_tokenizer_pad(const struct ax_tokenizer *t)
{
    return t->pad_id;
}


bool
ax_tokenizer_add_bos(const struct ax_tokenizer *t)
{
    return t->add_bos;
}


bool
ax_tokenizer_add_eos(const struct ax_tokenizer *t)
{
    return t->add_eos;
}


int32_t
ax_tokenizer_find(const struct ax_tokenizer *t, const char *text, size_t len)
{
    uint32_t sym = ax_symbols_lookup(&t->vocab, text, len);

    return sym < t->vocab.n_tokens ? (int32_t)sym : AX_TOKEN_NONE;
}


struct ax_tokenizer_str
ax_tokenizer_token_text(const struct ax_tokenizer *t, int32_t id)
{
    return ax_symbols_text(&t->vocab,
                           id_valid(t, id) ? (uint32_t)id : AX_SYMBOL_NONE);
}
