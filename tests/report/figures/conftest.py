import pandas as pd
import pytest

from tests.report.figures.rows import frame_of, row


@pytest.fixture
def frame() -> pd.DataFrame:
    return frame_of(*(row(depth, batch) for depth in (1, 2, 4, 8) for batch in (1, 8, 64)))
