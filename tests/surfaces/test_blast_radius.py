"""`gpuledger blast-radius`: the contract, every figure of its page, origins of inputs, and errors that help."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from tests.surfaces.shell import bill, gpuledger

PAGE = (Path(__file__).parents[2] / "docs" / "blast-radius.md").read_text("utf-8")
WEEKEND = "name=weekend,instances=200,gpus_per_instance=8,usd_per_instance_hour=32.4,max_hours=11"


def answer(*words: object) -> dict[str, Any]:
    done = gpuledger("--format", "json", "blast-radius", *words)
    assert done.code == 0, done.err
    found: dict[str, Any] = done.document
    return found


def money(text: str) -> str:
    return f"${float(text):,.2f}"


def test_the_contract() -> None:
    found = answer(
        "--pool", "name=weekend,gpus=1600,usd_per_gpu_hour=4.05,max_hours=11", "--detect", "24h", "--respond", "0h"
    )  # fmt: skip
    assert found["rows"] == [
        {
            "pool": "weekend", "kind": "gpu", "gpus": 1600, "hours": "11", "usd_per_hour": "6480", "loss_p50": "71280",
            "loss_p90": "71280", "loss_p99": "71280", "worst_case": "71280",
        }
    ]  # fmt: skip
    totals = found["totals"]
    assert {totals[f"same_mistake_{rank}"] for rank in ("p50", "p90", "p99")} == {"71280"}
    assert (totals["seed"], totals["samples"]) == (1, 10_000)
    assert totals["guardrails"][0] == {
        "name": "alert within 15 min", "removes_usd": "69660", "removes_p50_usd": "69660", "leaves_p99_usd": "1620",
    }  # fmt: skip


def test_the_example_of_the_docs() -> None:
    examples = re.findall(r"```console\n\$ gpuledger (.*?)\n```\n\n```text\n(.*?)```", PAGE, re.DOTALL)
    assert examples
    for words, shown in examples:
        done = gpuledger(*shlex.split(words))
        assert done.code == 0, done.err
        printed = [" ".join(line.split()) for line in done.out.splitlines()]
        assert [line for line in shown.splitlines() if " ".join(line.split()) not in printed] == []


def test_what_would_have_to_be_true_for_the_quoted_figure() -> None:
    rows = re.findall(r"\| `(instances=.*?)` \| (\$.*?) \|", PAGE)
    rows += re.findall(r"the weekend cost `(.*?)`: (\$[\d,.]+\d)\.", PAGE)
    assert len(rows) == 4
    for pool, loss in rows:
        assert money(answer("--pool", f"name=w,{pool}")["totals"]["same_mistake_p99"]) == loss


def test_how_soon_it_is_stopped_in_the_docs() -> None:
    rows = re.findall(r"\| `(\w+)` \| `(\w+)` \| (\$.*?) \|", PAGE)
    assert len(rows) == 4
    for detect, respond, loss in rows:
        found = answer("--pool", WEEKEND, "--detect", detect, "--respond", respond)
        assert money(found["totals"]["same_mistake_p99"]) == loss


def test_the_file_of_the_docs(tmp_path: Path) -> None:
    text = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert text
    path = tmp_path / "weekend.toml"
    path.write_text(text[1], "utf-8")
    found = answer("--file", path, "--respond", "10m")
    assert [row["pool"] for row in found["rows"]] == ["training", "agents"]
    assert [rail["name"] for rail in found["totals"]["guardrails"]] == ["page within 5 min"]
    origins = {(row["pool"], row["key"]): row["origin"] for row in found["totals"]["inputs"]}
    assert origins["training", "detect"] == f"file {path}"
    assert origins["training", "respond"] == "typed"
    assert origins["training", "look"] == "calendar weekend: Friday 20:00 to Monday 08:00"
    assert re.fullmatch(
        r"price file aws.csv, list price of us-east-1 as of \d{4}-\d\d-\d\d \(.*\)",
        origins["training", "price"],
    )


def test_an_instance_type_has_its_dated_price_and_its_cards() -> None:
    found = answer("--pool", "name=w,instance_type=p4d.24xlarge,instances=200,region=us-east-1,max_hours=11")
    inputs = {row["key"]: row["value"] for row in found["totals"]["inputs"]}
    assert (inputs["gpus"], inputs["gpus_per_instance"], inputs["price"]) == ("1600", "8", "21.957642")
    assert found["totals"]["same_mistake_p99"] == "48306.8124"


def test_the_same_seed_gives_the_same_answer_and_another_does_not() -> None:
    words = (
        "--pool",
        "name=w,gpus=8..64,usd_per_gpu_hour=4",
        "--detect",
        "lognormal(20m,3h)",
        "--samples",
        "500",
    )
    assert answer(*words, "--seed", "4") == answer(*words, "--seed", "4")
    assert answer(*words, "--seed", "4")["rows"] != answer(*words, "--seed", "5")["rows"]


def test_pools_of_the_ledger_have_their_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    header = (
        "BilledCost,EffectiveCost,ListCost,BillingAccountId,BillingCurrency,BillingPeriodStart,ChargePeriodStart,ChargePeriodEnd,"
        "ChargeCategory,PricingCategory,PricingUnit,PricingQuantity,ConsumedUnit,ConsumedQuantity,ServiceName,ServiceProviderName,RegionId,SkuPriceDetails"
    )
    # Synthetic: two p4d.24xlarge for one hour, list price 32 each.
    row = '60,60,64,1,USD,2026-10-01T00:00:00Z,2026-10-03T05:00:00Z,2026-10-03T06:00:00Z,Usage,Standard,Hours,2,Hours,2,EC2,AWS,us-east-1,"{""InstanceType"": ""p4d.24xlarge""}"'
    done = gpuledger(
        "ingest", "--type", "focus", bill(tmp_path / "bill.csv", row, header=header), "--no-validate"
    )
    assert done.code in {0, 1}, done.err
    found = answer("--from-ledger", "--calendar", "night")
    assert [(row["pool"], row["gpus"], row["loss_p99"]) for row in found["rows"]] == [
        ("AWS A100 us-east-1", 16, "768")
    ]
    origins = {row["key"]: row["origin"] for row in found["totals"]["inputs"]}
    assert origins["gpus"].endswith("most at once on the bills, 2026-10-03 05:00 UTC")
    assert origins["price"].endswith("list price on demand of 2026-10-03")
    assert [told["code"] for told in found["diagnostics"]] == ["blast-radius-quota-unknown"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "no pool given"),
        ("--pool name=w", "pool w, gpus: give gpus"),
        ("--pool name=w,gpus=4", "pool w, usd_per_gpu_hour: no price"),
        ("--pool name=w,gpus=4,usd_per_gpu_hour=2", "pool w, max_hours: nothing ends"),
        ("--pool name=w,gpus=0,usd_per_gpu_hour=2,max_hours=1", "pool w, gpus: 0 costs nothing"),
        ("--pool name=w,gpus=-4,usd_per_gpu_hour=2,max_hours=1", "pool w, gpus: '-4' is not a whole number"),
        ("--pool name=w,gpus=NaN,usd_per_gpu_hour=2,max_hours=1", "pool w, gpus: 'nan' is not a whole number"),
        ("--pool name=w,gpus=4,usd_per_gpu_hour=0,max_hours=1", "pool w, price: 0 costs nothing"),
        ("--pool name=w,gpus=4,usd_per_gpu_hour=999999,max_hours=1", "pool w, price: above 100000"),
        ("--pool name=w,gpus=99999999,usd_per_gpu_hour=2,max_hours=1", "is more than 1000000"),
        ("--pool name=w,gpus=4,usd_per_gpu_hour=2,max_hours=inf", "pool w, max_hours: 'inf' is not"),
        ("--pool name=w,gpuz=4", "pool w: no key 'gpuz'"),
        ("--pool gpus", "--pool 1: can't read 'gpus'"),
        ("--pool name=w,name=v", "name is given twice"),
        ("--pool name=w,instances=4,usd_per_instance_hour=2,max_hours=1", "pool w, gpus_per_instance"),
        ("--pool name=w,instances=4,instance_type=p9z.huge,max_hours=1", "no GPUs are known of 'p9z.huge'"),
        ("--pool name=w,instances=4,instance_type=p4d.24xlarge,region=mars-1,max_hours=1", "Known regions: "),
        ("--tokens-pool name=t,max_hours=1", "pool t, usd_per_hour: no price"),
        ("--pool name=w,gpus=4,usd_per_gpu_hour=2 --detect soon", "--detect: 'soon' is not a time"),
        ("--pool name=w,gpus=4,usd_per_gpu_hour=2 --detect normal(1h,2h)", "--detect: can't read 'normal(1h,2h)'"),
        ("--pool name=w,gpus=4,usd_per_gpu_hour=2 --calendar someday", "can't read the calendar"),
        ("--pool name=w,gpus=4,usd_per_gpu_hour=2 --calendar night --hours 20-8", "can't read --hours"),
        ("--pool name=w,gpus=4,usd_per_gpu_hour=2,max_hours=1 --guardrail name=x", "guardrail x: it limits nothing"),
        ("--pool name=w,gpus=4,usd_per_gpu_hour=2,max_hours=1 --guardrail nap=1h", "no key 'nap'"),
    ],
)  # fmt: skip
def test_bad_input_is_named_with_its_pool_and_key(words: str, message: str) -> None:
    done = gpuledger("blast-radius", *words.split())
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert "Hint:" in done.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = ", "not valid TOML"),
        ("sed = 1", "no key 'sed'"),
        ("pools = 3", "pools is no list of tables"),
        ("[[pools]]\nname = 'w'\ngpus = true", "True is neither text nor a number"),
        ("[[pools]]\nname = 'w'\ngpus = 4\nusd_per_gpu_hour = nan", "pool w, usd_per_gpu_hour: 'nan' is not"),
        (
            "seed = -1\n[[pools]]\nname = 'w'\ngpus = 4\nusd_per_gpu_hour = 1.5\nmax_hours = 1",
            "seed = -1 is no whole",
        ),
        ("begins = 'now'\n[[pools]]\nname = 'w'\ngpus = 4", "begins = 'now'"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text, "utf-8")
    done = gpuledger("blast-radius", "--file", path)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert "Hint:" in done.err
