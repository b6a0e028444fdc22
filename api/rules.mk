# api: what gateways share and no server knows.  Needs jansson, sodium, and
# jose where tokens are verified.

API_OBJS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard api/*.c))
API_LIBS := -ljose -ljansson -lsodium

$(BUILD)/libaxion_api.a: $(API_OBJS)
