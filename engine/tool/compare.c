/*
 * axion compare A.csv B.csv: what changed between two profiles, by test and
 * kind of work, as a table and, with --svg, as a plot.
 *
 * A file is read line by line with fixed room, every field bounded and
 * checked: a profile may come from anywhere.
 */
#include "engine/tool/compare.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "engine/exec/profile.h"
#include "engine/tool/tool.h"


#define FIELDS 10u

enum field {
    FIELD_TEST,
    FIELD_LAYER,
    FIELD_OP,
    FIELD_CALLS,
    FIELD_NS,
    FIELD_BYTES,
    FIELD_OPERATIONS,
    FIELD_ROOFLINE = 9
};


/* Cuts the line at its commas; false unless there are FIELDS of them. */
static bool
split(char *line, char *fields[FIELDS])
{
    uint32_t n = 0;

    line[strcspn(line, "\r\n")] = '\0';
    for (char *at = line; at != NULL && n < FIELDS; n++) {
        fields[n] = at;
        at = strchr(at, ',');
        if (at != NULL) {
            *at++ = '\0';
            if (n + 1 == FIELDS) {
                return false;
            }
        }
    }
    return n == FIELDS;
}


static bool
parse_count(const char *text, uint64_t max, uint64_t *out)
{
    char *end;

    errno = 0;
    *out = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 &&
           *out <= max;
}


/* Names that a terminal and an SVG can show as they are. */
static bool
parse_name(const char *text, char *out, size_t size)
{
    size_t n = strlen(text);

    for (size_t i = 0; i < n; i++) {
        if (text[i] < 0x20 || text[i] > 0x7e || strchr("<>&\"", text[i])) {
            return false;
        }
    }
    if (n == 0 || n >= size) {
        return false;
    }
    memcpy(out, text, n + 1);
    return true;
}


static bool
parse_line(char *line, struct ax_compare_row *row, struct ax_compare_side *s)
{
    char *f[FIELDS], *end;
    uint64_t layer;
    const uint64_t max = 1ull << 60;

    if (!split(line, f) ||
        !parse_name(f[FIELD_TEST], row->test, sizeof(row->test)) ||
        !parse_name(f[FIELD_OP], row->op, sizeof(row->op)) ||
        !parse_count(f[FIELD_LAYER], UINT32_MAX - 1, &layer) ||
        !parse_count(f[FIELD_CALLS], max, &s->calls) ||
        !parse_count(f[FIELD_NS], max, &s->ns) ||
        !parse_count(f[FIELD_BYTES], max, &s->bytes) ||
        !parse_count(f[FIELD_OPERATIONS], max, &s->operations)) {
        return false;
    }
    double roofline = strtod(f[FIELD_ROOFLINE], &end);
    row->layer = (uint32_t)layer;
    s->roofline_ns = roofline * (double)s->ns;
    return end != f[FIELD_ROOFLINE] && *end == '\0' && roofline >= 0 &&
           roofline < 1e6 && s->calls > 0;
}


/* The row of this test, layer and kind of work, made if there is none. */
static struct ax_compare_row *
find_row(struct ax_compare *c, const struct ax_compare_row *like)
{
    for (uint32_t i = 0; i < c->n_rows; i++) {
        struct ax_compare_row *row = &c->rows[i];
        if (row->layer == like->layer && strcmp(row->op, like->op) == 0 &&
            strcmp(row->test, like->test) == 0) {
            return row;
        }
    }
    if (c->n_rows == AX_COMPARE_ROWS_MAX) {
        return NULL;
    }
    if ((c->n_rows & (c->n_rows - 1)) == 0) {
        uint32_t room = c->n_rows == 0 ? 1 : 2 * c->n_rows;
        void *rows = realloc(c->rows, room * sizeof(*c->rows));
        if (rows == NULL) {
            return NULL;
        }
        c->rows = rows;
    }
    c->rows[c->n_rows] = *like;
    memset(c->rows[c->n_rows].side, 0, sizeof(like->side));
    return &c->rows[c->n_rows++];
}


static int
add_line(struct ax_compare *c, uint32_t side, char *line, int by_layer)
{
    struct ax_compare_row like;
    struct ax_compare_side s = {0};

    if (!parse_line(line, &like, &s)) {
        return AXION_ERR_BAD_OPTION;
    }
    like.layer = by_layer ? like.layer : AX_COMPARE_ALL_LAYERS;
    struct ax_compare_row *row = find_row(c, &like);
    if (row == NULL) {
        return AXION_ERR_NO_MEMORY;
    }
    row->side[side].calls += s.calls;
    row->side[side].ns += s.ns;
    row->side[side].bytes += s.bytes;
    row->side[side].operations += s.operations;
    row->side[side].roofline_ns += s.roofline_ns;
    return AXION_OK;
}


