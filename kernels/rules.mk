# libaxion_kernels.a.  Only the objects of one instruction set get its flags;
# they are entered through their table, never directly.

KERNELS_SRCS := kernels/format.c kernels/pack.c kernels/file_blocks.c \
                kernels/math.c kernels/kv_q8.c kernels/kv_fetch.c \
                kernels/select.c kernels/scalar.c kernels/scalar_matmul.c \
                kernels/scalar_attention.c kernels/scalar_bf16.c
KERNELS_AVX2_SRCS   := kernels/avx2.c kernels/matmul_avx2.c
KERNELS_AVXVNNI_SRCS := kernels/matmul_avxvnni.c
KERNELS_AVX512_SRCS := kernels/avx512.c kernels/matmul_avx512.c
KERNELS_BF16_SRCS := kernels/matmul_avx512_bf16.c
KERNELS_AMX_SRCS := kernels/matmul_amx.c
KERNELS_AMX_BF16_SRCS := kernels/matmul_amx_bf16.c

KERNELS_NEON_SRCS   := kernels/matmul_neon.c
KERNELS_I8MM_SRCS   := kernels/matmul_neon_i8mm.c

KERNELS_OBJS        := $(KERNELS_SRCS:%.c=$(BUILD)/%.o)
KERNELS_AVX2_OBJS   := $(KERNELS_AVX2_SRCS:%.c=$(BUILD)/%.o)
KERNELS_AVXVNNI_OBJS := $(KERNELS_AVXVNNI_SRCS:%.c=$(BUILD)/%.o)
KERNELS_AVX512_OBJS := $(KERNELS_AVX512_SRCS:%.c=$(BUILD)/%.o)
KERNELS_BF16_OBJS := $(KERNELS_BF16_SRCS:%.c=$(BUILD)/%.o)
KERNELS_AMX_OBJS := $(KERNELS_AMX_SRCS:%.c=$(BUILD)/%.o)
KERNELS_AMX_BF16_OBJS := $(KERNELS_AMX_BF16_SRCS:%.c=$(BUILD)/%.o)

# One reduction order: nothing may be contracted or reordered.  Instrumented,
# -O3 takes minutes a file.
KERNELS_FLAGS := $(if $(SAN),-O1 -fno-var-tracking,-O3) -ffp-contract=off \
                 -fno-math-errno
KERNELS_AVX2_FLAGS   := -mavx2 -mfma -mf16c -mtune=znver3
KERNELS_AVXVNNI_FLAGS := $(KERNELS_AVX2_FLAGS) -mavxvnni
KERNELS_AVX512_FLAGS := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni \
                        -mfma -mf16c -mtune=znver3 -mprefer-vector-width=512
KERNELS_BF16_FLAGS := $(KERNELS_AVX512_FLAGS) -mavx512bf16
KERNELS_AMX_FLAGS := $(KERNELS_AVX512_FLAGS) -mamx-tile -mamx-int8
KERNELS_AMX_BF16_FLAGS := $(KERNELS_BF16_FLAGS) -mamx-tile -mamx-bf16

$(KERNELS_OBJS): CFLAGS_EXTRA = $(KERNELS_FLAGS)
$(KERNELS_AVX2_OBJS): CFLAGS_EXTRA = $(KERNELS_FLAGS) $(KERNELS_AVX2_FLAGS)
$(KERNELS_AVXVNNI_OBJS): CFLAGS_EXTRA = $(KERNELS_FLAGS) \
                                        $(KERNELS_AVXVNNI_FLAGS)
$(KERNELS_AVX512_OBJS): CFLAGS_EXTRA = $(KERNELS_FLAGS) $(KERNELS_AVX512_FLAGS)
$(KERNELS_BF16_OBJS): CFLAGS_EXTRA = $(KERNELS_FLAGS) $(KERNELS_BF16_FLAGS)
$(KERNELS_AMX_OBJS): CFLAGS_EXTRA = $(KERNELS_FLAGS) $(KERNELS_AMX_FLAGS)
$(KERNELS_AMX_BF16_OBJS): CFLAGS_EXTRA = $(KERNELS_FLAGS) \
                                         $(KERNELS_AMX_BF16_FLAGS)

# Run by no test of ours, their twins are: not worth instrumenting.
$(KERNELS_AVXVNNI_OBJS) $(KERNELS_AMX_OBJS) $(KERNELS_AMX_BF16_OBJS): \
    SANFLAGS :=

KERNELS_ALL_OBJS := $(KERNELS_OBJS)
KERNELS_ARCH := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))

ifeq ($(KERNELS_ARCH),x86_64)
KERNELS_ALL_OBJS += $(KERNELS_AVX2_OBJS) $(KERNELS_AVXVNNI_OBJS) \
                    $(KERNELS_AVX512_OBJS) $(KERNELS_BF16_OBJS) \
                    $(KERNELS_AMX_OBJS) $(KERNELS_AMX_BF16_OBJS)
endif
ifeq ($(KERNELS_ARCH),aarch64)
KERNELS_NEON_OBJS := $(KERNELS_NEON_SRCS:%.c=$(BUILD)/%.o)
KERNELS_I8MM_OBJS := $(KERNELS_I8MM_SRCS:%.c=$(BUILD)/%.o)
$(KERNELS_NEON_OBJS): CFLAGS_EXTRA = $(KERNELS_FLAGS) -march=armv8.2-a+dotprod
$(KERNELS_I8MM_OBJS): CFLAGS_EXTRA = $(KERNELS_FLAGS) \
                                     -march=armv8.2-a+dotprod+i8mm
KERNELS_ALL_OBJS += $(KERNELS_NEON_OBJS) $(KERNELS_I8MM_OBJS)
endif

$(BUILD)/libaxion_kernels.a: $(KERNELS_ALL_OBJS)
