#!/usr/bin/env python3
"""What llama.cpp says of the models that tools/random_gguf.py writes, so that a
mistake in blocks, metadata or vocabulary there shows.

    tools/llama.sh && make model
    .cache/llama/bin/python tests/golden/make_random_goldens.py

Writes model/random-SHAPE-KIND.golden (golden.h) for a few tiny shapes, which
test_random_goldens makes again and holds our executor against.
"""

import os
import subprocess
import sys
import tempfile

import make_model_goldens as goldens

MODELS = [("tiny-llama", kind) for kind in ("Q4_0", "Q8_0", "Q4_K_M", "BF16")]
MODELS += [("tiny-qwen3", "Q8_0")]


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    tool = os.path.join(here, "../../tools/random_gguf.py")
    prompts = [("The capital of France is", 64), (goldens.CODE, 150),
               (goldens.STORY, 256)]
    with tempfile.TemporaryDirectory() as scratch:
        for shape, kind in MODELS:
            path = os.path.join(scratch, "model.gguf")
            subprocess.run([sys.executable, tool, shape, kind, path],
                           check=True)
            goldens.write_golden(f"{here}/model/random-{shape}-{kind}.golden",
                                 path, prompts, 512, 32, 8)


if __name__ == "__main__":
    main()
