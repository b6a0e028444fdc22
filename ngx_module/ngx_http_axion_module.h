/*
 * What the files of the nginx module share.  One request under axion_pass:
 *
 *   _access.c    ACCESS phase: who asks (no tenant: 401)
 *   _handler.c   method and path, the body, parsing, refusals
 *   _route.c     which engine, and which model where another may stand in
 *   _dispatch.c  submit, start over when an engine is lost
 *   _wait.c      requests that wait for an engine, or for its room
 *   _upstream.c  one channel per worker and engine: connect, drain, lose
 *   _join.c      engines that join and leave while nginx runs
 *   _stream.c    events of the ring → output chains, back-pressure, timers
 *   _output.c    the chains themselves, recycled; what the client takes
 *   _remote.c    which remote, where no engine can or should; _call.c asks it
 *   _error.c     whole answers and refusals as JSON
 *   _filter.c    nginx's own refusals as JSON, X-Request-Id
 *   _log.c       LOG phase: the counters of _zone.c
 *   _observe.c   counters by model, which _vllm.c writes
 *
 * Life.  Configuration (upstreams, engines, tenants) lives in the cycle's
 * pool; an engine's second half belongs to the worker that forked with it.
 * A request's context lives in its pool; its cleanup handler cancels the
 * stream and takes the context out of every queue and timer, so nothing
 * outside ever keeps a pointer to a request that is gone.
 *
 * Timers.  Every request in flight holds a timer that is not cancelable (an
 * exiting worker waits only for those), every other timer is cancelable.
 */
#ifndef _NGX_HTTP_AXION_MODULE_H_INCLUDED_
#define _NGX_HTTP_AXION_MODULE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "api/balances.h"
#include "api/cache.h"
#include "api/error.h"
#include "api/json.h"
#include "api/jwt.h"
#include "api/key.h"
#include "api/memory.h"
#include "api/metrics.h"
#include "api/models.h"
#include "api/request.h"
#include "api/response.h"
#include "api/route.h"
#include "api/tenant.h"
#include "api/tenant_params.h"
#include "api/tenants_file.h"
#include "shm/client.h"
#include "shm/errors.h"


#define NGX_HTTP_AXION_ENGINES_MAX   64
#define NGX_HTTP_AXION_ENGINE_NAME   113  /* "unix:", sun_path */
#define NGX_HTTP_AXION_CHUNK_BYTES   4096
#define NGX_HTTP_AXION_BODY_MAX      (32 * 1024 * 1024)
#define NGX_HTTP_AXION_ANSWER_MAX    (16 * 1024 * 1024)
#define NGX_HTTP_AXION_TRIES_MAX     3
#define NGX_HTTP_AXION_STREAMS       1024
#define NGX_HTTP_AXION_GAPS          112
#define NGX_HTTP_AXION_FALLBACKS_MAX 8


typedef struct ngx_http_axion_call_s      ngx_http_axion_call_t;
typedef struct ngx_http_axion_ctx_s       ngx_http_axion_ctx_t;
typedef struct ngx_http_axion_left_s      ngx_http_axion_left_t;
typedef struct ngx_http_axion_main_conf_s ngx_http_axion_main_conf_t;
typedef struct ngx_http_axion_model_s     ngx_http_axion_model_t;
typedef struct ngx_http_axion_pattern_s   ngx_http_axion_pattern_t;
typedef struct ngx_http_axion_quota_s     ngx_http_axion_quota_t;
typedef struct ngx_http_axion_remote_s    ngx_http_axion_remote_t;
typedef struct ngx_http_axion_shared_s    ngx_http_axion_shared_t;
typedef struct ngx_http_axion_stats_s     ngx_http_axion_stats_t;
typedef struct ngx_http_axion_tenants_file_s ngx_http_axion_tenants_file_t;
typedef struct ngx_http_axion_verifier_s  ngx_http_axion_verifier_t;
typedef struct ngx_http_axion_zone_s      ngx_http_axion_zone_t;


