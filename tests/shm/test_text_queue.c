/* The joining of tokens: against a plain model, with random segments and
 * rooms, no id, byte or extension is lost, doubled, moved before its turn,
 * and no UTF-8 sequence is cut. */
#include <stdlib.h>
#include <string.h>
#include "shm/request.h"
#include "shm/text_queue.h"
#include "tests/shm/pair.h"

#define CAPACITY 1024u
#define ROOM_MIN 32u
#define LONG     (1u << 20)

/* All that was pushed and all that was taken, in order. */
struct tape {
    uint32_t *ids;
    char *text;
    uint8_t *ext;
    size_t n_ids;
    size_t text_bytes;
    size_t ext_bytes;
};


static void
tape_open(struct tape *t)
{
    memset(t, 0, sizeof(*t));
    t->ids = malloc(LONG * sizeof(uint32_t));
    t->text = malloc(LONG);
    t->ext = malloc(LONG);
}


static void
tape_close(struct tape *t)
{
    free(t->ids);
    free(t->text);
    free(t->ext);
}


static void
tape_add(struct tape *t, const void *ids, size_t n_ids, const void *text,
         size_t text_bytes, const void *ext, size_t ext_bytes)
{
    assert_true(t->n_ids + n_ids < LONG && t->text_bytes + text_bytes < LONG);
    memcpy(t->ids + t->n_ids, ids, n_ids * sizeof(uint32_t));
    memcpy(t->text + t->text_bytes, text, text_bytes);
    memcpy(t->ext + t->ext_bytes, ext, ext_bytes);
    t->n_ids += n_ids;
    t->text_bytes += text_bytes;
    t->ext_bytes += ext_bytes;
}


/* Random text of whole characters of 1 to 4 bytes. */
static uint32_t
make_text(char *text, uint32_t limit, uint64_t *random)
{
    static const char *const characters[] = {"a", "\xc3\xb6", "\xe2\x82\xac",
                                             "\xf0\x9f\x98\x80"};
    uint32_t bytes = 0;

    for (;;) {
        const char *c = characters[next_random(random) % 4];
        if (bytes + strlen(c) > limit) {
            return bytes;
        }
        memcpy(text + bytes, c, strlen(c));
        bytes += (uint32_t)strlen(c);
    }
}


static void
push_random(struct axion_text_queue *q, uint8_t *data, struct tape *pushed,
            uint64_t *random)
{
    uint32_t ids[8];
    char text[128];
    uint8_t ext[16];
    uint32_t n_ids = next_random(random) % 8;
    uint32_t text_bytes =
        make_text(text, next_random(random) % sizeof(text), random);
    /* Ids and extensions of one segment must fit the smallest room. */
    uint32_t ext_bytes = n_ids <= 4 && next_random(random) % 4 == 0
                             ? (uint32_t)(next_random(random) % sizeof(ext))
                             : 0;

    for (uint32_t i = 0; i < 8; i++) {
        ids[i] = (uint32_t)next_random(random);
    }
    for (uint32_t i = 0; i < ext_bytes; i++) {
        ext[i] = (uint8_t)next_random(random);
    }
    if (n_ids + text_bytes + ext_bytes == 0 ||
        !axion_text_queue_fits(q, CAPACITY, n_ids, text_bytes, ext_bytes)) {
        return;
    }
    axion_text_queue_push(q, data, CAPACITY, ids, n_ids, text, text_bytes, ext,
                          ext_bytes);
    tape_add(pushed, ids, n_ids, text, text_bytes, ext, ext_bytes);
}


static void
take_random(struct axion_text_queue *q, const uint8_t *data, struct tape *taken,
            uint64_t *random)
{
    struct axion_text_part part;
    uint8_t payload[512];
    uint32_t room =
        ROOM_MIN + next_random(random) % (sizeof(payload) - ROOM_MIN);
    int was_empty = axion_text_queue_empty(q);

    axion_text_queue_take(q, data, room, payload, &part);
    assert_true(part.bytes <= room);
    assert_true(was_empty == (part.bytes == 0));
    assert_int_equal(part.bytes,
                     part.n_ids * 4 + part.text_bytes + part.ext_bytes);
    const char *text = (const char *)payload + part.n_ids * 4;
    assert_true(axion_utf8_valid(text, part.text_bytes));
    tape_add(taken, payload, part.n_ids, text, part.text_bytes,
             text + part.text_bytes, part.ext_bytes);
}


