"""Attention: softmax(scale query @ key.T + mask) @ value in one operator, whichever backend; the
fast paths of multi-head attention and of the transformer's encoder layer.

Two products, Q @ K.T and P @ V, where P are the probabilities. Of an attention with R query rows
(batch, heads and queries together), each of which meets M keys of D entries and M values of E:

- the scores S = R M,
- Q @ K.T [R, D] @ [D, M]: 2 S D FLOP,
- P @ V [R, M] @ [M, E]: 2 S E FLOP.

Each has two operands, so backward has four: grad_q and grad_k of 2 S D, grad_v and grad_P of 2 S E.
Fused kernels keep neither scores nor probabilities; their backward evaluates Q @ K.T again. That is
``recompute``, apart from the law, so that all backends cost the same: model FLOPs 3 times forward,
hardware FLOPs (D = E) 3.5 times.

Fewer heads of key and value than of query (grouped queries) share keys, not work: R counts the
query's heads. A causal mask counts in full; :func:`causal_half` is the other convention, for the
operators that :func:`is_causal` tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flopratio.formulas.formula import (
    EXAMPLES,
    Call,
    Cost,
    Example,
    Gradient,
    LayerCost,
    Part,
    Size,
    Tensor,
    layer,
    operator,
    prod,
)


@dataclass(frozen=True, slots=True)
class Attention:
    """One attention.

    Args:
        rows: query rows, over batch, heads and queries.
        keys: how many keys each row meets.
        width, value_width: entries of a key, of a value.
        scale: the scores' factor; None: 1 / sqrt(width).
        bias: the operand that is added to the scores, by its name, if there is one.
        dropout: the probability that a probability is dropped.
    """

    rows: Size
    keys: Size
    width: Size
    value_width: Size
    scale: float | None = None
    bias: str | None = None
    dropout: float = 0

    @property
    def scores(self) -> Size:
        return self.rows * self.keys

    @property
    def query_key(self) -> Size:
        """FLOP of Q @ K.T."""
        return 2 * self.scores * self.width

    @property
    def probability_value(self) -> Size:
        """FLOP of P @ V."""
        return 2 * self.scores * self.value_width

    @property
    def flops(self) -> Size:
        return self.query_key + self.probability_value

    @property
    def scaled(self) -> int:
        """1 where the scores are multiplied by the scale."""
        return 0 if self.scale == 1 else 1

    @property
    def biased(self) -> int:
        """1 where a bias is added to the scores."""
        return 0 if self.bias is None else 1

    @property
    def dropping(self) -> int:
        """Multiplications that dropout costs a probability: by the mask, by 1 / (1 - p)."""
        return 2 if self.dropout else 0

    def elementwise(self, keeps_logsumexp: bool = True) -> Size:
        """All arithmetic of forward but the products.

        1. scale and bias: 1 a score each, where there are any;
        2. softmax, 5 a score: a comparison for the maximum m, subtraction, exp, an addition into
           the sum s, division;
        3. dropout: 2 a score, where there is any;
        4. for backward log-sum-exp = m + log s: 2 a row.
        """
        a_score = self.scaled + self.biased + 5 + self.dropping
        return a_score * self.scores + (2 * self.rows if keeps_logsumexp else 0)

    @property
    def backward(self) -> tuple[Part, ...]:
        """The work of backward, from Q, K, V, out, log-sum-exp L and grad_out.

        For all three:

        1. P = exp(scale Q K.T + bias - L): Q K.T is ``recompute``; scale, bias, subtraction, exp:
           2 to 4 a score; dropout, 2 a score.

        For the value:

        2. grad_v = P.T grad_out: as P V.

        For the scores, hence for query, key and bias:

        3. grad_P = grad_out V.T: as P V; dropout, 2 a score;
        4. d = sum over E of grad_out out: a multiply-add an entry of out, 2 R E (it equals the sum
           over the keys of P grad_P, see Dao et al., FlashAttention, 2022, section 3.1);
        5. grad_scores = P (grad_P - d), 2 a score; this is the bias's gradient too;
        6. times scale: 1 a score.

        For query and key:

        7. grad_q = grad_scores K: as Q K.T;
        8. grad_k = grad_scores.T Q: as Q K.T.
        """
        of_scores = ("query", "key") if self.bias is None else ("query", "key", self.bias)
        again = self.scaled + self.biased + 2 + self.dropping
        gradient = self.dropping + 2 + self.scaled
        return (
            Part("query", flops=self.query_key),
            Part("key", flops=self.query_key),
            Part("value", flops=self.probability_value),
            Part(
                of_scores,
                flops=self.probability_value,
                elementwise=gradient * self.scores + 2 * self.rows * self.value_width,
            ),
            Part((*of_scores, "value"), elementwise=again * self.scores),
        )

    def cost(
        self, backward: str, saves: Sequence[Tensor | None], keeps_logsumexp: bool = True
    ) -> Cost:
        """Forward, by an operator whose backward is the operator of the given name. Its node keeps
        everything, whichever gradient is asked for."""
        kept = tuple(tensor for tensor in saves if isinstance(tensor, Tensor))
        *gradients, of_all = (
            Gradient(part.operand, backward, part.flops, part.elementwise, kept)
            for part in self.backward
        )
        return Cost(
            flops=self.flops,
            elementwise=self.elementwise(keeps_logsumexp),
            gradients=(*gradients, replace(of_all, recompute=self.query_key)),
        )

    @property
    def backward_cost(self) -> Cost:
        """Backward, which computes all the gradients whether or not they are asked for."""
        return Cost.fused(*self.backward, recompute=self.query_key)


_BACKENDS = {
    "flash_attention": "flash",
    "varlen_attn": "flash",
    "efficient_attention": "efficient",
    "cudnn_attention": "cudnn",
    "flex_attention": "flex",
    "attention_math": "math",
    "_safe_softmax": "math",
    "_native_multi_head_attention": "native",
    "_transformer_encoder_layer_fwd": "native",
}
"""What the name of an operator has in it -> whose kernels it belongs to."""


def backend(operators: Iterable[str]) -> str:
    """The kernels that computed attention, by the names of all the operators that ran.

    Returns:
        ``flash``, ``efficient``, ``cudnn``, ``flex``, ``native`` (the fast path of multi-head
        attention) or ``math`` (the products one by one); several as ``flash, math``; ``none`` where
        ``scaled_dot_product_attention`` and its kin did not run, whatever products and softmax did.
    """
    names = {
        name for operator in set(operators) for part, name in _BACKENDS.items() if part in operator
    }
    return ", ".join(sorted(names)) or "none"


CAUSAL = ("full", "half")
"""How a causal attention may count."""


def is_causal(operator: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a call is one attention as a whole, forward or backward, under a causal mask of its
    own. A mask that is an operand is not told from any other, and products one by one are computed
    in full.

    Args:
        operator: its name (``aten._scaled_dot_product_flash_attention``).
        arguments: by name, those that were given.
    """
    flagged = arguments.get("is_causal") or arguments.get("custom_mask_type")
    return bool(flagged) and operator.startswith(("aten.", "torch_attn."))


