/*
 * Loading, from the start to the last word about it.
 *
 *   LOAD_FILE     the loader thread opens the engine; requests are refused
 *   LOAD_PACKING  READY: the model's own threads pack its weights, steps follow
 *                 layer by layer (engine/model/packing.h)
 *   LOAD_TIMING   all is packed; steps are timed when there is no request, or
 *                 the first token is out: until then nothing is drafted and
 *                 no prompt cut by time.  A first request that comes while
 *                 they are puts it off
 *   LOAD_DONE     the log tells what there is
 *
 * The service manager hears READY when all is packed.  With a draft model,
 * which has a part in the same memory, all of it comes before READY.  Weights
 * that turn out to be no good behind READY end the engine as they would before:
 * one line, all requests told, exit status 1.
 */
#include "engine/server/server_private.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "engine/model/packing.h"
#include "engine/pool/arena.h"
#include "engine/pool/place.h"


static void
note_progress(void *context, uint32_t permille)
{
    struct ax_server *s = context;
    atomic_store(&s->load_permille, permille);
}


/* The last piece is packed, on whatever thread, or packing has failed. */
static void
note_packed(void *context)
{
    struct ax_server *s = context;
    uint64_t one = 1;
    if (write(s->packed_fd, &one, sizeof(one)) < 0) {
        abort(); /* as below */
    }
}


static bool
may_pack(void *context, uint32_t layer)
{
    const struct ax_server *s = context;
    return s->options.pace.may_pack(s->options.pace.context, layer);
}


/* On the loader's thread: writes `loaded`, `draft` and `load_error`, which
 * thread 0 reads after joining it. */
static void *
load_main(void *context)
{
    struct ax_server *s = context;
    uint64_t one = 1;
    (void)ax_server_load(s, &s->load_error); /* thread 0 looks at `loaded` */
    if (write(s->loaded_fd, &one, sizeof(one)) < 0) {
        abort(); /* a fresh eventfd takes a 1 */
    }
    return NULL;
}


static bool
speculates(const struct ax_server *s)
{
    return s->options.proposer.propose != NULL ||
           ax_spec_kind(s->options.speculate) != AX_SPEC_OFF;
}


int
ax_server_start_loading(struct ax_server *s, struct ax_error *err)
{
    const struct ax_server_options *o = &s->options;
    s->load_options = (struct ax_engine_options){
        .path = o->model,
        .isa = o->isa,
        .alias = o->alias,
        .threads = o->threads,
        .ctx = o->ctx,
        .kv_bytes = o->kv_memory,
        .kv_type = o->kv_type,
        .counters = s->profile != NULL,
        .shared_prefix = o->shared_prefix,
        .batch_tokens = o->max_batch,
        .sequences = o->max_sequences,
        .draft_rows = speculates(s) ? DRAFT_ROWS : 0,
        .calibrate_us = o->draft != NULL ? CALIBRATE_US : 0,
        .behind = o->draft == NULL,
        .packed = note_packed,
        .may_pack = o->pace.may_pack != NULL ? may_pack : NULL,
        .progress = note_progress,
        .context = s,
    };
    ax_arena_want_huge(o->huge_pages != 0);
    ax_log(s->log, AXION_LOG_notice, "loading %s", o->model);
    ax_server_tell_manager(s, NULL, "loading %s", o->model);
    if (pthread_create(&s->loader, NULL, load_main, s) != 0) {
        return ax_error_set(err, AXION_ERR_SYSTEM,
                            "cannot start the loader thread");
    }
    s->loader_runs = true;
    return AXION_OK;
}


static void
log_speculation(const struct ax_server *s)
{
    const struct ax_cost *cost = &s->engine->cost;
    if (speculates(s)) {
        ax_log(s->log, AXION_LOG_notice,
               "speculation: %s, up to %u drafts, %.0f MB reserved; a step of "
               "1, 2, 4, 8, 16 tokens takes %.0f, %.0f, %.0f, %.0f, %.0f us",
               s->options.speculate, s->options.draft_max,
               (double)ax_spec_bytes(s->spec) / 1e6, ax_cost_of(cost, 1),
               ax_cost_of(cost, 2), ax_cost_of(cost, 4), ax_cost_of(cost, 8),
               ax_cost_of(cost, 16));
    }
    if (s->draft != NULL) {
        const struct ax_model_info *info = ax_draft_model_info(s->draft);
        ax_log(s->log, AXION_LOG_notice,
               "draft model \"%s\": %s, %.1f M parameters, %s", info->name,
               info->architecture, (double)info->n_params / 1e6,
               info->weight_format);
    }
}


