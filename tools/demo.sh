#!/usr/bin/env bash
# make demo: SmolLM2 behind an nginx of its own, one chat streamed by curl.
#
#   KEEP=1     leaves engine and nginx running and says how to stop them
#   QUIET=1    prints the answer and the figures only
#   PROMPT=…   asks something else
#
# Everything lies under build/demo and listens on loopback, on a free port;
# the system's nginx is not touched.  Whatever ends this, its children end.
set -eu
cd "$(dirname "$0")/.."

build=${BUILD:-build}
for file in axiond ngx_http_axion_module.so; do
    if [ ! -e "$build/$file" ]; then
        echo "demo: $build/$file is not built; run: make demo" >&2
        exit 1
    fi
done
python=${VENV:-.venv}/bin/python
[ -x "$python" ] || python=${PYTHON:-python3}
exec "$python" tools/demo.py
