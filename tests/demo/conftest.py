"""The example company, written once for all tests, and readers that share no code with its writers."""

import csv
import gzip
import io
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gpuledger import demo


def text(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text(path))))


def exact(content: str) -> Any:  # noqa: ANN401  # it is JSON
    return json.loads(content, parse_float=Decimal)


def lines(path: Path) -> Iterator[Any]:
    return (exact(line) for line in text(path).splitlines())


class Company:
    """A written example with its truth."""

    def __init__(self, manifest: demo.Manifest) -> None:
        self.manifest = manifest
        self.root = manifest.root
        self.truth = exact(manifest.truth.read_text("utf-8"))

    def aws(self) -> dict[str, list[Path]]:
        """Data files of the AWS manifests, by the time that the manifest states."""
        found = {}
        for path in sorted((self.root / "aws").rglob("*-Manifest.json")):
            content = json.loads(path.read_text("utf-8"))
            keys = [key.removeprefix("s3://example-synthetic-billing/") for key in content["dataFiles"]]
            found[content["createdAt"]] = [self.root / key for key in keys]
        return dict(sorted(found.items()))

    def aws_rows(self) -> list[dict[str, str]]:
        """Line items of the newest delivery."""
        newest = list(self.aws().values())[-1]
        return [row for path in newest for row in table(path)]

    def azure_rows(self, export: str) -> list[dict[str, str]]:
        return [row for path in (self.root / "azure" / export).rglob("*.csv.gz") for row in table(path)]

    def gcp_rows(self) -> list[Any]:
        return [row for path in sorted((self.root / "gcp").rglob("*.json.gz")) for row in lines(path)]

    def neocloud_rows(self) -> list[dict[str, str]]:
        return table(next((self.root / "neocloud").glob("*.csv")))

    def results(self, folder: str) -> list[tuple[Any, Any]]:
        """Buckets and results of an API's pages."""
        pages = [exact(path.read_text("utf-8")) for path in sorted((self.root / folder).glob("page-*.json"))]
        return [(bucket, result) for page in pages for bucket in page["data"] for result in bucket["results"]]


@pytest.fixture(scope="session")
def company(tmp_path_factory: pytest.TempPathFactory) -> Company:
    return Company(demo.write(tmp_path_factory.mktemp("demo") / "example"))
