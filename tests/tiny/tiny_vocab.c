/*
 * Merges are written with '_' for the byte 0x20 and '^' for 0x0a and turned
 * into GPT-2's alphabet on the way out: printable Latin-1 bytes stand for
 * themselves, the others follow from U+0100 on in ascending order.  Every
 * side of a merge is a byte or an earlier merge's result.
 */

#include "tests/tiny/tiny_vocab.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "tests/tiny/tiny_model.h"

const char *const tiny_control_tokens[3] = {
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
};

const char tiny_chat_template[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'"
    " + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

static const char *const merges[TINY_N_MERGES] = {
    "_ t",    "h e",   "_ a",    "i n",     "_t he",  "r e",     "o n",
    "_ w",    "e r",   "n d",    "_ s",     "a t",    "o u",     "i s",
    "e n",    "_ o",   "o r",    "i t",     "_ b",    "_ c",     "_ f",
    "e s",    "a l",   "in g",   "_ p",     "_ i",    "_a nd",   "_ m",
    "e d",    "_ h",   "_ d",    "a r",     "_t o",   "_o f",    "l e",
    "_ l",    "_i n",  "_ n",    "_ g",     "t h",    "i c",     "r o",
    "a s",    "a n",   "_b e",   "l l",     "v e",    "s t",     "_ y",
    "c h",    "_y ou", "_f or",  "en t",    "_i s",   "_t h",    "_w h",
    "_ re",   "u r",   "_ it",   "_wh i",   "_whi ch", "^ ^",    "_ _",
    "_th at", "_th is", "m e",   "_m e",    "_c on",  "a g",     "ag e",
    "\303 \251", "' t",
};

static uint32_t
codepoint_of_byte(uint32_t byte)
{
    uint32_t b, n = 0;

    for (b = 0; b <= byte; b++) {
        bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) ||
                         b >= 174;
        if (b == byte) {
            return printable ? b : 256 + n;
        }
        n += !printable;
    }
    return 0;
}


/* Appends one byte of text in GPT-2's alphabet, as UTF-8. */
static size_t
append_byte(char *out, uint32_t byte)
{
    uint32_t cp = codepoint_of_byte(byte);

    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    out[0] = (char)(0xc0 | (cp >> 6));
    out[1] = (char)(0x80 | (cp & 0x3f));
    return 2;
}


static void
encode(const char *merge, bool keep_gap, char text[TINY_TOKEN_SIZE])
{
    size_t len = 0;

    for (; *merge != '\0'; merge++) {
        uint32_t byte = (unsigned char)*merge;

        assert(len + 3 < TINY_TOKEN_SIZE);
        if (byte == ' ') {
            if (keep_gap) {
                text[len++] = ' ';
            }
            continue;
        }
        byte = byte == '_' ? ' ' : byte == '^' ? '\n' : byte;
        len += append_byte(text + len, byte);
    }
    text[len] = '\0';
}


void
tiny_token_text(uint32_t id, char text[TINY_TOKEN_SIZE])
{
    assert(id < TINY_N_VOCAB);
    if (id < TINY_TOKEN_BYTES) {
        snprintf(text, TINY_TOKEN_SIZE, "%s", tiny_control_tokens[id]);
    } else if (id < TINY_TOKEN_BYTES + 256) {
        text[append_byte(text, id - TINY_TOKEN_BYTES)] = '\0';
    } else {
        encode(merges[id - TINY_TOKEN_BYTES - 256], false, text);
    }
}


void
tiny_merge_text(uint32_t rank, char text[TINY_TOKEN_SIZE])
{
    assert(rank < TINY_N_MERGES);
    encode(merges[rank], true, text);
}
