/*
 * Shows that the memory of kept grammars is one account that is never passed,
 * whose idle entries give way, the greediest tenant's first; that a tenant
 * who uses many leaves room for who comes next; that what can never fit is
 * refused as such.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "engine/server/grammars.h"

#define MEMORY  (32u << 20)
#define N_VOCAB 257 /* the bytes, and an end */
#define MANY    64

static struct ax_grammars *grammars;
static struct ax_kept_grammar *held[MANY];


static size_t
bytes_of(const void *context, int32_t token, char *out, size_t cap)
{
    (void)context;
    if (token >= 256 || cap == 0) {
        return 0;
    }
    out[0] = (char)token;
    return 1;
}


static bool
ends(const void *context, int32_t token)
{
    (void)context;
    return token == 256;
}


static void
start(uint64_t memory)
{
    const struct ax_grammars_options options = {{NULL, N_VOCAB, bytes_of, ends},
                                                memory};
    assert_int_equal(ax_grammars_open(&grammars, &options), AXION_OK);
}


static struct ax_grammar_counts
counts(void)
{
    struct ax_grammar_counts c;
    ax_grammars_counts(grammars, &c);
    return c;
}


static int
get_text(uint64_t tenant, const char *gbnf, struct ax_kept_grammar **out,
         bool *is_new)
{
    struct ax_error err = {0};
    struct axion_request_view view = {0};
    view.grammar_kind = AXION_GRAMMAR_GBNF;
    view.grammar.data = gbnf;
    view.grammar.bytes = (uint32_t)strlen(gbnf);
    return ax_grammars_get(grammars, tenant, &view, out, is_new, &err);
}


/* The tenant's grammar of this number. */
static int
get(uint64_t tenant, uint32_t number, struct ax_kept_grammar **out,
    bool *is_new)
{
    char text[64];
    snprintf(text, sizeof(text), "root ::= \"%u\"", number);
    return get_text(tenant, text, out, is_new);
}


/* Whether it had been kept; it is left idle. */
static bool
was_kept(uint64_t tenant, uint32_t number)
{
    struct ax_kept_grammar *k;
    bool is_new;
    assert_int_equal(get(tenant, number, &k, &is_new), AXION_OK);
    ax_grammar_release(k);
    return !is_new;
}


/* Holds as many of the tenant's as it may. */
static uint32_t
hold_all(uint64_t tenant, uint32_t from)
{
    bool is_new;
    uint32_t n = 0;
    int rc;
    while ((rc = get(tenant, n, &held[from + n], &is_new)) == AXION_OK) {
        n++;
        assert_true(from + n < MANY);
        assert_true(counts().bytes <= MEMORY);
    }
    assert_int_equal(rc, AXION_ERR_QUEUE_FULL);
    return n;
}


static void
release(uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        ax_grammar_release(held[i]);
    }
}


static void
the_account_is_never_passed(void **state)
{
    (void)state;
    start(MEMORY);
    for (uint32_t i = 0; i < 300; i++) {
        assert_false(was_kept(i % 5, i));
        assert_true(was_kept(i % 5, i));
        assert_true(counts().bytes <= MEMORY);
    }
    struct ax_grammar_counts c = counts();
    assert_int_equal(c.compiles, 300);
    assert_int_equal(c.hits, 300);
    /* All of it is used: one more would not fit. */
    assert_true(c.kept > 5 && c.bytes + c.bytes / c.kept > MEMORY);
    ax_grammars_close(grammars);
}


static void
what_is_used_leaves_room(void **state)
{
    (void)state;
    start(MEMORY);
    uint32_t first = hold_all(1, 0);
    uint32_t second = hold_all(2, first);
    uint32_t third = hold_all(3, first + second);
    assert_true(first > second && second > third && third > 0);
    assert_true(counts().bytes <= MEMORY);
    /* Who ends makes room for who has less, not for himself alone. */
    release(first);
    struct ax_kept_grammar *k;
    bool is_new;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(get(2, 100 + i, &k, &is_new), AXION_OK);
        held[i] = k;
    }
    release(3);
    for (uint32_t i = first; i < first + second + third; i++) {
        ax_grammar_release(held[i]);
    }
    ax_grammars_close(grammars);
}


/* What is kept may fill the account; taken into use again, it may not. */
static void
idle_ones_count_when_they_are_used(void **state)
{
    struct ax_kept_grammar *k = NULL;
    bool is_new;
    (void)state;
    start(MEMORY);
    uint32_t n = hold_all(1, 0);
    release(n);
    for (uint32_t i = 0; i < MANY; i++) {
        was_kept(1, i);
    }
    uint32_t kept = (uint32_t)counts().kept;
    assert_true(kept > n);
    uint32_t again = 0;
    while (get(1, MANY - 1 - again, &held[again], &is_new) == AXION_OK) {
        again++;
    }
    assert_int_equal(again, n);
    assert_int_equal(get(2, 0, &k, &is_new), AXION_OK);
    ax_grammar_release(k);
    release(again);
    ax_grammars_close(grammars);
}


static void
the_greediest_gives_way(void **state)
{
    (void)state;
    start(MEMORY);
    assert_false(was_kept(2, 0));
    for (uint32_t i = 0; i < MANY; i++) {
        assert_false(was_kept(1, i));
    }
    assert_true(was_kept(2, 0)); /* though nobody was older */
    assert_true(was_kept(1, MANY - 1));
    assert_false(was_kept(1, 0));
    ax_grammars_close(grammars);
}


/* A text of 200,000 letters: twice the memory of a short one. */
static const char *
large(void)
{
    static char text[200000 + 16];
    memset(text, 'a', sizeof(text));
    memcpy(text, "root ::= \"", 10);
    memcpy(text + sizeof(text) - 2, "\"", 2);
    return text;
}


/* Age alone would take the first one. */
static void
the_large_give_way_first(void **state)
{
    struct ax_kept_grammar *k;
    bool is_new;
    (void)state;
    start(MEMORY);
    assert_false(was_kept(1, 0));
    assert_int_equal(get_text(1, large(), &k, &is_new), AXION_OK);
    ax_grammar_release(k);
    uint64_t kept = 0;
    for (uint32_t i = 1; counts().kept > kept; i++) {
        kept = counts().kept;
        assert_false(was_kept(1, i));
    }
    assert_true(was_kept(1, 0));
    assert_int_equal(get_text(1, large(), &k, &is_new), AXION_OK);
    assert_true(is_new);
    ax_grammar_release(k);
    ax_grammars_close(grammars);
}


static void
what_cannot_fit_is_refused_as_such(void **state)
{
    struct ax_kept_grammar *k;
    bool is_new;
    (void)state;
    start(1u << 20);
    assert_int_equal(get(1, 1, &k, &is_new), AXION_ERR_GRAMMAR_LIMIT);
    ax_grammars_close(grammars);
    start(3u << 20);
    assert_int_equal(get(1, 1, &k, &is_new), AXION_OK);
    ax_grammar_release(k);
    assert_int_equal(get_text(1, large(), &k, &is_new),
                     AXION_ERR_GRAMMAR_LIMIT);
    assert_int_equal(counts().kept, 1);
    ax_grammars_close(grammars);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_account_is_never_passed),
        cmocka_unit_test(what_is_used_leaves_room),
        cmocka_unit_test(idle_ones_count_when_they_are_used),
        cmocka_unit_test(the_greediest_gives_way),
        cmocka_unit_test(the_large_give_way_first),
        cmocka_unit_test(what_cannot_fit_is_refused_as_such),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