def causal_half(cost: Cost) -> Cost:
    """The cost of a causal attention by the other convention, that of FlashAttention's benchmarks:
    products take half of their FLOP, since half of the scores are masked away: M M / 2 of M queries
    and M keys. (Exactly, M (M + 1) / 2 are not; and of unlike numbers of queries and keys the half
    is taken too.) It is taken of every product: Q @ K.T and P @ V, their four gradients, and Q @
    K.T of the recompute. Arithmetic apart from products is left as it is."""
    return replace(
        cost,
        flops=cost.flops // 2,
        recompute=cost.recompute // 2,
        gradients=tuple(
            replace(work, flops=work.flops // 2, recompute=work.recompute // 2)
            for work in cost.gradients
        ),
        parts=tuple(replace(work, flops=work.flops // 2) for work in cost.parts),
    )


def heads_first(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float | None = None,
    bias: str | None = None,
    dropout: float = 0,
) -> Attention:
    """query[*B, H, L, D], key[*B, H', M, D], value[*B, H', M, E]"""
    rows, width, value_width = prod(query.shape[:-1]), query.shape[-1], value.shape[-1]
    return Attention(rows, key.shape[-2], width, value_width, scale, bias, dropout)


def sequence_first(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    longest: Size | None,
    scale: float | None = None,
    bias: str | None = None,
    dropout: float = 0,
) -> Attention:
    """query[B, L, H, D], key[B, M, H', D], value[B, M, H', E].

    Or sequences of unlike lengths end to end, query[all queries, H, D] (with or without a leading
    dimension of 1), and their offsets beside them. How many keys a query meets is then in the
    offsets' values; it is taken to be ``longest``, the most.
    """
    rows, width, value_width = prod(query.shape[:-1]), query.shape[-1], value.shape[-1]
    keys = key.shape[1] if longest is None else longest
    return Attention(rows, keys, width, value_width, scale, bias, dropout)


# -- F.scaled_dot_product_attention on the CPU --------------------------------------------------


@operator("aten._fused_sdp_choice")
def fused_sdp_choice(*operands: Any, out: int, **settings: Any) -> Cost:
    """Which backend to take: no arithmetic."""
    return Cost()


@operator(
    "aten.scaled_dot_product_attention",
    "aten._scaled_dot_product_attention_math",
    "aten._scaled_dot_product_attention_math_for_mps",
)
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0,
    is_causal: bool = False,
    dropout_mask: Tensor | None = None,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
    out: Tensor | tuple[Tensor, ...],
) -> Cost:
    """The whole attention as one operator, as a dispatch mode sees it in inference mode. Where
    autograd is on, it is never dispatched: its parts are."""
    bias = None if attn_mask is None else "attn_mask"
    sizes = heads_first(query, key, value, scale, bias, dropout_p)
    return Cost(flops=sizes.flops, elementwise=sizes.elementwise(keeps_logsumexp=False))


@operator("aten._scaled_dot_product_flash_attention_for_cpu")
def flash_attention_for_cpu(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout_p: float = 0,
    is_causal: bool = False,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
    out: tuple[Tensor, Tensor],
) -> Cost:
    """The mask has no gradient here (one that needs it takes the products one by one)."""
    bias = None if attn_mask is None else "attn_mask"
    sizes = heads_first(query, key, value, scale, bias, dropout_p)
    backward = "aten._scaled_dot_product_flash_attention_for_cpu_backward"
    return sizes.cost(backward, (query, key, value, attn_mask, *out))


@operator("aten._scaled_dot_product_flash_attention_for_cpu_backward")
def flash_attention_for_cpu_backward(
    grad_out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    logsumexp: Tensor,
    dropout_p: float,
    is_causal: bool,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
    out: tuple[Tensor, Tensor, Tensor],
) -> Cost:
    """See :attr:`Attention.backward`."""
    bias = None if attn_mask is None else "attn_mask"
    return heads_first(query, key, value, scale, bias, dropout_p).backward_cost


# -- F.scaled_dot_product_attention on CUDA -----------------------------------------------------


def flash_results(query: Tensor, key: Tensor, value: Tensor) -> tuple[Any, ...]:
    """What ``_scaled_dot_product_flash_attention`` returns, for those who have no GPU to ask: out,
    log-sum-exp [B, H, L] in fp32, two absent offsets, the lengths, the random state (2 and 1
    numbers of 8 bytes) and an empty mask."""
    b, h, length, _ = query.shape
    return (
        query.new(b, h, length, value.shape[-1]),
        query.new(b, h, length, itemsize=4),
        None,
        None,
        length,
        key.shape[-2],
        query.new(2, itemsize=8),
        query.new(itemsize=8),
        query.new(0),
    )


def efficient_results(query: Tensor, key: Tensor, value: Tensor) -> tuple[Any, ...]:
    """What ``_scaled_dot_product_efficient_attention`` returns in training: out, log-sum-exp in
    fp32 with the queries rounded up to a multiple of 32, the random seed and offset."""
    b, h, length, _ = query.shape
    return (
        query.new(b, h, length, value.shape[-1]),
        query.new(b, h, (length + 31) // 32 * 32, itemsize=4),
        query.new(itemsize=8),
        query.new(itemsize=8),
    )


@operator("aten._scaled_dot_product_flash_attention")
def flash_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *settings: Any,
    dropout_p: float = 0,
    is_causal: bool = False,
    return_debug_mask: bool = False,
    scale: float | None = None,
    out: tuple[Any, ...],
) -> Cost:
    """settings: dropout_p, is_causal, return_debug_mask; before them, of 8-bit numbers, the factors
    of query, key and value."""
    plain = [setting for setting in settings if isinstance(setting, float | int)]
    dropout = plain[0] if plain else dropout_p
    sizes = heads_first(query, key, value, scale, dropout=dropout)
    backward = "aten._scaled_dot_product_flash_attention_backward"
    return sizes.cost(backward, (query, key, value, *out[:-1]))


@operator("aten._scaled_dot_product_flash_attention_backward")
def flash_attention_backward(
    grad_out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    logsumexp: Tensor,
    cum_seq_q: Tensor | None,
    cum_seq_k: Tensor | None,
    max_q: Size,
    max_k: Size,
    dropout_p: float,
    is_causal: bool,
    philox_seed: Tensor,
    philox_offset: Tensor,
    *,
    scale: float | None = None,
    out: tuple[Tensor, Tensor, Tensor],
) -> Cost:
    """See :attr:`Attention.backward`."""
    return heads_first(query, key, value, scale, dropout=dropout_p).backward_cost


@operator("aten._scaled_dot_product_efficient_attention")
def efficient_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Tensor | None,
    compute_log_sumexp: bool,
    dropout_p: float = 0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    out: tuple[Any, ...],
) -> Cost:
    """The bias has been expanded to all scores already; its gradient is that of the scores."""
    bias = None if attn_bias is None else "attn_bias"
    sizes = heads_first(query, key, value, scale, bias, dropout_p)
    backward = "aten._scaled_dot_product_efficient_attention_backward"
    return sizes.cost(backward, (query, key, value, attn_bias, *out), compute_log_sumexp)


@operator("aten._scaled_dot_product_efficient_attention_backward")
def efficient_attention_backward(
    grad_out_: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Tensor | None,
    output: Tensor,
    logsumexp: Tensor,
    philox_seed: Tensor,
    philox_offset: Tensor,
    dropout_p: float,
    grad_input_mask: Sequence[bool],
    is_causal: bool = False,
    *,
    scale: float | None = None,
    out: tuple[Tensor | None, ...],
) -> Cost:
    """All of the gradients but the bias's are computed, whatever the mask asks for; see
    :attr:`Attention.backward`."""
    bias = None if attn_bias is None else "attn_bias"
    return heads_first(query, key, value, scale, bias, dropout_p).backward_cost


@operator("aten._scaled_dot_product_cudnn_attention")
def cudnn_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Tensor | None,
    compute_log_sumexp: bool,
    dropout_p: float = 0,
    is_causal: bool = False,
    return_debug_mask: bool = False,
    *,
    scale: float | None = None,
    out: tuple[Any, ...],
) -> Cost:
    """The bias has no gradient here."""
    bias = None if attn_bias is None else "attn_bias"
    sizes = heads_first(query, key, value, scale, bias, dropout_p)
    backward = "aten._scaled_dot_product_cudnn_attention_backward"
    return sizes.cost(backward, (query, key, value, attn_bias, *out[:-1]), compute_log_sumexp)


