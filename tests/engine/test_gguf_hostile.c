/*
 * A GGUF file that lies about counts, lengths, types, shapes or offsets, or
 * ends anywhere, is refused with a line that names the place; nothing is read
 * or allocated on its word (run it under ASan for the proof).
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/engine/bytes.h"


static void
refused(struct bytes *b, int number, const char *words)
{
    struct ax_error err = { 0 };
    int rc = bytes_open_gguf(b, b->n, &err);

    if (rc != number || strstr(err.text, words) == NULL
        || strncmp(err.text, "test.gguf: ", 11) != 0) {
        fail_msg("found %d \"%s\", expected %d with \"%s\"", rc, err.text,
                 number, words);
    }
    bytes_free(b);
}


static void
bad_preambles_are_named(void **state)
{
    struct bytes b = { 0 };

    (void) state;
    bytes_put(&b, "GGML....................", 24);
    refused(&b, AXION_ERR_MODEL_FILE, "not a GGUF file: found 47 47 4d 4c");
    bytes_put(&b, "FUGG....................", 24);
    refused(&b, AXION_ERR_MODEL_UNSUPPORTED, "big-endian");
    static const uint32_t versions[] = { 0, 1, 4, 1u << 31, 3u << 24 };
    for (size_t i = 0; i < 5; i++) {
        bytes_begin(&b, 0, 0);
        memcpy(b.p + 4, &versions[i], 4);
        refused(&b, AXION_ERR_MODEL_UNSUPPORTED, "expected 2 or 3");
    }
    bytes_put(&b, "GG", 2);
    refused(&b, AXION_ERR_MODEL_FILE, "the magic needs 4 bytes");
}


static void
counts_beyond_the_file_are_refused(void **state)
{
    static const uint64_t counts[] = { 1, 70000, 1ull << 32, 1ull << 63,
                                       UINT64_MAX };
    struct bytes b = { 0 };

    (void) state;
    for (size_t i = 0; i < 5; i++) {
        bytes_begin(&b, counts[i], 0);
        refused(&b, AXION_ERR_MODEL_FILE, "the tensor count is");
        bytes_begin(&b, 0, counts[i]);
        refused(&b, AXION_ERR_MODEL_FILE, "the key count is");
    }
}


/* A file whose only key is `name`, then whatever the caller puts. */
static void
one_key(struct bytes *b, const char *name, uint32_t type)
{
    bytes_begin(b, 0, 1);
    bytes_string(b, name);
    bytes_u32(b, type);
}


static void
lengths_of_strings_are_bounded(void **state)
{
    static const uint64_t lengths[] = { 100, 1ull << 32, 1ull << 63,
                                        UINT64_MAX - 7, UINT64_MAX };
    struct bytes b = { 0 };

    (void) state;
    for (size_t i = 0; i < 5; i++) {
        bytes_begin(&b, 0, 1);
        bytes_u64(&b, lengths[i]);
        bytes_put(&b, "0123456789", 10);
        refused(&b, AXION_ERR_MODEL_FILE, "a name needs");
        one_key(&b, "a.string", AX_GGUF_STRING);
        bytes_u64(&b, lengths[i]);
        refused(&b, AXION_ERR_MODEL_FILE, "key a.string at byte");
        one_key(&b, "a.list", AX_GGUF_ARRAY);
        bytes_u32(&b, AX_GGUF_STRING);
        bytes_u64(&b, 2);
        bytes_string(&b, "fits");
        bytes_u64(&b, lengths[i]);
        refused(&b, AXION_ERR_MODEL_FILE, "a string of the array needs");
    }
}


static void
names_of_keys_are_printable(void **state)
{
    struct bytes b = { 0 };

    (void) state;
    one_key(&b, "", AX_GGUF_U8);
    bytes_put(&b, "\1\2\3\4", 4);
    refused(&b, AXION_ERR_MODEL_FILE, "a name of 0 bytes");
    one_key(&b, "bad\nkey\xff", AX_GGUF_U8);
    bytes_put(&b, "\1", 1);
    refused(&b, AXION_ERR_MODEL_FILE, "key bad\\x0akey\\xff at byte");
    char longest[AX_GGUF_KEY_MAX + 2];
    memset(longest, 'k', sizeof(longest));
    longest[AX_GGUF_KEY_MAX + 1] = '\0';
    one_key(&b, longest, AX_GGUF_U8);
    bytes_put(&b, "\1", 1);
    refused(&b, AXION_ERR_MODEL_FILE, "a name of 256 bytes");
}


