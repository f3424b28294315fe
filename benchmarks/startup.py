"""How long `gpuledger --help` takes, against a bare Python start."""

from benchmarks._measure import GPULEDGER, line, measure, python


def run() -> None:
    """Print the comparison."""
    line(
        "gpuledger --help",
        measure([str(GPULEDGER), "--help"], repeats=10),
        measure(python("pass"), repeats=10),
        "< 0.25 s",
    )


if __name__ == "__main__":
    run()