@operator("aten._cudnn_attention_forward")
def cudnn_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Tensor | None,
    cum_seq_q: Tensor | None,
    cum_seq_k: Tensor | None,
    max_q: Size,
    max_k: Size,
    compute_log_sumexp: bool,
    dropout_p: float = 0,
    is_causal: bool = False,
    return_debug_mask: bool = False,
    *,
    scale: float | None = None,
    seqused_k: Tensor | None = None,
    block_table: Tensor | None = None,
    out: tuple[Any, ...],
) -> Cost:
    """The kernel behind it, of one length of sequences; of several it is not counted."""
    bias = None if attn_bias is None else "attn_bias"
    if not all(each is None for each in (cum_seq_q, seqused_k, block_table)):
        return Cost(unknown="how long the sequences are is in values")
    sizes = heads_first(query, key, value, scale, bias, dropout_p)
    kept = (query, key, value, attn_bias, *(each for each in out if isinstance(each, Tensor)))
    return sizes.cost("aten._cudnn_attention_backward", kept, compute_log_sumexp)


@operator("aten._cudnn_attention_backward")
def cudnn_attention_kernel_backward(
    grad_out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    logsumexp: Tensor,
    philox_seed: Tensor,
    philox_offset: Tensor,
    attn_bias: Tensor | None,
    *settings: Any,
    scale: float | None = None,
    out: tuple[Tensor, Tensor, Tensor],
) -> Cost:
    """See :attr:`Attention.backward`."""
    *_, dropout_p, _ = settings
    bias = None if attn_bias is None else "attn_bias"
    return heads_first(query, key, value, scale, bias, dropout_p).backward_cost