typedef enum {
    NGX_HTTP_AXION_CHAT = 0,
    NGX_HTTP_AXION_COMPLETION,
    NGX_HTTP_AXION_MODELS,
    NGX_HTTP_AXION_MODEL,
    NGX_HTTP_AXION_OTHER,
    NGX_HTTP_AXION_ENDPOINTS
} ngx_http_axion_endpoint_e;


typedef enum {
    NGX_HTTP_AXION_READING = 0,  /* nothing is asked of an engine yet */
    NGX_HTTP_AXION_QUEUED,       /* for a limit of its tenant */
    NGX_HTTP_AXION_WAITING,      /* for an engine, in amcf->waiting */
    NGX_HTTP_AXION_SUBMITTED,    /* ACCEPTED or ERROR is outstanding */
    NGX_HTTP_AXION_ACCEPTED,     /* tokens come */
    NGX_HTTP_AXION_ENDED         /* the last event is seen, or given up */
} ngx_http_axion_state_e;


typedef enum {
    NGX_HTTP_AXION_DOWN = 0,
    NGX_HTTP_AXION_CONNECTING,
    NGX_HTTP_AXION_UP
} ngx_http_axion_link_e;


/* Counters of one engine, in the shared zone. */
typedef struct {
    u_char                       name[128];
    ngx_atomic_t                 connects;
    ngx_atomic_t                 connect_failures;
    ngx_atomic_t                 losses;
    ngx_atomic_t                 stalls;
    ngx_atomic_t                 protocol_errors;
    ngx_atomic_t                 seen;       /* when it was here, if joined */
} ngx_http_axion_engine_stats_t;


typedef struct {
    ngx_str_t                      name;     /* "unix:/run/axion/a.sock" */
    ngx_http_axion_engine_stats_t *stats;
    ngx_http_axion_main_conf_t    *main;

    /* the worker's own */
    struct axion_client           *client;
    ngx_connection_t              *connection;
    ngx_event_t                    timer;    /* reconnect, handshake, watch */
    ngx_event_t                    wake;     /* submissions of this turn */
    ngx_queue_t                    streams;  /* ctx->link */
    ngx_queue_t                    starving; /* ctx->room */
    ngx_http_axion_left_t         *left;     /* by slot of the stream */
    uint64_t                       number;   /* of its name */
    uint64_t                       up_ns;    /* when the channel came up */
    uint64_t                       journal_ns;   /* since a record waits */
    ngx_msec_t                     backoff;
    ngx_msec_t                     silent;   /* work pending, no progress */
    ngx_msec_t                     watched;  /* when it was last looked at */
    uint64_t                       heartbeat;
    struct axion_board             board;    /* the last copy, if `seen` */
    ngx_msec_t                     board_read;
    ngx_queue_t                    spare;    /* once it left */
    int                            error;    /* why it is down */
    ngx_http_axion_link_e          link;
    unsigned                       seen:1;
    unsigned                       reported:1;
    unsigned                       broken:1; /* to be given up */
    unsigned                       came_ready:1; /* those who wait must know */
    unsigned                       joined:1; /* while nginx runs (_join.c) */
} ngx_http_axion_engine_t;


typedef struct {
    ngx_str_t                    name;
    ngx_array_t                  engines;    /* ngx_http_axion_engine_t * */
    ngx_uint_t                   n_listed;   /* of these; the others joined */
    ngx_uint_t                   n_patterns;
    ngx_array_t                  fallbacks;  /* ngx_http_axion_fallback_t */
    ngx_array_t                  remotes;    /* ngx_http_axion_remote_t * */
    size_t                       affinity;   /* bytes of a prompt; 0: off */
    ngx_uint_t                   turn;       /* round robin among equals */
    u_char                      *file_name;  /* of the first mention */
    ngx_uint_t                   line;
    unsigned                     defined:1;
    unsigned                     used:1;
    unsigned                     affinity_set:1;
} ngx_http_axion_upstream_t;


/* "fallback A B C": while nobody can take A, B does, or C. */
typedef struct {
    struct axion_text            models[NGX_HTTP_AXION_FALLBACKS_MAX];
    ngx_uint_t                   n_models;   /* the first is A */
} ngx_http_axion_fallback_t;


/* Chosen keys or tokens as a worker knows them, and jobs that find out
 * (_verify.c). */
