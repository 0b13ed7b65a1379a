"""What pyproject.toml, constraints.txt and CI promise, and which rooms the quick tests reach."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from course_lib.authoring.rooms import ROOMS, WORKSHOPS, imported, room_of

CHECKOUT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))
PYTHONS = SpecifierSet(PROJECT["project"]["requires-python"])
NEEDED = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
TOOLS = [Requirement(line) for line in PROJECT["dependency-groups"]["dev"]]
NOT_IMPORTED = {"jupyterlab", "scipy-openblas32"}  # a program; a library that is found by its files


def names(requirements: list[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements}


def third_party(*files: Path) -> Iterator[tuple[set[str], Path]]:
    """(distributions that bring it, file) of each import that is neither Python's nor ours."""
    by_import = packages_distributions()
    ours = {path.stem for path in (CHECKOUT / "tests").rglob("*.py")} | {"course_lib", "conftest"}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            found = [node.module] if isinstance(node, ast.ImportFrom) else []
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else found
            for name in {name.partition(".")[0] for name in found if name} - ours - sys.stdlib_module_names:
                yield set(map(canonicalize_name, by_import.get(name, [name]))), path


def package_files(authoring: bool) -> list[Path]:
    files = (CHECKOUT / "course_lib").rglob("*.py")
    return [path for path in files if ("authoring" in path.parts) == authoring]


def undeclared(files: list[Path], declared: set[str]) -> set[tuple[str, str]]:
    return {(min(brought), path.name) for brought, path in third_party(*files) if not brought & declared}


def test_what_the_package_imports_is_declared():
    assert undeclared(package_files(authoring=False), names(NEEDED)) == set()


def test_what_the_tests_and_the_command_for_authors_import_is_declared():
    tests = [CHECKOUT / "conftest.py", *(CHECKOUT / "tests").glob("*.py")]
    assert undeclared([*package_files(authoring=True), *tests], names(NEEDED + TOOLS)) == set()


def test_what_is_declared_is_imported():
    chapters = (CHECKOUT / "notebooks" / "text").rglob("*.py")
    used = set().union(*(brought for brought, _ in third_party(*package_files(authoring=False), *chapters)))
    assert names(NEEDED) - used - NOT_IMPORTED == set()


def test_the_constraints_hold_a_version_for_each_dependency_that_it_allows():
    lines = (CHECKOUT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[\w.!+]+", line)] == []  # no URL, no path
    versions = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in pins}
    assert names(NEEDED + TOOLS) - set(versions) == set()
    for each in NEEDED + TOOLS:
        version = versions[canonicalize_name(each.name)]
        assert version in each.specifier, f"{each}, but the constraints say {version}"
    assert versions["mlx"] == versions["mlx-cpu"] == versions["mlx-metal"]


def test_ci_runs_the_lowest_and_the_highest_python_that_is_allowed():
    workflow = (CHECKOUT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    tested = re.findall(r'"(3\.\d+)"', re.search(r"python: \[(.*)\]", workflow)[1])
    allowed = [f"3.{minor}" for minor in range(100) if f"3.{minor}" in PYTHONS]
    assert [tested[0], tested[-1]] == [allowed[0], allowed[-1]]
    assert (CHECKOUT / ".python-version").read_text("utf-8").strip() in allowed
    assert f"Python {allowed[0]} to {allowed[-1]}" in (CHECKOUT / "docs" / "machines.md").read_text("utf-8")


PUBLISHES = {"pages: write", "id-token: write"}  # what the job needs that puts pages.yml's site online


def test_no_workflow_may_write_or_run_for_ever_or_take_what_a_tag_names():
    for path in (CHECKOUT / ".github" / "workflows").iterdir():
        text = path.read_text("utf-8")
        assert "permissions:\n  contents: read\n" in text and "cancel-in-progress: true" in text, path
        granted = set(re.findall(r"[\w-]+: write", text))
        assert granted == (PUBLISHES if path.name == "pages.yml" else set()), path
        assert text.count("runs-on:") == len(re.findall(r"^    timeout-minutes:", text, re.MULTILINE)), path
        for action in re.findall(r"uses: (.*)", text):
            assert re.search(r"@[0-9a-f]{40} # v\d", action), f"{path.name}: {action} names no commit"


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((CHECKOUT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # what its format requires
    assert citation["version"] == PROJECT["project"]["version"] and citation["license"] == PROJECT["project"]["license"]
    assert citation["repository-code"] == PROJECT["project"]["urls"]["Repository"]


def test_each_form_for_reports_has_what_github_requires():
    folder = CHECKOUT / ".github" / "ISSUE_TEMPLATE"
    forms = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in folder.iterdir()}
    assert {"bug", "unclear", "config"} == set(forms)
    for link in forms.pop("config")["contact_links"]:
        assert set(link) == {"name", "url", "about"}
    for form in forms.values():
        assert {"name", "description", "body"} <= set(form)
        for part in form["body"]:
            assert part["type"] in ("input", "textarea") and part["attributes"]["label"]


def test_what_colab_is_told_to_install_is_every_dependency_but_those_that_colab_has_of_its_own():
    text = (CHECKOUT / "docs" / "machines.md").read_text("utf-8")
    told = {
        canonicalize_name(word.split("[")[0]) for word in re.search(r"!pip install -q (mlx\[cpu\] .*)", text)[1].split()
    }
    assert told == names(NEEDED) - {"ipython", "jupyterlab"}


def test_the_canary_takes_newer_pythons_and_every_mlx(tmp_path):
    (tmp_path / ".ci").mkdir()
    for name in (".ci/newest", "pyproject.toml", ".python-version"):
        shutil.copy(CHECKOUT / name, tmp_path / name)
    subprocess.run([tmp_path / ".ci" / "newest"], check=True, timeout=60)
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text("utf-8"))["project"]
    assert "3.99" in SpecifierSet(project["requires-python"]) and not (tmp_path / ".python-version").exists()
    builds = [Requirement(line) for line in project["dependencies"] if line.startswith("mlx")]
    assert len(builds) == 2 and all(each.specifier.prereleases and "1.7.0rc1" in each.specifier for each in builds)


def quick_functions(tree: ast.Module) -> list[ast.FunctionDef]:
    """The tests of a module that are not marked slow."""
    if any(isinstance(node, ast.Assign) and "pytest.mark.slow" in ast.unparse(node) for node in tree.body):
        return []
    tests = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return [test for test in tests if "pytest.mark.slow" not in map(ast.unparse, test.decorator_list)]


@pytest.mark.parametrize("room", [*ROOMS, *WORKSHOPS])
def test_quick_tests_reach_each_room(room):
    if not any((CHECKOUT / "course_lib").glob(f"{room}*")):
        pytest.skip("no chapter has built it yet")
    trees = [ast.parse(path.read_text("utf-8")) for path in (CHECKOUT / "tests").glob("test_*.py")]
    of_this_room = [tree for tree in trees if room in {room_of(name) for name, _ in imported(tree)}]
    assert sum(len(quick_functions(tree)) for tree in of_this_room) >= 10
