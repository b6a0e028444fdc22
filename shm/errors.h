/*
 * The error numbers of errors.def, as an enum and as a table.  Functions in
 * shm, api and engine that can fail return `int`: AXION_OK, one of these
 * numbers (positive), or AXION_AGAIN where the call's comment says so.
 */
#ifndef AXION_SHM_ERRORS_H
#define AXION_SHM_ERRORS_H

#include <stddef.h>

enum axion_error {
    AXION_AGAIN = -1, /* not an error: nothing to do now, call again */
    AXION_OK = 0,
#define AXION_ERROR(name, number, status, type, code, retry, level, text)      \
    AXION_ERR_##name = number,
#include "errors.def"
#undef AXION_ERROR
};

enum axion_log_level {
    AXION_LOG_info,
    AXION_LOG_notice,
    AXION_LOG_warn,
    AXION_LOG_error,
    AXION_LOG_crit,
};

struct axion_error_info {
    const char *name; /* "QUEUE_FULL" */
    int number;
    int status;       /* HTTP */
    const char *type; /* OpenAI's error.type */
    const char *code; /* OpenAI's error.code */
    int retry;
    enum axion_log_level level;
    const char *text;
};

/* The table's entry for a number; unknown numbers give INTERNAL's. */
const struct axion_error_info *axion_error_info(int number);

/*
 * How many bytes of an error's message may stand in a log.  Messages that
 * blame a request quote it behind a quotation mark, and what a model's
 * template says may be the request's text: none of that belongs in a log.
 * All of the others.
 */
size_t axion_error_log_bytes(int number, const char *message);

/* Entry by position, NULL past the end; for tests and the reference. */
const struct axion_error_info *axion_error_at(unsigned index);

#endif
