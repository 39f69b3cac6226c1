"""Measured times."""

from flopratio.report import figures
from flopratio.report.figures import step_time
from tests.report.figures.rows import texts


def test_time_ratio_stands_beside_the_flop_ratio(frame, tmp_path):
    frame["time_ratio"], frame["ratio"] = 1.5, 2.0
    words = texts(figures.time_ratio_against_flop_ratio(frame, tmp_path))
    assert "The time ratio departs from the FLOP ratio by 25% (median)" in words
    assert "mlp: median time 1.50, FLOP 2.00" in words
    assert "time as FLOP" in words


def test_share_of_step_adds_up_to_all_of_it(frame, tmp_path):
    words = texts(figures.share_of_step(frame, tmp_path))
    assert "Backward takes 30% of a step's time" in words
    assert {"20%", "30%", "50%"} <= set(words)
    assert {"depth 1, batch 1", "depth 8, batch 64"} <= set(words)


def drawn(frame, directory, monkeypatch):
    """The axes of the figure, as they are handed over to be written."""
    axes = []

    def write(directory, name, title, panels, draw):
        from matplotlib.figure import Figure

        for panel in panels:
            axes.append(Figure().subplots())
            draw(axes[-1], panel)
        return []

    monkeypatch.setattr(step_time, "write", write)
    figures.time_ratio_against_flop_ratio(frame, directory)
    return axes


def test_one_wide_interval_leaves_the_view_and_the_points_stay_apart(frame, tmp_path, monkeypatch):
    frame["ratio"] = [1.5 + 0.1 * place for place in range(len(frame))]
    frame["time_ratio"] = frame["ratio"] - 0.2
    frame["time_ratio_low"] = frame["time_ratio"] - 0.1
    frame["time_ratio_high"] = frame["time_ratio"] + 0.1
    (usual,) = drawn(frame, tmp_path, monkeypatch)
    frame.loc[0, ["time_ratio_low", "time_ratio_high"]] = [0.0, 260.0]
    (axes,) = drawn(frame, tmp_path, monkeypatch)
    low, high = axes.get_ylim()
    assert (low, high) == usual.get_ylim()
    assert low < min(frame["time_ratio"])
    assert max(frame["ratio"]) < high < 2 * max(frame["ratio"])
    arrows = [
        (line.get_marker(), line.get_xdata()[0], line.get_ydata()[0])
        for line in axes.lines
        if line.get_marker() in "^v" and len(line.get_xdata()) == 1
    ]
    assert sorted(arrows) == [("^", 1.5, high), ("v", 1.5, low)]
    labels = axes.get_legend_handles_labels()[1]
    assert "an interval leaves the view" in labels
    assert "an interval leaves the view" not in usual.get_legend_handles_labels()[1]
