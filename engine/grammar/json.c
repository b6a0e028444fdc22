/* See json.h.  Members are remembered in a table of (object, key) while they
 * are read, so that a key that comes twice is found in constant time. */
#include "engine/grammar/json.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "engine/text/utf8.h"
#include "shm/request.h"

#define TABLE_MIN  64u
#define PROBES_MAX (8u << 20)

struct reader {
    struct ax_json *json;
    const char *start, *at, *end;
    uint32_t *table; /* of nodes with keys, NONE: free */
    uint32_t table_size;
    uint32_t depth;
    uint32_t probes_left; /* somebody may make keys that collide */
    struct ax_error *err;
};


static int
fault(struct reader *r, const char *what)
{
    size_t line = 1, column = 1;

    for (const char *p = r->start; p < r->at && p < r->end; p++) {
        column = *p == '\n' ? 1 : column + 1;
        line += *p == '\n';
    }
    return ax_error_set(r->err, AXION_ERR_GRAMMAR_INVALID,
                        "JSON, line %zu, column %zu: %s", line, column, what);
}


static void
skip_space(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' ||
                              *r->at == '\n' || *r->at == '\r')) {
        r->at++;
    }
}


/* ---- nodes ---- */

static int
new_node(struct reader *r, uint32_t parent, uint32_t *out)
{
    struct ax_json *json = r->json;

    if (json->n_nodes == AX_JSON_NODES_MAX) {
        return ax_error_set(r->err, AXION_ERR_GRAMMAR_LIMIT,
                            "the JSON has more than %u values",
                            AX_JSON_NODES_MAX);
    }
    if (json->n_nodes == json->capacity) {
        uint32_t capacity = json->capacity == 0 ? 64 : json->capacity * 2;
        struct ax_json_node *nodes =
            realloc(json->nodes, capacity * sizeof(*nodes));
        if (nodes == NULL) {
            return ax_error_set(r->err, AXION_ERR_NO_MEMORY, "no memory");
        }
        json->nodes = nodes;
        json->capacity = capacity;
    }
    uint32_t i = json->n_nodes++;
    json->nodes[i] = (struct ax_json_node){.parent = parent,
                                           .child = AX_JSON_NONE,
                                           .last = AX_JSON_NONE,
                                           .next = AX_JSON_NONE};
    if (parent != AX_JSON_NONE) {
        struct ax_json_node *p = &json->nodes[parent];
        json->nodes[i].index = p->n++;
        if (p->last == AX_JSON_NONE) {
            p->child = i;
        } else {
            json->nodes[p->last].next = i;
        }
        p->last = i;
    }
    *out = i;
    return AXION_OK;
}


/* ---- strings ---- */

static int
hex4(const char *at, const char *end, uint32_t *c)
{
    *c = 0;
    if (end - at < 4) {
        return 0;
    }
    for (int i = 0; i < 4; i++) {
        char d = at[i];
        uint32_t v = d >= '0' && d <= '9'   ? (uint32_t)(d - '0')
                     : d >= 'a' && d <= 'f' ? (uint32_t)(d - 'a' + 10)
                     : d >= 'A' && d <= 'F' ? (uint32_t)(d - 'A' + 10)
                                            : 16;
        if (v == 16) {
            return 0;
        }
        *c = *c * 16 + v;
    }
    return 1;
}


/* A text's escapes are longer than what they stand for. */
static void
put_char(struct ax_json *json, uint32_t c)
{
    json->text_bytes += ax_utf8_encode(c, json->text + json->text_bytes);
}


/* Behind the backslash. */
static int
read_escape(struct reader *r)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    uint32_t c, low;

    if (r->at == r->end) {
        return fault(r, "the string has no end");
    }
    const char *known = *r->at != 0 ? strchr(from, *r->at) : NULL;
    if (known != NULL) {
        put_char(r->json, (unsigned char)to[known - from]);
        r->at++;
        return AXION_OK;
    }
    if (*r->at != 'u' || !hex4(r->at + 1, r->end, &c)) {
        return fault(r, "unknown escape");
    }
    r->at += 5;
    if (c >= 0xd800 && c < 0xe000) {
        if (c >= 0xdc00 || r->end - r->at < 6 || r->at[0] != '\\' ||
            r->at[1] != 'u' || !hex4(r->at + 2, r->end, &low) || low < 0xdc00 ||
            low >= 0xe000) {
            return fault(r, "lone surrogate");
        }
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        r->at += 6;
    }
    put_char(r->json, c);
    return AXION_OK;
}


