/*
 * What reading (packfile.c) and writing (packwrite.c) pack files share.
 */
#ifndef AX_PACKINTERNAL_H
#define AX_PACKINTERNAL_H

#include <sys/stat.h>

#include "engine/model/packfile.h"


void ax_pack_hash(uint8_t hash[AX_PACK_HASH], const void *data, size_t n);
void ax_pack_tag(uint8_t tag[AX_PACK_TAG], const void *data, size_t n);

/* Of the order, formats and shapes of the plan's tensors. */
void ax_pack_plan_hash(const struct ax_plan *plan, uint8_t hash[AX_PACK_HASH]);

/* Of the file's content; MODEL_FILE when it ends before `bytes`. */
int ax_pack_hash_source(int fd, uint64_t bytes, uint8_t hash[AX_PACK_HASH],
                        const char *label, struct ax_error *err);

/* Fills in what follows from the header's sizes, which are in range. */
void ax_pack_places(struct ax_pack *pack);


static inline int64_t
ax_pack_mtime_ns(const struct stat *st)
{
    return st->st_mtim.tv_sec * 1000000000ll + st->st_mtim.tv_nsec;
}

#endif /* AX_PACKINTERNAL_H */
