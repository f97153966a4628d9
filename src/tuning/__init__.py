"""The search for better networks and trainings."""

import warnings

from optuna.exceptions import ExperimentalWarning

# Optuna marks its heartbeat and its plots so, of which nobody who searches needs to hear.
warnings.filterwarnings("ignore", category=ExperimentalWarning)
