"""What nobody owns, on the example company and on small native bills made by hand (synthetic throughout)."""

import csv
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.sources.aws_bills import line
from tests.surfaces.shell import gpuledger

from gpuledger import demo
from gpuledger.core.windows import parse
from gpuledger.pipeline.costs import Question
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.unattributed import investigate

START = datetime(2026, 10, 10, 2, tzinfo=UTC)  # a Saturday
NOBODY = ("team=", "cost_center=", "owner=", "project=", "job=")


def asked(ledger: Path, *words: object) -> Any:  # noqa: ANN401  # JSON
    done = gpuledger("--ledger", ledger, "--format", "json", "unattributed", *words)
    assert done.code == 0, done.err
    return done.document


def ingested(folder: Path, kind: str, path: Path) -> Path:
    done = gpuledger("--ledger", folder / "ledger", "--format", "json", "ingest", "--type", kind, path)
    assert done.code == 0, done.err
    return folder / "ledger"


def written(path: Path, rows: Iterable[Mapping[str, str]]) -> Path:
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


# --- AWS: hours of machines in a Cost and Usage Report


def machine(
    resource: str, /, hours: int = 1, start: datetime = START, kind: str = "p4d.24xlarge", **tags: str
) -> Iterable[dict[str, str]]:
    """Hours at 10 dollars; tags as `team` or `aws_created_by`."""
    for hour in range(hours):
        begun = start + timedelta(hours=hour)
        cells = {
            "resource_id": resource, "usage_start_date": begun.isoformat(), "usage_type": f"BoxUsage:{kind}",
            "usage_end_date": (begun + timedelta(hours=1)).isoformat(), "unblended_cost": "10", "product_region_code": "us-east-1",
            "product_instance_type": kind, "resource_tags": json.dumps({k if k.startswith("aws_") else f"user_{k}": v for k, v in tags.items()}),
        }  # fmt: skip
        yield line(**cells)


@pytest.fixture
def aws(tmp_path: Path) -> Any:  # noqa: ANN401  # a function
    def made(*machines: Iterable[dict[str, str]], **words: str) -> list[dict[str, Any]]:
        # One owned machine since the first, so that the bill doesn't begin with the incident.
        first = machine("i-0aaaaaaaaaaaaaaa0", 1, datetime(2026, 10, 1, tzinfo=UTC), team="base")
        bill = written(tmp_path / "bill.csv", (row for rows in (first, *machines) for row in rows))
        extra = [part for name, value in words.items() for part in (f"--{name}", value)]
        rows: list[dict[str, Any]] = asked(ingested(tmp_path, "aws-cur2", bill), *extra)["rows"]
        return rows

    return made


def test_machines_that_begin_together_are_one_incident_others_are_not(aws: Any) -> None:  # noqa: ANN401
    rows = aws(
        *(machine(f"i-0000000000000{n:04d}", 3) for n in range(5)),
        machine("i-0bbbbbbbbbbbbbbb1", 3, START + timedelta(hours=5)),  # later
        machine("i-0bbbbbbbbbbbbbbb2", 3, kind="p5.48xlarge"),  # of another type
        machine("i-0bbbbbbbbbbbbbbb3", 3, name="sweep-3"),  # of another name
        machine("i-0bbbbbbbbbbbbbbb4", 3, aws_created_by="IAMUser:AIDA1:someone"),  # another's
    )
    assert [(row["resources"], row["cost"]) for row in rows] == [(5, "150"), *[(1, "30")] * 4]
    first = rows[0]
    assert (first["what"], first["hours"], first["resource_id"]) == (
        "5 × p4d.24xlarge",
        "3",
        "i-00000000000000000",
    )
    assert (first["first_seen"], first["last_seen"]) == ("2026-10-10T02:00:00Z", "2026-10-10T05:00:00Z")
    assert first["account"] == "111122223333"
    assert len({row["incident"] for row in rows}) == 5


def test_by_resource_there_is_a_row_for_each(aws: Any) -> None:  # noqa: ANN401
    rows = aws(*(machine(f"i-0000000000000{n:04d}", n + 1) for n in range(3)), by="resource")
    assert [(row["resource_id"], row["resources"], row["cost"]) for row in rows] == [
        (f"i-0000000000000{n:04d}", 1, str(10 * (n + 1))) for n in (2, 1, 0)
    ]


