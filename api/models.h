/*
 * GET /v1/models and /v1/models/{id} out of the engines' load boards, and
 * the search for the engine of a model.  Several engines may serve the same
 * id: it is listed once.  A tenant sees only what it may use; what it may
 * not use does not exist for it.  Boards come from axion_client_board();
 * names in them are taken as bytes of bounded length, not as C strings.
 */
#ifndef AXION_API_MODELS_H
#define AXION_API_MODELS_H

#include <stddef.h>
#include "api/memory.h"
#include "api/tenant.h"
#include "shm/request.h"
#include "shm/wire.h"

/* `who` NULL: everything is visible.  A tenant's aliases are listed too,
 * those without `*` and `?`, with what stands behind them. */
void axion_models_list(struct axion_out *out,
                       const struct axion_board *const *boards, size_t n_boards,
                       const struct axion_identity *who);

/* AXION_OK, or MODEL_NOT_FOUND with nothing written. */
int axion_models_one(struct axion_out *out,
                     const struct axion_board *const *boards, size_t n_boards,
                     const struct axion_identity *who, const char *id,
                     size_t bytes);

/* The board's model with this id, NULL if it has none. */
const struct axion_board_model *
axion_board_find_model(const struct axion_board *board, const char *id,
                       size_t bytes);

/* The id's length, bounded by its array. */
size_t axion_board_model_bytes(const struct axion_board_model *model);

#endif
