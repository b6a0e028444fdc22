/*
 * Lists of numbers; bench_list.h says how they are written.
 */
#include "engine/tool/bench_list.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>


/* Takes a number from the front of *text. */
static bool
take_number(const char **text, uint32_t max, uint32_t *out)
{
    char *end;

    if (!isdigit((unsigned char)**text)) {
        return false;
    }
    errno = 0;
    unsigned long value = strtoul(*text, &end, 10);
    if (errno != 0 || value > max) {
        return false;
    }
    *text = end;
    *out = (uint32_t)value;
    return true;
}


/* first, first-last, first-last+step or first-last*step. */
static bool
take_range(struct ax_bench_list *list, const char **text, uint32_t max)
{
    uint32_t first, last, step = 1;
    char op = '+';

    if (!take_number(text, max, &first)) {
        return false;
    }
    last = first;
    if (**text == '-') {
        (*text)++;
        if (!take_number(text, max, &last) || last < first) {
            return false;
        }
        if (**text == '+' || **text == '*') {
            op = *(*text)++;
            if (!take_number(text, max, &step)) {
                return false;
            }
        }
    }
    uint64_t value = first;
    for (;;) {
        if (list->n == AX_BENCH_LIST_MAX) {
            return false;
        }
        list->v[list->n++] = (uint32_t)value;
        uint64_t next = op == '+' ? value + step : value * step;
        if (first == last || next > last) {
            return true;
        }
        if (next <= value) {
            return false; /* it would never end */
        }
        value = next;
    }
}


bool
ax_bench_list_add(struct ax_bench_list *list, const char *text, uint32_t max)
{
    if (!list->given) {
        list->n = 0;
        list->given = true;
    }
    while (take_range(list, &text, max)) {
        if (*text == '\0') {
            return true;
        }
        if (*text++ != ',') {
            return false;
        }
    }
    return false;
}


bool
ax_bench_list_has_zero(const struct ax_bench_list *list)
{
    for (uint32_t i = 0; i < list->n; i++) {
        if (list->v[i] == 0) {
            return true;
        }
    }
    return false;
}
