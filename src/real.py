"""Train on real images: `python -m src.real chest_xray.zip`, or `make real DATA=chest_xray.zip`.

DATA is Kermany's archive, a PneumoniaMNIST file, or a folder or archive of your own. The command
says what it takes DATA for; `--set data.source=NAME` says it in its place. An estimate of the
duration comes first, then a DVC experiment with a name that no other one has, then its verdict.
`--checksum PATH` prints data.sha256 of an archive or folder instead. `--original NUMBER` prints
which file of your own folder, as params.yaml names it, is the image of that number.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

from .common.errors import UserError, report_errors
from .common.files import expand_user
from .common.logging import logger
from .common.paths import HOME, PARAMS
from .common.processes import stop_requests
from .config.presets import preset_names, preset_overrides
from .data.checksum import source_checksum
from .data.classes import CLASSES

LABELS = tuple(label.lower() for label in CLASSES)
CLASSIFIER_STEPS = 1000  # of the utility test; real images need more than the demo's
PRESET = "real"
EXPERIMENTS = (
    "utility.scarcity.enabled=true",
    "utility.imbalance.enabled=true",
    "privacy.membership=true",
)
EPOCHS = {"normal": 200, "pneumonia": 70}  # some 15 minutes a class on two cores


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, then train or print a checksum."""
    parser = argparse.ArgumentParser(
        prog="python -m src.real",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("data", nargs="?", type=Path, metavar="DATA", help="an archive or a folder")
    add("--preset", choices=preset_names(), default=PRESET, help="a file of networks/")
    add(
        "--epochs",
        type=int,
        metavar="N",
        help="of both classes; else the preset's, or 200 and 70",
    )
    for label in LABELS:
        add(f"--epochs-{label}", type=int, metavar="N", help=f"of {label}")
    add("--name", help="of the experiment; else the preset's")
    add(
        *("--set", "-S"),
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="change parameters, as `dvc exp run -S` does",
    )
    add(
        "--experiments",
        action="store_true",
        help="run the experiments on few real images and on membership too, which take hours",
    )
    add("--checksum", type=Path, metavar="PATH", help="print the value of data.sha256 for PATH")
    add(
        "--table",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="of --checksum: data.table.path and data.test_list, in this order, if beside PATH",
    )
    add(
        "--original", type=int, metavar="NUMBER", help="print which file became NUMBER.png (folder)"
    )
    arguments = parser.parse_args(argv)
    if arguments.original is not None:
        return report_errors(lambda: _print_original(arguments.original))
    if arguments.table and arguments.checksum is None:
        parser.error("--table: it goes with --checksum")
    if (arguments.data is None) == (arguments.checksum is None):
        parser.error("name the real images, DATA, or a PATH for --checksum")
    epochs = {name: getattr(arguments, f"epochs_{name}") or arguments.epochs for name in LABELS}
    for value in (arguments.epochs, arguments.epochs_normal, arguments.epochs_pneumonia):
        if value is not None and value < 1:
            parser.error(f"--epochs: it must be 1 or more, not {value}")
    if arguments.checksum is not None:
        paths = [expand_user(str(path)) for path in (arguments.checksum, *arguments.table)]
        return report_errors(lambda: print(source_checksum(*paths)))
    # Before --set, so that it can turn one of them off.
    changes = (*(EXPERIMENTS if arguments.experiments else ()), *arguments.set)
    return report_errors(
        lambda: run_real(arguments.data, arguments.preset, epochs, arguments.name, changes)
    )


def run_real(
    data: Path,
    preset: str = PRESET,
    epochs: Mapping[str, int | None] | None = None,
    name: str | None = None,
    changes: Sequence[str] = (),
) -> None:
    """Estimate, run and summarize an experiment on real images.

    Args:
        data: archive or folder.
        preset: name of the networks and trainings.
        epochs: by class; None, or a class that is missing, leaves the choice to the preset.
        name: of the experiment, which gets a number if another one has it.
        changes: further overrides ``section.key=value``.

    Raises:
        UserError: if the images cannot be used, an override is refused, or the experiment fails.
    """
    data = expand_user(str(data)).resolve()
    path = f"data.path={json.dumps(str(data), ensure_ascii=False)}"
    overrides = [
        *_data_overrides(data, path, changes),
        *real_overrides(preset, epochs or {}, changes),
    ]
    # Estimate the duration, which refuses what the stages would refuse.
    _print_estimate([path, *overrides])
    # Run the experiment under a name of its own.
    overrides.insert(0, f"data.path={quote_for_dvc(str(data))}")
    dvc, environment = _find_dvc()
    free = _free_name(name or preset, dvc, environment)
    command = [dvc, "exp", "run", "-n", free]
    for override in overrides:
        command += ["-S", override]
    logger.info(f"+ {shlex.join(['dvc', *command[1:]])}")
    _run_interruptible(command, environment)
    from .report.summary import summarize  # only here, since nothing else of the command needs it

    summarize()


def _print_original(number: int) -> None:
    """Print the path within ``data.path`` of an image of the folder source."""
    from .config.settings import load_settings
    from .data.folder import original_path

    settings = load_settings(PARAMS).data
    if settings.source != "folder":
        raise UserError(f"data.source: images of {settings.source} keep their names or their order")
    print(original_path(settings, HOME, number))


def _data_overrides(data: Path, path: str, changes: Sequence[str]) -> list[str]:
    """Return the overrides of a source and its checksum, which covers a table beside them."""
    # Only here, since `--checksum` needs neither parameters nor sources.
    from .config.settings import load_settings
    from .data.folder import files_beside
    from .data.sources import recognise_source

    given = [change.partition("=")[2] for change in changes if change.startswith("data.source=")]
    source = given[-1] if given else recognise_source(data)
    settings = load_settings(PARAMS, [path, *changes, f"data.source={source}"])
    beside = files_beside(settings.data, HOME) if source == "folder" else []
    return [f"data.source={source}", f"data.sha256={source_checksum(data, *beside)}"]


def real_overrides(
    preset: str, epochs: Mapping[str, int | None], changes: Sequence[str]
) -> list[str]:
    """Return what an experiment on real images changes in params.yaml, but for the data.

    Returns:
        overrides ``section.key=value``, of which a later one counts.
    """
    overrides = [f"utility.training_steps={CLASSIFIER_STEPS}"]
    for label in LABELS:
        own = preset_overrides(preset, label)
        key, number = f"train.{label}.epochs=", epochs.get(label)
        if number is not None or not any(override.startswith(key) for override in own):
            own.append(f"{key}{number or EPOCHS[label]}")
        overrides += [each for each in own if each not in overrides]  # one image size for both
    return [*overrides, *changes]


def quote_for_dvc(text: str) -> str:
    """Quote a text so that `dvc exp run -S key=<text>` takes it as it is, whatever is in it."""
    quoted = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + found[2].replace("'", r"\'"), text)
    return "'{}'".format(quoted.replace("${", r"\${"))  # else a reference to another key


