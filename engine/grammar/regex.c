/*
 * Regular expressions: nodes to GBNF (regex.h), and lists of choices.
 *
 * In a JSON string a character is written as JSON does: quotes and backslashes
 * behind a backslash, controls as escapes.  So a class becomes the plain
 * characters of it, and an alternative for each of the others.
 */
#include "engine/grammar/regex.h"

#include <string.h>
#include "engine/grammar/json.h"
#include "engine/text/utf8.h"

#define NONE UINT32_MAX

struct writer {
    const struct ax_regex *re;
    struct ax_gbnf_text *out;
    bool json;
};

static void write_node(const struct writer *w, uint32_t i);


static bool
is_single(const struct ax_regex *re, const struct ax_regex_node *node)
{
    return node->kind == AX_REGEX_SET && node->n == 1 &&
           re->ranges[node->first].first == re->ranges[node->first].last;
}


/* Single characters that follow each other: one literal.  Returns the first
 * node behind them. */
static uint32_t
write_literal(const struct writer *w, uint32_t i)
{
    const struct ax_regex *re = w->re;
    char text[4];

    ax_gbnf_put(w->out, "\"", 1);
    for (; i != NONE && is_single(re, &re->nodes[i]);
         i = re->nodes[i].sibling) {
        size_t n = ax_utf8_encode(re->ranges[re->nodes[i].first].first, text);
        if (w->json) {
            ax_gbnf_json_chars(w->out, text, n);
        } else {
            ax_gbnf_chars(w->out, text, n);
        }
    }
    ax_gbnf_put(w->out, "\" ", 2);
    return i;
}


static bool
needs_escape(uint32_t c)
{
    return c < 0x20 || c == '"' || c == '\\';
}


/* The ranges without what JSON escapes; true: something is left. */
static bool
write_plain(const struct writer *w, const struct ax_regex_node *node)
{
    bool some = false;

    for (uint32_t k = 0; k < node->n; k++) {
        struct ax_regex_range r = w->re->ranges[node->first + k];
        for (uint32_t c = r.first; c <= r.last; c++) {
            uint32_t last = r.last;
            if (w->json && needs_escape(c)) {
                continue;
            }
            if (w->json && c < '"' && last >= '"') {
                last = '"' - 1;
            } else if (w->json && c < '\\' && last >= '\\') {
                last = '\\' - 1;
            }
            ax_gbnf_put(w->out, "[", some ? 0 : 1);
            some = true;
            ax_gbnf_class_char(w->out, c);
            if (last > c) {
                ax_gbnf_put(w->out, "-", 1);
                ax_gbnf_class_char(w->out, last);
            }
            c = last;
        }
    }
    ax_gbnf_put(w->out, "]", some ? 1 : 0);
    return some;
}


/* Of the controls those with an escape of one letter, or all where the class
 * has nothing but controls. */
static void
write_escaped(const struct writer *w, const struct ax_regex_node *node,
              bool some)
{
    static const char letters[] = "\b\f\n\r\t\"\\";
    bool all = !some;

    for (uint32_t k = 0; k < node->n; k++) {
        struct ax_regex_range r = w->re->ranges[node->first + k];
        for (uint32_t c = r.first; c <= r.last && c <= '\\'; c++) {
            if (!needs_escape(c) ||
                (!all && (c == 0 || strchr(letters, (char)c) == NULL))) {
                continue;
            }
            char byte = (char)c;
            ax_gbnf_put(w->out, " | ", some ? 3 : 0);
            some = true;
            ax_gbnf_put(w->out, "\"", 1);
            ax_gbnf_json_chars(w->out, &byte, 1);
            ax_gbnf_put(w->out, "\"", 1);
        }
    }
}


static void
write_set(const struct writer *w, const struct ax_regex_node *node)
{
    if (!w->json) {
        write_plain(w, node);
        return;
    }
    ax_gbnf_put(w->out, "(", 1);
    write_escaped(w, node, write_plain(w, node));
    ax_gbnf_put(w->out, ")", 1);
}


static void
write_repeat(const struct writer *w, const struct ax_regex_node *node)
{
    if (node->n == 0) {
        ax_gbnf_put(w->out, "\"\" ", 3);
        return;
    }
    ax_gbnf_put(w->out, "(", 1);
    write_node(w, node->child);
    ax_gbnf_put(w->out, ")", 1);
    if (node->n == AX_REGEX_FOREVER) {
        if (node->first > 1) {
            ax_gbnf_printf(w->out, "{%u,} ", node->first);
        } else {
            ax_gbnf_put(w->out, node->first == 0 ? "* " : "+ ", 2);
        }
    } else {
        ax_gbnf_printf(w->out, "{%u,%u} ", node->first, node->n);
    }
}


static void
write_cat(const struct writer *w, const struct ax_regex_node *node)
{
    if (node->child == NONE) {
        ax_gbnf_put(w->out, "\"\" ", 3);
        return;
    }
    for (uint32_t i = node->child; i != NONE;) {
        if (is_single(w->re, &w->re->nodes[i])) {
            i = write_literal(w, i);
            continue;
        }
        bool group = w->re->nodes[i].kind == AX_REGEX_ALT;
        ax_gbnf_put(w->out, "(", group ? 1 : 0);
        write_node(w, i);
        ax_gbnf_put(w->out, ") ", group ? 2 : 0);
        i = w->re->nodes[i].sibling;
    }
}


