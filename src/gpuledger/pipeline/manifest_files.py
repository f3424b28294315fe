"""Files that hold workloads, as submissions: Kubernetes manifests, batch scripts, Terraform plans, launchers' tasks.

A file is told by what is in it. YAML may hold several documents; what a file holds can refer to what others hold.
Nothing that a file says can stop the others: what can't be read is an entry of its own, with the reason.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from gpuledger.core.policy.manifests import submission_of
from gpuledger.core.policy.plans import is_plan, submissions_of_plan
from gpuledger.core.policy.sbatch import submission_of_script
from gpuledger.core.policy.submission import Submission
from gpuledger.core.policy.tasks import submission_of_task
from gpuledger.core.workload.fields import Json, kind, name, namespace, text
from gpuledger.core.workload.objects import Objects, flatten
from gpuledger.errors import UsageError

_LARGEST: Final = 64 << 20
_MOST_VALUES: Final = 2_000_000  # a document that refers to itself again and again is refused
_YAML: Final = frozenset({".yaml", ".yml"})
_SCRIPTS: Final = frozenset({".sbatch", ".slurm", ".sh", ".bash", ".job", ".sub"})
_SKIPPED: Final = frozenset({".git", "node_modules", ".terraform", "__pycache__", ".venv"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a file: a submission, or None with the reason why it isn't one; `unread` says it can't be read."""

    file: str
    line: int
    label: str
    submission: Submission | None
    reason: str = ""
    unread: bool = False


class _Document(NamedTuple):
    file: str
    line: int
    document: Json


def read(paths: Sequence[Path], default_namespace: str | None = None) -> Iterator[Entry]:
    """Yield what files, and the files below folders, hold. Raises UsageError for a path that isn't there."""
    documents: list[_Document] = []
    entries: list[Entry] = []
    for found in (one for path in paths for file in _files(path) for one in _read(file)):
        if isinstance(found, Entry):
            entries.append(found)
        else:
            documents.append(found)
    objects = Objects(obj for one in documents for obj in flatten(one.document))
    spaces = {name(obj): obj for obj in objects.of_kind("Namespace")}
    entries += [
        _entry(one, obj, objects, spaces, default_namespace)
        for one in documents
        for obj in flatten(one.document)
    ]
    yield from sorted(entries, key=lambda entry: (entry.file, entry.line))


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        for found in sorted(path.rglob("*")):
            inside = found.relative_to(path).parts
            if found.is_file() and not _SKIPPED & set(inside) and _is_of_interest(found):
                yield found
    elif path.exists() or str(path) == "-":
        yield path
    else:
        raise UsageError("no such file or folder", where=str(path), hint="Give manifests, scripts or plans.")


def _is_of_interest(path: Path) -> bool:
    return path.suffix.lower() in _YAML | _SCRIPTS | {".json"}


def _read(file: Path) -> Iterator["Entry | _Document"]:
    shown = str(file)
    try:
        body = _bytes(file).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        why = "isn't UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        yield Entry(shown, 1, file.name, None, f"can't be read: {why}", unread=True)
        return
    if "#SBATCH" in body and (script := submission_of_script(body, file.stem)) is not None:
        yield Entry(shown, 1, f"SlurmJob/{script.name}", script)
        return
    if file.suffix.lower() in _SCRIPTS:
        return
    try:
        for line, document in _documents(file, body):
            if not isinstance(document, dict):
                continue
            if is_plan(document):
                yield from _plan(shown, document)
            elif (task := submission_of_task(document, file.stem)) is not None:
                yield Entry(shown, line, f"{task.kind}/{task.name}", task)
            elif text(document.get("kind")) and text(document.get("apiVersion")):
                yield _Document(shown, line, document)
    except (ValueError, RecursionError) as error:
        told = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        hint = " Render templates first (helm template, kustomize build)." if "{{" in body else ""
        yield Entry(shown, 1, file.name, None, f"can't be parsed: {_short(told)}.{hint}", unread=True)


def _bytes(file: Path) -> bytes:
    if str(file) == "-":
        import sys

        content = sys.stdin.buffer.read(_LARGEST + 1)
    else:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise ValueError("is larger than 64 MiB")
    return content


def _plan(file: str, document: Json) -> Iterator[Entry]:
    for one in submissions_of_plan(document):
        yield Entry(file, 1, one.name, one)


def _documents(file: Path, body: str) -> Iterator[tuple[int, Any]]:
    """Yield each document with the line that it begins at. Raises ValueError for what can't be parsed."""
    if file.suffix.lower() == ".json" or body.lstrip().startswith("{"):
        yield 1, json.loads(body)
        return
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(body)
    try:
        while loader.check_node():
            node = loader.get_node()
            if _size(node, {}) > _MOST_VALUES:
                raise ValueError("it refers to itself more often than anybody could read")
            yield node.start_mark.line + 1, loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except (TypeError, OverflowError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    finally:
        loader.dispose()


def _size(node: Any, known: dict[int, int]) -> int:  # noqa: ANN401 - a node of the parser's
    """Return how many values a document has when everything that it refers to is written out."""
    if (found := known.get(id(node))) is not None:
        return found
    known[id(node)] = _MOST_VALUES + 1  # a node within itself has no end
    total = 1
    if isinstance(node.value, list):
        for item in node.value:
            for part in item if isinstance(item, tuple) else (item,):
                total = min(total + _size(part, known), _MOST_VALUES + 1)
    known[id(node)] = total
    return total


def _entry(
    one: _Document, obj: Json, objects: Objects, spaces: dict[str, Json], default_namespace: str | None
) -> Entry:
    label = f"{kind(obj)}/{name(obj)}"
    space = namespace(obj) or default_namespace
    try:
        found = submission_of(
            obj, objects, own_namespace=spaces.get(space or ""), default_namespace=default_namespace
        )
    except RecursionError:
        return Entry(one.file, one.line, label, None, "can't be read: it is nested too deep", unread=True)
    return Entry(one.file, one.line, label, found, "" if found else "runs no pods")


def _short(message: str) -> str:
    return " ".join(message.split())[:300]
