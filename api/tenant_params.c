/*
 * The table of a tenant's parameters and the handlers of identity's own:
 * keys, models, aliases, priority, bounds of tokens, the cache's realm.
 * Arrays grow by doubling in pool memory, bounded by AXION_TENANT_*_MAX.
 */
#include "api/tenant_params.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "api/key.h"
#include "api/request.h"
#include "shm/errors.h"

#define WORDS_MAX 1024u /* of one line */


/* Writes the reason; BAD_OPTION. */
__attribute__((format(printf, 2, 3))) static int
refuse(struct axion_tenant_draft *draft, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(draft->why, sizeof(draft->why), format, args);
    va_end(args);
    return AXION_ERR_BAD_OPTION;
}


static int
no_memory(struct axion_tenant_draft *draft)
{
    snprintf(draft->why, sizeof(draft->why), "out of memory");
    return AXION_ERR_NO_MEMORY;
}


/* A copy of `text` with a NUL behind it; data NULL without memory. */
static struct axion_text
copy_text(struct axion_tenant_draft *draft, const struct axion_text *text)
{
    struct axion_text copy = {
        axion_memory_copy(draft->memory, text->data, text->bytes),
        text->bytes,
    };

    return copy;
}


static int
equals(const struct axion_text *text, const char *word)
{
    return strlen(word) == text->bytes &&
           memcmp(word, text->data, text->bytes) == 0;
}


/*
 * Room for one more element behind the `n` there are: the array, moved where
 * it was full; NULL without memory.
 */
static void *
room_for_one(struct axion_tenant_draft *draft, void *array, size_t n,
             size_t *room, size_t bytes)
{
    void *larger;

    if (n < *room)
        return array;
    *room = *room == 0 ? 4 : *room * 2;
    larger = draft->memory->alloc(draft->memory->context, *room * bytes);
    if (larger != NULL && n != 0)
        memcpy(larger, array, n * bytes);
    return larger;
}


/* ---- handlers ---- */


static int
set_key(struct axion_tenant_draft *draft, const struct axion_text *words,
        size_t n)
{
    struct axion_tenant *tenant = draft->tenant;
    struct axion_key *key;
    char why[160] = "";
    int error;

    if (tenant->n_keys == AXION_TENANT_KEYS_MAX)
        return refuse(draft, "more than %u keys", AXION_TENANT_KEYS_MAX);
    tenant->keys = room_for_one(draft, tenant->keys, tenant->n_keys,
                                &draft->keys_room, sizeof(*key));
    if (tenant->keys == NULL)
        return no_memory(draft);
    key = &tenant->keys[tenant->n_keys];
    error = axion_key_parse(key, words, n, draft->memory, why, sizeof(why));
    if (error == AXION_ERR_NO_MEMORY)
        return no_memory(draft);
    if (error != AXION_OK)
        return refuse(draft, "invalid key: %s", why);
    draft->n_chosen += key->argon2id.data != NULL;
    if (draft->n_chosen > AXION_TENANT_CHOSEN_MAX)
        return refuse(draft,
                      "more than %u keys by argon2id: each is "
                      "tried for a key that is sent",
                      AXION_TENANT_CHOSEN_MAX);
    tenant->n_keys++;
    return AXION_OK;
}


static int
set_priority(struct axion_tenant_draft *draft, const struct axion_text *words,
             size_t n)
{
    (void)n;
    if (axion_priority_parse(&draft->tenant->priority, words[0].data,
                             words[0].bytes) != AXION_OK)
        return refuse(draft,
                      "invalid priority \"%.*s\", it must be "
                      "low, normal or high",
                      (int)words[0].bytes, words[0].data);
    return AXION_OK;
}


static int
set_models(struct axion_tenant_draft *draft, const struct axion_text *words,
           size_t n)
{
    struct axion_tenant *tenant = draft->tenant;
    size_t i;

    for (i = 0; i < n; i++) {
        if (words[i].bytes == 0)
            return refuse(draft, "empty pattern in \"models\"");
        if (tenant->n_models == AXION_TENANT_GLOBS_MAX)
            return refuse(draft, "more than %u models", AXION_TENANT_GLOBS_MAX);
        tenant->models =
            room_for_one(draft, tenant->models, tenant->n_models,
                         &draft->models_room, sizeof(tenant->models[0]));
        if (tenant->models == NULL)
            return no_memory(draft);
        tenant->models[tenant->n_models] = copy_text(draft, &words[i]);
        if (tenant->models[tenant->n_models].data == NULL)
            return no_memory(draft);
        tenant->n_models++;
    }
    return AXION_OK;
}


