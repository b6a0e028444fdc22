/*
 * What passes between the gateway and an OpenAI-compatible server that it
 * asks on a client's behalf (a remote).
 *
 * To the remote goes the client's own body, byte for byte, but for the
 * members that are the gateway's to say: the model's name there, the bound of
 * tokens, and usage, which is always asked for.  Members that steer a server
 * beyond the client's own request (priority, cache salts, ids, where a
 * request runs) are left out, since identity decides those.
 *
 * From the remote every chunk or answer is judged and read for what the
 * gateway accounts by (usage, finish reasons, whether there is text), and goes
 * on with everything the client can use: choices with tool calls, reasoning,
 * log probabilities, and members that nobody here knows.  Id, model and time
 * become the gateway's own; usage is there only where the client asked.
 */
#ifndef AXION_API_REMOTE_H
#define AXION_API_REMOTE_H

#include <stddef.h>
#include <stdint.h>
#include "api/error.h"
#include "api/memory.h"
#include "api/request.h"
#include "api/response.h"

struct axion_remote_wish {
    struct axion_text model; /* its name at the remote */
    uint32_t max_tokens;     /* 0: as in the body */
    int stream;
};

/* `body` is one that axion_request_parse() took.  Errors stay in `out`. */
void axion_remote_request(struct axion_out *out, const void *body, size_t bytes,
                          const struct axion_remote_wish *wish);

/* Of what a server says that it has used, without any other knowledge. */
#define AXION_REMOTE_TOKENS_MAX (1u << 24)

struct axion_remote_answer {
    uint32_t prompt_max;     /* what usage can say; 0: TOKENS_MAX */
    uint32_t completion_max; /* of all choices */
    uint32_t prompt_min;     /* what it must say, see remote_floor.h */
    uint32_t prompt_tokens;
    uint32_t cached_tokens;
    uint32_t completion_tokens;
    uint32_t reason;         /* enum axion_finish, valid if `ended` */
    uint32_t n_pieces;       /* of text, tool calls and the like, all chunks */
    uint32_t n_texts[2];     /* chunks' choices with text, with reasoning */
    uint64_t text_bytes;     /* of both, see axion_floor_bytes() */
    unsigned believed : 1;   /* usage has no lower bound */
    unsigned echoed : 1;     /* the text may be the prompt's: proves nothing */
    unsigned has_usage : 1;  /* `told` is what it says, the tokens above are
                              * what is charged */
    unsigned bounded : 1;    /* it was more than can be */
    unsigned raised : 1;     /* it was less than can be */
    unsigned ended : 1;      /* a choice has its finish reason */
    unsigned usage_sent : 1; /* the client has read it */
    unsigned error : 1;      /* `message` is what went wrong there */
    unsigned too_long : 1;   /* it does not fit into the model's context */
    uint32_t told[3];        /* prompt, completion and cached tokens */
    char message[AXION_MESSAGE_BYTES];
    char param[AXION_PARAM_BYTES];
};

/* What one text of the remote is; the spans lie in it. */
struct axion_remote_chunk {
    struct axion_text object;
    struct axion_text choices;
    struct axion_text usage; /* data NULL: none, or null */
    struct axion_text whole;
    uint32_t n_choices;
    uint32_t n_pieces;
    unsigned ended : 1; /* it brings a finish reason */
};

/*
 * The most that one request can have used: a token has a byte at least of the
 * `body_bytes` that were sent, templates add a few thousand, and so does what
 * is no text; an answer has what was asked for (0: nobody said), the context
 * (0: unknown) bounds both, each answer's for itself.
 */
void axion_remote_bound(struct axion_remote_answer *answer, size_t body_bytes,
                        uint32_t max_tokens, uint32_t context_tokens,
                        const struct axion_parsed *parsed);

/*
 * Judges a chunk or a whole answer and adds it to what is known.  AXION_OK;
 * REMOTE_FAILED when it is an error object (answer->error); REMOTE_PROTOCOL
 * when it is not what OpenAI's API says.
 */
int axion_remote_read(struct axion_remote_answer *answer,
                      struct axion_remote_chunk *chunk, const char *text,
                      size_t bytes);

/*
 * Puts what the last usage told between what must be and what can be, once the
 * answer is whole: text may have come behind it.  Nothing without usage.
 */
void axion_remote_settle(struct axion_remote_answer *answer);

/* An error body: answer->message and ->param, "" where it has none, and
 * whether it is the context that is too short (OpenAI's code, or in the words
 * of the servers of this world). */
void axion_remote_read_error(struct axion_remote_answer *answer,
                             const char *text, size_t bytes);

/*
 * Writes what the client gets for the chunk: an event, or a whole answer's
 * body.  Nothing for the chunk that only has usage where the client did not
 * ask.  Never more than axion_remote_bytes_max(response, bytes of the text).
 */
void axion_remote_write(struct axion_out *out,
                        const struct axion_response *response,
                        const struct axion_remote_chunk *chunk,
                        struct axion_remote_answer *answer);

/* Ends a stream: usage, if it was asked for and not sent yet, then `data:
 * [DONE]`. */
void axion_remote_end(struct axion_out *out,
                      const struct axion_response *response,
                      const struct axion_remote_answer *answer,
                      const struct axion_cq_done *done);

size_t axion_remote_bytes_max(const struct axion_response *response,
                              size_t bytes);

#endif
