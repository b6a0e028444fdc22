/*
 * The compiler makes few stages (Q, K, V and gate, up meet once, a layer
 * costs eight), quantizes before it multiplies, and never lets two values share
 * memory while both are needed.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "engine/exec/program.h"
#include "tests/golden/runner.h"


#define ROWS      64u
#define SELECTED  4u


struct life {
    uint32_t  first, last;
    int       used;
};


static struct ax_model *
open_model(const char *variant, struct ax_program *p)
{
    struct ax_model_options options = { .path = runner_tiny_path(variant) };
    struct ax_model *m;

    assert_int_equal(ax_model_open(&m, &options, NULL), AXION_OK);
    assert_int_equal(ax_program_compile(p, ax_model_plan(m), 2, ROWS,
                                        SELECTED, NULL), AXION_OK);
    return m;
}


static void
a_layer_costs_eight_stages(void **state)
{
    struct ax_program p;
    struct ax_model *m = open_model("q4_1", &p);
    uint32_t matmuls[5] = { 0 }, prologues = 0;

    (void) state;
    /* Rows and logits at the end; embedding joins the first layer's norm. */
    assert_int_equal(p.n_stages, 2 * 8 + 2);
    for (uint32_t s = 0; s < p.n_stages; s++) {
        assert_int_equal(p.stages[s].layer_start, s == 0 || s == 8);
        if (p.stages[s].kind == AX_STAGE_MATMUL) {
            assert_true(p.stages[s].n <= 3);
            assert_int_equal(p.stages[s].gated != NULL, p.stages[s].n == 2);
            assert_int_equal(p.stages[s].quantized != AX_NONE,
                             p.stages[s].n == 2);
            assert_false(p.stages[s].kept);
            /* RoPE of Q and K, the write of K and V. */
            assert_int_equal(p.stages[s].n_finish,
                             p.stages[s].n == 3 ? 4 : 0);
            matmuls[p.stages[s].n]++;
        }
        if (p.stages[s].prologue != AX_NONE) {
            assert_int_equal(p.stages[s].prologue, s - 1);
            prologues++;
        }
    }
    assert_int_equal(matmuls[3], 2);       /* Q, K, V */
    assert_int_equal(matmuls[2], 2);       /* gate, up */
    assert_int_equal(matmuls[1], 2 * 2 + 1);
    /* Threads need not meet for three of them in a layer, but where the
     * residual stream changes as well: behind the embedding and the selected
     * rows. */
    assert_int_equal(prologues, 2 * 3 + 1 - 2);
    /* One quantization each for Q/K/V, attention, gate/up, down; logits. */
    assert_int_equal(p.n_acts, 2 * 4 + 1);
    ax_program_free(&p);
    ax_model_close(m);
}


static void
use(struct life *l, uint32_t stage)
{
    l->first = l->used && l->first < stage ? l->first : stage;
    l->last = l->used && l->last > stage ? l->last : stage;
    l->used = 1;
}


static void
use_rows(const struct ax_program *p, const struct ax_stage *stage, uint32_t s,
         struct life *values)
{
    for (uint32_t i = 0; i < stage->n; i++) {
        const struct ax_row_op *op = &p->row_ops[stage->first + i];
        assert_true(op->stage == s || op->stage + 1 == s);
        switch (op->kind) {
        case AX_ROW_ROPE_TABLE:
            break;
        case AX_ROW_QUANTIZE:
            use(&values[p->acts[op->act].value], s);
            break;
        case AX_ROW_KV_WRITE:
            use(&values[op->op->b], s);
            use(&values[op->op->c], s);
            break;
        case AX_ROW_GATED:
        case AX_ROW_COMBINE:
            use(&values[op->op->b], s);
            use(&values[op->op->a], s);
            use(&values[op->op->out], s);
            break;
        case AX_ROW_EMBED:
            use(&values[op->op->out], s);
            break;
        default:
            use(&values[op->op->a], s);
            use(&values[op->op->out], s);
            break;
        }
    }
}


/* A prologue reads while others already write the results of its matmul. */
static void
use_prologue(const struct ax_program *p, const struct ax_stage *stage,
             uint32_t s, struct life *values)
{
    for (uint32_t i = 0; i < stage->n; i++) {
        const struct ax_row_op *op = &p->row_ops[stage->first + i];
        ax_value v = op->kind == AX_ROW_QUANTIZE ? p->acts[op->act].value
                                                 : op->op->a;
        if (values[v].first < s) {
            use(&values[v], s + 1);
        }
        if (op->kind == AX_ROW_GATED && values[op->op->b].first < s) {
            use(&values[op->op->b], s + 1);
        }
    }
}


