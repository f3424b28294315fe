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


def test_a_spot_price_is_of_its_region() -> None:
    """8 H100 of Nebius at 10 dollars an hour spot, 23.60 on demand, one instance for two hours."""
    pool = "name=w,instance_type=gpu-h100-sxm_8gpu-128vcpu-1600gb,instances=1,region=eu-north1,max_hours=2"
    found = answer("--pool", f"{pool},pricing=spot")
    assert found["totals"]["same_mistake_p99"] == "20"
    origin = next(row["origin"] for row in found["totals"]["inputs"] if row["key"] == "price")
    assert re.fullmatch(
        r"price file nebius.csv, spot price of eu-north1 as of \d{4}-\d\d-\d\d \(.*\)", origin
    )
    assert answer("--pool", f"{pool},pricing=on-demand")["totals"]["same_mistake_p99"] == "47.2"


def test_tokens_have_the_list_price_of_their_model() -> None:
    """3 and 15 dollars a million: a million in and 200,000 out a minute are 60 × (3 + 3) = 360 an hour, and 0.3 for cached."""
    words = "name=t,model=claude-sonnet-4-5,input_tokens_per_minute=1000000,output_tokens_per_minute=200000,max_hours=2"
    found = answer("--tokens-pool", words)
    assert found["totals"]["same_mistake_p99"] == "720"
    origin = next(row["origin"] for row in found["totals"]["inputs"] if row["key"] == "price")
    assert origin == (
        "genai-prices, list prices of anthropic claude-sonnet-4-5: (1000000 input × 3 USD + 200000 output × 15 USD per million) × 60 minutes"
    )
    cached = f"{words},cache_read_tokens_per_minute=1000000"
    assert answer("--tokens-pool", cached)["totals"]["same_mistake_p99"] == "756"  # 2 h × 60 × 0.3 more
    uncertain = words.replace("=200000,", "=0..400000,")
    assert answer("--tokens-pool", uncertain)["totals"]["worst_case"] == "1080"  # 2 × 60 × (3 + 6)
    assert (
        answer("--tokens-pool", "name=t,tokens_per_minute=100..300,usd_per_mtok=15,max_hours=1")["totals"][
            "worst_case"
        ]
        == "0.27"
    )


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


HEADER = (
    "BilledCost,EffectiveCost,ListCost,ContractedCost,BillingAccountId,BillingCurrency,BillingPeriodStart,ChargePeriodStart,ChargePeriodEnd,"
    "ChargeCategory,PricingCategory,PricingUnit,PricingQuantity,ConsumedUnit,ConsumedQuantity,ServiceName,ServiceProviderName,RegionId,"
    "ResourceId,CommitmentDiscountId,CommitmentDiscountCategory,CommitmentDiscountType,CommitmentDiscountStatus,CommitmentDiscountQuantity,"
    "CommitmentDiscountUnit,SkuPriceDetails"
)
P4D = '"{""InstanceType"": ""p4d.24xlarge""}"'


def committed(day: int, hour: int, used: int) -> list[str]:
    """Synthetic: a savings plan of 40 dollars an hour covers p4d at 20 that cost 32 on demand; two fit."""
    start, end = f"2026-10-{day:02}T{hour:02}:00:00Z", f"2026-10-{day:02}T{hour:02}:59:59Z"
    head = f"1,USD,2026-10-01T00:00:00Z,{start},{end}"
    rows = [
        f"0,20,32,32,{head},Usage,Committed,Hours,1,Hours,1,EC2,AWS,us-east-1,i-{place},plan,Spend,Savings Plan,Used,20,USD,{P4D}"
        for place in range(used)
    ]
    if used < 2:
        idle = 20 * (2 - used)
        rows.append(
            f"0,{idle},0,0,{head},Usage,Committed,,,,,EC2,AWS,us-east-1,,plan,Spend,Savings Plan,Unused,{idle},USD,"
        )
    return [row.replace(":59:59Z", ":59:59.999999Z") for row in rows]


