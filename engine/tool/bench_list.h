/*
 * Lists of numbers in the options of `axion bench`, in llama-bench's words:
 * "1,2,4", "1-4" (by ones), "512-2048+512", "1-64*2", and those joined by
 * commas.  An option that is given again adds to its list.
 */
#ifndef AX_TOOL_BENCH_LIST_H
#define AX_TOOL_BENCH_LIST_H

#include <stdbool.h>
#include <stdint.h>


#define AX_BENCH_LIST_MAX 64u


struct ax_bench_list {
    uint32_t n;
    uint32_t v[AX_BENCH_LIST_MAX];
    bool given; /* no default any more */
};


/* Numbers up to max; false: text is no list, or one too many. */
bool ax_bench_list_add(struct ax_bench_list *list, const char *text,
                       uint32_t max);

bool ax_bench_list_has_zero(const struct ax_bench_list *list);

#endif /* AX_TOOL_BENCH_LIST_H */