/* Lifetimes anew from what the stages do, not from what the compiler says. */
static void
find_lives(const struct ax_program *p, struct life *values, struct life *acts)
{
    for (uint32_t s = 0; s < p->n_stages; s++) {
        const struct ax_stage *stage = &p->stages[s];
        if (stage->kind == AX_STAGE_ROWS) {
            use_rows(p, stage, s, values);
            if (s + 1 < p->n_stages && stage[1].prologue == s) {
                use_prologue(p, stage, s, values);
            }
            for (uint32_t i = 0; i < stage->n; i++) {
                const struct ax_row_op *op = &p->row_ops[stage->first + i];
                if (op->kind == AX_ROW_QUANTIZE) {
                    use(&acts[op->act], s);
                }
            }
        } else if (stage->kind == AX_STAGE_GROUP) {
            use(&values[stage->experts->out], s);
        } else if (stage->kind == AX_STAGE_GATHER) {
            use(&values[stage->experts->a], s);
            use(&acts[stage->act[0]], s);
        } else if (stage->kind == AX_STAGE_EXPERTS) {
            assert_true(acts[stage->act[0]].first < s);
            use(&acts[stage->act[0]], s);
            use(&values[stage->experts->out], s);
            if (stage->experts->up != AX_NONE) {
                use(&acts[stage->act[1]], s);
                use(&values[stage->experts->c], s);
            }
        } else if (stage->kind == AX_STAGE_ATTENTION) {
            use(&values[stage->attention->a], s);
            use(&values[stage->attention->out], s);
        } else {
            for (uint32_t i = 0; i < stage->n; i++) {
                const struct ax_mat_op *op = &p->mat_ops[stage->first + i];
                assert_true(acts[op->act].used && acts[op->act].first < s);
                use(&acts[op->act], s);
                use(&values[op->out], s);
            }
            if (stage->gated != NULL) {
                use(&values[stage->gated->out], s);
                if (stage->quantized != AX_NONE) {
                    use(&acts[stage->quantized], s);
                }
            }
        }
    }
}


static void
check_apart(const struct life *a, const char *at_a, size_t bytes_a,
            const struct life *b, const char *at_b, size_t bytes_b)
{
    if (a->used && b->used && a->first <= b->last && b->first <= a->last) {
        assert_true(at_a + bytes_a <= at_b || at_b + bytes_b <= at_a);
    }
}


static uint32_t
rows_of(const struct ax_program *p, ax_value v, bool routed)
{
    uint32_t rows = p->plan->values[v].selected ? SELECTED : ROWS;

    return routed ? ax_routed_rows(p->plan, rows) : rows;
}


static size_t
value_bytes(const struct ax_program *p, ax_value v)
{
    return p->strides[v] * sizeof(float)
           * rows_of(p, v, p->plan->values[v].routed);
}


/* Each expert's rows may begin a line later. */
static size_t
act_bytes(const struct ax_program *p, const struct ax_act *act)
{
    return axk_act_bytes(act->kind, rows_of(p, act->value, act->routed),
                         act->k)
           + (act->routed ? AXK_ALIGN * p->plan->n_expert : 0);
}


static void
check_memory(const struct ax_program *p)
{
    uint32_t n = p->plan->n_values;
    struct life *values = calloc(n, sizeof(*values));
    struct life *acts = calloc(p->n_acts, sizeof(*acts));

    assert_non_null(values);
    assert_non_null(acts);
    find_lives(p, values, acts);
    values[p->plan->logits].used = 0;   /* the caller's memory */
    for (uint32_t v = 0; v < n; v++) {
        for (uint32_t w = v + 1; w < n; w++) {
            check_apart(&values[v], (char *) p->buffers[v], value_bytes(p, v),
                        &values[w], (char *) p->buffers[w],
                        value_bytes(p, w));
        }
        for (uint32_t a = 0; a < p->n_acts; a++) {
            const struct ax_act *act = &p->acts[a];
            check_apart(&values[v], (char *) p->buffers[v], value_bytes(p, v),
                        &acts[a], act->data, act_bytes(p, act));
        }
    }
    free(acts);
    free(values);
}


static void
values_that_live_together_lie_apart(void **state)
{
    static const char *const variants[] = { "f32", "q4_1", "q4_0-deep",
                                            "f16-gemma3", "f32-mixtral" };

    (void) state;
    for (uint32_t i = 0; i < 5; i++) {
        struct ax_program p;
        struct ax_model *m = open_model(variants[i], &p);
        check_memory(&p);
        ax_program_free(&p);
        ax_model_close(m);
    }
}


/* Values of later layers take the memory of earlier ones. */
static void
memory_does_not_grow_with_layers(void **state)
{
    struct ax_program p;
    struct ax_model *m = open_model("f16-gemma3", &p);
    size_t all = 0;

    (void) state;
    for (ax_value v = 0; v < p.plan->n_values; v++) {
        all += v == p.plan->logits ? 0 : value_bytes(&p, v);
    }
    /* Seven layers in the memory of three. */
    assert_true(p.arena.used < all / 7 * 3);
    ax_program_free(&p);
    ax_model_close(m);
}


