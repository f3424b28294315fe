"""`gpuledger burst` on a synthetic ledger whose figures are worked out by hand."""

import csv
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.surfaces.shell import bill, gpuledger

HEADER = (
    "BilledCost,EffectiveCost,BillingAccountId,BillingCurrency,BillingPeriodStart,ChargePeriodStart,ChargePeriodEnd,ServiceName,"
    "ServiceCategory,ChargeCategory,ChargeClass,CommitmentDiscountId,CommitmentDiscountStatus"
)
KEYS = {"workload", "measure", "window", "value", "low", "high", "periods"}
MONDAY = datetime(2026, 10, 5, tzinfo=UTC)
AI, OTHER = "AI and Machine Learning", "Storage"


def charge(
    cost: object, start: datetime, category: str, *, hours: int = 1, kind: str = "Usage", more: str = ",,"
) -> str:
    month = f"{start:%Y-%m}-01T00:00:00Z"
    return f"{cost},{cost},1,USD,{month},{start:%Y-%m-%dT%H:%M:%SZ},{start + timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ},S,{category},{kind},{more}"


def week(start: datetime) -> list[str]:
    """AI costs 1 an hour and 11 on ten of a week's hours (Saturday 00-10); all else 2 by day, 1 by night."""
    rows = []
    for hour in range(168):
        moment = start + timedelta(hours=hour)
        rows.append(charge(11 if 120 <= hour < 130 else 1, moment, AI))
        rows.append(charge(2 if 8 <= moment.hour < 20 else 1, moment, OTHER))
    return rows


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    rows = [
        *week(MONDAY), *week(MONDAY + timedelta(days=7)),
        charge(48, MONDAY, AI, hours=24),  # a day's charge: in days, not in hours
        charge(500, MONDAY, AI, kind="Tax"), charge(900, MONDAY, AI, more="Correction,,"),
        charge(30, MONDAY, AI, more=",c1,Used"), charge(10, MONDAY, AI, more=",c1,Unused"),
        charge(6, MONDAY, OTHER, more=",c2,Used"), charge(2, MONDAY, OTHER, more=",c2,Unused"), charge(4, MONDAY, OTHER, more=",c3,Unused"),
    ]  # fmt: skip
    return ingest(tmp_path, rows)


def ingest(folder: Path, rows: list[str]) -> Path:
    path = folder / "ledger"
    done = gpuledger(
        "--ledger",
        path,
        "ingest",
        "--type",
        "focus",
        bill(folder / "bill" / "b.csv", *rows, header=HEADER),
        "--no-validate",
    )
    assert done.code in {0, 1}, done.err
    return path


def ask(ledger: Path, *words: object) -> Any:  # noqa: ANN401  # JSON
    done = gpuledger("--ledger", ledger, "--format", "json", "burst", *words)
    assert done.code == 0, done.err
    return done.document


def value(document: Any, workload: str, measure: str, window: str, key: str = "value") -> Any:  # noqa: ANN401  # JSON
    (row,) = (
        r
        for r in document["rows"]
        if (r["workload"], r["measure"], r["window"]) == (workload, measure, window)
    )
    return row[key]


def test_levels_by_hand(ledger: Path) -> None:
    document = ask(ledger)
    assert all(set(row) >= KEYS for row in document["rows"])
    # 336 hours of AI: 316 of 1, 20 of 11, and 30 more in the very first (covered by a commitment).
    mean = (316 + 220 + 30) / 336
    assert value(document, "ai", "peak_to_mean", "1 h") == pytest.approx(31 / mean)
    assert value(document, "ai", "p99_to_mean", "1 h") == pytest.approx(11 / mean)
    assert value(document, "ai", "peak_to_mean", "1 h", "periods") == 336
    # All else: 168 of 2, 168 of 1, and 6 more in the first hour.
    other = (336 + 168 + 6) / 336
    assert value(document, "other", "p99_to_mean", "1 h") == pytest.approx(2 / other)
    assert value(document, "ai/other", "burst_index", "1 h") == pytest.approx((11 / mean) / (2 / other))
    # By day: Saturdays cost 24 + 100, the first Monday 24 + 30 + 48.
    assert value(document, "ai", "peak_to_mean", "1 d") == pytest.approx(124 / ((316 + 220 + 30 + 48) / 14))
    # Two weeks with 216 of 336 hours off: the 20 dear hours and the first one are.
    off = (216 - 20) * 1 + 220 + 30
    assert value(document, "ai", "off_hours_lift", "1 h") == pytest.approx(off / 566 / (216 / 336))
    assert value(document, "ai", "peak_to_mean", "1 h", "covered_share") == str(
        (Decimal(566) / 614).quantize(Decimal("0.0001"))
    )
    told = {one["code"]: one["message"] for one in document["diagnostics"]}
    assert (
        told["burst-coarse-charges"]
        == "8% of the money of ai is in charges longer than 1 h: these windows leave it out"
    )


def test_stranded_commitments_by_who_used_them(ledger: Path) -> None:
    document = ask(ledger)
    assert value(document, "ai", "stranded_share", "period") == pytest.approx(10 / 40)
    assert value(document, "other", "stranded_share", "period") == pytest.approx(2 / 8)
    assert value(document, "ai and other", "stranded_share", "period") == 1
    assert value(document, "ai and other", "stranded_share", "period", "periods") == 1


