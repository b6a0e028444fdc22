# api: what gateways share and no server knows.  Needs jansson and sodium.

API_OBJS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard api/*.c))
API_LIBS := -ljansson -lsodium

$(BUILD)/libaxion_api.a: $(API_OBJS)
