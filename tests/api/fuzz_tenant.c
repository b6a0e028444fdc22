/*
 * Any bytes as the headers that carry a key, as a key's hash and a priority
 * in the configuration, and as a glob with a model's name.  What must hold: a
 * key lies inside the header that counts, a refusal of the configuration says
 * why, a name that is valid has only the characters that it may have, and a
 * text always matches itself when it is quoted.
 */
#include <stdlib.h>
#include <string.h>
#include "api/tenant.h"
#include "shm/errors.h"

#define TEXT_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);


static void
expect(int condition)
{
    if (!condition)
        abort();
}


/* Copies of names and hashes; a line has a few of them. */
static void *
arena_alloc(void *context, size_t bytes)
{
    static char memory[2 * TEXT_MAX];
    size_t *used = context, at = *used;

    expect(bytes <= sizeof(memory) - at);
    *used += bytes;
    return memory + at;
}


static void
fuzz_headers(const struct axion_text *a, const struct axion_text *b)
{
    const struct axion_text none = {NULL, 0};
    const struct axion_text *pairs[][2] = {{a, b}, {a, &none}, {&none, a}};

    for (int i = 0; i < 3; i++) {
        const struct axion_text *header =
            pairs[i][0]->data != NULL ? pairs[i][0] : pairs[i][1];
        struct axion_text key = {NULL, 0};
        struct axion_key_hash hash;

        if (axion_key_from_headers(pairs[i][0], pairs[i][1], &key) !=
            AXION_OK)
            continue;
        expect(key.bytes > 0 && key.bytes <= header->bytes);
        expect(key.data >= header->data &&
               key.data + key.bytes <= header->data + header->bytes);
        axion_key_hash(&hash, key.data, key.bytes);
        expect(axion_tenants_find_key(NULL, &hash).tenant == NULL);
    }
}


static void
fuzz_configuration(const struct axion_text *text)
{
    struct axion_text words[8];
    size_t n_words = 0, i;
    uint32_t priority = 99;
    char why[160] = "";
    size_t used = 0;
    struct axion_memory arena = {arena_alloc, &used};
    struct axion_key key;

    /* Words end at blanks; what comes behind the last is one more. */
    for (i = 0; i <= text->bytes && n_words < 8; i++) {
        size_t begin = i;

        while (i < text->bytes && text->data[i] != ' ')
            i++;
        words[n_words].data = text->data + begin;
        words[n_words++].bytes = (uint32_t) (i - begin);
    }
    if (axion_key_parse(&key, words, n_words, &arena, why, sizeof(why)) !=
        AXION_OK)
        expect(why[0] != 0);
    else if (key.argon2id.data != NULL)
        expect(key.argon2id.data[key.argon2id.bytes] == 0);
    else
        expect(words[0].bytes == 7 + 2 * AXION_KEY_HASH_BYTES);
    if (axion_priority_parse(&priority, text->data, text->bytes) == AXION_OK)
        expect(priority <= AXION_PRIORITY_HIGH);
    if (axion_tenant_name_valid(text->data, text->bytes)) {
        expect(text->bytes > 0 && text->bytes <= AXION_TENANT_NAME_MAX);
        expect(memchr(text->data, '/', text->bytes) == NULL &&
               memchr(text->data, '"', text->bytes) == NULL &&
               memchr(text->data, 0, text->bytes) == NULL);
        expect(axion_tenant_number(text->data, text->bytes) != 0);
    }
}


static void
fuzz_glob(const struct axion_text *pattern, const struct axion_text *text)
{
    static char quoted[2 * TEXT_MAX];
    struct axion_text q = {quoted, 2 * text->bytes};

    (void) axion_glob_match(pattern, text->data, text->bytes);
    for (uint32_t i = 0; i < text->bytes; i++) {
        quoted[2 * i] = '\\';
        quoted[2 * i + 1] = text->data[i];
    }
    expect(axion_glob_match(&q, text->data, text->bytes) == 1);
}


/* The first line feed parts the two texts; each gets memory of its own, so
 * that ASan sees a byte too far. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    const uint8_t *cut = bytes > 0 ? memchr(data, '\n', bytes) : NULL;
    size_t first = cut != NULL ? (size_t) (cut - data) : bytes;
    size_t second = cut != NULL ? bytes - first - 1 : 0;

    if (bytes > TEXT_MAX)
        return 0;
    char *a = malloc(first + 1), *b = malloc(second + 1);
    expect(a != NULL && b != NULL && axion_tenant_init() == AXION_OK);
    memcpy(a + 1, data, first);
    memcpy(b + 1, data + bytes - second, second);
    struct axion_text one = {a + 1, (uint32_t) first};
    struct axion_text two = {b + 1, (uint32_t) second};
    fuzz_headers(&one, &two);
    fuzz_configuration(&one);
    fuzz_glob(&one, &two);
    free(a);
    free(b);
    return 0;
}
