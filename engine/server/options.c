/*
 * The parser of options.h.  No getopt: it prints, permutes by environment
 * variables and cannot say which values would be right.
 */
#include "engine/server/options.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unit {
    const char *name;
    uint64_t factor;
};


static int
parse_units(const char *text, const struct unit *units, uint64_t *out)
{
    if (text[0] < '0' || text[0] > '9') {
        return AXION_ERR_BAD_OPTION;
    }
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0) {
        return AXION_ERR_BAD_OPTION;
    }
    for (; units->name != NULL; units++) {
        if (strcmp(units->name, end) == 0) {
            if (number > UINT64_MAX / units->factor) {
                return AXION_ERR_BAD_OPTION;
            }
            *out = number * units->factor;
            return AXION_OK;
        }
    }
    return AXION_ERR_BAD_OPTION;
}


int
ax_parse_size(const char *text, uint64_t *bytes)
{
    static const struct unit units[] = {
        {"", 1},         {"k", 1u << 10}, {"K", 1u << 10}, {"m", 1u << 20},
        {"M", 1u << 20}, {"g", 1u << 30}, {"G", 1u << 30}, {NULL, 0}};
    return parse_units(text, units, bytes);
}


int
ax_parse_time(const char *text, uint64_t *ms)
{
    static const struct unit units[] = {
        {"", 1000},     {"ms", 1},       {"s", 1000}, {"m", 60000},
        {"h", 3600000}, {"d", 86400000}, {NULL, 0}};
    return parse_units(text, units, ms);
}


static bool
is_choice(const char *choices, const char *value)
{
    size_t length = strlen(value);
    for (const char *p = choices; p != NULL && length > 0;) {
        const char *end = strchr(p, '|');
        size_t n = end != NULL ? (size_t)(end - p) : strlen(p);
        if (n == length && memcmp(p, value, n) == 0) {
            return true;
        }
        p = end != NULL ? end + 1 : NULL;
    }
    return false;
}


static int
bad_value(const struct ax_option *o, const char *value, struct ax_error *err)
{
    char shown[64];
    ax_error_escape(shown, sizeof(shown), value, strlen(value));
    switch (o->kind) {
    case AX_OPTION_CHOICE:
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "--%s: \"%s\" is not one of %s", o->name, shown,
                            o->choices);
    case AX_OPTION_SIZE:
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "--%s: \"%s\" is not a size between %.0f and "
                            "%.0f, such as 512m or 2g",
                            o->name, shown, o->min, o->max);
    case AX_OPTION_TIME:
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "--%s: \"%s\" is not a time between %.0f and "
                            "%.0f seconds, such as 500ms or 30s",
                            o->name, shown, o->min / 1000, o->max / 1000);
    case AX_OPTION_UIDS:
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "--%s: \"%s\" is not a numeric user id (at most "
                            "%u of them)",
                            o->name, shown, AX_OPTION_UIDS_MAX);
    default:
        return ax_error_set(
            err, AXION_ERR_BAD_OPTION,
            "--%s: \"%s\" is not a number between %.10g and %.10g", o->name,
            shown, o->min, o->max);
    }
}


static bool
store_uid(struct ax_option_uids *uids, const char *value)
{
    uint64_t uid;
    static const struct unit none[] = {{"", 1}, {NULL, 0}};
    if (parse_units(value, none, &uid) != AXION_OK || uid >= UINT32_MAX ||
        uids->n == AX_OPTION_UIDS_MAX) {
        return false;
    }
    uids->uid[uids->n++] = (uint32_t)uid;
    return true;
}


static bool
store_real(double *out, const char *value, const struct ax_option *o)
{
    char *end;
    errno = 0;
    double real = strtod(value, &end);
    if (end == value || *end != '\0' || errno != 0 ||
        !(real >= o->min && real <= o->max)) {
        return false;
    }
    *out = real;
    return true;
}


