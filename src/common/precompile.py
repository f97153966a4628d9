"""Compile the packages that stages and commands import: `make setup` runs this once.

They are installed without bytecode, since most of it is never used. Where the environment forbids
Python to write bytecode, as in many containers, every start would compile what it imports again.
"""

import os
import subprocess
import sys

# One process imports a group, with all that the modules of it import, and so compiles them.
GROUPS = (
    (
        *("torch", "torch._dynamo", "torch._inductor", "torch.export"),
        "torch.distributed.launcher.api",
    ),
    (
        *("mlflow", "mlflow.pyfunc", "mlflow.tracing", "mlflow.store.tracking.sqlalchemy_store"),
        *("alembic.command", "sqlalchemy.dialects.sqlite", "opentelemetry.sdk.trace"),
        *("sklearn.metrics", "uvicorn", "psycopg"),
    ),
    (
        *("dvc.cli.parser", "dvc.repo.reproduce", "dvc.repo.experiments.run", "dvc_render"),
        *("networkx", "git", "dulwich.repo", "scmrepo.git", "flufl.lock", "zc.lockfile"),
    ),
    (
        *("pandas", "scipy.stats", "scipy.linalg", "scipy.ndimage", "scipy.cluster.vq"),
        *("matplotlib.pyplot", "seaborn", "optuna", "optuna.importance"),
        *("optuna.visualization.matplotlib", "pydantic", "ruamel.yaml", "pooch", "jinja2"),
        *("markdown_it", "PIL.JpegImagePlugin", "PIL.PngImagePlugin", "tqdm", "threadpoolctl"),
    ),
)
FORBIDS = "PYTHONDONTWRITEBYTECODE"
IMPORT = """
import contextlib, importlib, sys
for name in sys.argv[1:]:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
"""


def precompile() -> None:
    """Import every group in a process that may write bytecode, all groups at once.

    A module that cannot be imported is left out: who needs it compiles it then.
    """
    environment = {name: value for name, value in os.environ.items() if name != FORBIDS}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DVC_NO_ANALYTICS": "true"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", IMPORT, *group],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for group in GROUPS
    ]
    for process in processes:
        process.wait()


if __name__ == "__main__":
    precompile()
