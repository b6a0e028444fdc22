/*
 * axion inspect FILE: the metadata and the tensor table of a GGUF file, as a
 * table for people or as JSON.  Strings of the file are not trusted: a
 * terminal gets them escaped, JSON gets well-formed UTF-8 or escapes.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "engine/gguf/gguf.h"
#include "engine/model/packfile.h"
#include "engine/tool/tool.h"
#include "shm/request.h"

#define SHOWN_BYTES  60u /* of a string, in the table */
#define SHOWN_VALUES 8u  /* of an array */

struct inspect_options {
    const char *model;
    uint32_t json, help;
};

#define AT(field) offsetof(struct inspect_options, field)

static const struct ax_option options_table[] = {
    {"model", AX_OPTION_TEXT, AT(model), "FILE", NULL,
     "the file, as FILE behind the options", 0, 0, NULL, 'm'},
    {"json", AX_OPTION_FLAG, AT(json), NULL, NULL, "print JSON, strings whole",
     0, 0, NULL, 0},
    {"help", AX_OPTION_FLAG, AT(help), NULL, NULL, "print this and exit", 0, 0,
     NULL, 0},
    {NULL, AX_OPTION_FLAG, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

static const char *const type_names[AX_GGUF_TYPES] = {
    "u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
    "bool", "string", "array", "u64", "i64", "f64"};
static const uint8_t type_bytes[AX_GGUF_TYPES] = {1, 1, 2, 2, 4, 4, 4,
                                                  1, 0, 0, 8, 8, 8};


static void
print_json_string(const char *p, size_t n)
{
    bool utf8 = axion_utf8_valid(p, n);
    putchar('"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        if (c == '"' || c == '\\') {
            printf("\\%c", c);
        } else if (c < 0x20 || c == 0x7f || (c >= 0x80 && !utf8)) {
            printf("\\u%04x", c);
        } else {
            putchar(c);
        }
    }
    putchar('"');
}


static void
print_string(const char *p, uint64_t n, bool json)
{
    char shown[4 * SHOWN_BYTES + 4];
    if (json) {
        print_json_string(p, n);
        return;
    }
    ax_error_escape(shown, SHOWN_BYTES + 1, p, n);
    printf("\"%s\"", shown);
}


/* One value of a fixed size; JSON knows no NaN and no infinity. */
static void
print_scalar(enum ax_gguf_type type, const void *data, bool json)
{
    union {
        uint8_t u8;
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        float f32;
        uint64_t u64;
        int64_t i64;
        double f64;
    } v;
    memcpy(&v, data, type_bytes[type]);
    double real = type == AX_GGUF_F32 ? (double)v.f32 : v.f64;
    switch (type) {
    case AX_GGUF_U8:
        printf("%u", v.u8);
        break;
    case AX_GGUF_I8:
        printf("%d", v.i8);
        break;
    case AX_GGUF_U16:
        printf("%u", v.u16);
        break;
    case AX_GGUF_I16:
        printf("%d", v.i16);
        break;
    case AX_GGUF_U32:
        printf("%" PRIu32, v.u32);
        break;
    case AX_GGUF_I32:
        printf("%" PRId32, v.i32);
        break;
    case AX_GGUF_U64:
        printf("%" PRIu64, v.u64);
        break;
    case AX_GGUF_I64:
        printf("%" PRId64, v.i64);
        break;
    case AX_GGUF_BOOL:
        printf("%s", v.u8 ? "true" : "false");
        break;
    default:
        if (json && real - real != 0) {
            printf("null");
        } else {
            printf("%.9g", real);
        }
    }
}


static int
print_strings(const struct ax_gguf *g, const char *name, uint64_t count,
              uint64_t shown, bool json, struct ax_error *err)
{
    struct ax_gguf_str *s = calloc(count > 0 ? count : 1, sizeof(*s));
    if (s == NULL) {
        return ax_error_set(err, AXION_ERR_NO_MEMORY, "no memory");
    }
    int rc = ax_gguf_strings(g, name, s, &count, err);
    for (uint64_t i = 0; rc == AXION_OK && i < shown; i++) {
        printf("%s", i > 0 ? ", " : "");
        print_string(s[i].p, s[i].n, json);
    }
    free(s);
    return rc;
}


static int
print_array(const struct ax_gguf *g, const char *name,
            const struct ax_gguf_key *key, bool json, struct ax_error *err)
{
    int rc = AXION_OK;
    uint64_t shown = key->n < SHOWN_VALUES ? key->n : SHOWN_VALUES;
    if (json) {
        printf("{\"element\": \"%s\", \"count\": %" PRIu64 ", \"first\": [",
               type_names[key->element], key->n);
    } else {
        printf("%s[%" PRIu64 "] ", type_names[key->element], key->n);
    }
    if (key->element == AX_GGUF_STRING) {
        rc = print_strings(g, name, key->n, shown, json, err);
    } else {
        for (uint64_t i = 0; i < shown; i++) {
            printf("%s", i > 0 ? ", " : "");
            print_scalar(key->element,
                         (const char *)key->data + i * type_bytes[key->element],
                         json);
        }
    }
    printf("%s", json ? "]}" : shown < key->n ? ", ..." : "");
    return rc;
}


static int
print_value(const struct ax_gguf *g, const struct ax_gguf_key *key, bool json,
            struct ax_error *err)
{
    char name[AX_GGUF_KEY_MAX + 1];
    struct ax_gguf_str s;
    int rc = AXION_OK;
    snprintf(name, sizeof(name), "%.*s", (int)key->name.n, key->name.p);
    switch (key->type) {
    case AX_GGUF_STRING:
        rc = ax_gguf_str(g, name, &s, err);
        if (rc == AXION_OK) {
            print_string(s.p, s.n, json);
        }
        return rc;
    case AX_GGUF_ARRAY:
        return print_array(g, name, key, json, err);
    default:
        print_scalar(key->type, key->data, json);
        return rc;
    }
}


static uint64_t
count_elements(const struct ax_gguf *g)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < ax_gguf_n_tensors(g); i++) {
        const struct ax_gguf_tensor *t = ax_gguf_tensor_at(g, i);
        sum += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
    }
    return sum;
}


