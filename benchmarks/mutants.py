"""Which changes of the science no test notices: `make mutants [MODULES="frechet intervals"]`.

Mutmut changes one thing at a time, such as a sign, a limit or a default, and runs the tests that
reach it. What survives is printed as a diff, and counted in reports/benchmarks/mutants.json.

Mutmut takes no package of the name src, so a copy of the project with another name is tried. Tests
that start processes of their own are left out, since those would not know of the change.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mutmut.stats import status_by_exit_code

from benchmarks.workspace import ROOT, copy_project
from src.common.errors import UserError, report_errors
from src.common.files import write_json

RESULT = ROOT / "reports" / "benchmarks" / "mutants.json"
NAME = "science"  # of the copied package
PACKAGES = ("data", "metrics", "models", "privacy", "training", "utility")
# The modules of these that have a test file of their own name.
MODULES = {
    package: tuple(
        sorted(
            path.stem
            for path in (ROOT / "src" / package).glob("*.py")
            if (ROOT / "tests" / package / f"test_{path.stem}.py").exists()
        )
    )
    for package in PACKAGES
}
FURTHER = {  # beside a module's own tests
    "data/image_files.py": ("tests/data/test_sources.py",),
    "training/loop.py": ("tests/training/test_resume.py",),
}
SETTINGS = f"""
[tool.mutmut]
source_paths = ["{NAME}"]
only_mutate = [{{files}}]
also_copy = ["params.yaml", "networks", "benchmarks", "pipeline", "dvc.yaml", "README.md"]
pytest_add_cli_args_test_selection = [{{tests}}]
pytest_add_cli_args = ["-k", "not ({{without}})"]
process_isolation = "forkserver"
timeout_constant = 4.0
"""


def try_mutants(modules: Sequence[str], workers: int, without: str) -> None:
    """Try all mutants of some modules; print the survivors and record how many there are.

    Args:
        modules: their names; none are all.
        workers: how many are tried at once.
        without: tests that are left out besides, as pytest's ``-k`` names them.
    """
    known = {name for names in MODULES.values() for name in names}
    if unknown := set(modules) - known:  # else mutmut would take them for all
        raise UserError(f"{', '.join(sorted(unknown))}: not among {', '.join(sorted(known))}")
    files = {
        f"{folder}/{module}.py"
        for folder, names in MODULES.items()
        for module in names
        if not modules or module in modules
    }
    with tempfile.TemporaryDirectory(prefix="mutants-") as place:
        copy = Path(place)
        copy_project(copy)
        _rename(copy)
        tests = [f"tests/{Path(file).with_name('test_' + Path(file).name)}" for file in files]
        tests += [test for file in files for test in FURTHER.get(file, ())]
        settings = SETTINGS.format(
            files=", ".join(f'"{NAME}/{file}"' for file in sorted(files)),
            tests=", ".join(f'"{test}"' for test in sorted(tests) if (copy / test).is_file()),
            without=" or ".join(filter(None, ("without_the_project", without))),
        )
        with (copy / "pyproject.toml").open("a") as stream:
            stream.write(settings)
        one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(workers)]
        subprocess.run(command, cwd=copy, env=one_thread, check=True)
        _report(copy)


def _rename(copy: Path) -> None:
    (copy / "src").rename(copy / NAME)
    for file in copy.rglob("*"):
        if file.suffix in (".py", ".toml", ".yaml"):
            file.write_text(re.sub(r"\bsrc\b", NAME, file.read_text()))


def _report(copy: Path) -> None:
    counts: dict[str, Counter[str]] = {}
    for file in sorted((copy / "mutants" / NAME).rglob("*.py.meta")):
        module = file.relative_to(copy / "mutants" / NAME).as_posix().removesuffix(".py.meta")
        for mutant, status in json.loads(file.read_text())["exit_code_by_key"].items():
            said = status_by_exit_code[status]
            kind = "untested" if said in ("no tests", "not checked") else said
            counts.setdefault(module, Counter())[kind] += 1
            if kind == "survived":
                command = [sys.executable, "-m", "mutmut", "show", mutant]
                shown = subprocess.run(command, cwd=copy, capture_output=True, text=True)
                lines = [line for line in shown.stdout.splitlines() if re.match("[-+] ", line)]
                print(f"\n{mutant}", *lines, sep="\n")
    known = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    write_json(RESULT, dict(sorted((known | counts).items())))
    total = sum(counts.values(), Counter())
    print(f"\n{total.total()} mutants: {dict(total)}; counted in {RESULT.relative_to(ROOT)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Try the mutants of the modules that are named, or of all that are listed above."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="such as frechet; else all")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--without", default="", metavar="EXPRESSION", help="tests left out (-k)")
    arguments = parser.parse_args(argv)
    return report_errors(
        lambda: try_mutants(arguments.modules, arguments.workers, arguments.without)
    )


if __name__ == "__main__":
    sys.exit(main())
