#!/usr/bin/env bash
# Takes the vocabularies with their test strings and the chat templates out of
# PyPI's source package of llama-cpp-python into .cache/llama-models, where
# test_vocab_goldens and golden_templates.py find them.  They are other
# people's work under other licences: never committed.
set -eu
cd "$(dirname "$0")/../.."

package=llama-cpp-python==0.3.36
out=.cache/llama-models
[ -d "$out/templates" ] && exit 0
mkdir -p .cache
work=$(mktemp -d .cache/llama-models.XXXXXX)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m pip download -q --disable-pip-version-check \
    --retries 10 --timeout 60 --no-deps --no-binary :all: -d "$work" "$package"
tar -xzf "$work"/*.tar.gz -C "$work" --wildcards '*/vendor/llama.cpp/models/*'
mv "$work"/*/vendor/llama.cpp/models "$out"
