"""Language models and what is done with them: attention of all sorts, routing, preferences."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.wild.step import WildStep, needs, needs_kernel, wild

VOCABULARY, WIDTH, HEADS, BATCH, LENGTH = 11, 8, 2, 2, 4
TOKENS = BATCH * LENGTH
SQUARE = 2 * TOKENS * WIDTH * WIDTH
"""FLOP of a projection of all tokens."""
HEAD = 2 * TOKENS * WIDTH * VOCABULARY
SCORES = 2 * BATCH * HEADS * LENGTH * LENGTH * (WIDTH // HEADS)
"""FLOP of the scores of attention, and of its mixture."""


def rotated(x: torch.Tensor) -> torch.Tensor:
    """Rotary positions, of [*, LENGTH, size]."""
    half = x.shape[-1] // 2
    rates = torch.arange(x.shape[-2])[:, None] / 10 ** torch.arange(half)
    one, two = x.split(half, dim=-1)
    return torch.cat(
        [one * rates.cos() - two * rates.sin(), one * rates.sin() + two * rates.cos()], -1
    )


class Attention(nn.Module):
    """Causal, with grouped keys: one key and value head for all query heads."""

    def __init__(self) -> None:
        super().__init__()
        size = WIDTH // HEADS
        self.query = nn.Linear(WIDTH, WIDTH, bias=False)
        self.key_value = nn.Linear(WIDTH, 2 * size, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        query = self.query(x).view(batch, length, HEADS, -1).transpose(1, 2)
        key, value = self.key_value(x).view(batch, length, 1, -1).transpose(1, 2).chunk(2, dim=-1)
        key, value = (part.expand(-1, HEADS, -1, -1) for part in (rotated(key), value))
        mixed = functional.scaled_dot_product_attention(rotated(query), key, value, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.attention = Attention()
        self.gate_up = nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.down = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, dim=-1)
        return x + self.down(functional.silu(gate) * up)


class TinyLlama(nn.Module):
    """Tied embeddings, rotary positions, grouped keys, a gated layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.block = Block()
        self.norm = nn.RMSNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.block(self.embed(ids))))


# Query, out and down a square each; gate and up two; key and value WIDTH / HEADS wide each.
PROJECTIONS = 5 * SQUARE + 2 * SQUARE // HEADS
LLAMA = {
    "forward": PROJECTIONS + 2 * SCORES + HEAD,
    "grad_input": PROJECTIONS + 4 * SCORES + HEAD,
    "grad_weight": PROJECTIONS + HEAD,
    "recompute": SCORES,
}


def next_tokens(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """The loss of predicting each next token; the last one's prediction is left out."""
    logits = model(ids)[:, :-1]
    return functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def tokens() -> torch.Tensor:
    return torch.randint(VOCABULARY, (BATCH, LENGTH))


@wild
def causal_language_model() -> WildStep:
    needs("nn.RMSNorm")
    model, ids = TinyLlama(), tokens()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))

    def run() -> torch.Tensor:
        loss = next_tokens(model, ids)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return WildStep(run, model, [optimizer], by_hand=LLAMA)


