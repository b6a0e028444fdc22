/*
 * jansson's trees in chunks of their own (json_tree.h).  Chunks double, so
 * that looking an address up in them stays cheap; in the chunks nothing is
 * used twice, what jansson frees while it reads waits for the tree's end.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "api/json_tree.h"
#include "shm/errors.h"

#define CHUNK_BYTES_MIN (16u << 10)
#define ALIGNMENT       16u

struct axion_json_chunk {
    struct axion_json_chunk *next;
    size_t bytes;
    size_t used;
    _Alignas(ALIGNMENT) unsigned char data[];
};

/* In a module that is loaded at run time glibc would allocate these at their
 * first use, and end the process where it cannot: so they have their place
 * from the loading on. */
#define THREADS_OWN                                                            \
    static _Thread_local __attribute__((tls_model("initial-exec")))

THREADS_OWN struct axion_json_tree *trees; /* that are not freed */
THREADS_OWN struct axion_json_tree *loading;
THREADS_OWN struct axion_json_chunk *spare; /* of the smallest size */
THREADS_OWN jmp_buf out_of_memory;
static pthread_once_t allocator_once = PTHREAD_ONCE_INIT;


static struct axion_json_chunk *
add_chunk(struct axion_json_tree *tree, size_t bytes)
{
    struct axion_json_chunk *last = tree->chunks, *chunk;
    size_t n = last != NULL ? 2 * last->bytes : CHUNK_BYTES_MIN;

    if (n < bytes)
        n = bytes;
    chunk = n == CHUNK_BYTES_MIN ? spare : NULL;
    if (chunk != NULL)
        spare = NULL;
    else
        chunk = malloc(sizeof(*chunk) + n);
    if (chunk == NULL)
        return NULL;
    chunk->next = last;
    chunk->bytes = n;
    chunk->used = 0;
    tree->chunks = chunk;
    return chunk;
}


/* Most trees need one chunk: a thread keeps one for its next tree. */
static void
give_back(struct axion_json_chunk *chunk)
{
    if (chunk->bytes == CHUNK_BYTES_MIN && spare == NULL)
        spare = chunk;
    else
        free(chunk);
}


static void *
tree_malloc(size_t bytes)
{
    struct axion_json_chunk *chunk;
    void *memory;

    if (loading == NULL)
        return malloc(bytes);
    if (bytes > SIZE_MAX / 4)
        longjmp(out_of_memory, 1);
    bytes = (bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    chunk = loading->chunks;
    if (chunk == NULL || chunk->bytes - chunk->used < bytes) {
        chunk = add_chunk(loading, bytes);
        if (chunk == NULL)
            longjmp(out_of_memory, 1);
    }
    memory = chunk->data + chunk->used;
    chunk->used += bytes;
    return memory;
}


static int
is_in_tree(const struct axion_json_tree *tree, const void *memory)
{
    const struct axion_json_chunk *chunk;
    uintptr_t at = (uintptr_t)memory;

    for (chunk = tree->chunks; chunk != NULL; chunk = chunk->next) {
        uintptr_t start = (uintptr_t)chunk->data;

        if (at >= start && at - start < chunk->bytes)
            return 1;
    }
    return 0;
}


static void
tree_free(void *memory)
{
    const struct axion_json_tree *tree;

    for (tree = trees; tree != NULL; tree = tree->next) {
        if (is_in_tree(tree, memory))
            return;
    }
    free(memory);
}


static void
set_allocator(void)
{
    json_set_alloc_funcs(tree_malloc, tree_free);
}


int
axion_json_tree_load(struct axion_json_tree *tree, const char *text,
                     size_t bytes, size_t flags, json_error_t *error)
{
    int jumped;

    (void)pthread_once(&allocator_once, set_allocator);
    memset(tree, 0, sizeof(*tree));
    tree->next = trees;
    trees = tree;
    loading = tree;
    jumped = setjmp(out_of_memory);
    if (jumped == 0)
        tree->root = json_loadb(text, bytes, flags, error);
    loading = NULL;
    if (jumped == 0 && tree->root != NULL)
        return AXION_OK;
    axion_json_tree_free(tree);
    return jumped != 0 ? AXION_ERR_NO_MEMORY : AXION_ERR_INVALID_JSON;
}


void
axion_json_tree_free(struct axion_json_tree *tree)
{
    struct axion_json_tree **at = &trees;
    struct axion_json_chunk *chunk;

    while (*at != NULL && *at != tree)
        at = &(*at)->next;
    if (*at == tree)
        *at = tree->next;
    while ((chunk = tree->chunks) != NULL) {
        tree->chunks = chunk->next;
        give_back(chunk);
    }
    tree->root = NULL;
}
