"""The webhook's answers: specification-conformant AdmissionReviews, no API server anywhere."""

import asyncio
import json
import os
from collections.abc import MutableMapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.surfaces.admission_world import NOW, POLICY, World, applied, job, patch_in, review, world

from gpuledger.core.policy import History
from gpuledger.core.policy.decide import budget_of
from gpuledger.core.policy.patches import templates_below
from gpuledger.errors import ConfigError
from gpuledger.pipeline.leases import Leases
from gpuledger.surfaces.admission.state import read_snapshot, snapshot_document

CENTER = "gpuledger.io/cost-center"
ASKED = "gpuledger.io/requested-by"
BUDGET = '[[budget]]\nname = "b"\nowner = "grace"\namount_usd = 200\nmatch = { cost_center = "CC-1" }\n'


@pytest.fixture
def hook(tmp_path: Path) -> World:
    return world(tmp_path)


def test_a_gpu_job_without_a_cost_center_is_refused_in_words(hook: World) -> None:
    found = hook.response(job())
    assert found["allowed"] is False
    assert found["status"] == {
        "message": f"gpuledger: cost_center is missing. Add the label {CENTER} (CC-1, CC-2).",
        "status": "Failure", "reason": "Forbidden", "code": 403,
    }  # fmt: skip
    assert "patch" not in found
    assert found["auditAnnotations"]["decision"] == "deny"


def test_one_with_a_cost_center_is_allowed_patched_and_priced(hook: World) -> None:
    obj = job({CENTER: "CC-1"})
    found = hook.response(obj)
    assert found["allowed"] is True
    assert found["warnings"] == ["gpuledger: 8 × H100, 16.00 USD an hour, 160.00 USD by its deadline"]
    assert found["patchType"] == "JSONPatch"
    after = applied(obj, patch_in(found))
    assert after["metadata"]["annotations"] == {ASKED: "ada"}
    assert after["spec"]["template"]["metadata"]["labels"] == {CENTER: "CC-1"}
    assert after["spec"]["template"]["spec"] == obj["spec"]["template"]["spec"]


def test_a_namespace_fills_in_what_is_missing(tmp_path: Path) -> None:
    space = {"kind": "Namespace", "metadata": {"name": "ml", "labels": {"cost-center": "CC-2"}}}
    hook = world(tmp_path, fetch_namespaces=lambda: {"ml": space})
    hook.state.refresh_namespaces()
    obj = job()
    found = hook.response(obj)
    assert found["allowed"] is True
    after = applied(obj, patch_in(found))
    assert after["metadata"]["labels"] == {CENTER: "CC-2"}
    assert after["spec"]["template"]["metadata"]["labels"] == {CENTER: "CC-2"}


def test_a_patch_is_idempotent(hook: World) -> None:
    obj = job({CENTER: "CC-1"})
    after = applied(obj, patch_in(hook.response(obj)))
    assert patch_in(hook.response(after)) == []


def test_validate_decides_and_writes_nothing(hook: World) -> None:
    assert "patch" not in hook.response(job({CENTER: "CC-1"}), "/validate")
    assert hook.response(job(), "/validate")["allowed"] is False


def test_a_spoofed_requester_is_corrected_and_an_update_keeps_the_first(hook: World) -> None:
    spoofed = job({CENTER: "CC-1", ASKED: "grace"}, annotations={ASKED: "grace"})
    after = applied(spoofed, patch_in(hook.response(spoofed)))
    assert after["metadata"]["annotations"][ASKED] == "ada"
    assert ASKED not in after["metadata"]["labels"]
    changed = json.loads(json.dumps(after))
    changed["metadata"]["annotations"][ASKED] = "mallory"
    kept = applied(
        changed,
        patch_in(
            hook.response(changed, operation="UPDATE", oldObject=after, userInfo={"username": "mallory"})
        ),
    )
    assert kept["metadata"]["annotations"][ASKED] == "ada"


def test_who_pays_can_not_be_changed_and_a_jobs_template_is_left_alone_on_update(hook: World) -> None:
    old, new = job({CENTER: "CC-1"}), job({CENTER: "CC-2"})
    found = hook.response(new, operation="UPDATE", oldObject=old)
    assert "can't be changed from 'CC-1' to 'CC-2'" in found["status"]["message"]
    assert patch_in(hook.response(old, operation="UPDATE", oldObject=old)) == []


