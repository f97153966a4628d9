"""Settings of the report."""

from typing import Annotated

from pydantic import Field

from .base import Section


class ReportSettings(Section):
    """Title of the report, and the number of epochs in its figure of the samples."""

    title: Annotated[str, Field(min_length=1, max_length=200)]
    evolution_epochs: Annotated[int, Field(ge=2, le=12)]