@operator("aten._scaled_dot_product_cudnn_attention_backward")
def cudnn_attention_backward(
    grad_out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    logsumexp: Tensor,
    philox_seed: Tensor,
    philox_offset: Tensor,
    attn_bias: Tensor | None,
    cum_seq_q: Tensor | None,
    cum_seq_k: Tensor | None,
    max_q: Size,
    max_k: Size,
    dropout_p: float,
    is_causal: bool,
    *,
    scale: float | None = None,
    out: tuple[Tensor, Tensor, Tensor],
) -> Cost:
    """See :attr:`Attention.backward`."""
    bias = None if attn_bias is None else "attn_bias"
    return heads_first(query, key, value, scale, bias, dropout_p).backward_cost


@operator("aten._scaled_dot_product_fused_attention_overrideable")
def overrideable_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Tensor | None = None,
    dropout_p: float = 0,
    is_causal: bool = False,
    return_debug_mask: bool = False,
    *,
    scale: float | None = None,
    out: tuple[Any, ...],
) -> Cost:
    """That of other accelerators."""
    bias = None if attn_bias is None else "attn_bias"
    sizes = heads_first(query, key, value, scale, bias, dropout_p)
    backward = "aten._scaled_dot_product_fused_attention_overrideable_backward"
    return sizes.cost(backward, (query, key, value, attn_bias, *out[:-1]))


@operator("aten._scaled_dot_product_fused_attention_overrideable_backward")
def overrideable_attention_backward(
    grad_out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Tensor | None,
    grad_input_mask: Sequence[bool],
    output: Tensor,
    logsumexp: Tensor,
    cum_seq_q: Tensor | None,
    cum_seq_k: Tensor | None,
    max_q: Size,
    max_k: Size,
    dropout_p: float,
    is_causal: bool,
    philox_seed: Tensor,
    philox_offset: Tensor,
    *,
    scale: float | None = None,
    out: tuple[Tensor | None, ...],
) -> Cost:
    """See :attr:`Attention.backward`."""
    bias = None if attn_bias is None else "attn_bias"
    return heads_first(query, key, value, scale, bias, dropout_p).backward_cost


# -- the kernels below them, sequences of unlike lengths too ------------------------------------


def longest_key(offsets: Tensor | None, longest: Size | None) -> Size | None:
    """The most keys of a sequence; None where all have the same, which the shapes tell."""
    return None if offsets is None else longest


