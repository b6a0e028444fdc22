# ngx_module: nginx's dynamic module, built by nginx's own configure (Debian's
# nginx-dev: headers, configure and Debian's flags; no .c file of nginx is
# needed).  configure runs once for each set of source files; after that
# nginx's Makefile is called, which knows the headers' dependencies.
# NGINX_SRC may name another tree of the same version.

NGINX_SRC     ?= /usr/share/nginx/src
NGINX_BUILD   := $(abspath $(BUILD))/nginx
NGINX_MODULE  := $(BUILD)/ngx_http_axion_module.so
NGINX_SOURCES := $(wildcard ngx_module/*.c api/*.c shm/*.c)
NGINX_HEADERS := $(wildcard ngx_module/*.h api/*.h shm/*.h shm/*.def)

all: $(NGINX_MODULE)

NGINX_CC_OPT  := $(strip $(CPPFLAGS) $(CFLAGS) $(SANFLAGS))
NGINX_LD_OPT  := $(strip $(LDFLAGS) $(SANFLAGS))
NGINX_INPUTS  := $(NGINX_SOURCES) $(NGINX_HEADERS) $(NGINX_SRC) \
                 $(NGINX_CC_OPT) $(NGINX_LD_OPT)

# Changes only when a source file or header is added or removed, or with the builder's
# flags: then configure anew.
$(NGINX_BUILD)/sources: FORCE
	@mkdir -p $(@D)
	@echo '$(NGINX_INPUTS)' | cmp -s - $@ || echo '$(NGINX_INPUTS)' > $@

$(NGINX_BUILD)/Makefile: config ngx_module/configure.sh $(NGINX_BUILD)/sources
	ngx_module/configure.sh "$(NGINX_SRC)" "$(NGINX_BUILD)" \
	    "$(NGINX_CC_OPT)" "$(NGINX_LD_OPT)"

$(NGINX_MODULE): $(NGINX_BUILD)/Makefile $(NGINX_SOURCES) $(NGINX_HEADERS)
	@cd "$(NGINX_SRC)" && $(MAKE) -s --no-print-directory \
	    -f "$(NGINX_BUILD)/Makefile" modules
	@cp "$(NGINX_BUILD)/ngx_http_axion_module.so" $@.tmp && mv $@.tmp $@

.PHONY: FORCE
FORCE:
