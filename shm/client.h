/*
 * The client's end of a channel: what nginx workers, the sidecar and tests
 * use.  Nothing here blocks, starts threads, or touches signals; all file
 * descriptors are close-on-exec and non-blocking.  One thread per client.
 *
 * Life of a channel
 *   open      makes and seals the region, connects, sends HELLO
 *   service   call whenever the descriptor is readable: swallows doorbells,
 *             takes WELCOME or REFUSED.  AXION_OK once connected,
 *             AXION_AGAIN while the handshake is pending, else the error
 *             that ended the channel.  After ENGINE_LOST (end of file) what
 *             the engine had published before can still be drained; after
 *             any other error nothing can
 *   close     frees everything; takes NULL and half-open channels
 *
 * Life of a stream
 *   submit → ACCEPTED or ERROR → TOKENS … → DONE or ERROR
 * DONE and ERROR are the last event of a stream: when advance() passes one
 * the slot is free again.  After cancel() the engine still answers with DONE
 * (reason CANCELLED), DONE or ERROR; the caller keeps its context until then
 * or drops events whose context it no longer has (`user` NULL).
 *
 * Memory.  Everything is reserved at open: the region (4096 bytes, 64 per SQ
 * and CQ record, the arena; shared with the engine), a slot per stream, a
 * word per SQ record.  No later call allocates.
 *
 * Trust.  Whatever the engine writes is copied out once, then checked; an
 * event that breaks the protocol's rules breaks the channel, and peek(),
 * service() and submit() say PROTOCOL from then on, until close.  What
 * peek() hands out is right in form: slot and generation open, texts UTF-8,
 * positions without a gap, DONE's reason known, ERROR's number in the table.
 * What it says is the engine's.
 *
 * Memory order.  The client owns sq_tail and cq_head and keeps private
 * copies of sq_head and cq_tail, re-read only when the ring seems full or
 * empty.  Publishing is a store-release that pairs with the engine's
 * load-acquire; going to sleep is store need_wakeup, full fence, load tail,
 * which pairs with the engine's store tail, full fence, load need_wakeup.
 */
#ifndef AXION_SHM_CLIENT_H
#define AXION_SHM_CLIENT_H

#include <stddef.h>
#include <stdint.h>
#include "shm/errors.h"
#include "shm/wire.h"

struct axion_client;

struct axion_client_options {
    const char *path;     /* of the unix socket */
    const char *name;     /* for the engine's log */
    uint32_t streams;     /* 0: 1024 */
    uint32_t credit;      /* 0: 4 */
    uint32_t sq_entries;  /* 0: 2 * streams, at least 64 */
    uint32_t cq_entries;  /* 0: the power of two >= streams * credit */
    uint32_t arena_bytes; /* 0: 16 MiB */
    uint32_t gateway;     /* whose journal this client takes; 0: nobody's */
    uint32_t lazy;        /* 1: submit() leaves waking to axion_client_wake() */
};

/* Identifies one stream: (generation << 32) | slot.  0 is never a stream. */
typedef uint64_t axion_stream_id;

/*
 * AXION_OK with the handshake under way, or: ENGINE_UNAVAILABLE (no socket,
 * nobody listens, backlog full), BAD_OPTION, NO_MEMORY, SYSTEM (errno kept).
 */
int axion_client_open(struct axion_client **out,
                      const struct axion_client_options *options);

/* The same over a connected SOCK_SEQPACKET socket, which belongs to the
 * client from then on and is closed on error too. */
int axion_client_open_fd(struct axion_client **out, int fd,
                         const struct axion_client_options *options);
int axion_client_fd(const struct axion_client *client);
int axion_client_service(struct axion_client *client);
void axion_client_close(struct axion_client *client);

/* The engine's words when service() returned an error; "" if none. */
const char *axion_client_why(const struct axion_client *client);

/* Largest payload that submit() can take at all. */
size_t axion_client_payload_max(const struct axion_client *client);

/*
 * Queues one request and publishes it.  `user` comes back in every event.
 * The payload is copied; 0 bytes are allowed.
 * AXION_OK; NO_STREAM_SLOT (all streams busy, SQ or arena full for now, or
 * commands wait for room: nothing was changed, try again after the next
 * drain); PAYLOAD_TOO_LARGE (never fits); ENGINE_UNAVAILABLE before the
 * handshake is done and after end of file; the error of a broken channel.
 */
int axion_client_submit(struct axion_client *client, const void *payload,
                        size_t bytes, uint64_t lease_tokens, void *user,
                        axion_stream_id *id);

