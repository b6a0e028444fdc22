#!/usr/bin/env python3
"""What speculation is worth: decode rates of engines that differ in their
proposer alone, on text that copies, free text and random tokens.

    bench/speculation.py [ROUNDS] [--kinds off,suffix,bigram] [--tokens 192]
                         [--streams 1] [--only NAME,...] [--engine OPTIONS]

Every round asks every engine for every text, in an order that turns; the
figure is the ratio to the engine with --speculate off in the same round, so
that what the machine does besides falls out.  All answers of a text must be
the same bytes, or the run fails.  Rates are the engine's own (timings), first
to last token; with --streams the streams run at the same time and the figure
is all their tokens over the wall time of the round's part.
"""

import argparse
import concurrent.futures
import json
import os
import random
import statistics
import sys
import time
import urllib.request

import result

sys.path.insert(0, os.path.join(result.ROOT, "tools"))
import stack  # noqa: E402

MODEL = os.path.join(result.ROOT, "models/SmolLM2-135M-Instruct.Q4_1.gguf")

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


def measure(url, text, tokens, streams, seed):
    """(tokens per second, texts, drafted, accepted)."""
    _, prompt, sampling = TEXTS[text]
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(streams) as pool:
        answers = list(pool.map(
            lambda i: ask(url, prompt, sampling, tokens, seed + i),
            range(streams)))
    seconds = time.monotonic() - start
    timings = [answer["timings"] for answer in answers]
    if streams == 1:
        rate = (timings[0]["predicted_n"] - 1) / timings[0]["predicted_ms"] * 1e3
    else:
        rate = sum(t["predicted_n"] for t in timings) / seconds
    return (rate, [answer["choices"][0]["text"] for answer in answers],
            sum(t.get("draft_n", 0) for t in timings),
            sum(t.get("draft_n_accepted", 0) for t in timings))


def interval(ratios):
    """Of the median, 95%, by resampling."""
    draw = random.Random(1)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios)))
                     for _ in range(2000))
    return medians[50], medians[1949]


def run(args, kinds, names):
    rates = {(kind, name): [] for kind in kinds for name in names}
    drafts = {key: [0, 0] for key in rates}
    stacks = {kind: stack.Stack(
        stack.build_path(f"bench/speculation-{kind}"), MODEL,
        ["--alias", "smollm2", "--speculate", kind, *args.engine.split()])
        for kind in kinds}
    try:
        for one in stacks.values():
            one.start()
        for turn in range(-1, args.rounds):  # the first one warms up
            for name in names:
                order = kinds[turn % len(kinds):] + kinds[:turn % len(kinds)]
                texts = {}
                for kind in order:
                    rate, texts[kind], drafted, accepted = measure(
                        stacks[kind].url, name, args.tokens, args.streams,
                        100 * turn + 1000)
                    if turn >= 0:
                        rates[kind, name].append(rate)
                        drafts[kind, name][0] += drafted
                        drafts[kind, name][1] += accepted
                for kind in kinds:
                    if texts[kind] != texts[kinds[0]]:
                        sys.exit(f"{name}: {kind} and {kinds[0]} differ")
    finally:
        for one in stacks.values():
            one.stop()
    return rates, drafts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", nargs="?", type=int, default=5)
    parser.add_argument("--kinds", default="off,suffix,bigram")
    parser.add_argument("--tokens", type=int, default=192)
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--engine", default="",
                        help="more of axiond's options: '--realtime 1'")
    parser.add_argument("--only", default=",".join(TEXTS))
    args = parser.parse_args()
    kinds, names = args.kinds.split(","), args.only.split(",")
    if kinds[0] != "off":
        sys.exit("--kinds: the first one is off")
    rates, drafts = run(args, kinds, names)
    rows = []
    for name in names:
        off = rates["off", name]
        row = [name, TEXTS[name][0], result.cell(off, 0)]
        for kind in kinds[1:]:
            ratios = [a / b for a, b in zip(rates[kind, name], off)]
            low, high = interval(ratios)
            drafted, accepted = drafts[kind, name]
            row += [result.cell(rates[kind, name], 0),
                    f"{statistics.median(ratios):.2f} ({low:.2f}..{high:.2f})",
                    f"{accepted}/{drafted}"]
        rows.append(row)
    columns = ["text", "kind", "off, t/s"]
    for kind in kinds[1:]:
        columns += [f"{kind}, t/s", "ratio", "held/drafted"]
    result.write("speculation", "Speculation against none", columns, rows,
                 f"SmolLM2-135M Q4_1, {args.tokens} tokens, {args.streams} "
                 "at a time; a ratio is the median of rounds with the 95% "
                 "interval of that median. All answers were the same bytes."
                 + (f" axiond {args.engine}." if args.engine else ""))


if __name__ == "__main__":
    main()
