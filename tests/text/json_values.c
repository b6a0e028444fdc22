/*
 * JSON into template values, see json_values.h.
 */
#include "tests/text/json_values.h"

#include <string.h>


struct ax_value *
json_to_value(struct ax_pool *pool, const json_t *json, bool trusted)
{
    struct ax_value *v;
    const char *key;
    json_t *item;
    size_t i;

    switch (json_typeof(json)) {
    case JSON_OBJECT:
        v = ax_value_dict(pool);
        json_object_foreach((json_t *)json, key, item)
        {
            ax_value_set(pool, v, key, strlen(key), trusted,
                         json_to_value(pool, item, trusted));
        }
        return v;

    case JSON_ARRAY:
        v = ax_value_list(pool);
        json_array_foreach(json, i, item)
        {
            ax_value_append(pool, v, json_to_value(pool, item, trusted));
        }
        return v;

    case JSON_STRING:
        return ax_value_string(pool, json_string_value(json),
                               json_string_length(json), trusted);
    case JSON_INTEGER:
        return ax_value_int(pool, json_integer_value(json));
    case JSON_REAL:
        return ax_value_float(pool, json_real_value(json));
    case JSON_TRUE:
        return ax_value_bool(pool, true);
    case JSON_FALSE:
        return ax_value_bool(pool, false);
    case JSON_NULL:
        break;
    }
    return ax_value_none(pool);
}


struct ax_value *
json_to_vars(struct ax_pool *pool, const json_t *json)
{
    struct ax_value *vars = ax_value_dict(pool);
    const char *key;
    json_t *item;

    json_object_foreach((json_t *)json, key, item)
    {
        bool trusted = strcmp(key, "messages") != 0;

        ax_value_put(pool, vars, key, json_to_value(pool, item, trusted));
    }
    return vars;
}
