"""docs/savings.md lists every rule as the code has it: what it reads, its formula, its confidence."""

import os
import re
from pathlib import Path

from gpuledger import registry

PAGE = Path(__file__).parents[2] / "docs" / "savings.md"
BETWEEN = re.compile(r"(<!-- rules: .*? -->\n).*?(<!-- end of rules -->)", re.DOTALL)
FACT = re.compile(r"`([a-z0-9-]+)`")


def table() -> str:
    rows = ["| rule | what it finds | reads | saving | confidence | risk |", "|---|---|---|---|---|---|"]
    for name in registry.savings_names():
        rule = registry.savings_rule(name)
        reads = "; ".join(need.what for need in rule.NEEDS)
        rows.append(
            f"| `{name}` | {rule.TITLE} | {reads} | {rule.FORMULA} | {rule.CONFIDENCE} | {rule.RISK} |"
        )
    return "\n" + "\n".join(rows) + "\n\n"


def test_the_savings_page_says_what_the_rules_do() -> None:
    text = PAGE.read_text("utf-8")
    written = BETWEEN.sub(lambda match: match[1] + table() + match[2], text)
    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(written, "utf-8")
    assert PAGE.read_text("utf-8") == written
    assert written.count("\n| `") >= 44


def test_every_fact_that_a_rule_reads_is_on_the_savings_page() -> None:
    root = Path(registry.__file__).parent
    code = "\n".join(
        path.read_text("utf-8") for folder in ("savings", "models/savings", "core")
        for path in (root / folder).glob("*") if path.suffix in {".py", ".sql"} and ("saving" in path.as_posix())
    )  # fmt: skip
    read = set(re.findall(r"key = '([a-z0-9-]+)'", code)) | set(
        re.findall(r"fact\(\s*\"([a-z0-9-]+)\"", code)
    )
    told = set(FACT.findall(PAGE.read_text("utf-8")))
    assert read, "no facts found in the code"
    assert read <= told, read - told
