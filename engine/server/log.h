/*
 * The log: one line per event in nginx's form,
 *   2026/11/21 14:30:00 [notice] 1234#0: message
 * written with one write(2) so that lines of several threads never mix.
 * Contents of requests and answers are never logged.  Any thread may log.
 */
#ifndef AX_SERVER_LOG_H
#define AX_SERVER_LOG_H

#include "shm/errors.h"

struct ax_log {
    int fd;
    enum axion_log_level level; /* the least that is written */
};

#define AX_LOG_LEVELS "info|notice|warn|error|crit"

/* One of AX_LOG_LEVELS; anything else is notice. */
enum axion_log_level ax_log_level(const char *name);

void ax_log(const struct ax_log *log, enum axion_log_level level,
            const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
