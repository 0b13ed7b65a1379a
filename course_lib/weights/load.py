"""Bring in a model of another program: from a folder, from a file, or from the Hugging Face hub.

The forms: nanochat's own files (October 2025 and July 2026), folders of transformers (nanochat's model, or GPT-2),
folders of mlx-lm. Nothing of them is run; what does not fit is refused in a sentence.

Written by hand; chapter 22 uses it.
"""

import sys
from pathlib import Path
from typing import Any

from course_lib import backend
from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError
from course_lib.host.paths import existing_path
from course_lib.model.gpt import GPT
from course_lib.train.checkpoint import checkpoint_folders
from course_lib.weights.files import file_in, or_damaged, read_json
from course_lib.weights.hub import fetch_repo, is_repo
from course_lib.weights.hugging_face import load_gpt2, load_mlx_lm, load_transformers
from course_lib.weights.nanochat import load_nanochat, newest_model
from course_lib.weights.pretrained import Pretrained
from course_lib.weights.safetensors_files import load_all

FORMS = "nanochat's model_….pt, or config.json with model.safetensors"


def load_pretrained(source: str | Path, revision: str | None = None) -> tuple[GPT, Tokenizer, dict[str, Any]]:
    """Model, tokenizer and meta of `source`: a folder, a file model_….pt, or a model of the hub, OWNER/NAME.

    The weights stay as they are kept, in 32 bits, 16 or fewer; `model.set_dtype` changes the floats among them.
    revision: of the hub's repository, a branch, tag or commit. Notes on what differs go to stderr, and are in
    meta["notes"].
    Raises CourseError where there is no such model, it is damaged, or it is none that the course has.
    """
    path = local(source, revision)
    found = read_pretrained(path)
    with or_damaged(path):
        model = found.model()
    for note in found.notes:
        print(f"{source}: {note}", file=sys.stderr)
    return model, found.tokenizer, found.meta | {"source": str(source)}


def local(source: str | Path, revision: str | None = None) -> Path:
    """The folder or file that is meant, fetched where it is a model of the hub. Raises CourseError."""
    if path := existing_path(str(source)):
        if revision is not None:
            raise CourseError(f"{source} is on this machine and has no revisions; leave the revision out")
        return path
    if isinstance(source, str) and is_repo(source):
        return fetch_repo(source, revision)
    raise CourseError(
        f"there is no {source} here, and no model of the hub is called so; expected OWNER/NAME or a folder"
    )


def read_pretrained(path: Path) -> Pretrained:
    """Numbers, arrays and tokenizer of a local folder or file, by the form that its files have. Raises CourseError."""
    with or_damaged(path):
        if path.is_file():
            check_room(path.parent, [path.name])
            return load_nanochat(path)
        if path.name.startswith("step_") or checkpoint_folders(path):
            raise CourseError(f"{path} is of this course; give it by --checkpoint, or load it with load_model")
        config = file_in(path, "config.json")
        if config is None:
            newest = newest_model(each.name for each in path.iterdir())
            if newest is None:
                raise CourseError(f"{path} holds no model of a known form; expected {FORMS}")
            check_room(path, [newest])
            return load_nanochat(path / newest)
        about = read_json(config)
        kind = about.get("model_type")
        if kind not in ("nanochat", "gpt2"):
            raise CourseError(f"{path} holds a model of type {kind!r:.40}; expected nanochat's or GPT-2: take another")
        check_room(path, [each.name for each in path.glob("*.safetensors")])
        arrays = load_all(path)
        load = load_mlx_lm if any(name.startswith("transformer.") for name in arrays) else load_transformers
        return (load_gpt2 if kind == "gpt2" else load)(path, about, arrays)


def check_room(folder: Path, names: list[str]) -> None:
    """Raise CourseError where the files are larger than the memory that arrays may take, before any is read."""
    files = filter(None, (file_in(folder, name) for name in names))
    size, have = sum(path.stat().st_size for path in files), backend.memory_for_arrays()
    if size > have:
        raise CourseError(
            f"the weights in {folder} have {size / 1e9:.1f} GB, and of this machine's memory they may take "
            f"{have / 1e9:.1f} GB; take a smaller model"
        )
