"""What operators keep for their backward: by their formulas, and as autograd's hooks see it when
they really run."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import flopratio as fr

MASK = torch.tensor([[True, False, True, False, True]] * 4)
INDEX = torch.tensor([0, 2])
ONES = torch.ones(4, 5)
ROWS = torch.tensor([[0, 1], [1, 1]])


def written(x: Tensor, where: Tensor, what: Tensor | float) -> Tensor:
    y = x * 1
    y[where] = what
    return y


KEPT: dict[str, Callable[[Tensor], Tensor]] = {
    "masked_fill": lambda x: x.masked_fill(MASK, 0.0),
    "masked_fill_": lambda x: x.mul(2).masked_fill_(MASK, 0.0),
    "masked_fill with a tensor": lambda x: x.masked_fill(MASK, x.sum()),
    "masked_scatter": lambda x: x.masked_scatter(MASK, x * 2),
    "masked_select": lambda x: x.masked_select(MASK),
    "sort": lambda x: x.sort(1)[0],
    "topk": lambda x: x.topk(2)[0],
    "kthvalue": lambda x: x.kthvalue(2)[0],
    "mode": lambda x: x.mode(1)[0],
    "median of a dimension": lambda x: x.median(1)[0],
    "median of all": lambda x: x.median(),
    "nanmedian of all": lambda x: x.nanmedian(),
    "take": lambda x: x.take(INDEX),
    "index_fill": lambda x: x.index_fill(0, INDEX, 0.0),
    "index_fill with a tensor": lambda x: x.index_fill(0, INDEX, x.sum()),
    "index_copy": lambda x: x.index_copy(0, INDEX, x[:2] * 2),
    "index_put": lambda x: x.index_put((INDEX,), x[:2] * 2),
    "index_put that adds": lambda x: x.index_put((INDEX,), x[:2] * 2, accumulate=True),
    "x[index] = y": lambda x: written(x, INDEX, x[:2] * 2),
    "x[mask] = 0": lambda x: written(x, MASK, 0.0),
    "put": lambda x: x.put(INDEX, x[0, :2] * 2),
    "put that adds": lambda x: x.put(INDEX, x[0, :2] * 2, accumulate=True),
    "scatter_reduce": lambda x: x.scatter_reduce(0, ROWS, x[:2, :2] * 2, "sum"),
    "scatter_reduce of extrema": lambda x: x.scatter_reduce(0, ROWS, x[:2, :2] * 2, "amax"),
    "where": lambda x: torch.where(MASK, x, x * 2),
    "cumsum": lambda x: x.cumsum(1),
    "cumprod": lambda x: x.cumprod(1),
    "cummax": lambda x: x.cummax(1)[0],
    "max": lambda x: x.max(1)[0],
    "amax": lambda x: x.amax(1),
    "prod": lambda x: x.prod(),
    "logsumexp": lambda x: x.logsumexp(1),
    "std": lambda x: x.std(),
    "vector_norm": lambda x: torch.linalg.vector_norm(x, dim=1),
    "renorm": lambda x: x.renorm(2, 0, 1.0),
    "trace": lambda x: x[:, :4].trace(),
    "clamp": lambda x: x.clamp(0, 1),
    "maximum": lambda x: torch.maximum(x, x * 2),
    "a power": lambda x: x.pow(3),
    "a tensor of powers": lambda x: x.abs().pow(x),
    "rsqrt": lambda x: x.abs().rsqrt(),
    "atan2": lambda x: torch.atan2(x, x * 2),
    "addcmul": lambda x: torch.addcmul(x, x * 2, x * 3),
    "addcdiv": lambda x: torch.addcdiv(x, x * 2, x * 3),
    "lerp": lambda x: torch.lerp(x, x * 2, x * 3),
    "linalg_cross": lambda x: torch.linalg.cross(x[:, :3], x[:, 1:4]),
    "in place over what is needed": lambda x: functional.silu(x, inplace=True),
    "division in place": lambda x: (x * 2).div_(x.sum(1, keepdim=True)),
    "hypot": lambda x: torch.hypot(x, x * 2),
    "fmod": lambda x: torch.fmod(x, x * 2 + 3),
    "fmod by a number": lambda x: torch.fmod(x * x.sum(), 2.0),
    "remainder": lambda x: torch.remainder(x, x * 2 + 3),
    "copysign": lambda x: torch.copysign(x, x * 2),
    "sinc": torch.sinc,
    "xlogy": lambda x: torch.xlogy(x, x.abs() + 1),
    "xlogy of a number": lambda x: torch.xlogy(2.0, x.abs() + 1),
    "xlog1py": lambda x: torch.special.xlog1py(x, x.abs()),
    "entr": lambda x: torch.special.entr(x.abs()),
    "digamma": lambda x: torch.digamma(x.abs() + 1),
    "polygamma": lambda x: torch.polygamma(1, x.abs() + 1),
    "multigammaln": lambda x: torch.special.multigammaln(x.abs() + 3, 2),
    "Bessel functions": lambda x: torch.i0(x) + torch.special.i0e(x) + torch.special.i1(x),
    "i1e": torch.special.i1e,
    "erfcx": torch.special.erfcx,
    "log_ndtr": torch.special.log_ndtr,
    "ndtri": lambda x: torch.special.ndtri(x.sigmoid()),
    "nan_to_num": torch.nan_to_num,
    "fmax": lambda x: torch.fmax(x, x * 2),
    "fmin": lambda x: torch.fmin(x, x * 2),
    "ldexp": lambda x: torch.ldexp(x, INDEX[1]),
    "frexp": lambda x: torch.frexp(x)[0] * x.sum(),
    "logcumsumexp": lambda x: x.logcumsumexp(1),
    "logaddexp2": lambda x: torch.logaddexp2(x, x * 2),
    "nextafter": lambda x: torch.nextafter(x.detach(), x.detach() * 2) * x,
    "aminmax": lambda x: torch.stack([*torch.aminmax(x, dim=1)]),
    "max of all": lambda x: x.max() * x,
    "nansum": lambda x: x.nansum(1),
    "std_mean": lambda x: torch.std_mean(x)[0] * x,
    "vector_norm of another order": lambda x: torch.linalg.vector_norm(x, 3, dim=1),
    "dist": lambda x: torch.dist(x, x * 2) * x,
    "clamp between tensors": lambda x: torch.clamp(x, -ONES, x * 2 + 3),
    "division, rounded": lambda x: torch.div(x, x * 2 + 3, rounding_mode="floor") + x,
    "complex": lambda x: torch.complex(x, x * 2),
    "polar": lambda x: torch.polar(x.abs(), x * 2),
    "inverse fft": lambda x: torch.fft.ifft(x),
    "segment_reduce": lambda x: torch.segment_reduce(x, "max", lengths=torch.tensor([1, 3])),
    "conv_tbc": lambda x: torch.conv_tbc(x[None], x.mT[None] * 2, x[0, :4]),
    "multilabel_soft_margin_loss": lambda x: functional.multilabel_soft_margin_loss(x, ONES),
    "max_unpool": lambda x: functional.max_unpool1d(
        *functional.max_pool1d(x, 2, return_indices=True), 2
    ),
    "softplus": functional.softplus,
    "rrelu": lambda x: functional.rrelu(x, training=True),
    "glu": lambda x: functional.glu(x[:, :4]),
    "gumbel_softmax": functional.gumbel_softmax,
    "normalize": functional.normalize,
    "cosine_similarity": lambda x: functional.cosine_similarity(x, x * 2),
    "cdist": lambda x: torch.cdist(x, x * 2),
    "pdist": torch.pdist,
    "embedding": lambda x: functional.embedding(INDEX, x),
    "embedding_bag": lambda x: functional.embedding_bag(INDEX[None], x),
    "binary cross entropy": lambda x: functional.binary_cross_entropy_with_logits(x, ONES),
    "smooth_l1_loss": lambda x: functional.smooth_l1_loss(x, ONES),
    "mse_loss": lambda x: functional.mse_loss(x, x * 2),
    "cross entropy": lambda x: functional.cross_entropy(x, torch.arange(4)),
    "cross entropy of shares": lambda x: functional.cross_entropy(x, x.softmax(1)),
    "soft_margin_loss": lambda x: functional.soft_margin_loss(x, ONES),
    "multi_margin_loss": lambda x: functional.multi_margin_loss(x, torch.arange(4), p=2),
    "fractional_max_pool2d": lambda x: functional.fractional_max_pool2d(x[None], 2, (2, 2)),
    "triplet loss": lambda x: functional.triplet_margin_loss(x, x * 2, x * 3),
    "fft": lambda x: torch.fft.rfft(x).abs(),
    "inverse": lambda x: torch.linalg.inv(x[:, :4]),
    "cholesky": lambda x: torch.linalg.cholesky(x @ x.T + 9 * torch.eye(4)),
    "einsum": lambda x: torch.einsum("ij,kj->ik", x, x * 2),
    "bilinear": lambda x: functional.bilinear(x, x * 2, torch.ones(3, 5, 5)),
    "instance_norm": lambda x: functional.instance_norm(x[None]),
    "rms_norm": lambda x: functional.rms_norm(x, (5,)),
    "local_response_norm": lambda x: functional.local_response_norm(x[None], 2),
    "interpolate": lambda x: functional.interpolate(x[None], 3, mode="linear"),
    "grid_sample": lambda x: functional.grid_sample(
        x[None, None], torch.zeros(1, 2, 2, 2), align_corners=False
    ),
    "adaptive_max_pool1d": lambda x: functional.adaptive_max_pool1d(x[None], 2),
    "unfold": lambda x: functional.unfold(x[None, None], 2),
}


@pytest.mark.parametrize("name", KEPT)
def test_formulas_name_what_autograd_keeps(name: str) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(5, 5)
    with fr.Profiler(layer) as profiler:
        result = KEPT[name](layer(torch.randn(4, 5))).abs().sum()
        try:
            result.backward()
        except RuntimeError as error:
            if "is not implemented" not in str(error):
                raise
            pytest.skip(str(error))  # an older torch has no derivative
    ledger = profiler.ledger
    assert ledger.saved_mismatches == []
    assert ledger.mismatches == []
    assert ledger.uncounted_ops == {}
    assert ledger.analytic["saved_bytes"] == ledger.totals.saved_bytes > 0
