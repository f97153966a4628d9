"""The search for better networks and trainings: space, studies, workers and results."""

import warnings

import optuna
from optuna.exceptions import ExperimentalWarning

# Optuna marks its heartbeat and plots as experimental, and logs trials that are reported here.
warnings.filterwarnings("ignore", category=ExperimentalWarning)
optuna.logging.set_verbosity(optuna.logging.ERROR)