def test_intervals_are_seeded_and_short_windows_have_none(ledger: Path) -> None:
    document = ask(ledger, "--draws", 200, "--seed", 3)
    assert document == ask(ledger, "--draws", 200, "--seed", 3)
    low, high = (value(document, "other", "p99_to_mean", "1 h", key) for key in ("low", "high"))
    assert low <= value(document, "other", "p99_to_mean", "1 h") <= high
    one_day = ask(ledger, "--window", "2026-10-05")
    assert value(one_day, "ai", "cv", "1 h", "low") is None
    assert value(one_day, "ai", "cv", "1 h", "periods") == 24
    assert "burst-too-short" in {told["code"] for told in one_day["diagnostics"]}


def test_working_hours_are_of_their_place(ledger: Path) -> None:
    """At 0-24 only weekends are off; with both Saturdays' ten dear hours in them. A holiday is off too."""
    weekends = ask(ledger, "--hours", "0-24")
    assert value(weekends, "ai", "off_hours_lift", "1 h") == pytest.approx(
        (2 * (48 + 100)) / 566 / (96 / 336)
    )
    monday_off = ask(ledger, "--hours", "0-24", "--holidays", "2026-10-05")
    assert value(monday_off, "ai", "off_hours_lift", "1 h") == pytest.approx(
        (2 * (48 + 100) + 24 + 30) / 566 / (120 / 336)
    )
    tokyo = ask(
        ledger, "--hours", "0-24", "--timezone", "Asia/Tokyo"
    )  # its Saturday begins at 15:00 UTC on Friday
    assert value(tokyo, "ai", "off_hours_lift", "1 h") == pytest.approx((2 * (48 + 100)) / 566 / (96 / 336))
    assert tokyo["totals"]["working_hours"] == "Mon-Fri 00-24 Asia/Tokyo"


def test_months_are_compared_by_the_same_windows(tmp_path: Path) -> None:
    ledger = ingest(tmp_path, [*week(MONDAY), *week(datetime(2026, 11, 2, tzinfo=UTC))])
    document = ask(ledger, "--by-month")
    periods = [row["period"] for row in document["rows"]]
    assert periods == sorted(periods)
    assert set(periods) == {"2026-10", "2026-11"}
    months: list[list[dict[str, Any]]] = [
        [{**row, "period": None} for row in document["rows"] if row["period"] == period]
        for period in ("2026-10", "2026-11")
    ]
    assert months[0] == months[1]
    assert {row["period"] for row in ask(ledger)["rows"]} == {"2026-11"}, "the newest by default"
    assert {row["period"] for row in ask(ledger, "--by-month", "--window", "2026-10")["rows"]} == {"2026-10"}


def test_arrivals_of_jobs(ledger: Path, tmp_path: Path) -> None:
    """A GPU job every hour is as regular as a clock; ten other jobs at once are not. Days without telemetry aren't zeros."""
    records = tmp_path / "records"
    records.mkdir()
    jobs, held = [], []
    for hour in range(48):
        at = MONDAY + timedelta(hours=hour)
        jobs.append(
            (
                f"c/g{hour}",
                "c",
                "Job",
                at.isoformat(),
                at.isoformat(),
                (at + timedelta(minutes=30)).isoformat(),
                "",
            )
        )
        held.append(
            (
                "c",
                "n",
                f"c/g{hour}",
                "gpu",
                1,
                "running",
                at.isoformat(),
                (at + timedelta(minutes=30)).isoformat(),
            )
        )
    for number in range(10):
        at = MONDAY + timedelta(hours=30, seconds=number)
        jobs.append(
            (
                f"c/b{number}",
                "c",
                "Job",
                at.isoformat(),
                at.isoformat(),
                (at + timedelta(minutes=1)).isoformat(),
                "ci",
            )
        )
    jobs.append(("c/x", "c", "Job", MONDAY.isoformat(), "", (MONDAY + timedelta(hours=1)).isoformat(), ""))
    write(
        records / "job.csv",
        "job_id cluster kind submitted started ended workload_type name",
        [(*job, job[0]) for job in jobs],
    )
    write(records / "usage_interval.csv", "cluster node job_id resource requested state start end", held)
    done = gpuledger("--ledger", ledger, "ingest", "--type", "records", records)
    assert done.code == 0, done.err
    document = ask(ledger)
    assert value(document, "ai", "fano", "1 h") == 0
    assert value(document, "ai", "goh_barabasi", "gaps") == -1
    assert value(document, "ai", "goh_barabasi", "gaps", "periods") == 47
    assert value(document, "other", "fano", "1 h", "periods") == 48
    assert value(document, "other", "fano", "1 h") == pytest.approx((100 / 48 - (10 / 48) ** 2) / (10 / 48))
    assert value(document, "other", "goh_barabasi", "gaps") == -1
    assert "1 job(s) neither say" in next(
        one["message"] for one in document["diagnostics"] if one["code"] == "burst-unknown-jobs"
    )


def write(path: Path, header: str, rows: list[tuple[Any, ...]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header.split(), *rows])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--hours", "20-8"), "can't read --hours"),
        (("--timezone", "Atlantis/Capital"), "no time zone"),
        (("--by-month", "--window", "7d"), "needs whole months"),
        (("--holidays", "soon"), "--holidays"),
    ],
)
def test_what_makes_no_sense_is_refused(ledger: Path, words: tuple[str, ...], message: str) -> None:
    done = gpuledger("--ledger", ledger, "burst", *words)
    assert done.code == 2
    assert message in done.err
    assert "Hint:" in done.err


def test_several_currencies_are_refused(tmp_path: Path) -> None:
    ledger = ingest(tmp_path, [charge(1, MONDAY, AI), charge(1, MONDAY, OTHER).replace(",USD,", ",EUR,")])
    done = gpuledger("--ledger", ledger, "burst")
    assert done.code == 2
    assert "EUR, USD" in done.err
