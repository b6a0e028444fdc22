#!/usr/bin/env bash
# Shows that the program axion works on a tiny model: inspect, tokenize, bench,
# compare, a chat in process and the same chat over the ring of an axiond, whose
# profile has every layer, and that it says in one line what is wrong.
set -u
build=${AXION_BUILD:-build}
work=$(mktemp -d)
engine=
fails=0

finish()
{
    [ -n "$engine" ] && kill "$engine" 2>/dev/null
    rm -rf "$work"
}
trap finish EXIT

check()
{
    if [ "$2" = "$3" ]; then
        echo "ok: $1"
    else
        echo "FAILED: $1: got \"$2\", wanted \"$3\""
        fails=$((fails + 1))
    fi
}

model=$work/tiny.gguf
"$build/tests/tiny/tiny-model" --variant q8_0 "$model" || exit 1

check "inspect --json is JSON with all tensors" \
    "$("$build/axion" inspect --json "$model" | python3 -c '
import json, sys
d = json.load(sys.stdin)
print(d["metadata"]["general.architecture"], len(d["tensors"]))')" \
    "llama $("$build/axion" inspect "$model" | grep -c 'bytes at')"

check "tokenize gives one id per byte without merges" \
    "$(printf '~~~' | "$build/axion" tokenize --ids "$model" | wc -w)" 3
check "a control token is text unless asked for" \
    "$("$build/axion" tokenize --ids --special "$model" '<|im_end|>')" 2

check "tokenize -m takes all words for text" \
    "$("$build/axion" tokenize --ids -m "$model" a b)" \
    "$("$build/axion" tokenize --ids "$model" 'a b')"
check "inspect --model is inspect FILE" \
    "$("$build/axion" inspect --model "$model" | cksum)" \
    "$("$build/axion" inspect "$model" | cksum)"

ask="--prompt Hello -n 24 --temp 0.8 --seed 7"
# shellcheck disable=SC2086
check "chat -m -n is chat --max-tokens FILE" \
    "$("$build/axion" chat $ask -m "$model" 2>/dev/null)" \
    "$("$build/axion" chat --prompt Hello --max-tokens 24 --temp 0.8 \
        --seed 7 "$model" 2>/dev/null)"
# shellcheck disable=SC2086
here=$("$build/axion" chat $ask "$model" 2>"$work/figures")
check "chat reports its figures" \
    "$(grep -c 'prompt tokens' "$work/figures")" 1

"$build/axion" pack -t 1 "$model" -o "$work/tiny.axpack" >/dev/null
check "a pack file answers as its source does" \
    "$("$build/axion" chat --prompt Hello -n 24 --temp 0.8 --seed 7 \
        "$work/tiny.axpack" 2>/dev/null)" "$here"
check "inspect and tokenize read a pack file's metadata" \
    "$("$build/axion" inspect --json "$work/tiny.axpack" | cksum) $(
        "$build/axion" tokenize --ids "$work/tiny.axpack" abc)" \
    "$("$build/axion" inspect --json "$model" | cksum) $(
        "$build/axion" tokenize --ids "$model" abc)"
check "pack --check reads a whole one" \
    "$("$build/axion" pack --check "$work/tiny.axpack" | grep -c whole)" 1
check "pack --check refuses a GGUF file" \
    "$("$build/axion" pack --check "$model" 2>&1)" \
    "axion pack: $model is no pack file"
printf x | dd of="$work/tiny.axpack" bs=1 seek=2097252 conv=notrunc 2>/dev/null
check "a damaged one is refused in a line" \
    "$("$build/axion" pack --check "$work/tiny.axpack" 2>&1 | wc -l)" 1

bench()
{
    "$build/axion" bench -m "$model" -t 2 -r 2 "$@"
}

check "bench -pg, lists and depths run every combination" \
    "$(bench -p 8 -n 4,6 -pg 8,4 -d 0,32 -b 4,8 -s 1,3 -o jsonl |
        python3 -c '
import json, sys
rows = [json.loads(line) for line in sys.stdin]
print(len(rows), all(0 < r["step_p50_ns"] <= r["step_p99_ns"] for r in rows))
')" "32 True"
check "bench --peaks reads the weights beside the repetitions" \
    "$(bench -p 0 -n 4 -t 1 --peaks -o jsonl | python3 -c '
import json, sys
rows = [json.loads(line) for line in sys.stdin]
print(*(r["weights_read_bytes"] > 0 < r["peak_read_bytes"] for r in rows))')" \
    "True True"
check "bench takes ranges, and lists in pieces, as llama-bench does" \
    "$(bench -r 1 -p 1-3 -p 8-32*2,5 -p 4-9+4 -n 0 -o jsonl | python3 -c '
import json, sys
print(*(json.loads(line)["n_prompt"] for line in sys.stdin))')" \
    "1 2 3 8 16 32 5 4 8"
