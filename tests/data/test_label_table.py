"""Tables of labels as people have them: RSNA's, NIH's, from Excel, in old encodings."""

import codecs
import io
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.common.errors import UserError
from src.config.data import DataSettings, TableSettings
from src.config.settings import parse_settings
from src.data.archive import ArchiveEntry, list_entries
from src.data.checksum import source_checksum
from src.data.folder import select_images
from src.data.label_table import TableRow, match_files, read_table
from tests.conftest import collected, png_bytes, write_folder, write_zip
from tests.data.test_folder import split_files

COLUMNS = {
    "path": "t.csv", "image": "{image}", "label": "label", "label_separator": "", "patient": "",
    "split": "",
}  # fmt: skip


def read(content: bytes | str, **changes: str) -> dict[str, TableRow]:
    data = content.encode() if isinstance(content, str) else content
    return read_table(data, "t.csv", TableSettings(**COLUMNS | changes))


def row(*labels: str, patient: str = "", split: str = "") -> TableRow:
    return TableRow(tuple(sorted(labels)), patient, split)


PLAIN = "image,label\nÀ 1.png,Normal\nb.png,Grippe à vérifier\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode(),
        codecs.BOM_UTF8 + PLAIN.encode(),
        PLAIN.encode("cp1252"),
        PLAIN.encode("utf-16"),
        codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"),
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace(",", ";").encode(),
        PLAIN.replace(",", "\t").encode(),
        PLAIN.replace(",", " , ").encode(),
        b'"image","label"\n"\xc0 1.png","Normal"\n\n"b.png","Grippe \xe0 v\xe9rifier"',
    ],
)
def test_a_table_of_any_usual_form_is_read(content: bytes) -> None:
    expected = {"À 1.png": row("Normal"), "b.png": row("Grippe à vérifier")}
    assert read(content) == expected


def test_rsnas_rows_are_joined_if_they_agree() -> None:
    """One row a box, and an id that becomes a file's name."""
    table = "patientId,x,y,width,height,Target\np1,,,,,0\np2,1,2,3,4,1\np2,5,6,7,8,1\n"
    columns = {"image": "{patientId}.dcm", "label": "Target", "patient": "patientId"}
    expected = {"p1.dcm": row("0", patient="p1"), "p2.dcm": row("1", patient="p2")}
    assert read(table, **columns) == expected
    with pytest.raises(UserError, match=r"line 5: .* of p2\.dcm is not what .* \(0, p2; 1, p2\)"):
        read(table + "p2,,,,,0\n", **columns)


def test_nihs_labels_are_separate() -> None:
    table = "Image Index,Finding Labels,Patient ID\n1_0.png,Pneumonia|Infiltration,1\n2.png,,2\n"
    found = read(
        table,
        image="{Image Index}",
        label="Finding Labels",
        label_separator="|",
        patient="Patient ID",
    )
    assert found == {
        "1_0.png": row("Infiltration", "Pneumonia", patient="1"),
        "2.png": row(patient="2"),
    }


def test_a_template_may_have_several_columns() -> None:
    table = "study,view,label,set\ns1,ap,Normal,Train\n"
    found = read(table, image="files/{study}/{view}.png", split="set")
    assert found == {"files/s1/ap.png": row("Normal", split="Train")}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("file,label\na,b\n", r"has no column image; it has \['file', 'label'\]"),
        ("", "has no column image, label"),
        ("image,label,label\na,b,c\n", "has several columns label"),
        ("image,label\na,b\nc\n", "line 3: 1 values in 2 columns"),
        ("image,label\na,b,c\n", "line 2: 3 values in 2 columns"),
        ('image,label\n"a,b\n', "cannot be read as CSV"),
        (b"PK\x03\x04\0\0\0", "is no file of text"),
        (b"\xff\xfea", "is no file of text"),
    ],
)
def test_another_table_is_refused(content: bytes | str, reason: str) -> None:
    with pytest.raises(UserError, match=rf"data\.table.*t\.csv.*{reason}"):
        read(content)


# Parquet


def parquet(**columns: Any) -> bytes:
    stream = io.BytesIO()
    pd.DataFrame(columns).to_parquet(stream)
    return stream.getvalue()