static void
types_out_of_the_enum_are_refused(void **state)
{
    struct bytes b = { 0 };

    (void) state;
    one_key(&b, "a", 13);
    bytes_u64(&b, 0);
    refused(&b, AXION_ERR_MODEL_FILE, "value type 13 is unknown");
    one_key(&b, "a", AX_GGUF_ARRAY);
    bytes_u32(&b, 0xffffffffu);
    bytes_u64(&b, 0);
    refused(&b, AXION_ERR_MODEL_FILE, "element type 4294967295 is unknown");
    one_key(&b, "a", AX_GGUF_ARRAY);
    bytes_u32(&b, AX_GGUF_ARRAY);
    bytes_u64(&b, 1);
    refused(&b, AXION_ERR_MODEL_UNSUPPORTED, "an array of arrays");
    one_key(&b, "a", AX_GGUF_BOOL);
    bytes_put(&b, "\2", 1);
    refused(&b, AXION_ERR_MODEL_FILE, "found 2 for a bool");
    static const uint64_t counts[] = { 9, 1ull << 61, 1ull << 62,
                                       UINT64_MAX };
    for (size_t i = 0; i < 4; i++) {
        one_key(&b, "a", AX_GGUF_ARRAY);
        bytes_u32(&b, AX_GGUF_U64);
        bytes_u64(&b, counts[i]);
        bytes_u64(&b, 0);
        refused(&b, AXION_ERR_MODEL_FILE, "key a at byte");
    }
}


static void
duplicates_are_refused(void **state)
{
    struct bytes b = { 0 };

    (void) state;
    bytes_begin(&b, 0, 3);
    bytes_key_u32(&b, "twice", 1);
    bytes_key_u32(&b, "other", 1);
    bytes_key_u32(&b, "twice", 2);
    refused(&b, AXION_ERR_MODEL_FILE, "key twice at byte");
    bytes_begin(&b, 2, 0);
    bytes_tensor(&b, "t", 8, 0);
    bytes_tensor(&b, "t", 8, 32);
    bytes_pad(&b, 32);
    bytes_put(&b, (uint8_t[64]) { 0 }, 64);
    refused(&b, AXION_ERR_MODEL_FILE, "the tensor is there twice");
}


static void
alignments_are_powers_of_two(void **state)
{
    static const uint32_t bad[] = { 0, 3, 48, 1u << 31 };
    struct bytes b = { 0 };

    (void) state;
    for (size_t i = 0; i < 4; i++) {
        bytes_begin(&b, 0, 1);
        bytes_key_u32(&b, "general.alignment", bad[i]);
        refused(&b, AXION_ERR_MODEL_FILE, "expected a power of two");
    }
    one_key(&b, "general.alignment", AX_GGUF_STRING);
    bytes_string(&b, "32");
    refused(&b, AXION_ERR_MODEL_FILE, "found string, expected an integer");
}


/* One tensor with these dims, then 64 KiB of data. */
static void
one_tensor(struct bytes *b, uint32_t n_dims, const uint64_t *ne,
           uint32_t format, uint64_t offset)
{
    static const uint8_t data[65536];

    bytes_begin(b, 1, 0);
    bytes_string(b, "the.tensor");
    bytes_u32(b, n_dims);
    for (uint32_t i = 0; i < n_dims && i < 8; i++) {
        bytes_u64(b, ne[i]);
    }
    bytes_u32(b, format);
    bytes_u64(b, offset);
    bytes_pad(b, 32);
    bytes_put(b, data, sizeof(data));
}


static void
shapes_that_lie_are_refused(void **state)
{
    struct bytes b = { 0 };

    (void) state;
    one_tensor(&b, 0, NULL, AXK_F32, 0);
    refused(&b, AXION_ERR_MODEL_FILE, "found 0 dimensions");
    one_tensor(&b, 5, (uint64_t[]) { 1, 1, 1, 1, 1 }, AXK_F32, 0);
    refused(&b, AXION_ERR_MODEL_FILE, "found 5 dimensions");
    one_tensor(&b, 2, (uint64_t[]) { 4, 0 }, AXK_F32, 0);
    refused(&b, AXION_ERR_MODEL_FILE, "dimension 1 is 0");
    one_tensor(&b, 1, (uint64_t[]) { UINT64_MAX }, AXK_F32, 0);
    refused(&b, AXION_ERR_MODEL_FILE, "dimension 0 is");
    one_tensor(&b, 2, (uint64_t[]) { 1ull << 32, 1ull << 32 }, AXK_F32, 0);
    refused(&b, AXION_ERR_MODEL_FILE, "dimension 1 is");
    one_tensor(&b, 2, (uint64_t[]) { 1ull << 31, 1ull << 31 }, AXK_F32, 0);
    refused(&b, AXION_ERR_MODEL_FILE, "the size overflows");
    one_tensor(&b, 1, (uint64_t[]) { 33 }, AXK_Q4_1, 0);
    refused(&b, AXION_ERR_MODEL_FILE, "no multiple of Q4_1's block of 32");
    one_tensor(&b, 1, (uint64_t[]) { 32 }, 4, 0);
    refused(&b, AXION_ERR_MODEL_UNSUPPORTED, "tensor format 4");
    one_tensor(&b, 1, (uint64_t[]) { 32 }, 0xffffffffu, 0);
    refused(&b, AXION_ERR_MODEL_UNSUPPORTED, "tensor format 4294967295");
}


