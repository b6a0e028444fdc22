/*
 * The model list.  A board has at most AXION_MODELS_MAX models and there are
 * a few engines, so "is this id already listed" looks at the boards before
 * it instead of keeping a set.
 */
#include "api/models.h"

#include <string.h>
#include "api/json.h"


size_t
axion_board_model_bytes(const struct axion_board_model *model)
{
    return strnlen(model->id, sizeof(model->id));
}


const struct axion_board_model *
axion_board_find_model(const struct axion_board *board, const char *id,
                       size_t bytes)
{
    uint32_t i;

    for (i = 0; i < board->n_models && i < AXION_MODELS_MAX; i++) {
        const struct axion_board_model *model = &board->models[i];

        if (axion_board_model_bytes(model) == bytes &&
            memcmp(model->id, id, bytes) == 0)
            return model;
    }
    return NULL;
}


static int
model_visible(const struct axion_identity *who, const char *id, size_t bytes)
{
    return bytes != 0 &&
           (who == NULL || axion_identity_may_use(who, id, bytes));
}


static void
put_model(struct axion_json *json, const struct axion_board_model *model,
          const char *id, size_t bytes)
{
    axion_json_object(json, NULL);
    axion_json_text(json, "id", id, bytes);
    axion_json_string(json, "object", "model");
    axion_json_u64(json, "created", model->created);
    axion_json_string(json, "owned_by", "axion");
    axion_json_u64(json, "max_model_len", model->context_tokens);
    axion_json_close(json);
}


static const struct axion_board_model *
find_on_boards(const struct axion_board *const *boards, size_t n_boards,
               const char *id, size_t bytes)
{
    const struct axion_board_model *model;
    size_t i;

    for (i = 0; i < n_boards; i++) {
        model = axion_board_find_model(boards[i], id, bytes);
        if (model != NULL)
            return model;
    }
    return NULL;
}


/* The model behind an id that the client names; NULL: none that it may see. */
static const struct axion_board_model *
find_visible(const struct axion_board *const *boards, size_t n_boards,
             const struct axion_identity *who, const char *id, size_t bytes)
{
    struct axion_text served = {id, (uint32_t)bytes};

    if (who != NULL)
        served = axion_tenant_model(who->tenant, &served);
    if (!model_visible(who, served.data, served.bytes))
        return NULL;
    return find_on_boards(boards, n_boards, served.data, served.bytes);
}


/* Models under their own names, each once, unless an alias of the tenant
 * takes the name for another one. */
static void
put_models(struct axion_json *json, const struct axion_board *const *boards,
           size_t n_boards, const struct axion_identity *who)
{
    size_t b, i;

    for (b = 0; b < n_boards; b++) {
        const struct axion_board *board = boards[b];

        for (i = 0; i < board->n_models && i < AXION_MODELS_MAX; i++) {
            const struct axion_board_model *model = &board->models[i];
            size_t bytes = axion_board_model_bytes(model);

            if (find_visible(boards, n_boards, who, model->id, bytes) == model)
                put_model(json, model, model->id, bytes);
        }
    }
}


static int
is_glob(const struct axion_text *text)
{
    return memchr(text->data, '*', text->bytes) != NULL ||
           memchr(text->data, '?', text->bytes) != NULL ||
           memchr(text->data, '\\', text->bytes) != NULL;
}


/* Names that only the tenant's aliases have. */
static void
put_aliases(struct axion_json *json, const struct axion_board *const *boards,
            size_t n_boards, const struct axion_identity *who)
{
    const struct axion_tenant *tenant = who->tenant;
    const struct axion_board_model *model;
    size_t i, k;

    for (i = 0; i < tenant->n_aliases; i++) {
        const struct axion_text *name = &tenant->aliases[i].name;

        for (k = 0; k < i; k++) {
            if (axion_glob_match(&tenant->aliases[k].name, name->data,
                                 name->bytes))
                break;
        }
        if (k < i || is_glob(name))
            continue;
        model = find_visible(boards, n_boards, who, name->data, name->bytes);
        if (model != NULL &&
            find_on_boards(boards, n_boards, name->data, name->bytes) != model)
            put_model(json, model, name->data, name->bytes);
    }
}


void
axion_models_list(struct axion_out *out,
                  const struct axion_board *const *boards, size_t n_boards,
                  const struct axion_identity *who)
{
    struct axion_json json;

    axion_json_init(&json, out);
    axion_json_object(&json, NULL);
    axion_json_string(&json, "object", "list");
    axion_json_array(&json, "data");
    put_models(&json, boards, n_boards, who);
    if (who != NULL)
        put_aliases(&json, boards, n_boards, who);
    axion_json_close(&json);
    axion_json_close(&json);
    axion_out_bytes(out, "\n", 1);
}


int
axion_models_one(struct axion_out *out, const struct axion_board *const *boards,
                 size_t n_boards, const struct axion_identity *who,
                 const char *id, size_t bytes)
{
    const struct axion_board_model *model =
        bytes == 0 ? NULL : find_visible(boards, n_boards, who, id, bytes);
    struct axion_json json;

    if (model == NULL)
        return AXION_ERR_MODEL_NOT_FOUND;
    axion_json_init(&json, out);
    put_model(&json, model, id, bytes);
    axion_out_bytes(out, "\n", 1);
    return AXION_OK;
}
