/*
 * A JSON text as jansson's tree, in memory of its own.
 *
 * jansson does not bear a failing malloc: it forgets what it could not
 * append, calls the text invalid then, or ends the process (an assertion in its
 * lexer).  So what it allocates while it reads comes out of chunks of the
 * tree, and where no chunk is to be had reading ends right there, by a jump
 * out of jansson into axion_json_tree_load().  The tree is given back whole;
 * nothing that jansson has in hand then can leak.
 *
 * Other users of jansson in the same process keep what malloc gave them: both
 * kinds of memory are told apart by their address.  A tree belongs to the
 * thread that loaded it until it is freed there.
 */
#ifndef AXION_API_JSON_TREE_H
#define AXION_API_JSON_TREE_H

#include <jansson.h>
#include <stddef.h>

struct axion_json_chunk;

struct axion_json_tree {
    json_t *root;
    struct axion_json_chunk *chunks; /* the last one first */
    struct axion_json_tree *next;    /* of this thread */
};

/* AXION_OK; INVALID_JSON with *error filled; NO_MEMORY.  `flags` are those of
 * json_loadb().  After an error there is nothing to be freed. */
int axion_json_tree_load(struct axion_json_tree *tree, const char *text,
                         size_t bytes, size_t flags, json_error_t *error);

/* In any order.  References to values of the tree are of no more use. */
void axion_json_tree_free(struct axion_json_tree *tree);

#endif