def test_what_a_controller_makes_is_checked_for_attribution_alone(tmp_path: Path) -> None:
    hook = world(tmp_path, POLICY + '[[limit]]\nname = "small"\nmax_gpus = 1\n')
    owner = [
        {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "name": "js",
            "uid": "u-1",
            "controller": True,
        }
    ]
    assert hook.response(job({CENTER: "CC-1"}))["allowed"] is False
    child = hook.response(job({CENTER: "CC-1"}, ownerReferences=owner))
    assert child["allowed"] is True
    assert "warnings" not in child
    assert hook.response(job(ownerReferences=owner))["allowed"] is False


@pytest.mark.parametrize(
    ("request_", "obj"),
    [
        ({"operation": "DELETE"}, None),
        ({"operation": "CONNECT"}, {"kind": "PodExecOptions", "apiVersion": "v1"}),
        ({}, {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "s"}}),
        ({"subResource": "scale"}, {"kind": "Scale", "apiVersion": "autoscaling/v1"}),
    ],
)
def test_what_no_rule_is_for_is_allowed_without_a_word(
    hook: World, request_: dict[str, Any], obj: object
) -> None:
    assert hook.response(obj, **request_) == {"uid": "r-1", "allowed": True}


def test_a_job_without_cards_is_left_alone(hook: World) -> None:
    obj = job()
    obj["spec"]["template"]["spec"]["containers"][0]["resources"] = {}
    found = hook.response(obj)
    assert found["allowed"] is True
    assert not {"patch", "warnings"} & set(found)


@pytest.mark.parametrize(
    ("mode", "allowed", "warned"), [("audit", True, 1), ("warn", True, 2), ("off", True, 0)]
)
def test_milder_modes_let_through(tmp_path: Path, mode: str, allowed: bool, warned: int) -> None:  # noqa: FBT001 - a column
    hook = world(tmp_path, POLICY.replace("enforce", mode))
    found = hook.response(job())
    assert (found["allowed"], len(found.get("warnings", []))) == (allowed, warned)
    if mode != "off":
        assert found["auditAnnotations"]["would"] == "deny"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "isn't JSON"),
        (b"\xff\xfe", "isn't JSON"),
        (b"[]", "isn't an AdmissionReview"),
        (b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v2"}', "apiVersion"),
        (b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}', "no request"),
        (b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {"uid": 7}}', "uid"),
        (b"[" * 200_000, "isn't JSON"),
    ],
)
def test_what_is_no_review_is_a_400_with_the_reason(hook: World, body: bytes, words: str) -> None:
    status, document = hook.ask(body)
    assert status == 400
    assert words in document["error"]


def test_other_methods_and_paths(hook: World) -> None:
    assert hook.ask(b"", method="GET")[0] == 405
    assert hook.ask(b"", "/other", "GET")[0] == 404
    assert hook.ask(b"", "/healthz", "GET")[0] == 200
    assert hook.ask(b"", "/readyz", "GET")[0] == 503
    hook.webhook.ready = True
    assert hook.ask(b"", "/readyz", "GET")[0] == 200


def test_an_object_of_5_mb_is_answered_and_one_of_9_is_refused(hook: World) -> None:
    big = job({CENTER: "CC-1"}, annotations={"data": "x" * 5_000_000})
    assert hook.response(big)["allowed"] is True
    status, document = hook.ask(review(job(annotations={"data": "x" * 9_000_000})))
    assert (status, document["error"]) == (413, "the body is larger than 8 MiB")


def test_deep_nesting_is_no_way_in(hook: World) -> None:
    deep: dict[str, Any] = {}
    for _ in range(400):
        deep = {"a": [deep]}
    obj = job()
    obj["spec"]["deep"] = deep
    assert hook.response(obj)["allowed"] is False


def test_old_reviews_are_answered_in_their_version(hook: World) -> None:
    status, document = hook.ask(review(job()) | {"apiVersion": "admission.k8s.io/v1beta1"})
    assert (status, document["apiVersion"]) == (200, "admission.k8s.io/v1beta1")


# Budgets


@pytest.fixture
def paid(tmp_path: Path) -> World:
    leases = Leases(f"sqlite:///{tmp_path / 'leases.sqlite'}", grace=timedelta(hours=1))
    return world(tmp_path, POLICY + BUDGET, leases)


def left(hook: World) -> Decimal:
    budget = budget_of(hook.state.memory.policy, {"cost_center": "CC-1"})
    leases = hook.webhook._leases
    assert budget is not None
    assert leases is not None
    return leases.left(budget, NOW)


