/*
 * Which instruction set to run on, asked of the CPU once at start.  The only
 * file that decides it: no other code tests CPU features, and no ISA file is
 * entered except through the table returned here, so a lesser CPU never meets
 * an instruction it lacks.
 *
 * __builtin_cpu_supports reads cpuid and xgetbv, so a feature that the
 * operating system does not save counts as absent.
 */

#include <stdio.h>

#include "kernels/axk.h"
#include "kernels/internal.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif


static bool
always(void)
{
    return true;
}

#if defined(__x86_64__)

/* Not every compiler's builtin knows F16C; avx2 has vouched for the
 * operating system. */
static bool
has_f16c(void)
{
    unsigned int a;
    unsigned int b;
    unsigned int c;
    unsigned int d;

    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}


static bool
has_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           has_f16c();
}


/* AVX-VNNI: 256-bit dots in VEX encoding, on CPUs without AVX-512. */
static bool
has_avxvnni(void)
{
    unsigned int a = 0;
    unsigned int b;
    unsigned int c;
    unsigned int d;

    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) &&
           (a & 1u << 4) != 0;
}


static bool
has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}


static bool
has_avx512_bf16(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512bf16");
}


/* Both of arch/x86/include/uapi/asm/prctl.h; 18 is the tiles' data in XCR0. */
#define REQUEST_XCOMP_PERMISSION 0x1023
#define XFEATURE_TILE_DATA       18


static bool
has_leaf_7_edx(unsigned int bits)
{
    unsigned int a;
    unsigned int b;
    unsigned int c;
    unsigned int d;

    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & bits) == bits;
}


/*
 * AMX int8.  Linux saves the tiles (8 KiB to a thread) only of processes that
 * asked: the permission is the whole process's, for good, and asking again
 * does nothing.  A kernel before 5.16 does not know the request.
 */
static bool
has_amx(void)
{
    return has_avx512() && has_leaf_7_edx(1u << 24 | 1u << 25) &&
           syscall(SYS_arch_prctl, REQUEST_XCOMP_PERMISSION,
                   XFEATURE_TILE_DATA) == 0;
}


/* Activations are rounded by AVX512_BF16, the other formats take int8. */
static bool
has_amx_bf16(void)
{
    return has_avx512_bf16() && has_leaf_7_edx(1u << 22) && has_amx();
}

#elif defined(__aarch64__)

/* HWCAP_ASIMDDP and HWCAP2_I8MM of Linux's asm/hwcap.h. */
static bool
has_neon_dotprod(void)
{
    return (getauxval(AT_HWCAP) & 1ul << 20) != 0;
}


static bool
has_neon_i8mm(void)
{
    return has_neon_dotprod() && (getauxval(AT_HWCAP2) & 1ul << 13) != 0;
}

#endif

/*
 * Ascending: a cap allows its own level and those before it.  One with a note
 * is taken only when it is asked for by name, and the note is logged: its
 * results are another class (numerics), or its code was never run on a CPU that
 * has it (avxvnni's was in another encoding, neon's under an emulator, amx's
 * over tile operations in C).
 */
#define NEVER_RUN "its code was never run on such a machine"
#define BF16_DOT  "numerics bf16-dot for BF16 weights"
#define BF16_TILE "numerics bf16-tile for BF16 weights"

static const struct {
    const char *isa;
    bool (*supported)(void);
    const char *note;
    const struct axk_ops *ops;
} levels[] = {
    {"scalar", always, NULL, &axk_ops_scalar},
    {"scalar-bf16", always, BF16_DOT, &axk_ops_scalar_bf16},
    {"scalar-bf16-tile", always, BF16_TILE, &axk_ops_scalar_bf16_tile},
#if defined(__x86_64__)
    {"avx2", has_avx2, NULL, &axk_ops_avx2},
    {"avxvnni", has_avxvnni, NEVER_RUN, &axk_ops_avxvnni},
    {"avx512", has_avx512, NULL, &axk_ops_avx512},
    {"avx512-bf16", has_avx512_bf16, BF16_DOT, &axk_ops_avx512_bf16},
    {"amx", has_amx, NEVER_RUN, &axk_ops_amx},
    {"amx-bf16", has_amx_bf16, BF16_TILE "; " NEVER_RUN, &axk_ops_amx_bf16},
#elif defined(__aarch64__)
    {"neon", has_neon_dotprod, NEVER_RUN, &axk_ops_neon},
    {"neon-i8mm", has_neon_i8mm, NEVER_RUN, &axk_ops_neon_i8mm},
#endif
};

#define N_LEVELS (sizeof(levels) / sizeof(levels[0]))


const struct axk_ops *
axk_select(const char *cap, char *why, size_t size)
{
    size_t top = N_LEVELS - 1;
    bool capped = cap != NULL && strcmp(cap, "auto") != 0;

    if (capped) {
        for (top = 0; top < N_LEVELS; top++) {
            if (strcmp(levels[top].isa, cap) == 0) {
                break;
            }
        }
        if (top == N_LEVELS) {
            if (why != NULL) {
                snprintf(why, size, "unknown instruction set \"%.32s\"", cap);
            }
            return NULL;
        }
    }

    size_t best = top;
    while (!levels[best].supported() ||
           (levels[best].note != NULL && !(capped && best == top))) {
        best--;
    }
    if (why != NULL) {
        const char *note = levels[best].note;

        snprintf(why, size, "%s%s%s%s%s", levels[best].isa,
                 capped ? ", capped at " : "", capped ? cap : "",
                 note != NULL ? "; " : "", note != NULL ? note : "");
    }
    return levels[best].ops;
}


const struct axk_ops *
axk_ops_named(const char *isa)
{
    for (size_t i = 0; i < N_LEVELS; i++) {
        if (strcmp(levels[i].isa, isa) == 0) {
            return levels[i].supported() ? levels[i].ops : NULL;
        }
    }
    return NULL;
}


const char *
axk_isa_name(const struct axk_ops *ops)
{
    return ops->isa;
}
