"""Many layers as a few."""

from flopratio.report.figures.folding import fold


def groups(layers: dict[str, float], most: int) -> list[str]:
    return list(dict.fromkeys(fold(layers, most).values()))


def test_few_layers_are_themselves() -> None:
    assert fold({"a.0": 1, "a.1": 1, "b": 1}, 12) == {"a.0": "a.0", "a.1": "a.1", "b": "b"}
    assert fold({}, 12) == {}


def test_layers_are_folded_as_deep_as_there_is_room() -> None:
    layers = {f"{block}.{layer}": 1.0 for block in "abcd" for layer in ("x.p", "x.q", "y")}
    assert groups(layers, 12) == [f"{block}.{layer}" for block in "abcd" for layer in "xy"]
    assert groups(layers, 6) == ["a", "b", "c", "d"]


def test_repeated_blocks_are_one_where_that_tells_more() -> None:
    blocks = {f"h.{n}.{layer}": 1.0 for n in range(12) for layer in ("norm", "attn", "mlp")}
    assert groups({"embed": 1.0, **blocks, "head": 1.0}, 12) == [
        "embed",
        "h.*.norm",
        "h.*.attn",
        "h.*.mlp",
        "head",
    ]


def test_what_is_negligible_is_one_group_and_the_last() -> None:
    layers = {"small": 0.1, "a": 50.0, "tiny": 0.2, "b": 30.0, "c": 20.0}
    assert groups(layers, 12) == ["a", "b", "c", "2 others"]


def test_of_many_layers_side_by_side_the_heaviest_stay() -> None:
    layers = {str(n): 1.0 + n for n in range(40)}
    assert groups(layers, 4) == ["37", "38", "39", "37 others"]
    assert len(fold(layers, 4)) == 40
