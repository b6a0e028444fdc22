/*
 * axiond --profile FILE: what the steps of this process have cost, by layer and
 * kind of work, written when it ends.  The load board has the sums meanwhile.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "engine/exec/profile.h"
#include "engine/server/server_private.h"


int
ax_server_profile_open(struct ax_server *s, struct ax_error *err)
{
    if (s->options.profile == NULL) {
        return AXION_OK;
    }
    s->profile = fopen(s->options.profile, "we");
    if (s->profile == NULL) {
        return ax_error_set(err, AXION_ERR_BAD_OPTION, "--profile: %s: %s",
                            s->options.profile, strerror(errno));
    }
    return AXION_OK;
}


void
ax_server_profile_close(struct ax_server *s)
{
    struct ax_peaks peaks = {0};
    struct ax_error err = {0};

    if (s->profile == NULL) {
        return;
    }
    if (s->engine != NULL) {
        if (ax_peaks_measure(s->engine->threads, &peaks, &err) != AXION_OK) {
            ax_log(s->log, AXION_LOG_warn, "the profile has no roofline: %s",
                   err.text);
        }
        fputs(AX_PROFILE_HEAD, s->profile);
        (void)ax_profile_write(s->profile, s->engine->exec, "serve", &peaks);
    }
    bool failed = ferror(s->profile) != 0;
    if (fclose(s->profile) != 0 || failed) {
        ax_log(s->log, AXION_LOG_error, "cannot write %s", s->options.profile);
    }
    s->profile = NULL;
}