def test_the_creator_of_owned_resources_is_the_best_sign(aws: Any) -> None:  # noqa: ANN401
    maker = "AssumedRole:ASIA1:marie@example.com"
    (row,) = aws(
        machine("i-0cccccccccccccc01", 11, aws_created_by=maker),
        *(
            machine(f"i-0ddddddddddddd0{n:02d}", 1, START - timedelta(days=n + 1), "g6e.xlarge", team="llm", aws_created_by=maker.replace("ASIA1", f"ASIA{n}"))
            for n in range(7)
        ),
    )  # fmt: skip
    assert (row["candidate_owner"], row["candidate_kind"], row["contact"]) == (
        "llm",
        "team",
        "marie@example.com",
    )
    assert row["evidence"][0]["rule"] == "creator"
    assert row["evidence"][0]["resources"] == 7
    assert 0 < row["confidence"] < 1


def test_a_creator_that_is_an_owner_elsewhere_and_one_that_nobody_knows(aws: Any) -> None:  # noqa: ANN401
    known, stranger = aws(
        machine("i-0cccccccccccccc01", 3, aws_created_by="IAMUser:AIDA1:grace"),
        machine("i-0cccccccccccccc02", 2, aws_created_by="AssumedRole:ASIA2:temp@example.com"),
        machine("i-0ddddddddddddd001", 1, START - timedelta(days=2), "g6e.xlarge", team="rag", owner="grace@example.com"),
    )  # fmt: skip
    assert known["candidate_owner"] == "rag"
    assert "creator_is_owner" in {sign["rule"] for sign in known["evidence"]}
    assert (stranger["candidate_owner"], stranger["candidate_kind"]) == ("temp@example.com", "person")
    assert stranger["confidence_word"] in {"low", "medium"}


def test_a_resource_whose_tags_came_late_is_its_later_owners(aws: Any) -> None:  # noqa: ANN401
    name = "i-0cccccccccccccc01"
    (row,) = aws(machine(name, 2), machine(name, 2, START + timedelta(hours=2), team="vision"))
    assert (row["cost"], row["candidate_owner"], row["confidence_word"]) == ("20", "vision", "high")
    assert row["evidence"][0]["rule"] == "same_resource"


def test_launch_group_name_and_neighbours(aws: Any) -> None:  # noqa: ANN401
    group, named, beside = aws(
        machine("i-0cccccccccccccc01", 4, kind="g6e.xlarge", aws_autoscaling_group_name="asg-9"),
        machine("i-0cccccccccccccc02", 3, START + timedelta(days=1), "g5.xlarge", name="diffusion-run-12"),
        machine("i-0cccccccccccccc03", 2, START + timedelta(days=2), "p5.48xlarge"),
        machine("i-0ddddddddddddd001", 1, START - timedelta(days=1), "m7i.large", team="asg-team", aws_autoscaling_group_name="asg-9"),
        machine("i-0ddddddddddddd002", 1, START - timedelta(days=1), "m7i.large", team="pixels", name="diffusion-run-3"),
        machine("i-0ddddddddddddd003", 1, START + timedelta(days=2), "p5.48xlarge", team="near"),
    )  # fmt: skip
    rules = [{sign["rule"] for sign in row["evidence"]} for row in (group, named, beside)]
    assert group["candidate_owner"] == "asg-team"
    assert "launch_group" in rules[0]
    assert named["candidate_owner"] == "pixels"
    assert {"same_name", "naming"} <= rules[1]
    # Beginning together is a weak sign: it makes a candidate, and alone it may not be enough to name one.
    assert beside["candidates"][0]["owner"] == "near"
    assert "neighbours" in beside["candidates"][0]["rules"]


def test_what_it_runs_as_and_what_it_runs(aws: Any) -> None:  # noqa: ANN401
    clues: dict[str, dict[str, Any]] = {
        "service_account": {"instance_profile": "profile-1"},
        "key_pair": {"key_name": "key-1"},
        "image": {"image_id": "ami-0123456789abcdef0"},
    }
    rows = aws(
        *(
            machine(f"i-0ccccccccccccccc{n}", 4 - n, kind=f"g{n}.xlarge", **tags)
            for n, tags in enumerate(clues.values())
        ),
        *(
            machine(f"i-0dddddddddddddd{n}{m}", 1, START - timedelta(days=1), "m7i.large", team=rule, **tags)
            for n, (rule, tags) in enumerate(clues.items())
            for m in range(3)
        ),
    )
    found = [
        [sign["owner"] for sign in row["candidates"] if rule in sign["rules"]]
        for rule, row in zip(clues, rows, strict=True)
    ]
    assert found == [[rule] for rule in clues]


