"""The model card (Mitchell et al., 2019), as Markdown."""

from ..config.registry import METRICS, SOURCES, VARIETY
from .findings import Findings, differing_splits
from .templates import markdown_templates


def render_card(findings: Findings) -> str:
    """Render the card of both generators."""
    template = markdown_templates().get_template("card.md")
    return template.render(
        findings=findings,
        credit=SOURCES[findings.source],
        differing_splits=differing_splits(findings.scores, findings.extractor["name"]),
        size=findings.parameters["preprocess.image_size"],
        metric_names={name: metric.words for name, metric in METRICS.items()},
        measure_names={name: measure.words for name, measure in VARIETY.items()},
    )