for wrong in 3-1 1-4*1 0-8*2 1-4+0 1-4+ 1- 1,,2 1,2, 1x -1 1-100 ''; do
    "$build/axion" bench -m "$model" -p "$wrong" 2>"$work/refused"
    check "bench -p \"$wrong\": status 2, and says so" \
        "$? $(head -1 "$work/refused")" \
        "2 axion bench: bad value of -p: $wrong"
done
for wrong in '-pg 1-2' '-r 1-1'; do
    # shellcheck disable=SC2086
    "$build/axion" bench -m "$model" $wrong >"$work/refused" 2>&1
    check "bench $wrong is no list: status 2, and says so" \
        "$? $(grep -c "bad value of .*: ${wrong#* }\$" "$work/refused")" "2 1"
done
"$build/axion" bench -m "$model" -r 1 -p 8 -n 0 -t 1,2 -b 4,8 \
    --profile "$work/four.csv" >"$work/four"
check "tests that differ in threads or batch differ in the profile" \
    "$(sed 1d "$work/four.csv" | cut -d, -f1 | uniq | tr '\n' ',')" \
    "pp8 b4 t1,pp8 b8 t1,pp8 b4 t2,pp8 b8 t2,"
check "and those that differ in batch in the table" \
    "$(grep -c '| *pp8 b[48] |' "$work/four")" 4
bench -p 8 -n 4 --profile "$work/a.csv" >/dev/null
bench -p 8 -n 4 -ctk q8_0 --profile "$work/b.csv" >/dev/null
check "bench -ctk bf16 -ctv bf16 is what its line says" \
    "$(bench -p 8 -n 4 -ctk bf16 -ctv bf16 -o jsonl | python3 -c '
import json, sys
rows = [json.loads(line) for line in sys.stdin]
print(*{(r["type_k"], r["type_v"]) for r in rows})')" "('bf16', 'bf16')"
check "bench refuses values that are kept otherwise than keys" \
    "$(bench -ctk bf16 -ctv q8_0 2>&1 | head -1)" \
    "axion bench: keys and values are kept alike: not -ctk bf16 and -ctv q8_0"
check "a profile has the layers and what they read" \
    "$(python3 -c '
import csv, sys
rows = [r for r in csv.DictReader(open(sys.argv[1])) if r["test"] == "tg4"]
heads = [r for r in rows if r["op"] == "attention"]
print(len(heads), all(int(r["bytes"]) > 0 and int(r["calls"]) == 8
                      for r in heads))' "$work/a.csv")" "2 True"
check "compare has a row for each kind of work" \
    "$("$build/axion" compare --svg "$work/ab.svg" "$work/a.csv" \
        "$work/b.csv" | grep -c attention)" 2
check "and draws it" "$(python3 -c '
import sys, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
print(root.tag.split("}")[1], len(root) > 10)' "$work/ab.svg")" "svg True"
check "compare --layers has one for each layer" \
    "$("$build/axion" compare --layers "$work/a.csv" "$work/b.csv" |
        grep -c '| attention ')" 4
echo 'tg4,0,attention,1,x,1,1,0,0,0' >>"$work/b.csv"
check "a line that is none of a profile is named" \
    "$("$build/axion" compare "$work/a.csv" "$work/b.csv" 2>&1 |
        sed 's/.*b.csv: line [0-9]* /line /')" \
    "line is not one of a profile"

mkfifo "$work/log"
"$build/axiond" --model "$model" --listen "unix:$work/engine.sock" \
    --threads 1 --profile "$work/serve.csv" 2>"$work/log" &
engine=$!
exec 3<"$work/log"
while read -r line <&3; do
    case $line in *"ready on"*) break ;; esac
done
# shellcheck disable=SC2086
there=$("$build/axion" chat $ask --connect "unix:$work/engine.sock" \
    2>/dev/null)
check "the same answer over the ring" "$there" "$here"
check "it is no empty answer" "$([ -n "$here" ] && echo yes)" yes

kill "$engine"
cat <&3 >/dev/null
check "the engine leaves its profile" \
    "$(grep -c '^serve,[01],attention,' "$work/serve.csv")" 2
engine=

check "no engine: one line" \
    "$("$build/axion" chat --connect "unix:$work/none" --prompt x 2>&1 |
        wc -l)" 1
"$build/axion" chat "$work/none.gguf" --prompt x 2>/dev/null
check "no file: status 1" $? 1
"$build/axion" chat --temp hot "$model" 2>/dev/null
check "wrong value: status 2" $? 2
"$build/axion" chat --ctx 1000000 "$model" --prompt x 2>/dev/null
check "a context that the model has not: status 2" $? 2
"$build/axion" nothing 2>/dev/null
check "unknown command: status 2" $? 2

[ $fails -eq 0 ]
