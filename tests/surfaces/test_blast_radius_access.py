"""The calculator by keyboard alone, as a screen reader says it, by contrast and size, on paper, and its pictures."""

import base64
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.surfaces.chromium import Browser, chromium
from tests.surfaces.shell import gpuledger

DOCS = Path(__file__).parents[2] / "docs"
WORDS = (
    "--pool", "name=weekend,instances=100..200..220,gpus_per_instance=8,usd_per_instance_hour=32.4,max_hours=11,storage_usd_per_hour=12",
    "--tokens-pool", "name=agents,model=claude-sonnet-4-5,input_tokens_per_minute=3000000,output_tokens_per_minute=500000..1500000,max_hours=2d",
    "--detect", "lognormal(2h,12h)", "--respond", "5m..15m..1h", "--calendar", "weekend",
)  # fmt: skip
# Elements that show text of their own, with their colours; a background is the first one behind that isn't transparent.
COLOURS = """JSON.stringify((() => {
  const read = (text) => { const found = text.match(/[\\d.]+/g).map(Number); return [found.slice(0, 3), found[3] ?? 1]; };
  const behind = (at) => { for (let one = at; one; one = one.parentElement) { const [colour, alpha] = read(getComputedStyle(one).backgroundColor); if (alpha) return colour; } return [255, 255, 255]; };
  const found = [];
  for (const one of document.querySelectorAll('body *')) {
    const style = getComputedStyle(one), box = one.getBoundingClientRect();
    if (style.visibility === 'hidden' || !box.width || !box.height || one.closest('.unseen, .skip, script, style, [hidden]')) continue;
    const own = [...one.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim()) || (one.tagName === 'INPUT' && one.type !== 'range');
    if (!own) continue;
    const drawn = one.namespaceURI.endsWith('svg') ? style.fill : style.color;
    found.push([one.tagName + ' ' + (one.textContent || one.value).trim().slice(0, 30), read(drawn)[0], behind(one), parseFloat(style.fontSize), Number(style.fontWeight)]);
  }
  return found;
})())"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> str:
    """Address of a page with a GPU pool and a token pool, open in the browser."""
    path = tmp_path / "page.html"
    done = gpuledger("--format", "json", "blast-radius", *WORDS, "--html", path)
    assert done.code == 0, done.err
    browser.call("Emulation.setEmulatedMedia", media="", features=[])
    browser.open(path.as_uri())
    return path.as_uri()


def spoken(browser: Browser) -> list[dict[str, Any]]:
    """The accessibility tree as a screen reader has it: role, name, value and the like of each node that it says."""
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    return [
        {
            "role": node["role"]["value"],
            "name": node.get("name", {}).get("value", ""),
            "value": node.get("value", {}).get("value"),
            "description": node.get("description", {}).get("value", ""),
            **{one["name"]: one["value"].get("value") for one in node.get("properties", [])},
        }
        for node in nodes
        if not node.get("ignored")
    ]


def focused(browser: Browser) -> dict[str, Any]:
    """What a screen reader says of the element that has the focus."""
    (found,) = [one for one in spoken(browser) if one.get("focused") and one["role"] != "RootWebArea"]
    return found


def tab(browser: Browser, until: str, most: int = 60) -> dict[str, Any]:
    """Press Tab until what is focused begins with a name; fails when it doesn't come."""
    for _ in range(most):
        browser.press("Tab", 9)
        found = focused(browser)
        if found["name"].startswith(until):
            return found
    pytest.fail(f"Tab never comes to {until!r}")


def key(browser: Browser, name: str, code: int, text: str = "") -> None:
    """Press a key that types something, or that buttons listen to."""
    more = {"text": text} if text else {}
    browser.call(
        "Input.dispatchKeyEvent", type="keyDown", key=name, code=name, windowsVirtualKeyCode=code, **more
    )
    browser.call("Input.dispatchKeyEvent", type="keyUp", key=name, code=name, windowsVirtualKeyCode=code)


def valued(browser: Browser) -> str:
    """What a slider says instead of its number; DevTools' tree tells the bare number only."""
    return str(browser.run("document.activeElement.ariaValueText"))


def pause(browser: Browser, seconds: float) -> None:
    browser.run(f"new Promise((done) => setTimeout(done, {seconds * 1000}))")


def text_of(browser: Browser, name: str) -> str:
    return str(browser.run(f"document.getElementById('{name}').textContent"))


