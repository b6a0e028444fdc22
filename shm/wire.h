/*
 * The wire format of a channel, version 1: what lies in shared memory and
 * what the handshake sends.  Little endian, natural alignment, no pointers.
 *
 * One channel is one client process (an nginx worker, a sidecar thread, a
 * benchmark) and one engine, joined by a SOCK_SEQPACKET unix socket.
 *
 *   client                                   engine
 *     HELLO  + memfd of the region  ─────▶     checks seals, sizes, uid
 *            ◀─────  WELCOME + memfd of the load board   (or REFUSED)
 *            ◀─────  JOURNAL, with SETTLED as the answer  (with a gateway)
 *     SQ records                    ─────▶
 *            ◀─────  CQ records
 *     one byte (doorbell)           ◀────▶     only to a sleeping peer
 *
 * The region (made and sealed F_SEAL_SHRINK|GROW|SEAL by the client):
 *
 *   0      struct axion_region, one page
 *   4096   SQ: sq_entries records of 64 bytes
 *   then   CQ: cq_entries records of 64 bytes
 *   then   arena: arena_bytes, owned by the client; the payload of a SUBMIT
 *          lies there until the engine has copied it, which it does before
 *          sq_head passes the record
 *
 * Indexes are free-running 32 bit; the position in the array is
 * index & (entries - 1).  They start wherever the client puts them before
 * HELLO (head and tail equal in each ring): near the wrap, so that it is an
 * everyday event.  Neither side believes anything it reads here: a record is
 * copied out once, then checked, then used (DESIGN section 3).
 */
#ifndef AXION_SHM_WIRE_H
#define AXION_SHM_WIRE_H

#include <stddef.h>
#include <stdint.h>

#define AXION_WIRE_MAGIC    0x4e495841u /* "AXIN" */
#define AXION_WIRE_VERSION  1u
#define AXION_RECORD_BYTES  64u
#define AXION_CACHE_LINE    64u
#define AXION_REGION_HEADER 4096u

/* Bounds that both sides enforce at the handshake. */
#define AXION_SQ_ENTRIES_MIN  16u
#define AXION_SQ_ENTRIES_MAX  65536u
#define AXION_CQ_ENTRIES_MIN  64u
#define AXION_CQ_ENTRIES_MAX  1048576u
#define AXION_STREAMS_MAX     65536u
#define AXION_CREDIT_MIN      2u /* one for an event, one for DONE or ERROR */
#define AXION_CREDIT_MAX      64u
#define AXION_ARENA_BYTES_MIN 65536u
#define AXION_ARENA_BYTES_MAX (256u << 20)
#define AXION_NAME_BYTES      64u
#define AXION_MODELS_MAX      16u

struct axion_index { /* one index alone on its cache line */
    _Alignas(AXION_CACHE_LINE) uint32_t value;
};

struct axion_wakeup { /* alone on its cache line, too */
    _Alignas(AXION_CACHE_LINE) uint64_t ticket;
};

struct axion_region {
    uint32_t magic;
    uint32_t version;
    uint32_t sq_entries; /* these four repeat HELLO for debuggers only */
    uint32_t cq_entries;
    uint32_t arena_bytes;
    uint32_t streams;
    struct axion_index sq_tail;         /* client stores, engine loads */
    struct axion_index sq_head;         /* engine stores, client loads */
    struct axion_index cq_tail;         /* engine stores, client loads */
    struct axion_index cq_head;         /* client stores, engine loads */
    struct axion_wakeup sq_need_wakeup; /* engine sleeps: ring its doorbell */
    struct axion_wakeup cq_need_wakeup; /* client sleeps: ring its doorbell */
};

/*
 * need_wakeup is 0 while its owner is awake.  Before it sleeps, the owner
 * stores a ticket that it never used before, plus what it waits for: RECORDS,
 * always; SPACE when something of its own is held back until the peer's head
 * moves (client: commands that found the SQ full; engine: events without
 * credit).  One doorbell per ticket is enough.  Tickets have 64 bits because
 * one that came again could be taken for one that was rung for.
 */
#define AXION_WAKE_RECORDS 1u
#define AXION_WAKE_SPACE   2u
#define AXION_WAKE_TICKET  4u /* tickets count in steps of this */

/* --- SQ: client → engine ------------------------------------------------ */

