/*
 * The load board: what clients read to balance, to tell loading from ready,
 * and to notice an engine that stands still.  Published after every step and
 * at every change of state; the heartbeat counts with it.
 */
#include "engine/model/packing.h"
#include "engine/pool/arena.h"
#include "engine/server/server_private.h"

#include <time.h>
#include <unistd.h>

#define RATE_WINDOW_US 1000000u

_Static_assert(AX_ENGINE_ID_BYTES == AXION_NAME_BYTES, "ids on the board");


void
ax_server_board_open(struct ax_server *s)
{
    struct axion_board *b = &s->board;
    b->state = AXION_ENGINE_LOADING;
    b->engine_pid = (uint64_t)getpid();
    b->started = (uint64_t)time(NULL);
    s->rate_since_us = ax_server_now_us();
    /* While it loads a gateway can tell "loading" from "no such model". */
    char file_id[AX_ENGINE_ID_BYTES];
    b->n_models = 1;
    ax_engine_names(s->options.model, s->options.alias, file_id,
                    b->models[0].id);
}


void
ax_server_board_model(struct ax_server *s)
{
    const struct ax_engine *e = s->engine;
    struct axion_board *b = &s->board;
    b->batch_max = e->sequences;
    b->kv_blocks_total = ax_kv_blocks_total(e->kv);
    b->kv_block_tokens = AX_KV_BLOCK_TOKENS;
    b->kv_bytes = ax_kv_block_bytes(e->kv) * b->kv_blocks_total;
    b->load_us = e->info->load_us;
    b->weight_bytes = e->info->weight_bytes;
    b->resident_bytes = ax_resident_bytes();
    b->activation_bytes = ax_exec_bytes(e->exec);
    b->logits_bytes = e->logits_bytes;
    b->speculation_bytes = ax_spec_bytes(s->spec);
    b->request_bytes = s->slots_memory_bytes;
    if (s->draft != NULL) {
        b->draft_kv_bytes = ax_draft_model_kv_bytes(s->draft);
        b->draft_weight_bytes = ax_draft_model_info(s->draft)->weight_bytes;
        b->activation_bytes += ax_draft_model_scratch_bytes(s->draft);
    }
    struct axion_board_model *m = &b->models[0];
    m->context_tokens = e->ctx;
    m->vocabulary = e->info->n_vocab;
    m->created = e->created;
    m->parameters = e->info->n_params;
}


/* Tokens per second over the last whole window. */
static void
update_rates(struct ax_server *s, uint64_t now_us)
{
    struct axion_board *b = &s->board;
    uint64_t us = now_us - s->rate_since_us;
    if (us < RATE_WINDOW_US) {
        return;
    }
    uint64_t answer = b->completion_tokens_total - s->rate_answer;
    uint64_t prompt = s->prefilled_total - s->rate_prompt;
    b->tokens_per_second_milli = (uint32_t)(answer * 1000000000ull / us);
    b->prefill_per_second_milli = (uint32_t)(prompt * 1000000000ull / us);
    s->rate_answer = b->completion_tokens_total;
    s->rate_prompt = s->prefilled_total;
    s->rate_since_us = now_us;
}


bool
ax_server_board_resident(struct ax_server *s)
{
    uint64_t now_us = s->resident_stale ? ax_server_now_us() : 0;
    if (!s->resident_stale || now_us - s->resident_since_us < RATE_WINDOW_US) {
        return false;
    }
    s->resident_since_us = now_us;
    s->resident_stale = false;
    s->board.resident_bytes = ax_resident_bytes();
    return true;
}


/* The last one is when it is as fast as it will be. */
static uint32_t
loaded_permille(const struct ax_server *s)
{
    const struct ax_packing *p = ax_model_packing(s->engine->model);
    uint32_t packed = p != NULL ? ax_packing_permille(p) : 1000;
    return s->load == LOAD_DONE || packed < 1000 ? packed : 999;
}


static void
publish_grammars(struct ax_server *s)
{
    struct axion_board *b = &s->board;
    struct ax_grammar_counts counts;
    ax_grammars_counts(s->grammars, &counts);
    b->grammars_kept = counts.kept;
    b->grammar_bytes = counts.bytes;
    b->grammar_hits_total = counts.hits;
    b->grammar_compiles_total = counts.compiles;
    b->grammar_masks_total = counts.masks;
    b->grammar_mask_us_total = counts.mask_ns / 1000;
}


void
ax_server_publish(struct ax_server *s)
{
    struct axion_board *b = &s->board;
    uint64_t now_us = ax_server_now_us();
    update_rates(s, now_us);
    b->state = s->state;
    b->heartbeat++;
    b->channels_open = s->n_conns;
    if (s->engine != NULL) {
        struct ax_sched_counts counts;
        ax_sched_counts(s->sched, &counts);
        b->running = counts.running;
        b->waiting = counts.waiting;
        b->parked = counts.parked;
        b->preemptions_total = counts.preemptions;
        b->kv_blocks_used = ax_kv_blocks_used(s->engine->kv);
        b->kv_blocks_cached = ax_kv_blocks_cached(s->engine->kv);
        b->kv_evicted_total = ax_kv_cache_counts(s->engine->kv).evicted_blocks;
        b->load_permille = loaded_permille(s);
        publish_grammars(s);
    } else {
        b->load_permille = atomic_load(&s->load_permille);
    }
    s->published_us = now_us;
    axion_board_publish(s->board_writer, b);
}
