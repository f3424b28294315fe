"""`policy render`: what each plane gets, that schemas accept it, and that nothing is left out without a word."""

import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from tests.surfaces.shell import Outcome, gpuledger

from gpuledger.core.policy.render import targets

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("rendered")
VERSIONS = ("1.36", "1.37")
ENFORCED = """\
mode = "enforce"
[registers.centers]
file = "centers.txt"
[[require]]
dimension = "cost_center"
register = "centers"
default_from = ["namespace"]
[[require]]
dimension = "team"
pattern = "[a-z]+(?=x)x"
when = { min_gpus = 8 }
[[limit]]
name = "large"
max_gpus = 4
max_cost_usd = 100
"""
CLOUDS = ("aws-scp", "azure-policy", "gcp-org-policy")
Json = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "centers.txt").write_text("CC-1\nCC-2\n")
    (tmp_path / "policy.toml").write_text(ENFORCED)
    found = re.search(r"```toml\n(version.*?)```", (ROOT / "docs" / "policy.md").read_text(), re.DOTALL)
    assert found
    (tmp_path / "docs.toml").write_text(found[1])
    (tmp_path / "ca.pem").write_text("synthetic, no certificate\n")
    return tmp_path


def run(folder: Path, target: str, *options: str, policy: str = "policy.toml") -> Outcome:
    given = ["policy", "render", "--target", target, "--policy", str(folder / policy)]
    if target == "webhook":
        given += ["--image", "registry.example/gpuledger:1", "--ca-bundle", str(folder / "ca.pem")]
    return gpuledger("--format", "json", *given, *options)


def rendered(
    folder: Path, target: str, policy: str = "policy.toml", *options: str
) -> tuple[Json, dict[str, list[Json]]]:
    out = folder / "out" / target
    result = run(folder, target, "--out", str(out), *options, policy=policy)
    assert result.code == 0, result.err
    files = {
        str(path.relative_to(out)): list(yaml.safe_load_all(path.read_text()))
        for path in sorted(out.rglob("*"))
        if path.suffix in {".yaml", ".yml", ".json"}
    }
    return result.document, files


@pytest.mark.parametrize("policy", ["policy.toml", "docs.toml"])
@pytest.mark.parametrize("target", ["vap", "map", "webhook"])
def test_what_kubernetes_gets_is_valid_by_its_own_schema(folder: Path, target: str, policy: str) -> None:
    _, files = rendered(folder, target, policy)
    documents = [one for found in files.values() for one in found if one["kind"] != "Kustomization"]
    assert documents
    for version in VERSIONS:
        for document in documents:
            kubernetes_validate.validate(document, version, strict=True)


def validations(document: Json) -> list[str]:
    return [one["message"] for one in document["spec"]["validations"]]


def test_a_policy_per_mode_is_bound_with_what_the_mode_means(folder: Path) -> None:
    _, files = rendered(folder, "vap", "docs.toml")
    found = files["validating-admission-policy.yaml"]
    actions = {
        one["spec"]["policyName"]: one["spec"]["validationActions"]
        for one in found
        if "policyName" in one["spec"]
    }
    assert actions == {"gpuledger-enforce": ["Deny", "Audit"], "gpuledger-warn": ["Warn", "Audit"]}
    golden = GOLDEN / "vap-messages.txt"
    messages = (
        "\n".join(f"{one['metadata']['name']}: {said}" for one in found[::2] for said in validations(one))
        + "\n"
    )
    assert messages == golden.read_text()


RESERVED = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
        "true",
        "false",
        "null",
        "in",
    ]
)


@pytest.mark.parametrize(("target", "place"), [("vap", "validations"), ("map", "mutations")])
def test_names_and_messages_are_as_an_api_server_allows_them(folder: Path, target: str, place: str) -> None:
    _, files = rendered(folder, target, "docs.toml")
    for document in next(iter(files.values())):
        names = [one["name"] for one in document["spec"].get("variables", ())]
        assert len(names) == len(set(names))
        assert all(re.fullmatch("[a-z_][a-z0-9_]*", name) and name not in RESERVED for name in names)
        for one in document["spec"].get(place, ()):
            assert "\n" not in one.get("message", "")
        for number, one in enumerate(document["spec"].get("variables", ())):  # only earlier ones can be used
            assert set(re.findall(r"\bvariables\.(\w+)", one["expression"])) <= set(names[:number])
            assert len(one["expression"]) < 100_000  # cel-go parses no longer one


@pytest.mark.parametrize("target", ["vap", "kyverno", "gatekeeper"])
def test_what_cel_can_not_say_stands_in_the_output_and_in_the_file(folder: Path, target: str) -> None:
    told, _ = rendered(folder, target)
    texts = [one["message"] for one in told["diagnostics"]]
    assert any(text.startswith("not enforced here: large: max_cost_usd") for text in texts)
    assert any(text.startswith("partly enforced here: team: RE2 has no such pattern") for text in texts)
    first = Path(told["rows"][0]["file"]).read_text()
    assert all(f"# {text}" in first for text in texts)
    assert told["totals"]["not_enforced"] == 1
    strict = run(folder, target, "--out", str(folder / "strict"), "--strict")
    assert strict.code == 1


