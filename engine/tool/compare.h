/*
 * Two profiles (engine/exec/profile.h) side by side: the rows that `axion
 * compare` prints as a table and draws as SVG.
 */
#ifndef AX_TOOL_COMPARE_H
#define AX_TOOL_COMPARE_H

#include <stdint.h>
#include <stdio.h>

#include "engine/error.h"


#define AX_COMPARE_ROWS_MAX   65536u
#define AX_COMPARE_LINE_MAX   512u
#define AX_COMPARE_TEST_MAX   64u
#define AX_COMPARE_OP_MAX     128u
#define AX_COMPARE_ALL_LAYERS UINT32_MAX


/* One side of a row: all calls so far. */
struct ax_compare_side {
    uint64_t calls; /* 0: not on this side */
    uint64_t ns;
    uint64_t bytes;
    uint64_t operations;
    double roofline_ns; /* what the roofline would need */
};


struct ax_compare_row {
    char test[AX_COMPARE_TEST_MAX];
    char op[AX_COMPARE_OP_MAX];
    uint32_t layer; /* or AX_COMPARE_ALL_LAYERS */
    struct ax_compare_side side[2];
};


struct ax_compare {
    uint32_t n_rows;
    struct ax_compare_row *rows; /* in the order of the first file */
};


/*
 * Adds the file's lines to one side of the rows, layers together unless
 * by_layer.  BAD_OPTION names the file and the line that is wrong; NO_MEMORY.
 */
int ax_compare_read(struct ax_compare *c, uint32_t side, const char *path,
                    int by_layer, struct ax_error *err);
void ax_compare_free(struct ax_compare *c);

/* Microseconds of a call; 0 if the side has none. */
double ax_compare_us(const struct ax_compare_side *s);

/* Time that all rows of this test took, in ns. */
double ax_compare_total_ns(const struct ax_compare *c, const char *test,
                           uint32_t side);

/* Bars of both sides for every row of the table. */
void ax_compare_svg(FILE *out, const struct ax_compare *c,
                    const char *const names[2]);

#endif /* AX_TOOL_COMPARE_H */