@operator("aten._flash_attention_forward")
def flash_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cum_seq_q: Tensor | None,
    cum_seq_k: Tensor | None,
    max_q: Size,
    max_k: Size,
    dropout_p: float,
    is_causal: bool,
    return_debug_mask: bool,
    *factors: Tensor | None,
    scale: float | None = None,
    out: tuple[Any, ...],
    **settings: Any,
) -> Cost:
    """factors: of 8-bit numbers, those of query, key and value. A sliding window counts in full."""
    longest = longest_key(cum_seq_k, max_k)
    sizes = sequence_first(query, key, value, longest, scale, dropout=dropout_p)
    backward = "aten._flash_attention_backward"
    return sizes.cost(backward, (query, key, value, cum_seq_q, cum_seq_k, *out[:-1]))


@operator("aten._flash_attention_forward_no_dropout_inplace")
def flash_attention_forward_inplace(
    output: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cum_seq_q: Tensor | None,
    cum_seq_k: Tensor | None,
    max_q: Size,
    max_k: Size,
    *settings: Any,
    scale: float | None = None,
    out: Tensor,
    **more: Any,
) -> Cost:
    """Inference only."""
    sizes = sequence_first(query, key, value, longest_key(cum_seq_k, max_k), scale)
    return Cost(flops=sizes.flops, elementwise=sizes.elementwise())


@operator("aten._flash_attention_backward")
def flash_attention_kernel_backward(
    grad_out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    logsumexp: Tensor,
    cum_seq_q: Tensor | None,
    cum_seq_k: Tensor | None,
    max_q: Size,
    max_k: Size,
    dropout_p: float,
    is_causal: bool,
    rng_state: Tensor,
    unused: Tensor,
    *,
    scale: float | None = None,
    out: tuple[Tensor, Tensor, Tensor],
    **windows: Any,
) -> Cost:
    """See :attr:`Attention.backward`."""
    longest = longest_key(cum_seq_k, max_k)
    return sequence_first(query, key, value, longest, scale, dropout=dropout_p).backward_cost


@operator("aten._efficient_attention_forward")
def efficient_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    cu_seqlens_q: Tensor | None,
    cu_seqlens_k: Tensor | None,
    max_seqlen_q: Size | None,
    max_seqlen_k: Size | None,
    dropout_p: float,
    custom_mask_type: int,
    compute_log_sumexp: bool = False,
    *,
    scale: float | None = None,
    seqlen_k: Tensor | None = None,
    window_size: int | None = None,
    out: tuple[Any, ...],
) -> Cost:
    """A causal mask, which is what ``custom_mask_type`` stands for, counts in full."""
    named = None if bias is None else "bias"
    longest = longest_key(cu_seqlens_k, max_seqlen_k)
    sizes = sequence_first(query, key, value, longest, scale, named, dropout_p)
    kept = (query, key, value, bias, cu_seqlens_q, cu_seqlens_k, *out)
    return sizes.cost("aten._efficient_attention_backward", kept, compute_log_sumexp)


@operator("aten._efficient_attention_backward")
def efficient_attention_kernel_backward(
    grad_out_: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    output: Tensor,
    cu_seqlens_q: Tensor | None,
    cu_seqlens_k: Tensor | None,
    max_seqlen_q: Size,
    max_seqlen_k: Size,
    logsumexp: Tensor,
    dropout_p: float,
    philox_seed: Tensor,
    philox_offset: Tensor,
    custom_mask_type: int,
    bias_requires_grad: bool,
    *,
    scale: float | None = None,
    out: tuple[Tensor | None, ...],
    **settings: Any,
) -> Cost:
    """See :attr:`Attention.backward`."""
    named = None if bias is None else "bias"
    longest = longest_key(cu_seqlens_k, max_seqlen_k)
    return sequence_first(query, key, value, longest, scale, named, dropout_p).backward_cost


def of_unlike_lengths(
    query: Tensor, key: Tensor, value: Tensor, max_k: Size, settings: Sequence[Any], scale: Any
) -> Attention:
    """``torch.nn.attention.varlen``; settings: is_causal, scale, and more."""
    return sequence_first(query, key, value, max_k, settings[1] if len(settings) > 1 else scale)


@operator("torch_attn._varlen_attn")
def varlen_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor | None,
    max_q: Size,
    max_k: Size,
    *settings: Any,
    scale: float | None = None,
    out: tuple[Tensor, ...],
    **more: Any,
) -> Cost:
    """Each query is taken to meet ``max_k`` keys."""
    sizes = of_unlike_lengths(query, key, value, max_k, settings, scale)
    kept = (query, key, value, cu_seq_q, cu_seq_k, *out)
    return sizes.cost("torch_attn._varlen_attn_backward", kept)


@operator("torch_attn._varlen_attn_out")
def varlen_attention_out(
    output: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor | None,
    max_q: Size,
    max_k: Size,
    *settings: Any,
    scale: float | None = None,
    out: Any,
    **more: Any,
) -> Cost:
    """Inference only."""
    sizes = of_unlike_lengths(query, key, value, max_k, settings, scale)
    return Cost(flops=sizes.flops, elementwise=sizes.elementwise())


