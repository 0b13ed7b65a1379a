"""base_eval from the flags to the report: true numbers, kept when it is interrupted; one sentence for what is wrong."""

import functools
import io
import json
import math
import random
import re
import signal
import threading
import zipfile
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from course_lib.data.dataloader import TokenLoader
from course_lib.data.dataset import open_dataset
from course_lib.data.tokenizer import Tokenizer
from course_lib.evaluate import base_model, bundle
from course_lib.evaluate.scoring import evaluate_task
from course_lib.evaluate.task_files import load_items, load_tasks
from course_lib.host.errors import CourseError
from course_lib.host.words import in_one_line
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.scripts import base_eval
from course_lib.train.checkpoint import Checkpoint, run_folder, save_checkpoint
from course_lib.train.validation import continue_text, validate

DOCUMENTS = [f"Return the value number {n} of the list, or None if there is no such value. " * 4 for n in range(60)]


@pytest.fixture
def text(tmp_path, home) -> Path:
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": each}) + "\n" for each in DOCUMENTS))
    return path


def make_run(text: Path, tag: str = "d4", steps: tuple[int, ...] = (5, 10)) -> Path:
    """The folder of a run as base_train leaves it, with a small random model."""
    tokenizer = Tokenizer.train(DOCUMENTS, 280)
    model = GPT(GPTConfig(64, tokenizer.vocab_size, 1, 2, 2, 16))
    folder = run_folder(tag)
    tokenizer.save(folder / "tokenizer")
    for step in steps:
        model.lm_head.weight = mx.random.normal(model.lm_head.weight.shape, key=mx.random.key(step))
        meta = {"config": asdict(model.config), "tokenizer": tokenizer.fingerprint}
        meta |= {"settings": {"dataset": str(text), "streaming": False}}
        save_checkpoint(folder, Checkpoint(step, dict(tree_flatten(model.parameters())), {}, meta))
    return folder


@pytest.fixture
def folder(text) -> Path:
    return make_run(text)


def run(*flags: object) -> None:
    base_eval.main([str(flag) for flag in flags])


def report(folder: Path, step: int = 10) -> dict:
    return json.loads((folder / f"eval_{step:06d}.json").read_text())


def model_of(folder: Path, step: int = 10) -> tuple[GPT, Tokenizer]:
    from course_lib.train.checkpoint import load_model

    return load_model(folder, step)[:2]


