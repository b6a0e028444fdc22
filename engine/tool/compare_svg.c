/*
 * The plot of `axion compare`: for every row two bars, A above B, of the time
 * of one call; the darker part is what the roofline would need.
 */
#include "engine/tool/compare.h"

#include <stdbool.h>


#define LABEL_WIDTH 340
#define BAR_WIDTH   420
#define WIDTH       (LABEL_WIDTH + BAR_WIDTH + 120)
#define ROW_HEIGHT  34
#define HEAD_HEIGHT 56


static const char *const light[2] = {"#9ecae1", "#fdae6b"};
static const char *const dark[2] = {"#3182bd", "#e6550d"};


/* File names are the user's: only what needs no escape is shown. */
static void
print_text(FILE *out, const char *s)
{
    for (; *s != '\0'; s++) {
        unsigned char ch = (unsigned char)*s;
        bool plain = ch >= 0x20 && ch != 0x7f && ch != '<' && ch != '>' &&
                     ch != '&' && ch < 0x80;
        fputc(plain ? ch : '?', out);
    }
}


static void
print_bar(FILE *out, const struct ax_compare_side *s, uint32_t side, double y,
          double us_max)
{
    double us = ax_compare_us(s);
    double width = us / us_max * BAR_WIDTH;
    double roof = s->ns > 0 ? width * s->roofline_ns / (double)s->ns : 0;

    if (s->calls == 0) {
        return;
    }
    fprintf(out,
            "<rect x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"12\" "
            "fill=\"%s\"/>\n"
            "<rect x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"12\" "
            "fill=\"%s\"/>\n"
            "<text x=\"%.1f\" y=\"%.1f\">%.2f us</text>\n",
            LABEL_WIDTH, y, width, light[side], LABEL_WIDTH, y,
            roof < width ? roof : width, dark[side], LABEL_WIDTH + width + 6,
            y + 10, us);
}


static void
print_row(FILE *out, const struct ax_compare_row *row, double y, double us_max)
{
    char layer[24] = "";

    if (row->layer != AX_COMPARE_ALL_LAYERS) {
        snprintf(layer, sizeof(layer), " layer %u", row->layer);
    }
    fprintf(out,
            "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s%s, %s</text>\n",
            LABEL_WIDTH - 8, y + 17, row->test, layer, row->op);
    for (uint32_t side = 0; side < 2; side++) {
        print_bar(out, &row->side[side], side, y + 2 + 14 * (double)side,
                  us_max);
    }
}


void
ax_compare_svg(FILE *out, const struct ax_compare *c,
               const char *const names[2])
{
    double us_max = 1e-9;

    for (uint32_t i = 0; i < c->n_rows; i++) {
        for (uint32_t side = 0; side < 2; side++) {
            double us = ax_compare_us(&c->rows[i].side[side]);
            us_max = us > us_max ? us : us_max;
        }
    }
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" "
            "height=\"%u\" font-family=\"sans-serif\" font-size=\"11\">\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
            WIDTH, HEAD_HEIGHT + ROW_HEIGHT * c->n_rows + 8);
    for (uint32_t side = 0; side < 2; side++) {
        fprintf(out,
                "<rect x=\"12\" y=\"%u\" width=\"12\" height=\"12\" "
                "fill=\"%s\"/>\n<text x=\"30\" y=\"%u\">%c: ",
                12 + 18 * side, light[side], 22 + 18 * side, 'A' + (int)side);
        print_text(out, names[side]);
        fprintf(out, "</text>\n");
    }
    fprintf(out,
            "<text x=\"%d\" y=\"22\">microseconds of a call; dark: what the "
            "roofline needs</text>\n",
            LABEL_WIDTH);
    for (uint32_t i = 0; i < c->n_rows; i++) {
        print_row(out, &c->rows[i], HEAD_HEIGHT + ROW_HEIGHT * (double)i,
                  us_max);
    }
    fprintf(out, "</svg>\n");
}