static void
test_random_against_tape(void **state)
{
    uint64_t random = test_seed();

    (void)state;
    for (int round = 0; round < 30; round++) {
        struct axion_text_queue q = {0};
        struct tape pushed;
        struct tape taken;
        uint8_t *data = malloc(CAPACITY);
        uint32_t bias = 1 + next_random(&random) % 7;

        tape_open(&pushed);
        tape_open(&taken);
        for (int i = 0; i < 5000; i++) {
            if (next_random(&random) % 8 < bias) {
                push_random(&q, data, &pushed, &random);
            } else {
                take_random(&q, data, &taken, &random);
                assert_true(taken.n_ids <= pushed.n_ids);
            }
        }
        while (!axion_text_queue_empty(&q)) {
            take_random(&q, data, &taken, &random);
        }
        assert_int_equal(taken.n_ids, pushed.n_ids);
        assert_int_equal(taken.text_bytes, pushed.text_bytes);
        assert_int_equal(taken.ext_bytes, pushed.ext_bytes);
        assert_memory_equal(taken.ids, pushed.ids, 4 * pushed.n_ids);
        assert_memory_equal(taken.text, pushed.text, pushed.text_bytes);
        assert_memory_equal(taken.ext, pushed.ext, pushed.ext_bytes);
        tape_close(&pushed);
        tape_close(&taken);
        free(data);
    }
}


static void
push(struct axion_text_queue *q, uint8_t *data, uint32_t n_ids,
     const char *text, const char *ext)
{
    static const uint32_t ids[16] = {1, 2,  3,  4,  5,  6,  7,  8,
                                     9, 10, 11, 12, 13, 14, 15, 16};

    axion_text_queue_push(q, data, CAPACITY, ids, n_ids, text,
                          (uint32_t)strlen(text), (const uint8_t *)ext,
                          (uint32_t)strlen(ext));
}


/* Ids go with the part that has their text's start. */
static void
test_ids_never_come_after_their_text(void **state)
{
    struct axion_text_queue q = {0};
    struct axion_text_part part;
    uint8_t data[CAPACITY];
    uint8_t payload[64];

    (void)state;
    push(&q, data, 1, "abcdefghijklmnopqrstuvwxyz0123456789", "");
    push(&q, data, 2, "", "");
    axion_text_queue_take(&q, data, 32, payload, &part);
    assert_int_equal(part.n_ids, 1);
    assert_int_equal(part.text_bytes, 28);
    axion_text_queue_take(&q, data, 32, payload, &part);
    assert_int_equal(part.n_ids, 2);
    assert_int_equal(part.text_bytes, 8);
    assert_true(axion_text_queue_empty(&q));

    /* More ids than the room: the text waits for the last of them. */
    push(&q, data, 10, "ten", "");
    axion_text_queue_take(&q, data, 32, payload, &part);
    assert_int_equal(part.n_ids, 8);
    assert_int_equal(part.text_bytes, 0);
    axion_text_queue_take(&q, data, 32, payload, &part);
    assert_int_equal(part.n_ids, 2);
    assert_int_equal(part.text_bytes, 3);
}


static void
test_extensions_go_whole(void **state)
{
    struct axion_text_queue q = {0};
    struct axion_text_part part;
    uint8_t data[CAPACITY];
    uint8_t payload[64];

    (void)state;
    push(&q, data, 1, "abcdefgh", "");
    push(&q, data, 1, "text that is cut", "extension, 24 bytes long");
    axion_text_queue_take(&q, data, 32, payload, &part);
    assert_int_equal(part.n_ids, 1);
    assert_int_equal(part.text_bytes, 8);
    assert_int_equal(part.ext_bytes, 0);
    axion_text_queue_take(&q, data, 20, payload, &part);
    assert_int_equal(part.bytes, 0);
    axion_text_queue_take(&q, data, 32, payload, &part);
    assert_int_equal(part.n_ids, 1);
    assert_int_equal(part.ext_bytes, 24);
    assert_int_equal(part.text_bytes, 4);
    axion_text_queue_take(&q, data, 32, payload, &part);
    assert_int_equal(part.n_ids, 0);
    assert_int_equal(part.ext_bytes, 0);
    assert_int_equal(part.text_bytes, 12);
    assert_true(axion_text_queue_empty(&q));
}


static void
test_limits(void **state)
{
    struct axion_text_queue q = {0};
    uint8_t data[CAPACITY];
    char text[CAPACITY];

    (void)state;
    memset(text, 'x', sizeof(text));
    text[CAPACITY - AXION_SEGMENT_HEAD] = 0;
    assert_true(axion_text_queue_fits(&q, CAPACITY, 0, strlen(text), 0));
    assert_false(axion_text_queue_fits(&q, CAPACITY, 1, strlen(text), 0));
    assert_false(axion_text_queue_fits(&q, UINT32_MAX, 65536, 0, 0));
    assert_false(axion_text_queue_fits(&q, UINT32_MAX, 0, 0, 65536));
    assert_false(axion_text_queue_fits(&q, CAPACITY, UINT32_MAX, UINT32_MAX,
                                       UINT32_MAX));
    push(&q, data, 0, text, "");
    assert_false(axion_text_queue_fits(&q, CAPACITY, 0, 0, 0));
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_against_tape),
        cmocka_unit_test(test_ids_never_come_after_their_text),
        cmocka_unit_test(test_extensions_go_whole),
        cmocka_unit_test(test_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
