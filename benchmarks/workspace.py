"""The project's files: its named networks, and copies in which stages run without touching it."""

import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def copy_project(folder: Path, without: Collection[str] = ()) -> None:
    """Copy the files that git holds or would hold to ``folder``, but those named."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and name not in without and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def settings_of_networks(name: str) -> list[str]:
    """The settings of a file of networks/, as ``key=value`` below train.<class>."""
    lines = (ROOT / "networks" / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]