def _print_estimate(overrides: Sequence[str]) -> None:
    """Print how long the trainings take, from a process whose memory is free again afterwards."""
    command = [sys.executable, "-m", "src.estimate", *overrides]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        *others, last = done.stderr.strip().splitlines() or ["src.estimate failed"]
        for line in others:
            if line.startswith("warning: "):  # what was left aside may be what is missing
                print(line, file=sys.stderr)
        raise UserError(last.removeprefix("error: "))
    print(done.stderr, end="", file=sys.stderr)


def _find_dvc() -> tuple[str, dict[str, str]]:
    """Return DVC's program, and an environment in which its stages run by this Python."""
    folder = str(Path(sys.executable).parent)
    path = f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"
    return shutil.which("dvc") or str(Path(folder, "dvc")), os.environ | {"PATH": path}


def _free_name(name: str, dvc: str, environment: Mapping[str, str]) -> str:
    """Return ``name``, or the first of ``name``-2, ``name``-3, ... that no experiment has."""
    done = subprocess.run(
        [dvc, "exp", "list", "--name-only"], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        *_, last = done.stderr.strip().splitlines() or ["it failed without a word"]
        raise UserError(f"dvc exp list: {last.removeprefix('ERROR: ')}")
    taken = set(done.stdout.splitlines())
    numbered = (f"{name}-{number}" for number in count(2))
    return name if name not in taken else next(free for free in numbered if free not in taken)


def _run_interruptible(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run DVC, which ends in order when it is interrupted; wait for that.

    Raises:
        UserError: if it fails; it has said why.
        KeyboardInterrupt: if it was interrupted.
    """
    with stop_requests() as received:
        child = subprocess.Popen(command, env=environment)
        while child.poll() is None:
            if signal.SIGTERM in received:  # Ctrl-C reaches both, kill this process alone
                child.terminate()
            time.sleep(0.1)
    if received:
        raise KeyboardInterrupt
    if child.returncode:
        raise UserError("dvc exp run failed; its messages above say why")


if __name__ == "__main__":
    sys.exit(main())
