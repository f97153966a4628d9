"""Take the documentation's pictures of the report and of MLflow's UI: `make pictures`.

They show what the last run in this folder made, so run `make demo` first. Needs chromium.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from playwright.sync_api import Page, ViewportSize, sync_playwright

from benchmarks.workspace import free_port
from src.common.errors import UserError, report_errors
from src.common.files import write_file
from src.common.outputs import read_metrics
from src.common.paths import HOME, PROJECT
from src.tracking.address import runs_link, tracking_uri
from src.tracking.store import find_runs

IMAGES = PROJECT / "docs" / "images"
SIZE: ViewportSize = {"width": 1280, "height": 800}
PATIENCE = 120  # seconds for MLflow's UI to start
LOADING, SETTLE = 90_000, 4_000  # milliseconds: for what is asked for, and to draw it
# What else it would lay over the page.
NO_ASSISTANT = (
    "localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false');"
    "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');"
)


def take_pictures() -> None:
    """Write real_beside_generated, report, mlflow_runs and mlflow_losses (.png) into docs/images.

    Raises:
        UserError: if chromium or a run of phantoms is missing.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise UserError("chromium is not installed; it takes the pictures")
    if read_metrics("fetch")["source"] != "phantom":
        raise UserError("the last run is of patients' images, whose pictures do not belong here")
    report = PROJECT / "reports" / "index.html"
    runs = find_runs(HOME, "train_normal") if report.is_file() else []
    if not runs:
        raise UserError("no run was made here yet: `make demo` makes one")
    beside = PROJECT / "reports" / "figures" / "real_beside_generated.png"
    write_file(IMAGES / beside.name, beside.read_bytes())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_context(viewport=SIZE, device_scale_factor=1).new_page()
        page.goto(report.as_uri())
        page.evaluate("document.querySelector('#distances').scrollIntoView()")
        _save(page, "report")
        page.context.add_init_script(NO_ASSISTANT)
        with _mlflow_ui() as address:
            link = runs_link(HOME, {}).partition("/#/")[2]
            page.goto(f"{address}/#/{link}")
            page.get_by_text("train_normal").first.wait_for(timeout=LOADING)
            page.wait_for_timeout(SETTLE)
            _save(page, "mlflow_runs")
            place = link.partition("/runs")[0]
            page.goto(
                f"{address}/#/{place}/runs/{runs[0]}/model-metrics?workflowType=machine_learning"
            )
            page.locator(".js-plotly-plot").nth(2).wait_for(timeout=LOADING)
            page.wait_for_timeout(SETTLE)
            _save(page, "mlflow_losses")
        browser.close()


def _save(page: Page, name: str) -> None:
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path)
    print(f"{path.relative_to(PROJECT)}")


@contextmanager
def _mlflow_ui() -> Iterator[str]:
    """MLflow's UI on the project's store, until the block ends."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(
        [*command, "--backend-store-uri", tracking_uri(HOME)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
        start_new_session=True,
    ) as process:
        try:
            end = time.monotonic() + PATIENCE
            while not _answers(address):
                if time.monotonic() > end or process.poll() is not None:
                    raise UserError("MLflow's UI does not start")
                time.sleep(1)
            yield address
        finally:
            with suppress(ProcessLookupError):  # it has ended
                os.killpg(process.pid, signal.SIGTERM)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    sys.exit(report_errors(take_pictures))
