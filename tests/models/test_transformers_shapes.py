"""Shapes in the notation of transformers' documentation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from flopratio.models.transformers_shapes import documented_forms, parse_documented

SIZES = {"batch_size": 2, "sequence_length": 8, "hidden_size": 32, "n_docs": 5, "patch": 4}


@pytest.mark.parametrize(
    ("shape", "sides"),
    [
        ("(batch_size, sequence_length)", (2, 8)),
        ("(batch_size,)", (2,)),
        ("(batch_size)", (2,)),
        ("(batch_size, sequence_length + 1, 1)", (2, 9, 1)),
        ("(batch_size * config.n_docs, hidden_size // 8)", (10, 4)),
        ("(batch_size, 3 * patch ** 2)", (2, 48)),
        ("(batch_size, patch x patch)", (2, 16)),
        ("(batch_size, number of features)", None),
        ("(batch_size, unheard_of)", None),
        ("(batch_size, (sequence_length)", None),
    ],
)
def test_sizes_stand_for_the_names(shape: str, sides: tuple[int, ...] | None) -> None:
    assert parse_documented(shape, SIZES.get) == sides


class Documented(nn.Module):
    def forward(
        self,
        states: torch.FloatTensor,
        timesteps: torch.LongTensor,
        padding_mask: Tensor,
        unclear: Tensor,
    ) -> None:
        r"""
        states (`torch.FloatTensor` of shape `(batch_size, sequence_length, hidden_size)`):
            What is seen.
        timesteps (`torch.LongTensor` of shape `(batch_size,)`, *optional*):
            When.
        padding_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`):
            What counts.
        unclear (`torch.Tensor` of shape `(batch_size, unheard_of)`):
            Whatever.
        other (`torch.Tensor` of shape `(batch_size,)`):
            No input of this forward.
        """


def test_inputs_have_the_documented_shapes() -> None:
    forms = documented_forms(Documented(), SIZES.get)
    assert forms.keys() == {"states", "timesteps", "padding_mask"}
    assert (forms["states"].shape, forms["states"].dtype) == ((2, 8, 32), torch.float32)
    assert forms["timesteps"].tolist() == [0, 0]
    assert forms["padding_mask"].tolist() == [[1] * 8] * 2  # lets everything through
