#!/usr/bin/env python3
"""What speculation is worth: decode rates of engines that differ in their
proposer alone, on text that copies, free text and random tokens.

    bench/speculation.py [ROUNDS] [--kinds off,suffix,bigram] [--tokens 128]
                         [--streams 1] [--only NAME,...] [--fresh 5]
                         [--engine OPTIONS] [--keep]
    bench/speculation.py --write

A round asks all engines at once, with the same prompt and seed, but lets only
one of them run: every 20 ms the next one has its turn, the others are stopped
(SIGSTOP).  So whatever the machine does besides falls on all of them alike.
The figure is the ratio to the engine with --speculate off in the same round,
their median, and the 95% interval of that median.  Every --fresh rounds the
engines are started anew: what chance has given to one (its pages, say) stays
with it as long as it lives.  The kind "same" is off once more:
its ratio is 1, and its interval says how sharp the measure is.

A rate is all tokens over the time that the engine ran from the request to the
end of the answer; CPU is that of all of its threads, per token.  All answers
to a text must be the same bytes, or the run fails.

A round of one text takes some 0.5 s a kind on two cores, so for three kinds
and all eight texts 10 s; the texts that do not copy, off and suffix alone,
take 4 s (--only story,essay,chat,random --kinds off,suffix).  --keep adds
the samples to those of the same commit in build/bench/speculation.jsonl, and
--write makes the result file of all that were kept, so that a quiet minute
here and there is enough.
"""

import argparse
import concurrent.futures
import glob
import json
import os
import random
import signal
import statistics
import sys
import threading
import time
import urllib.request

import result

sys.path.insert(0, os.path.join(result.ROOT, "tools"))
import stack  # noqa: E402

MODEL = os.path.join(result.ROOT, "models/SmolLM2-135M-Instruct.Q4_1.gguf")

SLICE_S = 0.02

STORY = """\
The lighthouse keeper counted the ships that passed the point each evening and
wrote their names in a grey ledger. On the night of the great storm he counted
none, and so he lit the second lamp, which had not burned since his father's
time. By morning three fishing boats lay safe in the cove below the rocks. The
oldest of the fishermen climbed the stairs, looked at the empty page of the
ledger, and signed it with the names of all the men who had come home.
"""

CODE = """\
def read_table(path, separator):
    rows = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            rows.append(line.split(separator))
    return rows


def write_table(path, separator, rows):
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(separator.join(str(cell) for cell in row) + "\\n")
"""

CASES = "".join(f"""\
    def test_add_{a}_{b}(self):
        calculator = Calculator()
        self.assertEqual(calculator.add({a}, {b}), {a + b})

""" for a, b in ((1, 2), (3, 4), (5, 6)))

GREEDY = {"temperature": 0}
SAMPLED = {"temperature": 0.8, "top_p": 0.95}


def random_ids():
    draw = random.Random(7)
    return [draw.randrange(1000, 49000) for _ in range(128)]


# name: (kind of text, prompt, sampling)
TEXTS = {
    "quote": ("copy", "The text:\n" + STORY + "\nThe same text again, word "
              "for word:\nThe lighthouse keeper counted", GREEDY),
    "edit": ("copy", "File table.py:\n" + CODE + "\nThe same file, with the "
             "argument separator renamed to sep:\ndef read_table(path, sep):",
             GREEDY),
    "repeats": ("copy", "class CalculatorTest(unittest.TestCase):\n" + CASES,
                GREEDY),
    "story": ("free", "Once upon a time a girl found a door in the hill behind "
              "her house.", SAMPLED),
    "essay": ("free", "The most important inventions of the nineteenth century "
              "were", SAMPLED),
    "chat": ("free", "Question: Why is the sky blue?\nAnswer:", SAMPLED),
    "greedy": ("loop", "The history of the city begins with", GREEDY),
    "random": ("random", random_ids(), {"temperature": 1}),
}