def test_runs_of_the_same_name_in_earlier_months_count(aws: Any) -> None:  # noqa: ANN401
    september = {
        "bill_billing_period_start_date": "2026-09-01T00:00:00.000Z",
        "bill_billing_period_end_date": "2026-10-01T00:00:00.000Z",
    }
    earlier = machine(
        "i-0ddddddddddddd001", 5, START - timedelta(days=20), team="pixels", name="diffusion-41"
    )
    (row,) = aws(
        machine("i-0cccccccccccccc01", 3, name="diffusion-42"),
        ({**row, **september} for row in earlier),
        window="2026-10",
    )
    assert (row["candidate_owner"], row["cost"]) == ("pixels", "30")
    assert "same_name" in {sign["rule"] for sign in row["evidence"]}


def test_a_shared_provisioner_and_an_empty_account_name_nobody(aws: Any) -> None:  # noqa: ANN401
    ci = "AssumedRole:ASIA1:terraform"
    shared, lonely = aws(
        machine("i-0cccccccccccccc01", 4, aws_created_by=ci),
        ({**row, "line_item_usage_account_id": "999988887777"} for row in machine("i-0cccccccccccccc02", 3, kind="g5.xlarge")),
        *(
            ({**row, "line_item_usage_account_id": "222233334444"} for row in machine(f"i-0ddddddddddddd00{n}", 1, START - timedelta(days=1), "m7i.large", team=f"t{n}", aws_created_by=ci))
            for n in range(4)
        ),
    )  # fmt: skip
    assert {found["confidence"] for found in shared["candidates"] if found["rules"] == ["creator"]} != set()
    assert shared["candidate_owner"] in {None, "base"}, "four teams that share a provisioner are level"
    assert (lonely["candidate_owner"], lonely["confidence"], lonely["evidence"]) == (None, None, [])
    assert lonely["confidence_word"] == "none"
    assert [gate["gate"] for gate in lonely["path"]] == [
        "launch",
        "creator",
        "tags",
        "account_default",
        "cluster",
    ]


def test_what_belongs_to_nobody_by_nature_is_apart(tmp_path: Path) -> None:
    rows = [
        *machine("i-0cccccccccccccc01", 2),
        line("Tax", unblended_cost="3"),
        line("Credit", unblended_cost="-5"),
        line("Fee", unblended_cost="7", line_item_product_code="AWSSupportBusiness", usage_type="Dollar"),
    ]
    ledger = ingested(tmp_path, "aws-cur2", written(tmp_path / "bill.csv", rows))
    document = asked(ledger, "--metric", "billed")
    totals = document["totals"]
    assert (totals["cost"], totals["incidents"], totals["resources"], totals["currency"]) == (
        "20",
        1,
        1,
        "USD",
    )
    assert {one["nature"]: one["cost"] for one in totals["by_nature"]} == {
        "tax": "3",
        "credits": "-5",
        "support": "7",
    }


def test_two_currencies_are_an_error_with_a_hint(tmp_path: Path) -> None:
    rows = [*machine("i-0cccccccccccccc01"), {**line(unblended_cost="1"), "line_item_currency_code": "EUR"}]
    ledger = ingested(tmp_path, "aws-cur2", written(tmp_path / "bill.csv", rows))
    done = gpuledger("--ledger", ledger, "unattributed")
    assert done.code == 2
    assert "Hint: Add --where BillingCurrency=" in done.err
    assert asked(ledger, "--where", "BillingCurrency=USD")["totals"]["cost"] == "10"


def test_an_empty_window_and_a_table_for_people(tmp_path: Path) -> None:
    ledger = ingested(
        tmp_path, "aws-cur2", written(tmp_path / "bill.csv", machine("i-0cccccccccccccc01", team="t"))
    )
    assert asked(ledger)["rows"] == []
    assert asked(ledger, "--window", "2020-01")["totals"]["cost"] == "0"
    done = gpuledger("--ledger", ledger, "--format", "table", "unattributed")
    assert "nothing to show" in done.out


# --- Azure: daily usage with resource groups and a tag that a policy writes