enum axion_sq_op {
    AXION_SQ_SUBMIT = 1,
    AXION_SQ_CANCEL = 2,
    AXION_SQ_PAUSE = 3,
    AXION_SQ_RESUME = 4,
    AXION_SQ_TOPUP = 5,
};

/*
 * A stream is named by slot and generation.  The client owns the slots
 * (0 .. streams-1) and counts the generation up at every SUBMIT; a record
 * whose generation is not the slot's current one is stale and dropped.
 */
struct axion_sqe {
    uint8_t op;
    uint8_t flags; /* 0 */
    uint16_t reserved0;
    uint32_t stream;
    uint32_t generation;
    uint32_t payload_bytes;  /* SUBMIT */
    uint32_t payload_offset; /* SUBMIT: from the arena's start, 64-aligned */
    uint32_t reserved1;
    uint64_t lease_tokens; /* SUBMIT: may spend; TOPUP: more (0 = refused) */
    uint64_t lease_id;     /* SUBMIT: names the lease in the journal; 0: none */
    uint8_t reserved2[24];
};

/* lease_tokens of a request that nobody limits */
#define AXION_LEASE_UNLIMITED UINT64_MAX

/* --- CQ: engine → client ------------------------------------------------ */

enum axion_cq_op {
    AXION_CQ_ACCEPTED = 1,
    AXION_CQ_PROGRESS = 2,
    AXION_CQ_TOKENS = 3,
    AXION_CQ_LEASE_LOW = 4,
    AXION_CQ_DONE = 5,
    AXION_CQ_ERROR = 6,
};

enum axion_finish_reason {
    AXION_FINISH_STOP = 1,   /* end-of-generation token or stop string */
    AXION_FINISH_LENGTH = 2, /* max_tokens or the context's end */
    AXION_FINISH_LEASE = 3,  /* the tenant's last token; "length" */
    AXION_FINISH_CANCELLED = 4,
};

struct axion_cq_accepted {
    uint32_t prompt_tokens;
    uint32_t cached_tokens; /* of these, found in the prefix cache */
    uint32_t context_tokens;
    uint32_t queue_position;
    uint64_t reserved[3];
};

struct axion_cq_progress {
    uint32_t prompt_done;
    uint32_t prompt_tokens;
    uint64_t reserved[5];
};

/*
 * Payload: n_tokens ids (u32), then text_bytes of UTF-8, then ext_bytes of
 * extensions, each {u16 type, u16 bytes, data}.  It starts in the record and
 * goes on in the `span` records that follow, 64 bytes each.
 */
#define AXION_TOKENS_INLINE 32u
struct axion_cq_tokens {
    uint32_t position; /* of the first token within the answer, from 0 */
    uint16_t n_tokens;
    uint16_t ext_bytes;
    uint32_t text_bytes;
    uint32_t reserved;
    uint8_t payload[AXION_TOKENS_INLINE];
};

enum axion_ext_type {
    AXION_EXT_LOGPROBS = 1, /* for later issues: the types are reserved */
    AXION_EXT_DELTA = 2,
};

struct axion_cq_lease_low {
    uint64_t spent_tokens;
    uint64_t left_tokens;
    uint64_t wanted_tokens;
    uint64_t reserved[3];
};

struct axion_cq_done {
    uint32_t reason; /* enum axion_finish_reason */
    uint32_t prompt_tokens;
    uint32_t cached_tokens;
    uint32_t completion_tokens;
    uint32_t drafted_tokens;
    uint32_t accepted_tokens;
    uint32_t preemptions;
    uint32_t queue_us;   /* SUBMIT seen → first scheduled; saturates */
    uint32_t prefill_us; /* first scheduled → first token */
    uint32_t decode_us;  /* first token → last token */
    uint32_t reserved[2];
};

#define AXION_ERROR_INLINE 32u
struct axion_cq_error {
    uint32_t error; /* enum axion_error */
    uint32_t retry_after_ms;
    uint32_t text_bytes;    /* detail, UTF-8; cut to the stream's credit */
    uint32_t prompt_tokens; /* LEASE_TOO_SMALL: what the prompt has; else 0 */
    uint8_t payload[AXION_ERROR_INLINE];
};

