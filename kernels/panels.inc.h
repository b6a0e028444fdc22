/*
 * From run_panel(), which the file that includes this has written, to a
 * matmul: panel_FORMAT is one copy of it with that format as a literal, and
 * matmul_panels() walks the panels with the matrix's.
 */

#include <assert.h>


static void
panel_f32(const struct axk_matmul *a, uint32_t row, const uint8_t *panel)
{
    run_panel(AXK_F32, a, row, panel);
}


static void
panel_f16(const struct axk_matmul *a, uint32_t row, const uint8_t *panel)
{
    run_panel(AXK_F16, a, row, panel);
}


static void
panel_bf16(const struct axk_matmul *a, uint32_t row, const uint8_t *panel)
{
    run_panel(AXK_BF16, a, row, panel);
}


static void
panel_q4_0(const struct axk_matmul *a, uint32_t row, const uint8_t *panel)
{
    run_panel(AXK_Q4_0, a, row, panel);
}


static void
panel_q4_1(const struct axk_matmul *a, uint32_t row, const uint8_t *panel)
{
    run_panel(AXK_Q4_1, a, row, panel);
}


static void
panel_q5_0(const struct axk_matmul *a, uint32_t row, const uint8_t *panel)
{
    run_panel(AXK_Q5_0, a, row, panel);
}


static void
panel_q5_1(const struct axk_matmul *a, uint32_t row, const uint8_t *panel)
{
    run_panel(AXK_Q5_1, a, row, panel);
}


static void
panel_q8_0(const struct axk_matmul *a, uint32_t row, const uint8_t *panel)
{
    run_panel(AXK_Q8_0, a, row, panel);
}


static void
panel_q2_k(const struct axk_matmul *a, uint32_t row, const uint8_t *panel)
{
    run_panel(AXK_Q2_K, a, row, panel);
}


static void
panel_q3_k(const struct axk_matmul *a, uint32_t row, const uint8_t *panel)
{
    run_panel(AXK_Q3_K, a, row, panel);
}


static void
panel_q4_k(const struct axk_matmul *a, uint32_t row, const uint8_t *panel)
{
    run_panel(AXK_Q4_K, a, row, panel);
}


static void
panel_q5_k(const struct axk_matmul *a, uint32_t row, const uint8_t *panel)
{
    run_panel(AXK_Q5_K, a, row, panel);
}


static void
panel_q6_k(const struct axk_matmul *a, uint32_t row, const uint8_t *panel)
{
    run_panel(AXK_Q6_K, a, row, panel);
}


static void
panel_iq4_nl(const struct axk_matmul *a, uint32_t row, const uint8_t *panel)
{
    run_panel(AXK_IQ4_NL, a, row, panel);
}


static void
panel_iq4_xs(const struct axk_matmul *a, uint32_t row, const uint8_t *panel)
{
    run_panel(AXK_IQ4_XS, a, row, panel);
}


static void
panel_mxfp4(const struct axk_matmul *a, uint32_t row, const uint8_t *panel)
{
    run_panel(AXK_MXFP4, a, row, panel);
}


static const struct {
    uint32_t format;
    void (*panel)(const struct axk_matmul *a, uint32_t row,
                  const uint8_t *panel);
} panels[] = {
    {AXK_F32, panel_f32},       {AXK_F16, panel_f16},
    {AXK_BF16, panel_bf16},     {AXK_Q4_0, panel_q4_0},
    {AXK_Q4_1, panel_q4_1},     {AXK_Q5_0, panel_q5_0},
    {AXK_Q5_1, panel_q5_1},     {AXK_Q8_0, panel_q8_0},
    {AXK_Q2_K, panel_q2_k},     {AXK_Q3_K, panel_q3_k},
    {AXK_Q4_K, panel_q4_k},     {AXK_Q5_K, panel_q5_k},
    {AXK_Q6_K, panel_q6_k},     {AXK_IQ4_NL, panel_iq4_nl},
    {AXK_IQ4_XS, panel_iq4_xs}, {AXK_MXFP4, panel_mxfp4},
};


static void
matmul_panels(const struct axk_matmul *a, uint32_t row0, uint32_t row1)
{
    const struct axk_format_traits *f = axk_format_traits(a->format);
    size_t panel_bytes = (a->k / f->block_elems) * panel_block_bytes(a->format);
    const uint8_t *panel =
        (const uint8_t *)a->w + row0 / AXK_PANEL_ROWS * panel_bytes;
    size_t i = 0;

    while (panels[i].format != a->format) {
        i++;
        assert(i < sizeof(panels) / sizeof(panels[0]));
    }
    for (uint32_t row = row0; row < row1; row += AXK_PANEL_ROWS) {
        panels[i].panel(a, row, panel);
        panel += panel_bytes;
    }
}
