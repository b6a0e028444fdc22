/*
 * What the reader of the header (parse.c) and the getters (gguf.c) share.
 */
#ifndef AX_GGUF_INTERNAL_H
#define AX_GGUF_INTERNAL_H

#include "engine/gguf/gguf.h"


#define AX_GGUF_LABEL 96u /* bytes of the file's name in an error line */


struct ax_gguf {
    char *path;
    char label[AX_GGUF_LABEL]; /* its end, escaped */
    int fd;                    /* -1: closed */
    uint64_t base;             /* where the header lies in fd */
    uint32_t version;
    uint64_t file_bytes;

    /* An address range as long as the header may become; filled by pread. */
    unsigned char *header;
    size_t header_room;
    size_t header_have;

    uint64_t alignment;
    uint64_t data_offset; /* of the first tensor */
    uint64_t table_end;   /* behind the last tensor's record */
    int64_t mtime_ns;     /* of the file when it was opened */

    uint32_t n_keys;
    struct ax_gguf_key *keys;
    uint32_t *keys_sorted; /* indexes by name */
    uint32_t n_tensors;
    struct ax_gguf_tensor *tensors;
    uint32_t *tensors_sorted;
};


/* Reads and checks the whole header of g, whose file is open. */
int ax_gguf_parse(struct ax_gguf *g, struct ax_error *err);

/* Bytes of one element of a fixed-size type, 0 for strings and arrays. */
uint32_t ax_gguf_type_bytes(uint32_t type);
const char *ax_gguf_type_name(uint32_t type);

#endif /* AX_GGUF_INTERNAL_H */
