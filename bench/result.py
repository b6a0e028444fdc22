"""Result files: what was measured, on what, how, with median and spread.

A measurement is a list of samples of one figure; a result file in
bench/results/NAME.md has the machine, the commit, the compiler and the command
above a table of medians with (min..max, n).  Nothing else goes in there: a
figure without its samples is not a result.
"""

import json
import mmap
import os
import platform
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def output(*argv):
    try:
        return subprocess.run(argv, check=True, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, cwd=ROOT,
                              text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine():
    cpu = "unknown CPU"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (f"{len(os.sched_getaffinity(0))} CPUs {cpu}, "
            f"{memory >> 30} GiB, Linux {platform.release()}")


def give_memory(size):
    """Has this much on huge pages once, and gives it back.  A virtual machine's
    host takes free pages away and gives them again when they are touched, much
    slower than the kernel clears them: no start is to pay that for others."""
    with mmap.mmap(-1, size) as memory_:
        memory_.madvise(mmap.MADV_HUGEPAGE)
        for at in range(0, size, mmap.PAGESIZE):
            memory_[at] = 1


def commit():
    """Result files are no change: a run of several pieces writes them as it
    goes, and its samples are of one commit all the same."""
    dirty = output("git", "status", "--porcelain", "--untracked-files=no",
                   "--", ".", ":(exclude)bench/results")
    return (output("git", "rev-parse", "--short=12", "HEAD")
            + (" with local changes" if dirty else ""))


def count(text):
    """An argument of a script: how many rounds, seconds, tokens."""
    value = int(text)
    if value < 1:
        raise ValueError(f"{value} is below 1")
    return value


def cell(samples, digits=1):
    """median (min..max, n)."""
    if not samples:
        return "-"
    low, high = min(samples), max(samples)
    return (f"{statistics.median(samples):.{digits}f} "
            f"({low:.{digits}f}..{high:.{digits}f}, n{len(samples)})")


def head(title):
    rounds = os.environ.get("ROUNDS")
    command = " ".join(sys.argv)
    if os.environ.get("AXION_BENCH"):
        command = (f"ROUNDS={rounds} " if rounds else "") + "make bench"
    return [f"# {title}", "",
            f"- date: {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}",
            f"- machine: {machine()}",
            f"- commit: {commit()}",
            f"- compiler: {output('gcc', '--version').splitlines()[0]}",
            f"- command: `{command}`"]


def save(name, lines):
    folder = os.path.join(ROOT, "bench", "results")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name + ".md"), "w",
              encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    print(f"written: bench/results/{name}.md")


def write(name, title, columns, rows, notes=""):
    """rows: lists of strings as wide as columns."""
    lines = head(title) + ["- a cell is median (min..max, samples)", ""]
    if notes:
        lines += [notes.strip(), ""]
    lines += ["| " + " | ".join(columns) + " |",
              "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    print("\n".join(lines[-len(rows) - 2:]))
    save(name, lines)


def _kept_path(name):
    build = os.environ.get("AXION_BUILD") or os.path.join(
        ROOT, os.environ.get("BUILD", "build"))
    folder = os.path.join(build, "bench")
    os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, name + ".jsonl")


def keep(name, sample):
    """Until a result file is made of the samples of several runs."""
    with open(_kept_path(name), "a", encoding="utf-8") as file:
        file.write(json.dumps([commit(), sys.argv[1:], *sample]) + "\n")


def kept(name):
    """This commit's samples and the runs that they are of."""
    samples, runs = [], []
    with open(_kept_path(name), encoding="utf-8") as file:
        for line in file:
            of, argv, *sample = json.loads(line)
            if of == commit():
                samples.append(sample)
                if argv not in runs:
                    runs.append(argv)
    return samples, runs


def main():
    """result.py NAME PROGRAM: runs a program that prints its own medians and
    spreads, and keeps what it prints."""
    name, program = sys.argv[1:]
    text = subprocess.run([program], check=True, stdout=subprocess.PIPE,
                          text=True).stdout.rstrip()
    print(text)
    save(name, head(os.path.basename(program)) + ["", "```", text, "```"])


if __name__ == "__main__":
    main()
