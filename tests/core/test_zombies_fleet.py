"""The synthetic fleet of the benchmark: verdicts by case, and better than both rival rules."""

import pytest
from benchmarks import zombies

# What the rules can't know from what they are given; docs/zombies.md says so.
BEYOND = {"cold standby, unmarked", "dead rank, others work", "livelock without a counter"}


def test_every_case_but_those_beyond_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zombies, "EACH", 6)
    by_rule, by_case = zombies.scores(seed=7)
    wrong = {
        case for case, some in by_case.items() if any(found.verdict != card.zombie for card, found in some)
    }
    assert wrong == BEYOND
    states = {
        case for case, some in by_case.items() if any(found.state != card.state for card, found in some)
    }
    assert states == {"livelock without a counter"}
    ours, *rivals = by_rule.values()
    assert all(ours.precision > rival.precision and ours.recall > rival.recall for rival in rivals)