static void
offsets_that_lie_are_refused(void **state)
{
    static const uint64_t beyond[] = { 65536, 1ull << 40, 1ull << 63,
                                       UINT64_MAX - 31 };
    struct bytes b = { 0 };
    uint64_t ne[] = { 64 };

    (void) state;
    for (size_t i = 0; i < 4; i++) {
        one_tensor(&b, 1, ne, AXK_F32, beyond[i]);
        refused(&b, AXION_ERR_MODEL_FILE, "pass the file's end");
    }
    one_tensor(&b, 1, ne, AXK_F32, 65536 - 224);
    refused(&b, AXION_ERR_MODEL_FILE, "pass the file's end");
    one_tensor(&b, 1, ne, AXK_F32, 16);
    refused(&b, AXION_ERR_MODEL_FILE, "no multiple of the alignment 32");
    bytes_begin(&b, 2, 0);
    bytes_tensor(&b, "first", 32, 0);
    bytes_tensor(&b, "second", 32, 96);
    bytes_pad(&b, 32);
    bytes_put(&b, (uint8_t[256]) { 0 }, 256);
    refused(&b, AXION_ERR_MODEL_FILE, "tensor second at byte");
}


/* Opens a descriptor's file as it is now. */
static int
reopen(int fd)
{
    struct ax_gguf *g;
    struct ax_error err;
    int rc = ax_gguf_open_fd(&g, dup(fd), "test.gguf", &err);

    ax_gguf_close(g);
    return rc;
}


static uint64_t
data_start(int fd)
{
    struct ax_gguf *g;
    uint64_t data = UINT64_MAX;

    assert_int_equal(ax_gguf_open_fd(&g, dup(fd), "whole", NULL), AXION_OK);
    for (uint32_t i = 0; i < ax_gguf_n_tensors(g); i++) {
        const struct ax_gguf_tensor *t = ax_gguf_tensor_at(g, i);
        data = t->offset < data ? t->offset : data;
    }
    ax_gguf_close(g);
    return data;
}


static void
a_file_cut_anywhere_is_refused(void **state)
{
    struct bytes b = { 0 };

    (void) state;
    bytes_tiny(&b, NULL);
    int fd = bytes_memfd(&b, b.n);
    uint64_t data = data_start(fd);
    for (size_t n = b.n - 1; n > 0; n -= n > data + 4096 ? 4096 : 1) {
        assert_int_equal(ftruncate(fd, (off_t) n), 0);
        assert_int_not_equal(reopen(fd), AXION_OK);
    }
    close(fd);
    bytes_free(&b);
}


/* Whatever one wrong byte in the header does, it does not do harm. */
static void
any_wrong_byte_is_survived(void **state)
{
    static const uint8_t flips[] = { 0x01, 0x80, 0xff };
    struct bytes b = { 0 };

    (void) state;
    bytes_tiny(&b, NULL);
    int fd = bytes_memfd(&b, b.n);
    uint64_t data = data_start(fd);
    for (size_t at = 0; at < data; at++) {
        uint8_t wrong = b.p[at] ^ flips[at % 3];
        assert_int_equal(pwrite(fd, &wrong, 1, (off_t) at), 1);
        (void) reopen(fd);
        assert_int_equal(pwrite(fd, &b.p[at], 1, (off_t) at), 1);
    }
    assert_int_equal(reopen(fd), AXION_OK);
    close(fd);
    bytes_free(&b);
}