def test_values_of_parquet_are_the_texts_of_csv() -> None:
    """Above all whole numbers that pandas made floats, since one of them was missing."""
    table = pd.DataFrame(
        {
            " image.name ": ["a", "b", "c"],
            "label": pd.Categorical(["x", None, " y "]),
            "who": [17, None, 3],
            "set": np.array(["train", None, ""], dtype=object),
        }
    )
    assert table["who"].dtype == float
    columns = {"image": "{image.name}", "patient": "who", "split": "set"}
    expected = {
        "a": row("x", patient="17", split="train"),
        "b": row(),
        "c": row("y", patient="3"),
    }
    assert read(parquet(**table), **columns) == expected
    ids = table.assign(who=table["who"].astype("Int64"))
    assert read(ids.to_csv(index=False), **columns) == expected


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([1, 0], ["1", "0"]),
        ([1.0, 0.5], ["1", "0.5"]),
        ([True, False], ["True", "False"]),
        (pd.array([2, None], dtype="Int64"), ["2", ""]),
        ([Decimal("1.50"), None], ["1.50", ""]),
        ([b"x", b"\xc3\xa9"], ["x", "\u00e9"]),
        (pd.to_datetime(["2020-01-02", None]), ["2020-01-02 00:00:00", ""]),
    ],
)
def test_a_value_of_any_type_has_its_text(values: Any, texts: list[str]) -> None:
    found = read(parquet(image=["a", "b"], label=["x", "x"], who=values), patient="who")
    assert [found[image].patient for image in "ab"] == texts


def test_each_entry_of_a_list_is_a_label() -> None:
    lists = [["Mass", "Pneumonia"], [], None, ["No Finding", None]]
    assert read(parquet(image=list("abcd"), label=lists)) == {
        "a": row("Mass", "Pneumonia"),
        "b": row(),
        "c": row(),
        "d": row("No Finding"),
    }


def test_a_column_that_pandas_keeps_as_an_index_is_one() -> None:
    stream = io.BytesIO()
    pd.DataFrame({"image": ["a"], "label": ["x"]}).set_index("image").to_parquet(stream)
    assert read(stream.getvalue()) == {"a": row("x")}


def test_rsnas_rows_in_parquet_are_joined_if_they_agree() -> None:
    columns = {"image": "{patientId}.dcm", "label": "Target", "patient": "patientId"}
    ids, targets = ["p1", "p2", "p2"], [0, 1, 1]
    expected = {"p1.dcm": row("0", patient="p1"), "p2.dcm": row("1", patient="p2")}
    assert read(parquet(patientId=ids, Target=targets), **columns) == expected
    with pytest.raises(UserError, match=r"row 4: .* of p2\.dcm is not what .* \(0, p2; 1, p2\)"):
        read(parquet(patientId=[*ids, "p2"], Target=[*targets, 0]), **columns)


WHOLE = parquet(image=["a.png"] * 50, label=["x"] * 50)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (parquet(file=["a"], label=["b"]), r"has no column image; it has \['file', 'label'\]"),
        (parquet(image=["a"], label=["b"], **{"label ": ["c"]}), "has several columns label"),
        (parquet(image=[["a"]], label=["b"]), "column image: its values are of type list"),
        (parquet(image=["a"], label=[{"b": 1}]), "column label: its values are of type struct"),
        (parquet(image=["a"], label=[b"\xff"]), "cannot be read as Parquet: .*codec"),
        (WHOLE[:-20], "cannot be read as Parquet: "),
        (WHOLE[:4], "cannot be read as Parquet: "),
        (WHOLE[:4] + bytes(40) + WHOLE[44:], "cannot be read as Parquet: "),
        (bytes(4) + WHOLE[4:], "is no file of text"),
    ],
)
def test_another_or_a_damaged_parquet_file_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(UserError, match=rf"^data\.table.*t\.csv.*{reason}[^\n]*$"):
        read(content)


def test_parquet_with_damaged_bytes_is_read_or_refused() -> None:
    rng = np.random.default_rng(7)
    refused = 0
    for _ in range(300):
        content = np.frombuffer(WHOLE, dtype=np.uint8).copy()
        content[rng.integers(4, len(content), 3)] = rng.integers(0, 256, 3)
        try:
            read(content.tobytes())
        except UserError:
            refused += 1
    assert refused > 100