/* At the opening quote. */
static int
read_string(struct reader *r, uint32_t *text, uint32_t *bytes)
{
    struct ax_json *json = r->json;

    *text = (uint32_t)json->text_bytes;
    for (r->at++; r->at < r->end && *r->at != '"';) {
        if ((unsigned char)*r->at < 0x20) {
            return fault(r, "control character in a string");
        }
        if (*r->at != '\\') {
            json->text[json->text_bytes++] = *r->at++;
            continue;
        }
        r->at++;
        int rc = read_escape(r);
        if (rc != AXION_OK) {
            return rc;
        }
    }
    if (r->at == r->end) {
        return fault(r, "the string has no end");
    }
    r->at++;
    *bytes = (uint32_t)json->text_bytes - *text;
    return AXION_OK;
}


static uint32_t
hash_of(const struct ax_json *json, uint32_t object, uint32_t key,
        uint32_t bytes)
{
    uint32_t h = 2166136261u ^ (object * 2654435761u);

    for (uint32_t i = 0; i < bytes; i++) {
        h = (h ^ (unsigned char)json->text[key + i]) * 16777619u;
    }
    return h;
}


static int
remember_key(struct reader *r, uint32_t node)
{
    const struct ax_json *json = r->json;
    const struct ax_json_node *n = &json->nodes[node];
    uint32_t at = hash_of(json, n->parent, n->key, n->key_bytes);

    for (;; at++) {
        uint32_t other = r->table[at & (r->table_size - 1)];
        if (other == AX_JSON_NONE) {
            r->table[at & (r->table_size - 1)] = node;
            return AXION_OK;
        }
        if (r->probes_left-- == 0) {
            return ax_error_set(r->err, AXION_ERR_GRAMMAR_LIMIT,
                                "the JSON's keys are too much alike");
        }
        const struct ax_json_node *o = &json->nodes[other];
        if (o->parent == n->parent && o->key_bytes == n->key_bytes &&
            memcmp(json->text + o->key, json->text + n->key, n->key_bytes) ==
                0) {
            return fault(r, "a key is given twice in one object");
        }
    }
}


/* ---- numbers and words ---- */

static size_t
digits(const char *at, const char *end)
{
    const char *p = at;

    while (p < end && *p >= '0' && *p <= '9') {
        p++;
    }
    return (size_t)(p - at);
}


static int
read_number(struct reader *r, struct ax_json_node *node)
{
    const char *from = r->at;
    size_t n;

    r->at += *r->at == '-';
    n = digits(r->at, r->end);
    if (n == 0 || (n > 1 && *r->at == '0')) {
        return fault(r, "not a number");
    }
    r->at += n;
    if (r->at < r->end && *r->at == '.') {
        n = digits(r->at + 1, r->end);
        if (n == 0) {
            return fault(r, "not a number");
        }
        r->at += 1 + n;
    }
    if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        const char *p = r->at + 1;
        p += p < r->end && (*p == '+' || *p == '-');
        n = digits(p, r->end);
        if (n == 0) {
            return fault(r, "not a number");
        }
        r->at = p + n;
    }
    node->kind = AX_JSON_NUMBER;
    node->text = (uint32_t)r->json->text_bytes;
    node->bytes = (uint32_t)(r->at - from);
    memcpy(r->json->text + node->text, from, node->bytes);
    r->json->text_bytes += node->bytes;
    return AXION_OK;
}


static int
read_word(struct reader *r, struct ax_json_node *node)
{
    static const char *const words[] = {"null", "false", "true"};

    for (uint8_t i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(r->end - r->at) >= n && memcmp(r->at, words[i], n) == 0) {
            node->kind = i; /* NULL, FALSE, TRUE */
            r->at += n;
            return AXION_OK;
        }
    }
    return fault(r, "a value is expected");
}


/* ---- the walk ---- */

