"""Kubernetes and Prometheus tell of the same pods: each claim once, request from one, use from the other."""

from decimal import Decimal
from typing import Any

import pytest

from gpuledger.core.usage_tables import USAGE_INTERVAL
from gpuledger.engines import duckdb
from gpuledger.focus.schema import create_columns
from gpuledger.models.usage import job_aliases, usage_current

KUBE, PROM = "kubernetes-1", "prometheus-1"
POD = {
    "cluster": "c",
    "node": "n",
    "pod": "p",
    "pod_uid": "u",
    "namespace": "ns",
    "attempt": 1,
    "state": "running",
}


@pytest.fixture
def con() -> duckdb.Connection:
    con = duckdb.connect()
    con.execute(f"CREATE TABLE usage_interval ({create_columns(USAGE_INTERVAL)})")
    return con


def told(
    con: duckdb.Connection, delivery: str, job: str, resource: str, hours: tuple[int, int], **more: object
) -> None:
    row = {**POD, "job_id": job, "resource": resource, "x_DeliveryId": delivery, **more}
    row |= {"start": f"2026-11-01T{hours[0]:02}:00Z", "end": f"2026-11-01T{hours[1]:02}:00Z"}
    names = ", ".join(f'"{name}"' for name in row)
    con.execute(
        f"INSERT INTO usage_interval ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values())
    )


def current(con: duckdb.Connection, columns: str) -> list[tuple[Any, ...]]:
    return con.execute(f"SELECT {columns} FROM ({usage_current(con)}) ORDER BY ALL").fetchall()


HOURS = 'hour("start"), hour("end")'


def test_one_source_is_left_alone(con: duckdb.Connection) -> None:
    told(con, PROM, "c/ns/Job/a", "cpu", (1, 2), requested=Decimal(1))
    assert usage_current(con) == "SELECT * FROM usage_interval"
    assert current(con, "job_id, requested") == [("c/ns/Job/a", Decimal(1))]


def test_request_and_use_of_cpu_meet_in_one_claim(con: duckdb.Connection) -> None:
    told(con, KUBE, "c/uid-a", "cpu", (1, 4), requested=Decimal(4), attempt=2)
    for container, used in (("main", 1), ("sidecar", 2)):
        told(
            con,
            PROM,
            "c/ns/Job/a",
            "cpu",
            (1, 4),
            container=container,
            requested=Decimal(2),
            used=Decimal(used),
        )
    rows = current(con, f"job_id, container, attempt, requested, used, {HOURS}")
    assert rows == [
        ("c/uid-a", None, 2, Decimal(4), None, 1, 4),
        ("c/uid-a", None, 2, None, Decimal(1), 1, 4),
        ("c/uid-a", None, 2, None, Decimal(2), 1, 4),
    ]


def test_devices_of_the_monitor_stand_beside_the_request(con: duckdb.Connection) -> None:
    told(con, KUBE, "c/uid-a", "gpu", (1, 4), container="main", requested=Decimal(2))
    card = {"container": "main", "requested": Decimal(1), "share_numerator": 1, "share_denominator": 1}
    told(con, PROM, "c/ns/Job/a", "gpu", (2, 5), device="GPU-1", used=Decimal("0.5"), **card)
    told(
        con, PROM, "c/ns/Job/a", "gpu", (2, 5), container="main", requested=Decimal(1)
    )  # a card nobody shows
    rows = current(con, f"job_id, device, requested, used, {HOURS}")
    assert rows == [
        ("c/uid-a", "GPU-1", Decimal(1), Decimal("0.5"), 4, 5),  # the scheduler doesn't know this hour
        ("c/uid-a", "GPU-1", None, Decimal("0.5"), 2, 4),
        ("c/uid-a", None, Decimal(1), None, 4, 5),
        ("c/uid-a", None, Decimal(2), None, 1, 4),
    ]


def test_devices_that_the_scheduler_names_are_the_claim(con: duckdb.Connection) -> None:
    told(
        con,
        KUBE,
        "c/uid-a",
        "gpu",
        (1, 4),
        device="GPU-1",
        requested=Decimal("0.25"),
        share_numerator=1,
        share_denominator=4,
    )
    told(con, PROM, "c/ns/Job/a", "gpu", (1, 4), device="GPU-1", requested=Decimal(1))
    assert current(con, "job_id, device, requested") == [("c/uid-a", "GPU-1", Decimal("0.25"))]


