"""On fake tensors of the CPU, dropout, attention and autocast choose CUDA's operators."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

import flopratio as fr
from flopratio.errors import UsageError
from flopratio.step.cuda_kernels import AUTOCAST, cuda_kernels
from flopratio.torch_private import has_kernel

FLASH = "aten._scaled_dot_product_flash_attention"
EFFICIENT = "aten._scaled_dot_product_efficient_attention"
ATTENTION = (FLASH, EFFICIENT, "aten._safe_softmax", f"{FLASH}_for_cpu")


def operators(ledger: fr.Ledger, phase: str = "forward") -> list[str]:
    return [row.op for row in ledger.rows if row.phase == phase]


class Attention(nn.Module):
    """Attention of projected heads, [batch, heads, length, width]."""

    def __init__(self, width: int = 16, **options: Any) -> None:
        super().__init__()
        self.project = nn.Linear(width, width)
        self.options = options

    def forward(self, query: Tensor, key: Tensor, *mask: Tensor) -> Tensor:
        query, key = self.project(query), self.project(key)
        return functional.scaled_dot_product_attention(query, key, key, *mask, **self.options)


def attention(
    query: tuple[int, ...] = (2, 4, 8, 16),
    key: tuple[int, ...] = (2, 4, 8, 16),
    mask: Tensor | None = None,
    *,
    dtype: str = "bfloat16",
    backend: str | None = None,
    **options: Any,
) -> str:
    """The operator that an attention comes down to."""
    batch = (torch.empty(query), torch.empty(key), *(() if mask is None else (mask,)))
    ledger = fr.count(
        Attention(query[-1], **options), batch, loss="sum", dtype=dtype, attention=backend
    )
    assert ledger.reconciled
    assert ledger.uncounted_ops == {}
    (found,) = [op for op in operators(ledger) if op in ATTENTION]
    return found


class TestAttention:
    def test_flash_in_low_precision(self) -> None:
        assert attention() == FLASH
        assert attention(dropout_p=0.1) == FLASH
        assert attention(is_causal=True) == FLASH
        assert attention(dtype="float16") == FLASH

    def test_cudnn_on_a_gpu_that_prefers_it(self) -> None:
        x = torch.empty(2, 4, 8, 16)
        ledger = fr.count(Attention(), (x, x), loss="sum", dtype="bfloat16", target="H100-80GB")
        assert ledger.convention["attention"] == "cudnn"
        assert (ledger.reconciled, ledger.saved_mismatches) == (True, [])

    def test_efficient_in_float32(self) -> None:
        assert attention(dtype="float32") == EFFICIENT

    def test_efficient_with_a_mask(self) -> None:
        assert attention(mask=torch.ones(8, 8, dtype=torch.bool)) == EFFICIENT

    def test_efficient_where_causal_is_not_square(self) -> None:
        assert attention(key=(2, 4, 5, 16), is_causal=True) == EFFICIENT

    def test_plain_products_in_float64_and_in_widths_that_are_not_aligned(self) -> None:
        assert attention(dtype="float64") == "aten._safe_softmax"
        odd = (2, 4, 8, 6)
        assert attention(odd, odd, dtype="float32") == "aten._safe_softmax"

    def test_flash_pads_what_is_not_aligned(self) -> None:
        odd = (2, 4, 8, 6)
        assert attention(odd, odd) == FLASH

    def test_grouped_queries_are_known_to_flash_alone(self) -> None:
        assert attention(key=(2, 2, 8, 16), enable_gqa=True) == FLASH
        grouped = attention(key=(2, 2, 8, 16), enable_gqa=True, dtype="float32")
        assert grouped == "aten._safe_softmax"

    def test_plain_products_where_rows_are_not_contiguous(self) -> None:
        with FakeTensorMode(), cuda_kernels():
            x = torch.empty(2, 4, 8, 16, requires_grad=True)
            fused = functional.scaled_dot_product_attention(x, x, x)
            assert type(fused.grad_fn).__name__ == "ScaledDotProductEfficientAttentionBackward0"
            by_columns = x.mT.contiguous().mT
            for query, mask in ((by_columns, None), (x, torch.zeros(8, 1).expand(8, 8))):
                plain = functional.scaled_dot_product_attention(query, x, x, mask)
                assert "Scaled" not in type(plain.grad_fn).__name__

    @pytest.mark.parametrize(
        ("key", "mask", "options", "sentence"),
        [
            ((2, 4, 8, 16), torch.ones(8, 8, dtype=torch.int64), {}, "attn_mask dtype to be bool"),
            ((2, 3, 8, 16), None, {"enable_gqa": True}, "must divide the number of heads"),
        ],
    )
    def test_what_torch_refuses_is_refused(
        self, key: tuple[int, ...], mask: Tensor | None, options: dict[str, Any], sentence: str
    ) -> None:
        with pytest.raises(UsageError, match=sentence):
            attention(key=key, mask=mask, **options)

    def test_as_asked_for(self) -> None:
        assert attention(backend="math") == "aten._safe_softmax"
        assert attention(backend="efficient") == EFFICIENT
        assert attention(backend="flash", dtype="float32") == "aten._safe_softmax"

    def test_it_keeps_q_k_v_the_result_and_a_number_a_row(self) -> None:
        model, x = Attention(16), torch.empty(2, 4, 8, 16)
        ledger = fr.count(model, (x, x), loss="sum", dtype="bfloat16")
        (row,) = [row for row in ledger.rows if row.op == FLASH]
        values, rows = 2 * 4 * 8 * 16 * 2, 2 * 4 * 8 * 4
        random_state = 2 * 8 + 8
        # The projected key is the value as well; the inputs are the projection's.
        assert row.saved_bytes == 3 * values + rows + random_state

    def test_the_result_has_the_operands_width(self) -> None:
        with FakeTensorMode(), cuda_kernels():
            x = torch.empty(2, 4, 8, 6, dtype=torch.bfloat16)
            assert functional.scaled_dot_product_attention(x, x, x).shape == x.shape


class TestDropout:
    def test_its_mask_is_a_byte_an_element(self) -> None:
        model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.1))
        ledger = fr.count(model, torch.empty(8, 4), loss="sum")
        (row,) = [row for row in ledger.rows if row.op == "aten.native_dropout"]
        assert row.saved_bytes == 8 * 4
        assert ledger.saved_mismatches == []

    @pytest.mark.parametrize("module", [nn.Dropout(0.0), nn.Dropout(0.1, inplace=True)])
    def test_without_a_fused_kernel_it_is_as_on_the_cpu(self, module: nn.Module) -> None:
        model = nn.Sequential(nn.Linear(4, 4), module)
        ledger = fr.count(model, torch.empty(8, 4), loss="sum")
        assert "aten.native_dropout" not in operators(ledger)
        assert ledger.reconciled


class TestRMSNorm:
    @pytest.mark.parametrize(("dtype", "itemsize"), [("float32", 4), ("bfloat16", 2)])
    def test_it_keeps_its_input_and_a_number_a_row(self, dtype: str, itemsize: int) -> None:
        model = nn.Sequential(nn.Linear(4, 4), nn.RMSNorm(4))
        ledger = fr.count(model, torch.empty(8, 4), loss="sum", dtype=dtype)
        rows = [row for row in ledger.rows if row.op == "aten._fused_rms_norm"]
        if torch.__version__ < "2.9":  # whose CUDA has no such operator
            assert not rows
            return
        (row,) = rows
        assert row.saved_bytes == 8 * 4 * itemsize + 8 * 4
        assert (ledger.reconciled, ledger.saved_mismatches) == (True, [])

    def test_on_the_cpu_torch_takes_it_apart(self) -> None:
        model = nn.Sequential(nn.Linear(4, 4), nn.RMSNorm(4))
        ledger = fr.count(model, torch.empty(8, 4), loss="sum", target="cpu")
        assert "aten._fused_rms_norm" not in operators(ledger)
        x = torch.ones(2, 4, requires_grad=True)
        assert type(functional.rms_norm(x, (4,)).grad_fn).__name__ != "FusedRmsNormBackward0"


class Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.norm(self.linear(x)), -1).sum(-1)


class TestAutocast:
    def test_norm_softmax_and_sums_are_in_float32(self) -> None:
        options: dict[str, Any] = {"loss": "sum", "amp": "bf16"}
        cuda = fr.count(Norm(), torch.empty(8, 4), **options)
        cpu = fr.count(Norm(), torch.empty(8, 4), **options, target="cpu")

        def written(ledger: fr.Ledger, op: str) -> int:
            return sum(
                row.bytes_written for row in ledger.rows if row.op == op and row.phase == "forward"
            )

        result, statistics = 8 * 4, 2 * 8
        assert written(cuda, "aten.native_layer_norm") == 4 * (result + statistics)
        assert written(cpu, "aten.native_layer_norm") == 2 * result + 4 * statistics
        assert (written(cuda, "aten._softmax"), written(cpu, "aten._softmax")) == (
            4 * result,
            2 * result,
        )
        assert cuda.reconciled

    def test_torch_s_own_lists_are_covered(self) -> None:
        """As they stand in the header that every torch brings along. Overloads for named tensors,
        which torch had before 2.13, are left out."""
        header = Path(torch.__file__).parent / "include/ATen/autocast_mode.h"
        text = header.read_text(encoding="utf-8")
        with cuda_kernels(autocast=True):
            for macro in ("AT_FORALL_FP32", "AT_FORALL_FP32_SET_OPT_DTYPE"):
                (body,) = re.findall(rf"#define {macro}\(_\)(.*?)\n\n", text, re.DOTALL)
                names = [
                    ".".join(re.split(r",\s*", name)) for name in re.findall(r"_\((.*?)\)", body)
                ]
                names = [name for name in names if "dimname" not in name.lower()]
                assert len(names) > 10
                assert [name for name in names if not has_kernel(f"aten::{name}", AUTOCAST)] == []

    def test_attention_in_float64_stays(self) -> None:
        x = torch.empty(2, 4, 8, 16)
        ledger = fr.count(Attention(), (x, x), loss="sum", dtype="float64", amp="bf16")
        assert FLASH not in operators(ledger)

    def test_it_ends_with_the_step(self) -> None:
        fr.count(Norm(), torch.empty(8, 4), loss="sum", amp="bf16")
        with torch.autocast("cpu", torch.bfloat16):
            y = functional.layer_norm(torch.ones(2, 4, dtype=torch.bfloat16), (4,))
        assert y.dtype is torch.bfloat16

    def test_what_it_overrides_is_an_operator(self) -> None:
        """All names that the lists hold exist, whatever torch is installed."""
        with cuda_kernels(autocast=True):
            pass


RECURRENT: dict[str, tuple[type[nn.RNNBase], dict[str, Any]]] = {
    "lstm": (nn.LSTM, {}),
    "lstm, two layers both ways": (
        nn.LSTM,
        {"num_layers": 2, "bidirectional": True, "dropout": 0.1, "batch_first": True},
    ),
    "lstm, projected": (nn.LSTM, {"num_layers": 2, "proj_size": 4}),
    "lstm, no biases": (nn.LSTM, {"bias": False}),
    "gru": (nn.GRU, {"num_layers": 2}),
    "rnn": (nn.RNN, {"bidirectional": True}),
    "relu": (nn.RNN, {"nonlinearity": "relu", "bias": False}),
}


def first_sum(output: Any) -> Tensor:
    return output[0].float().sum()


class TestRecurrentLayers:
    """Time 5, 3 sequences, 8 -> 16; input, output and states in float32."""

    X, STATE = 5 * 3 * 8 * 4, 3 * 16 * 4

    def count(self, name: str, **options: Any) -> fr.Ledger:
        make, arguments = RECURRENT[name]
        ledger = fr.count(make(8, 16, **arguments), torch.empty(5, 3, 8), loss=first_sum, **options)
        assert (ledger.reconciled, ledger.saved_mismatches) == (True, [])
        assert ledger.uncounted_ops == {}
        return ledger

    @pytest.mark.parametrize(
        "options", [{}, {"dtype": "bfloat16"}, {"amp": "bf16"}, {"input_grad": True}], ids=str
    )
    @pytest.mark.parametrize("name", RECURRENT)
    def test_all_layers_are_one_operator(self, name: str, options: dict[str, Any]) -> None:
        ledger = self.count(name, **options)
        recurrent = [op for op in operators(ledger) if "rnn" in op]
        assert recurrent == ["aten._cudnn_rnn"]
        assert "aten._cudnn_rnn" in ledger.memory.unknown_workspaces  # how large is its affair
        assert ledger.memory.gradients >= sum(ledger.parameters.values()) * 4 / (
            2 if "dtype" in options else 1
        )

    @pytest.mark.parametrize("name", RECURRENT)
    def test_as_much_work_as_on_the_cpu(self, name: str) -> None:
        cuda, cpu = (self.count(name, input_grad=True, target=target) for target in ("cuda", "cpu"))
        assert "aten._cudnn_rnn" not in operators(cpu)
        products = ("forward", "grad_weight")
        for phase in products:
            assert getattr(cuda.totals, phase) == getattr(cpu.totals, phase)
        assert cuda.totals.grad_input >= cpu.totals.grad_input  # oneDNN's also of constant states

    def test_what_is_kept(self) -> None:
        """The input, both states, the output, and of each row four gates and c."""
        reserve = 5 * 3 * 5 * 16 * 4
        output = 5 * 3 * 16 * 4
        ledger = self.count("lstm")
        saved = ledger.memory.saved_activations
        assert saved == self.X + 2 * self.STATE + output + reserve

    @pytest.mark.parametrize("target", ["cuda", "cpu"])
    def test_packed_sequences(self, target: str) -> None:
        class Packed(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.rnn = nn.GRU(8, 16)

            def forward(self, x: Tensor) -> Tensor:
                packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 4, 2]))
                return self.rnn(packed)[0].data

        ledger = fr.count(Packed(), torch.empty(5, 3, 8), loss="sum", target=target)
        assert (ledger.reconciled, ledger.saved_mismatches) == (True, [])
        assert ledger.uncounted_ops == {}
        assert ("aten._cudnn_rnn" in operators(ledger)) == (target == "cuda")
        assert ledger.totals.forward == 2 * 11 * 48 * (8 + 16)  # 5 + 4 + 2 rows

    def test_a_step_of_the_optimizer(self) -> None:
        ledger = self.count("lstm", optimizer="adamw")
        assert ledger.totals.update > 0

    def test_real_ones_are_computed_as_they_are(self) -> None:
        module, x = nn.LSTM(8, 16), torch.randn(5, 3, 8)
        expected = module(x)[0]
        with cuda_kernels():
            assert torch.equal(module(x)[0], expected)


def raising_within() -> None:
    with cuda_kernels():
        raise KeyError


def test_torch_s_kernels_are_put_back() -> None:
    with pytest.raises(KeyError):
        raising_within()
    with FakeTensorMode():
        x = torch.empty(2, 4, 8, 16, requires_grad=True)
        assert type(functional.dropout(x).grad_fn).__name__ == "MulBackward0"


def test_however_a_model_calls_them() -> None:
    attend, drop = functional.scaled_dot_product_attention, functional.dropout  # of its own
    with FakeTensorMode(), cuda_kernels():
        x = torch.empty(2, 4, 8, 16, requires_grad=True)
        assert "EfficientAttention" in type(attend(x, x, x).grad_fn).__name__
        for dropped in (drop(x), torch.dropout(x, 0.5, True), nn.Dropout()(x)):
            assert type(dropped.grad_fn).__name__ == "NativeDropoutBackward0"


def test_real_tensors_are_computed_as_they_are() -> None:
    x = torch.randn(1, 2, 4, 8)
    expected = functional.scaled_dot_product_attention(x, x, x)
    with cuda_kernels():
        assert torch.equal(functional.scaled_dot_product_attention(x, x, x), expected)
        assert functional.dropout(x, 0.5).shape == x.shape
