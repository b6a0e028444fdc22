#!/usr/bin/env bash
# Builds llama.cpp, the oracle of our goldens and the peer of our benchmarks,
# from PyPI's source package of llama-cpp-python into .cache/llama, for this
# machine's CPU.  Takes some minutes once; make check does not need it.
#
#     tools/llama.sh [server | ik]
#
# server: llama-server besides, for bench/compare_server.py (many minutes).
# ik: ik_llama.cpp's llama-bench into .cache/ik, from ik-llama-cpp-python's source
# package, the other peer of bench/compare_llama.py (many minutes).
set -eu
cd "$(dirname "$0")/.."

package=llama-cpp-python==0.3.36
venv=.cache/llama

build_server() {
    local work=.cache/llama-server
    mkdir -p "$work"
    echo "llama: building llama-server of $package (many minutes)"
    "$venv/bin/pip" download -q --disable-pip-version-check --no-deps \
        --no-binary :all: -d "$work" "$package"
    tar -xzf "$work"/llama_cpp_python-*.tar.gz -C "$work"
    cmake -S "$work"/llama_cpp_python-*/vendor/llama.cpp -B "$work/build" \
        -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF \
        -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF \
        -DLLAMA_BUILD_EXAMPLES=OFF >"$work/cmake.log"
    cmake --build "$work/build" --target llama-server -j "$(nproc)" \
        >"$work/build.log"
    cp "$work/build/bin/llama-server" "$venv/bin/llama-server"
}

build_ik() {
    local package=ik-llama-cpp-python==0.1.5 work=.cache/ik
    mkdir -p "$work"
    echo "llama: building llama-bench of $package (many minutes)"
    "$venv/bin/pip" download -q --disable-pip-version-check --no-deps \
        --no-binary :all: -d "$work" "$package"
    tar -xzf "$work"/ik_llama_cpp_python-*.tar.gz -C "$work"
    local source
    source=$(echo "$work"/ik_llama_cpp_python-*/vendor/ik_llama.cpp)
    # The package lacks this file of the build.
    mkdir -p "$source/common/cmake"
    cat >"$source/common/cmake/build-info-gen-cpp.cmake" <<'END'
set(BUILD_NUMBER 0)
set(BUILD_COMMIT "sdist")
set(BUILD_COMPILER "unknown")
set(BUILD_TARGET "unknown")
configure_file(${CMAKE_CURRENT_LIST_DIR}/../build-info.cpp.in
               ${CMAKE_CURRENT_LIST_DIR}/../build-info.cpp @ONLY)
END
    cmake -S "$source" -B "$work/build" -DCMAKE_BUILD_TYPE=Release \
        -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_CURL=OFF \
        -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF \
        -DGGML_IQK_FA_ALL_QUANTS=OFF >"$work/cmake.log"
    cmake --build "$work/build" --target llama-bench -j "$(nproc)" \
        >"$work/build.log"
    mkdir -p "$work/bin"
    cp "$work/build/bin/llama-bench" "$work/bin/llama-bench"
}

if [ "$("$venv/bin/python" -c 'import llama_cpp as l; print(l.__version__)' \
        2>/dev/null)" != "${package#*==}" ]; then
    mkdir -p .cache
    "${PYTHON:-python3}" -m venv "$venv"
    echo "llama: building $package into $venv (some minutes)"
    CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAMA_CURL=OFF" \
    CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) \
        "$venv/bin/pip" install -q --disable-pip-version-check \
        --no-binary llama-cpp-python "$package" gguf==0.19.0
fi
# PyPI's own server in Python, the real remote of tests/e2e.
if ! "$venv/bin/python" -c 'import llama_cpp.server.app' 2>/dev/null; then
    "$venv/bin/pip" install -q --disable-pip-version-check uvicorn==0.54.0 \
        fastapi==0.165.0 starlette==1.10.0 pydantic-settings==2.16.3 \
        sse-starlette==3.7.0 starlette-context==0.5.1 PyYAML==6.0.3
fi
if [ "${1:-}" = server ] && [ ! -x "$venv/bin/llama-server" ]; then
    build_server
fi
if [ "${1:-}" = ik ] && [ ! -x .cache/ik/bin/llama-bench ]; then
    build_ik
fi