@operator("torch_attn._varlen_attn_backward")
def varlen_attention_backward(
    grad_out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    lse: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: Size,
    max_k: Size,
    is_causal: bool,
    rng_state: Tensor,
    scale: float | None = None,
    window_size: Sequence[int] | None = None,
    backend: int = 1,
    *,
    out: tuple[Tensor, Tensor, Tensor],
) -> Cost:
    """See :attr:`Attention.backward`. (``backend``: torch 2.15.)"""
    return sequence_first(query, key, value, max_k, scale).backward_cost


@operator("higher_order.flex_attention")
def flex_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: int,
    block_mask: Sequence[Any],
    scale: float,
    kernel_options: Any,
    score_mod_other_buffers: Sequence[Any] = (),
    mask_mod_other_buffers: Sequence[Any] = (),
    *,
    out: tuple[Tensor, ...],
) -> Cost:
    """``torch.nn.attention.flex_attention``: attention with functions of the user's on each score.

    Args:
        score_mod: arithmetic of the function that makes another score of a score.
        block_mask: the last of it: arithmetic of the function that says whether a score counts. It
            is called for each, and masked blocks count in full, as under a causal mask.
        score_mod_other_buffers: what else the first function reads (a learnt bias).
    """
    sizes = heads_first(query, key, value, scale)
    cost = sizes.cost("higher_order.flex_attention_backward", (query, key, value, *out[:2]))
    a_score = score_mod + block_mask[-1]
    return replace(
        cost,
        elementwise=cost.elementwise + a_score * sizes.scores,
        gradients=for_buffers(cost.gradients, score_mod_other_buffers),
    )


def for_buffers(work: tuple[Any, ...], buffers: Sequence[Any]) -> tuple[Any, ...]:
    """Gradients or parts of an attention: those of the scores are needed for what a function of a
    score reads, too."""
    if not any(isinstance(buffer, Tensor) for buffer in buffers):
        return work
    return tuple(
        one
        if isinstance(one.operand, str)
        else replace(one, operand=(*one.operand, "score_mod_other_buffers"))
        for one in work
    )


@operator("higher_order.flex_attention_backward")
def flex_attention_backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    logsumexp: Tensor,
    grad_out: Tensor | None,
    grad_logsumexp: Tensor | None,
    fw_graph: int,
    joint_graph: int,
    block_mask: Sequence[Any],
    scale: float,
    kernel_options: Any,
    score_mod_other_buffers: Sequence[Any] = (),
    mask_mod_other_buffers: Sequence[Any] = (),
    *,
    out: tuple[Any, ...],
) -> Cost:
    """See :attr:`Attention.backward`; beside it the function of a score, again, its gradient, and
    the mask: ``fw_graph``, ``joint_graph`` and the last of ``block_mask`` a score."""
    sizes = heads_first(query, key, value, scale)
    a_score = fw_graph + joint_graph + block_mask[-1]
    functions = (Part(("query", "key", "value"), elementwise=a_score * sizes.scores),)
    parts = sizes.backward + (functions if a_score else ())
    return Cost.fused(*for_buffers(parts, score_mod_other_buffers), recompute=sizes.query_key)


# -- whole layers, in inference -----------------------------------------------------------------


def together(*calls: Call) -> Cost:
    """The arithmetic of several operators, without gradients."""
    costs = [call.cost for call in calls]
    return Cost(
        flops=sum(cost.flops for cost in costs),
        elementwise=sum(cost.elementwise for cost in costs),
    )


def projection(x: Tensor, weight_t: Tensor, bias: Tensor) -> Call:
    """x[rows, I] @ weight[O, I].T + bias[O]"""
    out = x.new(x.shape[0], weight_t.shape[-1])
    return Call("aten.addmm", {"self": bias, "mat1": x, "mat2": weight_t}, out)


@operator("aten._transform_bias_rescale_qkv")
def transform_bias_rescale_qkv(
    qkv: Tensor, qkv_bias: Tensor, num_heads: Size, *, out: tuple[Tensor, Tensor, Tensor]
) -> Cost:
    """qkv[B, L, 3 E] + bias[3 E], and the query's third times 1 / sqrt(D): 4 B L E."""
    return Cost(elementwise=qkv.numel + out[0].numel)


