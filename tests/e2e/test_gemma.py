#!/usr/bin/env python3
"""Gemma 3 270M behind nginx: a second family and SentencePiece vocabulary
through the whole chain.  The file is a pretrained model without a chat template:
it continues texts, and a chat is refused by that name.

Skips where the model is not there (make model-gemma; it has a licence of its
own).
"""

import json
import os
import unittest

import base

GEMMA = os.path.join(base.ROOT, "models", "gemma-3-270m-q4_k_m.gguf")


class GemmaTest(base.StackTest):
    def test_facts_are_continued(self):
        for prompt, words in (
                ("La capitale de l'Italie est Rome. La capitale de "
                 "l'Espagne est", "Madrid. La capitale de la France est Paris"),
                ("Q: What is the boiling point of water?\nA:",
                 "100 degrees Celsius"),
                ("1, 2, 3, 4, 5, 6, 7,", "8, 9, 10")):
            with self.subTest(prompt):
                text = self.text(prompt, max_tokens=24, temperature=0)
                self.assertIn(words, text)

    def test_a_stream_is_the_same_text(self):
        prompt = "Once upon a time, there was a little girl named"
        whole = self.text(prompt, max_tokens=40, temperature=0)
        answer = self.post("/v1/completions", {
            "model": base.NAME, "prompt": prompt, "max_tokens": 40,
            "temperature": 0, "stream": True})
        text, reason, _, error = answer.stream()
        self.assertIsNone(error)
        self.assertEqual(text, whole)
        self.assertEqual(reason, "length")

    def test_a_chat_is_refused_by_the_missing_template(self):
        answer = self.post("/v1/chat/completions", {
            "model": base.NAME,
            "messages": [{"role": "user", "content": "Hello"}]})
        body = json.loads(answer.read())
        self.assertEqual(answer.status, 400, body)
        self.assertIn("no chat template", body["error"]["message"])
        self.assert_serves()


if __name__ == "__main__":
    base.need_stack()
    if not os.path.exists(GEMMA):
        print(f"skipped: no {GEMMA} (make model-gemma fetches it)")
        raise SystemExit(base.SKIPPED)
    os.environ["AXION_MODEL"] = GEMMA
    base.NAME = "gemma3"
    unittest.main(verbosity=2)
