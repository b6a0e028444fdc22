#!/usr/bin/env python3
"""`axion bench` beside llama.cpp and ik_llama.cpp, built on this machine from
PyPI's source packages (by tools/llama.sh, which is run where its work is not in
.cache yet, and by tools/llama.sh ik, which is not): tokens per second of
a 512-token prompt and of 128 single tokens, on 1 and 2 threads, runs alternating
A B C A B C so that a machine's mood hits all, beside what the machine can
compute (int8) and read, measured in the same runs.

    bench/compare_llama.py                    # what is not measured yet
    bench/compare_llama.py --rows smollm2,qwen3-q4_0
    bench/compare_llama.py --batch            # decodes of 1 to 32 sequences
    bench/compare_llama.py --depth            # decodes behind 2048 tokens
    bench/compare_llama.py --models           # only makes the models
    bench/compare_llama.py --print            # only writes the tables again

Rows are kept in .cache/bench as they end, 2 threads first, so that a run that was
cut off goes on where it was; --fresh measures what is there already again.  Models of real
shapes are made by tools/random_gguf.py, once, into .cache/models (4.5 GB).

Shares of the limit: for prompts two operations for each weight of the layers'
matrices and token, of the int8 peak; for single tokens the bytes of all
matrices that a token needs, at the rate at which the same threads read the
packed weights alone, between the repetitions of the same line: on a shared
memory that rate doubles and halves within seconds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import result

ROOT = result.ROOT
PEER = ".cache/llama/bin/python"
IK = ".cache/ik/bin/llama-bench"
MODELS, KEPT = ".cache/models", ".cache/bench"
GEMMA = "models/gemma-3-270m-q4_k_m.gguf"

# Name: title, file or (shape, kind) of tools/random_gguf.py
ROWS = {
    "smollm2": ("SmolLM2-135M Q4_1",
                "models/SmolLM2-135M-Instruct.Q4_1.gguf"),
    "gemma3": ("Gemma 3 270M Q4_K_M", GEMMA),
}
for _shape, _name, _title in (("qwen3-0.6b", "qwen3", "Qwen3-0.6B shape"),
                              ("llama-3.2-1b", "llama1b",
                               "Llama-3.2-1B shape")):
    for _kind in ("Q4_0", "Q8_0", "Q4_K_M"):
        ROWS[f"{_name}-{_kind.lower()}"] = (f"{_title} {_kind}",
                                            (_shape, _kind))

PEERS = ("llama.cpp", "ik_llama.cpp")
IK_PATH = os.path.join(ROOT, IK)

# Name of a table: its title, tests, rows if none are named.
TABLES = {
    "main": ("Prefill and decode", ["pp512", "tg128"], list(ROWS)),
    "batch": ("Batched decode, all sequences together",
              ["pp512", "tg32", "tg32x2", "tg32x4", "tg32x8", "tg32x16",
               "tg32x32"], ["smollm2", "qwen3-q4_0"]),
    "depth": ("Decode behind 2048 tokens", ["tg32", "tg32@2048"],
              ["smollm2", "qwen3-q4_0", "llama1b-q4_0"]),
}


def axion():
    return os.path.join(os.environ.get("BUILD", "build"), "axion")


def run(*argv):
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, cwd=ROOT)
    return [json.loads(line) for line in done.stdout.splitlines()]


def runs_of(tests):
    """Options of `axion bench` for all tests, few runs: each loads the model."""
    sizes = {}
    for test in tests:
        n, _, depth = test[2:].partition("@")
        n, _, sequences = n.partition("x")
        lists = sizes.setdefault((depth or "0", sequences or "1"),
                                 {"pp": [], "tg": []})
        lists[test[:2]].append(n)
    merged = {}
    for (depth, sequences), lists in sizes.items():
        merged.setdefault((depth, ",".join(lists["pp"]) or "0",
                           ",".join(lists["tg"]) or "0"), []).append(sequences)
    return [("-p", pp, "-n", tg, "-d", depth, "-s", ",".join(sequences))
            for (depth, pp, tg), sequences in merged.items()]


def test_of(line):
    test = (f"pp{line['n_prompt']}" if line["n_prompt"] else
            f"tg{line['n_gen']}")
    test += f"x{line['n_sequences']}" if line["n_sequences"] > 1 else ""
    return test + (f"@{line['n_depth']}" if line["n_depth"] else "")


def run_axion(model, threads, tests):
    """{(threads, test): rate}, {"peaks": those by threads} and {"weights":
    {(threads, test): bytes of weights read a second beside it}}."""
    rates, peaks, weights = {}, {}, {}
    for options in runs_of(tests):
        for line in run(axion(), "bench", "-m", model, "-t", threads, *options,
                        "-r", "1", "-b", "512", "--peaks", "-o", "jsonl"):
            at = line["n_threads"]
            rates[at, test_of(line)] = line["avg_ts"]
            weights[at, test_of(line)] = line.get("weights_read_bytes", 0)
            found = peaks.setdefault(at, {"read": 0, "int8": 0})
            found["read"] = max(found["read"], line["peak_read_bytes"])
            found["int8"] = max(found["int8"], line["peak_int8_ops"])
    rates["peaks"], rates["weights"] = peaks, weights
    return rates


def run_llama(model, threads, tests):
    lines = run(PEER, "bench/llama_peer.py", model, threads, *tests)
    return {(line["threads"], line["test"]): line["rate"] for line in lines}


def run_ik(model, threads, tests):
    """ik_llama.cpp's own bench: alone, from an empty context."""
    sizes = {kind: ",".join(t[2:] for t in tests if t.startswith(kind))
             for kind in ("pp", "tg")}
    done = subprocess.run([IK_PATH, "-m", model, "-t", threads, "-p",
                           sizes["pp"], "-n", sizes["tg"], "-r", "1", "-fa",
                           "1", "-o", "json"], check=True, cwd=ROOT,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return {(line["n_threads"], test_of({"n_sequences": 1, "n_depth": 0,
                                         **line})): line["avg_ts"]
            for line in json.loads(done.stdout)}


def peers_of(table):
    """Name and way of all that a table is measured with, in turn."""
    peers = [("axion", run_axion), ("llama.cpp", run_llama)]
    if table == "main" and os.path.exists(IK_PATH):
        peers.append(("ik_llama.cpp", run_ik))
    return peers


def needs(model):
    """Operations for a prompt's token and bytes for a single one."""
    done = subprocess.run([axion(), "inspect", "--json", model], check=True,
                          stdout=subprocess.PIPE, cwd=ROOT)
    tensors = [t for t in json.loads(done.stdout)["tensors"]
               if len(t["shape"]) == 2]
    head = {"output.weight"} & {t["name"] for t in tensors} or {
        "token_embd.weight"}
    layers = [t for t in tensors if t["name"].startswith("blk.")]
    weights = sum(t["shape"][0] * t["shape"][1] for t in layers)
    read = sum(t["bytes"] for t in tensors
               if t in layers or t["name"] in head)
    return 2 * weights, read


def model_of(name):
    source = ROWS[name][1]
    if isinstance(source, str):
        return source
    path = os.path.join(MODELS, "-".join(source) + ".gguf")
    if not os.path.exists(os.path.join(ROOT, path)):
        print(f"making {path}", flush=True)
        os.makedirs(os.path.join(ROOT, MODELS), exist_ok=True)
        subprocess.run([PEER, "tools/random_gguf.py", *source, path],
                       check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return path


def kept_path(table, name, threads):
    return os.path.join(ROOT, KEPT, f"{table}-{name}-{threads}.json")


def kept_of(table, name, threads):
    """None where nothing is, or what a former script kept, without weights."""
    try:
        with open(kept_path(table, name, threads), encoding="utf-8") as file:
            kept = json.load(file)
    except FileNotFoundError:
        return None
    return kept if "weights" in kept else None


def measure(table, name, rounds, threads):
    model = model_of(name)
    tests = TABLES[table][1]
    samples, weights = {}, {}
    peaks = {}
    started = time.monotonic()
    for _ in range(rounds):
        for who, way in peers_of(table):
            rates = way(model, threads, tests)
            for count, values in rates.pop("peaks", {}).items():
                best = peaks.setdefault(str(count), values)
                for kind, value in values.items():
                    best[kind] = max(best[kind], value)
            for key, value in rates.pop("weights", {}).items():
                weights.setdefault("%d %s" % key, []).append(value)
            for key, rate in sorted(rates.items(), key=lambda item: (
                    item[0][0], tests.index(item[0][1]))):
                samples.setdefault("%d %s" % key, {}).setdefault(
                    who, []).append(rate)
    operations, read = needs(model)
    os.makedirs(os.path.join(ROOT, KEPT), exist_ok=True)
    with open(kept_path(table, name, threads), "w",
              encoding="utf-8") as file:
        json.dump({"samples": samples, "weights": weights, "peaks": peaks,
                   "read": read, "operations": operations,
                   "commit": result.commit(),
                   "command": " ".join(sys.argv),
                   "when": time.strftime("%Y-%m-%d %H:%M UTC",
                                         time.gmtime())}, file)
    print(f"{name}, threads {threads}: {time.monotonic() - started:.0f} s",
          flush=True)


def share(kept, threads, test, rate):
    """Of the limit that the test runs against."""
    if test.startswith("pp"):
        peak = kept["peaks"][threads]["int8"]
        return rate * kept["operations"] / peak if peak else None
    weights = statistics.median(kept["weights"][f"{threads} {test}"])
    return rate * kept["read"] / weights if weights else None


def percent(value):
    return "-" if value is None else f"{100 * value:.0f} %"


def lines_of(name, kept):
    for key, samples in kept["samples"].items():
        threads, test = key.split()
        middle = {who: statistics.median(s) for who, s in samples.items()}
        cells = [ROWS[name][0], threads, test, result.cell(samples["axion"])]
        for who in PEERS:
            cells.append(result.cell(samples.get(who, [])))
            cells.append(f"{middle['axion'] / middle[who]:.2f}"
                         if who in middle else "-")
        shares = ["", ""]
        if "x" not in test and "@" not in test:
            best = max(middle[who] for who in PEERS if who in middle)
            shares = [percent(share(kept, threads, test, rate))
                      for rate in (middle["axion"], best)]
        yield cells + shares


def peaks_line(name, threads, kept):
    values = kept["peaks"][threads]
    singles = [read for key, read in kept["weights"].items()
               if key.startswith(f"{threads} tg")]
    return (f"{ROWS[name][0]}, threads {threads}: "
            f"{values['int8'] / 1e9:.0f} Gop/s int8, weights at "
            f"{statistics.median(sum(singles, [])) / 1e9:.1f} GB/s, at best "
            f"{values['read'] / 1e9:.1f} GB/s read "
            f"({kept['when']}, {kept['commit']})")


def kept_rows(table):
    """(name, threads, what is kept) in the table's order."""
    for name in ROWS:
        for threads in map(str, range(1, 513)):
            kept = kept_of(table, name, threads)
            if kept is not None:
                yield name, threads, kept


def report():
    lines = result.head("axion beside llama.cpp") + [
        "- a cell is median (min..max, samples), tokens per second", "",
        "llama.cpp is llama-cpp-python 0.3.36's, ik_llama.cpp "
        "ik-llama-cpp-python 0.1.5's with its own llama-bench, both "
        "GGML_NATIVE, flash attention on. pp512 is one batch into an empty context, tg128 single tokens "
        "from an empty context, tg32x8 steps of 8 sequences, tg32@2048 single "
        "tokens behind 2048; each run has its own warm-up, runs alternate. "
        "\"of the limit\": of the int8 peak for prompts; for single tokens of "
        "reading the same weights alone with the same threads, between the "
        "repetitions of the same run. Both are listed below."]
    peaks = []
    for table, (title, _, _) in TABLES.items():
        rows = []
        for name, threads, kept in kept_rows(table):
            rows += list(lines_of(name, kept))
            peaks.append(f"- {title}: {peaks_line(name, threads, kept)}")
        if rows:
            lines += ["", f"## {title}", "",
                      "| model | threads | test | axion | llama.cpp | ratio | "
                      "ik_llama.cpp | ratio | axion of the limit | better peer "
                      "of the limit |", "|" + "---|" * 10]
            lines += ["| " + " | ".join(row) + " |" for row in rows]
    lines += ["", "## Limits", ""] + peaks
    print("\n".join(line for line in lines if line.startswith("|")))
    result.save("llama", lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("rounds", nargs="?", type=result.count, default=2)
    parser.add_argument("--rows", help=",".join(ROWS))
    parser.add_argument("--threads", default="2,1")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--gemma", metavar="FILE", default=GEMMA)
    parser.add_argument("--models", action="store_true")
    parser.add_argument("--print", action="store_true")
    for table in ("batch", "depth"):
        parser.add_argument("--" + table, dest="table", action="store_const",
                            const=table, default="main")
    args = parser.parse_args()
    ROWS["gemma3"] = (ROWS["gemma3"][0], args.gemma)
    names = (args.rows.split(",") if args.rows
             else list(TABLES[args.table][2]))
    for name in names:
        if name not in ROWS:
            parser.error(f"there is no row {name}; there are {', '.join(ROWS)}")
    if not os.path.exists(os.path.join(ROOT, PEER)):
        subprocess.run(["tools/llama.sh"], check=True, cwd=ROOT)
    for name in [] if args.print else list(names):
        if not os.path.exists(os.path.join(ROOT, model_of(name))):
            print(f"{name}: skipped, no {model_of(name)} (make model "
                  "model-gemma)")
            names.remove(name)
    for threads in [] if args.print or args.models else args.threads.split(","):
        for name in names:
            if args.fresh or kept_of(args.table, name, threads) is None:
                measure(args.table, name, args.rounds, threads)
    if not args.models:
        report()


if __name__ == "__main__":
    main()
