/* See naive.h.  Trees live in one block, thrown away by the next grammar. */
#include "tests/grammar/naive.h"

#include <stdlib.h>
#include <string.h>

#define TREES (1 << 20)

const char *const naive_letters[NAIVE_LETTERS] = {
    "a", "b", "c", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};

enum kind { LETTERS, NOTHING, BOTH, EITHER, RULE, STAR };

struct naive {
    enum kind kind;
    unsigned letters; /* bits */
    int rule;
    const struct naive *left, *right;
};

static struct naive *trees;
static size_t n_trees;
static bool gave_up;
static const struct naive *rules[NAIVE_RULES];
static char text[1 << 16];
static size_t n_text;
static uint64_t state;


uint32_t
naive_draw(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % below);
}


size_t
naive_mark(void)
{
    return n_trees;
}


void
naive_release(size_t mark)
{
    n_trees = mark;
}


bool
naive_gave_up(void)
{
    return gave_up;
}


static const struct naive *
make(struct naive tree)
{
    if (n_trees == TREES) {
        gave_up = true;
        n_trees--;
    }
    trees[n_trees] = tree;
    return &trees[n_trees++];
}


static const struct naive *
both(const struct naive *a, const struct naive *b)
{
    if (a == NULL || b == NULL) {
        return NULL;
    }
    return a->kind == NOTHING
               ? b
               : make((struct naive){.kind = BOTH, .left = a, .right = b});
}


static const struct naive *
either(const struct naive *a, const struct naive *b)
{
    if (a == NULL || b == NULL) {
        return a == NULL ? b : a;
    }
    return make((struct naive){.kind = EITHER, .left = a, .right = b});
}


static void
print(const char *what)
{
    size_t n = strlen(what);
    memcpy(text + n_text, what, n + 1);
    n_text += n;
}


static const struct naive *
random_letters(void)
{
    unsigned letters = 1u << naive_draw(NAIVE_LETTERS);
    if (naive_draw(3) == 0) {
        letters |= naive_draw(1 << NAIVE_LETTERS);
    }
    bool negated = naive_draw(6) == 0 && letters != 63;
    print(negated ? "[^" : "[");
    for (int i = 0; i < NAIVE_LETTERS; i++) {
        if (letters >> i & 1) {
            print(naive_letters[i]);
        }
    }
    print("]");
    return make((struct naive){.kind = LETTERS,
                               .letters = negated ? ~letters & 63 : letters});
}


static const struct naive *random_tree(int depth, bool guarded);


static const struct naive *
random_repeat(int depth, bool guarded)
{
    static const char *const marks[] = {"*", "+", "?", "{2}", "{1,3}", "{2,}"};
    static const int least[] = {0, 1, 0, 2, 1, 2};
    static const int most[] = {-1, -1, 1, 2, 3, -1};
    uint32_t which = naive_draw(6);
    print("(");
    const struct naive *body = random_tree(depth - 1, guarded);
    print(")");
    print(marks[which]);
    const struct naive *nothing = make((struct naive){.kind = NOTHING});
    const struct naive *all = nothing;
    if (most[which] < 0) {
        all = make((struct naive){.kind = STAR, .left = body});
    }
    for (int i = least[which]; i < most[which]; i++) {
        all = either(both(body, all), nothing);
    }
    for (int i = 0; i < least[which]; i++) {
        all = both(body, all);
    }
    return all;
}


/* Guarded: a letter stands before it, so any rule may be called. */
static const struct naive *
random_tree(int depth, bool guarded)
{
    const struct naive *a, *b;
    uint32_t which = depth <= 0 ? 0 : naive_draw(guarded ? 6 : 5);
    switch (which) {
    case 1:
        a = random_letters();
        print(" ");
        b = random_tree(depth - 1, true);
        return both(a, b);
    case 2:
    case 3:
        print("(");
        a = random_tree(depth - 1, guarded);
        print(naive_draw(4) == 0 ? " | " : "|");
        b = naive_draw(6) == 0 ? make((struct naive){.kind = NOTHING})
                               : random_tree(depth - 1, guarded);
        print(")");
        return either(a, b);
    case 4:
        return random_repeat(depth, guarded);
    case 5:
        a = make(
            (struct naive){.kind = RULE, .rule = (int)naive_draw(NAIVE_RULES)});
        print((const char *[]){" root ", " r1 ", " r2 ", " r3 "}[a->rule]);
        return a;
    default:
        return random_letters();
    }
}


const struct naive *
naive_random(uint64_t seed, const char **gbnf)
{
    static const char *const heads[NAIVE_RULES] = {
        "root ::= ", "r1 ::= ", "r2 ::= ", "r3 ::= "};
    if (trees == NULL && (trees = malloc(TREES * sizeof(*trees))) == NULL) {
        abort();
    }
    state = seed * 0x9e3779b97f4a7c15u + 1;
    n_trees = n_text = 0;
    gave_up = false;
    for (int i = 0; i < NAIVE_RULES; i++) {
        print(heads[i]);
        /* One alternative calls nothing: every rule has a text. */
        const struct naive *end = random_letters();
        print(" | ");
        const struct naive *rest = random_tree(5, false);
        print(" # a comment\n");
        rules[i] = either(end, rest);
    }
    *gbnf = text;
    return make((struct naive){.kind = RULE, .rule = 0});
}


bool
naive_accepts(const struct naive *t)
{
    switch (t->kind) {
    case LETTERS:
        return false;
    case NOTHING:
    case STAR:
        return true;
    case BOTH:
        return naive_accepts(t->left) && naive_accepts(t->right);
    case EITHER:
        return naive_accepts(t->left) || naive_accepts(t->right);
    case RULE:
        return naive_accepts(rules[t->rule]);
    }
    return false;
}


const struct naive *
naive_after(const struct naive *t, int letter)
{
    const struct naive *after;
    switch (t->kind) {
    case LETTERS:
        return t->letters >> letter & 1 ? make((struct naive){.kind = NOTHING})
                                        : NULL;
    case NOTHING:
        return NULL;
    case BOTH:
        after = both(naive_after(t->left, letter), t->right);
        return naive_accepts(t->left)
                   ? either(after, naive_after(t->right, letter))
                   : after;
    case EITHER:
        return either(naive_after(t->left, letter),
                      naive_after(t->right, letter));
    case STAR:
        return both(naive_after(t->left, letter), t);
    case RULE:
        return naive_after(rules[t->rule], letter);
    }
    return NULL;
}