/*
 * Wakes the engine if it sleeps and something was submitted since the last
 * call.  With options.lazy, before the caller sleeps or turns to something
 * else: many submissions cost one system call.  Without, there is no need.
 */
void axion_client_wake(struct axion_client *client);

/*
 * The same for a lease that somebody keeps books on: should this process die
 * before it has passed the stream's DONE or ERROR, the engine's journal names
 * what was spent by this number.  0: not journaled.  Needs options.gateway.
 */
int axion_client_submit_leased(struct axion_client *client, const void *payload,
                               size_t bytes, uint64_t lease_tokens,
                               uint64_t lease_id, void *user,
                               axion_stream_id *id);

/*
 * The journal (wire.h): what became of leased streams of this gateway whose
 * process died.  journal() copies the next record, AXION_AGAIN: there is none
 * now; the same one comes again until settled().  Call both after service(),
 * until AXION_AGAIN.  Spent are prompt_tokens + completion_tokens.  Settle by
 * lease_id, and ignore one that is settled: a record may come twice.
 * complete() is 1 once the engine has told all that it knew at the handshake:
 * of dead processes' leases at this engine, what was not named by then it
 * does not know.
 */
int axion_client_journal(const struct axion_client *client,
                         struct axion_journal_record *record);
void axion_client_journal_settled(struct axion_client *client);
int axion_client_journal_complete(const struct axion_client *client);

/*
 * These never fail: without a free record they are remembered on the stream
 * and sent by the next drain or submit.  Stale ids are ignored.  What is
 * remembered is a state, not a queue: PAUSE and RESUME annul each other, the
 * tokens of top-ups add up (0 means refused, and a later top-up takes a
 * refusal back), and after CANCEL nothing else is sent.
 */
void axion_client_cancel(struct axion_client *client, axion_stream_id id);
void axion_client_pause(struct axion_client *client, axion_stream_id id);
void axion_client_resume(struct axion_client *client, axion_stream_id id);
void axion_client_topup(struct axion_client *client, axion_stream_id id,
                        uint64_t tokens);

/* Forget `user`: later events of the stream carry NULL. */
void axion_client_forget(struct axion_client *client, axion_stream_id id);

/* One event, copied out of the ring and checked.  Pointers are valid until
 * the next advance().  TOKENS may carry ids without text (a character is not
 * whole yet) and text without ids (the rest of a text that was cut); then
 * `position` is that of the next id to come. */
struct axion_event {
    enum axion_cq_op op;
    axion_stream_id id;
    void *user;
    union {
        struct axion_cq_accepted accepted;
        struct axion_cq_progress progress;
        struct axion_cq_lease_low lease_low;
        struct axion_cq_done done;
        struct {
            uint32_t position;
            uint32_t n_tokens;
            const uint32_t *ids;
            const char *text; /* UTF-8, not terminated */
            uint32_t text_bytes;
            const uint8_t *ext;
            uint32_t ext_bytes;
        } tokens;
        struct {
            int error;
            uint32_t retry_after_ms;
            uint32_t prompt_tokens; /* of LEASE_TOO_SMALL; 0: not said */
            const char *text;       /* detail, may be empty */
            uint32_t text_bytes;
        } error;
    };
};

/*
 * peek() gives the next event without consuming it: AXION_OK, AXION_AGAIN
 * when there is none, or PROTOCOL: then close the channel.
 * Draining:  do { while (peek == OK) { use; advance; } } while (arm() != 0);
 */
int axion_client_peek(struct axion_client *client, struct axion_event *event);
void axion_client_advance(struct axion_client *client);

/*
 * Says that we are about to sleep.  0: sleep, a doorbell will come; 1: more
 * arrived meanwhile (or the channel broke and peek() has not said so yet),
 * drain again.  Also sends what was pending; what finds no room is sent by
 * the next call, and a doorbell comes when there is room.
 */
int axion_client_arm(struct axion_client *client);

/* Streams in flight, and the engine's load: a consistent copy of the board
 * (AXION_OK), or AXION_AGAIN when the engine kept writing. */
uint32_t axion_client_streams(const struct axion_client *client);
int axion_client_board(const struct axion_client *client,
                       struct axion_board *copy);

/* What an engine that keeps a profile has spent its time on: AXION_OK with
 * every index in bounds and every name ended, copy->n 0 where it keeps none;
 * AXION_AGAIN as above. */
int axion_client_costs(const struct axion_client *client,
                       struct axion_costs *copy);

#endif
