/* axiond's options: parsed, shown by --help and held against
 * docs/options.md by tests/server. */
#include "engine/server/loop.h"
#include "engine/server/server.h"

#define AT(field) offsetof(struct ax_server_options, field)

const struct ax_option ax_server_option_table[] = {
    {"model", AX_OPTION_TEXT, AT(model), "FILE", NULL,
     "the GGUF file to serve; required", 0, 0, NULL, 0},
    {"listen", AX_OPTION_TEXT, AT(listen), "unix:PATH[,mode=][,group=]", NULL,
     "the socket of gateways; required, unless one is passed", 0, 0, NULL, 0},
    {"allow-uid", AX_OPTION_UIDS, AT(allow_uid), "UID", "any",
     "accept gateways of this user only; may be repeated", 0, 0, NULL, 0},
    {"alias", AX_OPTION_TEXT, AT(alias), "NAME", "the file's name",
     "the model's id for clients", 0, 0, NULL, 0},
    {"threads", AX_OPTION_NUMBER, AT(threads), "N", "one per CPU",
     "compute threads", 1, 512, NULL, 0},
    {"kv-memory", AX_OPTION_SIZE, AT(kv_memory), "SIZE",
     "a quarter of memory, at most 1g", "memory for keys and values", 1 << 20,
     1e15, NULL, 0},
    {"shared-prefix", AX_OPTION_TEXT, AT(shared_prefix), "FILE", NULL,
     "a text that all tenants may find in the prefix cache", 0, 0, NULL, 0},
    {"kv-type", AX_OPTION_CHOICE, AT(kv_type), "NAME", "f16",
     "how keys and values are kept; q8_0 takes about half the memory", 0, 0,
     "f16|q8_0", 0},
    {"ctx", AX_OPTION_NUMBER, AT(ctx), "N", "the model's, as KV allows",
     "longest context of a request, in tokens", 16, 1 << 24, NULL, 0},
    {"max-batch", AX_OPTION_NUMBER, AT(max_batch), "N", "256",
     "tokens computed in one step", 1, 16384, NULL, 0},
    {"max-sequences", AX_OPTION_NUMBER, AT(max_sequences), "N", "64",
     "requests computed in one step", 1, 4096, NULL, 0},
    {"max-queue", AX_OPTION_NUMBER, AT(max_queue), "N", "512",
     "requests that may wait", 1, 65536, NULL, 0},
    {"max-queue-tokens", AX_OPTION_SIZE, AT(max_queue_tokens), "N", "256k",
     "prompt tokens that may wait", 1, 1e12, NULL, 0},
    {"tpot-target", AX_OPTION_TIME, AT(tpot_target_ms), "TIME",
     "twice a step of the decodes alone, at least 30ms",
     "how long decodes may wait for a step that prompts share", 1, 60000, NULL,
     0},
    {"speculate", AX_OPTION_CHOICE, AT(speculate), "NAME",
     "draft with --draft, else suffix", "where drafts come from", 0, 0,
     AX_SPEC_KINDS, 0},
    {"draft", AX_OPTION_TEXT, AT(draft), "FILE", NULL,
     "a smaller model with the same tokenizer", 0, 0, NULL, 0},
    {"model-draft", AX_OPTION_TEXT, AT(draft), "FILE", NULL,
     "the same, by llama.cpp's name", 0, 0, NULL, 0},
    {"draft-max", AX_OPTION_NUMBER, AT(draft_max), "N", "16",
     "drafts of a request in one step", 1, AX_SPEC_DRAFT_MAX, NULL, 0},
    {"isa", AX_OPTION_CHOICE, AT(isa), "NAME", "auto",
     "cap the instruction set", 0, 0,
     "auto|scalar|avx2|avxvnni|avx512|neon|neon-i8mm", 0},
    {"event-loop", AX_OPTION_CHOICE, AT(event_loop), "NAME", "auto",
     "how to wait for events", 0, 0, AX_LOOP_KINDS, 0},
    {"drain-timeout", AX_OPTION_TIME, AT(drain_timeout_ms), "TIME", "30s",
     "how long running requests may take after SIGTERM", 0, 86400000, NULL, 0},
    {"profile", AX_OPTION_TEXT, AT(profile), "FILE", NULL,
     "time, bytes and operations of every layer, as CSV at the end", 0, 0, NULL,
     0},
    {"log-level", AX_OPTION_CHOICE, AT(log_level), "LEVEL", "notice",
     "the least that is logged", 0, 0, AX_LOG_LEVELS, 0},
    {"version", AX_OPTION_FLAG, AT(version), NULL, NULL,
     "print the version and exit", 0, 0, NULL, 0},
    {"help", AX_OPTION_FLAG, AT(help), NULL, NULL, "print this and exit", 0, 0,
     NULL, 0},
    {NULL, AX_OPTION_FLAG, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};


void
ax_server_defaults(struct ax_server_options *options)
{
    *options = (struct ax_server_options){
        .event_loop = "auto",
        .isa = "auto",
        .kv_type = "f16",
        .draft_max = 16,
        .log_level = "notice",
        .listen_fd = -1,
        .max_batch = 256,
        .max_sequences = 64,
        .max_queue = 512,
        .max_queue_tokens = 256 << 10,
        .drain_timeout_ms = 30000,
    };
}