/* A model's name as the parser of requests allows it. */
static int
model_name_valid(const struct axion_text *name)
{
    uint32_t i;

    if (name->bytes == 0 || name->bytes > AXION_MODEL_BYTES_MAX)
        return 0;
    for (i = 0; i < name->bytes; i++) {
        if ((unsigned char)name->data[i] < 0x20 || name->data[i] == 0x7f)
            return 0;
    }
    return axion_utf8_valid(name->data, name->bytes);
}


static int
set_alias(struct axion_tenant_draft *draft, const struct axion_text *words,
          size_t n)
{
    struct axion_tenant *tenant = draft->tenant;
    struct axion_alias *alias;

    (void)n;
    if (!model_name_valid(&words[0]) || !model_name_valid(&words[1]))
        return refuse(draft,
                      "\"alias\" needs two names of models, 1 "
                      "to %u bytes each without controls",
                      AXION_MODEL_BYTES_MAX);
    if (tenant->n_aliases == AXION_TENANT_ALIASES_MAX)
        return refuse(draft, "more than %u aliases", AXION_TENANT_ALIASES_MAX);
    tenant->aliases = room_for_one(draft, tenant->aliases, tenant->n_aliases,
                                   &draft->aliases_room, sizeof(*alias));
    if (tenant->aliases == NULL)
        return no_memory(draft);
    alias = &tenant->aliases[tenant->n_aliases];
    alias->name = copy_text(draft, &words[0]);
    alias->model = copy_text(draft, &words[1]);
    if (alias->name.data == NULL || alias->model.data == NULL)
        return no_memory(draft);
    tenant->n_aliases++;
    return AXION_OK;
}


int
axion_tokens_parse(uint32_t *tokens, const char *text, size_t bytes)
{
    uint64_t n = 0;
    size_t i = 0;

    while (i < bytes && text[i] >= '0' && text[i] <= '9') {
        n = n * 10 + (uint64_t)(text[i++] - '0');
        if (n > INT32_MAX)
            return AXION_ERR_BAD_OPTION;
    }
    if (i == 0)
        return AXION_ERR_BAD_OPTION;
    if (i + 1 == bytes && (text[i] == 'k' || text[i] == 'K'))
        n *= 1000, i++;
    else if (i + 1 == bytes && (text[i] == 'm' || text[i] == 'M'))
        n *= 1000000, i++;
    if (i != bytes || n == 0 || n > INT32_MAX)
        return AXION_ERR_BAD_OPTION;
    *tokens = (uint32_t)n;
    return AXION_OK;
}


static int
set_tokens(struct axion_tenant_draft *draft, uint32_t *value,
           const char *parameter, const struct axion_text *word)
{
    if (axion_tokens_parse(value, word->data, word->bytes) == AXION_OK)
        return AXION_OK;
    return refuse(draft,
                  "invalid %s \"%.*s\", it must be a number of "
                  "tokens such as 4096 or 32k",
                  parameter, (int)word->bytes, word->data);
}


static int
set_weight(struct axion_tenant_draft *draft, const struct axion_text *words,
           size_t n)
{
    uint32_t weight = 0;
    size_t i;

    (void)n;
    for (i = 0; i < words[0].bytes && weight <= AXION_WEIGHT_MAX; i++) {
        if (words[0].data[i] < '0' || words[0].data[i] > '9')
            break;
        weight = weight * 10 + (uint32_t)(words[0].data[i] - '0');
    }
    if (i != words[0].bytes || weight == 0 || weight > AXION_WEIGHT_MAX)
        return refuse(draft,
                      "invalid weight \"%.*s\", it must be a "
                      "number from 1 to %u",
                      (int)words[0].bytes, words[0].data, AXION_WEIGHT_MAX);
    draft->tenant->weight = weight;
    return AXION_OK;
}


static int
set_max_context(struct axion_tenant_draft *draft,
                const struct axion_text *words, size_t n)
{
    (void)n;
    return set_tokens(draft, &draft->tenant->max_context, "max_context",
                      &words[0]);
}


static int
set_max_output(struct axion_tenant_draft *draft, const struct axion_text *words,
               size_t n)
{
    (void)n;
    return set_tokens(draft, &draft->tenant->max_output, "max_output",
                      &words[0]);
}