def test_an_admission_reserves_and_the_next_one_is_refused_by_name_owner_remainder_and_reset(
    paid: World,
) -> None:
    found = paid.response(job({CENTER: "CC-1"}, uid="u-1"))
    assert found["warnings"][0].endswith("160.00 USD by its deadline; budget b had 200.000000 USD left")
    assert left(paid) == 40
    found = paid.response(job({CENTER: "CC-1"}, uid="u-2"))
    assert found["allowed"] is False
    assert (
        "budget b has 40.000000 USD left, this needs 160.00 USD. Ask grace, or wait for the next month."
        in (found["status"]["message"])
    )
    assert left(paid) == 40


def test_the_same_object_asked_again_reserves_once(paid: World) -> None:
    for number in range(3):
        assert paid.response(job({CENTER: "CC-1"}, uid="u-1"), uid=f"r-{number}")["allowed"] is True
    assert left(paid) == 40


def test_dry_runs_updates_and_validation_reserve_nothing(paid: World) -> None:
    obj = job({CENTER: "CC-1"}, uid="u-1")
    assert paid.response(obj, dryRun=True)["allowed"] is True
    assert paid.response(obj, operation="UPDATE", oldObject=obj)["allowed"] is True
    assert paid.response(obj, "/validate")["allowed"] is True
    assert left(paid) == 200


def test_a_dry_run_is_refused_by_what_was_left_a_moment_ago(paid: World) -> None:
    paid.response(job({CENTER: "CC-1"}, uid="u-1"))
    assert paid.response(job({CENTER: "CC-1"}, uid="u-2"), dryRun=True)["allowed"] is False


def test_pods_confirm_their_jobs_lease(paid: World) -> None:
    paid.response(job({CENTER: "CC-1"}, uid="u-1"))
    owner = [{"apiVersion": "batch/v1", "kind": "Job", "name": "train", "uid": "u-1", "controller": True}]
    paid.response(job({CENTER: "CC-1"}, kind="Pod", ownerReferences=owner))
    leases = paid.webhook._leases
    assert leases is not None
    assert [lease.state for lease in leases.all(NOW + timedelta(days=1))] == ["running"]


def test_a_cost_that_can_not_be_told_is_not_reserved_but_refused(paid: World) -> None:
    obj = job({CENTER: "CC-1"})
    del obj["spec"]["activeDeadlineSeconds"]
    found = paid.response(obj)
    assert found["allowed"] is False
    assert "Set a deadline" in found["status"]["message"]


@pytest.mark.parametrize(("without", "allowed"), [("deny", False), ("allow", True)])
def test_a_store_that_fails_decides_as_the_policy_says(tmp_path: Path, without: str, allowed: bool) -> None:  # noqa: FBT001 - a column
    hook = world(tmp_path, f'without_store = "{without}"\n' + POLICY + BUDGET)
    found = hook.response(job({CENTER: "CC-1"}))
    assert found["allowed"] is allowed
    assert "gpuledger_admission_store_failures_total 1" in hook.ask(b"", "/metrics", "GET")[1]["text"]


# Reload, log, metrics


def test_a_changed_policy_is_read_and_a_broken_one_is_not(
    hook: World, caplog: pytest.LogCaptureFixture
) -> None:
    path = hook.state.policy
    path.write_text(POLICY.replace("enforce", "warn"), "utf-8")
    os.utime(path, ns=(1, 1))
    assert hook.state.reload()
    assert hook.response(job())["allowed"] is True
    path.write_text("mode = 'strict'", "utf-8")
    os.utime(path, ns=(2, 2))
    assert not hook.state.reload()
    assert hook.state.memory.policy.mode == "warn"
    assert "stays as it was" in caplog.text
    assert (hook.state.failures, hook.state.reloads) == (1, 1)
    assert not hook.state.reload(), "a broken policy is told once, not every two seconds"
    assert hook.state.failures == 1


def test_a_register_that_can_not_be_reached_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "centers.txt").write_text("CC-9\n", "utf-8")
    policy = (
        POLICY.replace('values = ["CC-1", "CC-2"]', 'register = "r"')
        + '[registers.r]\nfile = "centers.txt"\n'
    )
    hook = world(tmp_path, policy)
    (tmp_path / "centers.txt").unlink()
    assert not hook.state.reload()
    assert hook.response(job({CENTER: "CC-9"}))["allowed"] is True


