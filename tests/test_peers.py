"""What the peers say of a step."""

import torch

from flopratio.peers import saved_by_autograd


def test_saved_bytes_count_each_storage_once() -> None:
    x = torch.randn(10, requires_grad=True)
    # x is kept for both factors, and the products' other factors are x again: 40 bytes.
    assert saved_by_autograd(lambda: (x * x) * x.view(2, 5).flatten(), []) == 80
