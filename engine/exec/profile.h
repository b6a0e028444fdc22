/*
 * A profile as CSV: one line for every stage of every layer, with time, bytes,
 * operations and the share of the roofline, which is the time that the
 * machine's measured peaks would need over the time that was needed.
 */
#ifndef AX_PROFILE_H
#define AX_PROFILE_H

#include <stdio.h>

#include "engine/exec/exec.h"
#include "engine/exec/peaks.h"


#define AX_PROFILE_HEAD                                                        \
    "test,layer,op,calls,ns,bytes,operations,gb_per_s,gop_per_s,roofline\n"


/* The lines of an executor with counters, under the name of what it ran; the
 * head is the caller's.  Nonzero if the file could not be written. */
int ax_profile_write(FILE *out, const struct ax_exec *e, const char *test,
                     const struct ax_peaks *peaks);

#endif /* AX_PROFILE_H */
