"""Runs inside .cache/llama: the speed of llama.cpp as llama-bench measures it, a
line of JSON for every test.

    python bench/llama_peer.py MODEL THREADS,... TEST...

A test is ppN, one batch of N tokens with logits of the last alone, or tgN, N
steps of one token; xS behind it has S sequences at once, @D D tokens in each
context before: pp512 tg128 tg32x8 tg32@2048.  A warm-up goes before each.
"""

import ctypes
import json
import re
import sys
import time

import llama_cpp

WARM_STEPS = 16


class Peer:
    def __init__(self, model, threads, kind, n, sequences, depth):
        self.kind, self.sequences = kind, sequences
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(
            llama_cpp.llama_model_get_vocab(model))
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = (depth + n + 64) * sequences
        params.n_seq_max = sequences
        params.n_batch = params.n_ubatch = max(512, n if kind == "pp" else 0)
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        self.context = llama_cpp.llama_init_from_model(model, params)
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.batch = llama_cpp.llama_batch_init(params.n_batch, 0, 1)

    def close(self):
        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_free(self.context)

    def decode(self, rows):
        """rows: (token, position, sequence, wants logits)."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, logits) in enumerate(rows):
            batch.token[i] = token % self.vocabulary
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = logits
        if llama_cpp.llama_decode(self.context, batch) != 0:
            sys.exit("llama_decode failed")
        llama_cpp.llama_synchronize(self.context)

    def prompt(self, start, n, chunk):
        for sequence in range(self.sequences):
            for at in range(start, start + n, chunk):
                end = min(at + chunk, start + n)
                self.decode([(i * 7919 + 13, i, sequence, i == start + n - 1)
                             for i in range(at, end)])

    def run(self, n, depth):
        """Tokens per second of n tokens or steps behind the depth."""
        llama_cpp.llama_memory_clear(self.memory, True)
        self.prompt(0, depth, 512)
        start = time.perf_counter()
        if self.kind == "pp":
            self.prompt(depth, n, n)
        else:
            for i in range(depth, depth + n):
                self.decode([(i * 104729 + 7 * s, i, s, True)
                             for s in range(self.sequences)])
        return n * self.sequences / (time.perf_counter() - start)


def measure(model, threads, test):
    kind, n, sequences, depth = re.fullmatch(
        r"(pp|tg)(\d+)(?:x(\d+))?(?:@(\d+))?", test).groups()
    n = int(n)
    peer = Peer(model, threads, kind, n, int(sequences or 1), int(depth or 0))
    peer.run(n if kind == "pp" else min(n, WARM_STEPS), 0)
    rate = peer.run(n, int(depth or 0))
    peer.close()
    return rate


def main():
    path, threads, tests = sys.argv[1], sys.argv[2], sys.argv[3:]
    llama_cpp.llama_backend_init()
    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    model = llama_cpp.llama_model_load_from_file(
        path.encode(), llama_cpp.llama_model_default_params())
    for count in map(int, threads.split(",")):
        for test in tests:
            print(json.dumps({"threads": count, "test": test,
                              "rate": measure(model, count, test)}),
                  flush=True)


if __name__ == "__main__":
    main()
