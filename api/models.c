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
model_visible(const struct axion_tenant *tenant, const char *id, size_t bytes)
{
    return bytes != 0 &&
           (tenant == NULL || axion_tenant_may_use(tenant, id, bytes));
}


static void
put_model(struct axion_json *json, const struct axion_board_model *model)
{
    axion_json_object(json, NULL);
    axion_json_text(json, "id", model->id, axion_board_model_bytes(model));
    axion_json_string(json, "object", "model");
    axion_json_u64(json, "created", model->created);
    axion_json_string(json, "owned_by", "axion");
    axion_json_u64(json, "max_model_len", model->context_tokens);
    axion_json_close(json);
}


static int
listed_before(const struct axion_board *const *boards, size_t n_boards,
              const struct axion_board_model *model)
{
    size_t i, bytes = axion_board_model_bytes(model);

    for (i = 0; i < n_boards; i++) {
        if (axion_board_find_model(boards[i], model->id, bytes) != NULL)
            return 1;
    }
    return 0;
}


void
axion_models_list(struct axion_out *out,
                  const struct axion_board *const *boards, size_t n_boards,
                  const struct axion_tenant *tenant)
{
    struct axion_json json;
    size_t b, i;

    axion_json_init(&json, out);
    axion_json_object(&json, NULL);
    axion_json_string(&json, "object", "list");
    axion_json_array(&json, "data");
    for (b = 0; b < n_boards; b++) {
        const struct axion_board *board = boards[b];

        for (i = 0; i < board->n_models && i < AXION_MODELS_MAX; i++) {
            const struct axion_board_model *model = &board->models[i];
            size_t bytes = axion_board_model_bytes(model);

            if (model_visible(tenant, model->id, bytes) &&
                !listed_before(boards, b, model) &&
                axion_board_find_model(board, model->id, bytes) == model)
                put_model(&json, model);
        }
    }
    axion_json_close(&json);
    axion_json_close(&json);
    axion_out_bytes(out, "\n", 1);
}


int
axion_models_one(struct axion_out *out, const struct axion_board *const *boards,
                 size_t n_boards, const struct axion_tenant *tenant,
                 const char *id, size_t bytes)
{
    const struct axion_board_model *model;
    struct axion_json json;
    size_t b;

    if (!model_visible(tenant, id, bytes))
        return AXION_ERR_MODEL_NOT_FOUND;
    for (b = 0; b < n_boards; b++) {
        model = axion_board_find_model(boards[b], id, bytes);
        if (model == NULL)
            continue;
        axion_json_init(&json, out);
        put_model(&json, model);
        axion_out_bytes(out, "\n", 1);
        return AXION_OK;
    }
    return AXION_ERR_MODEL_NOT_FOUND;
}