static int
print_table(const struct ax_gguf *g, struct ax_error *err)
{
    char name[AX_GGUF_KEY_MAX + 1];
    printf("%s: GGUF v%u, %" PRIu64 " bytes, %u keys, %u tensors, %" PRIu64
           " elements\n\n",
           ax_gguf_label(g), ax_gguf_version(g), ax_gguf_file_bytes(g),
           ax_gguf_n_keys(g), ax_gguf_n_tensors(g), count_elements(g));
    for (uint32_t i = 0; i < ax_gguf_n_keys(g); i++) {
        const struct ax_gguf_key *key = ax_gguf_key_at(g, i);
        printf("%-44s ",
               ax_error_escape(name, sizeof(name), key->name.p, key->name.n));
        int rc = print_value(g, key, false, err);
        if (rc != AXION_OK) {
            return rc;
        }
        putchar('\n');
    }
    putchar('\n');
    for (uint32_t i = 0; i < ax_gguf_n_tensors(g); i++) {
        const struct ax_gguf_tensor *t = ax_gguf_tensor_at(g, i);
        char shape[96];
        size_t n = 0;
        for (uint32_t d = 0; d < t->n_dims; d++) {
            n += (size_t)snprintf(shape + n, sizeof(shape) - n, "%s%" PRIu64,
                                  d > 0 ? " x " : "", t->ne[d]);
        }
        printf("%-44s %-6s %-20s %12" PRIu64 " bytes at %" PRIu64 "\n", t->name,
               axk_format_traits(t->format)->name, shape, t->bytes, t->offset);
    }
    return AXION_OK;
}


static int
print_json(const struct ax_gguf *g, struct ax_error *err)
{
    printf("{\"version\": %u, \"file_bytes\": %" PRIu64
           ", \"elements\": %" PRIu64 ",\n \"metadata\": {",
           ax_gguf_version(g), ax_gguf_file_bytes(g), count_elements(g));
    for (uint32_t i = 0; i < ax_gguf_n_keys(g); i++) {
        const struct ax_gguf_key *key = ax_gguf_key_at(g, i);
        printf("%s\n  ", i > 0 ? "," : "");
        print_json_string(key->name.p, key->name.n);
        printf(": ");
        int rc = print_value(g, key, true, err);
        if (rc != AXION_OK) {
            return rc;
        }
    }
    printf("},\n \"tensors\": [");
    for (uint32_t i = 0; i < ax_gguf_n_tensors(g); i++) {
        const struct ax_gguf_tensor *t = ax_gguf_tensor_at(g, i);
        printf("%s\n  {\"name\": ", i > 0 ? "," : "");
        print_json_string(t->name, strlen(t->name));
        printf(", \"format\": \"%s\", \"shape\": [",
               axk_format_traits(t->format)->name);
        for (uint32_t d = 0; d < t->n_dims; d++) {
            printf("%s%" PRIu64, d > 0 ? ", " : "", t->ne[d]);
        }
        printf("], \"bytes\": %" PRIu64 ", \"offset\": %" PRIu64 "}", t->bytes,
               t->offset);
    }
    printf("]}\n");
    return AXION_OK;
}


int
ax_tool_inspect(int argc, char **argv)
{
    struct inspect_options options = {0};
    struct ax_error err;
    struct ax_gguf *g;
    int n_args;
    int status = ax_tool_options(options_table, &options, argc, argv, &n_args,
                                 &options.help, "inspect [--json] FILE",
                                 "Shows what a GGUF file says of itself.");
    if (status >= 0) {
        return status;
    }
    if (n_args + (options.model != NULL) != 1) {
        return ax_tool_fail(argv[0], TOOL_USAGE, "one FILE is needed");
    }
    const char *path = options.model != NULL ? options.model : argv[1];
    if (ax_pack_or_gguf_open(&g, path, &err) != AXION_OK) {
        return ax_tool_fail(argv[0], EXIT_FAILURE, err.text);
    }
    int rc = options.json ? print_json(g, &err) : print_table(g, &err);
    ax_gguf_close(g);
    return rc == AXION_OK ? EXIT_SUCCESS
                          : ax_tool_fail(argv[0], EXIT_FAILURE, err.text);
}
