"""Experiment: run an experiment's JSON file, or load what it has found; and the command line.

python -m helpers.experiment configs/NAME.json --profile quick

A mistake in a config is told before torch is loaded, which takes seconds.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .config.expansion import load_config
from .foundations.errors import UserError
from .foundations.files import ROOT, user_path
from .foundations.terminal import say
from .running import freshness  # noqa: F401 - code is stamped when it is loaded, and not at the first call

if TYPE_CHECKING:
    from .masked_body_builder import MaskedBodyBuilder
    from .utils import Results


def run_experiment(
    config: str | Path,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    threads_per_run: int = 1,
    force: bool = False,
) -> "Results":
    """Run an experiment or load what it has already found; its tables, as the config is now.

    `overrides` are texts such as "train.epochs=2"; `out` is the folder that gets logs/, networks/
    and figures/ (default: the repository); `workers` are processes (default: a core each), with
    `threads_per_run` threads; `scheduler` is the address of a running Dask scheduler (default: the
    environment's DASK_SCHEDULER_ADDRESS, else workers of our own); `force` computes every result
    again. Raises UserError on bad input, before anything runs.
    """
    overrides = [overrides] if isinstance(overrides, str) else overrides
    for name, number in (("workers", workers), ("threads_per_run", threads_per_run)):
        if number is not None and number < 1:
            raise UserError(f"{name}: expected a whole number from 1, found {number}")
    config = user_path(config)
    out = user_path(out).absolute() if out is not None else ROOT  # workers may stand in another folder
    experiment = load_config(config, profile, overrides)
    from .running.orchestration import run_or_load

    return run_or_load(
        experiment,
        config,
        out,
        overrides=overrides,
        workers=workers,
        scheduler=scheduler,
        threads_per_run=threads_per_run,
        force=force,
    )


def load_network(run: str, out: str | Path | None = None) -> "MaskedBodyBuilder":
    """The network that a run or a stage left behind, by its hash, in evaluation mode and on the CPU.

    Computed again, from the latest weights that the cache holds, where it has to be.
    Raises UserError where no log knows the hash.
    """
    from .running.restoring import restored_network

    return restored_network(run, user_path(out) if out is not None else ROOT)


def _at_least_one(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text!r}")
    return int(text)


def _config_among(overrides: list[str]) -> str | None:
    """The config that stands behind --set, taken out of what --set has swallowed."""
    files = [text for text in overrides if "=" not in text] or [t for t in overrides if t.endswith(".json")]
    if not files:
        return None
    overrides.remove(files[-1])
    return files[-1]


def main(arguments: list[str] | None = None) -> int:
    """The command line. Exit code 2 on bad input, 1 where a task failed."""
    parser = argparse.ArgumentParser(
        "python -m helpers.experiment", description="Run an experiment, or load it."
    )
    parser.add_argument("config", nargs="?", help="a file such as configs/NAME.json")
    parser.add_argument(
        "--profile", help="a profile of the config, such as quick; default: the config as it stands"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", nargs="+",
        help="override fields: train.epochs=2 'sweep.sparsity=[0,0.9]' seeds=0",
    )  # fmt: skip
    parser.add_argument("--out", metavar="DIR", help="where logs/, networks/ and figures/ go; default: here")
    parser.add_argument(
        "--workers", type=_at_least_one, help="processes to compute with; default: a core each"
    )
    parser.add_argument(
        "--threads-per-run", type=_at_least_one, default=1, help="threads of each; default: 1"
    )
    parser.add_argument(
        "--scheduler", metavar="ADDRESS",
        help="a running Dask scheduler, such as tcp://host:8786; default: DASK_SCHEDULER_ADDRESS, else none",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="compute every result again")
    options = parser.parse_args(arguments)
    overrides = [text for group in options.set for text in group]
    config = options.config or _config_among(overrides)
    if config is None:
        parser.error("expected a config file, such as configs/NAME.json")
    try:
        found = run_experiment(
            config, options.profile, overrides, options.out, options.workers,
            options.scheduler, options.threads_per_run, options.force,
        )  # fmt: skip
    except UserError as error:
        say("\n".join(error.lines), sys.stderr)
        return 2
    except KeyboardInterrupt:
        say("stopped; what is finished is kept, the same command goes on from there", sys.stderr)
        return 130
    _summarise(found)
    return 1 if found.failed else 0


def _summarise(found: "Results") -> None:
    """A table of what was found, and a figure in figures/summary/; what fails is told and changes nothing."""
    try:
        # Only now: matplotlib takes a second, and a mistake is told before.
        from .analysis.automatic import summarise

        for line in summarise(found):
            say(line)
    except UserError as error:
        say("\n".join(error.lines))
    except Exception as error:  # results are there and logged, whatever a picture of them runs into
        say(f"no figure: {type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.exit(main())
