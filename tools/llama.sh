#!/usr/bin/env bash
# Builds llama.cpp, the oracle of our goldens and the peer of our benchmarks,
# from PyPI's source package of llama-cpp-python into .cache/llama, for this
# machine's CPU.  Takes some minutes once; make check does not need it.
set -eu
cd "$(dirname "$0")/.."

package=llama-cpp-python==0.3.36
venv=.cache/llama
if [ "$("$venv/bin/python" -c 'import llama_cpp as l; print(l.__version__)' \
        2>/dev/null)" = "${package#*==}" ]; then
    exit 0
fi
mkdir -p .cache
"${PYTHON:-python3}" -m venv "$venv"
echo "llama: building $package into $venv (some minutes)"
CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAMA_CURL=OFF" \
CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) \
    "$venv/bin/pip" install -q --disable-pip-version-check \
    --no-binary llama-cpp-python "$package" gguf==0.19.0
