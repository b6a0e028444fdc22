/*
 * Where UTF-8 text may be cut; axion_utf8_valid() is request.h's, since the
 * gateways need it too.  Private to shm/.
 */
#ifndef AXION_SHM_UTF8_H
#define AXION_SHM_UTF8_H

#include <stddef.h>

/* The most bytes, at most `limit`, that well-formed text can be cut to
 * without cutting a sequence: at least limit - 3. */
size_t axion_utf8_cut(const char *text, size_t bytes, size_t limit);

#endif
