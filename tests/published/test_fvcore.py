"""fvcore's docs/flop_count.md: a small convolutional network, by layer and by operator.

Its convention: multiply-adds, which it calls FLOP, so half of the ledger's; a forward of one image
of 1x32x32.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import flopratio as fr
from experiments.literature.reference import rows
from experiments.literature.steps import part, profiled

PUBLISHED = {row["module"]: int(row["macs"]) for row in rows("fvcore_doc_lenet_macs")}

OPERATORS = {"op:conv": "aten.convolution", "op:addmm": "aten.addmm"}


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3)
        self.conv2 = nn.Conv2d(6, 16, 3)
        self.fc1 = nn.Linear(16 * 6 * 6, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        for convolution in (self.conv1, self.conv2):
            x = functional.max_pool2d(functional.relu(convolution(x)), 2)
        x = functional.relu(self.fc1(x.flatten(1)))
        return self.fc3(functional.relu(self.fc2(x)))


@pytest.fixture(scope="module")
def ledger() -> fr.Ledger:
    model = LeNet()
    with torch.no_grad():
        return profiled(lambda: model(torch.rand(1, 1, 32, 32)), model)


@pytest.mark.parametrize("line", PUBLISHED)
def test_multiply_adds(ledger: fr.Ledger, line: str) -> None:
    if line in OPERATORS:
        flops = sum(row.flops for row in ledger.rows if row.op == OPERATORS[line])
    else:
        flops = part(ledger, "*" if line == "total" else line).totals.forward
    assert flops == 2 * PUBLISHED[line]
