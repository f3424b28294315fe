"""`gpuledger zombies` as a shell runs it: tools of this machine, files, schedulers, what is missing, exit codes."""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.core.kubernetes_objects import job, live_pod
from tests.surfaces.shell import Outcome, gpuledger, installed
from tests.telemetry.fake_api_server import FakeApiServer

SHARED = Path(os.environ.get("GPULEDGER_SHARED", "../shared")) / "data/k8s"
XML = """\
<?xml version="1.0" ?>
<nvidia_smi_log><driver_version>535.54.03</driver_version>
<gpu id="1"><product_name>NVIDIA A100-SXM4-80GB</product_name><uuid>GPU-idle</uuid>
<fb_memory_usage><total>81920 MiB</total><used>40000 MiB</used></fb_memory_usage>
<utilization><gpu_util>0 %</gpu_util></utilization>
<processes><process_info><pid>4711</pid><type>C</type><process_name>python</process_name></process_info></processes></gpu>
<gpu id="2"><product_name>NVIDIA A100-SXM4-80GB</product_name><uuid>GPU-free</uuid>
<fb_memory_usage><total>81920 MiB</total><used>4 MiB</used></fb_memory_usage>
<utilization><gpu_util>0 %</gpu_util></utilization></gpu>
<gpu id="3"><product_name>NVIDIA A100-SXM4-80GB</product_name><uuid>GPU-busy</uuid>
<utilization><gpu_util>91 %</gpu_util></utilization></gpu>
<gpu id="4"><product_name>Something New</product_name><uuid>GPU-odd</uuid>
<utilization><gpu_util>N/A</gpu_util></utilization></gpu>
</nvidia_smi_log>
"""
ROCM = '{"card0": {"GPU use (%)": "0", "Card Series": "AMD Instinct MI300X", "Unique ID": "0xabc"}}'


def zombies(*words: object, form: str = "json", **environ: str) -> Outcome:
    """Run the verb where there is nothing but what a test puts there."""
    nothing = {"PATH": "/nonexistent", "HOME": "/nonexistent", "KUBECONFIG": "", "PROMETHEUS_URL": ""}
    return gpuledger("--format", form, "zombies", *words, environ={**nothing, **environ})


@pytest.fixture
def smi(tmp_path: Path) -> Path:
    path = tmp_path / "smi.xml"
    path.write_text(XML)
    return path


def tool(folder: Path, body: str) -> str:
    """Put an nvidia-smi onto a PATH of its own."""
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def test_one_look_at_a_machine(smi: Path) -> None:
    run = zombies("--nvidia-smi", smi, "--all", "--price", "2.5")
    rows = {row["gpu"]: row for row in run.document["rows"]}
    assert {gpu: (row["state"], row["candidate"], row["verdict"]) for gpu, row in rows.items()} == {
        "GPU-idle": ("held-idle", True, False),
        "GPU-free": ("unallocated", True, False),
        "GPU-busy": ("busy", False, False),
        "GPU-odd": ("unknown", False, False),
    }
    assert rows["GPU-idle"]["reclaim"] == "kill 4711"
    assert (rows["GPU-idle"]["usd_per_hour"], rows["GPU-idle"]["wasted_usd"]) == ("2.5", None)
    totals = run.document["totals"]
    assert (totals["gpus"], totals["zombies"], totals["unknown"], totals["usd_per_hour"]) == (4, 2, 1, "5")
    assert run.code == 0  # candidates are no verdicts


def test_list_prices_are_lower_bounds_and_unknown_models_unpriced(smi: Path, tmp_path: Path) -> None:
    (row, *_) = zombies("--nvidia-smi", smi).document["rows"]
    assert row["price_basis"].startswith("at least: ")
    odd = tmp_path / "odd.csv"
    odd.write_text("uuid, name, utilization.gpu [%]\nGPU-z, Something New, 0 %\n")
    run = zombies("--nvidia-smi", odd, "--fail-over", "1000")
    assert run.document["rows"][0]["usd_per_hour"] is None
    assert (run.document["totals"]["unpriced"], run.document["totals"]["usd_per_hour"]) == (1, None)
    assert run.code == 1  # what has no price isn't under any limit