def test_idle_commitments_of_the_ledger_absorb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saturday's 24 hours: in 14 both machines are idle, 64 dollars an hour on demand; at the price of 4 a card that is 16 cards.

    Monday's idle working hours don't count.
    """
    monkeypatch.chdir(tmp_path)
    rows = [row for hour in range(24) for row in committed(3, hour, 0 if hour < 14 else 2)]
    rows += [row for hour in range(8, 20) for row in committed(5, hour, 2 if hour > 8 else 1)]
    on_demand = f"96,96,96,96,1,USD,2026-10-01T00:00:00Z,2026-10-03T05:00:00Z,2026-10-03T06:00:00Z,Usage,Standard,Hours,3,Hours,3,EC2,AWS,us-east-1,i-9,,,,,,,{P4D}"
    path = bill(tmp_path / "bill.csv", *rows, on_demand, header=HEADER)
    done = gpuledger("ingest", "--type", "focus", path, "--no-validate")
    assert done.code in {0, 1}, done.err
    found = answer("--from-ledger", "--calendar", "night")
    facts = {row["key"]: (row["value"], row["origin"]) for row in found["totals"]["inputs"]}
    assert facts["price"][0] == "4"  # 96 dollars for three machines of eight cards
    assert facts["idle_commitment_gpus"][0] == "16"
    assert facts["idle_commitment_gpus"][1].startswith(
        "ledger: P50 of what plan left idle in 24 off-hours (UTC) up to 2026-10-"
    )
    assert facts["idle_commitment_gpus"][1].endswith(
        "64.00 USD an hour on demand ÷ 4.000000 a GPU; P10: 0 GPUs"
    )
    (row,) = found["rows"]
    assert (row["gpus"], row["loss_p99"]) == (24, "384")  # (24 − 16) × 4 × 12


def test_a_pool_of_the_ledger_without_a_list_price_takes_what_spot_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        f"16,16,,,1,USD,2026-10-01T00:00:00Z,2026-10-0{day}T05:00:00Z,2026-10-0{day}T06:00:00Z,Usage,Dynamic,Hours,1,Hours,1,EC2,AWS,{region},i-{day},,,,,,,{P4D}"
        for day, region in ((3, "us-east-1"), (4, "mars-1"))
    ]
    done = gpuledger(
        "ingest", "--type", "focus", bill(tmp_path / "bill.csv", *rows, header=HEADER), "--no-validate"
    )
    assert done.code in {0, 1}, done.err
    found = answer("--from-ledger")
    prices = {
        row["pool"]: (row["value"], row["origin"])
        for row in found["totals"]["inputs"]
        if row["key"] == "price"
    }
    # 16 dollars for eight cards; the bill names no type of theirs, so no price file does.
    assert {pool: value for pool, (value, _) in prices.items()} == {
        "AWS A100 us-east-1": "2",
        "AWS A100 mars-1": "2",
    }
    assert prices["AWS A100 mars-1"][1].endswith(
        "what spot cost on 2026-10-04; the bills have no price on demand"
    )


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
        ("--tokens-pool name=t,max_hours=1,tokens_per_minute=-5,usd_per_mtok=3", "pool t, tokens_per_minute: '-5' is not a whole number"),
        ("--tokens-pool name=t,max_hours=1,tokens_per_minute=0,usd_per_mtok=3", "pool t, price: 0 costs nothing"),
        ("--tokens-pool name=t,max_hours=1,tokens_per_minute=1..5,usd_per_mtok=3..4", "are both uncertain"),
        ("--tokens-pool name=t,max_hours=1,model=gpt-99-imaginary,output_tokens_per_minute=5", "knows no price of 'gpt-99-imaginary'"),
        ("--tokens-pool name=t,max_hours=1,model=gpt-4o,tokens_per_minute=5", "pool t, model: a model has a price for each kind"),
        ("--tokens-pool name=t,max_hours=1,model=gpt-4o,cache_write_tokens_per_minute=5", "knows no price of cache_write tokens of gpt-4o"),
        ("--tokens-pool name=t,max_hours=1,model=gpt-4o,input_tokens_per_minute=1..2,output_tokens_per_minute=1..2", "only one kind of tokens may be uncertain"),
        ("--pool name=w,instances=4,instance_type=p4d.24xlarge,region=us-east-1,max_hours=1,pricing=free", "'free' is neither on-demand nor spot"),
        ("--pool name=w,instances=4,instance_type=p4d.24xlarge,region=us-east-1,max_hours=1,pricing=spot", "no spot price of p4d.24xlarge in us-east-1"),
        ("--pool name=w,gpus=4,usd_per_gpu_hour=2,max_hours=1,storage_usd_per_hour=100001", "pool w, storage_usd_per_hour: above 100000 dollars an hour"),
        ("--pool name=w,gpus=4,usd_per_gpu_hour=2,max_hours=1,egress_usd_per_hour=-1", "pool w, egress_usd_per_hour: '-1' is not an amount"),
        ("--pool name=w,gpus=4,usd_per_gpu_hour=2,max_hours=0", "pool w, max_hours: 0 costs nothing"),
        ("--pool name=w,gpus=4,usd_per_gpu_hour=1e9,max_hours=1", "pool w, usd_per_gpu_hour: '1e9' is not an amount"),
        ("--pool name=w,gpus=4,usd_per_gpu_hour=2 --calendar night --timezone Mars/Olympus", "no time zone 'Mars/Olympus'"),
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