/* As deep as groups and repetitions are nested, which the parser bounds. */
static void
write_node(const struct writer *w, uint32_t i)
{
    const struct ax_regex_node *node = &w->re->nodes[i];

    switch (node->kind) {
    case AX_REGEX_SET:
        write_set(w, node);
        ax_gbnf_put(w->out, " ", 1);
        break;
    case AX_REGEX_CAT:
        write_cat(w, node);
        break;
    case AX_REGEX_ALT:
        for (uint32_t k = node->child; k != NONE; k = w->re->nodes[k].sibling) {
            ax_gbnf_put(w->out, "| ", k == node->child ? 0 : 2);
            write_node(w, k);
        }
        break;
    default:
        write_repeat(w, node);
        break;
    }
}


void
ax_regex_write(const struct ax_regex *re, enum ax_regex_use use,
               struct ax_gbnf_text *out, bool *wants_char)
{
    struct writer w = {re, out, use == AX_REGEX_JSON_SEARCH};

    if (use == AX_REGEX_WHOLE) {
        write_node(&w, re->root);
        return;
    }
    for (uint32_t i = re->nodes[re->root].child; i != NONE;
         i = re->nodes[i].sibling) {
        const struct ax_regex_node *cat = &re->nodes[i];
        *wants_char |= !cat->from_start || !cat->to_end;
        ax_gbnf_put(out, "| ", i == re->nodes[re->root].child ? 0 : 2);
        ax_gbnf_put(out, "char* ", cat->from_start ? 0 : 6);
        write_node(&w, i);
        ax_gbnf_put(out, "char* ", cat->to_end ? 0 : 6);
    }
}


/* ---- lengths ---- */

/* The one part of the only alternative whose length varies, if it is a
 * repetition of a class; *fixed: of all the others. */
static uint32_t
find_variable(const struct ax_regex *re, const struct ax_regex_node *cat,
              uint32_t *fixed)
{
    uint32_t variable = NONE;

    *fixed = 0;
    for (uint32_t i = cat->child; i != NONE; i = re->nodes[i].sibling) {
        const struct ax_regex_node *node = &re->nodes[i];
        if (node->min == node->max) {
            if (node->min > AX_REGEX_FOREVER / 2 - *fixed) {
                return NONE;
            }
            *fixed += node->min;
            continue;
        }
        if (variable != NONE || node->kind != AX_REGEX_REPEAT ||
            re->nodes[node->child].kind != AX_REGEX_SET) {
            return NONE;
        }
        variable = i;
    }
    return variable;
}


bool
ax_regex_clamp(struct ax_regex *re, uint32_t min, uint32_t max)
{
    const struct ax_regex_node *root = &re->nodes[re->root];
    bool anchored = true;

    for (uint32_t i = root->child; i != NONE; i = re->nodes[i].sibling) {
        anchored &= re->nodes[i].from_start && re->nodes[i].to_end;
    }
    if (!anchored) {
        return min == 0 && max == AX_REGEX_FOREVER;
    }
    if (root->min >= min && root->max <= max) {
        return true;
    }
    uint32_t fixed, one = root->child;
    if (re->nodes[one].sibling != NONE) {
        return false;
    }
    uint32_t variable = find_variable(re, &re->nodes[one], &fixed);
    if (variable == NONE || max < fixed) {
        return false;
    }
    struct ax_regex_node *repeat = &re->nodes[variable];
    uint32_t least = min > fixed ? min - fixed : 0;
    uint32_t most = max == AX_REGEX_FOREVER ? max : max - fixed;
    repeat->first = repeat->first > least ? repeat->first : least;
    repeat->n = repeat->n < most ? repeat->n : most;
    return repeat->first <= repeat->n;
}


/* ---- whole grammars ---- */

int
ax_regex_to_gbnf(struct ax_gbnf_text *out, const char *regex, size_t bytes,
                 struct ax_error *err)
{
    struct ax_regex re;
    bool wants_char = false;
    int rc = ax_regex_parse(&re, regex, bytes, err);

    *out = (struct ax_gbnf_text){0};
    if (rc != AXION_OK) {
        return rc;
    }
    ax_gbnf_put(out, "root ::= ", 9);
    ax_regex_write(&re, AX_REGEX_WHOLE, out, &wants_char);
    ax_gbnf_put(out, "\n", 1);
    ax_regex_free(&re);
    return ax_gbnf_text_end(out, err);
}


int
ax_choice_to_gbnf(struct ax_gbnf_text *out, const char *text, size_t bytes,
                  struct ax_error *err)
{
    struct ax_json json;
    int rc = ax_json_parse(&json, text, bytes, err);

    *out = (struct ax_gbnf_text){0};
    if (rc != AXION_OK) {
        return rc;
    }
    if (json.nodes[0].kind != AX_JSON_ARRAY || json.nodes[0].n == 0) {
        rc = ax_error_set(err, AXION_ERR_GRAMMAR_INVALID,
                          "the choice must be an array of strings");
    }
    ax_gbnf_put(out, "root ::=", 8);
    for (uint32_t i = json.nodes[0].child; rc == AXION_OK && i != NONE;
         i = json.nodes[i].next) {
        if (json.nodes[i].kind != AX_JSON_STRING) {
            rc = ax_error_set(err, AXION_ERR_GRAMMAR_INVALID,
                              "choice %u is not a string", json.nodes[i].index);
        }
        ax_gbnf_put(out, " | ", i == json.nodes[0].child ? 1 : 3);
        ax_gbnf_literal(out, json.text + json.nodes[i].text,
                        json.nodes[i].bytes);
    }
    ax_json_free(&json);
    if (rc != AXION_OK) {
        ax_gbnf_text_free(out);
        return rc;
    }
    ax_gbnf_put(out, "\n", 1);
    return ax_gbnf_text_end(out, err);
}
