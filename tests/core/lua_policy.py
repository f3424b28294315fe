"""Runs the rendered job_submit.lua in a Lua of Debian, the version that Slurm is linked with, beside Slurm itself."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gpuledger.core.policy.render.slurm import data

NONE, NONE_SHORT = 0xFFFFFFFE, 0xFFFE  # Slurm's numbers for what isn't given
_RUNNER = """
local told
slurm = {
  ERROR = -1, SUCCESS = 0,
  log_user = function(form, ...) told[#told + 1] = string.format(form, ...) end,
  log_info = function() end,
  log_error = function(form, ...) told[#told + 1] = "ERROR " .. string.format(form, ...) end,
}
local moment
os.time = function() return moment end
local function json(text) return '"' .. text:gsub('[%c"\\\\]', function(c) return string.format("\\\\u%04x", c:byte()) end) .. '"' end
local setup = dofile(arg[2])
for number, case in ipairs(setup) do
  if case.alone then os.remove("gpuledger-journal") end
  if case.alone or number == 1 then dofile(arg[1]) end
  told, moment = {}, case.now
  for name, text in pairs(case.write or {}) do
    local file = io.open(name, "w")
    file:write(text)
    file:close()
  end
  local code
  if case.before then
    code = slurm_job_modify(case.job, case.before, case.partitions, case.uid)
  else
    code = slurm_job_submit(case.job, case.partitions, case.uid)
  end
  local lines = {}
  for _, line in ipairs(told) do lines[#lines + 1] = json(line) end
  print(string.format('{"code": %d, "comment": %s, "told": [%s]}', code, json(case.job.admin_comment or ""), table.concat(lines, ",")))
end
"""
PARTITIONS = {"train": {"name": "train", "flag_default": 1}, "debug": {"name": "debug", "flag_default": 0}}


def lua() -> str:
    found = shutil.which("lua5.1")
    if found is None:
        pytest.skip("no lua5.1: apt-get install -y --no-install-recommends lua5.1")
    return found


def run(
    folder: Path, files: Mapping[str, Any], cases: Sequence[Mapping[str, Any]], interpreter: str = ""
) -> list[dict[str, Any]]:
    """Write files into a folder and return the script's answers to cases: `code`, `comment`, `told`."""
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "runner.lua").write_text(_RUNNER)
    whole = [{"partitions": PARTITIONS, "uid": 1000, **case} for case in cases]
    (folder / "cases.lua").write_text(f"return {data(whole)}")
    words = (interpreter or lua(), "runner.lua", str(folder / "job_submit.lua"), "cases.lua")
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def job_desc(options: Mapping[str, str], name: str, user: str) -> dict[str, Any]:
    """Return what sbatch makes of options, as Slurm 22.05 was seen to (test_slurm_policy.py compares it)."""
    low, _, high = options.get("nodes", "").partition("-")
    nodes = (int(low), int(high or low)) if low else (NONE, NONE)
    per_node = int(options["ntasks-per-node"]) if "ntasks-per-node" in options else None
    tasks = int(options["ntasks"]) if "ntasks" in options else None
    if tasks is None and per_node is not None:
        tasks = per_node * (int(low) if low else 1)
    job: dict[str, Any] = {
        "name": options.get("job-name") or name,
        "user_name": user,
        "min_nodes": nodes[0],
        "max_nodes": nodes[1],
        "num_tasks": NONE if tasks is None else tasks,
        "ntasks_per_node": NONE_SHORT if per_node is None else per_node,
        "time_limit": minutes(options["time"]) if "time" in options else NONE,
        "array_inx": options.get("array"),
    }
    for option, field in (
        ("account", "account"),
        ("comment", "comment"),
        ("wckey", "wckey"),
        ("partition", "partition"),
        ("clusters", "clusters"),
    ):
        job[field] = options.get(option)
    for option, field in (
        ("gres", "tres_per_node"),
        ("gpus", "tres_per_job"),
        ("gpus-per-node", "tres_per_node"),
        ("gpus-per-task", "tres_per_task"),
    ):
        if option in options:
            word = options[option]
            job[field] = f"gres:{word}" if option == "gres" else f"gres:gpu:{word}"
    return {key: value for key, value in job.items() if value is not None}


def minutes(text: str) -> int:
    """Return sbatch's reading of the forms that the cases use: M, H:MM:00, D-H."""
    if "-" in text:
        days, hours = text.split("-")
        return (int(days) * 24 + int(hours)) * 60
    parts = [int(part) for part in text.split(":")]
    return parts[0] if len(parts) == 1 else parts[0] * 60 + parts[1]
