/*
 * The engine's end of channels: what axiond, the echo engine of the tests
 * and the simulator use.  Non-blocking throughout; one thread per engine
 * loop.  Mirror image of client.h, see there for order and life cycle.
 *
 * A peer is hostile until proven harmless: HELLO's sizes are bounded, the
 * memfd's size and seals are checked before it is mapped, indexes are
 * bounded, records and payloads are copied out before they are looked at.
 * A peer that breaks the protocol gets AXION_ERR_PROTOCOL from the call that
 * noticed; the owner logs axion_channel_why() once and closes the channel.
 *
 * Credit.  A stream may have `credit` CQ records in the ring that the client
 * has not passed, one of them kept for DONE or ERROR.  What does not fit is
 * joined in the stream's own buffer (reserved when the channel opens the
 * stream, `stream_buffer_bytes`) and goes out when credit returns, by
 * axion_channel_flush().  When that buffer is full as well,
 * axion_channel_writable() is 0 and the scheduler lets the sequence wait.
 * The buffers are address space until they are used: a channel of S streams
 * reserves S * stream_buffer_bytes, and touches what is said and waits.
 *
 * What an event carries.  Everything said between two flushes is one TOKENS
 * event, as far as the stream's credit reaches; the rest follows as credit
 * returns.  An id never comes later than the first byte of the text it was
 * said with; text that is cut goes on in the next event without ids, cut
 * between UTF-8 sequences; `ext` goes whole, with its ids.  DONE and ERROR
 * come after all that was said before.
 *
 * A turn of the engine's loop
 *     service() on readable sockets
 *     while (next() == AXION_OK) { take the command }
 *     step, say what came out: tokens(), done(), ...
 *     flush()
 *     with nothing left to do: if (arm() == 0) sleep until a socket is
 *     readable or a timer ends, else take another turn
 *
 * Memory order is client.h's, mirrored: this end owns sq_head and cq_tail.
 * Stores to sq_head follow the copy of record and payload; the one store to
 * cq_tail per flush follows all records of all events.
 */
#ifndef AXION_SHM_CHANNEL_H
#define AXION_SHM_CHANNEL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "shm/client.h"
#include "shm/errors.h"
#include "shm/wire.h"

struct axion_channel;
struct axion_board_writer;

struct axion_channel_options {
    uint32_t streams_max;         /* 0: AXION_STREAMS_MAX */
    uint32_t payload_bytes_max;   /* 0: 8 MiB */
    uint32_t stream_buffer_bytes; /* 0: 16 KiB */
    const uid_t *allow_uids;      /* NULL: every uid that may connect */
    size_t n_allow_uids;
    struct axion_board_writer *board; /* may be NULL: no board is sent */
};

/*
 * Takes an accepted SOCK_SEQPACKET socket (owned from then on, closed on
 * error too).  NO_MEMORY, SYSTEM, PEER_REFUSED (the uid of SO_PEERCRED is not
 * among allow_uids; the peer is told).  `options` is copied, what it points
 * to must outlive the channel.
 */
int axion_channel_open(struct axion_channel **out, int fd,
                       const struct axion_channel_options *options);
int axion_channel_fd(const struct axion_channel *channel);
/* Frees everything; streams that are open end without a word (each() them
 * first).  Takes NULL. */
void axion_channel_close(struct axion_channel *channel);

/* On a readable socket: AXION_OK connected, AXION_AGAIN waiting for HELLO,
 * ENGINE_LOST end of file, PROTOCOL, VERSION_MISMATCH, CHANNEL_LIMITS,
 * NO_MEMORY, SYSTEM (no descriptor left).  All but the first two are final and
 * repeated until close; the peer was told why in a REFUSED where it had not
 * said HELLO. */
int axion_channel_service(struct axion_channel *channel);
const char *axion_channel_why(const struct axion_channel *channel);
const char *axion_channel_name(const struct axion_channel *channel);
pid_t axion_channel_pid(const struct axion_channel *channel);
uid_t axion_channel_uid(const struct axion_channel *channel);

/* One command from the SQ, checked.  The payload is a private copy, valid
 * until the next call on this channel. */
struct axion_command {
    enum axion_sq_op op;
    axion_stream_id id;
    uint64_t lease_tokens;
    uint64_t lease_id; /* of a SUBMIT; 0: nobody keeps books on it */
    const void *payload;
    size_t payload_bytes;
};

/*
 * AXION_OK; AXION_AGAIN: none; PROTOCOL: close.  Commands for streams that
 * are not open any more are dropped inside.  A SUBMIT opens the stream; it
 * stays open until done() or error() is called for it.
 */
int axion_channel_next(struct axion_channel *channel,
                       struct axion_command *command);

/*
 * Flushes, then says that we are about to sleep.  0: sleep, a doorbell will
 * come, also when credit returns that output waits for.  1: commands came, or
 * something went out just now, so that a stream may be writable() again, or
 * the channel broke and next() has not said so yet: take another turn, then
 * arm again.
 */
int axion_channel_arm(struct axion_channel *channel);

/* `user` of an open stream, for the engine's own bookkeeping. */
void axion_channel_set_user(struct axion_channel *channel, axion_stream_id id,
                            void *user);
void *axion_channel_user(const struct axion_channel *channel,
                         axion_stream_id id);

