"""The device's lane: every kernel right, then timed, in five minutes on a machine with little.

``make device``, or ``python benchmarks/device.py``: needs Python, torch, triton, numba, numpy and
the checkout. Phase 1 compares all operations and gradients with float64, to the bit where numbers
are whole; phase 2 times them beside torch's own. Each section is a process with a cap of its own,
so that a hang costs only itself. Everything found is in ``DIRECTORY/device.json``.
``--device cpu`` is the dry run at small sizes: the same checks by the CPU's kernels. Times of it
mean nothing, and figures that need a device have no value.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "src")]  # a bare machine installs nothing

from device_figures.records import read_records  # noqa: E402 (after the path)
from device_figures.runner import Job, Runner, python  # noqa: E402
from device_figures.summary import figures  # noqa: E402
from house_figures.figure import show  # noqa: E402


def main(arguments: list[str]) -> int:
    """Run the lane, or one part of it in this process; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cuda", "cpu"], help="cuda where there is one")
    parser.add_argument("--directory", type=Path, help="for what is found; a temporary one if not")
    parser.add_argument("--budget", type=float, default=285, help="seconds for everything")
    parser.add_argument("--json", action="store_true", help="one document of figures")
    parser.add_argument("--only", nargs="*", help="sections")
    parser.add_argument("--through", help="a script that runs the processes' scripts, for tests")
    parser.add_argument("--inside", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--warm", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as fresh:
        directory = chosen.directory or Path(fresh)
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            parser.error(f"--directory {directory} cannot be made: {error.strerror}; name another")
        if chosen.inside is not None:
            from device_figures.sections import run_section

            for name in chosen.inside:
                run_section(name, chosen.device, directory, is_warming=chosen.warm)
            return 0
        chosen.device = chosen.device or found_device()
        refuse(parser, chosen)
        return lead(chosen.device, directory, chosen)


def refuse(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> None:
    """Refuse sections that there are not, a device that is not there, and no time."""
    from device_figures.sections import SECTIONS

    unknown = sorted({*(chosen.only or ())} - {*SECTIONS})
    if unknown:
        parser.error(f"--only names {', '.join(unknown)}; the sections are {', '.join(SECTIONS)}")
    if not chosen.budget > 0:
        parser.error(f"--budget is {chosen.budget:g} seconds, wanted more than 0")
    if chosen.device == "cuda" and found_device() != "cuda":
        parser.error("--device cuda, but torch sees none here; --device cpu is the dry run")


def found_device() -> str:
    """``cuda`` where torch sees a device, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def lead(device: str, directory: Path, chosen: argparse.Namespace) -> int:
    """Start the sections, sum up, and write down what was found."""
    from device_figures.sections import SECTIONS

    names = [name for name in SECTIONS if not chosen.only or name in chosen.only]
    through = [chosen.through] if chosen.through else []
    common = [*through, __file__, "--device", device, "--directory", str(directory), "--inside"]
    if device == "cpu":  # one process: starting them is most of a dry run
        jobs = [Job(name="dry", command=python(*common, *names), cap_s=chosen.budget)]
    else:
        jobs = [
            Job(name=name, command=python(*common, name), cap_s=part.cap_s, is_timed=part.is_timed)
            for name, part in ((name, SECTIONS[name]) for name in names)
        ]
        jobs[:0] = [  # what is timed is compiled meanwhile
            Job(name=f"warm-{job.name}", command=[*job.command, "--warm"], cap_s=110)
            for job in jobs
            if job.is_timed
        ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1" if device == "cpu" else "2"}
    environment.pop("TRITON_INTERPRET", None)
    environment.setdefault("TRITON_CACHE_DIR", str(directory / "triton"))
    for name in SECTIONS:  # records of an earlier run would count as found by this one
        (directory / f"{name}.jsonl").unlink(missing_ok=True)
    runner = Runner(directory=directory, budget_s=chosen.budget, environment=environment)
    runner.run(jobs)
    records = [each for name in names for each in read_records(directory / f"{name}.jsonl")]
    ends = {name: end for name, end in runner.ends.items() if not name.startswith("warm-")}
    for name, end in ends.items():
        if end != "done":
            print((directory / f"{name}.log").read_text()[-2000:], file=sys.stderr)
    document = {"device": device, "ends": runner.ends, "records": records}
    (directory / "device.json").write_text(json.dumps(document, indent=1))
    return show(figures(records, ends, is_dry=device == "cpu"), is_json=chosen.json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
