/*
 * Command lines from one table: what is parsed, what --help says and what
 * docs/options.md must describe are the same rows.
 *
 * An option is --name VALUE or --name=VALUE, and -m VALUE where the row has a
 * letter; a flag has no value.  Values
 * land in a struct of the caller's at the row's offset.  What is no option
 * stays in argv as a positional argument.  Every error is one line that names
 * the option, what was given and what would be right.
 */
#ifndef AX_SERVER_OPTIONS_H
#define AX_SERVER_OPTIONS_H

#include <stddef.h>
#include <stdint.h>
#include "engine/error.h"

enum ax_option_kind {
    AX_OPTION_FLAG,   /* uint32_t set to 1 */
    AX_OPTION_TEXT,   /* const char * into argv */
    AX_OPTION_CHOICE, /* the same, one of `choices` */
    AX_OPTION_NUMBER, /* uint32_t */
    AX_OPTION_SIZE,   /* uint64_t bytes; k, m, g as nginx */
    AX_OPTION_TIME,   /* uint64_t milliseconds; ms, s, m, h, d; plain: s */
    AX_OPTION_REAL,   /* double */
    AX_OPTION_UIDS,   /* struct ax_option_uids, may be repeated */
};

#define AX_OPTION_UIDS_MAX 32u

struct ax_option_uids {
    uint32_t n;
    uint32_t uid[AX_OPTION_UIDS_MAX];
};

struct ax_option {
    const char *name; /* without the dashes; NULL ends the table */
    enum ax_option_kind kind;
    size_t offset;
    const char *value;    /* as --help shows it: "SIZE" */
    const char *standard; /* the default, in words; NULL: none */
    const char *help;
    double min, max;     /* NUMBER, SIZE, TIME, REAL; inclusive */
    const char *choices; /* "auto|epoll" */
    char letter;         /* -m beside --model; 0: none */
};

/*
 * Parses argv[1..]; positional arguments are moved to argv[1..*n_args].
 * AXION_OK, or BAD_OPTION with the line in err.
 */
int ax_options_parse(const struct ax_option *table, void *out, int argc,
                     char **argv, int *n_args, struct ax_error *err);

/* The table as lines for a terminal; returns the bytes it needs, as
 * snprintf(). */
size_t ax_options_help(const struct ax_option *table, char *out, size_t size);

/* "4096", "64k", "1g"; AXION_OK or BAD_OPTION. */
int ax_parse_size(const char *text, uint64_t *bytes);
/* "30s", "500ms", "2m"; AXION_OK or BAD_OPTION. */
int ax_parse_time(const char *text, uint64_t *ms);

#endif
