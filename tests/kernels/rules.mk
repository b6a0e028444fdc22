# checkkernels: the kernels of every instruction set against the reference.

CHECKKERNELS_OBJS := $(patsubst %.c,$(BUILD)/%.o,$(addprefix tests/kernels/, \
                       checkkernels.c check_matmul.c check_ops.c \
                       check_attention.c bench.c))

$(BUILD)/tests/kernels/checkkernels: $(CHECKKERNELS_OBJS) \
                                     $(BUILD)/libaxion_kernels.a
$(BUILD)/tests/kernels/checkkernels: LDLIBS = -lcmocka -lm

KERNEL_TESTS += $(BUILD)/tests/kernels/checkkernels

$(BUILD)/tests/kernels/test_kernel_opcodes: \
    $(BUILD)/tests/kernels/test_kernel_opcodes.o \
    $(BUILD)/libaxion_kernels.a
$(BUILD)/tests/kernels/test_kernel_opcodes: LDLIBS = -lcmocka

KERNEL_TESTS += $(BUILD)/tests/kernels/test_kernel_opcodes

# A script beside the programs, and what it runs.
E2E_TESTS += tests/kernels/test_other_cpus.sh
test-e2e: $(BUILD)/tests/kernels/checkkernels
