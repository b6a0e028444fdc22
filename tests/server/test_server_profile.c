/*
 * Shows that gateways read, while axiond --profile runs, what its file says in
 * the end: time, bytes and operations of each kind of work of each layer, those
 * of stages that share a name added up; and that without a profile there is
 * nothing to read.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/server/harness.h"

static struct axion_costs costs;


static void
read_costs(struct axion_client *c)
{
    while (axion_client_costs(c, &costs) != AXION_OK) {
    }
}


static struct axion_cost *
find(uint32_t layer, const char *op)
{
    for (uint32_t i = 0; i < costs.n; i++) {
        if (costs.costs[i].layer == layer &&
            strcmp(costs.ops[costs.costs[i].op], op) == 0) {
            return &costs.costs[i];
        }
    }
    return NULL;
}


/* Takes every line of the file away from what was read. */
static void
take_away(FILE *f)
{
    char line[256], op[AXION_COST_OP_BYTES];
    unsigned layer;
    unsigned long long calls, ns, bytes, operations;

    assert_non_null(fgets(line, sizeof(line), f)); /* the head */
    while (fgets(line, sizeof(line), f) != NULL) {
        assert_int_equal(sscanf(line, "serve,%u,%63[^,],%llu,%llu,%llu,%llu,",
                                &layer, op, &calls, &ns, &bytes, &operations),
                         6);
        struct axion_cost *cost = find(layer, op);
        assert_non_null(cost);
        cost->ns -= ns;
        cost->bytes -= bytes;
        cost->operations -= operations;
    }
}


static void
profile_of(const char *variant)
{
    static struct stream s;
    struct request_options o;
    struct engine e = {0};
    char path[] = "/tmp/axion-test-profile-XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    engine_start(&e, variant,
                 (const char *[]){"--profile", path, "--threads", "2", NULL});
    struct axion_client *c = client_open(&e, "test_server_profile");
    request_init(&o, "the quick", 9);
    run_alone(c, &o, &s);
    read_costs(c);
    assert_true(find(0, "attention")->ns > 0);
    assert_true(find(1, "attention")->bytes > 0);
    assert_true(find(1, "attn_output")->operations > 0);
    stop_idle(&e, c);
    FILE *f = fdopen(fd, "r");
    assert_non_null(f);
    take_away(f);
    fclose(f);
    unlink(path);
    for (uint32_t i = 0; i < costs.n; i++) {
        assert_int_equal(costs.costs[i].ns, 0);
        assert_int_equal(costs.costs[i].bytes, 0);
        assert_int_equal(costs.costs[i].operations, 0);
    }
}


static void
what_gateways_read_is_what_the_file_says(void **state)
{
    (void)state;
    profile_of("q4_0");
    profile_of("q8_0-qwen3moe"); /* names twice in a layer */
}


static void
nothing_without_a_profile(void **state)
{
    static struct stream s;
    struct request_options o;
    struct engine e = {0};

    (void)state;
    engine_start(&e, "q4_0", (const char *[]){NULL});
    struct axion_client *c = client_open(&e, "test_server_profile");
    request_init(&o, "the quick", 4);
    run_alone(c, &o, &s);
    read_costs(c);
    assert_int_equal(costs.n, 0);
    stop_idle(&e, c);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_gateways_read_is_what_the_file_says),
        cmocka_unit_test(nothing_without_a_profile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
