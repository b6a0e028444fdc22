/*
 * The error of the engine's rooms: one number of shm/errors.def and one line
 * of text that a person can act on.
 *
 * A function that can fail returns the number (AXION_OK is 0) and, where it
 * takes a `struct ax_error *`, leaves the line there; NULL is allowed.  The
 * struct is plain memory of the caller's, overwritten by the next error and
 * untouched by success.  Text that comes from a file is escaped before it
 * gets here, so a line is always printable and never has a line feed.
 */
#ifndef AX_ERROR_H
#define AX_ERROR_H

#include <stddef.h>

#include "shm/errors.h"


#define AX_ERROR_TEXT 256u


struct ax_error {
    int number;               /* AXION_ERR_* */
    char text[AX_ERROR_TEXT]; /* terminated, cut where too long */
};


/* Fills err (NULL: nothing to fill) and returns number. */
int ax_error_set(struct ax_error *err, int number, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * Copies n bytes that are not trusted into dst (size bytes, terminated) for
 * an error line: printable ASCII as it is, the rest as \xHH, cut with "...".
 * Returns dst.
 */
char *ax_error_escape(char *dst, size_t size, const char *bytes, size_t n);

#endif /* AX_ERROR_H */