@wild
def attention_written_out() -> WildStep:
    """Scores, mask, softmax, dropout and mixture as in minGPT; biased fused projection."""
    project, out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
    model = nn.ModuleDict({"project": project, "out": out})
    model.register_buffer("mask", torch.tril(torch.ones(LENGTH, LENGTH)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(BATCH, LENGTH, WIDTH)

    def run() -> torch.Tensor:
        query, key, value = (
            part.view(BATCH, LENGTH, HEADS, -1).transpose(1, 2)
            for part in project(x).split(WIDTH, dim=2)
        )
        scores = query @ key.transpose(-2, -1) / math.sqrt(WIDTH // HEADS)
        scores = scores.masked_fill(model.mask == 0, float("-inf"))
        weights = functional.dropout(scores.softmax(-1), 0.1)
        loss = out((weights @ value).transpose(1, 2).reshape(BATCH, LENGTH, WIDTH)).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    by_hand = {
        "forward": 4 * SQUARE + 2 * SCORES,
        "grad_input": SQUARE + 4 * SCORES,
        "grad_weight": 4 * SQUARE,
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def attention_by_the_math_kernel() -> WildStep:
    """The fused call, with the fused kernels switched off."""
    layer = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, dropout=0.1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    x = torch.randn(BATCH, LENGTH, WIDTH)
    padding = torch.tensor([[False] * 4, [False, False, True, True]])

    def run() -> torch.Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            out, _ = layer(x, x, x, key_padding_mask=padding, need_weights=False)
        loss = out.square().mean()
        loss.backward()
        optimizer.step()
        return loss

    by_hand = {
        "forward": 4 * SQUARE + 2 * SCORES,
        "grad_input": SQUARE + 4 * SCORES,
        "grad_weight": 4 * SQUARE,
    }
    return WildStep(run, layer, [optimizer], by_hand=by_hand)


@wild
def attention_to_fixed_memory() -> WildStep:
    """Keys and values are data: the fused kernel computes their gradients all the same."""
    query = nn.Linear(WIDTH, WIDTH, bias=False)
    optimizer = torch.optim.SGD(query.parameters(), lr=0.1)
    x = torch.randn(BATCH, LENGTH, WIDTH)
    memory = torch.randn(2, BATCH, HEADS, LENGTH, WIDTH // HEADS)

    def run() -> torch.Tensor:
        heads = query(x).view(BATCH, LENGTH, HEADS, -1).transpose(1, 2)
        loss = functional.scaled_dot_product_attention(heads, *memory).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    by_hand = {
        "forward": SQUARE + 2 * SCORES,
        # Of the query by the scores, through the gradient of the probabilities.
        "grad_input": 2 * SCORES,
        "grad_weight": SQUARE,
        # The scores again; the gradients of keys and values, which nobody asked for.
        "recompute": 3 * SCORES,
    }
    return WildStep(run, query, [optimizer], by_hand=by_hand)


@wild
def transformer_encoder_with_padding() -> WildStep:
    """A frozen encoder in evaluation mode takes torch's fast path, with nested tensors inside."""
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH, batch_first=True), 1
    )
    encoder.eval().requires_grad_(False)
    head = nn.Linear(WIDTH, 3)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    x = torch.randn(BATCH, LENGTH, WIDTH)
    padding = torch.tensor([[False] * 4, [False, False, True, True]])
    y = torch.tensor([0, 2])

    def run() -> torch.Tensor:
        features = encoder(x, src_key_padding_mask=padding)[:, 0]
        loss = functional.cross_entropy(head(features), y)
        loss.backward()
        optimizer.step()
        return loss

    model = nn.ModuleList([encoder, head])
    # Six tokens in sequences of four and two meet the weights: four squares of attention, two of
    # twice the width. For its own products attention pads both sequences to four.
    layers = 2 * (4 + 2) * WIDTH * (4 * WIDTH + 2 * 2 * WIDTH)
    pairs, headed = 2 * SCORES, 2 * BATCH * WIDTH * 3
    by_hand = {"forward": layers + pairs + headed, "grad_input": 0, "grad_weight": headed}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def scheduled_sampling_with_cache() -> WildStep:
    """Tokens are generated without gradients from a growing cache; then one step learns them."""
    needs("nn.RMSNorm")
    model = TinyLlama()
    optimizer = torch.optim.AdamW(model.parameters())

    def run() -> torch.Tensor:
        model.eval()
        attention, cache = model.block.attention, []
        with torch.no_grad():
            ids = torch.zeros(BATCH, 1, dtype=torch.long)
            for _ in range(LENGTH - 1):
                last = model.block.norm1(model.embed(ids[:, -1:]))
                cache.append(attention.key_value(last))
                key, value = torch.cat(cache, dim=1).chunk(2, dim=-1)
                query = attention.query(last).view(BATCH, HEADS, -1)
                weights = (query @ key.transpose(1, 2)).softmax(-1)
                hidden = attention.out((weights @ value).flatten(1))
                following = torch.multinomial(model.head(hidden).softmax(-1), 1)
                ids = torch.cat([ids, following], dim=1)
        model.train()
        loss = next_tokens(model, ids)
        loss.backward()
        optimizer.step()
        return loss

    size = WIDTH // HEADS
    one = 2 * BATCH * WIDTH * (2 * WIDTH + 2 * size + VOCABULARY)  # query, out, key and value, head
    looked_back = sum(range(1, LENGTH)) * 2 * (2 * BATCH * HEADS * size)
    by_hand = {**LLAMA, "forward": LLAMA["forward"] + (LENGTH - 1) * one + looked_back}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def direct_preference() -> WildStep:
    """DPO: a frozen reference, the chosen and the rejected answer in one batch."""
    needs("nn.RMSNorm")
    model = TinyLlama()
    reference = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-4)
    ids = tokens()

    def log_probabilities(network: nn.Module) -> torch.Tensor:
        logits = network(ids)[:, :-1].log_softmax(-1)
        return logits.gather(2, ids[:, 1:, None]).squeeze(2).sum(1)

    def run() -> torch.Tensor:
        with torch.no_grad():
            base = log_probabilities(reference)
        ratios = log_probabilities(model) - base
        loss = -functional.logsigmoid(0.1 * (ratios[0] - ratios[1]))
        loss.backward()
        optimizer.step()
        return loss

    by_hand = {**LLAMA, "forward": 2 * LLAMA["forward"]}
    return WildStep(run, model, [optimizer, reference], by_hand=by_hand)


@wild
def mixture_of_experts_by_loop() -> WildStep:
    """Mixtral's loop: each expert gets the tokens that were routed to it."""
    experts = nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(3)])
    router = nn.Linear(WIDTH, 3, bias=False)
    model = nn.ModuleDict({"experts": experts, "router": router})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(TOKENS, WIDTH)

    def run() -> torch.Tensor:
        weights, chosen = router(x).softmax(-1).topk(2, dim=-1)
        out = torch.zeros_like(x)
        for index, expert in enumerate(experts):
            rows, ranks = torch.where(chosen == index)
            out.index_add_(0, rows, expert(x[rows]) * weights[rows, ranks, None])
        loss = out.square().mean()
        loss.backward()
        optimizer.step()
        return loss

    routed = 2 * TOKENS * WIDTH * 3
    by_hand = {
        "forward": routed + 2 * SQUARE,  # two experts a token
        "grad_input": 0,
        "grad_weight": routed + 2 * SQUARE,
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def mixture_of_experts_grouped() -> WildStep:
    """One grouped product for all experts, tokens sorted by expert."""
    needs("_grouped_mm")
    width = 16
    rows = torch.zeros(TOKENS, width, dtype=torch.bfloat16)
    needs_kernel(lambda: torch._grouped_mm(rows, rows.T[None], offs=torch.tensor([TOKENS]).int()))
    weights = nn.Parameter(torch.randn(3, width, width, dtype=torch.bfloat16))
    router = nn.Linear(width, 3, bias=False, dtype=torch.bfloat16)
    router.register_parameter("experts", weights)
    optimizer = torch.optim.SGD(router.parameters(), lr=0.1)
    x = torch.randn(TOKENS, width, dtype=torch.bfloat16)

    def run() -> torch.Tensor:
        scores, chosen = router(x).softmax(-1).max(-1)
        order = chosen.argsort(stable=True)
        ends = torch.bincount(chosen, minlength=3).cumsum(0).int()
        out = torch._grouped_mm(x[order], weights, offs=ends) * scores[order, None]
        loss = out.float().square().mean()
        loss.backward()
        optimizer.step()
        return loss

    routed, worked = 2 * TOKENS * width * 3, 2 * TOKENS * width * width
    by_hand = {"forward": routed + worked, "grad_input": 0, "grad_weight": routed + worked}
    return WildStep(run, router, [optimizer], by_hand=by_hand)


@wild
def multi_token_prediction() -> WildStep:
    """Two heads, a backward each into a detached trunk's output; then the trunk's own."""
    trunk = nn.Sequential(nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, WIDTH))
    heads = nn.ModuleList([nn.Linear(WIDTH, VOCABULARY) for _ in range(2)])
    model = nn.ModuleDict({"trunk": trunk, "heads": heads})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ids = tokens()

    def run() -> torch.Tensor:
        hidden = trunk(ids)
        detached = hidden.detach().requires_grad_()
        total = torch.zeros(())
        for ahead, head in enumerate(heads, 1):
            logits = head(detached[:, :-ahead])
            loss = functional.cross_entropy(logits.flatten(0, 1), ids[:, ahead:].flatten())
            loss.backward()
            total += loss.detach()
        hidden.backward(gradient=detached.grad)
        optimizer.step()
        return total

    headed = sum(2 * BATCH * (LENGTH - ahead) * WIDTH * VOCABULARY for ahead in (1, 2))
    by_hand = {
        "forward": SQUARE + headed,
        "grad_input": SQUARE + headed,
        "grad_weight": SQUARE + headed,
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def linear_attention_state() -> WildStep:
    """A state space by recurrence: an outer product a token, written into a growing list."""
    project = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
    decay = nn.Parameter(torch.zeros(WIDTH))
    project.register_parameter("decay", decay)
    optimizer = torch.optim.SGD(project.parameters(), lr=0.1)
    x = torch.randn(BATCH, LENGTH, WIDTH)

    def run() -> torch.Tensor:
        query, key, value = project(x).chunk(3, dim=-1)
        state, outs = torch.zeros(BATCH, WIDTH, WIDTH), []
        for step in range(LENGTH):
            written = key[:, step, :, None] * value[:, step, None, :]
            state = decay.sigmoid()[:, None] * state + written
            outs.append(torch.einsum("bk,bkv->bv", query[:, step], state))
        loss = torch.stack(outs, dim=1).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    read = LENGTH * 2 * BATCH * WIDTH * WIDTH
    by_hand = {
        "forward": 3 * SQUARE + read,
        "grad_input": 2 * read,
        "grad_weight": 3 * SQUARE,
    }
    return WildStep(run, project, [optimizer], by_hand=by_hand)
