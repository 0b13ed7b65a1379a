"""The tasks of CORE, 162 MB in one zip file: fetched once, checked, unpacked whole or not at all.

Written by hand; chapter 11 uses it.
"""

import errno
import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from rich.progress import DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

from course_lib.host.download import fetch_file
from course_lib.host.errors import CourseError
from course_lib.host.files import only_one
from course_lib.host.paths import home_dir
from course_lib.host.progress import bars

BUNDLE_URL = "https://karpathy-public.s3.us-west-2.amazonaws.com/eval_bundle.zip"
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, IndexError)
NEEDED = ("core.yaml", "eval_meta_data.csv")


def fetch_bundle() -> Path:
    """Folder of the bundle, with core.yaml, eval_meta_data.csv and eval_data; downloaded on the first call.

    Raises CourseError when it cannot be had, or what arrives is not the bundle; then nothing is left.
    """
    folder = home_dir() / "eval_bundle"
    if folder.exists():
        return folder
    with only_one(folder):
        if not folder.exists():
            zip_file = _download(folder.with_name("eval_bundle.zip"))
            try:
                unpack(zip_file, folder)
            finally:
                zip_file.unlink(missing_ok=True)
    return folder


def _download(path: Path) -> Path:
    path.unlink(missing_ok=True)  # of a process that was killed: nobody knows whether it is whole
    print(f"fetching {path.name} (about 162 MB, once) …", flush=True)
    with bars(DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task(path.name, total=None)
        return fetch_file(
            BUNDLE_URL,
            path,
            max_bytes=300_000_000,
            otherwise="leave --bundle out",
            on_bytes=lambda done, total: progress.update(task, completed=done, total=total or None),
        )


def unpack(zip_file: Path, folder: Path) -> None:
    """Unpack the part of the zip that has core.yaml into `folder`, which appears when all of it is there.

    Raises CourseError for a damaged zip, one without the tasks, one with paths that lead elsewhere, or a full disk.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    again = "it was removed: fetch it again"
    try:
        with zipfile.ZipFile(zip_file) as archive:
            entries = _entries(archive)
            size, free = sum(entry.file_size for entry in entries.values()), shutil.disk_usage(folder.parent).free
            if size > free:
                raise CourseError(
                    f"the tasks need {size / 1e6:,.0f} MB and the disk of {folder.parent} has {free / 1e6:,.0f}; free "
                    "some space, or set COURSE_HOME"
                )
            for name, entry in entries.items():
                target = part / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file)  # compares the checksum at the end
        part.rename(folder)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        IndexError,
    ) as error:
        raise CourseError(f"{zip_file.name} is damaged ({str(error) or type(error).__name__}); {again}") from error
    except OSError as error:
        if error.errno == errno.EINVAL:  # a place in the file that it does not have
            raise CourseError(f"{zip_file.name} is damaged ({error.strerror}); {again}") from error
        raise CourseError(f"cannot write {folder} ({error.strerror}); free some space, or set COURSE_HOME") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files beside and below core.yaml, by their path from there."""
    again = "it was removed: fetch it again"
    names = [name for name in archive.namelist() if PurePosixPath(name).name == NEEDED[0]]
    root = PurePosixPath(min(names, key=len)).parent if names else PurePosixPath()
    entries = {}
    for entry in archive.infolist():
        path = PurePosixPath(entry.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in entry.filename:
            raise CourseError(f"the zip file holds {entry.filename!r}, a path that leads elsewhere; {again}")
        if not entry.is_dir() and path.is_relative_to(root):
            entries[str(path.relative_to(root))] = entry
    missing = [name for name in NEEDED if name not in entries]
    if missing:
        raise CourseError(f"the zip file has no {' and no '.join(missing)}, so it is not the CORE bundle; {again}")
    return entries