int
ax_compare_read(struct ax_compare *c, uint32_t side, const char *path,
                int by_layer, struct ax_error *err)
{
    FILE *in = fopen(path, "re");
    char line[AX_COMPARE_LINE_MAX];
    uint32_t number = 0;
    int rc = AXION_OK;

    if (in == NULL) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION, "%s: %s", path,
                            strerror(errno));
    }
    while (rc == AXION_OK && fgets(line, sizeof(line), in) != NULL) {
        number++;
        bool whole = strchr(line, '\n') != NULL || feof(in);
        if (number == 1) {
            rc = whole && strcmp(line, AX_PROFILE_HEAD) == 0
                     ? AXION_OK
                     : AXION_ERR_BAD_OPTION;
        } else {
            rc = whole ? add_line(c, side, line, by_layer)
                       : AXION_ERR_BAD_OPTION;
        }
    }
    bool failed = ferror(in) != 0 || number == 0;
    fclose(in);
    if (rc == AXION_ERR_NO_MEMORY) {
        return ax_error_set(err, rc, "%s: too many lines", path);
    }
    if (rc != AXION_OK || failed) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION,
                            "%s: line %u is not one of a profile", path,
                            number);
    }
    return AXION_OK;
}


void
ax_compare_free(struct ax_compare *c)
{
    free(c->rows);
    *c = (struct ax_compare){0};
}


double
ax_compare_us(const struct ax_compare_side *s)
{
    return s->calls > 0 ? (double)s->ns / (double)s->calls / 1e3 : 0;
}


double
ax_compare_total_ns(const struct ax_compare *c, const char *test, uint32_t side)
{
    double sum = 0;

    for (uint32_t i = 0; i < c->n_rows; i++) {
        if (strcmp(c->rows[i].test, test) == 0) {
            sum += (double)c->rows[i].side[side].ns;
        }
    }
    return sum;
}


static void
print_side(const struct ax_compare *c, const struct ax_compare_row *row,
           uint32_t side)
{
    const struct ax_compare_side *s = &row->side[side];
    double total = ax_compare_total_ns(c, row->test, side);

    if (s->calls == 0) {
        printf(" %10s | %6s | %6s |", "-", "-", "-");
        return;
    }
    printf(" %10.2f | %5.1f%% | %5.1f%% |", ax_compare_us(s),
           100 * (double)s->ns / (total > 0 ? total : 1),
           100 * s->roofline_ns / (double)(s->ns > 0 ? s->ns : 1));
}


static void
print_table(const struct ax_compare *c)
{
    printf("| %-12s | %5s | %-36s | %10s | %6s | %6s | %10s | %6s | %6s | %6s "
           "|\n",
           "test", "layer", "work", "A us", "A time", "A roof", "B us",
           "B time", "B roof", "B / A");
    printf("| ------------ | ----: | ------------------------------------ | "
           "---------: | -----: | -----: | ---------: | -----: | -----: | "
           "-----: |\n");
    for (uint32_t i = 0; i < c->n_rows; i++) {
        const struct ax_compare_row *row = &c->rows[i];
        char layer[16] = "all";
        if (row->layer != AX_COMPARE_ALL_LAYERS) {
            snprintf(layer, sizeof(layer), "%u", row->layer);
        }
        printf("| %-12s | %5s | %-36s |", row->test, layer, row->op);
        print_side(c, row, 0);
        print_side(c, row, 1);
        double a = ax_compare_us(&row->side[0]);
        double b = ax_compare_us(&row->side[1]);
        if (a > 0 && b > 0) {
            printf(" %6.3f |\n", b / a);
        } else {
            printf(" %6s |\n", "-");
        }
    }
}


struct compare_options {
    const char *svg;
    uint32_t layers, help;
};

#define AT(field) offsetof(struct compare_options, field)

static const struct ax_option options_table[] = {
    {"svg", AX_OPTION_TEXT, AT(svg), "FILE", NULL, "draw the rows as bars", 0,
     0, NULL, 0},
    {"layers", AX_OPTION_FLAG, AT(layers), NULL, NULL,
     "a row for every layer instead of all together", 0, 0, NULL, 0},
    {"help", AX_OPTION_FLAG, AT(help), NULL, NULL, "print this and exit", 0, 0,
     NULL, 0},
    {NULL, AX_OPTION_FLAG, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};


static int
write_svg(const struct ax_compare *c, const char *path,
          const char *const names[2], struct ax_error *err)
{
    FILE *out = fopen(path, "we");

    if (out == NULL) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION, "%s: %s", path,
                            strerror(errno));
    }
    ax_compare_svg(out, c, names);
    bool failed = ferror(out) != 0;
    return fclose(out) == 0 && !failed
               ? AXION_OK
               : ax_error_set(err, AXION_ERR_SYSTEM, "cannot write %s", path);
}


int
ax_tool_compare(int argc, char **argv)
{
    struct compare_options o = {0};
    struct ax_compare c = {0};
    struct ax_error err;
    int n_args;

    int status = ax_tool_options(options_table, &o, argc, argv, &n_args,
                                 &o.help, "compare [options] A.csv B.csv",
                                 "What changed between two files that "
                                 "--profile has written.");
    if (status >= 0) {
        return status;
    }
    if (n_args != 2) {
        return ax_tool_fail(argv[0], TOOL_USAGE, "two profiles are needed");
    }
    const char *names[2] = {argv[1], argv[2]};
    int rc = AXION_OK;
    for (uint32_t i = 0; i < 2 && rc == AXION_OK; i++) {
        rc = ax_compare_read(&c, i, names[i], o.layers != 0, &err);
    }
    if (rc == AXION_OK && o.svg != NULL) {
        rc = write_svg(&c, o.svg, names, &err);
    }
    if (rc == AXION_OK) {
        print_table(&c);
    }
    ax_compare_free(&c);
    return rc == AXION_OK ? 0
                          : ax_tool_fail(argv[0], ax_tool_status(rc), err.text);
}
