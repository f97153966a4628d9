"""Start of several training processes: here on one host, or by torchrun on many."""

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..common.errors import UserError

INTERRUPTED = 130  # exit status of a process that was asked to stop
SHUTDOWN_SECONDS = 120  # for the processes to finish a batch and save
RENDEZVOUS_FILE = "TRAINING_RENDEZVOUS_FILE"  # environment variable, of processes of one host


@dataclass(frozen=True)
class Worker:
    """One of the processes that torchrun started."""

    rank: int
    local_rank: int  # on this host
    local_size: int
    rendezvous_file: Path | None = None  # see ``ProcessGroup.init``


def find_worker() -> Worker | None:
    """Return which of torchrun's processes this is, or None if it was started alone.

    Raises:
        UserError: if the environment is torchrun's only in part.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    try:
        rank, local_rank, local_size = (
            int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        )
    except KeyError as error:
        raise UserError(
            f"TORCHELASTIC_RUN_ID is set as by torchrun, but {error} is not; unset the former, or "
            "start the training by torchrun"
        ) from None
    file = os.environ.get(RENDEZVOUS_FILE)
    return Worker(rank, local_rank, local_size, Path(file) if file else None)


def launch(module: str, arguments: Sequence[str], processes: int) -> None:
    """Run `python -m module` in so many processes on this host, as torchrun does, to the end.

    They find each other by files and use the loopback interface, so nothing is open to the network.

    Raises:
        UserError: if a process was killed, with its rank.
        SystemExit: if they failed or were asked to stop, which the first one has reported.
    """
    # Here, since they import for a second, and one process alone needs none of them.
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # torch logs pages about the end of a process. This process logs nothing else.
    logging.disable(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # each sets its number of threads itself
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # else a port is open to all
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = "lo"
    with tempfile.TemporaryDirectory(prefix="torchrun-") as logs:
        os.environ[RENDEZVOUS_FILE] = str(Path(logs, "processes"))
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            rdzv_backend="c10d",
            rdzv_endpoint=str(Path(logs, "rendezvous")),
            rdzv_configs={"store_type": "file"},
            local_addr="127.0.0.1",
            run_id=str(os.getpid()),
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
            shutdown_timeout=SHUTDOWN_SECONDS,
        )
        try:
            elastic_launch(config, sys.executable)("-m", module, *arguments)
        except SignalException:
            sys.exit(INTERRUPTED)  # the first process has reported it
        except ChildFailedError as error:
            ends = {rank: failure.exitcode for rank, failure in error.failures.items()}
            # The others end because that one did.
            killed = {rank: status for rank, status in ends.items() if status < 0}
            if not killed:  # the first process has reported why
                sys.exit(INTERRUPTED if INTERRUPTED in ends.values() else 1)
            rank, status = min(killed.items(), key=lambda end: end[1] == -signal.SIGTERM)
            raise UserError(
                f"process {rank} of {processes} was ended by {signal.Signals(-status).name}, so "
                "all have ended; the checkpoints are kept"
            ) from None
