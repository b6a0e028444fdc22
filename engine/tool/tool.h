/*
 * The subcommands of `axion`, one file or a few each.  Each gets its own
 * argv, argv[0] being the subcommand's name, prints to stdout, complains in
 * one line on stderr, and returns the exit status: 0, 1 it failed, 2 usage.
 */
#ifndef AX_TOOL_TOOL_H
#define AX_TOOL_TOOL_H

#include "engine/error.h"
#include "engine/server/options.h"

#define TOOL_USAGE 2

int ax_tool_chat(int argc, char **argv);
int ax_tool_compare(int argc, char **argv);
int ax_tool_inspect(int argc, char **argv);
int ax_tool_keygen(int argc, char **argv);
int ax_tool_pack(int argc, char **argv);
int ax_tool_tokenize(int argc, char **argv);

/* The exit status of an error: an option that is wrong, or does not go with
 * the model, is the user's. */
static inline int
ax_tool_status(int error)
{
    return error == AXION_OK               ? 0
           : error == AXION_ERR_BAD_OPTION ? TOOL_USAGE
                                           : 1;
}

/* "axion NAME: LINE" on stderr; returns `status`. */
int ax_tool_fail(const char *name, int status, const char *line);

/*
 * Parses and handles --help, the first thing that every subcommand does:
 * returns -1 to go on, else the exit status.  `usage` is the line after
 * "axion ".
 */
int ax_tool_options(const struct ax_option *table, void *out, int argc,
                    char **argv, int *n_args, const uint32_t *help,
                    const char *usage, const char *what);

#endif