def ask(url, prompt, sampling, tokens, seed):
    body = dict(sampling, model="smollm2", prompt=prompt, max_tokens=tokens,
                seed=seed, ignore_eos=True)
    request = urllib.request.Request(
        url + "/v1/completions", json.dumps(body).encode(),
        {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.load(answer)


def cpu_s(pid):
    """Of all its threads so far."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        with open(path, encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e9


class Sample:
    """Of one kind in one round."""

    def __init__(self, tokens=0, seconds=0.0, cpu=0.0, drafted=0, accepted=0):
        self.tokens, self.seconds, self.cpu = tokens, seconds, cpu
        self.drafted, self.accepted = drafted, accepted

    @property
    def rate(self):
        return self.tokens / self.seconds

    def figures(self):
        return [self.tokens, self.seconds, self.cpu, self.drafted,
                self.accepted]


class Turns:
    """Of several engines one runs at a time, a slice after the other."""

    def __init__(self, pids):
        self.waiting = list(pids)       # the first one runs
        self.ran = dict.fromkeys(pids, 0.0)
        self.change = threading.Condition()
        self.over = False
        for pid in self.waiting[1:]:
            os.kill(pid, signal.SIGSTOP)
        self.since = time.perf_counter()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def account(self):
        now = time.perf_counter()
        if self.waiting:
            self.ran[self.waiting[0]] += now - self.since
        self.since = now

    def run(self):
        with self.change:
            while not self.over:
                self.change.wait(SLICE_S)
                self.account()
                if len(self.waiting) > 1:
                    os.kill(self.waiting[0], signal.SIGSTOP)
                    self.waiting.append(self.waiting.pop(0))
                    os.kill(self.waiting[0], signal.SIGCONT)
                    self.since = time.perf_counter()

    def finished(self, pid):
        """It has answered; how long it ran."""
        with self.change:
            self.account()
            self.waiting.remove(pid)
            if self.waiting:
                os.kill(self.waiting[0], signal.SIGCONT)
            self.since = time.perf_counter()
            return self.ran[pid]

    def stop(self):
        with self.change:
            self.over = True
            self.change.notify()
        self.thread.join()
        for pid in self.ran:
            os.kill(pid, signal.SIGCONT)


def measure(running, turns, text, tokens, streams, seed):
    """(Sample, texts) of an engine among those that take turns."""
    _, prompt, sampling = TEXTS[text]
    pid = running.engine.pid
    cpu = cpu_s(pid)
    with concurrent.futures.ThreadPoolExecutor(streams) as pool:
        answers = list(pool.map(
            lambda i: ask(running.url, prompt, sampling, tokens, seed + i),
            range(streams)))
    seconds = turns.finished(pid)
    timings = [answer["timings"] for answer in answers]
    return Sample(sum(t["predicted_n"] for t in timings), seconds,
                  cpu_s(pid) - cpu,
                  sum(t.get("draft_n", 0) for t in timings),
                  sum(t.get("draft_n_accepted", 0) for t in timings)), [
                      answer["choices"][0]["text"] for answer in answers]


def interval(ratios):
    """Of the median, 95%, by resampling."""
    draw = random.Random(1)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios)))
                     for _ in range(2000))
    return medians[50], medians[1949]


# ---- rounds ----

def start(args, kinds):
    stacks = {}
    try:
        for kind in kinds:
            stacks[kind] = stack.Stack(
                stack.build_path(f"bench/speculation-{kind}"), MODEL,
                ["--alias", "smollm2", "--speculate",
                 "off" if kind == "same" else kind, *args.engine.split()])
            stacks[kind].start()
    except BaseException:
        stop(stacks)
        raise
    return stacks


def stop(stacks):
    for one in stacks.values():
        one.stop()


def play_round(args, stacks, name, seed):
    """kind → Sample."""
    turns = Turns([one.engine.pid for one in stacks.values()])
    try:
        with concurrent.futures.ThreadPoolExecutor(len(stacks)) as pool:
            done = dict(zip(stacks, pool.map(
                lambda one: measure(one, turns, name, args.tokens,
                                    args.streams, seed), stacks.values())))
    finally:
        turns.stop()
    for kind, (_, texts) in done.items():
        if texts != done["off"][1]:
            sys.exit(f"{name}: the answer of {kind} differs")
    return {kind: sample for kind, (sample, _) in done.items()}


def run(args, kinds, names):
    """(name, {kind: figures}) as they come."""
    # Kept rounds of other runs have other seeds.
    stacks, seed = {}, time.time_ns() % 10**9 if args.keep else 1000
    try:
        for turn in range(args.rounds):
            if turn % args.fresh == 0:
                stop(stacks)
                stacks = start(args, kinds)
                # The first steps find everything cold; prompts are cached.
                for name in names:
                    play_round(args, stacks, name, seed)
            stacks = dict([*stacks.items()][1:] + [*stacks.items()][:1])
            for name in names:
                seed += 100
                samples = play_round(args, stacks, name, seed)
                print(name, " ".join(f"{kind} {one.rate:.0f}"
                                     for kind, one in samples.items()),
                      file=sys.stderr)
                yield name, {kind: one.figures()
                             for kind, one in samples.items()}
    finally:
        stop(stacks)


# ---- the table ----

def ratio_cell(ratios):
    low, high = interval(ratios)
    return (f"{statistics.median(ratios):.3f} ({low:.3f}..{high:.3f}, "
            f"n{len(ratios)})")


def row_of(name, kind, rounds):
    pairs = [(Sample(*figures[kind]), Sample(*figures["off"]))
             for text, figures in rounds if text == name and kind in figures]
    if not pairs:
        return None
    return [name, TEXTS[name][0], kind,
            result.cell([off.rate for _, off in pairs], 0),
            result.cell([one.rate for one, _ in pairs], 0),
            ratio_cell([one.rate / off.rate for one, off in pairs]),
            ratio_cell([off.cpu / off.tokens / (one.cpu / one.tokens)
                        for one, off in pairs]),
            f"{sum(one.accepted for one, _ in pairs)}/"
            f"{sum(one.drafted for one, _ in pairs)}"]


def write(rounds, notes):
    kinds = list(dict.fromkeys(kind for _, figures in rounds
                               for kind in figures if kind != "off"))
    rows = [row for kind in kinds for name in TEXTS
            for row in [row_of(name, kind, rounds)] if row]
    result.write("speculation", "Speculation against none",
                 ["text", "kind of text", "proposer", "off, t/s", "t/s",
                  "ratio", "ratio by CPU time", "held/drafted"], rows,
                 "SmolLM2-135M Q4_1. A ratio is the median of the rounds' with "
                 "the 95% interval of that median; within a round the engines "
                 "take turns of 20 ms. All answers were the same bytes. " + notes)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=result.count, default=5)
    parser.add_argument("--kinds", default="off,suffix,bigram")
    parser.add_argument("--tokens", type=result.count, default=128)
    parser.add_argument("--streams", type=result.count, default=1)
    parser.add_argument("--fresh", type=result.count, default=5, metavar="ROUNDS")
    parser.add_argument("--engine", default="",
                        help="more of axiond's options: '--realtime 1'")
    parser.add_argument("--only", default=",".join(TEXTS))
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    kinds, names = args.kinds.split(","), args.only.split(",")
    if kinds[0] != "off" or len(kinds) < 2 or min(args.rounds, args.fresh) < 1:
        sys.exit("--kinds: off and at least one more")
    if args.write:
        rounds, runs = result.kept("speculation")
        write(rounds, "In pieces: " + "; ".join(
            f"`{' '.join(argv)}`" for argv in runs) + ".")
        return
    rounds = []
    for one in run(args, kinds, names):
        rounds.append(one)
        if args.keep:
            result.keep("speculation", one)
    if not args.keep:
        write(rounds, f"{args.tokens} tokens, {args.streams} at a time."
              + (f" axiond {args.engine}." if args.engine else ""))


if __name__ == "__main__":
    main()