def test_a_leader_without_a_mouse(browser: Browser, page: str) -> None:
    """Skip to the results and back; type, move a slider, err, mend, add a guardrail: no key but Tab, arrows, Enter."""
    browser.press("Tab", 9)
    assert focused(browser)["name"] == "Skip to the results"
    key(browser, "Enter", 13, "\r")
    assert browser.run("document.activeElement.id") == "results"
    browser.open(page)
    found = tab(browser, "GPUs asked for")
    assert (found["role"], found["value"]) == ("textbox", "800..1600..1760")
    browser.run("document.activeElement.select()")
    browser.call("Input.insertText", text="many")
    assert (focused(browser).get("invalid"), "not a whole number" in text_of(browser, "problem")) == (
        "true",
        True,
    )
    assert "not a whole number" in focused(browser)["description"]
    browser.run("document.activeElement.select()")
    browser.call("Input.insertText", text="1600")
    assert text_of(browser, "problem") == ""
    before = text_of(browser, "headline")
    found = tab(browser, "Job limit, slider")
    assert (found["role"], valued(browser)) == ("slider", "11h")
    key(browser, "ArrowLeft", 37)
    assert (focused(browser)["value"], valued(browser)) == (38_700, "10h45m")
    assert text_of(browser, "headline") != before
    pause(browser, 0.8)
    said = [one for one in spoken(browser) if one["role"] == "status"]
    assert len(said) == 1
    assert text_of(browser, "said") == f"{text_of(browser, 'headline')} {text_of(browser, 'advice')}"
    tab(browser, "Guardrails to weigh")
    key(browser, "Enter", 13, "\r")
    tab(browser, "Add a guardrail")
    key(browser, "Enter", 13, "\r")
    assert (focused(browser)["name"], focused(browser)["value"]) == ("Guardrail", "page within 5 min")
    assert browser.run("document.querySelector('#rails tbody').rows.length") == 9
    tab(browser, "Remove page within 5 min")
    key(browser, "Enter", 13, "\r")
    assert focused(browser)["name"] == "Add a guardrail"
    assert browser.run("document.querySelector('#rails tbody').rows.length") == 8
    tab(browser, "Print")
    assert browser.complaints == []


def test_tab_comes_by_everything_in_the_order_of_the_page_and_out_again(browser: Browser, page: str) -> None:
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    count = browser.run(
        """(() => { let number = 0;
        for (const one of document.querySelectorAll('a[href], button:not([hidden]), input:not([disabled]), summary, [tabindex="0"]')) if (one.offsetParent || one.tabIndex === 0) { if (getComputedStyle(one).display !== 'none') one.dataset.order = number++; }
        return number; })()"""
    )
    assert count > 60
    seen = []
    for _ in range(count):
        browser.press("Tab", 9)
        seen.append(browser.run("document.activeElement.dataset.order"))
    assert seen == [str(number) for number in range(count)]
    assert page


def test_everything_that_can_be_used_has_a_name_and_a_role(browser: Browser, page: str) -> None:
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    tree = spoken(browser)
    usable = [one for one in tree if one.get("focusable") and one["role"] not in {"RootWebArea", "heading"}]
    assert {one["role"] for one in usable} >= {
        "textbox",
        "slider",
        "button",
        "link",
        "region",
        "DisclosureTriangle",
        "combobox",
    }
    assert [one for one in usable if not one["name"]] == []
    fields = [one for one in usable if one["role"] in {"textbox", "combobox"}]
    assert [
        one["name"]
        for one in fields
        if one["name"].startswith(("GPUs", "USD", "Job")) and not one["description"]
    ] == []
    sliders = "[...document.querySelectorAll('input[type=range]')].filter((one) => !one.ariaValueText).length"
    assert browser.run(sliders) == 0
    names = [one["name"] for one in tree if one["role"] == "button"]
    assert len(names) == len(set(names))
    groups = [one["name"] for one in tree if one["role"] == "group"]
    assert set(groups) >= {"GPU pool: weekend", "Token pool: agents", "Draws", "Guardrail 1", "Guardrail 8"}
    headings = [(one["level"], one["name"]) for one in tree if one["role"] == "heading"]
    assert headings == [
        (1, "Blast radius"), (2, "Inputs"), (2, "Results"), (3, "What each guardrail takes off"), (3, "Arithmetic"),
        (3, "Where the inputs came from"), (3, "The same on the command line"),
    ]  # fmt: skip
    assert {one["role"] for one in tree} >= {
        "main",
        "banner",
        "contentinfo",
        "table",
        "columnheader",
        "rowheader",
        "status",
    }
    (image,) = [one for one in tree if one["role"] == "image"]
    assert re.fullmatch(
        r"How often each loss is drawn, .*: half are at most \$[\d,.]+, nine in ten .*, 99 in a hundred at most \$[\d,.]+",
        image["name"],
    )
    assert browser.run("document.documentElement.lang") == "en"
    ids = json.loads(
        browser.run("JSON.stringify([...document.querySelectorAll('[id]')].map((one) => one.id))")
    )
    assert len(ids) == len(set(ids))
    pointed = json.loads(
        browser.run("JSON.stringify([...document.querySelectorAll('[aria-describedby],[aria-labelledby],[for]')].flatMap((one) => ['aria-describedby', 'aria-labelledby', 'for'].flatMap((name) => (one.getAttribute(name) ?? '').split(' ').filter(Boolean))))")
    )  # fmt: skip
    assert set(pointed) <= set(ids)
    assert page