typedef struct {
    struct axion_cache           cache;
    ngx_queue_t                  jobs;
    ngx_uint_t                   n_jobs;
    ngx_uint_t                   n_running;
} ngx_http_axion_known_t;


struct ngx_http_axion_main_conf_s {
    ngx_array_t                  upstreams;  /* ngx_http_axion_upstream_t * */
    ngx_array_t                  engines;    /* ngx_http_axion_engine_t * */
    ngx_array_t                  patterns;   /* ngx_http_axion_pattern_t * */
    ngx_array_t                  tenants;    /* struct axion_tenant *, all */
    ngx_array_t                  tenants_files; /* their objects, all */
    ngx_array_t                  jwts;       /* ngx_http_axion_jwt_t *, all */
    ngx_shm_zone_t              *shm_zone;
    ngx_http_axion_zone_t       *zone;
    ngx_int_t                    request_id; /* index of the variable */
    ngx_uint_t                   open;       /* axion_pass without tenants */
    ngx_uint_t                   n_remotes;  /* of all upstreams */
#if (NGX_THREADS)
    ngx_thread_pool_t           *thread_pool;
#endif
    ngx_cycle_t                 *cycle;
    ngx_array_t                  prices;     /* ngx_http_axion_price_t */
    ngx_str_t                    limit_state; /* path */
    ngx_http_axion_shared_t     *shared;     /* between configurations */
    struct axion_balances       *balances;   /* NULL: no tenants */
    ngx_http_axion_quota_t      *quota;      /* NULL: nothing is shared */
    unsigned                     used:1;
    unsigned                     may_choose:1; /* keys by Argon2id */
    unsigned                     has_tenants:1;

    /* the worker's own */
    ngx_queue_t                  spare;      /* engines that left */
    ngx_queue_t                  waiting;    /* ctx->link */
    ngx_queue_t                  dirty;      /* ctx->dirty */
    ngx_http_axion_known_t       chosen;
    ngx_http_axion_known_t       tokens;
    ngx_event_t                  look;       /* at boards of who loads */
    ngx_event_t                  burial;     /* of processes that died */
    unsigned                     limits_closed:1; /* refuse tenants */
};


/* What tells a file from the one before. */
typedef struct {
    dev_t                        device;
    ino_t                        inode;
    off_t                        size;
    struct timespec              modified;
    struct timespec              changed;
} ngx_http_axion_look_t;


/* A file that is re-read when it changes (_watch.c). */
typedef struct {
    ngx_str_t                    name;
    ngx_msec_t                   interval;
    ngx_http_axion_look_t        read;       /* the last one tried */
    ngx_http_axion_look_t        seen;       /* at the last look */
    ngx_err_t                    err;        /* why it cannot be read */
    ngx_event_t                  timer;      /* the worker's own */
} ngx_http_axion_watch_t;


/* axion_jwt */
typedef struct {
    ngx_http_axion_watch_t       watch;      /* of the JWK set */
    struct axion_jwt_rules       rules;
    struct axion_jwt_keys       *keys;
    ngx_uint_t                   generation; /* of `keys` */
    ngx_array_t                  issuers;    /* struct axion_text */
    ngx_array_t                  audiences;
} ngx_http_axion_jwt_t;


/* A generation of a tenants file. */
typedef struct {
    struct axion_tenants         set;
    ngx_pool_t                  *pool;
    ngx_uint_t                   refs;
} ngx_http_axion_tenants_t;


/* What one level of the configuration says of tenants; inherited whole. */
typedef struct {
    ngx_array_t                  list;       /* struct axion_tenant * */
    struct axion_tenants         blocks;     /* the set of `list` */
    ngx_http_axion_tenants_file_t *file;     /* NULL: none */
    unsigned                     built:1;
} ngx_http_axion_level_t;


