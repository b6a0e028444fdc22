# Axion: one non-recursive make.  Every folder adds its own rules.mk; this
# file has the toolchain, the pattern rules and the targets a user types.
# `make help` lists them.

.DEFAULT_GOAL := all
MAKEFLAGS += --no-builtin-rules

BUILD  ?= build
CC      = gcc
AR      = ar
PYTHON ?= python3
VENV    = .venv
PREFIX ?= /usr/local

VERSION := 0.1.0

# SAN=address,undefined or SAN=thread builds everything instrumented; give it
# a BUILD of its own.
SAN      ?=
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -DAXION_SANITIZED -fno-omit-frame-pointer \
              -fno-sanitize-recover=all)

WARN    := -Wall -Wextra -Wpointer-arith -Wstrict-prototypes \
           -Wmissing-prototypes -Wshadow -Wvla -Werror
# CPPFLAGS, CFLAGS and LDFLAGS are the builder's, as dpkg-buildflags sets them.
CFLAGS  ?= -O2 -g
CFLAGS_ALL = -std=gnu11 $(CPPFLAGS) $(CFLAGS) $(WARN) $(SANFLAGS) -fPIC -pthread -I. \
             -DAXION_VERSION='"$(VERSION)"' -D_GNU_SOURCE -MMD -MP
LDFLAGS_ALL = $(LDFLAGS) $(SANFLAGS) -pthread

# What the folders add to, see docs/architecture.md "Build":
#   LIBS_<name>   are static libraries, build/lib<name>.a
#   UNIT_TESTS    programs (cmocka) run by test-unit, exit 77 = skipped
#   RING_TESTS    programs run by test-ring
#   KERNEL_TESTS  programs run by test-kernels
#   E2E_TESTS     commands run by test-e2e
#   PROGRAMS      what `make all` builds
#   BENCHES       programs that `make bench` builds and runs
#   FUZZERS       libFuzzer programs (clang), run by fuzz
#   TEST_TOOLS    programs that tests run, but that are no tests
#   TSAN_SKIP     ring and thread tests that `make tsan` leaves out
UNIT_TESTS   :=
RING_TESTS   :=
KERNEL_TESTS :=
E2E_TESTS    :=
PROGRAMS     :=
BENCHES      :=
FUZZERS      :=
TEST_TOOLS   :=
TSAN_SKIP    :=
CLEAN        :=

include $(sort $(wildcard shm/rules.mk kernels/rules.mk api/rules.mk \
          engine/rules.mk ngx_module/rules.mk sidecar/rules.mk \
          tools/rules.mk bench/rules.mk tests/*/rules.mk t/rules.mk))

# One line a file; V=1 shows whole commands.
V   ?= 0
Q   := $(if $(filter 0,$(V)),@)
say  = $(if $(filter 0,$(V)),@printf '  %-4s %s\n' $(1) $@)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(CFLAGS_ALL) $(CFLAGS_EXTRA) -c -o $@ $<

$(BUILD)/%.a:
	@mkdir -p $(@D)
	@rm -f $@
	$(call say,AR)
	$(Q)$(AR) rcs $@ $^

# A program is its objects, then libraries in link order, then LDLIBS.
$(PROGRAMS) $(UNIT_TESTS) $(RING_TESTS) $(KERNEL_TESTS) $(BENCHES) \
$(TEST_TOOLS):
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LDLIBS)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

include tools/targets.mk
