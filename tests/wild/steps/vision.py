"""Images: detection, segmentation, contrastive pairs, quantisation, unusual convolutions."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tests.wild.models import ONE_STEP, ROWS, WIDTH, batch, mlp
from tests.wild.step import WildStep, wild

SIDE = 8
PIXELS = SIDE * SIDE


@wild
def grouped_and_depthwise_convolutions() -> WildStep:
    """An inverted residual block with squeeze and excitation, and stochastic depth."""
    expand = nn.Conv2d(4, 8, 1, bias=False)
    depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
    squeeze, excite = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)
    project = nn.Conv2d(8, 4, 1, bias=False)
    norm = nn.BatchNorm2d(4)
    model = nn.ModuleList([expand, depthwise, squeeze, excite, project, norm])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(2, 4, SIDE, SIDE)

    def run() -> torch.Tensor:
        hidden = functional.silu(depthwise(functional.silu(expand(x))))
        gate = excite(functional.relu(squeeze(functional.adaptive_avg_pool2d(hidden, 1))))
        hidden = norm(project(hidden * gate.sigmoid()))
        survived = torch.bernoulli(torch.full((2, 1, 1, 1), 0.8))
        loss = (x + hidden * survived / 0.8).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    pointwise, taps, gates = 2 * 2 * PIXELS * 4 * 8, 2 * 2 * PIXELS * 8 * 9, 2 * 2 * 2 * 8
    by_hand = {
        "forward": 2 * pointwise + taps + 2 * gates,
        "grad_input": pointwise + taps + 2 * gates,
        "grad_weight": 2 * pointwise + taps + 2 * gates,
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def dense_detector() -> WildStep:
    """RetinaNet's focal loss on anchors, boxes of the matched ones only."""
    trunk = nn.Conv2d(3, 4, 3, stride=2, padding=1)
    classes, boxes = nn.Conv2d(4, 2, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
    model = nn.ModuleList([trunk, classes, boxes])
    optimizer = torch.optim.AdamW(model.parameters())
    image, matched = torch.randn(1, 3, SIDE, SIDE), torch.tensor([3, 7])
    goal = torch.rand(2, 4)

    def run() -> dict[str, torch.Tensor]:
        features = functional.relu(trunk(image))
        logits = classes(features).flatten(2).transpose(1, 2)[0]
        truth = torch.zeros_like(logits)
        truth[matched, 0] = 1
        cross = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        focal = ((1 - torch.exp(-cross)) ** 2 * cross).sum() / max(1, len(matched))
        offsets = boxes(features).flatten(2).transpose(1, 2)[0][matched]
        losses = {"classes": focal, "boxes": functional.smooth_l1_loss(offsets, goal)}
        sum(losses.values()).backward()
        optimizer.step()
        return {name: loss.detach() for name, loss in losses.items()}

    cells = PIXELS // 4
    first, heads = 2 * cells * 4 * 3 * 9, 2 * cells * 6 * 4 * 9
    by_hand = {"forward": first + heads, "grad_input": heads, "grad_weight": first + heads}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def segmentation_with_dice() -> WildStep:
    """Dilated convolutions, interpolation, channels-last, a loss on overlaps."""
    encoder = nn.Conv2d(1, 4, 3, padding=2, dilation=2, padding_mode="reflect")
    decoder = nn.Conv2d(4, 2, 1)
    model = nn.Sequential(encoder, nn.ReLU(), nn.MaxPool2d(2), decoder)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters())
    image, mask = torch.randn(1, 1, SIDE, SIDE), torch.randint(2, (1, SIDE, SIDE))

    def run() -> torch.Tensor:
        coarse = model(image.contiguous(memory_format=torch.channels_last))
        logits = functional.interpolate(coarse, scale_factor=2, mode="bilinear")
        share = logits.softmax(1)[:, 1]
        dice = 1 - 2 * (share * mask).sum() / (share.sum() + mask.sum() + 1)
        loss = functional.cross_entropy(logits, mask) + dice
        loss.backward()
        optimizer.step()
        return loss

    first, last = 2 * PIXELS * 4 * 9, 2 * PIXELS // 4 * 2 * 4
    by_hand = {"forward": first + last, "grad_input": last, "grad_weight": first + last}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def contrastive_language_image() -> WildStep:
    """CLIP: two towers, a learned temperature, one product of all pairs."""
    image, text = nn.Linear(WIDTH, 5, bias=False), nn.Linear(4, 5, bias=False)
    model = nn.ModuleDict({"image": image, "text": text})
    model.register_parameter("scale", nn.Parameter(torch.tensor(2.0)))
    optimizer = torch.optim.AdamW(model.parameters())
    pictures, captions = torch.randn(ROWS, WIDTH), torch.randn(ROWS, 4)

    def run() -> torch.Tensor:
        one = functional.normalize(image(pictures), dim=-1)
        two = functional.normalize(text(captions), dim=-1)
        logits = model.scale.exp() * one @ two.T
        labels = torch.arange(ROWS)
        loss = functional.cross_entropy(logits, labels) + functional.cross_entropy(logits.T, labels)
        loss.backward()
        optimizer.step()
        return loss

    towers, pairs = 2 * ROWS * (WIDTH + 4) * 5, 2 * ROWS * ROWS * 5
    by_hand = {"forward": towers + pairs, "grad_input": 2 * pairs, "grad_weight": towers}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def momentum_contrast() -> WildStep:
    """MoCo: a queue that is written in place, after it was read."""
    online, lagging = nn.Linear(WIDTH, 4), nn.Linear(WIDTH, 4).requires_grad_(False)
    model = nn.ModuleDict({"online": online, "lagging": lagging})
    model.register_buffer("queue", functional.normalize(torch.randn(4, 10), dim=0))
    optimizer = torch.optim.SGD(online.parameters(), lr=0.1)
    x = torch.randn(ROWS, WIDTH)

    def run() -> torch.Tensor:
        query = functional.normalize(online(x), dim=1)
        with torch.no_grad():
            for slow, fast in zip(lagging.parameters(), online.parameters(), strict=True):
                slow.data = slow.data * 0.9 + fast.data * 0.1
            key = functional.normalize(lagging(x.flip(0)), dim=1)
        positive = torch.einsum("nc,nc->n", query, key)[:, None]
        negative = torch.einsum("nc,ck->nk", query, model.queue.clone().detach())
        logits = torch.cat([positive, negative], dim=1) / 0.07
        loss = functional.cross_entropy(logits, torch.zeros(ROWS, dtype=torch.long))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            model.queue[:, :ROWS] = key.T
        return loss

    encoded, own, queued = 2 * ROWS * WIDTH * 4, 2 * ROWS * 4, 2 * ROWS * 4 * 10
    by_hand = {
        "forward": 2 * encoded + own + queued,
        "grad_input": own + queued,
        "grad_weight": encoded,
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand)