def azure_row(name: str, group: str, cost: str, day: int = 10, **tags: str) -> dict[str, str]:
    return {
        "BillingAccountId": "1234", "BillingProfileId": "1234", "BillingPeriodStartDate": "10/01/2026",
        "BillingPeriodEndDate": "10/31/2026", "Date": f"10/{day:02d}/2026", "SubscriptionId": "sub-1", "SubscriptionName": "Research",
        "ResourceGroup": group, "ResourceId": f"/subscriptions/sub-1/resourceGroups/{group}/providers/Microsoft.Compute/virtualMachines/{name}",
        "ResourceName": name, "MeterCategory": "Virtual Machines", "MeterId": "m-1", "MeterName": "ND96isr H100 v5", "Quantity": "24",
        "UnitOfMeasure": "1 Hour", "CostInBillingCurrency": cost, "BillingCurrencyCode": "USD", "ChargeType": "Usage",
        "ConsumedService": "Microsoft.Compute", "PricingModel": "OnDemand", "ResourceLocation": "eastus",
        "AdditionalInfo": '{"ServiceType":"Standard_ND96isr_H100_v5"}', "Tags": json.dumps(tags)[1:-1],
    }  # fmt: skip


def test_azure_resource_group_and_created_by(tmp_path: Path) -> None:
    rows = [
        azure_row("old", "rg-base", "1", 1, team="base"),
        azure_row("h100-a", "rg-speech", "500", createdBy="lin@example.com"),
        azure_row("asr-1", "rg-speech", "90", 9, team="speech", createdBy="lin@example.com"),
        azure_row("asr-2", "rg-speech", "90", 9, team="speech", createdBy="other@example.com"),
    ]
    (row,) = asked(ingested(tmp_path, "azure", written(tmp_path / "usage.csv", rows)))["rows"]
    assert (row["candidate_owner"], row["contact"], row["cost"]) == ("speech", "lin@example.com", "500")
    assert {"creator", "resource_group"} <= {sign["rule"] for sign in row["evidence"]}
    assert {gate["gate"]: gate["detail"] for gate in row["path"]}[
        "launch"
    ] == "it began on Saturday 2026-10-10"


# --- Google Cloud: labels, among them those that GKE writes


def gcp_row(name: str, cost: float, hour: int = 2, day: int = 10, **labels: str) -> dict[str, Any]:
    start = datetime(2026, 10, day, hour, tzinfo=UTC)
    form = "%Y-%m-%d %H:%M:%S UTC"
    return {
        "billing_account_id": "01SYNT-HETIC0-BILL01", "service": {"id": "6F81-5844-456A", "description": "Compute Engine"},
        "sku": {"id": "A3", "description": "A3 Instance Core running in Americas"}, "usage_start_time": start.strftime(form),
        "usage_end_time": (start + timedelta(hours=1)).strftime(form), "project": {"id": "ml", "name": "ML"},
        "labels": [{"key": key.replace("_", "-"), "value": value} for key, value in labels.items()],
        "location": {"location": "us-central1", "region": "us-central1"}, "cost": cost, "currency": "USD", "credits": [],
        "usage": {"amount": 3600, "unit": "seconds", "amount_in_pricing_units": 1, "pricing_unit": "hour"}, "invoice": {"month": "202610"},
        "cost_type": "regular", "resource": {"name": name, "global_name": f"//compute.googleapis.com/projects/ml/zones/us-central1-a/instances/{name}"},
        "export_time": "2026-11-01 00:00:00 UTC",
    }  # fmt: skip


def test_google_namespace_and_creator_labels(tmp_path: Path) -> None:
    rows = [
        gcp_row("base", 1, 0, 1, team="base"),
        gcp_row("gke-a3-9f", 300, k8s_namespace="nlp-train", goog_k8s_cluster_name="c1"),
        gcp_row("gke-e2-1a", 5, 3, 5, team="nlp", k8s_namespace="nlp-train", goog_k8s_cluster_name="c1"),
        gcp_row("gke-e2-1b", 5, 3, 5, team="other", k8s_namespace="nlp-train", goog_k8s_cluster_name="c2"),
        gcp_row("trial", 200, 5, created_by="ana_at_example_com"),
        gcp_row("corpus", 5, 3, 5, team="data", owner="ana_at_example_com"),
    ]
    path = tmp_path / "bill.json"
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    namespace, creator = asked(ingested(tmp_path, "gcp", path))["rows"]
    sign = next(sign for sign in namespace["evidence"] if sign["rule"] == "namespace")
    assert namespace["candidate_owner"] == "nlp"
    assert (sign["value"], sign["share"]) == ("nlp-train", 1.0), (
        "the same namespace of another cluster is another one"
    )
    assert (creator["candidate_owner"], creator["contact"]) == ("data", "ana@example.com")


