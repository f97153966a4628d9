"""Which patient an image shows, as its file name tells."""

import re

# Kaggle names normal images IM-0115-0001 or NORMAL2-IM-0587-0001-0002, and pneumonia images
# person123_bacteria_456; Mendeley's later version has NORMAL-1049278-0001, BACTERIA-..., VIRUS-...
_DASHED = re.compile(
    r"^(?P<prefix>IM-|NORMAL2-IM-|NORMAL-|BACTERIA-|VIRUS-)(?P<number>[0-9]+)(?:-[0-9]+)+$",
    re.IGNORECASE,
)
_PERSON = re.compile(r"^person(?P<number>[0-9]+)_(?P<cause>[A-Za-z]+)(?:_[0-9]+)+$", re.IGNORECASE)


def patient_of(name: str) -> str:
    """The patient's key for an image file's name (without folders).

    The number alone does not do: ``person1_bacteria_1`` and ``person1_virus_6`` are different
    people. A name in no known form is a patient of its own.

    >>> patient_of("person123_bacteria_456.jpeg"), patient_of("NORMAL2-IM-0587-0001-0002.jpeg")
    ('bacteria-123', 'NORMAL2-IM-587')
    """
    stem = _stem(name)
    if match := _PERSON.match(stem):
        return f"{match['cause'].lower()}-{int(match['number'])}"
    if match := _DASHED.match(stem):
        return f"{match['prefix'].upper()}{int(match['number'])}"
    return stem


def names_a_patient(name: str) -> bool:
    """Whether an image file's name (without folders) has a known form."""
    return bool(_PERSON.match(_stem(name)) or _DASHED.match(_stem(name)))


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name