/* Calls visit() for each open stream: to free the sequences of a dead peer. */
void axion_channel_each(struct axion_channel *channel,
                        void (*visit)(void *context, axion_stream_id id,
                                      void *user),
                        void *context);

/*
 * Events.  They are queued, joined where credit lacks, and become visible at
 * the next flush.  All assert that the stream is open.
 * accepted/progress/lease_low are dropped to the latest when credit lacks;
 * tokens() needs an accepted() before it.  It returns PAYLOAD_TOO_LARGE when
 * the stream's buffer cannot take the text (ask writable() first) or when
 * ids and ext together pass what one event can carry with the stream's whole
 * credit, 32 + 64 * (credit - 2) bytes; INVALID_VALUE when the text is not
 * UTF-8; nothing is queued then.
 */
void axion_channel_accepted(struct axion_channel *channel, axion_stream_id id,
                            const struct axion_cq_accepted *accepted);
void axion_channel_progress(struct axion_channel *channel, axion_stream_id id,
                            const struct axion_cq_progress *progress);
int axion_channel_tokens(struct axion_channel *channel, axion_stream_id id,
                         const uint32_t *ids, uint32_t n_tokens,
                         const char *text, uint32_t text_bytes,
                         const uint8_t *ext, uint32_t ext_bytes);
void axion_channel_lease_low(struct axion_channel *channel, axion_stream_id id,
                             const struct axion_cq_lease_low *low);
void axion_channel_done(struct axion_channel *channel, axion_stream_id id,
                        const struct axion_cq_done *done);
void axion_channel_error(struct axion_channel *channel, axion_stream_id id,
                         int error, uint32_t retry_after_ms,
                         const char *detail);

/* axion_channel_error() with LEASE_TOO_SMALL and what the prompt has, so that
 * the client can come back with a lease that is enough. */
void axion_channel_lease_too_small(struct axion_channel *channel,
                                   axion_stream_id id, uint32_t prompt_tokens);

/* 1 when one more token with up to `bytes` of text would be taken, and that
 * in two calls too: the token with some of its text, and the rest without an
 * id, as a stream ends that held text back. */
int axion_channel_writable(const struct axion_channel *channel,
                           axion_stream_id id, uint32_t bytes);

/* Publishes what is queued with one tail store and rings the doorbell if the
 * client sleeps.  1 when something still waits for credit (flush again when
 * the client has drained: at the next turn), 0 when all is out, PROTOCOL. */
int axion_channel_flush(struct axion_channel *channel);

/* A doorbell that nobody asked for: the load board says something that the
 * client may wait for (loading → ready → draining).  Not for every step. */
void axion_channel_ring(const struct axion_channel *channel);

/* Open streams (sent and unsent), and whether any output waits. */
uint32_t axion_channel_streams(const struct axion_channel *channel);

/* ---- the journal of DONE (wire.h) ---- */

/* Whose leases this channel's are; 0: it has no journal. */
uint32_t axion_channel_gateway(const struct axion_channel *channel);

/*
 * Calls visit() for each stream with a lease whose DONE or ERROR was said and
 * not passed by the client, in the ring or before it, and for each SUBMIT that
 * was published and never taken (nothing spent).  Of a broken channel
 * too: for the owner, before it closes one.  Streams still open are the
 * owner's to end and to write down: each(), with axion_channel_sent_tokens().
 */
void axion_channel_each_unpassed(
    struct axion_channel *channel,
    void (*visit)(void *context, const struct axion_journal_record *record),
    void *context);

/* Token ids of an open stream that were put on the CQ. */
uint32_t axion_channel_sent_tokens(const struct axion_channel *channel,
                                   axion_stream_id id);

/*
 * Sends up to AXION_JOURNAL_RECORDS_MAX records, none only with `complete`.
 * The channel is connected, has a gateway and nothing unsettled.  AXION_OK;
 * AXION_AGAIN: its socket is full, nothing was sent.
 */
int axion_channel_journal(struct axion_channel *channel,
                          const struct axion_journal_record *records,
                          uint32_t n_records, int complete);
/* Records that were sent and not settled yet; service() takes SETTLED. */
uint32_t axion_channel_unsettled(const struct axion_channel *channel);

/* ---- load board ---- */

/* A memfd that only this process can write; NO_MEMORY, SYSTEM. */
int axion_board_open(struct axion_board_writer **out);
void axion_board_close(struct axion_board_writer *board);
/* Publishes the whole state under the seqlock. */
void axion_board_publish(struct axion_board_writer *board,
                         const struct axion_board *state);
/* n and n_ops of the state are in bounds. */
void axion_board_publish_costs(struct axion_board_writer *board,
                               const struct axion_costs *state);
int axion_board_fd(const struct axion_board_writer *board);

/* ---- listening socket ---- */

/*
 * Parses "unix:PATH[,mode=0660][,group=NAME]" and listens (SOCK_SEQPACKET,
 * non-blocking).  A stale socket file that nobody listens on is replaced, a
 * live one is not; for that of a process that has just died it waits, 2 s at
 * most.  BAD_OPTION, SYSTEM; the reason goes to why[].
 */
int axion_listen(const char *spec, int *fd, char *path, size_t path_bytes,
                 char *why, size_t why_bytes);

#endif
