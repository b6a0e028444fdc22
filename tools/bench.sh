#!/usr/bin/env bash
# make bench: the programs it is given, then a short set of measurements of the
# whole chain; results go to bench/results.  `ROUNDS=9 make bench` for more.
set -eu
cd "$(dirname "$0")/.."

python=${VENV:-.venv}/bin/python
[ -x "$python" ] || python=${PYTHON:-python3}
model=models/SmolLM2-135M-Instruct.Q4_1.gguf
rounds=${ROUNDS:-3}
export AXION_BENCH=1
if [ -f "$model" ]; then
    export AXION_MODEL=$model
fi
mkdir -p "${BUILD:-build}/bench"

for program in "$@"; do
    name=$(basename "$program")
    echo "== $name"
    "$python" bench/result.py "${name#bench_}" "$program"
done
echo "== gateway"
"$python" bench/gateway.py "$rounds"
if [ ! -f "$model" ]; then
    echo "skipped: startup and llama need the model (make model)"
    exit 0
fi
echo "== start to ready"
"$python" bench/startup.py "$rounds" smollm2
if [ -x .cache/llama/bin/python ]; then
    echo "== beside llama.cpp"
    "$python" bench/compare_llama.py "$rounds" --fresh --rows smollm2
else
    echo "skipped: llama.cpp is not built here (tools/llama.sh builds it)"
fi