class StraightThrough(torch.autograd.Function):
    """Rounded in forward, the identity within bounds in backward."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, scale)
        return (x / scale).round().clamp(-8, 7) * scale

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, scale = ctx.saved_tensors
        inside = (x / scale).abs() <= 8
        return gradient * inside, (gradient * ~inside).sum().reshape(scale.shape)


@wild
def quantisation_aware_step_size() -> WildStep:
    """LSQ: weights rounded with a learned step, by a function with a gradient of its own."""
    model = mlp()
    scales = nn.ParameterList([torch.tensor(0.1), torch.tensor(0.1)])
    model.register_module("scales", scales)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        first = StraightThrough.apply(model[0].weight, scales[0])
        last = StraightThrough.apply(model[2].weight, scales[1])
        hidden = functional.relu(functional.linear(x, first, model[0].bias))
        loss = functional.cross_entropy(functional.linear(hidden, last, model[2].bias), y)
        loss.backward()
        optimizer.step()
        return loss

    return WildStep(run, model, [optimizer], by_hand=ONE_STEP)


@wild
def fake_quantisation() -> WildStep:
    """torch.ao's fake quantisation with observers that move their buffers."""
    from torch.ao.quantization import FakeQuantize, MovingAverageMinMaxObserver

    model = mlp()
    quantise = FakeQuantize.with_args(
        observer=MovingAverageMinMaxObserver, quant_min=0, quant_max=255, dtype=torch.quint8
    )
    model.add_module("activations", quantise())
    model.add_module("weights", quantise())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        weight = model.weights(model[0].weight)
        hidden = model.activations(functional.linear(x, weight, model[0].bias).relu())
        loss = functional.cross_entropy(model[2](hidden), y)
        loss.backward()
        optimizer.step()
        return loss

    return WildStep(run, model, [optimizer], by_hand=ONE_STEP)


@wild
def recurrent_layers_fused() -> WildStep:
    """A two-layer LSTM as one operator a layer."""
    model = nn.LSTM(WIDTH, 5, num_layers=2, batch_first=True)
    optimizer = torch.optim.Adam(model.parameters())
    x = torch.randn(ROWS, 3, WIDTH)

    def run() -> torch.Tensor:
        loss = model(x)[0].square().mean()
        loss.backward()
        optimizer.step()
        return loss

    steps = ROWS * 3
    first, inner = 2 * steps * WIDTH * 20, 2 * steps * 5 * 20
    by_hand = {"forward": first + 3 * inner}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def connectionist_speech() -> WildStep:
    """Strided convolutions over time, a recurrent layer, CTC."""
    front, layer = nn.Conv1d(3, 4, 3, stride=2, padding=1), nn.GRU(4, 4, bidirectional=True)
    head = nn.Linear(8, 5)
    model = nn.ModuleList([front, layer, head])
    optimizer = torch.optim.Adam(model.parameters())
    sound = torch.randn(2, 3, 12)
    words, lengths = torch.randint(1, 5, (2, 2)), torch.tensor([2, 1])

    def run() -> torch.Tensor:
        features = functional.gelu(front(sound)).permute(2, 0, 1)
        logits = head(layer(features)[0]).log_softmax(-1)
        loss = functional.ctc_loss(logits, words, torch.tensor([6, 6]), lengths)
        loss.backward()
        optimizer.step()
        return loss

    frames = 2 * 6
    strided, gates, headed = 2 * frames * 4 * 9, 2 * 2 * frames * 4 * 12, 2 * frames * 8 * 5
    by_hand = {"forward": strided + 2 * gates + headed}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def in_place_on_a_view() -> WildStep:
    """A product is written into a part of a buffer that others share."""
    weight = nn.Parameter(torch.randn(WIDTH, 4))
    model = nn.Linear(8, 3)
    model.register_parameter("inner", weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        buffer = torch.zeros(ROWS, 8)
        buffer[:, :4].addmm_(x, weight)
        buffer[:, 4:] = x[:, :4]
        loss = functional.cross_entropy(model(buffer), y)
        loss.backward()
        optimizer.step()
        return loss

    inner, last = 2 * ROWS * WIDTH * 4, 2 * ROWS * 8 * 3
    by_hand = {"forward": inner + last, "grad_input": last, "grad_weight": inner + last}
    return WildStep(run, model, [optimizer], by_hand=by_hand)
