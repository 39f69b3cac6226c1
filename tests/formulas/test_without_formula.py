"""Every operator of torch has a formula, or a reason why it has none."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch

from flopratio.formulas import OPERATORS, SPARSE_OPERATORS
from tests.formulas.without_formula import (
    NAMESPACES,
    WITHOUT_FORMULA,
    explained,
    main,
    without_formula,
)

with suppress(ImportError):  # define operators of their own
    import torch._inductor.inductor_prims
    import torch.distributed.fsdp
    import torch.nn.attention.varlen


def test_every_operator_has_a_formula_or_a_reason() -> None:
    assert [name for name in without_formula() if name not in explained()] == []


def test_no_reason_is_stale() -> None:
    """None of what has a formula by now; nor twice, nor of what no torch has."""
    names = [name for names in WITHOUT_FORMULA.values() for name in names.split()]
    assert len(names) == len(set(names)) == len(explained())
    assert [name for name in explained() if name in OPERATORS or name in SPARSE_OPERATORS] == []
    of_aten = [name for name in explained() if name.startswith("aten.")]
    there = [name for name in of_aten if hasattr(torch.ops.aten, name.partition(".")[2])]
    assert len(there) > len(of_aten) * 0.8  # older versions lack some
    assert set(there) <= set(without_formula())


def test_the_list_looks_at_every_namespace() -> None:
    """GIVEN a formula less, THEN the list has it."""
    for name in ("aten.mm", "prims.add", "c10d.allreduce_", "_c10d_functional.all_reduce"):
        assert name.partition(".")[0] in NAMESPACES
        formula = OPERATORS.pop(name)
        sparse = SPARSE_OPERATORS.pop(name, None)
        try:
            assert name in without_formula()
        finally:
            OPERATORS[name] = formula
            if sparse is not None:
                SPARSE_OPERATORS[name] = sparse


def test_the_script_prints_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == without_formula()
    assert not any("NO REASON" in line for line in lines)
