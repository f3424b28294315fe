"""The page calculates what the command calculates, to the last digit, and can be used by everybody."""

import json
import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.core.blast_vectors import stored
from tests.surfaces.chromium import Browser, chromium
from tests.surfaces.shell import gpuledger

from gpuledger.surfaces.blast_radius_page import server

ENGINE = Path(__file__).parents[2] / "src" / "gpuledger" / "surfaces" / "blast_radius_page" / "engine.js"
# One certain pool, and all shapes and limits at once.
CASES = {
    "story": [
        "--pool", "name=weekend,instances=200,gpus_per_instance=8,usd_per_instance_hour=32.4,max_hours=11", "--detect", "24h",
    ],
    "everything": [
        "--pool", "name=a & b's,gpus=100..200..800,quota=600,usd_per_gpu_hour=2..4.05,storage_usd=12.5,idle_commitment_gpus=9",
        "--pool", "name=größe,instances=lognormal(20,100),instance_type=p4d.24xlarge,region=us-east-1,max_hours=11..30,lease_cap=900",
        "--tokens-pool", "name=agents,tokens_per_minute=2000000,usd_per_mtok=3..15,lease_usd=9999.99,egress_usd=lognormal(5,50)",
        "--detect", "lognormal(20m,3h)", "--respond", "5m..15m..1h", "--calendar", "weekend", "--begins", "random",
        "--seed", "7", "--samples", "3000",
    ],
}  # fmt: skip


ALL_FIGURES = "const found = {}; for (const name of Object.keys(all)) { const { losses, ...told } = E.assess(all[name]); found[name] = told; }"


def answer(*words: str) -> dict[str, Any]:
    done = gpuledger("--format", "json", "blast-radius", *words)
    assert done.code == 0, done.err
    found: dict[str, Any] = done.document
    return found


def micro(text: str) -> int:
    whole, _, rest = text.partition(".")
    return int(whole) * 1_000_000 + int(rest.ljust(6, "0"))


def model(page: str) -> str:
    found = re.search(r'<script type="application/json" id="model">(.*?)</script>', page, re.DOTALL)
    assert found
    return found[1]


def assert_same(told: dict[str, Any], found: dict[str, Any]) -> None:
    totals = found["totals"]
    for name in ("same_mistake", "independent"):
        expected = {rank: micro(totals[f"{name}_{rank}"]) for rank in ("p50", "p90", "p99")}
        assert told["same" if name == "same_mistake" else name] == expected
    assert told["worst"] == micro(totals["worst_case"])
    for pool, row in zip(told["pools"], found["rows"], strict=True):
        assert (pool["name"], pool["gpus"]) == (row["pool"], row["gpus"])
        assert {rank: micro(row[f"loss_{rank}"]) for rank in ("p50", "p90", "p99")} == pool["loss"]
        assert (pool["worst"], pool["usd_per_hour"]) == (micro(row["worst_case"]), micro(row["usd_per_hour"]))
    assert [(rail["name"], rail["removes_p99"], rail["removes_p50"]) for rail in told["guardrails"]] == [
        (rail["name"], micro(rail["removes_usd"]), micro(rail["removes_p50_usd"]))
        for rail in totals["guardrails"]
    ]
    assert told["together"]["removes_p99"] == micro(totals["all_guardrails_remove_usd"])
    assert told["lines"] == totals["arithmetic"]


