"""The memory of a step, made by hand: its figures, and what follows from its blocks."""

import copy
import json
import pickle

import pytest

import flopratio as fr
from flopratio.errors import UsageError
from flopratio.ledger import Ledger
from flopratio.memory import CATEGORIES, Memory, MemoryBlock, OperatorRun, bytes_alive


@pytest.fixture
def memory() -> Memory:
    """A weight of 40 bytes; forward makes 8 that backward reads, backward 5 in passing and a
    gradient of 40; the update runs in place."""
    return Memory(
        {"peak": 93, "inference_peak": None},
        blocks=[
            MemoryBlock(0, 40, "parameters", "first", "", -1, None),
            MemoryBlock(1, 8, "saved_activations", "first", "aten.mm", 0, 2),
            MemoryBlock(2, 5, "temporaries", "first", "aten.sum", 1, 1),
            MemoryBlock(3, 40, "gradients", "first", "aten.mm", 1, None),
        ],
        operators=[
            OperatorRun("first", "aten.mm", "forward"),
            OperatorRun("first", "aten.mm", "grad_weight"),
            OperatorRun("first", "aten.add_", "update"),
        ],
        unknown_workspaces=["aten.sum"],
    )


def test_a_figure_is_an_item_and_an_attribute(memory: Memory) -> None:
    assert memory == {"peak": 93, "inference_peak": None}
    assert memory.peak == memory["peak"] == 93
    assert memory.inference_peak is None
    memory.inference_peak = 48
    assert memory["inference_peak"] == 48
    assert not hasattr(memory, "buffers")
    with pytest.raises(AttributeError, match="knows no 'buffers'"):
        _ = memory.buffers
    with pytest.raises(AttributeError, match="no figure of memory is called 'bogus'"):
        _ = memory.bogus  # type: ignore[attr-defined]


def test_events(memory: Memory) -> None:
    moves = [(e.record, e.kind, e.block, e.phase) for e in memory.events()]
    assert moves == [
        (-1, "alloc", 0, ""),
        (0, "alloc", 1, "forward"),
        (1, "alloc", 2, "backward"),
        (1, "free", 2, "backward"),
        (1, "alloc", 3, "backward"),
        (2, "free", 1, "update"),
    ]


def test_timeline(memory: Memory) -> None:
    """What one operator makes and gives up again is in no other operator's way."""
    timeline = memory.timeline()
    assert tuple(timeline) == CATEGORIES
    assert timeline["parameters"] == [40, 40, 40]
    assert timeline["saved_activations"] == [8, 8, 0]
    assert timeline["gradients"] == [0, 40, 40]
    assert timeline["temporaries"] == [0, 0, 0]
    assert bytes_alive([(40, -1, None), (8, 0, 2)], 3) == [48, 48, 40]
    assert bytes_alive([(40, -1, None)], 0) == [40]


def test_phases(memory: Memory) -> None:
    assert memory.phases() == [
        ("forward", range(1)),
        ("backward", range(1, 2)),
        ("update", range(2, 3)),
    ]


def test_peak(memory: Memory) -> None:
    peak = memory.at_peak
    assert (peak.nbytes, peak.record, peak.phase, peak.op) == (88, 1, "backward", "aten.mm")
    assert [block.number for block in peak.blocks] == [0, 3, 1]
    assert peak.by_category == {
        **dict.fromkeys(CATEGORIES, 0),
        "parameters": 40,
        "saved_activations": 8,
        "gradients": 40,
    }
    assert peak.by_layer == {"first": 88}


def test_a_copy_has_the_blocks_too(memory: Memory) -> None:
    for again in (copy.deepcopy(memory), pickle.loads(pickle.dumps(memory))):
        assert again == memory
        assert again.blocks == memory.blocks
        assert again.unknown_workspaces == ("aten.sum",)


def test_a_file_keeps_what_is_alive_when() -> None:
    ledger = fr.count("mlp", depth=1, width=8, batch=2)
    again = Ledger.from_json(ledger.to_json()).memory
    assert again == ledger.memory == json.loads(ledger.to_json())["memory"]
    assert again.peak == ledger.memory.at_peak.nbytes
    assert again.at_peak == ledger.memory.at_peak
    assert again.timeline() == ledger.memory.timeline()
    assert list(again.events()) == list(ledger.memory.events())


def test_a_document_without_operators_is_without_them_here_too() -> None:
    document = json.loads(fr.count("mlp", depth=1, width=8, batch=2).to_json(rows=False))
    assert "rows" not in document
    assert "memory_lives" not in document


def test_of_figures_alone_nothing_more_is_told() -> None:
    again = Memory({"peak": 8})
    assert not again.knows_blocks
    for look in (
        lambda: again.blocks,
        lambda: again.operators,
        lambda: again.at_peak,
        lambda: again.timeline(),
        lambda: again.phases(),
        lambda: next(again.events()),
    ):
        with pytest.raises(UsageError, match=r"only the figures are known.*count the step anew"):
            look()
