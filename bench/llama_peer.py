"""Runs inside .cache/llama: the speed of llama.cpp as llama-bench measures it,
one line of JSON.

    python bench/llama_peer.py MODEL THREADS PROMPT_TOKENS ANSWER_TOKENS

pp: one batch of PROMPT_TOKENS tokens into an empty context, with logits of the
last alone; tg: ANSWER_TOKENS single tokens from an empty context.  A warm-up of
each goes before.
"""

import ctypes
import json
import sys
import time

import llama_cpp


def main():
    path = sys.argv[1]
    threads, n_prompt, n_answer = map(int, sys.argv[2:5])
    llama_cpp.llama_backend_init()
    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    model = llama_cpp.llama_model_load_from_file(
        path.encode(), llama_cpp.llama_model_default_params())
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = n_prompt + n_answer + 64
    params.n_batch = params.n_ubatch = n_prompt
    params.n_threads = params.n_threads_batch = threads
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
    context = llama_cpp.llama_init_from_model(model, params)
    memory = llama_cpp.llama_get_memory(context)
    vocab = llama_cpp.llama_vocab_n_tokens(
        llama_cpp.llama_model_get_vocab(model))

    def decode(tokens):
        array = (llama_cpp.llama_token * len(tokens))(*tokens)
        if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(
                array, len(tokens))) != 0:
            sys.exit("llama_decode failed")
        llama_cpp.llama_synchronize(context)

    def prompt(n):
        decode([(i * 7919 + 13) % vocab for i in range(n)])

    def answer(n):
        for i in range(n):
            decode([(i * 104729 + 7) % vocab])

    def timed(run, n):
        llama_cpp.llama_memory_clear(memory, True)
        start = time.perf_counter()
        run(n)
        return n / (time.perf_counter() - start)

    timed(prompt, n_prompt)
    timed(answer, 16)
    print(json.dumps({"pp": timed(prompt, n_prompt),
                      "tg": timed(answer, n_answer)}))


if __name__ == "__main__":
    main()