@operator("aten._native_multi_head_attention")
def native_multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim: Size,
    num_head: Size,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    mask: Tensor | None = None,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    mask_type: int | None = None,
    *,
    out: tuple[Tensor, Tensor | None],
) -> Cost:
    """``nn.MultiheadAttention`` in inference, query[B, L, E], key and value[B, M, E]:

    1. the projections of query, key and value, [rows, E] @ [E, E] + bias[E] each;
    2. query / sqrt(D): 1 an entry;
    3. Q @ K.T, mask (1 a score), softmax (5 a score), P @ V, of H heads of D = E / H;
    4. where the averaged probabilities are asked for, their sum over the heads (1 a score) and its
       division by H (1 a query and key);
    5. the projection of the output, [rows, E] @ [E, E] + bias[E].

    Of a nested tensor the CPU's kernel pads the sequences to the longest after the products of
    step 1, and takes them apart again before step 5: biases, scaling and the products of step 3 are
    those of padded ones; the softmax is not.
    """
    width, scale = embed_dim // num_head, 1.0  # the query has been divided already
    bias = None if mask is None else "mask"

    def attention_of(queries: tuple[Size, ...], keys: tuple[Size, ...]) -> Attention:
        rows = queries[0] * num_head * queries[1]
        return Attention(rows, keys[1], width, width, scale, bias)

    sizes = attention_of(query.shape, key.shape)
    padded = [x.view(*(x.padded or x.shape)) for x in (query, key, value)]
    products = attention_of(padded[0].shape, padded[1].shape)
    weight_t = proj_weight.view(embed_dim, embed_dim)
    rows = [x.view(prod(x.shape[:-1]), embed_dim) for x in (query, key, value, out[0])]
    projections = together(*(projection(x, weight_t, proj_bias) for x in rows))
    padding = sum(x.numel for x in padded) - sum(x.numel for x in (query, key, value))
    averaging = need_weights and average_attn_weights
    weights = products.scores + products.scores // num_head if averaging else 0
    return Cost(
        flops=projections.flops + products.flops,
        elementwise=projections.elementwise
        + padding
        + padded[0].numel
        + sizes.elementwise(keeps_logsumexp=False)
        + weights,
    )


@operator("aten._transformer_encoder_layer_fwd")
def transformer_encoder_layer(
    src: Tensor,
    embed_dim: Size,
    num_heads: Size,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: Tensor,
    norm_bias_1: Tensor,
    norm_weight_2: Tensor,
    norm_bias_2: Tensor,
    ffn_weight_1: Tensor,
    ffn_bias_1: Tensor,
    ffn_weight_2: Tensor,
    ffn_bias_2: Tensor,
    mask: Tensor | None = None,
    mask_type: int | None = None,
    *,
    out: Tensor,
) -> Cost:
    """``nn.TransformerEncoderLayer`` in inference, src[B, L, E]: multi-head attention of src with
    itself, two projections with an activation between them, and around each of both a residual
    addition and a layer norm."""
    b, length, _ = src.shape
    rows = src.view(b * length, embed_dim)
    attended = native_multi_head_attention(
        src,
        src,
        src,
        embed_dim,
        num_heads,
        qkv_weight,
        qkv_bias,
        proj_weight,
        proj_bias,
        mask,
        need_weights=False,
        out=(src, None),
    )
    hidden_width = ffn_bias_1.shape[0]
    hidden = rows.new(b * length, hidden_width)
    statistics = src.new(b, length, 1)
    norms = [
        Call(
            "aten.native_layer_norm",
            {
                "input": src,
                "normalized_shape": (embed_dim,),
                "weight": weight,
                "bias": bias,
                "eps": eps,
            },
            (src, statistics, statistics),
        )
        for weight, bias in ((norm_weight_1, norm_bias_1), (norm_weight_2, norm_bias_2))
    ]
    rest = together(
        projection(rows, ffn_weight_1.view(embed_dim, hidden_width), ffn_bias_1),
        Call("aten.gelu" if use_gelu else "aten.relu", {"self": hidden}, hidden),
        projection(hidden, ffn_weight_2.view(hidden_width, embed_dim), ffn_bias_2),
        *norms,
    )
    residuals = 2 * src.numel
    return Cost(
        flops=attended.flops + rest.flops,
        elementwise=attended.elementwise + rest.elementwise + residuals,
    )


def _attention_operands(d: int, e: int) -> dict[str, Any]:
    """2 sequences, 3 heads, 5 queries, 7 keys."""
    query, key, value = Tensor((2, 3, 5, d)), Tensor((2, 3, 7, d)), Tensor((2, 3, 7, e))
    return {"query": query, "key": key, "value": value}


# -- The layer ----------------------------------------------------------------------------------


@layer("Attention")
def attention_layer(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    heads: Size,
    kv_heads: Size,
    head_width: Size,
    causal: bool = False,
    rotary: Size | None = None,
) -> LayerCost:
    """out[B, L, H D] = the attention of H heads, of query[B, L, H D] to key[B, M, K D] and
    value[B, M, K D], by the CPU's fused operator. With ``rotary``, a number of positions, each head
    of query and key is first turned by its own (Su et al., RoFormer, 2021)."""
    calls: list[Call] = []

    def by_head(x: Tensor, number: Size) -> Tensor:
        return x.view(x.shape[0], number, x.shape[1], head_width)

    queries, keys, values = by_head(query, heads), by_head(key, kv_heads), by_head(value, kv_heads)
    if rotary is not None:
        cosine, sine = (query.new(rotary, head_width) for _ in range(2))
        queries, keys = (_rotated(x, cosine, sine, calls) for x in (queries, keys))
    y = queries.new(*queries.shape)
    operands = {"query": queries, "key": keys, "value": values, "is_causal": causal}
    logsumexp = queries.new(*queries.shape[:-1], itemsize=4)
    calls.append(Call("aten._scaled_dot_product_flash_attention_for_cpu", operands, (y, logsumexp)))
    return LayerCost(y.view(*query.shape), tuple(calls))