def test_state_changes_cut_the_monitors_rows(con: duckdb.Connection) -> None:
    told(con, KUBE, "c/uid-a", "memory", (1, 2), requested=Decimal(8), state="held")
    told(con, KUBE, "c/uid-a", "memory", (2, 3), requested=Decimal(8))
    told(con, PROM, "c/ns/Job/a", "memory", (1, 3), container="main", used=Decimal(3))
    rows = current(con, f"state, requested, used, {HOURS}")
    assert rows == [
        ("held", Decimal(8), None, 1, 2),
        ("held", None, Decimal(3), 1, 2),
        ("running", Decimal(8), None, 2, 3),
        ("running", None, Decimal(3), 2, 3),
    ]


def test_pods_that_only_the_monitor_saw_join_the_schedulers_job(con: duckdb.Connection) -> None:
    told(con, KUBE, "c/uid-a", "cpu", (1, 2), requested=Decimal(1))
    told(con, PROM, "c/ns/Job/a", "cpu", (1, 2), used=Decimal(1))
    told(con, PROM, "c/ns/Job/a", "cpu", (1, 2), pod_uid="gone", requested=Decimal(7))
    told(con, PROM, "c/ns/Job/other", "cpu", (1, 2), pod_uid="else", requested=Decimal(9))
    rows = current(con, "job_id, pod_uid, requested")
    assert ("c/uid-a", "gone", Decimal(7)) in rows
    assert ("c/ns/Job/other", "else", Decimal(9)) in rows
    assert con.execute(job_aliases()).fetchall() == [("c/ns/Job/a", "c/uid-a")]


def test_a_name_that_came_again_is_not_taken_for_either(con: duckdb.Connection) -> None:
    for uid, pod in (("uid-1", "u1"), ("uid-2", "u2")):
        told(con, KUBE, f"c/{uid}", "cpu", (1, 2), pod_uid=pod, requested=Decimal(1))
        told(con, PROM, "c/ns/RayCluster/ray", "cpu", (1, 2), pod_uid=pod, used=Decimal(1))
    assert con.execute(job_aliases()).fetchall() == []
    assert {row[0] for row in current(con, "job_id")} == {"c/uid-1", "c/uid-2"}


def test_slurm_and_other_clusters_are_left_alone(con: duckdb.Connection) -> None:
    told(con, KUBE, "c/uid-a", "cpu", (1, 2), requested=Decimal(1))
    told(con, PROM, "c/ns/Job/a", "cpu", (1, 2), used=Decimal(1))
    told(con, "slurm-1", "s/slurm/7@1", "cpu", (1, 2), cluster="s", pod_uid=None, requested=Decimal(3))
    told(con, PROM, "d/ns/Job/a", "cpu", (1, 2), cluster="d", requested=Decimal(5))
    rows = current(con, "cluster, job_id, requested")
    assert ("s", "s/slurm/7@1", Decimal(3)) in rows
    assert ("d", "d/ns/Job/a", Decimal(5)) in rows


def test_jobs_that_kubernetes_itself_knows_by_name_are_the_schedulers(con: duckdb.Connection) -> None:
    told(con, KUBE, "c/ns/RayJob/a", "cpu", (1, 2), requested=Decimal(4))
    told(
        con,
        PROM,
        "c/ns/RayCluster/a-x",
        "cpu",
        (1, 2),
        container="main",
        requested=Decimal(2),
        used=Decimal(1),
    )
    rows = current(con, "job_id, requested, used")
    assert rows == [("c/ns/RayJob/a", Decimal(4), None), ("c/ns/RayJob/a", None, Decimal(1))]


def test_files_of_records_are_told_apart_by_their_jobs(con: duckdb.Connection) -> None:
    told(con, "0a1b2c", "c/uid-a", "cpu", (1, 2), requested=Decimal(4))
    told(con, "0a1b2c", "c/ns/Job/a", "cpu", (1, 2), container="main", requested=Decimal(2), used=Decimal(1))
    assert current(con, "job_id, requested, used") == [
        ("c/uid-a", Decimal(4), None),
        ("c/uid-a", None, Decimal(1)),
    ]
