"""The library: data, models, training, evaluation, figures, report and tracking."""