def luminance(colour: list[float]) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = [one / 255 for one in colour]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: list[float], other: list[float]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_its_background(browser: Browser, page: str, scheme: str) -> None:
    """WCAG AA: 4.5 to 1, 3 to 1 for large text; the tint behind a guardrail's row too."""
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    key_ = "document.querySelector('[data-key=\"gpus\"]')"
    browser.run(f"{key_}.value = 'x'; {key_}.dispatchEvent(new Event('input'))")  # so that errors are seen
    found = json.loads(browser.run(COLOURS))
    assert len(found) > 150
    assert any("not a whole number" in name for name, *_ in found)
    tint = json.loads(
        browser.run(
            "JSON.stringify(getComputedStyle(document.querySelector('pre')).backgroundColor.match(/\\d+/g).map(Number))"
        )
    )
    poor = [
        (name, round(ratio, 2))
        for name, colour, background, size, weight in found
        for ratio in (contrast(colour, background), contrast(colour, tint))
        if ratio < (3 if size >= 24 or (size >= 18.66 and weight >= 700) else 4.5)
    ]
    assert poor == []
    assert contrast([0, 0, 0], [255, 255, 255]) == pytest.approx(21)
    assert page


def test_what_is_pressed_is_large_enough(browser: Browser, page: str) -> None:
    """WCAG 2.2 AA: 24 by 24 pixels."""
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    small = browser.run(
        """[...document.querySelectorAll('button, input, summary')].filter((one) => one.offsetParent)
        .filter((one) => { const box = one.getBoundingClientRect(); return box.height < 24 || box.width < 24; }).length"""
    )
    assert (small, bool(page)) == (0, True)


def test_on_a_phone_the_answer_stays_in_sight(browser: Browser, page: str) -> None:
    browser.open(page, width=390, height=844)
    assert browser.run("document.documentElement.scrollWidth") <= 390
    svg = "document.querySelector('#chart svg')"
    assert (
        browser.run(f"12 * {svg}.getBoundingClientRect().width / 600 * (20 / 12)") > 11
    )  # the chart's letters, in pixels
    assert browser.run(f"getComputedStyle({svg}.querySelector('text')).fontSize") == "20px"
    assert browser.run(
        "(() => { const box = document.getElementById('bar').getBoundingClientRect(); return box.top < innerHeight && box.bottom <= innerHeight + 1; })()"
    )
    assert text_of(browser, "bar") == re.sub(
        r".*up to (\S+) in.*cases, (\S+) in the.*",
        r"Results: P50 \2, P99 \1",
        text_of(browser, "headline"),
    )
    browser.open(page)
    assert browser.run("getComputedStyle(document.getElementById('bar')).display") == "none"


def test_on_paper_there_are_inputs_results_and_no_buttons(browser: Browser, page: str) -> None:
    browser.call("Emulation.setEmulatedMedia", media="print", features=[])
    seen = "getComputedStyle(document.querySelector('{}')).display !== 'none'"
    for what, is_there in (
        ("#headline", True), ("#pools input", True), ("#losses", True), ("#rails", True), ("#lines", True), ("#origins", True),
        ("input[type=range]", False), ("button", False), (".skip", False), ("#bar", False), (".basis", False),
    ):  # fmt: skip
        assert browser.run(seen.format(what)) is is_there, what
    empty = "[...document.querySelectorAll('.field')].filter((one) => getComputedStyle(one).display !== 'none' && one.querySelector('input').value === '').length"
    assert browser.run(empty) == 0
    paper = base64.b64decode(browser.call("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert paper.startswith(b"%PDF-")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", paper)) <= 5
    assert page


@pytest.mark.parametrize(
    ("name", "width", "height"), [("blast-radius.png", 1280, 1000), ("blast-radius-phone.png", 390, 844)]
)
def test_the_pictures_of_the_docs(browser: Browser, page: str, name: str, width: int, height: int) -> None:
    """`UPDATE_DOCS=1 python -m pytest tests/surfaces/test_blast_radius_access.py -k pictures` takes them anew."""
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    browser.open(page, width=width, height=height)
    browser.run(
        "document.querySelectorAll('details').forEach((one) => { one.open = false; }); document.documentElement.style.scrollbarWidth = 'none'"
    )
    if width < 900:
        browser.run("document.getElementById('results').scrollIntoView()")
    told = base64.b64decode(browser.call("Page.captureScreenshot", captureBeyondViewport=False)["data"])
    path = DOCS / "images" / name
    if os.environ.get("UPDATE_DOCS"):
        path.write_bytes(told)
    kept = path.read_bytes()
    assert kept[:8] == told[:8] == b"\x89PNG\r\n\x1a\n"
    assert [int.from_bytes(kept[at : at + 4], "big") for at in (16, 20)] == [width, height]
    assert f"images/{name}" in (DOCS / "blast-radius.md").read_text("utf-8")