static bool
store_integer(void *at, const char *value, const struct ax_option *o)
{
    static const struct unit none[] = {{"", 1}, {NULL, 0}};
    uint64_t number = 0;
    int rc = o->kind == AX_OPTION_SIZE   ? ax_parse_size(value, &number)
             : o->kind == AX_OPTION_TIME ? ax_parse_time(value, &number)
                                         : parse_units(value, none, &number);
    if (rc != AXION_OK || (double)number < o->min || (double)number > o->max) {
        return false;
    }
    if (o->kind == AX_OPTION_NUMBER) {
        *(uint32_t *)at = (uint32_t)number;
    } else {
        *(uint64_t *)at = number;
    }
    return true;
}


static int
store(const struct ax_option *o, void *out, const char *value,
      struct ax_error *err)
{
    void *at = (char *)out + o->offset;
    bool good;
    switch (o->kind) {
    case AX_OPTION_CHOICE:
        good = is_choice(o->choices, value);
        *(const char **)at = value;
        break;
    case AX_OPTION_TEXT:
        good = true;
        *(const char **)at = value;
        break;
    case AX_OPTION_UIDS:
        good = store_uid(at, value);
        break;
    case AX_OPTION_REAL:
        good = store_real(at, value, o);
        break;
    default:
        good = store_integer(at, value, o);
    }
    return good ? AXION_OK : bad_value(o, value, err);
}


static const struct ax_option *
find(const struct ax_option *table, const char *name, size_t length)
{
    for (; table->name != NULL; table++) {
        if (strlen(table->name) == length &&
            memcmp(table->name, name, length) == 0) {
            return table;
        }
    }
    return NULL;
}


static const struct ax_option *
find_letter(const struct ax_option *table, const char *arg)
{
    for (; table->name != NULL; table++) {
        if (table->letter != 0 && arg[0] == '-' && arg[1] == table->letter &&
            arg[2] == '\0') {
            return table;
        }
    }
    return NULL;
}


int
ax_options_parse(const struct ax_option *table, void *out, int argc,
                 char **argv, int *n_args, struct ax_error *err)
{
    *n_args = 0;
    bool only_args = false;
    for (int i = 1; i < argc; i++) {
        char *arg = argv[i];
        const struct ax_option *o = find_letter(table, arg);
        if (only_args || (o == NULL && strncmp(arg, "--", 2) != 0)) {
            argv[++*n_args] = arg;
            continue;
        }
        if (o == NULL && arg[2] == '\0') {
            only_args = true;
            continue;
        }
        const char *equals = strchr(arg, '=');
        size_t length =
            equals != NULL ? (size_t)(equals - arg) - 2 : strlen(arg) - 2;
        o = o != NULL ? o : find(table, arg + 2, length);
        if (o == NULL) {
            char shown[64];
            ax_error_escape(shown, sizeof(shown), arg, length + 2);
            return ax_error_set(err, AXION_ERR_BAD_OPTION,
                                "unknown option %s (--help lists all)", shown);
        }
        if (o->kind == AX_OPTION_FLAG) {
            if (equals != NULL) {
                return ax_error_set(err, AXION_ERR_BAD_OPTION,
                                    "--%s takes no value", o->name);
            }
            *(uint32_t *)((char *)out + o->offset) = 1;
            continue;
        }
        const char *value = equals != NULL ? equals + 1
                            : i + 1 < argc ? argv[++i]
                                           : NULL;
        if (value == NULL) {
            return ax_error_set(err, AXION_ERR_BAD_OPTION,
                                "--%s needs a value: %s", o->name, o->value);
        }
        int rc = store(o, out, value, err);
        if (rc != AXION_OK) {
            return rc;
        }
    }
    return AXION_OK;
}


size_t
ax_options_help(const struct ax_option *table, char *out, size_t size)
{
    size_t used = 0;
    for (; table->name != NULL; table++) {
        char head[64], *at = used < size ? out + used : NULL;
        char letter[] = {'-', table->letter, ',', ' ', '\0'};
        snprintf(head, sizeof(head), "%s--%s%s%s",
                 table->letter != 0 ? letter : "", table->name,
                 table->value != NULL ? " " : "",
                 table->value != NULL ? table->value : "");
        int n = snprintf(at, at != NULL ? size - used : 0, "  %-26s %s%s%s%s\n",
                         head, table->help, table->standard != NULL ? " [" : "",
                         table->standard != NULL ? table->standard : "",
                         table->standard != NULL ? "]" : "");
        used += n > 0 ? (size_t)n : 0;
    }
    return used;
}
