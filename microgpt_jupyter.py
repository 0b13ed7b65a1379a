"""What a Jupyter server does differently in this checkout: it hides what authors need, and leaves chapters unedited.

Outside `course_lib`, which would load MLX into the server. `jupyter/jupyter_server_config.d` names it. Extensions load
in the order of their names, and that of jupytext puts another contents manager in place: this one must come later.
"""

import platform
from inspect import isawaitable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent
HIDDEN = ["text", "ruff.toml"]  # in notebooks


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(server) -> None:
    """Change how files are listed and read, when the server's root lies in the checkout; nothing elsewhere."""
    if not Path(server.root_dir).resolve().is_relative_to(CHECKOUT):
        return
    manager = server.contents_manager
    manager.hide_globs = [*manager.hide_globs, *HIDDEN]
    read = manager.get

    async def get(*arguments, **options) -> dict:
        model = read(*arguments, **options)
        model = await model if isawaitable(model) else model
        if model["type"] == "notebook" and model["content"]:
            # JupyterLab writes its kernel's version here; if that changed anything, the notebook would count as edited.
            language = model["content"]["metadata"].get("language_info", {})
            if "version" in language:
                language["version"] = platform.python_version()
        return model

    manager.get = get
