"""`config check`, `init` and `doctor`: the set-up."""

import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.surfaces.shell import HEADER, OCTOBER, Outcome, bill, gpuledger

CUR = (
    "bill/BillingPeriodStartDate,lineItem/UsageStartDate,lineItem/LineItemType,lineItem/UnblendedCost,"
    "lineItem/UsageAccountId,product/ProductName"
)


def configure(text: str) -> None:
    Path("gpuledger.toml").write_text(text, "utf-8")


def refused(text: str) -> str:
    configure(text)
    done = gpuledger("config", "check")
    assert (done.code, done.out) == (2, "")
    assert "gpuledger.toml" in done.err
    assert "Hint:" in done.err
    return done.err


def test_config_check_says_where_each_value_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(
        '[ledger]\nmemory_limit = "2GB"\n[sources.cloud]\ntype = "focus"\npath = "bills"\n'
        '[sources.llm]\ntype = "openai"\napi_key_env = "OPENAI_ADMIN_KEY"\n'
        '[tags.aliases]\nteam = ["squad"]\n'
    )
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-not-a-real-key")
    done = gpuledger("--ledger", "elsewhere", "config", "check")
    assert done.code == 0, done.err
    rows = {row["key"]: row for row in done.document["rows"]}
    assert (rows["ledger.location"]["value"], "--ledger" in rows["ledger.location"]["origin"]) == (
        "elsewhere",
        True,
    )
    assert rows["ledger.memory_limit"]["origin"] == "file gpuledger.toml"
    assert rows["ledger.focus_version"]["origin"] == "default"
    assert rows["sources.cloud.path"]["value"] == "bills"
    assert rows["tags.aliases.team"]["value"] == "squad"
    assert rows["sources.llm.api_key_env"]["value"] == "$OPENAI_ADMIN_KEY"
    assert "sk-not-a-real-key" not in done.out


def test_config_check_lists_every_section_down_to_its_tables() -> None:
    configure(
        '[allocation]\nidle = "proportional"\n'
        '[[allocation.overhead]]\nwhere = ["ServiceName=EKS"]\nmethod = "fixed"\nshares = { web = 40 }\n'
        '[[prices.custom]]\ngpu_model = "H100"\nusd_per_hour = "2.10"\n'
    )
    done = gpuledger("config", "check")
    assert done.code == 0, done.err
    told = {row["key"]: (row["value"], row["origin"]) for row in done.document["rows"]}
    file = "file gpuledger.toml"
    assert told["allocation.idle"] == ("proportional", file)
    assert told["allocation.overhead[1].where"] == ("ServiceName=EKS", file)
    assert told["allocation.overhead[1].shares.web"] == ("40", file)
    assert told["prices.custom[1].usd_per_hour"] == ("2.10", file)
    assert told["prices.learn_days"] == (30, "default")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[ledger]\nlocaton = "x"\n', "ledger.locaton"),
        ('[leger]\nlocation = "x"\n', "leger"),
        ('[ledger]\nfocus_version = "2.0"\n', "ledger.focus_version"),
        ('[ledger]\nmemory_limit = "much"\n', "ledger.memory_limit"),
        ('[sources.cloud]\npath = "bills"\n', "sources.cloud.type"),
        ('[tags.aliases]\nsquad = ["team"]\n', "tags.aliases"),
        ("[ledger\n", "not valid TOML"),
    ],
)
def test_a_key_that_is_not_known_or_not_right_is_refused(text: str, key: str) -> None:
    assert key in refused(text)


@pytest.mark.parametrize("key", ["api_key", "password", "client_secret", "token"])
def test_a_secret_in_the_file_is_refused_and_not_repeated(key: str) -> None:
    told = refused(f'[sources.llm]\ntype = "openai"\n{key} = "sk-not-a-real-key"\n')
    assert f"sources.llm.{key}" in told
    assert f"{key}_env" in told
    assert "sk-not-a-real-key" not in told


def test_a_secret_that_the_environment_lacks_fails_the_check() -> None:
    configure('[sources.llm]\ntype = "openai"\napi_key_env = "OPENAI_ADMIN_KEY"\n')
    done = gpuledger("config", "check")
    assert done.code == 1
    failed = [row for row in done.document["rows"] if row["state"] == "fail"]
    assert [row["key"] for row in failed] == ["sources.llm.api_key_env"]
    assert failed[0]["hint"] == "Set the environment variable OPENAI_ADMIN_KEY."


def test_a_source_of_no_known_type_fails_the_check() -> None:
    configure('[sources.cloud]\ntype = "focs"\npath = "bills"\n')
    done = gpuledger("config", "check")
    assert done.code == 1
    assert [row["hint"] for row in done.document["rows"] if row["state"] == "fail"] == ["Did you mean focus?"]


def init(*words: object) -> Outcome:
    done = gpuledger("init", *words)
    assert done.code == 0, done.err
    return done


