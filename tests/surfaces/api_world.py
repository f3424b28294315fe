"""A small synthetic ledger behind the API: two clusters with the same namespace, a bill in parts, and an API's bill.

East, node n1 (i-1): eight cards for 40 dollars an hour: until 20:00 job `train` holds four cards, uses them fully, and
ten cores; job `serve` holds two cards for twelve hours and uses half. n1 is billed until midnight, and no cluster knows
it after 20:00. Node n2 (i-3) is known for half of the hour that it is billed for. West, node w1 (i-2): job `train` of
the same namespace holds all eight cards for two hours at 10 dollars. Node n9 has no charge. East's `train` claims the
volume vol-1 all day.
"""

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from tests.pipeline.allocation_world import World, charge, hour, job, node, owned, pod

from gpuledger.surfaces.api.app import Settings, create_app

DAY = "2026-10-05T00:00:00Z,2026-10-06T00:00:00Z"
NOW = datetime(2026, 10, 6, 6, 30, tzinfo=UTC)
# What the clusters cost that day: 20 hours of i-1, two of i-2, one of i-3, the volume.
CLUSTERS = Decimal(40) * 20 + Decimal(20) + Decimal(8) + Decimal("2.4")
# One bill of a vendor that sells tokens, and storage outside of the clusters.
OUTSIDE = (
    ("7.25", "Anthropic", "AI and Machine Learning", "Claude API", "claude-1"),
    ("3.125", "AWS", "Storage", "AmazonS3", "bucket"),
)


def world(folder: Path) -> World:
    """Build the ledger in a folder."""
    made = World(folder, gpu=4, cpu="0.05", memory="0.003")
    machines = [charge("40", "i-1", (n, n + 1)) for n in range(24)]
    made.bill(*machines, *[charge("10", "i-2", (n, n + 1)) for n in range(2)], charge("8", "i-3"),
        charge("2.4", "vol-1", (0, 24), ServiceCategory="Storage", ServiceName="Disks"))  # fmt: skip
    _outside(made, folder)
    labels = {"app.kubernetes.io/name": "trainer", "tier": "gold"}
    made.telemetry(
        node("n1", "i-1", (0, 20)),
        node("n2", "i-3", (0, 0.5)),
        node("w1", "i-2", (0, 2), cluster="west"),
        node("n9", "i-9", (0, 24), spot=True),
        job("train", dimensions=owned(team="vision"), labels=labels),
        job("serve", kind="Deployment", namespace="web", labels={"tier": "silver"}),
        job("train", cluster="west", kind="RayJob"),
        pod("train", (0, 20), "4", used=Decimal(4)),
        pod("train", (0, 20), "10", resource="cpu", used=Decimal(5)),
        pod("train", (0, 20), "100", resource="memory"),
        pod("train", (0, 24), "100", resource="storage", device="vol-1", used=Decimal(40)),
        pod("serve", (0, 12), "2", used=Decimal(1), namespace="web"),
        pod("train", (0, 2), "8", cluster="west", node="w1", job_id="west/train", used=Decimal(8)),
    )
    made.build()
    return made


def _outside(made: World, folder: Path) -> None:
    path = folder / "outside.csv"
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        names = ("BilledCost", "ServiceProviderName", "ServiceCategory", "ServiceName", "ResourceId")
        shared = {
            "BillingAccountId": "2", "BillingCurrency": "USD", "BillingPeriodStart": "2026-10-01T00:00:00Z",
            "ChargePeriodStart": hour(5).isoformat(), "ChargePeriodEnd": hour(6).isoformat(), "ChargeCategory": "Usage",
        }  # fmt: skip
        writer.writerow([*names, "EffectiveCost", "ListCost", *shared])
        for row in OUTSIDE:
            writer.writerow([*row, row[0], row[0], *shared.values()])
    made.ledger.ingest("focus", str(path), source="outside")


@contextmanager
def client(made: World, settings: Settings | None = None) -> Iterator[TestClient]:
    """Give a client of the application over a world, at the moment NOW."""
    with TestClient(create_app(made.ledger, settings, lambda: NOW), raise_server_exceptions=False) as found:
        yield found


def ask(http: TestClient, path: str, **parameters: object) -> Any:  # noqa: ANN401  # JSON
    """Return the `data` of an answer that succeeds."""
    return _body(http, path, 200, parameters)["data"]


def refused(http: TestClient, path: str, **parameters: object) -> Any:  # noqa: ANN401  # JSON
    """Return the whole answer to a request that is refused for its parameters."""
    return _body(http, path, 400, parameters)


def _body(http: TestClient, path: str, code: int, parameters: Mapping[str, object]) -> Any:  # noqa: ANN401  # JSON
    answer = http.get(path, params={name: str(value) for name, value in parameters.items()})
    body = answer.json()
    assert (answer.status_code, body["code"]) == (code, code), body
    return body


def exact(items: dict[str, Any]) -> Decimal:
    """Add up the exact costs of a set."""
    return sum((Decimal(item["gpuledger"]["totalCost"] or 0) for item in items.values()), Decimal(0))
