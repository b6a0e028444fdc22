/*
 * axion pack MODEL.gguf -o FILE: the model as axiond maps it, packed ahead of
 * time (engine/model/packfile.h).  axion pack --check FILE reads all of one
 * and says whether it is whole.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "engine/model/model.h"
#include "engine/pool/pool.h"
#include "engine/tool/tool.h"

struct pack_options {
    const char *model;
    const char *output;
    uint32_t threads, check, help;
};

#define AT(field) offsetof(struct pack_options, field)

static const struct ax_option options_table[] = {
    {"model", AX_OPTION_TEXT, AT(model), "FILE", NULL,
     "the model, as FILE behind the options", 0, 0, NULL, 'm'},
    {"output", AX_OPTION_TEXT, AT(output), "FILE", NULL,
     "the pack file to write; one that is there is replaced", 0, 0, NULL, 'o'},
    {"check", AX_OPTION_FLAG, AT(check), NULL, NULL,
     "write nothing: FILE is a pack file, read all of it", 0, 0, NULL, 0},
    {"threads", AX_OPTION_NUMBER, AT(threads), "N", "one per CPU",
     "threads that pack", 1, AX_POOL_THREADS_MAX, NULL, 't'},
    {"help", AX_OPTION_FLAG, AT(help), NULL, NULL, "print this and exit", 0, 0,
     NULL, 0},
    {NULL, AX_OPTION_FLAG, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};


static void
print_facts(const struct ax_model_info *info, const char *path,
            const char *what)
{
    struct stat st;
    double bytes = stat(path, &st) == 0 ? (double)st.st_size : 0;

    printf("%s: %s, %s, %.1f M parameters, %.1f MB, %s\n", path,
           info->architecture, info->weight_format,
           (double)info->n_params / 1e6, bytes / 1e6, what);
}


static int
run(const struct pack_options *o, const char *path, struct ax_error *err)
{
    struct ax_model_options mo = {.path = path, .n_threads = o->threads};
    struct ax_model *m;
    int rc = ax_model_open(&m, &mo, err);

    if (rc != AXION_OK) {
        return rc;
    }
    const struct ax_model_info *info = ax_model_info(m);
    if (!o->check) {
        rc = ax_model_pack(m, o->output, err);
        if (rc == AXION_OK) {
            print_facts(info, o->output, "packed");
        }
    } else if (info->mapped) {
        print_facts(info, path, "whole");
    } else {
        rc = ax_error_set(err, AXION_ERR_BAD_OPTION, "%s is no pack file",
                          info->path);
    }
    ax_model_close(m);
    return rc;
}


int
ax_tool_pack(int argc, char **argv)
{
    struct pack_options o = {0};
    struct ax_error err;
    int n_args;
    int status = ax_tool_options(
        options_table, &o, argc, argv, &n_args, &o.help, "pack [options] FILE",
        "Packs a GGUF file's weights, for axiond and axion to map.");

    if (status >= 0) {
        return status;
    }
    if (n_args + (o.model != NULL) != 1) {
        return ax_tool_fail(argv[0], TOOL_USAGE, "one FILE is needed");
    }
    if ((o.output != NULL) == (o.check != 0)) {
        return ax_tool_fail(argv[0], TOOL_USAGE,
                            "either --output (-o) or --check is needed");
    }
    int rc = run(&o, o.model != NULL ? o.model : argv[1], &err);
    return rc == AXION_OK ? EXIT_SUCCESS
                          : ax_tool_fail(argv[0], ax_tool_status(rc), err.text);
}