def test_init_finds_bills_of_several_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bill(tmp_path / "focus" / "2026-09.csv", *OCTOBER)
    bill(tmp_path / "focus" / "2026-10.csv", *OCTOBER)
    bill(
        tmp_path / "aws" / "cur-00001.csv",
        "2026-10-01T00:00:00Z,2026-10-01T00:00:00Z,Usage,1.5,0042,Compute",
        header=CUR,
    )
    bill(tmp_path / "single.csv", OCTOBER[0])
    bill(tmp_path / "notes.csv", "hello,world", header="a,b")
    (tmp_path / "readme.txt").write_text("no bill", "utf-8")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-not-a-real-key")
    document = init("--yes").document
    found = {
        (row["found"], row["type"], row["where"])
        for row in document["rows"]
        if row["found"] in {"bill", "API key"}  # and what this machine has besides
    }
    assert found == {
        ("bill", "focus", "focus"), ("bill", "focus", "single.csv"), ("bill", "aws-cur", "aws"),
        ("API key", "openai", "$OPENAI_ADMIN_KEY"),
    }  # fmt: skip
    assert document["totals"] == {"written": "gpuledger.toml", "sources": 4}
    text = Path("gpuledger.toml").read_text("utf-8")
    assert "sk-not-a-real-key" not in text
    sources = tomllib.loads(text)["sources"]
    assert len(sources) == 4
    assert [section for section in sources.values() if section["type"] == "openai"] == [
        {"type": "openai", "api_key_env": "OPENAI_ADMIN_KEY"}
    ]
    assert gpuledger("config", "check").code == 0


def test_what_init_wrote_can_be_ingested(tmp_path: Path) -> None:
    bill(tmp_path / "bills" / "2026-10.csv", *OCTOBER)
    init("--yes")
    done = gpuledger("ingest")
    assert done.code == 0, done.err
    assert [(row["source"], row["action"]) for row in done.document["rows"]] == [("focus-bills", "loaded")]


def test_init_asks_before_it_takes_something(tmp_path: Path) -> None:
    bill(tmp_path / "bill.csv", *OCTOBER)
    done = gpuledger("init")  # nobody answers
    assert done.code == 130
    assert not Path("gpuledger.toml").exists()


def test_init_replaces_nothing_unless_forced(tmp_path: Path) -> None:
    bill(tmp_path / "bill.csv", *OCTOBER)
    configure("# mine\n")
    done = gpuledger("init", "--yes")
    assert (done.code, done.out) == (2, "")
    assert "--force" in done.err
    assert Path("gpuledger.toml").read_text("utf-8") == "# mine\n"
    init("--yes", "--force")
    assert "focus" in Path("gpuledger.toml").read_text("utf-8")


def test_init_scans_the_folders_that_it_is_told(tmp_path: Path) -> None:
    bill(tmp_path / "one" / "bill.csv", *OCTOBER)
    bill(tmp_path / "two" / "bill.csv", *OCTOBER)
    rows = init("--yes", "--scan", "two").document["rows"]
    assert [row["where"] for row in rows if row["found"] == "bill"] == ["two/bill.csv"]


def states() -> dict[str, str]:
    done = gpuledger("doctor")
    assert done.code in {0, 1}, done.err
    rows = done.document["rows"]
    failed = [row for row in rows if row["state"] == "fail"]
    assert done.code == (1 if failed else 0)
    assert all(row["hint"] for row in failed)
    assert {row["state"] for row in rows} <= {"ok", "warn", "fail", "unknown"}
    return {row["check"]: row["state"] for row in rows}


def test_doctor_without_anything_warns_and_says_what_to_do() -> None:
    assert states() == {"sources": "warn", "ledger": "warn"}


@pytest.mark.usefixtures("ledger")
def test_doctor_fails_for_a_source_that_cannot_be_read() -> None:
    configure(
        '[sources.gone]\ntype = "focus"\npath = "nowhere"\n[sources.typo]\ntype = "focs"\npath = "x"\n'
        '[sources.llm]\ntype = "openai"\napi_key_env = "OPENAI_ADMIN_KEY"\n'
        '[sources.cloud]\ntype = "focus"\npath = "bill.csv"\n'
    )
    found = states()
    assert {name: found[f"source {name}"] for name in ("gone", "typo", "llm", "cloud")} == {
        "gone": "fail", "typo": "fail", "llm": "fail", "cloud": "ok",
    }  # fmt: skip
    assert found["ledger"] == "ok"


def test_doctor_tells_late_deliveries_and_values_that_could_not_be_read(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    month = f"{now:%Y-%m}-01T00:00:00Z"
    early = f"BilledCost,{HEADER.partition(',')[2]},ChargePeriodEnd"
    bill(
        tmp_path / "bill.csv",
        f"1,1,0042,USD,{month},{month},Compute,,2020-01-01T00:00:00Z",
        f"1,NaN,0042,USD,{month},{month},Compute,,2020-01-01T00:00:00Z",
        header=early,
    )
    assert gpuledger("ingest", "--type", "focus", "bill.csv", "--source", "cloud").code == 1
    found = states()
    assert (found["delivery cloud"], found["values"]) == ("warn", "warn")


@pytest.mark.usefixtures("ledger")
def test_doctor_does_not_know_the_age_of_charges_without_a_time() -> None:
    found = states()
    assert found["delivery cloud"] == "unknown"
    assert found["attribution 2026-10 USD"] == "ok"
