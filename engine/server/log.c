/* See log.h.  A line that cannot be written is lost: there is nowhere to say
 * so, and a full disk must not stop the engine. */
#include "engine/server/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const names[] = {"info", "notice", "warn", "error", "crit"};


enum axion_log_level
ax_log_level(const char *name)
{
    for (int i = 0; name != NULL && i < 5; i++) {
        if (strcmp(names[i], name) == 0) {
            return (enum axion_log_level)i;
        }
    }
    return AXION_LOG_notice;
}


void
ax_log(const struct ax_log *log, enum axion_log_level level, const char *format,
       ...)
{
    if (level < log->level) {
        return;
    }
    char line[1024];
    time_t now = time(NULL);
    struct tm tm;
    localtime_r(&now, &tm);
    size_t n = strftime(line, 32, "%Y/%m/%d %H:%M:%S", &tm);
    n += (size_t)snprintf(line + n, 64, " [%s] %d#0: ", names[level],
                          (int)getpid());
    va_list args;
    va_start(args, format);
    int text = vsnprintf(line + n, sizeof(line) - n - 1, format, args);
    va_end(args);
    n += text > 0 ? (size_t)text : 0;
    if (n > sizeof(line) - 2) {
        n = sizeof(line) - 2;
    }
    line[n++] = '\n';
    if (write(log->fd, line, n) < 0) {
        return;
    }
}
