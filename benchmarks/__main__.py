"""Runs the benchmarks one after another, each in a process of its own: `python -m benchmarks [NAME…]`.

A benchmark is a module of this folder with a `__main__` part that prints what it measured; a non-zero exit
code means that a budget was missed. Time and peak memory (process and children) are added here.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent


def run(name: str) -> int:
    """Run one benchmark; return its exit code."""
    print(f"== {name}", flush=True)
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", f"benchmarks.{name}"], cwd=FOLDER.parent)
    _, status, usage = os.wait4(process.pid, 0)
    code = process.returncode = os.waitstatus_to_exitcode(status)
    kib = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    print(
        f"-- {name}: {time.monotonic() - began:.2f} s, peak {kib / 1024:.0f} MiB, exit {code}\n", flush=True
    )
    return code


def main(chosen: list[str]) -> int:
    """Run the chosen benchmarks, or all; return 1 when one failed, 2 when there is no such benchmark."""
    names = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
    unknown = sorted(set(chosen) - set(names))
    if unknown or not names:
        print(
            f"no benchmark {', '.join(unknown)}\nHint: there are {', '.join(names) or 'none'}",
            file=sys.stderr,
        )
        return 2
    failed = [name for name in chosen or names if run(name)]
    print(f"failed: {', '.join(failed)}" if failed else "all benchmarks within budget")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
