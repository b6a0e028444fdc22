/*
 * What this machine can do at most with some threads: the roof that a profile
 * is held against.  Measured, not looked up; takes about 0.2 s.
 */
#ifndef AX_PEAKS_H
#define AX_PEAKS_H

#include <stdint.h>

#include "engine/error.h"

struct ax_exec;


struct ax_peaks {
    double read_bytes; /* per second, from memory */
    double int8_ops;   /* per second; 0: no loop for this CPU */
    double f32_ops;
};


/* AXION_ERR_NO_MEMORY, AXION_ERR_SYSTEM (threads). */
int ax_peaks_measure(uint32_t n_threads, struct ax_peaks *out,
                     struct ax_error *err);

/* Between steps: reads all matrices of the executor's model once, each of its
 * threads a part of each, and adds how many bytes that was and how long it
 * took.  The weights are packed. */
void ax_peaks_weights(struct ax_exec *e, uint64_t *bytes, uint64_t *ns);

#endif /* AX_PEAKS_H */