@pytest.mark.parametrize(("limit", "code"), [("4.99", 1), ("5", 0)])
def test_fail_over(smi: Path, limit: str, code: int) -> None:
    assert zombies("--nvidia-smi", smi, "--price", "2.5", "--fail-over", limit).code == code


def test_nothing_seen_is_never_all_fine() -> None:
    run = zombies()
    assert run.code == 3
    assert (run.document["totals"]["zombies"], run.document["totals"]["usd_per_hour"]) == (None, None)
    looked, unknown = run.document["diagnostics"]
    assert looked["code"] == "zombies-looked-for"
    for name in ("nvidia-smi", "rocm-smi", "kubeconfig", "sinfo", "PROMETHEUS_URL"):
        assert name in looked["message"]
    assert (unknown["code"], unknown["severity"]) == ("zombies-unknown", "error")


def test_cards_that_nobody_measures_are_unknown_not_fine(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("uuid, name, mig.mode.current, utilization.gpu [%]\nGPU-m, NVIDIA H100, Enabled, [N/A]\n")
    run = zombies("--nvidia-smi", path)
    assert (run.code, run.document["rows"][0]["state"]) == (3, "unknown")


def test_a_source_that_fails_leaves_the_others(smi: Path, tmp_path: Path) -> None:
    run = zombies("--nvidia-smi", smi, "--dcgm", tmp_path / "missing")
    assert len(run.document["rows"]) == 3
    assert [told["code"] for told in run.document["diagnostics"]] == ["zombies-source-failed"]
    assert run.code == 3  # asked for, and not answered


def test_a_tool_on_the_path_is_found_and_run(tmp_path: Path, smi: Path) -> None:
    run = zombies(PATH=tool(tmp_path, f"cat {smi}"))
    assert run.code == 0
    assert run.document["totals"]["gpus"] == 4
    assert run.document["rows"][0]["node"] is not None


def test_a_tool_that_fails(tmp_path: Path) -> None:
    run = zombies("--nvidia-smi", PATH=tool(tmp_path, "echo Unable to determine the device handle; exit 15"))
    assert run.code == 3
    assert "Unable to determine the device handle" in run.document["diagnostics"][0]["message"]


def test_amd_cards(tmp_path: Path) -> None:
    path = tmp_path / "rocm.json"
    path.write_text(ROCM)
    (row,) = zombies("--amd-smi", path).document["rows"]
    assert (row["gpu"], row["gpu_model"], row["state"]) == ("0xabc", "MI300X", "unallocated")


# Every DCGM page that is published beside the trace, and what its only card is doing by its own figures.
PAGES = {"kops": ("L4", "unallocated", True), "t4_ericsson": ("T4", "busy", False)}


@pytest.mark.shared
def test_every_published_page_of_an_exporter() -> None:
    pages = {path.stem: path for path in (SHARED / "dcgm-exporter").glob("*.prom")}
    if not pages:
        pytest.skip(f"no sample data: {SHARED} (GPULEDGER_SHARED)")
    assert set(pages) == set(PAGES)
    for name, path in pages.items():
        run = zombies("--dcgm", path, "--all")
        (row,) = run.document["rows"]
        assert (row["gpu_model"], row["state"], row["candidate"]) == PAGES[name]
        assert run.document["diagnostics"] == []
        assert run.code == 0


@pytest.mark.shared
def test_every_published_page_of_a_model_server(smi: Path) -> None:
    pages = list((SHARED / "vllm").glob("*.prom"))
    if not pages:
        pytest.skip(f"no sample data: {SHARED} (GPULEDGER_SHARED)")
    for path in pages:
        # As an exporter's page it has no card, and that is said.
        run = zombies("--dcgm", path)
        assert "no DCGM metric" in run.document["diagnostics"][0]["message"]
        assert run.code == 3
        # As a server's page it makes the card with memory in use a warm replica: it has served one request.
        run = zombies("--nvidia-smi", smi, "--serving", path)
        rows = {row["gpu"]: row for row in run.document["rows"]}
        assert rows["GPU-idle"]["guard"] == "warm replica: 1 request in the time looked back on"
        assert (rows["GPU-idle"]["candidate"], rows["GPU-idle"]["reclaim"]) == (False, None)
        assert rows["GPU-free"]["state"] == "unallocated"


@pytest.mark.shared
def test_published_pages_that_tell_nothing_of_cards_are_no_all_clear() -> None:
    pages = list((SHARED / "kube-state-metrics").glob("*.prom"))
    if not pages:
        pytest.skip(f"no sample data: {SHARED} (GPULEDGER_SHARED)")
    for path in pages:
        run = zombies("--dcgm", path)
        assert (run.code, run.document["totals"]["zombies"]) == (3, None)


def test_slack_text_is_escaped(tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_text(
        'DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-1",modelName="Tesla T4",namespace="a",pod="<!channel>&`x`"} 0\n'
    )
    run = zombies("--dcgm", path, "--slack", "--price", "1")
    assert run.out.startswith("*1 of 1 GPUs idle, $1.00/h* (1 candidate)")
    assert "&lt;!channel&gt;&amp;" in run.out
    assert "<!channel>" not in run.out


def test_blocks_for_people_fit_80_columns(smi: Path) -> None:
    run = zombies("--nvidia-smi", smi, "--price", "2.5", form="table", COLUMNS="80")
    assert run.out.startswith("2 of 4 GPUs idle, $5.00/h (2 candidates, 1 busy, 1 unknown)\n")
    assert (
        "held-idle?   GPU-idle  $2.50/h, A100\n    engine ≤ 0 %, one look only, 39.1 GiB resident" in run.out
    )
    assert "    $ kill 4711\n" in run.out
    assert "Prices per card: typed." in run.out
    assert max(map(len, run.out.splitlines())) <= 80


def test_cards_of_one_job_are_one_block(tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.write_text(
        "".join(
            f'DCGM_FI_DEV_GPU_UTIL{{gpu="{gpu}",UUID="GPU-aaaaaaaa-{gpu}",modelName="Tesla T4",Hostname="n1",'
            'namespace="ml",pod="train-0"} 0\n'
            for gpu in range(4)
        )
    )
    run = zombies("--dcgm", page, "--price", "1", form="table", COLUMNS="80")
    assert "GPU-aaaaaaaa-0 and 3 more  $4.00/h, 4 × T4, on n1\n    ml: train-0\n" in run.out
    assert run.out.count("kubectl -n ml delete pod train-0") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--min-idle", "soon"), "no length of time"),
        (("--min-idle", "0m"), "no length of time"),
        (("--price", "NaN"), "no amount"),
        (("--price", "-1"), "no amount"),
        (("--idle-at-most", "100"), "every card is idle"),
        (("--at", "noon"), "no time"),
        (("--match", "cluster"), "no LABEL=VALUE"),
        (("--look-back", "5m"), "shorter than"),
        (("--history",), "only Prometheus has a history"),
    ],
)
def test_options_that_make_no_sense(words: tuple[str, ...], said: str) -> None:
    run = zombies(*words)
    assert run.code == 2
    assert said in run.err
    assert "Hint:" in run.err


NOW = datetime.now(UTC).replace(microsecond=0)


def t(minutes: float) -> str:
    return (NOW + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    return str(tmp_path / "config")


def cluster(server: FakeApiServer, kubeconfig: str) -> None:
    """A node of four cards: one pod has two of them, another is gone."""
    Path(kubeconfig).write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "current-context": "dev",
                "contexts": [{"name": "dev", "context": {"cluster": "c"}}],
                "clusters": [{"name": "c", "cluster": {"server": server.url}}],
            }
        )
    )
    size = {"cpu": "32", "memory": "256Gi", "nvidia.com/gpu": "4"}
    node = {
        "metadata": {"name": "n1", "uid": "n1", "creationTimestamp": t(-600)},
        "status": {"capacity": size},
    }
    server.put("nodes", node)
    owner = job("Job", "train", t(-300))
    server.put("jobs", owner)
    pod = live_pod(
        "train-a", t(-300), owner=owner, gpus=2, node="n1", scheduled=t(-300), runs=[(t(-300), None)]
    )
    pod["status"]["startTime"] = t(-300)
    server.put("pods", pod)


