"""Models of the Hugging Face hub: the files that are needed, and no others, in the hub's own cache.

huggingface_hub draws the bars, goes on with what broke off, and reads HF_ENDPOINT, HF_HUB_OFFLINE, HF_HOME and a token.

Written by hand; chapter 22 uses it.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from course_lib.host.download import AGAIN
from course_lib.host.errors import CourseError
from course_lib.weights.nanochat import newest_model, step_of

SMALL = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "model.safetensors.index.json",
)


def is_repo(name: str) -> bool:
    """Whether this could be a model's name on the hub: OWNER/NAME."""
    return re.fullmatch(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", name, re.ASCII) is not None


def needed(names: Iterable[str]) -> list[str]:
    """Of the files of a repository, those of one model: of transformers or mlx-lm, else nanochat's newest.

    GPT-2's has the weights for ten programs more.
    """
    names = set(names)
    parts = {name for name in names if re.fullmatch(r"model[\w.-]*\.safetensors", name, re.ASCII)}
    if "config.json" in names and parts:
        whole = {"model.safetensors"} & parts
        return sorted((names & {*SMALL}) | (whole or parts))
    newest = newest_model(names)
    if newest is None:
        return []
    beside = ("tokenizer.pkl", "token_bytes.pt")
    tokens = {f"{folder}{name}" for folder in ("", "tokenizer/") for name in beside}
    return sorted(names & {newest, f"meta_{step_of(newest)}.json", *tokens})


def fetch_repo(name: str, revision: str | None = None) -> Path:
    """The folder with the files of a model of the hub. Raises CourseError where it cannot be had.

    Without a network, what an earlier call has fetched of this revision.
    """
    import httpx  # both are slow to import, and needed here only
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        try:
            found = HfApi().model_info(name, revision=revision, timeout=30)
        except (OfflineModeIsEnabled, httpx.NetworkError, httpx.TimeoutException) as error:
            # of no pattern, as it would miss the files that nobody has asked for
            folder = Path(snapshot_download(name, revision=revision, local_files_only=True, allow_patterns=[]))
            if not needed(path.name for path in folder.iterdir()):
                raise LocalEntryNotFoundError("no model among what is here") from error
            return folder
        files = needed(file.rfilename for file in found.siblings or [])
        if not files:
            raise CourseError(
                f"the hub's {name} has neither config.json with model.safetensors nor nanochat's model_….pt; take "
                "another model"
            )
        return Path(snapshot_download(name, revision=revision, allow_patterns=files))
    except RevisionNotFoundError as error:
        raise CourseError(
            f"the hub's {name} has no revision {revision!r}; leave --revision out, or check it"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise CourseError(
            f"there is no model {name} on the hub, or it wants to know who you are; check the name, or set HF_TOKEN"
        ) from error
    except LocalEntryNotFoundError as error:
        raise CourseError(
            f"{name} was not fetched to its end, and the hub cannot be reached; try again online"
        ) from error
    except (HfHubHTTPError, httpx.HTTPError, OSError) as error:
        said = str(error).split("\n")[0]
        raise CourseError(f"could not fetch {name} ({said:.120}); {AGAIN}") from error