def entries(*paths: str) -> list[ArchiveEntry]:
    return [ArchiveEntry(PurePosixPath(path), 0, lambda: None) for path in paths]  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(
    ("image", "file"),
    [
        ("1.png", "images_01/images/1.png"),
        ("images/1.png", "images_01/images/1.png"),
        (r".\images\1.png", "images_01/images/1.png"),
        ("/data/set/images_01/images/1.png", "images_01/images/1.png"),
        ("set/a/2.png", "a/2.png"),
        ("2.png", None),  # of a and of b
        ("b/2.png", "b/2.png"),
        ("ages/1.png", None),
        ("mages_01/images/1.png", None),
        ("e\u0301.png", "\u00e9.png"),
    ],
)
def test_a_path_is_that_of_the_file_at_one_of_whose_ends_it_is(
    image: str, file: str | None
) -> None:
    files = entries("images_01/images/1.png", "a/2.png", "b/2.png", "\u00e9.png")
    if image == "2.png":
        with pytest.raises(UserError, match=r"2\.png fits a/2\.png and b/2\.png"):
            match_files([image], files, "data.table.image")
        return
    found = match_files([image], files, "data.table.image")
    assert {key: entry.path.as_posix() for key, entry in found.items()} == (
        {image: file} if file else {}
    )


def test_two_paths_of_one_file_are_refused() -> None:
    with pytest.raises(UserError, match=r"1\.png and a/1\.png both mean a/1\.png"):
        match_files(["a/1.png", "1.png"], entries("a/1.png"), "data.test_list")


# By the source


def settings_for(params: dict[str, Any], path: Path, table: str, **changes: Any) -> DataSettings:
    columns = {key: changes.pop(key) for key in tuple(changes) if key in COLUMNS}
    params["data"]["table"].update(path=table, **columns)
    params["data"].update(source="folder", path=str(path), **changes)
    return parse_settings(params).data


IMAGES = {f"images/{number}.png": png_bytes(number) for number in range(12)}
ROWS = [
    f"{number}.png,{label},p{number // 2},{'test' if number > 7 else 'train'}"
    for number in range(12)
    for label in (["No Finding", "Pneumonia|Mass", "Edema"][number % 3],)
]
TABLE = "\n".join(["image,label,who,set", *ROWS]) + "\n"
CHOICES: dict[str, Any] = {
    "classes": {"normal": ["no finding"], "pneumonia": ["pneumonia"]},
    "label_separator": "|",
}


