"""Policy files and files of workloads: what is read, and how each thing that is wrong is told."""

import json
import os
import tomllib
from pathlib import Path

import pytest

from gpuledger.errors import ConfigError
from gpuledger.pipeline import policy_files
from gpuledger.pipeline.manifest_files import Entry, read

DOCS = Path(__file__).parents[2] / "docs"


def policy(folder: Path, text: str, name: str = "gpuledger-policy.toml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as told:
        policy_files.load(path)
    assert told.value.hint
    return f"{told.value.where}: {told.value.message}"


def test_toml_and_yaml_are_the_same_policy(tmp_path: Path) -> None:
    toml = policy(tmp_path, 'mode = "enforce"\n[[require]]\ndimension = "team"\nwhen = { min_gpus = 2 }\n')
    yaml = policy(tmp_path, "mode: enforce\nrequire:\n- dimension: team\n  when: {min_gpus: 2}\n", "p.yaml")
    assert policy_files.load(toml).policy == policy_files.load(yaml).policy


def test_the_documented_policy_is_one() -> None:
    text = (DOCS / "policy.md").read_text("utf-8")
    example = text.split("```toml\n")[1].split("```")[0]
    found = policy_files.parse(tomllib.loads(example), "docs/policy.md")
    assert [rule.dimension for rule in found.require] == ["cost_center", "team"]
    assert found.exemption[0].approved_by == "ada@example.com"


def test_registers_come_from_lists_and_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("# ours\nCC-1\n\nCC-2\n", "utf-8")
    (tmp_path / "b.csv").write_text("id,name\nCC-3,x\nCC-4,y\n", "utf-8")
    loaded = policy_files.load(
        policy(
            tmp_path,
            '[registers.a]\nfile = "a.txt"\nvalues = ["CC-0"]\n[registers.b]\nfile = "b.csv"\ncolumn = "id"\n',
        )
    )
    assert loaded.registers == {
        "a": frozenset({"CC-0", "CC-1", "CC-2"}),
        "b": frozenset({"CC-3", "CC-4"}),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('mod = "warn"', "mod: unexpected"),
        ('mode = "strict"', "mode: "),
        ("[[require]]\ndimension = 'colour'", "require.0.dimension"),
        ("[[require]]\ndimension = 'team'\nregister = 'x'", "there is no [registers.x]"),
        ("[[require]]\ndimension = 'team'\npattern = '('", "require.0.pattern"),
        ("[[limit]]\nname = 'a'\n[[limit]]\nname = 'a'", "'a' is there twice"),
        ("[calendar]\ntimezone = 'Mars/Base'", "no time zone 'Mars/Base'"),
        ("[calendar]\nopens = 20\ncloses = 8", "opens before it closes"),
        ("[registers.a]\nfile = 'none.txt'", "registers.a"),
        ("mode = ", "can't be parsed"),
        ("[[exemption]]\nname='a'\nreason='r'\napproved_by='x'\nwhen={}", "exemption.0.expires"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    told = refused(policy(tmp_path, text))
    assert words in told
    assert "gpuledger-policy.toml" in told or "none.txt" in told


@pytest.mark.parametrize("content", ["", "a: [", "- 1", "a: &a [*a]", "\x00"])
def test_yaml_that_is_no_policy_is_refused(tmp_path: Path, content: str) -> None:
    assert "p.yaml" in refused(policy(tmp_path, content, "p.yaml"))


def test_an_empty_register_is_refused_for_it_would_refuse_everything(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("# none\n", "utf-8")
    assert "lists no value" in refused(policy(tmp_path, "[registers.a]\nfile = 'a.txt'"))


def test_the_shipped_schema_is_that_of_the_code() -> None:
    path = DOCS / "reference" / "policy.schema.json"
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(json.dumps(policy_files.schema(), indent=2) + "\n", "utf-8")
    assert json.loads(path.read_text("utf-8")) == policy_files.schema()


MANIFEST = """\
apiVersion: v1
kind: Namespace
metadata: {name: ml, labels: {cost-center: CC-2}}
---
# a comment
---
apiVersion: batch/v1
kind: Job
metadata: {name: train, namespace: ml}
spec:
  template:
    spec:
      containers: [{name: a, image: x, resources: {limits: {nvidia.com/gpu: 2}}}]
"""


def entries(path: Path) -> list[Entry]:
    return list(read([path]))


def test_documents_of_a_file_have_their_lines_and_know_their_namespace(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(MANIFEST, "utf-8")
    first, second = entries(tmp_path)
    assert (first.label, first.line, first.reason) == ("Namespace/ml", 1, "runs no pods")
    assert (second.label, second.line) == ("Job/train", 7)
    assert second.submission is not None
    assert second.submission.offered["namespace"] == {"cost_center": "CC-2"}


def test_a_folder_is_read_by_what_its_files_hold(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "job.sh").write_text("#!/bin/sh\n#SBATCH --gpus=2\n", "utf-8")
    (tmp_path / "other.sh").write_text("echo no job\n", "utf-8")
    (tmp_path / "task.yaml").write_text("resources: {accelerators: 'H100:8'}\nrun: x\n", "utf-8")
    (tmp_path / "values.yaml").write_text("replicas: 2\n", "utf-8")
    (tmp_path / "list.json").write_text(
        json.dumps({"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}]}),
        "utf-8",
    )  # fmt: skip
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.yaml").write_text(MANIFEST, "utf-8")
    assert [entry.label for entry in entries(tmp_path)] == ["Pod/p", "SlurmJob/job", "SkyPilotTask/task"]


def _nested(depth: int) -> str:
    return "a: " + "[" * depth + "]" * depth


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [", "can't be parsed"),
        (b"\xff\xfe\x00", "isn't UTF-8"),
        (b"kind: {{ .Values.kind }}", "Render templates first"),
        (_nested(100_000).encode(), "can't be parsed"),
        (LAUGHS.encode(), "refers to itself"),
        (b"a: &a {b: *a}", "refers to itself"),
        (b"? [a]\n: b", "can't be parsed"),
        (b"when: 2026-13-45", "can't be parsed"),
    ],
)
def test_what_can_not_be_read_is_an_entry_with_the_reason_and_stops_nothing(
    tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "bad.yaml").write_bytes(content)
    (tmp_path / "good.yaml").write_text(MANIFEST, "utf-8")
    bad, *good = entries(tmp_path)
    assert (bad.unread, bad.submission) == (True, None)
    assert words in bad.reason
    assert [entry.label for entry in good] == ["Namespace/ml", "Job/train"]


def test_documents_before_a_broken_one_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(MANIFEST + "---\na: [\n", "utf-8")
    assert [entry.unread for entry in entries(tmp_path)].count(True) == 1
    assert [entry.label for entry in entries(tmp_path) if not entry.unread] == ["Namespace/ml", "Job/train"]
