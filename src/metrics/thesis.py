"""Distances that the thesis published, for comparison with a run."""

import pandas as pd

_ROWS = """
pair   mean     std      min      25%      50%      75%      max
RNxRP  4.467217 0.745554 3.045637 3.935836 4.339930 5.070940 6.319213
RNxFN  2.595408 0.254912 2.039646 2.411774 2.567080 2.756945 3.272817
RNxFP  7.697779 1.130095 4.978535 6.984023 7.582666 8.565713 10.119095
RPxFN  5.486598 0.623257 3.634400 5.141299 5.530263 5.933036 7.116484
RPxFP  2.038317 0.700336 0.973648 1.461451 1.942160 2.568950 3.763087
FNxFP  7.698875 0.946177 4.893967 7.150980 7.777950 8.291801 10.217985
"""


def published_description() -> pd.DataFrame:
    """Return the thesis's table: statistics of 100 distances of each pair, of 100 images a side.

    Its absolute values are not those of the standard FID, so only the order of the pairs and
    each pair's distance relative to RNxRP can be compared with a run's.
    """
    header, *rows = (line.split() for line in _ROWS.strip().splitlines())
    table = pd.DataFrame(rows, columns=header).set_index("pair")
    return table.astype(float)