def test_kyverno_has_the_same_expressions_as_the_admission_policy(folder: Path) -> None:
    _, ours = rendered(folder, "kyverno")
    _, theirs = rendered(folder, "vap")
    policy, admission = ours["kyverno.yaml"][0], theirs["validating-admission-policy.yaml"][0]
    assert (policy["apiVersion"], policy["kind"]) == ("policies.kyverno.io/v1", "ValidatingPolicy")
    assert policy["spec"]["validationActions"] == ["Deny", "Audit"]
    assert policy["spec"]["evaluation"]["background"] == {"enabled": False}
    for key in ("variables", "validations", "matchConstraints"):
        assert policy["spec"][key] == admission["spec"][key]


def test_gatekeeper_templates_have_what_their_engine_reads_and_constraints_name_them(folder: Path) -> None:
    _, files = rendered(folder, "gatekeeper", "docs.toml")
    templates, constraints = files["templates.yaml"], files["constraints.yaml"]
    for template, constraint in zip(templates, constraints, strict=True):
        kind = template["spec"]["crd"]["spec"]["names"]["kind"]
        assert (template["metadata"]["name"], constraint["kind"]) == (kind.lower(), kind)
        (target,) = template["spec"]["targets"]
        (code,) = target["code"]
        assert (target["target"], code["engine"]) == ("admission.k8s.gatekeeper.sh", "K8sNativeValidation")
        assert set(code["source"]) == {"failurePolicy", "variables", "validations"}
        assert all(
            set(one) <= {"expression", "message", "messageExpression"}
            for one in code["source"]["validations"]
        )
        assert not any(one["name"] in {"params", "anyObject"} for one in code["source"]["variables"])
    assert [one["spec"]["enforcementAction"] for one in constraints] == ["deny", "warn"]


def test_the_webhook_asks_about_cards_only_and_never_about_itself(folder: Path) -> None:
    _, files = rendered(folder, "webhook", "docs.toml", "--failure-policy", "Fail", "--namespace", "finops")
    mutating, validating = (one["webhooks"][0] for one in files["webhooks.yaml"])
    for webhook in (mutating, validating):
        assert webhook["namespaceSelector"]["matchExpressions"][0]["values"] == ["kube-system", "finops"]
        assert (webhook["failurePolicy"], webhook["timeoutSeconds"]) == ("Fail", 3)
        assert webhook["matchConditions"][0]["name"] == "asks-for-cards"
    assert (mutating["sideEffects"], validating["sideEffects"]) == ("NoneOnDryRun", "None")
    resources = files["kustomization.yaml"][0]["resources"]
    assert set(resources) == set(files) - {"kustomization.yaml"}
    deployment = files["deployment.yaml"][0]["spec"]
    assert deployment["replicas"] == 2
    assert "--leases-env" in deployment["template"]["spec"]["containers"][0]["args"]
    assert files["policy.yaml"][0]["data"]["docs.toml"] == (folder / "docs.toml").read_text()


def test_the_policy_in_the_webhooks_folder_brings_its_registers(folder: Path) -> None:
    _, files = rendered(folder, "webhook")
    assert files["policy.yaml"][0]["data"] == {"policy.toml": ENFORCED, "centers.txt": "CC-1\nCC-2\n"}


@pytest.mark.parametrize("missing", ["--image", "--ca-bundle"])
def test_the_webhook_is_refused_without_image_or_certificate(folder: Path, missing: str) -> None:
    given = [
        "policy",
        "render",
        "--target",
        "webhook",
        "--policy",
        str(folder / "policy.toml"),
        "--out",
        str(folder),
    ]
    both = {"--image": "x", "--ca-bundle": str(folder / "ca.pem")}
    both.pop(missing)
    result = gpuledger(*given, *(part for pair in both.items() for part in pair))
    assert result.code == 2
    assert f"Give {missing}" in result.err


@pytest.mark.parametrize("target", CLOUDS)
def test_clouds_get_what_they_can_keep_and_say_what_they_can_not(folder: Path, target: str) -> None:
    told, files = rendered(folder, target)
    rules = {one["source"].partition(": ")[2] for one in told["diagnostics"]}
    assert {"machines", "cost_center", "team", "large"} <= rules
    golden = GOLDEN / f"{target}.json"
    assert files == json.loads(golden.read_text())


def test_a_service_control_policy_can_not_warn(folder: Path) -> None:
    result = run(folder, "aws-scp", "--out", str(folder / "x"), policy="docs.toml")
    assert result.code == 2
    assert "can't warn" in result.err


def test_ci_checks_with_the_policy_and_the_hook_is_the_repositorys_own(folder: Path) -> None:
    _, files = rendered(folder, "ci")
    action = files[".github/actions/gpuledger-check/action.yml"][0]
    assert action["runs"]["using"] == "composite"
    assert action["inputs"]["policy"]["default"] == "policy.toml"
    assert files[".gitlab-ci.gpuledger.yml"][0]["gpuledger-check"]["script"][-1] == (
        "gpuledger check manifests/ --policy policy.toml"
    )
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert hook["entry"] == "gpuledger check"


def test_a_single_file_goes_to_standard_output_as_it_is(folder: Path) -> None:
    result = run(folder, "kyverno")
    assert [one["kind"] for one in yaml.safe_load_all(result.out)] == ["ValidatingPolicy"]
    assert "[policy-not-enforced] kyverno: large" in result.err
    several = run(folder, "gatekeeper")
    assert (several.code, several.out) == (2, "")
    assert "Give --out DIR" in several.err


def test_every_target_of_the_contract_exists() -> None:
    assert targets() == (
        *(
            "webhook",
            "vap",
            "map",
            "kyverno",
            "gatekeeper",
            "slurm",
            "aws-scp",
            "azure-policy",
            "gcp-org-policy",
            "ci",
        ),
    )
