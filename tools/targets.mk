# The targets a user types.  Recipes live in tools/*.sh, so that they can be
# read and run alone.

.PHONY: help deps model model-gemma all demo check test-style test-unit test-ring \
        test-kernels test-nginx test-e2e asan ubsan tsan asan-ubsan \
        sanitized fuzz fuzzers bench install clean test-package

MAKEFLAGS += --no-print-directory

# What the scripts and tests see.
export BUILD VENV PYTHON

RUN = tools/run-tests.sh

STYLE_TESTS := tests/style/test_style.py tests/docs/test_docs.py
NGINX_TESTS := $(sort $(wildcard t/*.t tests/nginx/test_*.py))
# Threads meet in the ring, in the engine's pools, where weights are packed and
# around its loop; TSan runs those.  A pattern of make has one wildcard, so the
# words are looked for.
WORDS_OF_THREADS := thread pool queue server_ helper packing prefault
TSAN_TESTS = $(filter-out $(TSAN_SKIP) %.sh,$(RING_TESTS) \
    $(foreach test,$(UNIT_TESTS),$(if $(strip $(foreach word, \
    $(WORDS_OF_THREADS),$(findstring $(word),$(notdir $(test))))),$(test))))
FUZZ_SECONDS ?= 60

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' \
	    tools/targets.mk

deps: ## install missing Debian packages and the test tools' .venv
	@tools/deps.sh

model: ## fetch SmolLM2-135M-Instruct (93 MB) into models/
	@tools/model.sh

model-gemma: ## fetch Gemma 3 270M (238 MB, its own licence), for tests alone
	@tools/model.sh gemma

all: $(PROGRAMS) ## build axiond, axion and the nginx module into build/

demo: ## a real model behind a real nginx, streamed by curl (KEEP=1 stays up)
	@tools/deps.sh build
	@tools/model.sh
	@$(MAKE) -j$$(nproc) all
	@tools/demo.sh

# AXION_GEMMA=0 make check does without Gemma; its tests are skipped then.
check: ## everything: deps, model, build, all suites, one summary line
	@MAKE='$(MAKE)' tools/check.sh

test-style: ## layering, file sizes, documented names
	@$(RUN) style $(STYLE_TESTS)

test-unit: $(UNIT_TESTS) ## unit tests of api, engine and text
	@$(RUN) unit $(UNIT_TESTS)

test-ring: $(RING_TESTS) ## the ring: bounds, stress, killed and hostile peers
	@$(RUN) ring $(RING_TESTS)

test-kernels: $(KERNEL_TESTS) ## every kernel of every ISA against the scalar
	@$(RUN) kernels $(KERNEL_TESTS)

test-nginx: all $(TEST_TOOLS) ## the module inside nginx (Test::Nginx files in t/)
	@tools/run-nginx-tests.sh $(NGINX_TESTS)

test-e2e: all $(TEST_TOOLS) ## clients against nginx, engine and the real model
	@$(RUN) e2e $(E2E_TESTS)

# Instrumented builds live in folders of their own and use tiny models only.
asan: ## unit, kernel and ring tests under AddressSanitizer
	@$(MAKE) BUILD=build-asan SAN=address sanitized

ubsan: ## unit, kernel and ring tests under UndefinedBehaviorSanitizer
	@$(MAKE) BUILD=build-ubsan SAN=undefined sanitized

asan-ubsan: ## both at once, as `make check` runs them
	@$(MAKE) -k BUILD=build-asan-ubsan SAN=address,undefined sanitized \
	    sanitized-nginx

tsan: ## ring and thread tests under ThreadSanitizer
	@$(MAKE) BUILD=build-tsan SAN=thread sanitized-threads

# Opcodes are those of the build that runs.
sanitized: $(UNIT_TESTS) $(KERNEL_TESTS) $(RING_TESTS)
	@AXION_TINY_ONLY=1 AXION_SANITIZED=1 $(RUN) \
	    $(subst $(comma),-,$(SAN)) $(UNIT_TESTS) \
	    $(filter-out %_opcodes,$(KERNEL_TESTS)) \
	    $(filter-out %.sh,$(RING_TESTS))

# The module in an nginx that is not instrumented: what streams, waits, reloads
# and lies, in well under a minute.
SANITIZED_NGINX_TESTS = $(wildcard $(patsubst %,t/%-*.t,010 040 050 060 070 \
    032 034 080 100 140 150)) $(patsubst %,tests/nginx/test_%.py,client_gone \
    hostile_engine http2 jwt limits limits_property routing tenants_file \
    waiting)

sanitized-nginx: $(NGINX_MODULE) $(TEST_TOOLS)
	@AXION_SUITE=nginx-$(subst $(comma),-,$(SAN)) \
	    TEST_NGINX_BINARY=$(CURDIR)/tools/nginx-sanitized.sh \
	    setarch -R tools/run-nginx-tests.sh $(SANITIZED_NGINX_TESTS)

sanitized-threads: $(TSAN_TESTS)
	@AXION_TINY_ONLY=1 AXION_SANITIZED=1 $(RUN) $(SAN) $(TSAN_TESTS)

comma := ,

# libFuzzer comes with clang; every fuzzer runs FUZZ_SECONDS on its corpus.
# clang warns of other things than gcc, and the style is held against gcc.
fuzz: ## run every fuzzer for FUZZ_SECONDS (60) with clang's libFuzzer
	@$(MAKE) BUILD=build-fuzz CC=clang CFLAGS='-O1 -g -Wno-error' \
	    SAN=fuzzer-no-link,address,undefined fuzzers

fuzzers: $(FUZZERS)
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tools/fuzz.sh $(FUZZERS)

# Kernels parse nothing, and clang needs minutes to instrument them.
ifneq ($(findstring fuzzer,$(SAN)),)
$(BUILD)/kernels/%.o: SANFLAGS :=
endif

$(FUZZERS):
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $(filter %.o,$^) \
	    $(filter %.a,$^) $(LDLIBS)

bench: all $(BENCHES) $(TEST_TOOLS) ## a short set of measurements, into bench/results/
	@tools/bench.sh $(BENCHES)

.PHONY: replay
replay: $(SIM_REPLAY) ## goodput on arrivals and lengths of public traces, no model
	$(SIM_REPLAY) $(or $(TRACE),all) $(or $(SCALE),8) $(or $(TENANTS),1)

# In this order: the second and third go on in the root that the first makes.
PACKAGE_TESTS := $(patsubst %,tests/ops/debian_%.sh,package units purge)

test-package: $(BUILD)/tests/tiny/tiny-model ## Debian packages in a clean root (root, network, minutes)
	@$(RUN) package $(PACKAGE_TESTS)

install: all ## install under PREFIX (/usr/local), DESTDIR for packages
	@tools/install.sh '$(DESTDIR)' '$(PREFIX)'

clean: ## remove what was built (models and the virtual environment stay)
	rm -rf build build-* $(CLEAN)

.PHONY: sanitized-threads sanitized-nginx
