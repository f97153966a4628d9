"""Search for better networks and trainings: `python -m src.tune`.

`tune` in params.yaml declares which parameters may change. Every trial trains for a short time and
is scored on train patients that it has not seen. The first trial is the current configuration. The
best trials are repeated with other seeds before one is chosen. After an interruption the same
command continues the search. On another machine, with the same --storage, it joins it.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from .common.errors import UserError, report_errors
from .data.classes import CLASSES

# Options that stand for a parameter.
PARAMETERS = {"trials": "trials", "top": "top_trials", "seeds": "repeat_seeds"}


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and run the search."""
    parser = argparse.ArgumentParser(
        prog="python -m src.tune",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    classes = [name.lower() for name in CLASSES]
    add("--class", dest="label", choices=classes, help="default: each in turn")
    add("--trials", type=int, help="of all workers (default: tune.trials)")
    add("--workers", type=positive, default=1, help="processes on this host (default: 1)")
    add("--storage", help="journal file or database URL (default: $TUNE_STORAGE or tune.journal)")
    add("--pareto", action="store_true", help="search for the front of excess against compute")
    add("--top", type=int, help="best trials that are repeated (default: tune.top_trials)")
    add("--seeds", type=int, help="new seeds of each of them (default: tune.repeat_seeds)")
    add("--apply", action="store_true", help="write the best trial into params.yaml")
    add("--trial", type=int, metavar="N", help="write trial N instead, of a finished search")
    add("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="set a parameter")
    arguments = parser.parse_args(argv)

    def run() -> None:
        if arguments.trial is not None and not (arguments.apply and arguments.label):
            raise UserError("--trial: it needs --apply and --class; give both")
        if arguments.pareto and arguments.apply and arguments.trial is None:
            raise UserError(
                "--apply: a front has no single best trial; name one with --class and --trial"
            )
        given = {key: getattr(arguments, option) for option, key in PARAMETERS.items()}
        overrides = [f"tune.{key}={value}" for key, value in given.items() if value is not None]

        # Imported only now: torch and MLflow take seconds, which --help and refusals do not need.
        from .tuning.run import run_searches

        run_searches(
            label=arguments.label,
            kind="pareto" if arguments.pareto else "search",
            overrides=[*arguments.set, *overrides],
            storage=arguments.storage,
            workers=arguments.workers,
            apply=arguments.apply,
            trial=arguments.trial,
        )

    signal.signal(signal.SIGTERM, _interrupt)
    return report_errors(run)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def positive(text: str) -> int:
    """Return an argument that must be a whole number of 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it must be 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