typedef struct {
    ngx_http_axion_upstream_t   *upstream;   /* axion_pass */
    ngx_http_axion_upstream_t   *status;     /* axion_status NAME */
    ngx_http_axion_level_t      *level;      /* NULL: open to all */
    ngx_array_t                 *jwts;       /* ngx_http_axion_jwt_t * */
    ngx_array_t                 *trusted;    /* ngx_cidr_t */
    ngx_http_complex_value_t    *tenant_from;
    ngx_http_handler_pt          handler;    /* ours, of this location */
    ngx_msec_t                   connect_timeout;
    ngx_msec_t                   accept_timeout;
    ngx_msec_t                   stall_timeout;
    ngx_msec_t                   idle_timeout;
    ngx_msec_t                   first_timeout;   /* 0: none */
    ngx_msec_t                   keepalive_ping;  /* 0: off */
    size_t                       buffer;
    ngx_flag_t                   limit_dry_run;
    ngx_uint_t                   line;
    u_char                      *file_name;
    unsigned                     timeout_set:1;
    unsigned                     vllm_compat:1;     /* of axion_metrics */
} ngx_http_axion_loc_conf_t;


struct ngx_http_axion_ctx_s {
    ngx_http_request_t          *request;
    ngx_http_axion_main_conf_t  *main;
    ngx_http_axion_loc_conf_t   *conf;
    struct axion_identity        who;        /* who.tenant NULL: nobody */
    ngx_http_axion_tenants_t    *held;       /* that was asked for `who` */
    const char                  *via;        /* how `who` is known */
    const char                  *stranger;   /* why nobody, for the 401 */

    /* what is to be tried in a thread: a chosen key for the tenant that is
     * claimed, or a token by the keys of `jwt` */
    const ngx_http_axion_verifier_t *verifier;
    const struct axion_tenant   *claimed;
    ngx_http_axion_jwt_t        *jwt;
    struct axion_text            secret;
    struct axion_cache_digest    question;
    ngx_queue_t                  chosen;     /* if `verifying`, of a job */
    ngx_uint_t                   verifications;

    ngx_http_axion_endpoint_e    endpoint;
    ngx_str_t                    id;         /* of /models/{id} */

    ngx_http_axion_state_e       state;
    ngx_http_axion_engine_t     *engine;     /* while it has our stream */
    ngx_http_axion_engine_t     *starves_for; /* whose room it waits for */
    ngx_str_t                    engine_name;
    struct axion_text            asked;      /* before any fallback */
    struct axion_text            stand_in;   /* what a remote is asked for */
    struct axion_text            payload_model; /* what an engine would be */
    ngx_http_axion_call_t       *call;       /* while a remote has it */
    uint64_t                     remotes_tried; /* bits */
    struct axion_failure        *refusal;    /* if parsed.remote_only */
    uint64_t                     prefix;     /* names the prompt's; 0: none */
    axion_stream_id              stream;
    ngx_uint_t                   tries;
    ngx_msec_t                   deadline;   /* of waiting */
    ngx_msec_t                   poll;       /* while waiting; 0: no need */
    int                          waits_for;  /* the error if it never comes */
    ngx_queue_t                  link;
    ngx_queue_t                  room;       /* if `starves_for` */
    ngx_queue_t                  dirty;
    ngx_event_t                  timer;

    struct axion_memory          memory;     /* the request's pool */
    ngx_pool_t                  *scratch;    /* body and payload */
    struct axion_parsed          parsed;
    struct axion_response        response;
    struct axion_out             answer;     /* not streamed: grows here */
    struct axion_failure         failure;
    struct axion_cq_done         usage;
    ngx_http_axion_model_t      *model;      /* its counters, once accepted */

    /* output of a stream: filled → busy → free, never more than needed */
    ngx_chain_t                 *filled;
    ngx_chain_t                **last;
    ngx_chain_t                 *busy;
    ngx_chain_t                 *free;
    ngx_buf_t                   *tail;       /* the last of `filled` */
    ngx_msec_t                   arrived;    /* time of the whole body */
    ngx_msec_t                   written;    /* time of the last output */
    ngx_msec_t                   behind;     /* until when; 0: client is not */

    uint64_t                     started_us;
    uint64_t                     first_us;
    uint64_t                     last_us;
    uint32_t                     tokens;     /* seen so far */
    uint16_t                     gaps[NGX_HTTP_AXION_GAPS]; /* _latency.c */

