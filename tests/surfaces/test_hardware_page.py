"""docs/hardware.md: each command shown gives the table below it, to the digits that are shown."""

import re
import shlex
from decimal import Decimal
from pathlib import Path

import pytest
from tests.surfaces.shell import gpuledger

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "hardware.md").read_text("utf-8")
SHOWN = re.findall(r"```console\n\$ gpuledger (.*?)\n```\n\n((?:\|.*\n)+)", PAGE)


def table(text: str) -> list[dict[str, str]]:
    header, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return [dict(zip(header, line, strict=True)) for line in lines]


def test_there_are_commands_to_check() -> None:
    assert len(SHOWN) == 4


@pytest.mark.parametrize(("words", "shown"), SHOWN)
def test_the_page_shows_what_the_command_says(
    words: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    done = gpuledger("--format", "json", *shlex.split(words))
    assert done.code == 0, done.err
    rows = done.document["rows"]
    expected = table(shown)
    assert [row["hardware"] for row in rows] == [line["hardware"] for line in expected]
    for row, line in zip(rows, expected, strict=True):
        for name, cell in line.items():
            value = row[name]
            if isinstance(value, bool) or name in {"hardware", "binding"}:
                assert str(value).lower() == cell.lower(), name
            elif value is None:
                assert cell == "", name
            else:
                digits = len(cell.partition(".")[2])
                assert round(Decimal(str(value)), digits) == Decimal(cell), (line["hardware"], name)


def test_the_sentence_about_the_dollar() -> None:
    """19 % less for the dollar: 523.26 against 644.81."""
    first = table(SHOWN[0][1])
    assert round(100 * (1 - Decimal(first[1]["tps_per_dollar"]) / Decimal(first[0]["tps_per_dollar"]))) == 19
    assert "19 % less for the dollar" in PAGE
