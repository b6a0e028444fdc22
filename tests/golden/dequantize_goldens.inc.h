/* Made by make_dequantize_goldens.py with gguf 0.19.0. */

static const struct golden_hash golden_hashes[] = {
    {AXK_Q4_0, 0x65872d33b5833093},
    {AXK_Q4_1, 0x2ca444f78dab07ec},
    {AXK_Q5_0, 0xc114bcfa9a4557be},
    {AXK_Q5_1, 0xe03d89f976b557c9},
    {AXK_Q8_0, 0xcd1361040c3adf76},
    {AXK_Q2_K, 0x680b3d05b8e961bb},
    {AXK_Q3_K, 0x135cbf0ce273cb72},
    {AXK_Q4_K, 0x2f543cde22725e00},
    {AXK_Q5_K, 0x43305773540717f1},
    {AXK_Q6_K, 0xa53cbd5cdaacd6a8},
    {AXK_IQ4_NL, 0xe4ed32d84e483863},
    {AXK_IQ4_XS, 0xf8c0ebb651d8d99b},
    {AXK_MXFP4, 0x9d29b1dacc185160},
    {AXK_F16, 0xbe07a42b7dde7edc},
    {AXK_BF16, 0x377d555123968b43},
};
