# The targets a user types.  Recipes live in tools/*.sh, so that they can be
# read and run alone.

.PHONY: help deps model all demo check test-unit test-ring test-kernels \
        test-nginx test-e2e asan ubsan tsan fuzz bench install clean

all: $(PROGRAMS) ## build axiond, axion and the nginx module into build/

clean: ## remove what was built (models and the virtual environment stay)
	rm -rf build $(CLEAN)