static void
log_huge_pages(const struct ax_server *s)
{
    uint64_t with, without;
    ax_arena_huge_bytes(&with, &without);
    if (s->options.huge_pages && without > 0) {
        ax_log(s->log, AXION_LOG_warn,
               "--huge-pages: %.0f MB on them, for %.0f MB vm.nr_hugepages has "
               "too few left: the kernel's choice of pages there",
               (double)with / 1e6, (double)without / 1e6);
    } else if (s->options.huge_pages) {
        ax_log(s->log, AXION_LOG_notice, "%.0f MB on huge pages",
               (double)with / 1e6);
    }
}


static void
log_engine(const struct ax_server *s)
{
    const struct ax_engine *e = s->engine;
    ax_log(s->log, AXION_LOG_notice,
           "model \"%s\": %s, %.1f M parameters, %s, %u layers, "
           "vocabulary %u, %.1f MB of weights %s in %.2f s, %.0f MB resident",
           e->id, e->info->architecture, (double)e->info->n_params / 1e6,
           e->info->weight_format, e->info->n_layer, e->info->n_vocab,
           (double)e->info->weight_bytes / 1e6,
           e->info->mapped ? "mapped" : "packed",
           (double)e->info->load_us / 1e6,
           (double)s->board.resident_bytes / 1e6);
    ax_log(s->log, AXION_LOG_notice,
           "%u threads, %s; context %u of %u, KV %.0f MB (%s) in %u blocks of "
           "%u tokens, %u tokens and %u sequences a step",
           e->threads, e->info->isa_reason, e->ctx, e->info->n_ctx_train,
           (double)ax_kv_block_bytes(e->kv) * ax_kv_blocks_total(e->kv) / 1e6,
           axk_kv_type_name(ax_kv_shape(e->kv).type), ax_kv_blocks_total(e->kv),
           AX_KV_BLOCK_TOKENS, e->batch_tokens, e->sequences);
    if (e->shared_prefix != NULL) {
        ax_log(s->log, AXION_LOG_notice,
               "%s: all tenants share its first %u tokens in chats, %u in "
               "completions",
               s->options.shared_prefix,
               ax_shared_prefix_chat_tokens(e->shared_prefix),
               ax_shared_prefix_text_tokens(e->shared_prefix));
    }
    log_speculation(s);
    log_huge_pages(s);
    if (e->chat_template == NULL) {
        ax_log(s->log, AXION_LOG_warn, "chat requests will be refused: %s",
               e->template_note);
    }
}


/* What is not brought in comes with its use, all of it where there is no
 * thread for that. */
static void
start_prefault(struct ax_server *s)
{
    struct ax_kv *kv = s->engine->kv;
    const char *part = s->options.kv_prefault;
    uint32_t divisor = strcmp(part, "all") == 0 ? 1 : 8;
    const struct ax_prefault_what what = {
        .kv = kv,
        .bytes =
            (uint64_t)ax_kv_blocks_total(kv) * ax_kv_block_bytes(kv) / divisor,
        .draft = s->draft,
        .draft_bytes =
            s->draft != NULL ? ax_draft_model_kv_bytes(s->draft) / divisor : 0,
    };
    if (strcmp(part, "off") == 0) {
        return;
    }
    int rc = ax_prefault_open(&s->prefault, &what);
    if (rc != AXION_OK) {
        ax_log(s->log, AXION_LOG_warn,
               "no pages of KV are brought in ahead: %s",
               axion_error_info(rc)->name);
    }
}


/* This thread is the pool's thread 0 from here on. */
static int
place_threads(struct ax_server *s)
{
    struct ax_placement placement;
    ax_placement_init(&placement, s->options.pin != 0, s->options.realtime);
    return ax_pool_place(ax_exec_pool(s->engine->exec), &placement,
                         &s->load_error);
}


/* Its file, or what it has of memory and threads, is no good. */
static void
give_no_engine(struct ax_server *s, int rc)
{
    ax_log(s->log, AXION_LOG_crit, "cannot load the model: %s",
           s->load_error.text);
    ax_server_tell_manager(s, NULL, "cannot load the model: %s",
                           s->load_error.text);
    s->state = AXION_ENGINE_FAILED;
    s->result = rc;
}


/* The service manager, which may stop another engine now, is told at last. */
static void
be_packed(struct ax_server *s)
{
    s->load = LOAD_TIMING;
    ax_server_tell_manager(s, "READY=1", "serving \"%s\" on %s", s->engine->id,
                           s->listen_path);
}


/* Steps are timed, or were at the start. */
static void
be_loaded(struct ax_server *s)
{
    s->load = LOAD_DONE;
    s->resident_stale = true;
    if (ax_server_give_costs(s) != AXION_OK) {
        ax_log(s->log, AXION_LOG_warn,
               "what steps cost is out of order: chunks of prompts are not "
               "cut by time");
    }
    ax_server_board_model(s);
    log_engine(s);
    ax_server_announce(s);
}