    /* limits: _limits.c, _lease.c */
    struct axion_lease           lease;      /* id 0: none */
    uint64_t                     granted;    /* tokens of it */
    uint64_t                     wanted;     /* what the engine asked for */
    uint64_t                     cost;       /* once settled */
    struct axion_verdict         verdict;    /* the last one */
    ngx_msec_t                   limit_deadline; /* of waiting for a limit */
    uint32_t                     need_prompt; /* tokens, the engine says */
    ngx_uint_t                   regrown;
    enum axion_limit_kind        cut;        /* what ends the stream */
    void                        *share;      /* it waits for; NULL: none */
    ngx_queue_t                  lacking;    /* if `share` */

    unsigned                     tenant_known:1;
    unsigned                     decided:1;  /* the late handler has run */
    unsigned                     token:1;    /* a JWT was sent */
    unsigned                     broken:1;   /* no memory to find out who */
    unsigned                     unverified:1; /* `question` is open */
    unsigned                     verifying:1;
    unsigned                     limit_waited:1;  /* deadline is set */
    unsigned                     limit_refused:1;
    unsigned                     quota_away:1; /* that is what cut it */
    unsigned                     parked:1;   /* waits for a top-up */
    unsigned                     regrow:1;   /* need_prompt is new */
    unsigned                     settled:1;  /* cost is valid */
    unsigned                     own:1;      /* the header is ours */
    unsigned                     header_sent:1; /* of a stream */
    unsigned                     routed:1;   /* `asked`, `prefix` */
    unsigned                     undecided:1; /* an engine shakes hands */
    unsigned                     spilled:1;  /* no engine has room for it */
    unsigned                     too_long:1; /* for a remote that has it */
    unsigned                     unlisted:1; /* the model is a client's word */
    unsigned                     linked:1;   /* waiting, or with an engine */
    unsigned                     queued:1;   /* in main->dirty */
    unsigned                     retry:1;    /* refused, may be sent again */
    unsigned                     waited:1;   /* `deadline` is set */
    unsigned                     active:1;   /* counted as a live stream */
    unsigned                     paused:1;
    unsigned                     begun:1;    /* first chunk is written */
    unsigned                     finished:1; /* DONE was seen */
    unsigned                     accepted:1; /* usage.prompt_tokens is valid */
    unsigned                     replace:1;  /* nginx's page → JSON */
    unsigned                     replaced:1;
};


/* The one place that knows nginx versions: 1.23 made headers linked lists. */
#if (nginx_version >= 1023000)
#define ngx_http_axion_single_header(h)  (h)->next = NULL
#else
#define ngx_http_axion_single_header(h)
#endif


extern ngx_module_t  ngx_http_axion_module;


