"""The built-in networks as modules: the same layers and parameters as the analytic ledger has."""

import pytest

from flopratio.networks.analytic import analytic_ledger
from flopratio.networks.library import NETWORKS, describe
from flopratio.networks.modules import batch_of, build, build_loss


class TestOneDescription:
    """The analytic ledger and the module come from the same description."""

    @pytest.mark.parametrize("model", [*NETWORKS])
    def test_the_module_has_the_ledgers_layers_and_parameters(self, model: str) -> None:
        small = {"image": 33} if "image" in NETWORKS[model].keys else {}
        if model == "linearnet":
            small = {"input": 12}
        if model == "transformer":
            small = {"width": 16, "seq": 6, "vocabulary": 24}
        network = describe(model, batch=2, **small)
        module = build(network)
        ledger = analytic_ledger(network)
        assert ledger.totals.parameters == sum(p.numel() for p in module.parameters())
        modules = dict(module.named_modules())
        for name, type_name in ledger.types.items():
            if name != "loss":
                assert type(modules[name]).__name__ == type_name
        x, target = batch_of(network)
        assert build_loss(network)(module(x), target).ndim == 0

    def test_autograd_gives_its_nodes_the_names_that_the_ledger_has(self) -> None:
        network = describe("convnet", batch=2, image=33)
        loss = build_loss(network)
        x, target = batch_of(network)
        waiting, nodes = [loss(build(network)(x), target).grad_fn], set()
        while waiting:
            node = waiting.pop()
            if node is not None:
                nodes.add(node.name()[:-1])  # the digit tells overloads apart
                waiting += [following for following, _ in node.next_functions]
        named = {row.autograd[:-1] for row in analytic_ledger(network).rows if row.autograd}
        assert "MaxPool2DWithIndicesBackward" in named
        assert named <= nodes

    def test_a_shared_middle_has_the_parameters_of_one_layer(self) -> None:
        shared, distinct = (
            analytic_ledger("cnn", depth=5, shared=True),
            analytic_ledger("cnn", depth=5, shared=False),
        )
        assert shared.totals.forward == distinct.totals.forward
        assert distinct.totals.parameters - shared.totals.parameters == 4 * 32 * 32 * 9
