"""Folders and files to read deliveries from: local, or s3://, az:// (abfs://), gs:// through one client.

Object stores take their credentials and endpoints from the usual environment variables (AWS_*, AZURE_*,
GOOGLE_*), as documented by the `object_store` library.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from gpuledger.core.contracts import SourceFile, Tree
from gpuledger.errors import SourceError, UsageError

_REMOTE = re.compile(r"^(s3|s3a|gs|az|azure|abfs|abfss|adl)://", re.IGNORECASE)


def is_remote(location: str) -> bool:
    """Say whether the location is an object store URL."""
    return _REMOTE.match(location) is not None


def open_tree(location: str, cache: Path) -> Tree:
    """Open a file, a folder or an object store prefix. `cache` receives downloads.

    Raises SourceError when nothing is there, UsageError for a scheme that we can't read.
    """
    if is_remote(location):
        return RemoteTree.open(location, cache)
    if "://" in location:
        scheme = location.split("://", 1)[0]
        raise UsageError(
            f"no reader for {scheme}:// addresses",
            where=location,
            hint="Use a path, or s3://, az://, abfs:// or gs://.",
        )
    return LocalTree.open(location)


@dataclass(frozen=True, slots=True)
class LocalTree:
    """A local file or folder."""

    location: str
    root: Path
    files: Sequence[SourceFile]

    @classmethod
    def open(cls, location: str) -> "LocalTree":
        """List the folder; a single file is a tree of one."""
        path = Path(location).expanduser()
        if path.is_file():
            return cls(location, path.parent, (_local_file(path.parent, path),))
        if not path.is_dir():
            raise SourceError(
                "no such file or folder",
                where=location,
                hint="Give the path of a bill, or of the folder it was delivered to.",
            )
        found = (p for p in path.rglob("*") if p.is_file() and not _hidden(p.relative_to(path)))
        return cls(location, path, tuple(sorted((_local_file(path, p) for p in found), key=lambda f: f.path)))

    def read(self, path: str) -> bytes:
        """Return a file's content."""
        return (self.root / path).read_bytes()

    def local(self, path: str) -> Path:
        """Return the file's own path."""
        return self.root / path


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_delta_log", "__MACOSX")) for part in path.parts)


def _local_file(root: Path, path: Path) -> SourceFile:
    stat = path.stat()
    return SourceFile(
        path.relative_to(root).as_posix(), stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC)
    )


@dataclass(frozen=True, slots=True)
class RemoteTree:
    """A prefix of an object store; files are downloaded once per version into `cache`."""

    location: str
    store: Any
    cache: Path
    files: Sequence[SourceFile]
    keys: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, location: str, cache: Path) -> "RemoteTree":
        """List the prefix. A prefix that names one object is a tree of one."""
        import obstore
        from obstore.exceptions import BaseError

        store, prefix = open_store(location)
        try:
            metas = [meta for batch in obstore.list(store, prefix=prefix or None) for meta in batch]
            if not metas and prefix:
                metas = [obstore.head(store, prefix)]
        except (BaseError, FileNotFoundError) as error:
            raise SourceError(
                f"can't list it ({str(error).splitlines()[0][:200]})",
                where=location,
                hint="Check the address and the credentials in the environment (AWS_*, AZURE_*, GOOGLE_*).",
            ) from error
        keys: dict[str, str] = {}
        files = []
        for meta in sorted(metas, key=lambda m: str(m["path"])):
            key = str(meta["path"])
            path = key[len(prefix) :].lstrip("/") if prefix and key != prefix else key.rsplit("/", 1)[-1]
            if path and not _hidden(Path(path)):
                keys[path] = key
                files.append(SourceFile(path, int(meta["size"]), meta["last_modified"]))
        return cls(location, store, cache, tuple(files), keys)

    def read(self, path: str) -> bytes:
        """Return an object's content."""
        import obstore

        return bytes(obstore.get(self.store, self.keys[path]).bytes())

    def local(self, path: str) -> Path:
        """Download the object, unless the same version was downloaded before."""
        import obstore

        file = next(f for f in self.files if f.path == path)
        version = sha256(f"{self.location}|{path}|{file.size}|{file.modified}".encode()).hexdigest()[:20]
        target = self.cache / version / Path(path).name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(target.name + ".part")
            with part.open("wb") as out:
                for chunk in obstore.get(self.store, self.keys[path]).stream(min_chunk_size=8 * 1024 * 1024):
                    out.write(memoryview(chunk))
            part.replace(target)
        return target


def open_store(location: str) -> tuple[Any, str]:
    """Return the object store of a URL, and the key prefix inside it."""
    from obstore.store import from_url

    scheme, rest = location.split("://", 1)
    container, _, prefix = rest.partition("/")
    scheme = {"azure": "az", "s3a": "s3"}.get(scheme.lower(), scheme.lower())
    try:
        return from_url(f"{scheme}://{container}"), prefix.strip("/")
    except Exception as error:
        raise UsageError(
            f"can't open the object store ({str(error).splitlines()[0][:200]})",
            where=location,
            hint="Set the store's environment variables, such as AWS_REGION, AZURE_STORAGE_ACCOUNT_NAME.",
        ) from error


def content_id(paths: Sequence[Path]) -> str:
    """Identify a delivery by what is in its files (SHA-256, 16 hex digits), whatever they are called."""
    digests = []
    for path in paths:
        with path.open("rb") as handle:
            digests.append(file_digest(handle, "sha256").hexdigest())
    return sha256("".join(sorted(digests)).encode()).hexdigest()[:16]


def clear(folder: Path) -> None:
    """Delete a scratch folder of ours."""
    shutil.rmtree(folder, ignore_errors=True)
