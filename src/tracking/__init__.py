"""MLflow, which no other package imports.

What is logged goes to an outbox on disk first, and from there to MLflow in batches, so that logging
costs next to nothing while a network trains. The default store is sqlite beside the project;
MLFLOW_TRACKING_URI moves it. A store that was never reached is refused before any work starts. One
that was, and is away now, does not stop the work: what is logged waits on disk, and the next stage
or `make sync` delivers it, everything once.
"""

import os

# Read by MLflow: no usage statistics, no bars for small files, and a short wait for a dead server,
# since what is not delivered is tried again here.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # it has the password
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
