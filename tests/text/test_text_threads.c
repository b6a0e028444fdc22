/*
 * Shows that one tokenizer and one compiled template serve many threads at
 * once: each gets the result that a single thread gets.  TSan runs it.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "engine/text/template.h"
#include "engine/text/tokenizer.h"
#include "tests/text/small_vocab.h"


#define THREADS 4
#define ROUNDS  100
#define IDS_MAX 512

static const char source[] =
    "{% set ns = namespace(t='') %}{% for m in messages %}"
    "{% set ns.t = ns.t ~ '<|im_start|>' ~ m.content ~ '<|im_end|>' %}"
    "{% endfor %}{{ ns.t | upper | lower }}{{ messages | tojson }}";

static struct ax_tokenizer *tokenizer;
static struct ax_template *chat_template;


struct work {
    int number;
    int32_t ids[IDS_MAX];
    size_t n;
    char text[1024];
    bool failed;
};


/* A conversation that depends on the number, rendered and encoded. */
static bool
render_once(struct work *w)
{
    struct ax_pool *pool;
    struct ax_rendered out;
    char content[32];

    if (ax_pool_open(&pool, 1 << 20) != 0) {
        return false;
    }

    struct ax_value *vars = ax_value_dict(pool);
    struct ax_value *messages = ax_value_list(pool);

    for (int i = 0; i < 3; i++) {
        struct ax_value *m = ax_value_dict(pool);
        int n = snprintf(content, sizeof(content), "Hello %d %d", w->number, i);

        ax_value_put(pool, m, "content",
                     ax_value_string(pool, content, (size_t)n, false));
        ax_value_append(pool, messages, m);
    }
    ax_value_put(pool, vars, "messages", messages);

    int rc = ax_template_render(chat_template, pool, vars, NULL, 0, &out);

    if (rc == 0) {
        snprintf(w->text, sizeof(w->text), "%s", out.text);
        rc = ax_tokenizer_encode_segments(tokenizer, out.segs, out.n_segs, 0,
                                          w->ids, IDS_MAX, &w->n);
    }
    ax_pool_close(pool);
    return rc == 0 && w->n > 0 && w->n <= IDS_MAX;
}


static void *
work_thread(void *arg)
{
    const struct work *expected = arg;

    for (int i = 0; i < ROUNDS; i++) {
        static _Thread_local struct work mine;

        mine.number = expected->number;
        if (!render_once(&mine) || mine.n != expected->n ||
            strcmp(mine.text, expected->text) != 0 ||
            memcmp(mine.ids, expected->ids, mine.n * sizeof(int32_t)) != 0) {
            ((struct work *)arg)->failed = true;
        }
    }
    return NULL;
}


static void
test_threads_share_what_is_open(void **state)
{
    static struct work works[THREADS];
    pthread_t threads[THREADS];
    char err[256];

    (void)state;
    assert_int_equal(ax_tokenizer_open(&tokenizer,
                                       small_vocab("gpt2", "smollm"), err,
                                       sizeof(err)),
                     0);
    assert_int_equal(ax_template_open(&chat_template, source, strlen(source),
                                      err, sizeof(err)),
                     0);
    for (int i = 0; i < THREADS; i++) {
        works[i].number = i;
        assert_true(render_once(&works[i]));
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(
            pthread_create(&threads[i], NULL, work_thread, &works[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_false(works[i].failed);
    }
    ax_template_close(chat_template);
    ax_tokenizer_close(tokenizer);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_share_what_is_open)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
