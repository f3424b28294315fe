"""nvidia-smi's tables and XML, written here in the documented forms, and a binary that fails or hangs."""

import time
from decimal import Decimal
from pathlib import Path

import pytest

from gpuledger.errors import SourceError
from gpuledger.telemetry import nvidia_smi

CSV = """\
index, uuid, name, driver_version, mig.mode.current, utilization.gpu [%], memory.used [MiB], memory.total [MiB], power.draw [W]
0, GPU-a, NVIDIA H100 80GB HBM3, 560.35.03, Disabled, 45 %, 1024 MiB, 81559 MiB, 312.55 W
1, GPU-b, NVIDIA A100-SXM4-80GB, 560.35.03, Enabled, [N/A], 50 MiB, 81920 MiB, [Not Supported]
2, GPU-c, Tesla T4, 560.35.03, [N/A], [Unknown Error], [N/A], 15360 MiB, N/A
"""
APPS = """\
gpu_uuid, pid, process_name, used_gpu_memory [MiB]
GPU-a, 4711, /usr/bin/python3, really, 1000 MiB
GPU-a, 4712, [Insufficient Permissions], [N/A]
"""
XML = """\
<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log><driver_version>535.54.03</driver_version>
<gpu id="00000000:01:00.0"><product_name>NVIDIA A100-SXM4-80GB</product_name>
<mig_mode><current_mig>Enabled</current_mig></mig_mode>
<mig_devices><mig_device><index>0</index><gpu_instance_id>3</gpu_instance_id>
<fb_memory_usage><total>19968 MiB</total><used>12 MiB</used></fb_memory_usage></mig_device></mig_devices>
<uuid>GPU-a</uuid><fb_memory_usage><total>81920 MiB</total><used>50 MiB</used></fb_memory_usage>
<utilization><gpu_util>N/A</gpu_util></utilization>
<gpu_power_readings><power_draw>67.03 W</power_draw></gpu_power_readings>
<processes><process_info><gpu_instance_id>3</gpu_instance_id><pid>77</pid><type>C</type>
<process_name>python</process_name><used_memory>10 MiB</used_memory></process_info>
<process_info><pid>78</pid><type>G</type></process_info></processes></gpu>
<gpu id="00000000:02:00.0"><product_name>Tesla T4</product_name><uuid>GPU-b</uuid>
<utilization><gpu_util>91 %</gpu_util></utilization>
<power_readings><power_draw>68.24 W</power_draw></power_readings></gpu>
</nvidia_smi_log>
"""


def test_cards_of_the_table() -> None:
    first, second, third = nvidia_smi.cards_from_csv(CSV, "x")
    assert (first.uuid, first.model, first.busy) == ("GPU-a", "H100", Decimal("0.45"))
    assert (first.memory_used_mib, first.memory_total_mib, first.power_watts) == (
        Decimal(1024), Decimal(81559), Decimal("312.55"),
    )  # fmt: skip
    assert (second.sliced, second.utilisation, second.power_watts) == (True, None, None)
    assert (third.model, third.busy, third.memory_used_mib, third.power_watts) == ("T4", None, None, None)


def test_the_table_without_units_and_with_other_columns() -> None:
    (card,) = nvidia_smi.cards_from_csv("uuid, utilization.gpu [%]\nGPU-z, 100\n", "x")
    assert (card.uuid, card.utilisation, card.memory_used_mib) == ("GPU-z", Decimal(1), None)


def test_processes_of_the_table() -> None:
    first, second = nvidia_smi.processes_from_csv(APPS, "x")
    assert (first.card, first.pid, first.memory_mib) == ("GPU-a", 4711, Decimal(1000))
    assert first.name == "/usr/bin/python3, really"
    assert (second.name, second.memory_mib) == (None, None)


def test_xml_with_mig_and_both_power_forms() -> None:
    report = nvidia_smi.from_xml(XML, "x")
    parent, part, other = report.cards
    assert (parent.sliced, parent.busy, parent.power_watts, parent.driver) == (
        True, None, Decimal("67.03"), "535.54.03",
    )  # fmt: skip
    assert (part.uuid, part.slice_id, part.share, part.memory_used_mib) == ("GPU-a", "3", None, Decimal(12))
    assert (other.index, other.busy, other.power_watts) == ("1", Decimal("0.91"), Decimal("68.24"))
    assert [(found.pid, found.slice_id) for found in report.processes] == [(77, "3")], (
        "graphics isn't compute"
    )


def test_entities_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    for declared in (f'<!ENTITY x SYSTEM "{secret}">', '<!ENTITY x "xx">'):
        text = f"<!DOCTYPE nvidia_smi_log [{declared}]><nvidia_smi_log><a>&x;</a></nvidia_smi_log>"
        with pytest.raises(SourceError, match="entities"):
            nvidia_smi.from_xml(text, "x")


@pytest.mark.parametrize(
    "text", ["", "<nvidia_smi_log>", "No devices were found", "<html></html>", "<a>" * 100]
)
def test_what_is_no_log(text: str) -> None:
    with pytest.raises(SourceError) as caught:
        nvidia_smi.from_xml(text, "x")
    assert caught.value.hint


def test_what_is_no_table() -> None:
    with pytest.raises(SourceError, match="no table"):
        list(nvidia_smi.cards_from_csv("No devices were found\n", "x"))


def script(folder: Path, content: str) -> str:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{content}\n")
    path.chmod(0o755)
    return str(path)


def test_runs_the_tool(tmp_path: Path) -> None:
    (tmp_path / "cards").write_text(CSV)
    (tmp_path / "apps").write_text(APPS)
    (tmp_path / "xml").write_text(XML)
    body = f'case "$1" in --query-gpu*) cat {tmp_path}/cards;; -q) cat {tmp_path}/xml;; *) cat {tmp_path}/apps;; esac'
    binary = script(tmp_path, body)
    report = nvidia_smi.read_short(binary)
    assert (len(report.cards), len(report.processes)) == (3, 2)
    assert len(nvidia_smi.read(binary).cards) == 3


def test_a_hanging_tool_is_given_up(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(SourceError, match=r"no answer within 0\.3 s") as caught:
        nvidia_smi.read(script(tmp_path, "exec sleep 30"), timeout=0.3)
    assert time.monotonic() - begun < 5
    assert caught.value.hint


def test_a_failing_or_missing_tool(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="code 9: NVIDIA-SMI has failed"):
        nvidia_smi.read(script(tmp_path, "echo NVIDIA-SMI has failed; exit 9"))
    with pytest.raises(SourceError, match="can't be run"):
        nvidia_smi.read(str(tmp_path / "none"))