/* _conf.c */
void *ngx_http_axion_create_main_conf(ngx_conf_t *cf);
char *ngx_http_axion_init_main_conf(ngx_conf_t *cf, void *conf);
void *ngx_http_axion_create_loc_conf(ngx_conf_t *cf);
char *ngx_http_axion_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
char *ngx_http_axion_pass(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_axion_timeout(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_axion_keepalive_ping(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_axion_buffer(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_axion_metrics(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_axion_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/* _blocks.c */
ngx_http_axion_upstream_t *ngx_http_axion_find_upstream(ngx_conf_t *cf,
    ngx_str_t *name);
char *ngx_http_axion_upstream(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_axion_parse_block(ngx_conf_t *cf,
    char *(*handler)(ngx_conf_t *cf, ngx_command_t *dummy, void *conf),
    void *conf);

/* _tenants.c */
char *ngx_http_axion_tenant(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
ngx_http_axion_level_t *ngx_http_axion_level(ngx_conf_t *cf,
    ngx_http_axion_loc_conf_t *alcf);
ngx_int_t ngx_http_axion_build_level(ngx_conf_t *cf,
    ngx_http_axion_level_t *level);

/* _zone.c: counters that all workers share */
ngx_int_t ngx_http_axion_add_zone(ngx_conf_t *cf,
    ngx_http_axion_main_conf_t *amcf);
void ngx_http_axion_realm(ngx_http_axion_ctx_t *ctx, u_char *salt);
void ngx_http_axion_zone_join(ngx_http_axion_main_conf_t *amcf,
    ngx_http_axion_engine_t *engine);
void ngx_http_axion_zone_touch(ngx_http_axion_engine_t *engine);
void ngx_http_axion_zone_start(ngx_http_axion_main_conf_t *amcf);
ngx_http_axion_stats_t *ngx_http_axion_stats(
    ngx_http_axion_main_conf_t *amcf);
void ngx_http_axion_count_tenants(ngx_http_axion_main_conf_t *amcf,
    ngx_uint_t good);
void ngx_http_axion_count_error(ngx_http_axion_main_conf_t *amcf, int error);
void ngx_http_axion_count_stream(ngx_http_axion_ctx_t *ctx, ngx_int_t by);

/* _observe.c: counters by model */
ngx_http_axion_model_t *ngx_http_axion_find_model(
    ngx_http_axion_main_conf_t *amcf, const char *name, size_t len);
ngx_uint_t ngx_http_axion_knows_model(ngx_http_axion_main_conf_t *amcf,
    const struct axion_text *name);
void ngx_http_axion_observe_accepted(ngx_http_axion_ctx_t *ctx);
void ngx_http_axion_observe_tokens(ngx_http_axion_ctx_t *ctx,
    uint64_t previous_us, uint32_t n_tokens);
void ngx_http_axion_observe_done(ngx_http_axion_ctx_t *ctx);
void ngx_http_axion_observe_left(ngx_http_axion_ctx_t *ctx);

/* _latency.c */
void ngx_http_axion_note_tokens(ngx_http_axion_ctx_t *ctx, uint32_t n);
uint64_t ngx_http_axion_gap_p99(ngx_http_axion_ctx_t *ctx);

/* _vllm.c: axion_metrics vllm_compat */
void ngx_http_axion_metrics_vllm(struct axion_out *out,
    ngx_http_axion_main_conf_t *amcf);

/* _upstream.c */
void ngx_http_axion_engine_init(ngx_http_axion_main_conf_t *amcf,
    ngx_http_axion_engine_t *engine);
void ngx_http_axion_engine_connect(ngx_http_axion_engine_t *engine);
void ngx_http_axion_engine_close(ngx_http_axion_engine_t *engine);
void ngx_http_axion_engine_retry(ngx_http_axion_engine_t *engine,
    int error);
void ngx_http_axion_engine_watch(ngx_http_axion_engine_t *engine,
    ngx_msec_t stall);
ngx_int_t ngx_http_axion_engine_board(ngx_http_axion_engine_t *engine);

/* _join.c: engines that join and leave */
ngx_uint_t ngx_http_axion_is_pattern(ngx_str_t *name);
char *ngx_http_axion_add_pattern(ngx_conf_t *cf,
    ngx_http_axion_upstream_t *upstream);
void ngx_http_axion_start_patterns(ngx_http_axion_main_conf_t *amcf);
void ngx_http_axion_patterns_status(struct axion_json *json,
    ngx_http_axion_main_conf_t *amcf, ngx_http_axion_upstream_t *upstream);

/* _route.c */
ngx_uint_t ngx_http_axion_undecided(ngx_http_axion_upstream_t *upstream);
ngx_uint_t ngx_http_axion_stand_in(ngx_http_axion_ctx_t *ctx);
void ngx_http_axion_count_fallback(ngx_http_axion_ctx_t *ctx);
ngx_http_axion_engine_t *ngx_http_axion_route(ngx_http_axion_ctx_t *ctx,
    int *error);

/* _dispatch.c */
void ngx_http_axion_dispatch(ngx_http_axion_ctx_t *ctx);
void ngx_http_axion_engine_lost(ngx_http_axion_engine_t *engine, int error);
void ngx_http_axion_unlink(ngx_http_axion_ctx_t *ctx);
void ngx_http_axion_detach(ngx_http_axion_ctx_t *ctx);

/* _wait.c */
void ngx_http_axion_starve(ngx_http_axion_ctx_t *ctx,
    ngx_http_axion_engine_t *engine);
void ngx_http_axion_wait(ngx_http_axion_ctx_t *ctx, int waits_for,
    ngx_uint_t retry);
void ngx_http_axion_wait_expired(ngx_http_axion_ctx_t *ctx);
void ngx_http_axion_dispatch_waiting(ngx_http_axion_engine_t *engine);
void ngx_http_axion_dispatch_starving(ngx_http_axion_engine_t *engine);
void ngx_http_axion_look_later(ngx_http_axion_main_conf_t *amcf);

/* _access.c */
ngx_http_axion_ctx_t *ngx_http_axion_get_ctx(ngx_http_request_t *r);
struct axion_identity *ngx_http_axion_identify(ngx_http_request_t *r);
const struct axion_tenant *ngx_http_axion_find_tenant(
    ngx_http_axion_ctx_t *ctx, const char *name, size_t bytes);
void ngx_http_axion_let_in(ngx_http_axion_ctx_t *ctx,
    const struct axion_tenant *tenant, const struct axion_key *key);
ngx_int_t ngx_http_axion_preaccess_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_axion_access_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_axion_late_access_handler(ngx_http_request_t *r);

struct axion_text ngx_http_axion_find_header(ngx_http_request_t *r,
    const char *lowcase);
struct axion_text ngx_http_axion_count_header(ngx_http_request_t *r,
    const char *lowcase, ngx_uint_t *n);

/* _watch.c */
char *ngx_http_axion_watch_interval(ngx_conf_t *cf, ngx_str_t *arg,
    ngx_msec_t *interval);
char *ngx_http_axion_read_watched(const ngx_http_axion_watch_t *watch,
    size_t bytes_max, ngx_http_axion_look_t *look, size_t *bytes,
    ngx_err_t *err);
ngx_uint_t ngx_http_axion_refuse_watched(ngx_http_axion_watch_t *watch,
    const ngx_http_axion_look_t *look, ngx_err_t err, const char *fault,
    ngx_uint_t line, ngx_uint_t kept, ngx_log_t *log);
ngx_uint_t ngx_http_axion_start_watch(ngx_http_axion_watch_t *watch,
    ngx_event_handler_pt handler, void *data, ngx_log_t *log);
ngx_int_t ngx_http_axion_look_again(ngx_http_axion_watch_t *watch,
    ngx_log_t *log);

/* _keep.c: the last good version of a file */
ngx_int_t ngx_http_axion_keep_open(ngx_pool_t *pool, int *fd);
void ngx_http_axion_keep_text(int fd, const char *text, size_t bytes);
char *ngx_http_axion_kept(int fd, size_t bytes_max, size_t *bytes);

/* _tenants_file.c */
char *ngx_http_axion_tenants(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_axion_init_tenants_files(ngx_conf_t *cf,
    ngx_http_axion_main_conf_t *amcf);
void ngx_http_axion_watch_tenants(ngx_http_axion_main_conf_t *amcf,
    ngx_log_t *log);
size_t ngx_http_axion_count_file_tenants(ngx_http_axion_main_conf_t *amcf);
const struct axion_tenants *ngx_http_axion_tenants_of(
    ngx_http_axion_tenants_file_t *file);
ngx_http_axion_tenants_t *ngx_http_axion_hold_tenants(ngx_http_request_t *r,
    ngx_http_axion_tenants_file_t *file);

/* _jwt.c */
char *ngx_http_axion_jwt(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
ngx_int_t ngx_http_axion_open_jwts(ngx_http_axion_main_conf_t *amcf,
    ngx_pool_t *pool, ngx_log_t *log);
ngx_int_t ngx_http_axion_by_token(ngx_http_axion_ctx_t *ctx,
    const struct axion_text *token);

/* _trust.c */
char *ngx_http_axion_tenant_from(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_axion_trust_headers(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_int_t ngx_http_axion_by_others(ngx_http_axion_ctx_t *ctx);
void ngx_http_axion_heed_peer(ngx_http_axion_ctx_t *ctx);

/* _verify.c: in threads */
char *ngx_http_axion_verify_pool(ngx_conf_t *cf,
    ngx_http_axion_main_conf_t *amcf);
ngx_int_t ngx_http_axion_wait_for_key(ngx_http_axion_ctx_t *ctx);

/* _chosen.c: keys by Argon2id */
void ngx_http_axion_forget_chosen(ngx_http_axion_main_conf_t *amcf);
char *ngx_http_axion_chosen_pool(ngx_conf_t *cf,
    ngx_http_axion_main_conf_t *amcf);
ngx_int_t ngx_http_axion_open_chosen(ngx_http_axion_main_conf_t *amcf,
    ngx_pool_t *pool);
void ngx_http_axion_by_chosen_key(ngx_http_axion_ctx_t *ctx,
    const struct axion_text *key);

/* _handler.c */
ngx_int_t ngx_http_axion_handler(ngx_http_request_t *r);

/* _body.c */
ngx_int_t ngx_http_axion_body(ngx_http_request_t *r, ngx_pool_t *pool,
    ngx_str_t *body);

/* _stream.c */
void ngx_http_axion_event(ngx_http_axion_ctx_t *ctx,
    const struct axion_event *event);
void ngx_http_axion_flush_dirty(ngx_http_axion_main_conf_t *amcf);
void ngx_http_axion_fail(ngx_http_axion_ctx_t *ctx);
void ngx_http_axion_finalize(ngx_http_axion_ctx_t *ctx, ngx_int_t rc);

/* _timer.c */
void ngx_http_axion_timer(ngx_event_t *ev);
void ngx_http_axion_set_timer(ngx_http_axion_ctx_t *ctx);

/* _output.c */
ngx_buf_t *ngx_http_axion_room(ngx_http_axion_ctx_t *ctx, size_t bytes);
ngx_int_t ngx_http_axion_begin(ngx_http_axion_ctx_t *ctx);
void ngx_http_axion_text_out(ngx_http_axion_ctx_t *ctx, const char *text,
    size_t bytes);
ngx_int_t ngx_http_axion_stream_header(ngx_http_axion_ctx_t *ctx);
ngx_int_t ngx_http_axion_flush(ngx_http_axion_ctx_t *ctx, ngx_uint_t last);
void ngx_http_axion_write_timer(ngx_http_axion_ctx_t *ctx);
void ngx_http_axion_write_handler(ngx_http_request_t *r);

/* _error.c */
ngx_int_t ngx_http_axion_send(ngx_http_request_t *r, ngx_uint_t status,
    const char *type, const struct axion_out *out);
void ngx_http_axion_note_failure(ngx_http_axion_ctx_t *ctx,
    const char *where);
ngx_int_t ngx_http_axion_send_failure(ngx_http_axion_ctx_t *ctx);
ngx_int_t ngx_http_axion_refuse(ngx_http_axion_ctx_t *ctx, int error,
    const char *message);
ngx_int_t ngx_http_axion_add_header(ngx_http_request_t *r, const char *name,
    const char *value, size_t len);
ngx_int_t ngx_http_axion_default_header(ngx_http_request_t *r,
    const char *name, const char *value, size_t len);

/* _filter.c */
ngx_int_t ngx_http_axion_init_filters(ngx_conf_t *cf);

/* _models.c */
ngx_int_t ngx_http_axion_send_models(ngx_http_axion_ctx_t *ctx);

/* _vars.c */
ngx_int_t ngx_http_axion_add_variables(ngx_conf_t *cf);

/* _metrics.c, _status.c, _log.c: handlers */
ngx_int_t ngx_http_axion_metrics_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_axion_status_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_axion_log_handler(ngx_http_request_t *r);

/* _util.c */
struct axion_memory ngx_http_axion_memory(ngx_pool_t *pool);
uint64_t ngx_http_axion_now_us(void);
void ngx_http_axion_random(void *out, size_t bytes);
ngx_int_t ngx_http_axion_secret_file(ngx_conf_t *cf, ngx_str_t *path,
    ngx_str_t *secret);
ngx_uint_t ngx_http_axion_log_level(int error);
struct axion_text ngx_http_axion_text(const ngx_str_t *str);


#endif /* _NGX_HTTP_AXION_MODULE_H_INCLUDED_ */
