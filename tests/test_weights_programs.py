"""The real programs with models of other programs: they answer what the engine writes with the same model."""

import json
import re
import subprocess
import sys

import httpx
import pytest
from chat_models import ANSWERS, taught_folder

from course_lib import backend
from course_lib.chat.conversation import render_for_completion
from course_lib.generate.engine import Engine
from course_lib.generate.rows import Request
from course_lib.scripts import base_eval, convert
from course_lib.serve.batch_engine import BatchEngine
from course_lib.weights.load import load_pretrained

pytestmark = pytest.mark.slow

WAIT = 60  # seconds: far more than anything here takes
FORMS = {"nanochat": ["--to", "nanochat"], "packed": ["--bits", "4", "--tables"]}
QUESTIONS = ("Hi", "Lists")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model that has learnt some answers, in nanochat's own form and in that of mlx-lm in 4 bits."""
    place = tmp_path_factory.mktemp("models")
    for form, flags in FORMS.items():
        convert.main(["--checkpoint", str(taught_folder()), *flags, "--out", str(place / form)])
    return place


@pytest.fixture(scope="module", params=FORMS)
def folder(folders, request):
    return folders / request.param


def replies(folder):
    """What the engine writes after each question, greedily; and so does the engine for many users."""
    model, tokenizer, _ = load_pretrained(folder)
    model.set_dtype(backend.compute_dtype())
    prompts = [render_for_completion(tokenizer, [{"role": "user", "content": each}]) for each in QUESTIONS]
    rows = Engine(model, tokenizer).generate_batch(prompts, max_tokens=200, temperature=0)
    with BatchEngine(model, tokenizer) as engine:
        handles = [engine.submit(Request(prompt, 200, temperature=0)) for prompt in prompts]
        assert [handle.result(WAIT).ids for handle in handles] == [row.ids for row in rows]
    return [tokenizer.decode(row.ids) for row in rows]


def test_chat_web_and_chat_cli_answer_what_the_engine_writes(folder):
    expected = replies(folder)
    assert expected[0] == ANSWERS["Hi"] if folder.name == "nanochat" else expected[0]
    program = [sys.executable, "-m", "course_lib.scripts.chat_web", "--from", str(folder), "--port", "0"]
    server = subprocess.Popen(program, stdout=subprocess.PIPE)
    try:
        address = re.search(rb"http://127\.0\.0\.1:\d+", server.stdout.readline())[0].decode()
        for question, reply in zip(QUESTIONS, expected, strict=True):
            body = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 200}
            answer = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=WAIT).json()
            assert answer["choices"][0]["message"]["content"] == reply
            assert answer["model"] == f"{folder.name}-imported"
    finally:
        server.terminate()
        assert server.wait(WAIT) == 0
    flags = ["--from", str(folder), "-p", QUESTIONS[0], "--temperature", "0", "--max-tokens", "200"]
    program = [sys.executable, "-m", "course_lib.scripts.chat_cli", *flags]
    assert subprocess.run(program, capture_output=True, text=True, timeout=WAIT).stdout.strip() == expected[0]


def test_base_eval_measures_a_packed_model_as_the_whole_one(folders, home, tmp_path):
    convert.main(["--from", str(folders / "packed"), "--to", "transformers", "--out", str(tmp_path / "whole")])
    text = tmp_path / "text.jsonl"
    text.write_text("".join(json.dumps({"text": f"Hello, it is good to see you {n}. " * 90}) + "\n" for n in range(60)))
    bits = []
    for folder in (folders / "packed", tmp_path / "whole"):
        flags = ["--eval", "bpb,core,sample", "--max-per-task", "1", "--split-tokens", "2000", "--dataset", str(text)]
        base_eval.main(["--from", str(folder), *flags])
        report = json.loads((home / f"imported/{folder.name}/eval_000000.json").read_text())
        bits.append(report["bits_per_byte"]["val"])
        assert report["core"]["tasks"] and len(report["samples"]) == 6
    assert abs(bits[0] - bits[1]) < 1e-3 < bits[0]