static int
set_cache(struct axion_tenant_draft *draft, const struct axion_text *words,
          size_t n)
{
    struct axion_tenant *tenant = draft->tenant;

    if (n == 1 && equals(&words[0], "tenant")) {
        tenant->cache_scope = AXION_CACHE_TENANT;
    } else if (n == 1 && equals(&words[0], "key")) {
        tenant->cache_scope = AXION_CACHE_KEY;
    } else if (n == 1 && equals(&words[0], "none")) {
        tenant->cache_scope = AXION_CACHE_NONE;
    } else if (n == 2 && equals(&words[0], "group") &&
               axion_tenant_name_valid(words[1].data, words[1].bytes)) {
        tenant->cache_scope = AXION_CACHE_GROUP;
        tenant->cache_group = copy_text(draft, &words[1]);
        if (tenant->cache_group.data == NULL)
            return no_memory(draft);
    } else {
        return refuse(draft, "\"cache\" must be tenant, key, none, or "
                             "group and a name");
    }
    return AXION_OK;
}


static int
set_disabled(struct axion_tenant_draft *draft, const struct axion_text *words,
             size_t n)
{
    (void)words;
    (void)n;
    draft->tenant->disabled = 1;
    return AXION_OK;
}


/* ---- the table ---- */


/* What a row's handler gets: the words behind the parameter's name.  It
 * returns AXION_OK, or what refuse() or no_memory() returned. */
typedef int (*param_handler)(struct axion_tenant_draft *draft,
                             const struct axion_text *words, size_t n);

struct param {
    const char *name;
    size_t words_min; /* behind the name */
    size_t words_max;
    int many; /* it may come more than once */
    param_handler handler;
};

static const struct param params[] = {
    {"key", 1, 4, 1, set_key},
    {"priority", 1, 1, 0, set_priority},
    {"models", 1, WORDS_MAX, 1, set_models},
    {"alias", 2, 2, 1, set_alias},
    {"weight", 1, 1, 0, set_weight},
    {"max_context", 1, 1, 0, set_max_context},
    {"max_output", 1, 1, 0, set_max_output},
    {"cache", 1, 2, 0, set_cache},
    {"disabled", 0, 0, 0, set_disabled},
};

#define N_PARAMS (sizeof(params) / sizeof(params[0]))

_Static_assert(N_PARAMS <= 64, "a bit of `seen` for each");


int
axion_tenant_begin(struct axion_tenant_draft *draft,
                   const struct axion_memory *memory,
                   const struct axion_text *name)
{
    struct axion_tenant *tenant;

    memset(draft, 0, sizeof(*draft));
    draft->memory = memory;
    if (!axion_tenant_name_valid(name->data, name->bytes))
        return refuse(draft,
                      "invalid name \"%.*s\": 1 to %u of A-Z a-z "
                      "0-9 _ . -",
                      (int)(name->bytes > 64 ? 64 : name->bytes), name->data,
                      AXION_TENANT_NAME_MAX);
    tenant = memory->alloc(memory->context, sizeof(*tenant));
    if (tenant == NULL)
        return no_memory(draft);
    memset(tenant, 0, sizeof(*tenant));
    draft->tenant = tenant;
    tenant->name = copy_text(draft, name);
    tenant->realm = memory->alloc(memory->context, sizeof(*tenant->realm));
    if (tenant->name.data == NULL || tenant->realm == NULL)
        return no_memory(draft);
    memset(tenant->realm, 0, sizeof(*tenant->realm));
    tenant->number = axion_tenant_number(name->data, name->bytes);
    tenant->priority = AXION_PRIORITY_NORMAL;
    tenant->cache_scope = AXION_CACHE_TENANT;
    return AXION_OK;
}


int
axion_tenant_set(struct axion_tenant_draft *draft,
                 const struct axion_text *words, size_t n)
{
    const struct param *p;
    int rc;

    assert(n >= 1);
    for (p = params; p < params + N_PARAMS; p++) {
        if (equals(&words[0], p->name))
            break;
    }
    if (p == params + N_PARAMS) {
        rc = axion_limits_set(&draft->tenant->limits, words, n, draft->why,
                              sizeof(draft->why));
        if (rc != AXION_AGAIN)
            return rc;
        return refuse(draft, "unknown parameter \"%.*s\" in axion_tenant",
                      (int)(words[0].bytes > 64 ? 64 : words[0].bytes),
                      words[0].data);
    }
    if (n - 1 < p->words_min || n - 1 > p->words_max)
        return refuse(draft, "invalid number of parameters of \"%s\"", p->name);
    if (!p->many && (draft->seen >> (p - params) & 1) != 0)
        return refuse(draft, "\"%s\" is duplicate", p->name);
    draft->seen |= (uint64_t)1 << (p - params);
    return p->handler(draft, words + 1, n - 1);
}


int
axion_tenant_end(struct axion_tenant_draft *draft)
{
    const struct axion_tenant *tenant = draft->tenant;

    if (tenant->max_context != 0 && tenant->max_output > tenant->max_context)
        return refuse(draft, "max_output %u is more than max_context %u",
                      tenant->max_output, tenant->max_context);
    return AXION_OK;
}
