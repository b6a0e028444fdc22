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
 * Ascending: a cap allows its own level and those before it.  One that was
 * never run on a CPU that has it (avxvnni's code was in another encoding,
 * neon's under an emulator) is taken only when it is asked for by name.
 */
static const struct {
    const char *isa;
    bool (*supported)(void);
    bool only_by_name;
    const struct axk_ops *ops;
} levels[] = {
    {"scalar", always, false, &axk_ops_scalar},
#if defined(__x86_64__)
    {"avx2", has_avx2, false, &axk_ops_avx2},
    {"avxvnni", has_avxvnni, true, &axk_ops_avxvnni},
    {"avx512", has_avx512, false, &axk_ops_avx512},
#elif defined(__aarch64__)
    {"neon", has_neon_dotprod, true, &axk_ops_neon},
    {"neon-i8mm", has_neon_i8mm, true, &axk_ops_neon_i8mm},
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
           (levels[best].only_by_name && !(capped && best == top))) {
        best--;
    }
    if (why != NULL) {
        snprintf(why, size, "%s%s%s", levels[best].isa,
                 capped ? ", capped at " : "", capped ? cap : "");
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