static void
be_ready(struct ax_server *s)
{
    const struct ax_packing *packing = ax_model_packing(s->engine->model);
    s->state = AXION_ENGINE_READY;
    s->load =
        s->load_options.behind && packing != NULL ? LOAD_PACKING : LOAD_TIMING;
    ax_server_board_model(s);
    ax_server_announce(s);
    if (s->load == LOAD_PACKING) {
        ax_log(s->log, AXION_LOG_notice,
               "ready on %s, %u of %u layers are packed", s->listen_path,
               ax_packing_layers(packing), s->engine->info->n_layer);
    } else {
        ax_log(s->log, AXION_LOG_notice, "ready on %s", s->listen_path);
    }
    if (s->load == LOAD_PACKING) {
        ax_server_tell_manager(s, NULL, "packing; takes requests on %s",
                               s->listen_path);
        (void)ax_server_packing_failed(s); /* it may be over already */
        return;
    }
    be_packed(s);
    if (!s->load_options.behind) {
        be_loaded(s);
    }
}


void
ax_server_on_loaded(struct ax_server *s, struct source *source)
{
    uint64_t count;
    (void)source;
    if (read(s->loaded_fd, &count, sizeof(count)) < 0) {
        return;
    }
    pthread_join(s->loader, NULL);
    s->loader_runs = false;
    s->engine = s->loaded;
    int rc = s->engine != NULL ? ax_server_requests_open(s, &s->load_error)
                               : s->load_error.number;
    if (rc == AXION_OK) {
        start_prefault(s);
        rc = place_threads(s);
    }
    if (rc == AXION_OK) {
        rc = ax_server_profile_begin(s, &s->load_error);
    }
    if (rc == AXION_OK) {
        be_ready(s);
        return;
    }
    give_no_engine(s, rc);
    ax_prefault_close(s->prefault);
    ax_engine_close(s->engine);
    ax_draft_model_close(s->draft);
    s->prefault = NULL;
    s->engine = NULL;
    s->draft = NULL;
    s->ended = true;
}


bool
ax_server_packing_failed(struct ax_server *s)
{
    if (s->load != LOAD_PACKING ||
        !ax_packing_over(ax_model_packing(s->engine->model))) {
        return false;
    }
    int rc = ax_model_wait(s->engine->model, &s->load_error);
    if (rc == AXION_OK) {
        be_packed(s);
        return false;
    }
    s->load = LOAD_DONE;
    give_no_engine(s, rc);
    ax_server_give_up(s, "the engine cannot load its model");
    return true;
}


bool
ax_server_waits_in_vain(struct ax_server *s)
{
    ax_server_take_signals(s);
    ax_server_let_in(s);
    return s->state == AXION_ENGINE_DRAINING &&
           ax_server_now_us() >= s->drain_deadline_us;
}


void
ax_server_on_packed(struct ax_server *s, struct source *source)
{
    uint64_t count;
    (void)source;
    if (read(s->packed_fd, &count, sizeof(count)) > 0 && s->engine != NULL) {
        (void)ax_server_packing_failed(s);
    }
}


static bool
first_token_is_waited_for(const struct ax_server *s)
{
    return s->n_live > 0 && s->board.completion_tokens_total == 0;
}


/* Between the layers of timed steps, as between those of others. */
static int
while_timing(void *context, uint32_t layer)
{
    struct ax_server *s = context;
    ax_server_between_layers(s);
    if (layer == 0) { /* system calls: not in every layer's time */
        (void)ax_server_waits_in_vain(s);
    }
    return s->ended || s->state != AXION_ENGINE_READY ||
                   first_token_is_waited_for(s)
               ? AXION_AGAIN
               : 0;
}


bool
ax_server_time_steps(struct ax_server *s, bool runnable)
{
    if (s->state != AXION_ENGINE_READY || first_token_is_waited_for(s) ||
        (runnable && s->time_when_idle)) {
        return false;
    }
    struct ax_error err;
    const struct ax_calibrate_options options = {CALIBRATE_US, while_timing, s};
    int rc = ax_engine_calibrate(s->engine, &options, &err);
    if (rc == AXION_AGAIN) {
        return false;
    }
    if (rc == AXION_ERR_KV_EXHAUSTED && s->n_live > 0) {
        s->time_when_idle = true; /* theirs leaves none for the timing */
        return false;
    }
    if (rc != AXION_OK) {
        ax_log(s->log, AXION_LOG_warn,
               "steps cannot be timed: %s; there will be no drafts", err.text);
    }
    be_loaded(s);
    return true;
}
