/*
 * The table behind errors.h, made of errors.def.
 *
 * The entries stand in ascending order of their numbers (errors.def's groups
 * are ordered and each grows at its end; a test holds that), so that a look-up
 * is a binary search.  Nothing here allocates or locks.
 */
#include <stddef.h>
#include <string.h>
#include "shm/errors.h"

static const struct axion_error_info table[] = {
#define AXION_ERROR(name, number, status, type, code, retry, level, text)      \
    {#name, number, status, type, code, retry, AXION_LOG_##level, text},
#include "shm/errors.def"
#undef AXION_ERROR
};

static const unsigned table_n = sizeof(table) / sizeof(table[0]);


static const struct axion_error_info *
find(int number)
{
    unsigned low = 0;
    unsigned high = table_n;

    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (table[middle].number == number) {
            return &table[middle];
        }
        if (table[middle].number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}


const struct axion_error_info *
axion_error_info(int number)
{
    const struct axion_error_info *info = find(number);

    return info != NULL ? info : find(AXION_ERR_INTERNAL);
}


size_t
axion_error_log_bytes(int number, const char *message)
{
    int status = axion_error_info(number)->status;

    if (number == AXION_ERR_TEMPLATE_FAILED) {
        return 0;
    }
    if (status < 400 || status > 428) { /* not the request's fault */
        return strlen(message);
    }
    return strcspn(message, "\"'");
}


const struct axion_error_info *
axion_error_at(unsigned index)
{
    return index < table_n ? &table[index] : NULL;
}
