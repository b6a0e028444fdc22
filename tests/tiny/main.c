/*
 * tiny-model: writes one of the tests' tiny GGUF models from the shell.
 *
 *   tiny-model --list                   the names that goldens cover
 *   tiny-model --variant NAME OUT
 *   tiny-model [--family llama|qwen2|qwen3|gemma3|qwen3moe]
 *              [--format f32|f16|bf16|q4_0|...|mxfp4] [--gguf-version 2|3]
 *              [--layers N] [--embd N] [--heads N] [--kv-heads N] [--ff N]
 *              [--ctx N] [--seed N] [--tied] [--rope-factors]
 *              [--experts N] [--experts-used N] OUT
 */

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/tiny/tiny_blocks.h"
#include "tests/tiny/tiny_model.h"

static const struct option long_options[] = {
    {"list", no_argument, NULL, 'L'},
    {"variant", required_argument, NULL, 'V'},
    {"family", required_argument, NULL, 'a'},
    {"format", required_argument, NULL, 'f'},
    {"gguf-version", required_argument, NULL, 'g'},
    {"layers", required_argument, NULL, 'l'},
    {"embd", required_argument, NULL, 'e'},
    {"heads", required_argument, NULL, 'h'},
    {"kv-heads", required_argument, NULL, 'k'},
    {"ff", required_argument, NULL, 'F'},
    {"ctx", required_argument, NULL, 'c'},
    {"seed", required_argument, NULL, 's'},
    {"tied", no_argument, NULL, 't'},
    {"rope-factors", no_argument, NULL, 'r'},
    {"experts", required_argument, NULL, 'x'},
    {"experts-used", required_argument, NULL, 'u'},
    {NULL, 0, NULL, 0},
};


static int
usage(void)
{
    fprintf(stderr, "usage: tiny-model --list | --variant NAME OUT |"
                    " [--family llama|qwen2|qwen3|gemma3|qwen3moe]"
                    " [--format f32|f16|bf16|q4_0|...|mxfp4] [--gguf-version 2|3]"
                    " [--layers N] [--embd N] [--heads N] [--kv-heads N]"
                    " [--ff N] [--ctx N] [--seed N] [--tied]"
                    " [--rope-factors] [--experts N] [--experts-used N]"
                    " OUT\n");
    return 2;
}


static int
list(void)
{
    const struct tiny_variant *variant;

    for (variant = tiny_variants; variant->name != NULL; variant++) {
        printf("%s\n", variant->name);
    }
    return 0;
}


/* The name's place in names[n], -1 if it has none. */
static int
place_of_name(const char *name, const char *const *names, int n)
{
    int i;

    for (i = 0; i < n; i++) {
        if (strcmp(name, names[i]) == 0) {
            return i;
        }
    }
    return -1;
}


/* TINY_FORMATS where there is none of that name. */
static enum tiny_format
format_of_name(const char *name)
{
    int i;

    for (i = 0; i < TINY_FORMATS; i++) {
        if (strcmp(name, tiny_block_formats[i].name) == 0) {
            break;
        }
    }
    return (enum tiny_format)i;
}


int
main(int argc, char **argv)
{
    static const char *const families[] = {"llama", "qwen2", "qwen3",
                                           "gemma3", "qwen3moe"};
    struct tiny_options options = {0};
    int option, place;

    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        uint32_t number =
            optarg == NULL ? 0 : (uint32_t)strtoul(optarg, NULL, 10);

        switch (option) {
        case 'L':
            return list();
        case 'V':
            if (tiny_variant_find(optarg) == NULL) {
                fprintf(stderr, "tiny-model: no variant %s\n", optarg);
                return 2;
            }
            options = *tiny_variant_find(optarg);
            break;
        case 'a':
            place = place_of_name(optarg, families, 5);
            if (place < 0) {
                return usage();
            }
            options.family = (enum tiny_family)place;
            break;
        case 'f':
            options.format = format_of_name(optarg);
            if (options.format == TINY_FORMATS) {
                return usage();
            }
            break;
        case 'g':
            options.gguf_version = number;
            break;
        case 'l':
            options.n_layer = number;
            break;
        case 'e':
            options.n_embd = number;
            break;
        case 'h':
            options.n_head = number;
            break;
        case 'k':
            options.n_head_kv = number;
            break;
        case 'F':
            options.n_ff = number;
            break;
        case 'c':
            options.n_ctx = number;
            break;
        case 's':
            options.seed = number;
            break;
        case 't':
            options.tied = true;
            break;
        case 'r':
            options.rope_factors = true;
            break;
        case 'x':
            options.n_expert = number;
            break;
        case 'u':
            options.n_expert_used = number;
            break;
        default:
            return usage();
        }
    }
    if (optind != argc - 1) {
        return usage();
    }
    if (tiny_model_write(argv[optind], &options) != 0) {
        perror(argv[optind]);
        return 1;
    }
    return 0;
}
