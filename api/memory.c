/*
 * Outputs: growing ones over pool memory, and fixed windows.  See memory.h
 * for the contract; all writers of the library end up in axion_out_reserve(),
 * which is the only place that checks room.
 */
#include "api/memory.h"

#include <math.h>
#include <string.h>

#define OUT_HINT_MIN 256u


void
axion_out_grow(struct axion_out *out, const struct axion_memory *memory,
               size_t hint, size_t bytes_max)
{
    memset(out, 0, sizeof(*out));
    out->memory = memory;
    out->bytes_max = bytes_max;
    if (hint < OUT_HINT_MIN)
        hint = OUT_HINT_MIN;
    if (hint > bytes_max)
        hint = bytes_max;
    out->data = memory->alloc(memory->context, hint);
    if (out->data == NULL)
        out->error = AXION_ERR_NO_MEMORY;
    else
        out->capacity = hint;
}


void
axion_out_fixed(struct axion_out *out, void *data, size_t capacity)
{
    memset(out, 0, sizeof(*out));
    out->data = data;
    out->capacity = capacity;
    out->bytes_max = capacity;
}


int
axion_out_status(const struct axion_out *out)
{
    return out->error;
}


static int
out_enlarge(struct axion_out *out, size_t needed)
{
    size_t capacity = out->capacity ? out->capacity : OUT_HINT_MIN;
    char *data;

    if (out->memory == NULL || needed > out->bytes_max) {
        out->error = AXION_ERR_PAYLOAD_TOO_LARGE;
        return 0;
    }
    while (capacity < needed)
        capacity =
            capacity > out->bytes_max / 2 ? out->bytes_max : capacity * 2;
    data = out->memory->alloc(out->memory->context, capacity);
    if (data == NULL) {
        out->error = AXION_ERR_NO_MEMORY;
        return 0;
    }
    memcpy(data, out->data, out->bytes);
    out->data = data;
    out->capacity = capacity;
    return 1;
}


char *
axion_out_reserve(struct axion_out *out, size_t bytes)
{
    if (out->error != AXION_OK)
        return NULL;
    if (bytes > out->capacity - out->bytes) {
        if (bytes > SIZE_MAX - out->bytes) {
            out->error = AXION_ERR_PAYLOAD_TOO_LARGE;
            return NULL;
        }
        if (!out_enlarge(out, out->bytes + bytes))
            return NULL;
    }
    return out->data + out->bytes;
}


void
axion_out_u64(struct axion_out *out, uint64_t value)
{
    char digits[20];
    size_t i = sizeof(digits);

    do {
        digits[--i] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    axion_out_bytes(out, digits + i, sizeof(digits) - i);
}


void
axion_out_decimal(struct axion_out *out, double value, int decimals)
{
    /* No printf: its decimal point follows the process's locale. */
    static const uint64_t power[] = {1, 10, 100, 1000, 10000, 100000, 1000000};
    uint64_t scale, scaled, fraction;
    char digits[6];
    int i;

    if (!isfinite(value))
        value = 0;
    if (decimals < 0)
        decimals = 0;
    if (decimals > 6)
        decimals = 6;
    scale = power[decimals];
    if (value > 1e12)
        value = 1e12;
    if (value < -1e12)
        value = -1e12;
    scaled = (uint64_t)(fabs(value) * (double)scale + 0.5);
    if (value < 0 && scaled != 0)
        axion_out_bytes(out, "-", 1);
    axion_out_u64(out, scaled / scale);
    if (decimals == 0)
        return;
    axion_out_bytes(out, ".", 1);
    fraction = scaled % scale;
    for (i = decimals; i > 0; i--) {
        digits[i - 1] = (char)('0' + fraction % 10);
        fraction /= 10;
    }
    axion_out_bytes(out, digits, (size_t)decimals);
}


char *
axion_memory_copy(const struct axion_memory *memory, const void *data,
                  size_t bytes)
{
    char *copy;

    if (bytes == SIZE_MAX)
        return NULL;
    copy = memory->alloc(memory->context, bytes + 1);
    if (copy == NULL)
        return NULL;
    if (bytes != 0)
        memcpy(copy, data, bytes);
    copy[bytes] = '\0';
    return copy;
}
