"""A home that is shared and can only be read: what only reads works, what writes says so before it computes."""

import json
import os
import subprocess
from dataclasses import asdict

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from course_lib.data.dataset import open_dataset
from course_lib.data.tokenizer import Tokenizer
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.scripts import (
    base_eval,
    base_train,
    chat_cli,
    chat_eval,
    chat_rl,
    chat_sft,
    get_data,
    speedrun,
    tok_train,
)
from course_lib.train.checkpoint import Checkpoint, run_folder, save_checkpoint

DOCUMENTS = [f"Return the value number {n} of the list, or None if there is no such value. " * 4 for n in range(60)]


@pytest.fixture
def shared(home, tmp_path):
    """Such a home, with a tokenizer, the shards of a text, and a model of two stages."""
    text = tmp_path / "text.jsonl"
    text.write_text("".join(json.dumps({"text": each}) + "\n" for each in DOCUMENTS))
    tokenizer = Tokenizer.train(DOCUMENTS, 280)
    tokenizer.save(home / "tokenizer")
    open_dataset(str(text))
    model = GPT(GPTConfig(64, tokenizer.vocab_size, 1, 2, 2, 16))
    model.lm_head.weight = mx.random.normal(model.lm_head.weight.shape, key=mx.random.key(1))
    meta = {"config": asdict(model.config), "tokenizer": tokenizer.fingerprint}
    meta |= {"settings": {"dataset": str(text), "streaming": False}}
    for stage in ("base", "sft"):
        tokenizer.save(run_folder("d1", stage) / "tokenizer")
        save_checkpoint(run_folder("d1", stage), Checkpoint(1, dict(tree_flatten(model.parameters())), {}, meta))
    if os.geteuid():
        subprocess.run(["chmod", "-R", "a-w", home], check=True)
    elif subprocess.run(["mount", "--bind", home, home], capture_output=True).returncode:
        pytest.skip("root may write anywhere, and may not mount here")
    else:
        subprocess.run(["mount", "-o", "remount,bind,ro", home], check=True)
    yield text
    subprocess.run(["chmod", "-R", "u+w", home] if os.geteuid() else ["umount", home], check=True)


def test_what_only_reads_works(shared, tmp_path, capsys):
    with pytest.raises(SystemExit, match="0"):
        chat_cli.main(["-p", "Hi", "--max-tokens", "4"])
    assert capsys.readouterr().out.strip()
    assert open_dataset(str(shared)).num_rows("train") > 0
    base_eval.main(["--out", str(tmp_path / "reports" / "mine"), "--max-per-task", "2"])
    chat_eval.main(["--out", str(tmp_path / "reports" / "mine"), "--max-per-task", "2"])
    found = {path.name for path in (tmp_path / "reports" / "mine").glob("*.json")}
    assert found == {"eval_000001.json", "chat_eval_000001.json"}
    assert "model d1, step 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("program", "flags", "instead"),
    [
        (base_eval, [], "give one that you can write to by --out"),
        (chat_eval, [], "give one that you can write to by --out"),
        (base_train, ["--depth", "1"], "set COURSE_HOME to a folder that you can write to"),
        (chat_sft, ["--tag", "d1"], "set COURSE_HOME to a folder that you can write to"),
        (chat_rl, ["--tag", "d1"], "set COURSE_HOME to a folder that you can write to"),
        (speedrun, ["--minutes", "1"], "set COURSE_HOME to a folder that you can write to"),
        (tok_train, [], "set COURSE_HOME to a folder that you can write to"),
        (get_data, [], "set COURSE_HOME to a folder that you can write to"),
    ],
    ids=lambda value: getattr(value, "__name__", "").rpartition(".")[2],
)
def test_what_writes_says_so_at_once(shared, capfd, program, flags, instead):
    with pytest.raises(SystemExit) as ended:
        program.main(flags)
    out, err = capfd.readouterr()
    assert ended.value.code == 1 and "cannot write to the folder" in err and instead in err
    assert "tokens" not in out, "it had begun"