/* One value below *open; a container becomes *open. */
static int
read_value(struct reader *r, uint32_t *open, uint32_t key, uint32_t key_bytes)
{
    uint32_t i = 0;
    int rc = new_node(r, *open, &i);
    if (rc != AXION_OK) {
        return rc;
    }
    struct ax_json_node *node = &r->json->nodes[i];
    node->key = key;
    node->key_bytes = key_bytes;
    if (*open != AX_JSON_NONE && r->json->nodes[*open].kind == AX_JSON_OBJECT &&
        (rc = remember_key(r, i)) != AXION_OK) {
        return rc;
    }
    if (r->at == r->end) {
        return fault(r, "a value is expected");
    }
    switch (*r->at) {
    case '{':
    case '[':
        if (++r->depth > AX_JSON_DEPTH_MAX) {
            return ax_error_set(r->err, AXION_ERR_GRAMMAR_LIMIT,
                                "the JSON is nested deeper than %u levels",
                                AX_JSON_DEPTH_MAX);
        }
        node->kind = *r->at++ == '{' ? AX_JSON_OBJECT : AX_JSON_ARRAY;
        *open = i;
        return AXION_OK;
    case '"':
        node->kind = AX_JSON_STRING;
        return read_string(r, &node->text, &node->bytes);
    case '-':
    case '0' ... '9':
        return read_number(r, node);
    default:
        return read_word(r, node);
    }
}


/* In an open container: its end, or the comma and what follows up to the next
 * value. */
static int
read_between(struct reader *r, uint32_t *open, uint32_t *key,
             uint32_t *key_bytes, bool *value_follows)
{
    const struct ax_json_node *node = &r->json->nodes[*open];
    bool object = node->kind == AX_JSON_OBJECT;

    *value_follows = false;
    if (r->at < r->end && *r->at == (object ? '}' : ']')) {
        r->at++;
        r->depth--;
        *open = node->parent;
        return AXION_OK;
    }
    if (node->n > 0) {
        if (r->at == r->end || *r->at != ',') {
            return fault(r, object ? "\",\" or \"}\" is expected"
                                   : "\",\" or \"]\" is expected");
        }
        r->at++;
        skip_space(r);
    }
    *value_follows = true;
    if (!object) {
        return AXION_OK;
    }
    if (r->at == r->end || *r->at != '"') {
        return fault(r, "a key is expected");
    }
    int rc = read_string(r, key, key_bytes);
    if (rc != AXION_OK) {
        return rc;
    }
    skip_space(r);
    if (r->at == r->end || *r->at != ':') {
        return fault(r, "\":\" is expected");
    }
    r->at++;
    return AXION_OK;
}


static int
read_all(struct reader *r)
{
    uint32_t open = AX_JSON_NONE, key = 0, key_bytes = 0;
    bool value_follows;

    skip_space(r);
    int rc = read_value(r, &open, 0, 0);
    while (rc == AXION_OK && open != AX_JSON_NONE) {
        skip_space(r);
        rc = read_between(r, &open, &key, &key_bytes, &value_follows);
        if (rc == AXION_OK && value_follows) {
            skip_space(r);
            rc = read_value(r, &open, key, key_bytes);
        }
    }
    if (rc != AXION_OK) {
        return rc;
    }
    skip_space(r);
    r->json->text[r->json->text_bytes] = '\0';
    return r->at == r->end ? AXION_OK : fault(r, "text behind the value");
}


int
ax_json_parse(struct ax_json *json, const char *text, size_t bytes,
              struct ax_error *err)
{
    struct reader r = {.json = json,
                       .start = text,
                       .at = text,
                       .end = text + bytes,
                       .probes_left = PROBES_MAX,
                       .err = err,
                       .table_size = TABLE_MIN};

    *json = (struct ax_json){0};
    if (!axion_utf8_valid(text, bytes)) {
        return fault(&r, "not UTF-8");
    }
    /* A member has five bytes at least; a value one. */
    while (r.table_size < bytes / 2 && r.table_size < 2 * AX_JSON_NODES_MAX) {
        r.table_size *= 2;
    }
    json->text = malloc(bytes + 1);
    r.table = malloc(r.table_size * sizeof(*r.table));
    int rc = AXION_ERR_NO_MEMORY;
    if (json->text == NULL || r.table == NULL) {
        ax_error_set(err, rc, "no memory");
    } else {
        memset(r.table, 0xff, r.table_size * sizeof(*r.table));
        rc = read_all(&r);
    }
    free(r.table);
    if (rc != AXION_OK) {
        ax_json_free(json);
    }
    return rc;
}