@pytest.mark.parametrize("where", ["beside", "in a folder", "in a zip"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.parquet"])
def test_a_table_gives_labels_patients_and_splits(
    where: str,
    name: str,
    tmp_path: Path,
    params: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = IMAGES | {"images/extra.png": png_bytes(99)}
    content = (TABLE + "13.png,Pneumonia,p9,train\n").encode()
    if name == "t.tsv":
        content = content.replace(b",", b"\t")
    elif name == "t.parquet":
        content = parquet(**pd.read_csv(io.BytesIO(content)))
    if where == "beside":
        (tmp_path / name).write_bytes(content)
    else:
        files[name] = content
    write = write_zip if where == "in a zip" else write_folder
    settings = settings_for(
        params, write(tmp_path / "in", files), name, patient="who", split="set", **CHOICES
    )
    images = {image.entry.path.stem: image for image in select_images(settings, tmp_path)}
    assert {name: (image.label, image.patient, image.split) for name, image in images.items()} == {
        str(number): (
            "NORMAL" if number % 3 == 0 else "PNEUMONIA",
            f"p{number // 2}",
            "test" if number > 7 else "train",
        )
        for number in range(12)
        if number % 3 < 2
    }
    said = capsys.readouterr().err
    assert "left aside, images of neither class: 4 Edema" in said
    assert "1 images of the table are not in data.path, such as 13.png" in said
    assert "left aside: 1 images that the table does not name" in said


def test_a_label_with_a_slash_is_one_label(tmp_path: Path, params: dict[str, Any]) -> None:
    path = write_folder(tmp_path / "in", IMAGES)
    lines = [f"{n}.png,{'Normal' if n % 2 else 'No Lung Opacity / Not Normal'}" for n in range(12)]
    (tmp_path / "t.csv").write_text("\n".join(["image,label", *lines]))
    classes = {"normal": ["normal"], "pneumonia": ["No Lung Opacity / *"]}
    settings = settings_for(params, path, "t.csv", classes=classes, test_share=0.5)
    found = [
        (image.label, int(image.entry.path.stem) % 2) for image in select_images(settings, tmp_path)
    ]
    assert sorted(set(found)) == [("NORMAL", 1), ("PNEUMONIA", 0)]


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "no file": ("", {"path": "absent.csv"}, r"data\.table\.path: absent\.csv: there is no such"),
    "no image": (
        TABLE.replace(".png", ".dcm"),
        {"split": "set"},
        r"data\.table\.image: 12 images of the table are not in data\.path, such as 0\.dcm; images",
    ),
    "both classes": (
        TABLE.replace("Mass", "No Finding"),
        {"split": "set"},
        r"data\.classes: the labels of 1\.png fit NORMAL and PNEUMONIA",
    ),
    "an empty class": (
        TABLE,
        {"split": "set", "classes": {"normal": ["Healthy"], "pneumonia": ["Pneumonia"]}},
        r"data\.classes\.normal: .* has no image with a label Healthy",
    ),
    "another split": (
        TABLE.replace("p5,test", "p5,dev"),
        {"split": "set"},
        r"data\.table\.split: images/10\.png is of split 'dev', none of train, training, test",
    ),
    "a row without a split": (
        TABLE.replace("p5,test", "p5,"),
        {"split": "set"},
        r"images/10\.png has no split, as others have",
    ),
    "no split": (TABLE, {}, r"data\.test_share: .*has no train and test folders; set the share"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_that_cannot_be_used_is_refused_by_name(
    case: str, tmp_path: Path, params: dict[str, Any]
) -> None:
    table, changes, reason = REFUSED[case]
    (tmp_path / "t.csv").write_text(table)
    path = write_folder(tmp_path / "in", IMAGES)
    choices = CHOICES | changes
    settings = settings_for(params, path, choices.pop("path", "t.csv"), **choices)
    with pytest.raises(UserError, match=reason):
        select_images(settings, tmp_path)


def test_a_split_by_the_table_and_another_by_folders_are_refused(
    tmp_path: Path, params: dict[str, Any]
) -> None:
    files = {name.replace("images", "test"): content for name, content in IMAGES.items()}
    (tmp_path / "t.csv").write_text(TABLE)
    path = write_folder(tmp_path / "in", files)
    settings = settings_for(params, path, "t.csv", split="set", **CHOICES)
    with pytest.raises(UserError, match=r"0\.png is of split train by the table and in a folder"):
        select_images(settings, tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"patient": "who", "patient_pattern": "p"}, "patient_pattern: data.table.patient names"),
        (
            {"split": "set", "test_share": 0.2},
            "test_share: data.table.split makes a split too; set one",
        ),
        ({"split": "set", "test_list": "t.txt"}, "test_list: data.table.split makes a split too"),
        ({"test_list": "t.txt", "test_share": 0.2}, "test_share: data.test_list makes a split too"),
        ({"image": "patientId"}, "table.image: it needs a column in braces"),
        ({"label": ""}, "table.label: "),
    ],
)
def test_choices_that_exclude_each_other_are_refused(
    changes: dict[str, Any], reason: str, params: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"data\.{reason}"):
        settings_for(params, tmp_path, "t.csv", **changes)


def test_the_checksum_covers_images_and_table(tmp_path: Path, params: dict[str, Any]) -> None:
    path, table = write_folder(tmp_path / "in", IMAGES), tmp_path / "t.csv"
    table.write_text(TABLE)
    checksum = source_checksum(path, table)
    assert checksum not in (source_checksum(path), source_checksum(table))
    settings = settings_for(params, path, "t.csv", split="set", sha256=checksum, **CHOICES)
    assert len(select_images(settings, tmp_path)) == 8
    table.write_text(TABLE + "\n")
    with pytest.raises(UserError, match=r"data\.sha256: .*in with .*t\.csv has the checksum"):
        select_images(settings, tmp_path)
    table.write_text(TABLE)
    (path / "images/0.png").write_bytes(png_bytes(50))
    with pytest.raises(UserError, match=r"data\.sha256: .*in with .*t\.csv has the checksum"):
        select_images(settings, tmp_path)
    with pytest.raises(UserError, match="there is no such file"):
        source_checksum(path, tmp_path / "absent.csv")


def test_the_checksum_covers_a_parquet_table(tmp_path: Path, params: dict[str, Any]) -> None:
    path, table = write_folder(tmp_path / "in", IMAGES), tmp_path / "t.parquet"
    rows = pd.read_csv(io.StringIO(TABLE))
    table.write_bytes(parquet(**rows))
    checksum = source_checksum(path, table)
    settings = settings_for(params, path, "t.parquet", split="set", sha256=checksum, **CHOICES)
    assert len(select_images(settings, tmp_path)) == 8
    table.write_bytes(parquet(**rows.assign(who="one")))
    with pytest.raises(UserError, match=r"data\.sha256: .*in with .*t\.parquet has the checksum"):
        select_images(settings, tmp_path)


def test_nothing_of_the_table_leaves_it(
    tmp_path: Path, params: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write_folder(tmp_path / "in", IMAGES), tmp_path / "out"
    out.mkdir()
    (tmp_path / "t.csv").write_text(TABLE.replace(",p", ",Mustermann "))
    settings = settings_for(params, path, "t.csv", patient="who", split="set", **CHOICES)
    table = collected(settings, tmp_path, out)
    patients = {image.patient for image in select_images(settings, tmp_path)}
    assert len(patients) == table["patient"].nunique() == 6
    assert all(len(name) == 6 and name.isdigit() for name in table["patient"])
    assert "Mustermann" not in table.to_csv() + capsys.readouterr().out
    assert not [e for e in list_entries(out) if "Mustermann" in e.path.as_posix()]


@pytest.mark.parametrize("inside", [False, True])
def test_a_list_names_the_test_images(inside: bool, tmp_path: Path, params: dict[str, Any]) -> None:
    """As NIH's, which also names images of other labels."""
    listed = "\ufeff0.png\r\nimages/1.png\r\n\r\n2.png\r\n99.png".encode()
    path = write_folder(tmp_path / "in", IMAGES | {"t.csv": TABLE.encode()})
    ((path if inside else tmp_path) / "l.txt").write_bytes(listed)
    settings = settings_for(params, path, "t.csv", test_list="l.txt", **CHOICES)
    images = select_images(settings, tmp_path)
    assert {image.entry.path.stem for image in images if image.split == "test"} == {"0", "1"}
    assert {image.split for image in images} == {"train", "test"}
    assert len(images) == 8
    if not inside:
        checksum = source_checksum(path, tmp_path / "l.txt")
        settings = settings.model_copy(update={"sha256": checksum})
        assert len(select_images(settings, tmp_path)) == 8


def test_a_list_beside_folders_of_a_split_is_refused(
    tmp_path: Path, params: dict[str, Any]
) -> None:
    files = split_files("train/NORMAL", "train/PNEUMONIA", "test/NORMAL", "test/PNEUMONIA")
    (tmp_path / "l.txt").write_text("0.png\n")
    path = write_folder(tmp_path / "in", files)
    params["data"].update(source="folder", path=str(path), test_list="l.txt")
    settings = parse_settings(params).data
    with pytest.raises(UserError, match=r"0\.png fits test/NORMAL/0\.png and test/PNEUMONIA/0"):
        select_images(settings, tmp_path)
    (tmp_path / "l.txt").write_text("test/NORMAL/0.png\n")
    with pytest.raises(
        UserError, match=r"data\.test_list: .*has train and test folders of its own"
    ):
        select_images(settings, tmp_path)
    with pytest.raises(UserError, match=r"data\.test_list: no\.txt: there is no such file"):
        select_images(settings.model_copy(update={"test_list": "no.txt"}), tmp_path)
