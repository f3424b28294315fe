"""A fake of google-cloud-bigquery: the part of its documented API that the poller uses, over tables held in memory.

Not BigQuery: it understands the three queries that the poller makes, and applies their parameters. That the names and
arguments are those of the real library is tested where that is installed.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from types import ModuleType
from typing import Any

import pytest


class GoogleAPIError(Exception):
    """google.api_core.exceptions.GoogleAPIError."""


class GoogleAuthError(Exception):
    """google.auth.exceptions.GoogleAuthError."""


class ScalarQueryParameter:
    """google.cloud.bigquery.ScalarQueryParameter."""

    def __init__(self, name: str, type_: str, value: object) -> None:
        self.name, self.type_, self.value = name, type_, value


class ArrayQueryParameter:
    """google.cloud.bigquery.ArrayQueryParameter."""

    def __init__(self, name: str, array_type: str, values: list[object]) -> None:
        self.name, self.array_type, self.values = name, array_type, values


class QueryJobConfig:
    """google.cloud.bigquery.QueryJobConfig: properties by keyword."""

    KNOWN = ("query_parameters", "maximum_bytes_billed", "labels")

    def __init__(self, **properties: object) -> None:
        assert set(properties) <= set(self.KNOWN)
        self.properties: dict[str, Any] = properties


@dataclass
class QueryJob:
    """google.cloud.bigquery.QueryJob: errors come when the result is asked for."""

    rows: Iterable[dict[str, Any]]
    error: Exception | None = None

    def result(self) -> Iterator[dict[str, Any]]:
        if self.error:
            raise self.error
        return iter(self.rows)


@dataclass
class FakeBigQuery:
    """Tables by name, and what was asked. `breaks` are queries, by number from 1, that break after so many rows."""

    tables: dict[str, list[dict[str, Any]]]
    breaks: dict[int, int] = field(default_factory=dict)
    refuses: Exception | None = None
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    clients: list[dict[str, Any]] = field(default_factory=list)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put the fake in the place of the library."""
        library = ModuleType("google.cloud.bigquery")
        for name, thing in {
            "Client": self._client,
            "QueryJobConfig": QueryJobConfig,
            "ScalarQueryParameter": ScalarQueryParameter,
            "ArrayQueryParameter": ArrayQueryParameter,
        }.items():
            setattr(library, name, thing)
        api, auth = ModuleType("google.api_core.exceptions"), ModuleType("google.auth.exceptions")
        api.GoogleAPIError = GoogleAPIError  # type: ignore[attr-defined]
        auth.GoogleAuthError = GoogleAuthError  # type: ignore[attr-defined]
        for module in (library, api, auth):
            monkeypatch.setitem(sys.modules, module.__name__, module)

    def _client(self, *, project: str | None = None, location: str | None = None) -> "FakeBigQuery":
        if isinstance(self.refuses, GoogleAuthError):
            raise self.refuses
        self.clients.append({"project": project, "location": location})
        return self

    def query(self, query: str, job_config: QueryJobConfig) -> QueryJob:
        """google.cloud.bigquery.Client.query."""
        given = job_config.properties
        values = {
            p.name: p.values if isinstance(p, ArrayQueryParameter) else p.value
            for p in given["query_parameters"]
        }
        self.asked.append((query, values))
        name = re.search(r"FROM `([^`]+)` AS t", query)
        assert name is not None
        rows = [row for row in self.tables[name[1]] if self._wanted(row, query, values)]
        return QueryJob(self._broken(self._answer(query, rows), len(self.asked)), self.refuses)

    def _wanted(self, row: dict[str, Any], query: str, values: dict[str, Any]) -> bool:
        if "@months" in query and row["invoice"]["month"] not in values["months"]:
            return False
        if "@since" not in query:
            return True
        column = re.search(r"(\w+) >= @since", query)
        assert column is not None
        assert column[1] == "export_time"
        return bool(datetime.fromisoformat(row["export_time"].replace(" UTC", "+00:00")) >= values["since"])

    def _answer(self, query: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if "GROUP BY month" in query:
            months = sorted({row["invoice"]["month"] for row in rows})
            times = {m: [row["export_time"] for row in rows if row["invoice"]["month"] == m] for m in months}
            return [{"month": m, "number": len(times[m]), "newest": max(times[m])} for m in months]
        assert "TO_JSON_STRING(t) AS line" in query
        lines = [json.dumps(row) for row in rows]
        return [{"line": line} for line in (dict.fromkeys(lines) if "DISTINCT" in query else lines)]

    def _broken(self, rows: list[dict[str, Any]], number: int) -> Iterator[dict[str, Any]]:
        for place, row in enumerate(rows):
            if self.breaks.get(number) == place:
                raise GoogleAPIError(
                    "503 Error encountered during execution. Retrying may solve the problem."
                )
            yield row
