/*
 * State of the compiler, shared by compile.c and memory.c; gone after open.
 */
#ifndef AX_COMPILE_H
#define AX_COMPILE_H

#include "engine/exec/program.h"
#include "engine/pool/pool.h"


/* Stages between which a value must keep its memory. */
struct ax_lifetime {
    uint32_t first;
    uint32_t last;
    bool used;
};


struct ax_compile {
    struct ax_program *program;
    struct ax_error *err;
    uint32_t current;          /* the last stage */
    uint32_t layer;            /* of the op at hand */
    uint32_t layer_begun;      /* of the last stage */
    uint32_t group;            /* the last GROUP stage */
    uint32_t *version;         /* [n_values] writes so far */
    uint32_t *written;         /* [n_values] stage of the last */
    struct ax_lifetime *lives; /* [n_values] */
};


/* Gives every value, activation and table its memory. */
int ax_program_place(struct ax_compile *c);

#endif /* AX_COMPILE_H */