static void
a_file_cut_after_open_is_an_error_not_a_signal(void **state)
{
    struct bytes b = { 0 };
    struct ax_gguf *g;
    struct ax_error err = { 0 };
    char buffer[16384];

    (void) state;
    bytes_tiny(&b, NULL);
    int fd = bytes_memfd(&b, b.n);
    int other = dup(fd);
    assert_int_equal(ax_gguf_open_fd(&g, fd, "shrinking.gguf", &err),
                     AXION_OK);
    const struct ax_gguf_tensor *t = ax_gguf_tensor(g, "token_embd.weight");
    assert_non_null(t);
    assert_int_equal(ax_gguf_read(g, t, 0, buffer, sizeof(buffer), &err),
                     AXION_OK);
    assert_int_equal(ftruncate(other, (off_t) t->offset + 100), 0);
    assert_int_equal(ax_gguf_read(g, t, 0, buffer, sizeof(buffer), &err),
                     AXION_ERR_MODEL_FILE);
    assert_non_null(strstr(err.text, "tensor token_embd.weight: the file "
                                     "ends at byte"));
    close(other);
    ax_gguf_close(g);
    bytes_free(&b);
}


static void
what_is_no_file_is_refused(void **state)
{
    struct ax_gguf *g;
    struct ax_error err = { 0 };

    (void) state;
    assert_int_equal(ax_gguf_open(&g, "/nonexistent/model.gguf", &err),
                     AXION_ERR_SYSTEM);
    assert_non_null(strstr(err.text, "/nonexistent/model.gguf: No such"));
    assert_int_equal(ax_gguf_open(&g, "/", &err), AXION_ERR_MODEL_FILE);
    assert_int_equal(ax_gguf_open(&g, "/dev/zero", &err),
                     AXION_ERR_MODEL_FILE);
    assert_null(g);
}


static void
getters_check_type_and_range(void **state)
{
    struct bytes b = { 0 };
    struct ax_gguf *g;
    struct ax_error err = { 0 };
    uint32_t u32 = 77;
    uint64_t u64;
    float f32;
    bool flag;
    struct ax_gguf_str s;

    (void) state;
    bytes_begin(&b, 0, 4);
    bytes_string(&b, "wide");
    bytes_u32(&b, AX_GGUF_U64);
    bytes_u64(&b, 1ull << 32);
    bytes_string(&b, "minus");
    bytes_u32(&b, AX_GGUF_I32);
    bytes_u32(&b, (uint32_t) -5);
    bytes_string(&b, "text");
    bytes_u32(&b, AX_GGUF_STRING);
    bytes_string(&b, "hello");
    bytes_key_u32(&b, "plain", 42);
    assert_int_equal(ax_gguf_open_fd(&g, bytes_memfd(&b, b.n), "g", &err),
                     AXION_OK);
    assert_int_equal(ax_gguf_u32(g, "wide", &u32, &err),
                     AXION_ERR_MODEL_FILE);
    assert_int_equal(ax_gguf_u64(g, "wide", &u64, &err), AXION_OK);
    assert_true(u64 == 1ull << 32);
    assert_int_equal(ax_gguf_u32(g, "minus", &u32, &err),
                     AXION_ERR_MODEL_FILE);
    assert_non_null(strstr(err.text, "key minus: found -5"));
    assert_int_equal(ax_gguf_u32(g, "absent", &u32, &err), AXION_AGAIN);
    assert_int_equal(u32, 77);
    assert_int_equal(ax_gguf_u32(g, "text", &u32, &err),
                     AXION_ERR_MODEL_FILE);
    assert_int_equal(ax_gguf_f32(g, "plain", &f32, &err),
                     AXION_ERR_MODEL_FILE);
    assert_int_equal(ax_gguf_bool(g, "plain", &flag, &err),
                     AXION_ERR_MODEL_FILE);
    assert_int_equal(ax_gguf_str(g, "text", &s, &err), AXION_OK);
    assert_int_equal(s.n, 5);
    assert_memory_equal(s.p, "hello", 5);
    assert_int_equal(ax_gguf_u32(g, "plain", &u32, &err), AXION_OK);
    assert_int_equal(u32, 42);
    ax_gguf_close(g);
    bytes_free(&b);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_preambles_are_named),
        cmocka_unit_test(counts_beyond_the_file_are_refused),
        cmocka_unit_test(lengths_of_strings_are_bounded),
        cmocka_unit_test(names_of_keys_are_printable),
        cmocka_unit_test(types_out_of_the_enum_are_refused),
        cmocka_unit_test(duplicates_are_refused),
        cmocka_unit_test(alignments_are_powers_of_two),
        cmocka_unit_test(shapes_that_lie_are_refused),
        cmocka_unit_test(offsets_that_lie_are_refused),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(any_wrong_byte_is_survived),
        cmocka_unit_test(a_file_cut_after_open_is_an_error_not_a_signal),
        cmocka_unit_test(what_is_no_file_is_refused),
        cmocka_unit_test(getters_check_type_and_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
