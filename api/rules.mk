# api: what gateways share and no server knows.  Needs jansson, sodium, and
# jose where tokens are verified, hiredis for quotas shared between nodes.

API_OBJS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard api/*.c))
API_LIBS := -lhiredis -ljose -ljansson -lsodium

$(BUILD)/libaxion_api.a: $(API_OBJS)
