"""The shape of the tree: budgets, layers, locks and words, each with the reason it is held to.

`make lint` checks what ruff, mypy and import-linter can say; here is what they can't.
"""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "gpuledger"
LINES_PER_FILE = 500
LINES_PER_FUNCTION = 70

# Spelled in pieces, so that this file does not hold the words it looks for.
FORBIDDEN = tuple(
    joint.join(parts)
    for joint, parts in (
        (".", ("pypi", "org")),
        (".", ("pythonhosted", "org")),
        (".", ("npmjs", "org")),
        (".", ("yarnpkg", "com")),
        (".", ("deb", "debian", "org")),
        (".", ("proxy", "golang", "org")),
        (".", ("crates", "io")),
        (".", ("repo", "maven", "apache", "org")),
        ("/", ("", "work", "")),
        ("/", ("", "opt", "pypi")),
    )
)
# Folder names that say nothing about what is in them.
EMPTY_NAMES = {"common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}


def tracked() -> list[Path]:
    """Files of the project: tracked ones, and new ones that are not ignored."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode:
        pytest.skip("not a git checkout: clone the repository to run the structure tests")
    paths = (ROOT / name for name in sorted(set(listing.stdout.split("\0"))) if name)
    return [path for path in paths if path.is_file()]


def code(*suffixes: str) -> list[Path]:
    """Hand-written files of these suffixes; native deliveries below `raw` are data."""
    return [path for path in tracked() if path.suffix in suffixes and "raw" not in path.parts]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_files_fit_their_budget() -> None:
    sizes = {
        name(path): len(path.read_text().splitlines()) for path in code(".py", ".sql", ".html", ".css", ".js")
    }
    assert {path: lines for path, lines in sizes.items() if lines > LINES_PER_FILE} == {}


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name(path)}: {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def test_functions_fit_their_budget() -> None:
    sizes = dict(found for path in code(".py") for found in functions(path))
    assert sizes, "no function found: the search is broken"
    assert {function: lines for function, lines in sizes.items() if lines > LINES_PER_FUNCTION} == {}


def test_modules_say_what_they_are_for() -> None:
    assert [name(path) for path in code(".py") if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_names_say_what_is_inside() -> None:
    parts = {name(path): {*path.relative_to(ROOT).parts[:-1], path.stem} for path in code(".py", ".sql")}
    assert [path for path, words in parts.items() if words & EMPTY_NAMES] == []


def test_no_registry_or_machine_is_named() -> None:
    found = []
    for path in tracked():
        content = path.read_bytes().lower()
        found += [f"{name(path)}: {word}" for word in FORBIDDEN if word.encode() in content]
    assert found == []


def test_layers_hold() -> None:
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as main; main()",
            "--no-cache",
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"Contracts: [1-9]\d* kept, 0 broken", run.stdout), run.stdout


def pins(lock: Path) -> dict[str, set[str]]:
    """Map each package of a lock to its pinned versions; markers may give a package more than one."""
    found: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", lock.read_text(), re.MULTILINE):
        found.setdefault(package, set()).add(version)
    return found


@pytest.mark.parametrize("lock", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda lock: lock.name)
def test_locks_pin_with_hashes_and_name_no_host(lock: Path) -> None:
    text = lock.read_text()
    assert not re.search(r"://|^\s*--(?!hash=)|^\S+ @ |\bfile:", text, re.MULTILINE)
    requirements = re.findall(r"^[A-Za-z0-9].*?(?=^[A-Za-z0-9]|\Z)", text, re.MULTILINE | re.DOTALL)
    assert requirements
    assert [
        entry.splitlines()[0] for entry in requirements if "==" not in entry or "--hash=sha256:" not in entry
    ] == []


def test_tests_run_with_the_versions_that_users_get() -> None:
    runtime, dev = (pins(ROOT / "requirements" / f"{lock}.txt") for lock in ("runtime", "dev"))
    assert {package: versions for package, versions in runtime.items() if dev.get(package) != versions} == {}


def test_locks_cover_what_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {
        re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0] for requirement in project["dependencies"]
    }
    assert declared - set(pins(ROOT / "requirements" / "runtime.txt")) == set()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    run = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return next(folder.glob("*.whl"))


def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    expected = {path.relative_to(PACKAGE.parent).as_posix() for path in tracked() if PACKAGE in path.parents}
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    assert expected - packed == set()
    assert {f.rsplit("/", 1)[-1] for f in packed} >= {"LICENSE", "NOTICE", "py.typed"}


CONNECTORS = sorted(path for path in (PACKAGE / "sources").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("module", CONNECTORS, ids=lambda module: module.stem)
def test_a_connector_has_its_select(module: Path) -> None:
    parts = ast.parse(module.read_text()).body
    selects = any(
        isinstance(part, ast.FunctionDef) and part.name in {"select", "configure"} for part in parts
    )
    others = [
        ast.literal_eval(part.value)
        for part in parts
        if isinstance(part, ast.Assign) and ast.unparse(part.targets[0]) == "SQL"
    ]
    stem = next(iter(others), module.stem)
    assert selects or (module.parent / f"{stem}.sql").is_file(), f"no {stem}.sql beside {name(module)}"