def test_the_log_says_who_and_what_and_nothing_of_the_object(hook: World) -> None:
    hook.response(job({CENTER: "CC-1", "secret": "hush"}))
    hook.response(job())
    first, second = hook.entries()
    assert (first["user"], first["kind"], first["namespace"], first["decision"], first["gpus"]) == (
        "ada", "Job", "ml", "allow", "8",
    )  # fmt: skip
    assert (first["cost-p90-usd"], first["missing"]) == ("160.00", [])
    assert (second["decision"], second["missing"]) == ("deny", ["cost_center"])
    assert "hush" not in hook.log.getvalue()


def test_metrics_count_by_decision(hook: World) -> None:
    hook.response(job())
    hook.response(job({CENTER: "CC-1"}))
    hook.ask(b"{}")
    text = hook.ask(b"", "/metrics", "GET")[1]["text"]
    assert 'gpuledger_admission_requests_total{operation="CREATE",decision="deny",mode="enforce"} 1' in text
    assert 'gpuledger_admission_rejected_total{reason="not a review"} 1' in text
    assert "gpuledger_admission_duration_seconds_count 2" in text


def test_rates_and_runs_come_from_a_snapshot(tmp_path: Path) -> None:
    history = History({("Job", "ml", "train"): [Decimal(hours) for hours in (1, 2, 3, 4, 5)]})
    path = tmp_path / "snapshot.json"
    path.write_text(json.dumps(snapshot_document({"H100": Decimal("1.5")}, history, NOW)), "utf-8")
    assert read_snapshot(path) == ({"H100": Decimal("1.5")}, history)
    hook = world(tmp_path, POLICY.split("[[price]]")[0], snapshot=path)
    found = hook.response(job({CENTER: "CC-1"}))
    # 8 cards × 1.50 USD × 3 h, and × 5 h
    assert found["warnings"] == [
        "gpuledger: 8 × H100, 12.00 USD an hour, 36.00 USD expected, 9 of 10 below 60.00 USD"
    ]
    path.write_text("{}", "utf-8")
    with pytest.raises(ConfigError, match="isn't a snapshot"):
        read_snapshot(path)


def test_every_template_is_found_with_its_pointer() -> None:
    pod: dict[str, Any] = {"spec": {"containers": []}}
    obj = {
        "spec": {"replicatedJobs": [{"template": {"spec": {"template": pod}}}, {"a/b~c": pod}]},
        "status": pod,
    }
    assert [path for path, _ in templates_below(obj)] == [
        "/spec/replicatedJobs/0/template/spec/template",
        "/spec/replicatedJobs/1/a~1b~0c",
    ]


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(
    place=st.sampled_from(
        ["metadata", "labels", "annotations", "spec", "template", "containers", "resources", "limits"]
    ),
    value=JSON,
    request_=st.dictionaries(
        st.sampled_from(["operation", "namespace", "userInfo", "oldObject", "name", "dryRun"]), JSON
    ),
)
def test_law_no_object_is_a_500_and_none_gets_in_without_a_cost_center(
    tmp_path_factory: pytest.TempPathFactory, place: str, value: object, request_: dict[str, Any]
) -> None:
    hook = world(tmp_path_factory.mktemp("fuzz"))
    obj = job()
    spec = obj["spec"]["template"]["spec"]
    at: dict[str, dict[str, Any]] = {
        "metadata": obj, "labels": obj["metadata"], "annotations": obj["metadata"], "spec": obj, "template": obj["spec"],
        "containers": spec, "resources": spec["containers"][0], "limits": spec["containers"][0]["resources"],
    }  # fmt: skip
    at[place][place] = value
    status, document = hook.ask(review(obj, **request_))
    assert status in {200, 400}, document
    if (
        status == 200
        and place in {"metadata", "annotations"}
        and request_.get("operation", "CREATE") == "CREATE"
    ):
        controlled = isinstance(value, dict) and "ownerReferences" in value
        assert document["response"]["allowed"] is False or controlled


def test_the_loop_is_not_held_by_a_slow_client(hook: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuledger.surfaces.admission.app._READ_SECONDS", 0.05)
    sent: list[MutableMapping[str, Any]] = []

    async def never() -> dict[str, Any]:
        await asyncio.sleep(30)
        return {}

    async def collect(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(hook.webhook({"type": "http", "path": "/mutate", "method": "POST"}, never, collect))
    assert sent[0]["status"] == 408