struct axion_cqe {
    uint8_t op;
    uint8_t flags; /* 0 */
    uint16_t span; /* records that follow and belong to this one */
    uint32_t stream;
    uint32_t generation;
    uint32_t payload_bytes; /* over all records of the event */
    union {
        struct axion_cq_accepted accepted;
        struct axion_cq_progress progress;
        struct axion_cq_tokens tokens;
        struct axion_cq_lease_low lease_low;
        struct axion_cq_done done;
        struct axion_cq_error error;
        uint8_t body[48];
    };
};

_Static_assert(sizeof(struct axion_sqe) == AXION_RECORD_BYTES, "SQ record");
_Static_assert(sizeof(struct axion_cqe) == AXION_RECORD_BYTES, "CQ record");
_Static_assert(sizeof(struct axion_region) <= AXION_REGION_HEADER, "header");

/* --- handshake ----------------------------------------------------------- */

enum axion_message_type {
    AXION_MSG_HELLO = 1,   /* client, with the region's memfd */
    AXION_MSG_WELCOME = 2, /* engine, with the load board's memfd */
    AXION_MSG_REFUSED = 3, /* engine; then it closes */
    AXION_MSG_JOURNAL =
        4, /* engine, after WELCOME, to a client with a gateway */
    AXION_MSG_SETTLED = 5, /* client, for each JOURNAL with records */
};

/* Any message of one byte is a doorbell; all others start like this. */
struct axion_message {
    uint32_t magic;
    uint16_t version;
    uint16_t type;
};

struct axion_hello {
    struct axion_message head;
    uint32_t sq_entries;
    uint32_t cq_entries;
    uint32_t arena_bytes;
    uint32_t streams;
    uint32_t credit; /* CQ records per stream; streams * credit <= cq_entries */
    uint32_t
        gateway; /* whose leases these are: the journal's address; 0: none */
    char name[AXION_NAME_BYTES]; /* for the log: "nginx worker 1234" */
};

struct axion_welcome {
    struct axion_message head;
    uint32_t board_bytes;
    uint32_t payload_bytes_max;
};

struct axion_refused {
    struct axion_message head;
    uint32_t error; /* enum axion_error */
    uint32_t reserved;
    char text[128];
};

/*
 * The journal of DONE.  What became of a stream whose channel ended before
 * the client had passed its DONE or ERROR, for streams with a lease_id and
 * channels with a gateway.  The engine keeps it in memory, by gateway and uid
 * of the peer, and sends it to a channel of that gateway: one message at a
 * time, the next one after SETTLED.  What was not settled when its channel
 * ends is sent again to another, so a record may come twice, and may name a
 * stream whose DONE the client had read just before its death: who settles
 * goes by lease_id and ignores what is settled.
 *
 * COMPLETE says that the engine has nothing else for this gateway.  It comes
 * once after WELCOME, with the last records or without any.
 */
#define AXION_JOURNAL_RECORDS_MAX 60u
#define AXION_JOURNAL_COMPLETE    1u

struct axion_journal_record {
    uint64_t lease_id;
    uint32_t error; /* enum axion_error of an ERROR; AXION_OK: DONE */
    uint32_t reserved;
    /* completion_tokens are those that were put on the CQ; with an error the
     * times are 0 and the reason, too */
    struct axion_cq_done done;
};

struct axion_journal {
    struct axion_message head;
    uint32_t n_records; /* that follow, as many as the message holds */
    uint32_t flags;
    struct axion_journal_record records[AXION_JOURNAL_RECORDS_MAX];
};

#define AXION_JOURNAL_HEAD_BYTES offsetof(struct axion_journal, records)

struct axion_settled {
    struct axion_message head;
    uint32_t n_records; /* of the JOURNAL that is settled */
    uint32_t reserved;
};

_Static_assert(sizeof(struct axion_journal_record) == 64, "journal record");

/* --- load board ----------------------------------------------------------- */

enum axion_engine_state {
    AXION_ENGINE_LOADING = 1,
    AXION_ENGINE_READY = 2,
    AXION_ENGINE_DRAINING = 3,
    AXION_ENGINE_FAILED = 4,
};

struct axion_board_model {
    char id[AXION_NAME_BYTES];
    uint32_t context_tokens;
    uint32_t vocabulary;
    uint64_t created; /* seconds since the epoch, of the file */
    uint64_t parameters;
    uint64_t reserved[2];
};

/*
 * Written by the engine alone, read by clients under a seqlock: `sequence`
 * is odd while the engine writes.  Readers retry a bounded number of times.
 * Counters count from the engine's start.
 */
