/*
 * axion: what a person does with a model at a terminal.  This file finds the
 * subcommand; the rest of the command line is its own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "engine/tool/bench.h"
#include "engine/tool/tool.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *what;
};

static const struct command commands[] = {
    {"chat", ax_tool_chat, "talk to a model in the terminal"},
    {"inspect", ax_tool_inspect, "metadata and tensors of a model file"},
    {"tokenize", ax_tool_tokenize, "token ids and pieces of a text"},
    {"keygen", ax_tool_keygen, "an API key and the line that lets it in"},
    {"pack", ax_tool_pack, "a model file ready to be mapped"},
    {"bench", ax_tool_bench, "prefill and decode rates of a model"},
    {"compare", ax_tool_compare, "what changed between two profiles"},
    {NULL, NULL, NULL},
};


static void
print_help(FILE *out)
{
    fprintf(out, "axion " AXION_VERSION ": tools for models\n\n"
                 "usage: axion COMMAND [options] (axion COMMAND --help)\n\n");
    for (const struct command *c = commands; c->name != NULL; c++) {
        fprintf(out, "  %-10s %s\n", c->name, c->what);
    }
}


int
ax_tool_fail(const char *name, int status, const char *line)
{
    fprintf(stderr, "axion %s: %s\n", name, line);
    return status;
}


int
ax_tool_options(const struct ax_option *table, void *out, int argc, char **argv,
                int *n_args, const uint32_t *help, const char *usage,
                const char *what)
{
    struct ax_error err;
    char text[4096];
    if (ax_options_parse(table, out, argc, argv, n_args, &err) != AXION_OK) {
        return ax_tool_fail(argv[0], TOOL_USAGE, err.text);
    }
    if (*help) {
        ax_options_help(table, text, sizeof(text));
        printf("usage: axion %s\n%s\n\n%s", usage, what, text);
        return EXIT_SUCCESS;
    }
    return -1;
}


int
main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return TOOL_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return EXIT_SUCCESS;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("axion " AXION_VERSION "\n");
        return EXIT_SUCCESS;
    }
    for (const struct command *c = commands; c->name != NULL; c++) {
        if (strcmp(argv[1], c->name) == 0) {
            return c->run(argc - 1, argv + 1);
        }
    }
    fprintf(stderr, "axion: there is no command \"%s\" (axion --help)\n",
            argv[1]);
    return TOOL_USAGE;
}
