/*
 * JSON (jansson) into template values, for tests and their drivers.  The
 * server builds values from ring records; tests have their contexts as JSON.
 */
#ifndef AX_TESTS_TEXT_JSON_VALUES_H
#define AX_TESTS_TEXT_JSON_VALUES_H

#include <jansson.h>

#include "engine/text/value.h"


/* Dict keys and strings are as `trusted` says, all the way down. */
struct ax_value *json_to_value(struct ax_pool *pool, const json_t *json,
                               bool trusted);

/* A render's variables: what is below "messages" is untrusted. */
struct ax_value *json_to_vars(struct ax_pool *pool, const json_t *json);

#endif /* AX_TESTS_TEXT_JSON_VALUES_H */