void
ax_json_free(struct ax_json *json)
{
    free(json->nodes);
    free(json->text);
    *json = (struct ax_json){0};
}


/* ---- reading ---- */

static void
count_looks(const struct ax_json *json, uint32_t n)
{
    if (json->looked_at != NULL) {
        *json->looked_at += n;
    }
}


uint32_t
ax_json_find(const struct ax_json *json, uint32_t object, const char *name,
             size_t bytes)
{
    if (json->nodes[object].kind != AX_JSON_OBJECT) {
        return AX_JSON_NONE;
    }
    uint32_t looks = 1, i = json->nodes[object].child;
    for (; i != AX_JSON_NONE; i = json->nodes[i].next, looks++) {
        const struct ax_json_node *n = &json->nodes[i];
        if (n->key_bytes == bytes &&
            memcmp(json->text + n->key, name, bytes) == 0) {
            break;
        }
    }
    count_looks(json, looks);
    return i;
}


uint32_t
ax_json_get(const struct ax_json *json, uint32_t object, const char *name)
{
    return ax_json_find(json, object, name, strlen(name));
}


int
ax_json_text_is(const struct ax_json *json, uint32_t node, const char *text)
{
    const struct ax_json_node *n = &json->nodes[node];

    return n->kind == AX_JSON_STRING && n->bytes == strlen(text) &&
           memcmp(json->text + n->text, text, n->bytes) == 0;
}


static double
number_of(const struct ax_json *json, const struct ax_json_node *n)
{
    char text[64];
    size_t bytes = n->bytes < sizeof(text) - 1 ? n->bytes : sizeof(text) - 1;

    memcpy(text, json->text + n->text, bytes);
    text[bytes] = '\0';
    return strtod(text, NULL);
}


static int
same_text(const struct ax_json *json, const struct ax_json_node *a,
          const struct ax_json_node *b)
{
    return a->bytes == b->bytes &&
           memcmp(json->text + a->text, json->text + b->text, a->bytes) == 0;
}


/* Goes AX_JSON_DEPTH_MAX deep at most. */
int
ax_json_equal(const struct ax_json *json, uint32_t a, uint32_t b)
{
    const struct ax_json_node *m = &json->nodes[a], *n = &json->nodes[b];

    count_looks(json, 1 + m->bytes / 64);
    if (m->kind != n->kind || m->n != n->n ||
        (json->looked_at != NULL && *json->looked_at > AX_JSON_LOOKS_MAX)) {
        return 0;
    }
    if (m->kind == AX_JSON_STRING) {
        return same_text(json, m, n);
    }
    if (m->kind == AX_JSON_NUMBER) {
        return same_text(json, m, n) ||
               number_of(json, m) == number_of(json, n);
    }
    uint32_t other = n->child;
    for (uint32_t i = m->child; i != AX_JSON_NONE; i = json->nodes[i].next) {
        const struct ax_json_node *c = &json->nodes[i];
        if (m->kind == AX_JSON_OBJECT) {
            other = ax_json_find(json, b, json->text + c->key, c->key_bytes);
            if (other == AX_JSON_NONE) {
                return 0;
            }
        }
        if (!ax_json_equal(json, i, other)) {
            return 0;
        }
        other = json->nodes[other].next;
    }
    return 1;
}


const char *
ax_json_pointer(const struct ax_json *json, uint32_t node, char *pointer,
                size_t size)
{
    uint32_t way[AX_JSON_DEPTH_MAX + 1];
    uint32_t n = 0;
    size_t at = 1;

    for (; json->nodes[node].parent != AX_JSON_NONE;
         node = json->nodes[node].parent) {
        way[n++] = node;
    }
    snprintf(pointer, size, "#");
    while (n-- > 0 && at + 1 < size) {
        const struct ax_json_node *step = &json->nodes[way[n]];
        pointer[at++] = '/';
        pointer[at] = '\0';
        if (json->nodes[step->parent].kind == AX_JSON_OBJECT) {
            ax_error_escape(pointer + at, size - at, json->text + step->key,
                            step->key_bytes);
        } else {
            snprintf(pointer + at, size - at, "%u", step->index);
        }
        at += strlen(pointer + at);
    }
    return pointer;
}
