/*
 * Shows that a pack file gives the bits of its GGUF file, that its pages are
 * mapped shared and read-only, and that one which is cut, damaged anywhere, of
 * another version or layout, or stale is refused with an error that says so.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/model/packinternal.h"
#include "tests/engine/bytes.h"
#include "tests/golden/runner.h"
#include "tests/tiny/tiny_model.h"

#define TOKENS 70u


static char folder[64];


static const char *
in_folder(const char *name)
{
    static char paths[4][128];
    static uint32_t next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}


static int
make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/axion-pack-XXXXXX");
    return mkdtemp(folder) == NULL;
}


static int
remove_folder(void **state)
{
    (void)state;
    unlink(in_folder("m.gguf"));
    unlink(in_folder("m.axpack"));
    unlink(in_folder("broken.axpack"));
    return rmdir(folder);
}


static void
write_model(const char *variant)
{
    assert_int_equal(
        tiny_model_write(in_folder("m.gguf"), tiny_variant_find(variant)), 0);
}


static struct ax_model *
open_model(const char *name)
{
    struct ax_error err = {0};
    struct ax_model *m = NULL;
    struct ax_model_options options = {.path = in_folder(name), .n_threads = 1};

    if (ax_model_open(&m, &options, &err) != AXION_OK) {
        fail_msg("%s: %s", name, err.text);
    }
    return m;
}


static void
pack(const char *variant)
{
    struct ax_error err = {0};
    struct ax_model *m;

    write_model(variant);
    m = open_model("m.gguf");
    if (ax_model_pack(m, in_folder("m.axpack"), &err) != AXION_OK) {
        fail_msg("%s: %s", variant, err.text);
    }
    ax_model_close(m);
}


/* The whole file in memory. */
static uint8_t *
slurp(const char *path, size_t *n)
{
    struct stat st;
    int fd = open(path, O_RDONLY);

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    uint8_t *data = malloc((size_t)st.st_size);
    assert_non_null(data);
    *n = (size_t)st.st_size;
    assert_int_equal(read(fd, data, *n), (ssize_t)*n);
    close(fd);
    return data;
}


static void
spill(const char *path, const uint8_t *data, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, n), (ssize_t)n);
    close(fd);
}


static void
opens(const char *path)
{
    struct ax_error err = {0};
    struct ax_model *m;
    struct ax_model_options options = {.path = path, .n_threads = 2};

    if (ax_model_open(&m, &options, &err) != AXION_OK) {
        fail_msg("%s", err.text);
    }
    ax_model_close(m);
}


static void
refused(const char *path, int number, const char *words)
{
    struct ax_error err = {0};
    struct ax_model *m;
    struct ax_model_options options = {.path = path, .n_threads = 2};
    int rc = ax_model_open(&m, &options, &err);

    if (rc != number || strstr(err.text, words) == NULL) {
        fail_msg("%d \"%s\" instead of %d \"..%s..\"", rc, err.text, number,
                 words);
    }
    assert_null(m);
}


static void
logits_of(const char *path, float *logits)
{
    static struct ax_step_token tokens[TOKENS];
    struct runner r;

    runner_open(&r, path, NULL, 2, 1);
    runner_reserve(&r, 0, TOKENS);
    for (uint32_t i = 0; i < TOKENS; i++) {
        tokens[i] = (struct ax_step_token){
            .token = (int32_t)(i * 37 % TINY_N_VOCAB),
            .position = i,
            .logits_row = i + 1 == TOKENS ? 0 : AX_NO_LOGITS};
    }
    runner_step(&r, tokens, TOKENS, 1);
    memcpy(logits, r.logits, TINY_N_VOCAB * sizeof(float));
    runner_close(&r);
}


static void
every_variant_has_the_bits_of_its_source(void **state)
{
    float packed[TINY_N_VOCAB], mapped[TINY_N_VOCAB];

    (void)state;
    for (const struct tiny_variant *v = tiny_variants; v->name != NULL; v++) {
        pack(v->name);
        logits_of(in_folder("m.gguf"), packed);
        logits_of(in_folder("m.axpack"), mapped);
        assert_memory_equal(packed, mapped, sizeof(packed));
    }
}


static void
pages_are_shared_and_read_only(void **state)
{
    struct ax_model *m;
    char line[512];
    uint32_t found = 0;

    (void)state;
    pack("q4_0");
    m = open_model("m.axpack");
    assert_true(ax_model_info(m)->mapped);
    FILE *maps = fopen("/proc/self/maps", "r");
    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps) != NULL) {
        if (strstr(line, "m.axpack") != NULL) {
            assert_non_null(strstr(line, " r--s "));
            found++;
        }
    }
    fclose(maps);
    assert_int_equal(found, 1);
    ax_model_close(m);
}