def test_everything_is_measured_printed_and_written_beside_the_checkpoint(folder, text, capsys):
    run("--max-per-task", 6)
    out = capsys.readouterr().out
    found = report(folder)
    model, tokenizer = model_of(folder)
    assert found["step"] == 10 and f"the report is {folder / 'eval_000010.json'}" in out
    assert (folder / "eval_000010.png").read_bytes().startswith(b"\x89PNG")

    dataset = open_dataset(str(text))
    for split in ("train", "val"):
        documents = [tokenizer.encode(each, bos=True) for each in dataset.documents(split)]
        rows = max(1, min(16, sum(map(len, documents)) // 64))
        with TokenLoader(dataset, tokenizer, split, rows, 64) as loader:
            expected = validate(model, islice(loader, 1), tokenizer.token_bytes)
        assert found["bits_per_byte"][split] == pytest.approx(expected, rel=0.05)  # the program may take more rows
        assert f"{found['bits_per_byte'][split]:.4f} bits per byte" in out

    tasks = load_tasks()
    assert list(found["core"]["tasks"]) == [task.name for task in tasks] and found["core"]["max_per_task"] == 6
    for task in tasks:
        entry, result = (
            found["core"]["tasks"][task.name],
            evaluate_task(model, tokenizer, task, load_items(task), limit=6),
        )
        assert entry["accuracy"] == result.accuracy and entry["items"] == 6 and entry["baseline"] == task.baseline
        assert entry["standard_error"] == result.standard_error and entry["centred"] == result.centred
        assert entry["clusters"] == len({item.get("cluster", n) for n, item in enumerate(load_items(task)[:6])})
        line = next(line for line in out.splitlines() if line.startswith(f"│ {task.name} "))
        numbers = (
            f"{task.baseline:.1%}",
            f"{result.accuracy:.1%} ± {result.standard_error:.1%}",
            f"{result.centred:+.3f}",
        )
        assert all(number in line for number in numbers)
    mean = sum(entry["centred"] for entry in found["core"]["tasks"].values()) / len(tasks)
    assert found["core"]["core"] == pytest.approx(mean) and f"{mean:+.4f} ± " in out

    assert [prompt for prompt, _ in found["samples"]] == list(base_model.PROMPTS)
    for seed, (prompt, said) in enumerate(found["samples"]):
        assert said == continue_text(model, tokenizer, prompt, max_tokens=32, seed=seed)
        assert f"  {in_one_line(prompt)} … {in_one_line(said)}\n" in out


def test_bits_per_byte_takes_the_whole_validation_text_but_none_of_it_twice(folder, monkeypatch):
    seen = []
    real = base_model.validate

    def spy(model, batches, token_bytes):
        batches = list(batches)
        seen.append(sum(inputs.size for inputs, _ in batches))
        return real(model, batches, token_bytes)

    monkeypatch.setattr(base_model, "validate", spy)
    run("--eval", "bpb", "--device-batch-size", 2)
    _, tokenizer = model_of(folder)
    dataset = open_dataset(str(folder.parents[2].parent / "text.jsonl"))
    for split, tokens in zip(("train", "val"), seen, strict=True):
        total = sum(len(tokenizer.encode(each, bos=True)) for each in dataset.documents(split))
        assert max(128, total - 2 * 128) <= tokens <= total, (split, total, tokens)
    run("--eval", "bpb", "--split-tokens", 300, "--device-batch-size", 2)
    assert seen[2] == 256, "two batches of two rows of 64"


def test_a_part_can_be_asked_for_and_what_another_run_found_stays(folder):
    run("--eval", "bpb")
    before = report(folder)
    assert set(before) == {"step", "bits_per_byte"}
    run("--eval", "sample")
    assert report(folder) == {**before, "samples": report(folder)["samples"]}


@pytest.mark.slow
def test_a_checkpoint_is_named_by_tag_folder_or_step(folder, text, tmp_path, capsys):
    run("--tag", "d4", "--step", 5, "--eval", "sample")
    first = report(folder, 5)
    (folder / "eval_000005.json").unlink()
    run("--checkpoint", folder / "step_000005", "--eval", "sample")
    assert report(folder, 5) == first
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    run("--checkpoint", moved, "--eval", "sample")
    assert report(moved, 10)["samples"] != first["samples"], "the newest one"
    make_run(text, "other", (3,))
    run("--tag", "other", "--eval", "sample")
    assert "model other, step 3" in capsys.readouterr().out


def test_ctrl_c_keeps_the_tasks_that_are_done(folder, monkeypatch, capsys):
    real, asked = base_model.load_items, []

    def interrupted(task):
        asked.append(task.name)
        if len(asked) == 3:
            signal.raise_signal(signal.SIGINT)
        return real(task)

    monkeypatch.setattr(base_model, "load_items", interrupted)
    with pytest.raises(SystemExit) as caught:
        run("--max-per-task", 5)
    assert caught.value.code == 130
    captured = capsys.readouterr()
    found = report(folder)
    assert list(found["core"]["tasks"]) == asked[:2] and found["core"]["core"] is None
    assert set(found) == {"step", "bits_per_byte", "core"}, "no samples any more"
    assert captured.err == f"base_eval: stopped during core; what was finished is in {folder / 'eval_000010.json'}\n"
    assert all(f"│ {name} " in captured.out for name in asked[:2]) and "mean of" not in captured.out
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_before_anything_is_done_says_so(folder, monkeypatch, capsys):
    monkeypatch.setattr(base_model, "corpus_tokens", lambda *_: signal.raise_signal(signal.SIGTERM) or (9999, 9999))
    with pytest.raises(SystemExit) as caught:
        run()
    assert caught.value.code == 143
    assert capsys.readouterr().err == "base_eval: stopped during bpb; nothing was finished\n"
    assert not (folder / "eval_000010.json").exists()


def test_what_an_earlier_run_finished_is_not_taken_for_this_ones(folder, monkeypatch, capsys):
    run("--eval", "sample")
    before = report(folder)
    monkeypatch.setattr(base_model, "corpus_tokens", lambda *_: signal.raise_signal(signal.SIGINT) or (9999, 9999))
    with pytest.raises(SystemExit):
        run()
    assert capsys.readouterr().err == "base_eval: stopped during bpb; nothing was finished\n"
    assert report(folder) == before


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--eval", "bpb,speed"], 2, "--eval has 'speed', expected some of bpb,core,sample"),
        (["--eval", " , "], 2, "--eval is empty"),
        (["--max-per-task", 0], 2, "--max-per-task is 0, expected 1 or more"),
        (["--device-batch-size", 0], 2, "--device-batch-size is 0"),
        (["--split-tokens", -5], 2, "--split-tokens is -5"),
        (["--tag", "d4", "--checkpoint", "x"], 2, "--tag and --checkpoint each name a run"),
        (["--checkpoint", "step_000005", "--step", 10], 2, "--step is 10, but --checkpoint names step_000005"),
        (["--tag", "nowhere"], 1, "--tag can name base: d4; the quickest way to one, named speedrun, is"),
        (["--tag", "../d4"], 1, "the tag '../d4' cannot name a run"),
        (["--checkpoint", "nowhere"], 1, "there is no run in "),
        (["--step", 7], 1, "step_000007 is damaged or no checkpoint"),
        (["--dataset", "nowhere", "--eval", "bpb"], 1, "nowhere"),
    ],
)
def test_what_cannot_be_ends_with_one_sentence(folder, flags, code, said, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as caught:
        run(*flags)
    error = capsys.readouterr().err
    assert caught.value.code == code and said in error
    assert error.startswith("base_eval: ") and error.count("\n") == 1 and not list(folder.glob("eval_*"))


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_measured(folder, capsys):
    with (folder / "step_000010" / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\xff\xff\xff\xff")
    run("--eval", "sample")
    assert "step_000010 is damaged" in capsys.readouterr().err and report(folder, 5)["step"] == 5


def test_a_report_that_is_no_dict_is_written_anew(folder):
    (folder / "eval_000010.json").write_text("[1]")
    run("--eval", "sample")
    assert set(report(folder)) == {"step", "samples"}


def test_the_bundle_is_fetched_before_anything_is_measured(folder, monkeypatch, capsys):
    def offline():
        raise CourseError("no connection")

    monkeypatch.setattr(base_model, "fetch_bundle", offline)
    with pytest.raises(SystemExit):
        run("--bundle")
    assert capsys.readouterr().err == "base_eval: no connection\n" and not list(folder.glob("eval_*"))


def test_a_streamed_text_has_no_known_end(folder, text, monkeypatch):
    _, tokenizer = model_of(folder)
    monkeypatch.setattr(base_model, "corpus_tokens", lambda *_: (math.inf, math.inf))
    run("--eval", "bpb", "--split-tokens", 500)
    assert 0 < report(folder)["bits_per_byte"]["train"] < 20


# The bundle

META = "Eval Task,Task Category,Task Type,#shots,#datapoints,Random baseline,Centered Metric?,Description\n"
BUNDLE = {
    "core.yaml": """icl_tasks:
-
  label: choices
  dataset_uri: a/choices.jsonl
  num_fewshot: [1]
  icl_task_type: multiple_choice
  continuation_delimiter: "\\nAnswer: "
-
  label: schemas
  dataset_uri: b/schemas.jsonl
  num_fewshot: [0]
  icl_task_type: schema
-
  label: words
  dataset_uri: b/words.jsonl
  num_fewshot: [2]
  icl_task_type: language_modeling
""",
    "eval_meta_data.csv": META
    + 'choices,x,mc,1,4,50.0,,"with, commas"\nschemas,x,schema,0,4,50,,\nwords,x,lm,2,4,0.0,,\nunused,x,lm,2,4,0.0,,\n',
    "eval_data/a/choices.jsonl": "".join(
        json.dumps({"query": f"{n} and 1 are", "choices": [f"{n + 1}", f"{n}"], "gold": 0}) + "\n" for n in range(4)
    ),
    "eval_data/b/schemas.jsonl": "".join(
        json.dumps({"context_options": [f"{n} a", f"{n} b"], "continuation": "is here", "gold": n % 2}) + "\n"
        for n in range(4)
    ),
    "eval_data/b/words.jsonl": "".join(
        json.dumps({"context": f"value number {n} of the", "continuation": "list"}) + "\n" for n in range(4)
    ),
}


def zipped(files: dict[str, str], root: str = "eval_bundle/") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__MACOSX/eval_bundle/._core.yaml", "junk")
        for name, content in files.items():
            archive.writestr(root + name, content)
    return buffer.getvalue()


def flipped(body: bytes) -> bytes:
    """The zip with one wrong byte inside the data of its largest file."""
    archive = zipfile.ZipFile(io.BytesIO(body))
    entry = max(archive.infolist(), key=lambda each: each.compress_size)
    place = entry.header_offset + 30 + len(entry.filename) + entry.compress_size // 2
    return body[:place] + bytes([body[place] ^ 0x10]) + body[place + 1 :]


BODIES = {
    "good": zipped(BUNDLE),
    "truncated": zipped(BUNDLE)[:-300],
    "flipped": flipped(zipped(BUNDLE)),
    "no zip": b"<html>sorry</html>",
    "no tasks": zipped({"readme.txt": "x"}),
    "no baselines": zipped({"core.yaml": BUNDLE["core.yaml"]}),
    "leads elsewhere": zipped({**BUNDLE, "../../evil.txt": "x"}),
    "absolute": zipped({**BUNDLE, "/tmp/evil.txt": "x"}, root=""),
    "backslashes": zipped({**BUNDLE, "..\\..\\evil.txt": "x"}, root=""),
}


@pytest.fixture
def server(monkeypatch, home):
    """A web server on this machine that answers with BODIES[server.mode]; BUNDLE_URL points at it."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            web.requests += 1
            if web.mode == "404":
                return self.send_error(404)
            body = BODIES["good" if web.mode == "cut short" else web.mode]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if web.mode == "cut short" else body)

        def log_message(self, *args):
            pass

    web = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    web.mode, web.requests = "good", 0
    thread = threading.Thread(target=functools.partial(web.serve_forever, poll_interval=0.01))
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(bundle, "BUNDLE_URL", f"http://127.0.0.1:{web.server_address[1]}/eval_bundle.zip")
    yield web
    web.shutdown()
    web.server_close()
    thread.join()


def left_in(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir() if path.suffix != ".lock")


def test_the_bundle_is_fetched_once_and_asked(server, folder, home, capsys):
    run("--bundle", "--eval", "core")
    found = report(folder)["core"]
    assert found["tasks_of"] == "bundle" and list(found["tasks"]) == ["choices", "schemas", "words"]
    assert {name: entry["baseline"] for name, entry in found["tasks"].items()} == {
        "choices": 0.5,
        "schemas": 0.5,
        "words": 0,
    }
    assert [entry["num_fewshot"] for entry in found["tasks"].values()] == [1, 0, 2]
    names = {str(path.relative_to(home / "eval_bundle")) for path in (home / "eval_bundle").rglob("*.*")}
    assert names == set(BUNDLE), "no more and no less than the tasks"
    assert (home / "eval_bundle" / "core.yaml").read_text() == BUNDLE["core.yaml"]
    assert load_tasks(home / "eval_bundle")[0].delimiter == "\nAnswer: "
    server.mode = "404"
    run("--bundle", "--eval", "core", "--max-per-task", 1)
    assert server.requests == 1 and "eval_bundle.zip" not in left_in(home)


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("404", "the server answered 404 Not Found; try again online, or leave --bundle out"),
        ("cut short", "the download broke off; try again online, or leave --bundle out"),
        ("truncated", "eval_bundle.zip is damaged .*: fetch it again"),
        ("flipped", "eval_bundle.zip is damaged .*: fetch it again"),
        ("no zip", "eval_bundle.zip is damaged .*: fetch it again"),
        ("no tasks", "has no core.yaml and no eval_meta_data.csv, so it is not the CORE bundle"),
        ("no baselines", "has no eval_meta_data.csv"),
        ("leads elsewhere", "a path that leads elsewhere"),
        ("absolute", "a path that leads elsewhere"),
        ("backslashes", "a path that leads elsewhere"),
    ],
)
def test_a_bundle_that_is_not_whole_is_refused_and_the_next_try_begins_anew(server, home, tmp_path, mode, said):
    server.mode = mode
    with pytest.raises(CourseError, match=said) as caught:
        bundle.fetch_bundle()
    assert "\n" not in str(caught.value)
    kept = [name for name in left_in(home) if not name.endswith(".part")]
    assert kept == [] and (mode == "cut short") == bool(left_in(home)), "only what can be gone on with is left"
    assert not list(tmp_path.rglob("evil.txt")) and not Path("/tmp/evil.txt").exists()
    server.mode = "good"
    assert (bundle.fetch_bundle() / "core.yaml").exists()


def test_whatever_bytes_a_zip_has_it_is_unpacked_or_refused(tmp_path):
    rng, whole = random.Random(0), BODIES["good"]
    for n in range(300):
        damaged = bytearray(whole)
        damaged[rng.randrange(whole.index(b"PK\1\2"), len(whole))] = rng.randrange(256)  # in its directory
        zip_file, folder = tmp_path / "eval_bundle.zip", tmp_path / str(n)
        zip_file.write_bytes(damaged)
        try:
            bundle.unpack(zip_file, folder)
        except CourseError as error:
            assert "\n" not in str(error) and "cannot write" not in str(error) and not folder.exists()


def test_a_full_disk_is_said_before_anything_is_unpacked(server, home, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(bundle.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(CourseError, match="free some space, or set COURSE_HOME"):
        bundle.fetch_bundle()
    assert left_in(home) == []


def test_what_a_killed_process_left_is_not_taken_for_whole(server, home):
    home.mkdir(parents=True, exist_ok=True)
    (home / "eval_bundle.zip").write_bytes(BODIES["truncated"])
    (home / ".eval_bundle.part").mkdir()
    (home / ".eval_bundle.part" / "core.yaml").write_text("half")
    folder = bundle.fetch_bundle()
    assert (folder / "core.yaml").read_text() == BUNDLE["core.yaml"] and left_in(home) == ["eval_bundle"]


def test_the_program_has_its_name_in_the_package(checkout):
    text = (checkout / "pyproject.toml").read_text()
    assert re.search(r'^base_eval = "course_lib\.scripts\.base_eval:main"$', text, re.M)
