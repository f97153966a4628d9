"""The model card (Mitchell et al., 2019), as Markdown."""

from ..config.registry import METRICS, SOURCES, VARIETY
from .findings import Findings, caveats
from .templates import escape_markdown, markdown_templates
from .wording import experiment_sentences


def render_card(findings: Findings) -> str:
    """Render the card of both generators."""
    template = markdown_templates().get_template("card.md")
    return template.render(
        findings=findings,
        class_names={c: escape_markdown(name) for c, name in findings.class_names.items()},
        credit=SOURCES[findings.source],
        caveats=caveats(findings.scores, findings.extractor["name"]),
        experiments=experiment_sentences(findings.utility),
        size=findings.parameters["preprocess.image_size"],
        metric_names={name: metric.words for name, metric in METRICS.items()},
        measure_names={name: measure.words for name, measure in VARIETY.items()},
    )