static void
a_cut_file_is_not_whole(void **state)
{
    size_t n;

    (void)state;
    pack("q8_0");
    uint8_t *data = slurp(in_folder("m.axpack"), &n);
    const size_t lengths[] = {n - 1, n / 2, AX_PACK_GGUF + 7, AX_PACK_GGUF};
    for (uint32_t i = 0; i < 4; i++) {
        spill(in_folder("broken.axpack"), data, lengths[i]);
        refused(in_folder("broken.axpack"), AXION_ERR_MODEL_FILE,
                "it is not whole");
    }
    spill(in_folder("broken.axpack"), data, 100);
    refused(in_folder("broken.axpack"), AXION_ERR_MODEL_FILE, "shorter");
    free(data);
}


static void
a_flipped_bit_anywhere_is_found(void **state)
{
    struct ax_pack p;
    size_t n;

    (void)state;
    pack("q4_k");
    uint8_t *data = slurp(in_folder("m.axpack"), &n);
    assert_int_equal(ax_pack_open(&p, in_folder("m.axpack"), NULL), AXION_OK);
    ax_pack_close(&p);
    const struct {
        size_t at;
        const char *words;
    } flips[] = {
        {20, "header is damaged"},
        {offsetof(struct ax_pack_header, source) + 2, "header is damaged"},
        {offsetof(struct ax_pack_header, header_hash), "header is damaged"},
        {AX_PACK_GGUF + p.header.gguf_bytes - 3, ""},
        {p.tags_offset + 5, "checksums are damaged"},
        {p.payload_offset, "weights are damaged"},
        {n / 2 > p.payload_offset ? n / 2 : n - 4096, "weights are damaged"},
        {n - 1, "weights are damaged"},
    };
    for (uint32_t i = 0; i < sizeof(flips) / sizeof(flips[0]); i++) {
        data[flips[i].at] ^= 0x10;
        spill(in_folder("broken.axpack"), data, n);
        refused(in_folder("broken.axpack"), AXION_ERR_MODEL_FILE,
                flips[i].words);
        data[flips[i].at] ^= 0x10;
    }
    free(data);
}


/* Whoever can write the file can seal it as well. */
static void
other_versions_and_sizes_are_refused(void **state)
{
    struct ax_pack_header good, h;
    size_t n;

    (void)state;
    pack("q4_0");
    uint8_t *data = slurp(in_folder("m.axpack"), &n);
    memcpy(&good, data, sizeof(good));

    const struct {
        size_t at;
        uint64_t value;
        size_t bytes;
        int number;
        const char *words;
    } changes[] = {
#define FIELD(name) offsetof(struct ax_pack_header, name)
        {FIELD(version), 2, 4, AXION_ERR_MODEL_UNSUPPORTED,
         "a pack file of version 2, this axion reads 1"},
        {FIELD(layout_version), 99, 4, AXION_ERR_MODEL_UNSUPPORTED,
         "packed in layout \"" AXK_LAYOUT_CLASS "\" 99"},
        {FIELD(layout), 'x', 1, AXION_ERR_MODEL_UNSUPPORTED,
         "packed in layout \"x"},
        {FIELD(plan_hash), 0, 8, AXION_ERR_MODEL_UNSUPPORTED,
         "order of weights"},
        {FIELD(gguf_bytes), 1ull << 40, 8, AXION_ERR_MODEL_FILE,
         "sizes out of range"},
        {FIELD(gguf_bytes), 0, 8, AXION_ERR_MODEL_FILE, "sizes out of range"},
        {FIELD(payload_bytes), UINT64_MAX, 8, AXION_ERR_MODEL_FILE,
         "sizes out of range"},
        {FIELD(payload_bytes), 1 << 30, 8, AXION_ERR_MODEL_FILE,
         "it is not whole"},
        {FIELD(source_bytes), 5, 8, AXION_ERR_MODEL_FILE, "stale"},
#undef FIELD
    };
    for (uint32_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        h = good;
        memcpy((char *)&h + changes[i].at, &changes[i].value, changes[i].bytes);
        ax_pack_seal(&h);
        memcpy(data, &h, sizeof(h));
        spill(in_folder("broken.axpack"), data, n);
        refused(in_folder("broken.axpack"), changes[i].number,
                changes[i].words);
    }
    free(data);
}


/* Sealed and with good checksums: nothing but the size is wrong.  Weights that
 * end with their page would let kernels read behind the mapping. */
