# checkkernels: the kernels of every instruction set against the reference.

CHECKKERNELS_OBJS := $(patsubst %.c,$(BUILD)/%.o,$(addprefix tests/kernels/, \
                       checkkernels.c check_matmul.c check_ops.c \
                       check_attention.c bench.c))

# See the file: avxvnni in AVX-512's encoding.
AVXVNNI_TWIN := $(BUILD)/tests/kernels/matmul_avxvnni_evex.o

# The same for amx, over tile operations in C.
AMX_TWIN := $(BUILD)/tests/kernels/matmul_amx_emulated.o

AMX_BF16_TWIN := $(BUILD)/tests/kernels/matmul_amx_bf16_emulated.o

ifeq ($(KERNELS_ARCH),x86_64)
CHECKKERNELS_OBJS += $(AVXVNNI_TWIN) $(AMX_TWIN) $(AMX_BF16_TWIN)
endif

$(AMX_TWIN): CFLAGS_EXTRA = $(KERNELS_FLAGS) $(KERNELS_AVX512_FLAGS)
$(AMX_BF16_TWIN): CFLAGS_EXTRA = $(KERNELS_FLAGS) $(KERNELS_BF16_FLAGS)

$(AVXVNNI_TWIN): CFLAGS_EXTRA = $(KERNELS_FLAGS) $(KERNELS_AVX2_FLAGS) \
                                -mavx512vl -mavx512vnni

$(BUILD)/tests/kernels/checkkernels: $(CHECKKERNELS_OBJS) \
                                     $(BUILD)/libaxion_kernels.a
$(BUILD)/tests/kernels/checkkernels: LDLIBS = -lcmocka -lm

KERNEL_TESTS += $(BUILD)/tests/kernels/checkkernels

$(BUILD)/tests/kernels/test_kernel_opcodes: \
    $(BUILD)/tests/kernels/test_kernel_opcodes.o \
    $(BUILD)/libaxion_kernels.a
$(BUILD)/tests/kernels/test_kernel_opcodes: LDLIBS = -lcmocka

KERNEL_TESTS += $(BUILD)/tests/kernels/test_kernel_opcodes

PACK_LAYOUT_TEST := $(BUILD)/tests/kernels/test_pack_layout
KERNEL_TESTS += $(PACK_LAYOUT_TEST)

$(PACK_LAYOUT_TEST): %: %.o $(BUILD)/libaxion_kernels.a
$(PACK_LAYOUT_TEST): LDLIBS = -lcmocka

# A script beside the programs, and what it runs.
E2E_TESTS += tests/kernels/test_other_cpus.sh
test-e2e: $(BUILD)/tests/kernels/checkkernels
E2E_TESTS += tests/kernels/test_kernels_aarch64.py \
             tests/kernels/test_kernels_lesser_cpu.py