def _rotated(x: Tensor, cosine: Tensor, sine: Tensor, calls: list[Call]) -> Tensor:
    """x cos + swap(x) sin, where swap exchanges the halves of each head, and the table of sines
    has the sign: two multiplications and an addition an entry."""
    turned, swapped, of_cosine, of_sine = (x.new(*x.shape) for _ in range(4))
    calls += (
        Call("aten.mul", {"self": x, "other": cosine}, of_cosine),
        Call("aten.roll", {"self": x}, swapped),
        Call("aten.mul", {"self": swapped, "other": sine}, of_sine),
        Call("aten.add", {"self": of_cosine, "other": of_sine}, turned),
    )
    return turned


EXAMPLES += [
    Example(
        "Attention",
        {
            "query": Tensor((2, 5, 12)),
            "key": Tensor((2, 5, 4)),
            "value": Tensor((2, 5, 4)),
            "heads": 3,
            "kv_heads": 1,
            "head_width": 4,
            "rotary": 5,
        },
        {"flops": 2_400, "elementwise": 1_440, "parameters": 0},
        "2 * 3 * 5 = 30 rows of 5 keys, 150 scores: Q K.T and P V 2 * 2 * 150 * 4 = 2,400; scale "
        "and softmax 6 * 150 = 900, log-sum-exp 60, rotation 3 * (120 + 40) = 480",
    ),
    Example(
        "aten._scaled_dot_product_flash_attention_for_cpu",
        {**_attention_operands(4, 4), "out": (Tensor((2, 3, 5, 4)), Tensor((2, 3, 5)))},
        {"flops": 3_360, "elementwise": 1_320},
        "2 * 3 * 5 = 30 rows of 7 keys, 210 scores: Q K.T 2 * 210 * 4 = 1,680 and P V as much; "
        "scale and softmax 6 * 210 = 1,260, log-sum-exp 2 * 30 = 60",
    ),
    Example(
        "aten._scaled_dot_product_flash_attention_for_cpu_backward",
        {
            "grad_out": Tensor((2, 3, 5, 4)),
            **_attention_operands(4, 4),
            "output": Tensor((2, 3, 5, 4)),
            "logsumexp": Tensor((2, 3, 5)),
            "dropout_p": 0.0,
            "is_causal": False,
            "out": (Tensor((2, 3, 5, 4)), Tensor((2, 3, 7, 4)), Tensor((2, 3, 7, 4))),
        },
        {"flops": 6_720, "recompute": 1_680, "elementwise": 1_500},
        "grad_q, grad_k, grad_P, grad_v 4 * 1,680 = 6,720; Q K.T again 1,680; P again 3 * 210 = "
        "630, grad_out * out 2 * 30 * 4 = 240, grad_scores and scale 3 * 210 = 630",
    ),
    Example(
        "aten._scaled_dot_product_efficient_attention",
        {
            **_attention_operands(4, 6),
            "attn_bias": Tensor((2, 3, 5, 7)),
            "compute_log_sumexp": True,
            "dropout_p": 0.1,
            "out": (Tensor((2, 3, 5, 6)), Tensor((2, 3, 32)), Tensor((), 8), Tensor((), 8)),
        },
        {"flops": 4_200, "elementwise": 1_950},
        "Q K.T 2 * 210 * 4 = 1,680, P V 2 * 210 * 6 = 2,520; scale, bias, softmax, dropout "
        "(1 + 1 + 5 + 2) * 210 = 1,890, log-sum-exp 60",
    ),
    Example(
        "aten._native_multi_head_attention",
        {
            "query": Tensor((2, 5, 8)),
            "key": Tensor((2, 5, 8)),
            "value": Tensor((2, 5, 8)),
            "embed_dim": 8,
            "num_head": 2,
            "qkv_weight": Tensor((24, 8)),
            "qkv_bias": Tensor((24,)),
            "proj_weight": Tensor((8, 8)),
            "proj_bias": Tensor((8,)),
            "out": (Tensor((2, 5, 8)), Tensor((2, 5, 5))),
        },
        {"flops": 6_720, "elementwise": 1_050},
        "four projections 4 * 2 * 10 * 8 * 8 = 5,120; 20 rows of 5 keys, 100 scores: Q K.T and P V "
        "2 * 2 * 100 * 4 = 1,600; biases 4 * 80, query scaled 80, softmax 5 * 100, "
        "average 100 + 50: 1,050",
    ),
]
