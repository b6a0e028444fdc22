/*
 * Profiles as CSV; profile.h has the columns.
 */
#include "engine/exec/profile.h"


/* Seconds that the roofline allows. */
static double
roof(const struct ax_exec_counter *c, const struct ax_peaks *peaks)
{
    double ops = c->floats ? peaks->f32_ops : peaks->int8_ops;
    double memory =
        peaks->read_bytes > 0 ? (double)c->bytes / peaks->read_bytes : 0;
    double compute = ops > 0 ? (double)c->operations / ops : 0;

    return memory > compute ? memory : compute;
}


int
ax_profile_write(FILE *out, const struct ax_exec *e, const char *test,
                 const struct ax_peaks *peaks)
{
    for (uint32_t i = 0; i < ax_exec_counters(e); i++) {
        struct ax_exec_counter c = ax_exec_counter(e, i);
        double ns = c.ns > 0 ? (double)c.ns : 1;
        if (c.calls == 0) {
            continue;
        }
        fprintf(out, "%s,%u,%s,%llu,%llu,%llu,%llu,%.2f,%.2f,%.3f\n", test,
                c.layer, c.name, (unsigned long long)c.calls,
                (unsigned long long)c.ns, (unsigned long long)c.bytes,
                (unsigned long long)c.operations, (double)c.bytes / ns,
                (double)c.operations / ns, roof(&c, peaks) * 1e9 / ns);
    }
    return ferror(out);
}