@pytest.mark.parametrize("case", CASES)
def test_the_pages_script_gives_the_commands_figures(case: str, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no JavaScript here: install the package nodejs")
    page = tmp_path / "page.html"
    found = answer(*CASES[case], "--html", str(page))
    script = f"console.log(JSON.stringify(require({json.dumps(str(ENGINE))}).assess(JSON.parse(require('fs').readFileSync(0)))))"
    run = subprocess.run(
        [node, "-e", script], input=model(page.read_text("utf-8")), capture_output=True, text=True, check=True
    )
    assert_same(json.loads(run.stdout), found)


def test_the_stored_vectors_in_node() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no JavaScript here: install the package nodejs; Chromium has the same test")
    script = f"const all = JSON.parse(require('fs').readFileSync(0)), E = require({json.dumps(str(ENGINE))}); {ALL_FIGURES}"
    models = json.dumps({name: one["model"] for name, one in stored().items()})
    run = subprocess.run(
        [node, "-e", f"{script}; console.log(JSON.stringify(found))"], input=models, capture_output=True, text=True, check=True
    )  # fmt: skip
    assert json.loads(run.stdout) == {name: one["figures"] for name, one in stored().items()}


def test_the_stored_vectors_in_chromium(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    answer(*CASES["story"], "--html", str(page))
    browser.open(page.as_uri())
    models = json.dumps({name: one["model"] for name, one in stored().items()})
    told = browser.run(
        f"(() => {{ const all = {models}, E = BlastRadius; {ALL_FIGURES}; return JSON.stringify(found); }})()"
    )
    assert json.loads(told) == {name: one["figures"] for name, one in stored().items()}


def test_the_page_is_one_file_and_asks_for_nothing(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    answer("--pool", "name=</script><b>,gpus=8,usd_per_gpu_hour=4,max_hours=1", "--html", str(page))
    text = page.read_text("utf-8")
    assert "{{" not in text
    assert text.count("</script>") == 3
    assert not re.search(r"(?:src|href)=\"(?!#|data:,)", text)
    assert not re.search(r"https?://|@import|\bfetch\(|XMLHttpRequest", text)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as found:
        yield found


def shown(browser: Browser) -> dict[str, Any]:
    """What a reader sees: headline, cells of the foot, guardrails, arithmetic, problem, address."""
    script = """JSON.stringify({
      headline: document.getElementById('headline').textContent, problem: document.getElementById('problem').textContent,
      foot: [...document.querySelectorAll('#losses tfoot td')].map((cell) => cell.textContent).filter(Boolean),
      rails: [...document.querySelectorAll('#rails tbody tr')].map((row) => [...row.children].map((cell) => cell.textContent)),
      lines: document.getElementById('lines').textContent.split('\\n'), command: document.getElementById('command').textContent,
      took: Number(document.documentElement.dataset.took), hash: location.hash,
    })"""
    found: dict[str, Any] = json.loads(browser.run(script))
    return found


def cents(text: str) -> str:
    whole, rest = divmod((micro(text) + 5000) // 10_000, 100)
    return f"{whole:,}.{rest:02d}"


def assert_shown(browser: Browser, found: dict[str, Any]) -> dict[str, Any]:
    seen, totals = shown(browser), found["totals"]
    ranks = [f"{name}_{rank}" for name in ("same_mistake", "independent") for rank in ("p50", "p90", "p99")]
    foot = [cents(totals[name]) for name in ranks]
    assert seen["foot"] == [*foot[:3], cents(totals["worst_case"]), *foot[3:], cents(totals["worst_case"])]
    assert seen["lines"] == totals["arithmetic"]
    assert [rail[:2] for rail in seen["rails"]] == [
        [rail["name"], cents(rail["removes_usd"])] for rail in totals["guardrails"]
    ]
    return seen


def edit(browser: Browser, key: str, text: str) -> None:
    browser.run(
        f"""(() => {{ const box = document.querySelector('[data-key="{key}"]'); box.value = {json.dumps(text)};
        box.dispatchEvent(new Event('input', {{ bubbles: true }})); }})()"""
    )


def test_somebody_uses_the_page(browser: Browser, tmp_path: Path) -> None:
    """Load, change an input, err, mend, share the address, copy the command: always the command's figures."""
    page = tmp_path / "page.html"
    words = CASES["everything"]
    found = answer(*words, "--html", str(page))
    browser.open(page.as_uri())
    assert_shown(browser, found)
    edit(browser, "detect", "1h..2h..9h")
    changed = list(words)
    changed[1] += ",detect=1h..2h..9h"
    after = answer(*changed)
    assert_shown(browser, after)
    edit(browser, "gpus", "NaN")
    seen = assert_shown(browser, after)
    assert "a & b's, GPUs asked for: “nan” is not a whole number" in seen["problem"].replace("NaN", "nan")
    assert (
        browser.run("document.activeElement !== null && document.querySelectorAll('[aria-invalid]').length")
        == 1
    )
    edit(browser, "gpus", "100..200..800")
    assert shown(browser)["problem"] == ""
    browser.run("new Promise((done) => setTimeout(done, 300))")
    seen = assert_shown(browser, after)
    browser.open(page.as_uri() + seen["hash"])
    assert_shown(browser, after)
    assert browser.complaints == []
    assert [
        address for address in browser.requests if not address.startswith(("file:", "data:", "about:"))
    ] == []


def test_the_command_that_the_page_tells_gives_its_figures(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    answer(*CASES["story"], "--html", str(page))
    browser.open(page.as_uri())
    edit(browser, "respond", "5m..1h")
    edit(browser, "max_hours", "2h..30h")
    command = shown(browser)["command"]
    assert_shown(browser, answer(*shell_words(command)))


def test_a_key_moves_a_slider_and_everything_is_labelled(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    answer(*CASES["story"], "--html", str(page))
    browser.open(page.as_uri())
    browser.run("document.querySelector('[data-key=\"max_hours\"] + input').focus()")
    browser.press("ArrowRight", 39)
    assert browser.run("document.querySelector('[data-key=\"max_hours\"]').value") == "11h15m"
    assert "$72,900.00" in shown(browser)["headline"]
    unnamed = "[...document.querySelectorAll('input, button')].filter((e) => !(e.labels?.length || e.ariaLabel || e.textContent)).length"
    assert browser.run(unnamed) == 0


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_its_window(browser: Browser, tmp_path: Path, width: int) -> None:
    page = tmp_path / "page.html"
    answer(*CASES["everything"], "--html", str(page))
    browser.open(page.as_uri(), width=width)
    assert browser.run("document.documentElement.scrollWidth") <= width


def test_guardrails_are_edited_kept_in_the_address_and_told_to_the_command(
    browser: Browser, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    words = CASES["everything"]
    answer(*words, "--html", str(page))
    browser.open(page.as_uri())
    browser.run("document.querySelector('.rails').open = true")
    edit_rail(browser, 0, "detect=5m,respond=10m")
    edit_rail(browser, 7, "lease_cap=8")
    rails = [
        "name=alert within 15 min,detect=5m,respond=10m", "name=respond within 15 min,respond=15m", "name=job time limit of 4 h,max_hours=4h",
        "name=half the quota,quota_percent=50", "name=lease cap of 64 GPUs per pool,lease_cap=64", "name=dollar lease of $5000 per pool,lease_usd=5000",
        "name=someone looks every 4 h,look=4h", "name=autoscaler at a quarter off-hours,lease_cap=8",
    ]  # fmt: skip
    found = answer(*words, *(word for rail in rails for word in ("--guardrail", rail)))
    assert_shown(browser, found)
    browser.run("new Promise((done) => setTimeout(done, 300))")
    seen = shown(browser)
    browser.open(page.as_uri() + seen["hash"])
    assert_shown(browser, found)
    assert_shown(browser, answer(*shell_words(seen["command"])))
    edit_rail(browser, 0, "detect=soon")
    assert "guardrail alert within 15 min: “soon” is not a time" in shown(browser)["problem"]
    edit_rail(browser, 0, "quota_percent=101")
    assert "more than 100 %" in shown(browser)["problem"]
    browser.run("document.getElementById('usual-rails').click()")
    assert_shown(browser, answer(*words))
    assert shown(browser)["problem"] == ""


def edit_rail(browser: Browser, index: int, said: str) -> None:
    browser.run(
        f"""(() => {{ const box = document.querySelector('[data-rail="{index}"]'); box.value = {json.dumps(said)};
        box.dispatchEvent(new Event('input', {{ bubbles: true }})); }})()"""
    )


def shell_words(command: str) -> list[str]:
    """What a shell makes of a command that begins with `gpuledger blast-radius`."""
    told = subprocess.run(
        ["sh", "-c", f"gpuledger() {{ printf '%s\\0' \"$@\"; }}\n{command}"], capture_output=True, text=True, check=True
    )  # fmt: skip
    return told.stdout.split("\0")[1:-1]


def test_many_draws_are_shown_at_once_from_some_and_then_from_all(browser: Browser, tmp_path: Path) -> None:
    """Beyond 10,000 draws a worker calculates; the page's own server lets it."""
    page = tmp_path / "page.html"
    words = [*CASES["everything"][:-1], "60000"]
    found = answer(*words, "--html", str(page))
    with server(page.read_text("utf-8"), 0) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        browser.open(f"http://127.0.0.1:{serving.server_address[1]}/")
        assert (
            browser.run("document.getElementById('basis').textContent")
            == "A preview from 10,000 draws; all 60,000 follow."
        )
        wait = "new Promise((done) => { const look = () => document.documentElement.dataset.settled === 'true' ? done(true) : setTimeout(look, 20); look(); })"
        assert browser.run(wait)
        assert_shown(browser, found)
        assert browser.run("document.getElementById('basis').textContent") == ""
        edit(browser, "detect", "1h..2h..9h")
        edit(browser, "detect", "1h..3h..9h")  # the answer to the first must not come after the second's
        assert browser.run(wait)
        changed = list(words)
        changed[1] += ",detect=1h..3h..9h"
        assert_shown(browser, answer(*changed))
        serving.shutdown()
    assert browser.complaints == []
    own = ("file:", "data:", "about:", "blob:", f"http://127.0.0.1:{serving.server_address[1]}/")
    assert [address for address in browser.requests if not address.startswith(own)] == []


def test_the_page_is_quick(browser: Browser, tmp_path: Path) -> None:
    """Ten thousand draws, eight guardrails, calculated and shown: median of eleven changes; four times 50 ms on a busy machine."""
    page = tmp_path / "page.html"
    answer(*CASES["story"], "--html", str(page))
    browser.open(page.as_uri())
    took = []
    for hour in range(2, 13):
        edit(browser, "detect", f"5m..1h..{hour}h")
        took.append(shown(browser)["took"])
    assert sorted(took)[5] < 200


def test_the_server_is_for_this_machine_and_has_one_page() -> None:
    with server("<p>page</p>", 0) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        host, port = serving.server_address[:2]
        assert host == "127.0.0.1"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/?x=1") as reply:
            assert reply.read() == b"<p>page</p>"
            assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
        with pytest.raises(urllib.error.HTTPError) as missing:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/etc/passwd")
        missing.value.close()
        assert missing.value.code == 404
        serving.shutdown()
