"""Training logs into intervals: steps, tokens, what was lost and saved. All logs are synthetic, after the trainers' own form."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gpuledger.pipeline import token_files
from gpuledger.pipeline.ledger import Ledger

COLUMNS = "run_id, extract(minute FROM start), tokens, steps, step_seconds_sum, useful_seconds, lost_seconds, loss, checkpoints, last_checkpoint_step, checkpoint_used"


def told(
    tmp_path: Path, type_name: str, files: dict[str, str], columns: str = COLUMNS
) -> tuple[list[tuple[Any, ...]], list[str]]:
    for name, text in files.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    ledger = Ledger(str(tmp_path / "ledger"))
    report = token_files.ingest(ledger, type_name, str(tmp_path / "in"))
    con = ledger.connect()
    try:
        found = con.execute(f"SELECT {columns} FROM training_interval ORDER BY run_id, start").fetchall()
        return found, [one.code for one in report.diagnostics]
    finally:
        con.close()


TITAN = """[rank0]:[titan] 2026-11-02 08:00:00,000 - root - INFO - Starting job: Llama 3 8B
[rank0]:[titan] 2026-11-02 08:01:30,000 - root - INFO - Loading the checkpoint from ./ckpt/step-100.
[rank0]:[titan] 2026-11-02 08:01:40,000 - root - INFO - Finished loading the checkpoint in 10.00 seconds.
[rank0]:[titan] 2026-11-02 08:01:50,500 - root - INFO - Trainer is initialized with local batch size 2, global batch size 16, gradient accumulation steps 1, sequence length 8192, total steps 1000 (warmup 200).
[rank0]:[titan] 2026-11-02 08:02:00,000 - root - INFO - Training starts at step 101
[rank0]:[titan] 2026-11-02 08:02:30,000 - root - INFO - \x1b[31mstep: 110  \x1b[32mloss:  4.5000  \x1b[33mmemory: 47.75GiB(50.2%)  \x1b[34mtps: 5,461  \x1b[36mtflops: 50.00  \x1b[35mmfu: 5.1%\x1b[39m
[rank0]:[titan] 2026-11-02 08:02:31,000 - root - INFO - Saving the checkpoint (or staging if async is enabled).
[rank0]:[titan] 2026-11-02 08:02:36,000 - root - INFO - Finished saving the checkpoint (or staging if async is enabled) in 5.00 seconds.
[rank0]:[titan] 2026-11-02 08:03:05,000 - root - INFO - step: 120  loss:  4.2500  memory: 47.75GiB(50.2%)  tps: 5,461  mfu: 5.1%
"""


def test_torchtitan(tmp_path: Path) -> None:
    found, codes = told(tmp_path, "torchtitan", {"llama/attempt-2.log": TITAN})
    assert codes == []
    assert found == [
        (
            "llama", 0, 20 * 16 * 8192, 20, 60, 60,
            {"startup": 20, "checkpoint_save": 5, "checkpoint_restore": 10}, Decimal("4.25"), 1, 110, True,
        )
    ]  # fmt: skip


def test_torchtitan_without_its_beginning_knows_no_tokens(tmp_path: Path) -> None:
    lines = [line for line in TITAN.splitlines() if "step: 1" in line]
    found, codes = told(
        tmp_path,
        "torchtitan",
        {"run.log": "\n".join(lines)},
        "run_id, tokens, steps, step_seconds_sum, checkpoint_used",
    )
    assert found == [("run", None, 10, 35, None)]
    assert codes == ["tokens-unknown"]


MEGATRON = """------------------------ arguments ------------------------
  global_batch_size ............................... 128
  seq_length ...................................... 4096
 [2026-11-02 07:59:20] iteration       10/    5000 | consumed samples:         1280 | elapsed time per iteration (ms): 2000.0 | throughput per GPU (TFLOP/s/GPU): 80.2 | learning rate: 6.9E-08 | global batch size:   128 | lm loss: 1.0E+01 | loss scale: 1.0 | grad norm: 26.203 | number of skipped iterations:   0 | number of nan iterations:   0 |
saving checkpoint at iteration      10 to /ckpt in torch_dist format
  successfully saved checkpoint from iteration      10 to /ckpt
    save-checkpoint ................................: (1400.00, 1500.00)
 [2026-11-02 08:00:40] iteration       20/    5000 | consumed samples:         2560 | elapsed time per iteration (ms): 2100.0 | learning rate: 1.3E-07 | global batch size:   128 | lm loss: 9.5E+00 |
"""
AGAIN = """  seq_length ...................................... 4096
 loading checkpoint from /ckpt at iteration 10
  successfully loaded checkpoint from /ckpt [ t 1/1, p 1/1 ] at iteration 10
    load-checkpoint ................................: (9000.00, 9500.00)
 [2026-11-02 08:06:00] iteration       20/    5000 | consumed samples:         2560 | elapsed time per iteration (ms): 2200.0 | global batch size:   128 | lm loss: 9.4E+00 |
"""


def test_megatron_that_falls_back_to_a_checkpoint(tmp_path: Path) -> None:
    found, codes = told(tmp_path, "megatron", {"gpt/1.log": MEGATRON, "gpt/2.log": AGAIN})
    step = 128 * 4096
    assert codes == []
    assert found == [
        ("gpt", 55, 10 * step, 10, 20, 20, {"checkpoint_save": Decimal("1.5")}, 10, 1, 10, True),
        # These ten steps are done again below.
        ("gpt", 0, 10 * step, 10, 21, 0, {"wasted_progress": 21}, Decimal("9.5"), None, None, True),
        (
            "gpt",
            5,
            10 * step,
            10,
            22,
            22,
            {"checkpoint_restore": Decimal("9.5")},
            Decimal("9.4"),
            None,
            None,
            True,
        ),
    ]


def test_weights_that_a_run_starts_from_are_no_checkpoint_of_its_own(tmp_path: Path) -> None:
    """Megatron tells the time of loading even where there was nothing to load."""
    for number, said in enumerate(
        ("successfully loaded checkpoint from /base [ t 0, p 0 ] at iteration 0\n", "")
    ):
        text = MEGATRON.replace(
            " [2026-11-02 07:59", f"{said}    load-checkpoint ......: (0.10, 0.25)\n [2026-11-02 07:59"
        )
        found, _ = told(
            tmp_path / str(number), "megatron", {"gpt/1.log": text}, "checkpoint_used, tokens, lost_seconds"
        )
        assert [row[0] for row in found] == [None, None]
        assert [row[1] for row in found] == [10 * 128 * 4096] * 2
        assert found[0][2]["checkpoint_restore"] == Decimal("0.00025")


def test_megatron_that_does_not_say_how_long_loading_took(tmp_path: Path) -> None:
    lines = "\n".join(line for line in AGAIN.splitlines() if "load-checkpoint" not in line)
    found, _ = told(tmp_path, "megatron", {"gpt/2.log": lines}, "checkpoint_used, lost_seconds, tokens")
    assert found == [(True, None, 10 * 128 * 4096)]


def test_megatron_from_the_middle_of_a_log(tmp_path: Path) -> None:
    lines = "\n".join(line for line in MEGATRON.splitlines() if "iteration  " in line)
    found, _ = told(tmp_path, "megatron", {"tail.log": lines}, "tokens, steps, step_seconds_sum")
    assert found == [(None, None, None), (None, 10, 21)]


def test_step_records(tmp_path: Path) -> None:
    rows = [
        {
            "timestamp": 1793606401.5,
            "global_step": 1,
            "tokens_seen": 1000,
            "train_loss": 5.0,
            "step_time": 1.5,
        },
        {
            "timestamp": 1793606404.5,
            "global_step": 3,
            "tokens_seen": 3000,
            "train_loss": 4.0,
            "step_time": 1.5,
            "data_time": 0.25,
        },
        {"timestamp": 1793606410, "global_step": 3, "checkpoint_step": 3, "save_seconds": 4},
        {"timestamp": 1793606420, "global_step": 2, "tokens_seen": 2000, "step_time": 2},
    ]
    found, _ = told(tmp_path, "training-log", {"ft.jsonl": "\n".join(map(json.dumps, rows))})
    assert found == [
        (
            "ft",
            0,
            3000,
            3,
            Decimal("6.5"),
            Decimal("3.5"),
            {"checkpoint_save": 4, "wasted_progress": 3},
            4,
            1,
            3,
            None,
        )
    ]


def test_csv_with_iso_times_and_a_run_column(tmp_path: Path) -> None:
    text = "time,run_id,step,tokens,loss\n2026-11-02T08:00:30Z,a,1,10,1.5\n2026-11-02T08:01:30Z,a,2,30,1.25\n2026-11-02T08:01:30Z,b,9,5,-2\n"
    found, _ = told(
        tmp_path,
        "training-log",
        {"steps.csv": text},
        "run_id, tokens, steps, loss, step_seconds_sum, useful_seconds",
    )
    assert found == [("a", 40, 2, Decimal("1.25"), None, None), ("b", 5, None, -2, None, None)]


def test_wandb_history(tmp_path: Path) -> None:
    rows = [
        {
            "_step": 0,
            "_timestamp": 1793606460.25,
            "train/global_step": 1,
            "train/loss": 2.5,
            "train/num_input_tokens_seen": 4096,
        },
        {
            "_step": 1,
            "_timestamp": 1793606520.25,
            "train/global_step": 2,
            "train/loss": 2.25,
            "train/num_input_tokens_seen": 8192,
        },
    ]
    found, _ = told(
        tmp_path, "wandb", {"abc123.jsonl": "\n".join(map(json.dumps, rows))}, "run_id, tokens, steps, loss"
    )
    assert found == [("abc123", 8192, 2, Decimal("2.25"))]


def test_mlflow_file_store(tmp_path: Path) -> None:
    run = "mlruns/123/0a1b2c3d4e5f"
    files = {
        f"{run}/metrics/train/loss": "1793606460000 2.5 1\n1793606520000 2.25 2\n",
        f"{run}/metrics/tokens": "1793606460100 4096 1\n1793606520100 4096 2\nbroken\n",
        f"{run}/metrics/gpu_temperature": "1793606460100 70 1\n",
        f"{run}/tags/mlflow.runName": "pretrain",
        f"{run}/meta.yaml": "run_id: 0a1b2c3d4e5f\n",
    }
    found, codes = told(tmp_path, "mlflow", files, "run_id, tokens, steps, loss")
    assert found == [("pretrain (0a1b2c3d)", 8192, 2, Decimal("2.25"))]
    assert codes == ["bad-line"]


@pytest.mark.parametrize(
    ("type_name", "files", "message"),
    [
        ("torchtitan", {"x.log": "hello\n"}, "no metrics line of torchtitan"),
        ("megatron", {"x.log": " iteration 1/ 2 | consumed samples: 1 |\n"}, "no iteration line"),
        ("training-log", {"x.csv": "a,b\n1,2\n"}, "no column time, step"),
        ("mlflow", {"a/b": "x"}, "no metrics of an MLflow run"),
    ],
)
def test_what_is_something_else_is_refused(
    tmp_path: Path, type_name: str, files: dict[str, str], message: str
) -> None:
    for name, text in files.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    report = token_files.ingest(Ledger(str(tmp_path / "ledger")), type_name, str(tmp_path / "in"))
    assert message in report.diagnostics[0].message