struct axion_board {
    uint32_t magic;
    uint32_t version;
    uint32_t sequence;
    uint32_t state; /* enum axion_engine_state */
    uint32_t n_models;
    uint32_t load_permille; /* LOADING, and READY: less than 1000 while
                               weights are packed behind steps */
    uint64_t engine_pid;
    uint64_t started;   /* seconds since the epoch */
    uint64_t heartbeat; /* counts up with every turn of the loop or step */
    uint64_t steps;
    uint32_t running;
    uint32_t waiting;
    uint32_t parked;
    uint32_t batch_max;
    uint32_t kv_blocks_total;
    uint32_t kv_blocks_used;
    uint32_t kv_blocks_cached;
    uint32_t kv_block_tokens;
    uint64_t kv_bytes;
    uint32_t tokens_per_second_milli; /* decode, over the last second */
    uint32_t prefill_per_second_milli;
    uint64_t requests_total;
    uint64_t requests_refused;
    uint64_t requests_done;
    uint64_t requests_cancelled;
    uint64_t requests_failed;
    uint64_t prompt_tokens_total;
    uint64_t cached_tokens_total;
    uint64_t completion_tokens_total;
    uint64_t drafted_tokens_total;
    uint64_t accepted_tokens_total;
    uint64_t preemptions_total;
    uint64_t step_us_total;
    uint64_t channels_open;
    uint64_t channels_lost_protocol;
    uint64_t matmul_us_total; /* these three with a profile alone */
    uint64_t attention_us_total;
    uint64_t rows_us_total;
    uint64_t load_us;        /* that loading the model took; 0 while it does */
    uint64_t weight_bytes;   /* of the model, in memory */
    uint64_t resident_bytes; /* of the process, when a request ended, or
                              * in idle within a second */
    /* Memory by kind, reserved when the model was loaded. */
    uint64_t draft_kv_bytes; /* of --kv-memory, beside kv_bytes */
    uint64_t draft_weight_bytes;
    uint64_t activation_bytes;   /* what steps compute with */
    uint64_t logits_bytes;       /* of one step */
    uint64_t speculation_bytes;  /* what proposers remember */
    uint64_t request_bytes;      /* prompts and answers; used as they grow */
    uint64_t kv_evicted_total;   /* cached blocks that gave way */
    uint64_t step_threads_total; /* threads of each step, summed */
    uint64_t reserved[2];
    struct axion_board_model models[AXION_MODELS_MAX];
    /* What came later: 0 from an engine whose board ends before it. */
    uint64_t grammars_kept;
    uint64_t grammar_bytes;          /* of these and the tokens' trie */
    uint64_t grammar_hits_total;     /* requests that found theirs */
    uint64_t grammar_compiles_total; /* and those whose was compiled */
    uint64_t grammar_masks_total;    /* made, not found */
    uint64_t grammar_mask_us_total;  /* that making them took */
    uint64_t reserved_behind[6];
};

/* The least that a board has. */
#define AXION_BOARD_BYTES_MIN offsetof(struct axion_board, grammars_kept)
/* A shorter one than ours reads as zeros behind its end: one page is mapped. */
_Static_assert(sizeof(struct axion_board) <= 4096, "a board is one page");

/* All steps so far in one kind of work of one layer. */
struct axion_cost {
    uint32_t layer;
    uint32_t op; /* index of ops[] */
    uint64_t ns;
    uint64_t bytes;      /* of weights, keys and values */
    uint64_t operations; /* multiplications and additions */
};

#define AXION_COSTS_MAX     1024u
#define AXION_COST_OPS_MAX  32u
#define AXION_COST_OP_BYTES 64u

/*
 * Behind the board, on pages of its own: what an engine that keeps a profile
 * has spent its time on.  Under a sequence like the board's.  An engine whose
 * memfd ends before it says nothing; so does one without a profile, and the
 * pages are then never touched.
 */
struct axion_costs {
    uint32_t sequence;
    uint32_t n; /* of costs[] */
    uint32_t n_ops;
    uint32_t reserved;
    char ops[AXION_COST_OPS_MAX][AXION_COST_OP_BYTES];
    struct axion_cost costs[AXION_COSTS_MAX];
};

#define AXION_COSTS_OFFSET     4096u
#define AXION_BOARD_BYTES_FULL (AXION_COSTS_OFFSET + sizeof(struct axion_costs))

#endif
