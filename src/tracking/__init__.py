"""Experiment tracking: runs, their delivery to MLflow, and its registered models.

No other package imports MLflow.

What a run logs is written to an outbox on disk, and delivered from there to MLflow in batches.
Logging therefore costs almost nothing while a network trains. The default store is an SQLite file
in the project's folder; MLFLOW_TRACKING_URI names another one. A store that was never reached is
refused before any work starts. If a store that was reached before is away, the work goes on: its
entries wait in the outbox until the next stage or `make sync` delivers them, each entry once.
"""

import os

# MLflow reads these: no usage statistics, no progress bars for small files, no printed addresses
# (they contain the password), and a short timeout, since a failed delivery is repeated anyway.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
