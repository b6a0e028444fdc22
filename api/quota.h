/*
 * The store that nodes share balances in, as bytes: its address as an
 * operator writes it, and questions and answers (api/shares.h) as Redis
 * takes and gives them.  Knows no socket.
 *
 * One question is one EVAL: the script runs in Redis as a whole or not at
 * all, by Redis's clock.  Redis 5 and later, and what is compatible with it.
 * Keys are PREFIX{TENANT}:ACCOUNT, budgets with the number of their day or
 * month, and PREFIX{TENANT}:nodes; all of a tenant's have one hash slot.
 * Every key expires: budgets a day after their window, rates when their
 * bucket has been empty for an hour.
 *
 * Replies are read with hiredis's reader into memory of a fixed size: an
 * answer is a status, an error, or a flat array of integers.  Whatever else
 * comes, or more of it than AXION_QUOTA_REPLY_BYTES, breaks the connection.
 */
#ifndef AXION_API_QUOTA_H
#define AXION_API_QUOTA_H

#include <stddef.h>
#include <stdint.h>
#include "api/shares.h"
#include "shm/request.h"

#define AXION_QUOTA_HOST_BYTES     256u
#define AXION_QUOTA_PASSWORD_BYTES 513u
#define AXION_QUOTA_PREFIX_MAX     64u
#define AXION_QUOTA_REPLY_BYTES    4096u
#define AXION_QUOTA_VALUES         (3u * AXION_ACCOUNTS)

/* redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], rediss:// for TLS,
 * redis+unix://[[USER]:PASSWORD@]/PATH[?db=DB].  Texts end with NUL. */
struct axion_quota_url {
    char host[AXION_QUOTA_HOST_BYTES]; /* or the socket's path */
    char user[AXION_QUOTA_PASSWORD_BYTES];
    char password[AXION_QUOTA_PASSWORD_BYTES]; /* "": none */
    uint16_t port;
    uint16_t db;
    unsigned tls;
    unsigned local; /* host is a path */
};

/* AXION_OK, or BAD_OPTION with the reason, which has no part of the text. */
int axion_quota_url_parse(struct axion_quota_url *url,
                          const struct axion_text *text, char *why,
                          size_t why_bytes);

/* ---- commands ---- */

/* Each gives a command's bytes in memory of axion_quota_free(), or NO_MEMORY.
 * AUTH has one argument where user is "". */
int axion_quota_auth(char **command, size_t *bytes,
                     const struct axion_quota_url *url);
int axion_quota_select(char **command, size_t *bytes, unsigned db);
/* A script that writes PREFIXprobe, as questions do theirs, and answers [1]:
 * a store that lets in but is loading, a replica, out of memory or without the
 * right to scripts says so now. */
int axion_quota_probe(char **command, size_t *bytes, const char *prefix);
int axion_quota_ask(char **command, size_t *bytes, const char *prefix,
                    const struct axion_text *tenant, uint32_t node,
                    const struct axion_ask *ask);
void axion_quota_free(char *command, size_t bytes);

/* ---- replies ---- */

enum axion_quota_reply_kind {
    AXION_QUOTA_STATUS,
    AXION_QUOTA_ERROR,
    AXION_QUOTA_INTEGERS,
    AXION_QUOTA_OTHER,
};

struct axion_quota_reply {
    enum axion_quota_reply_kind kind;
    char text[128]; /* of an error or status: its beginning, printable */
    uint32_t n;
    uint32_t n_expected;
    int64_t values[AXION_QUOTA_VALUES];
};

struct axion_quota_reader;

int axion_quota_reader_open(struct axion_quota_reader **out);
void axion_quota_reader_close(struct axion_quota_reader *reader);

/* Takes bytes as they come.  AXION_OK; PROTOCOL; NO_MEMORY. */
int axion_quota_feed(struct axion_quota_reader *reader, const void *data,
                     size_t bytes);

/* The next reply: AXION_OK; AXION_AGAIN: not whole yet; PROTOCOL with the
 * reason in reply->text. */
int axion_quota_next(struct axion_quota_reader *reader,
                     struct axion_quota_reply *reply);

/* The reply to `ask`: AXION_OK; PROTOCOL: it is none. */
int axion_quota_answer(const struct axion_quota_reply *reply,
                       const struct axion_ask *ask,
                       struct axion_answer *answer);

#endif
