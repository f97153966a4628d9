import json
from pathlib import Path
from typing import Any

import pytest

from src.common import outputs, paths
from src.common.errors import UserError
from src.report import summary
from src.summary import main
from src.tracking.address import remember_experiment

HEAD = "pair,kind,n,count,mean,std,min,25%,50%,75%,max,relative\n"
ROWS = (
    "RNxRP,different,100,10,79.58123,5.575,63.6,70,79.56,85,96.59,1.0\n"
    "RNxRN,floor,100,10,0.317651,0.1215,0.126,0.2,0.29371,0.4,0.9987,0.00399147\n"
)
VERDICT = {
    "holds": True,
    "largest_same": "RPxFP",
    "largest_same_mean": 3.649,
    "smallest_different": "FNxFP",
    "smallest_different_mean": 76.63,
    "share": 1.0,
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the stages leave, and a store that was reached."""
    for module in (summary, paths):
        monkeypatch.setattr(module, "PROJECT", tmp_path)
    monkeypatch.setattr(summary, "HOME", tmp_path)
    monkeypatch.setattr(outputs, "METRICS", tmp_path / "reports" / "metrics")
    frechet = {"value": 1.141, "low": 0.859, "high": 1.42, "floor": 0.254}
    frechet |= {"floor_n": 103, "score_at_floor_n": 1.2}
    metrics: dict[str, Any] = {
        "fetch": {"source": "phantom"},
        "fid": {
            "extractor": {"name": "classifier", "dims": 64},
            "verdict": VERDICT,
            "scores": {"NORMAL": {"frechet": frechet, "recall": {"value": 0.5}}},
        },
        "privacy": {
            "NORMAL": {"sentence": "No sign of copying.", "membership": {"sentence": "It tells."}},
            "PNEUMONIA": {"sentence": "Copies!"},
        },
        "utility": {"sentence": "No gain.", "scarcity": {"sentence": "Few."}, "imbalance": None},
    }
    for name, content in metrics.items():
        path = tmp_path / "reports" / "metrics" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    (tmp_path / "reports" / "fid").mkdir()
    (tmp_path / "reports" / "fid" / "describe.csv").write_text(HEAD + ROWS)
    (tmp_path / "mlflow.db").touch()
    remember_experiment(tmp_path, "chest-xray-gan", "7")
    return tmp_path


def test_the_verdicts_stand_below_an_aligned_table(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:5] == [
        "Fréchet distances, 64 features of classifier, data: phantom",
        "pair        kind    n    mean     std    min     50%     max  relative",
        "RNxRP  different  100   79.58   5.575   63.6   79.56   96.59         1",
        "RNxRN      floor  100  0.3177  0.1215  0.126  0.2937  0.9987  0.003991",
    ]
    text = "\n".join(lines)
    # A record of an older version, which had no intervals.
    assert (
        "It is undecided whether the hypothesis holds: this record is of an older version" in text
    )
    assert "In 100% of the draws both same-class distances are below all others" in text
    assert "NORMAL     Fréchet distance 1.14 (0.859 to 1.42) [103 images: 1.2, floor 0.254]" in text
    assert "copies, NORMAL: No sign of copying.\nmembership, NORMAL: It tells.\n" in text
    assert "membership, PNEUMONIA" not in text  # it was not run
    assert "use for a classifier: No gain.\nFew real images: Few.\n" in text
    assert "Rare" not in text  # it was not run
    assert lines[-2] == f"report:    {project / 'reports' / 'index.html'}"
    assert lines[-1].startswith("MLflow UI: make ui, then http://127.0.0.1:5000/#/experiments/7/")


def test_the_classes_have_the_names_of_the_parameters(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    params: dict[str, Any],
) -> None:
    params["data"]["names"].update(normal="No Finding", pneumonia="COVID-19")
    (project / "params.yaml").write_text(json.dumps(params))
    monkeypatch.setattr(summary, "PARAMS", project / "params.yaml")
    summary.summarize()
    text = capsys.readouterr().out
    assert "  No Finding  Fréchet distance 1.14" in text
    assert "copies, No Finding: No sign of copying." in text
    assert "NORMAL" not in text


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (HEAD + "RNxRP,different,100,10,many\n", "it cannot be read"),
        (HEAD + "RNxRP,different\n", "it cannot be read"),
        ("pair\nRNxRP\n", "it cannot be read"),
        (None, "it is missing"),
    ],
)
def test_a_damaged_table_is_named(project: Path, table: str | None, said: str) -> None:
    path = project / "reports" / "fid" / "describe.csv"
    path.unlink() if table is None else path.write_text(table)
    with pytest.raises(UserError, match=f"reports/fid/describe.csv: {said}"):
        summary.summarize()