# --- the example company


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The example's AWS and Google bills in a ledger, and its truth."""
    folder = tmp_path_factory.mktemp("company")
    manifest = demo.write(folder / "bills")
    for kind, name in (("aws-cur2", "aws"), ("gcp", "gcp")):
        ingested(folder, kind, folder / "bills" / name)
    return folder / "ledger", json.loads(manifest.truth.read_text("utf-8"))


def test_the_weekend_run_comes_first_with_its_owner(company: tuple[Path, dict[str, Any]]) -> None:
    ledger, truth = company
    told = truth["incidents"]["weekend_run"]
    row = asked(ledger)["rows"][0]
    assert (row["resources"], row["hours"], row["gpu_model"]) == (
        int(told["instances"]),
        told["hours"],
        "A100",
    )
    assert (row["gpu_hours"], Decimal(row["cost"])) == (told["gpu_hours"], Decimal(told["injected_cost"]))
    assert (row["account"], row["first_seen"]) == (told["account"], "2026-10-10T02:00:00Z")
    assert (row["candidate_owner"], row["contact"]) == (told["true_owner"], told["true_contact"])
    assert row["confidence_word"] in {"medium", "high"}
    assert row["confidence"] < 0.95
    assert row["evidence"][0]["rule"] == "creator"
    assert {sign["rule"] for sign in row["against"]} == {"account", "account_named_after"}
    assert {gate["gate"] for gate in row["path"]} == {
        *("launch", "creator", "tags", "tag_policy", "account_default", "cluster"),
    }


def test_clues_that_mislead_or_are_missing_are_not_passed_off_as_knowledge(
    company: tuple[Path, dict[str, Any]],
) -> None:
    ledger, truth = company
    rows = asked(ledger, "--limit", "50")["rows"]
    found = {(row["account"], row["instance_type"] or "volume"): row for row in reversed(rows)}
    trainer, scratch, trial = truth["notes"]["unowned"]
    right = found[trainer["account"], "p4d.24xlarge"] if trainer["instances"] > 1 else next(
        row for row in rows if row["account"] == trainer["account"] and row["what"] == trainer["kind"]
    )  # fmt: skip
    assert (right["candidate_owner"], right["confidence_word"]) == (trainer["true_owner"], "high")
    wrong = next(row for row in rows if row["what"] == f"{scratch['instances']} × {scratch['kind']}")
    assert wrong["candidate_owner"] != scratch["true_owner"]
    assert wrong["confidence_word"] == "low"
    missing = next(row for row in rows if row["account"] == trial["account"] and row["instance_type"])
    assert (missing["candidate_owner"], missing["confidence"]) == (None, None)


def test_nothing_is_lost_and_the_limit_only_hides(company: tuple[Path, dict[str, Any]]) -> None:
    ledger, _ = company
    whole = gpuledger(
        "--ledger", ledger, "--format", "json", "costs", "--window", "2026-10", *(word for one in NOBODY for word in ("--where", one))
    ).document["totals"]["cost"]  # fmt: skip
    for by in ("incident", "resource"):
        totals = asked(ledger, "--by", by, "--limit", "1")["totals"]
        apart = sum(Decimal(one["cost"]) for one in totals["by_nature"])
        assert Decimal(totals["cost"]) + apart == Decimal(whole)
    everything = asked(ledger, "--by", "resource", "--limit", "100000")
    assert sum(Decimal(row["cost"]) for row in everything["rows"]) == Decimal(everything["totals"]["cost"])
    assert sum(row["resources"] for row in everything["rows"]) == everything["totals"]["resources"]


def test_the_same_question_has_the_same_answer_for_reports(company: tuple[Path, dict[str, Any]]) -> None:
    ledger, _ = company
    con = Ledger(str(ledger)).connect()
    window = parse("2026-10", datetime(2026, 11, 20, tzinfo=UTC))
    question = Question(metric="effective", window=window)
    first, again = (investigate(con, question, limit=3).rows for _ in range(2))
    assert first == again
    assert [row["incident"] for row in first] == [row["incident"] for row in asked(ledger)["rows"][:3]]
    assert first[0]["cost"] == Decimal("72099.72")


def test_a_person_reads_the_evidence(company: tuple[Path, dict[str, Any]]) -> None:
    done = gpuledger("--ledger", company[0], "--format", "table", "unattributed", "--limit", "3")
    assert done.code == 0, done.err
    assert "llm-pretraining, ask marie@example.com: medium (0.52)" in done.out
    assert "began on Saturday 2026-10-10 02:00 UTC" in done.out
    assert "unused commitments" in done.out