static void
more_or_fewer_weights_than_the_plan_needs_are_refused(void **state)
{
    const int64_t pages[] = {-16, -1, 1};
    struct ax_pack_header good, h;
    size_t n;

    (void)state;
    pack("q4_0");
    uint8_t *data = slurp(in_folder("m.axpack"), &n);
    memcpy(&good, data, sizeof(good));
    uint8_t *file = calloc(1, n + 4096);
    assert_non_null(file);
    for (uint32_t i = 0; i < 3; i++) {
        struct ax_pack p = {.header = good};
        h = good;
        h.payload_bytes += (uint64_t)(pages[i] * 4096);
        p.header.payload_bytes = h.payload_bytes;
        ax_pack_places(&p);
        memcpy(file, data, n);
        uint8_t *tags = file + p.tags_offset;
        for (uint64_t k = 0; k < p.n_pieces; k++) {
            uint64_t at = k * AX_PACK_PIECE, left = h.payload_bytes - at;
            ax_pack_tag(tags + k * AX_PACK_TAG, file + p.payload_offset + at,
                        left < AX_PACK_PIECE ? left : AX_PACK_PIECE);
        }
        ax_pack_hash(h.tags_hash, tags, p.n_pieces * AX_PACK_TAG);
        ax_pack_seal(&h);
        memcpy(file, &h, sizeof(h));
        spill(in_folder("broken.axpack"), file,
              p.payload_offset + h.payload_bytes);
        refused(in_folder("broken.axpack"), AXION_ERR_MODEL_FILE,
                "bytes of weights in the pack file");
    }
    free(file);
    free(data);
}


static void
set_mtime(const char *path, int64_t seconds)
{
    struct timespec times[2] = {{seconds, 0}, {seconds, 0}};

    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}


static void
a_changed_source_makes_it_stale(void **state)
{
    size_t n;

    (void)state;
    pack("q4_0");
    set_mtime(in_folder("m.gguf"), 1700000000); /* touched: the same bytes */
    opens(in_folder("m.axpack"));

    uint8_t *data = slurp(in_folder("m.gguf"), &n);
    data[n - 1] ^= 1;
    spill(in_folder("m.gguf"), data, n);
    set_mtime(in_folder("m.gguf"), 1700000000);
    refused(in_folder("m.axpack"), AXION_ERR_MODEL_FILE, "stale");
    spill(in_folder("m.gguf"), data, n - 1);
    refused(in_folder("m.axpack"), AXION_ERR_MODEL_FILE, "stale");
    free(data);

    unlink(in_folder("m.gguf")); /* complete without it */
    opens(in_folder("m.axpack"));
}


static void
a_pack_file_is_not_packed_again(void **state)
{
    struct ax_error err = {0};
    struct ax_model *m;

    (void)state;
    pack("q4_0");
    m = open_model("m.axpack");
    assert_int_equal(ax_model_pack(m, in_folder("broken.axpack"), &err),
                     AXION_ERR_BAD_OPTION);
    ax_model_close(m);
}


static void
a_pack_file_does_not_replace_its_source(void **state)
{
    struct ax_error err = {0};
    struct ax_model *m;

    (void)state;
    write_model("q4_0");
    m = open_model("m.gguf");
    assert_int_equal(ax_model_pack(m, in_folder("./m.gguf"), &err),
                     AXION_ERR_BAD_OPTION);
    assert_non_null(strstr(err.text, "would replace it"));
    ax_model_close(m);
    opens(in_folder("m.gguf"));
}


static void
a_source_that_changes_meanwhile_is_not_packed(void **state)
{
    struct ax_error err = {0};
    struct ax_model *m;

    (void)state;
    write_model("q4_0");
    m = open_model("m.gguf");
    set_mtime(in_folder("m.gguf"), 1700000000);
    assert_int_equal(ax_model_pack(m, in_folder("broken.axpack"), &err),
                     AXION_ERR_MODEL_FILE);
    assert_non_null(strstr(err.text, "changed while it was packed"));
    assert_int_equal(ax_model_pack(m, "/proc/no/such.axpack", &err),
                     AXION_ERR_MODEL_FILE);
    ax_model_close(m);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_variant_has_the_bits_of_its_source),
        cmocka_unit_test(pages_are_shared_and_read_only),
        cmocka_unit_test(a_cut_file_is_not_whole),
        cmocka_unit_test(a_flipped_bit_anywhere_is_found),
        cmocka_unit_test(other_versions_and_sizes_are_refused),
        cmocka_unit_test(
            more_or_fewer_weights_than_the_plan_needs_are_refused),
        cmocka_unit_test(a_changed_source_makes_it_stale),
        cmocka_unit_test(a_pack_file_is_not_packed_again),
        cmocka_unit_test(a_pack_file_does_not_replace_its_source),
        cmocka_unit_test(a_source_that_changes_meanwhile_is_not_packed),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