@pytest.mark.server
def test_a_cluster_alone_tells_what_nobody_has(kubeconfig: str) -> None:
    with FakeApiServer().running() as server:
        cluster(server, kubeconfig)
        run = zombies("--kube", KUBECONFIG=kubeconfig)
    states = [(row["state"], row["candidate"], row["job"]) for row in run.document["rows"]]
    assert states == [("unallocated", True, None)] * 2 + [("unknown", False, "Job/train")] * 2
    assert run.document["totals"]["unknown"] == 2


@pytest.mark.server
def test_a_cluster_says_whose_the_cards_of_an_exporter_are(kubeconfig: str, tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.write_text(
        "".join(
            f'DCGM_FI_DEV_{name}{{gpu="{gpu}",UUID="GPU-{gpu}",modelName="Tesla T4",Hostname="n1"{pod}}} {value}\n'
            for gpu, pod in enumerate(
                (
                    ',namespace="ml",pod="train-a"',
                    ',namespace="ml",pod="train-a"',
                    ',namespace="ml",pod="ghost"',
                    "",
                )
            )
            for name, value in (("GPU_UTIL", 0), ("FB_USED", 0 if gpu == 3 else 9000))
        )
    )
    with FakeApiServer().running() as server:
        cluster(server, kubeconfig)
        run = zombies("--kube", "--dcgm", page, KUBECONFIG=kubeconfig)
    rows = {row["gpu"]: row for row in run.document["rows"]}
    assert {gpu: row["state"] for gpu, row in rows.items()} == {
        "GPU-0": "held-idle",
        "GPU-1": "held-idle",
        "GPU-2": "orphan",
        "GPU-3": "unallocated",
    }
    assert (rows["GPU-0"]["job"], rows["GPU-0"]["reclaim"]) == ("Job/train", "kubectl -n ml delete job/train")


def test_watching_makes_a_look_back(smi: Path, tmp_path: Path) -> None:
    """Looking again is a look-back: an idle card gets its verdict once it was idle long enough."""
    words = [
        *("--format", "json", "zombies", "--nvidia-smi", str(smi), "--watch", "1", "--min-idle", "1s"),
        *("--price", "1"),
    ]
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; from gpuledger.surfaces.cli import main; main(sys.argv[1:])", *words],
        stdout=subprocess.PIPE, text=True, cwd=tmp_path,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        text, found = "", []
        for line in process.stdout:
            text += line
            if line == "}\n":
                found.append(json.loads(text))
                text = ""
            if len(found) == 3:
                break
        process.terminate()
    assert found[0]["totals"]["candidates"] == 2
    assert found[2]["totals"]["verdicts"] == 2


def test_a_look_at_this_machine_starts_no_engine(smi: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom gpuledger.surfaces.cli import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n"
        "    print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    words = ["--format", "json", "zombies", "--nvidia-smi", str(smi)]
    run = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert run.returncode == 0
    assert set(run.stderr.split()) & {"duckdb", "deltalake", "pydantic", "httpx", "fastapi", "rich"} == set()
    began = time.monotonic()
    assert installed(tmp_path, *words).code == 0
    assert time.monotonic() - began < 2