/* Q, K, V and the attention alone, of n_head and n_head_kv heads. */
static void
compile_heads(struct ax_program *p, struct ax_plan *plan, uint32_t n_head,
              uint32_t n_head_kv, uint32_t head_dim, bool neox,
              uint32_t threads)
{
    static struct ax_gguf_tensor t[4];
    uint32_t rows[4] = { 64, n_head * head_dim, n_head_kv * head_dim,
                         n_head_kv * head_dim };
    struct ax_plan_attention a = {
        .n_head = n_head, .n_head_kv = n_head_kv, .head_dim = head_dim,
        .scale = 1,
    };

    *plan = (struct ax_plan){ 0 };
    for (int i = 0; i < 4; i++) {
        t[i] = (struct ax_gguf_tensor){
            .name = "blk.0.attn_x.weight", .format = AXK_F32,
            .ne = { 64, rows[i], 1, 1 },
        };
    }
    ax_rope rope = ax_plan_rope_config(plan, head_dim, neox, 10000, 1, AX_NONE);
    ax_value x = ax_plan_embed(plan, ax_plan_matrix(plan, &t[0]), 1);
    ax_value q = ax_plan_matmul(plan, x, ax_plan_matrix(plan, &t[1]), AX_NONE);
    ax_value k = ax_plan_matmul(plan, x, ax_plan_matrix(plan, &t[2]), AX_NONE);
    ax_value v = ax_plan_matmul(plan, x, ax_plan_matrix(plan, &t[3]), AX_NONE);
    if (neox) {
        q = ax_plan_rmsnorm_heads(plan, q, head_dim, AX_NONE, 1e-5f);
        k = ax_plan_rmsnorm_heads(plan, k, head_dim, AX_NONE, 1e-5f);
    }
    ax_plan_rope(plan, q, head_dim, rope);
    ax_plan_rope(plan, k, head_dim, rope);
    ax_plan_logits(plan, ax_plan_attention(plan, q, k, v, &a));
    assert_int_equal(ax_plan_error(plan), AXION_OK);
    assert_int_equal(ax_program_compile(p, plan, threads, ROWS, SELECTED, NULL),
                     AXION_OK);
}


/* A unit of Q, K, V holds whole heads where their ends need them, whole panels
 * always; where threads could not share such units evenly, RoPE and the KV
 * write have a stage of their own. */
static void
units_hold_whole_heads(void **state)
{
    static const struct {
        uint32_t n_head, n_head_kv, head_dim;
        bool     neox;
        uint32_t threads, unit_panels, units; /* 0: its own stage */
    } cases[] = {
        { 9, 3, 64, false, 2, 1, 18 + 6 + 6 }, /* pairs lie within panels */
        { 16, 8, 128, true, 2, 4, 16 + 8 + 8 },
        { 4, 1, 256, true, 2, 8, 4 + 1 + 1 },
        { 4, 1, 256, true, 4, 1, 0 },          /* six units for four */
        { 8, 3, 48, true, 1, 3, 4 + 2 + 2 },   /* the last unit is short */
        { 8, 2, 80, false, 1, 5, 4 + 1 + 1 },  /* KV rows end with heads */
    };

    (void) state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ax_plan plan;
        struct ax_program p;
        compile_heads(&p, &plan, cases[i].n_head, cases[i].n_head_kv,
                      cases[i].head_dim, cases[i].neox, cases[i].threads);
        bool joined = cases[i].units != 0;
        const struct ax_stage *qkv = &p.stages[1];
        assert_int_equal(qkv->kind, AX_STAGE_MATMUL);
        assert_int_equal(p.stages[2].kind,
                         joined ? AX_STAGE_ATTENTION : AX_STAGE_ROWS);
        assert_int_equal(qkv->unit_panels, cases[i].unit_panels);
        assert_int_equal(qkv->n_finish, !joined          ? 0
                                        : cases[i].neox ? 6
                                                        : 4);
        if (joined) {
            assert_int_equal(qkv->units, cases[i].units);
            const struct ax_mat_op *mat = &p.mat_ops[qkv->first];
            assert_false(mat[0].dropped);
            assert_true(mat[1].dropped && mat[2].dropped);
            for (uint32_t m = 0; m < 3; m++) { /* half of each by the half */
                uint32_t half = mat[m].before[qkv->units / 2];
                assert_int_equal(mat[m].before[0], 0);
                assert_int_equal(mat[m].before[qkv->units], mat[m].units);
                assert_true(2 * half + 2 >= mat[m].units
                            && 2 * half <= mat[m].units + 2);
            }
        }
        ax_program_free(&p);
        ax_plan_free(&plan);
    }
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_layer_costs_eight_stages),
        cmocka_unit_test(units_hold_whole_heads),
        cmocka_unit_test(values_that_live_together_lie_apart),
        cmocka_unit_test(memory_does_not_grow_with_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
