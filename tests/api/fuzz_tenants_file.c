/*
 * Any bytes as a file of tenants.  What must hold: a refusal says why and has
 * a line of the file, and what is taken over keeps every bound, is found by
 * its name, and points into nothing that the caller gives back.
 */
#include <stdlib.h>
#include <string.h>
#include "api/tenants_file.h"
#include "shm/errors.h"

#define TEXT_MAX   65536
#define BLOCKS_MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);


static void
expect(int condition)
{
    if (!condition)
        abort();
}


static struct {
    void *blocks[BLOCKS_MAX];
    size_t n;
} heap;


static void *
allocate(void *context, size_t bytes)
{
    (void) context;
    expect(heap.n < BLOCKS_MAX);
    heap.blocks[heap.n] = malloc(bytes);
    expect(heap.blocks[heap.n] != NULL);
    return heap.blocks[heap.n++];
}


static void
check(const struct axion_tenants *set)
{
    for (size_t i = 0; i < set->n_tenants; i++) {
        const struct axion_tenant *t = set->tenants[i];

        expect(axion_tenant_name_valid(t->name.data, t->name.bytes));
        expect(axion_tenants_find_name(set, t->name.data, t->name.bytes) == t);
        expect(t->n_keys <= AXION_TENANT_KEYS_MAX);
        expect(t->n_models <= AXION_TENANT_GLOBS_MAX);
        expect(t->n_aliases <= AXION_TENANT_ALIASES_MAX);
        expect(t->priority <= AXION_PRIORITY_HIGH);
        expect(t->cache_scope <= AXION_CACHE_NONE);
        for (size_t k = 0; k < t->n_models; k++)
            expect(t->models[k].data[t->models[k].bytes] == 0);
        for (size_t k = 0; k < t->n_keys; k++) {
            if (t->keys[k].argon2id.data == NULL)
                expect(axion_tenants_find_key(set, &t->keys[k].hash).key ==
                       &t->keys[k]);
        }
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct axion_memory memory = {allocate, NULL};
    struct axion_tenants_fault fault;
    struct axion_tenants set;

    if (bytes > TEXT_MAX)
        return 0;
    char *text = malloc(bytes + 1);
    expect(text != NULL && axion_tenant_init() == AXION_OK);
    memcpy(text + 1, data, bytes);
    int error =
        axion_tenants_read(&set, text + 1, bytes, &memory, &fault);
    free(text);
    if (error == AXION_OK)
        check(&set);
    else
        expect(fault.why[0] != 0 && fault.line <= bytes + 1);
    while (heap.n > 0)
        free(heap.blocks[--heap.n]);
    return 0;
}
