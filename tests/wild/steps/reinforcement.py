"""Reinforcement learning: rollouts, several losses and networks, targets that lag behind."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional

from tests.wild.models import HIDDEN, ROWS, WIDTH
from tests.wild.step import WildStep, wild

ACTIONS = 3
TRUNK, POLICY, VALUE = 2 * WIDTH * HIDDEN, 2 * HIDDEN * ACTIONS, 2 * HIDDEN
"""FLOP of each part, for one state."""


class ActorCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.Tanh())
        self.policy, self.value = nn.Linear(HIDDEN, ACTIONS), nn.Linear(HIDDEN, 1)

    def forward(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.trunk(states)
        return self.policy(hidden), self.value(hidden).squeeze(-1)


@wild
def advantage_actor_critic() -> WildStep:
    """A rollout state by state, its graph kept until the returns are known."""
    model = ActorCritic()
    optimizer = torch.optim.Adam(model.parameters())
    start = torch.randn(WIDTH)

    def run() -> torch.Tensor:
        state, entries = start, []
        for _ in range(3):
            logits, value = model(state)
            policy = torch.distributions.Categorical(logits=logits, validate_args=False)
            action = policy.sample()
            entries.append((policy.log_prob(action), value, policy.entropy()))
            state = torch.roll(state, int(action) + 1)
        loss = torch.zeros(())
        for age, (log_probability, value, entropy) in enumerate(entries):
            advantage = 0.9**age - value
            loss = loss - log_probability * advantage.detach() + advantage.square() - 0.01 * entropy
        loss.backward()
        optimizer.step()
        return loss

    one = TRUNK + POLICY + VALUE
    by_hand = {
        "forward": 3 * one,
        "grad_input": 3 * (POLICY + VALUE),
        "grad_weight": 3 * one,
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def proximal_policy() -> WildStep:
    """PPO: a rollout without gradients, epochs of shuffled mini-batches over it."""
    model = ActorCritic()
    optimizer = torch.optim.Adam(model.parameters(), eps=1e-5)
    states = torch.randn(ROWS, WIDTH)

    def run() -> torch.Tensor:
        with torch.no_grad():
            logits, values = model(states)
            actions = torch.multinomial(logits.softmax(-1), 1)
            before = logits.log_softmax(-1).gather(1, actions)
            returns = values + torch.randn_like(values)
        for _ in range(2):
            for rows in torch.randperm(ROWS).split(ROWS // 2):
                logits, value = model(states[rows])
                ratio = (logits.log_softmax(-1).gather(1, actions[rows]) - before[rows]).exp()
                advantage = (returns - values)[rows, None]
                clipped = ratio.clamp(0.8, 1.2) * advantage
                loss = -torch.min(ratio * advantage, clipped).mean()
                loss = loss + 0.5 * functional.mse_loss(value, returns[rows])
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                optimizer.step()
        return loss

    one = TRUNK + POLICY + VALUE
    by_hand = {
        "forward": 3 * ROWS * one,
        "grad_input": 2 * ROWS * (POLICY + VALUE),
        "grad_weight": 2 * ROWS * one,
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def soft_actor_critic() -> WildStep:
    """Two critics, a policy through one of them, a temperature, and targets by averages."""
    policy = nn.Linear(WIDTH, 2)
    critics = nn.ModuleList([nn.Linear(WIDTH + 1, 1) for _ in range(2)])
    targets = copy.deepcopy(critics).requires_grad_(False)
    temperature = torch.zeros(1, requires_grad=True)
    optimizers = [
        torch.optim.Adam(policy.parameters()),
        torch.optim.Adam(critics.parameters()),
        torch.optim.Adam([temperature]),
    ]
    states, following = torch.randn(ROWS, WIDTH), torch.randn(ROWS, WIDTH)
    rewards, taken = torch.randn(ROWS, 1), torch.randn(ROWS, 1)

    def act(states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, deviation = policy(states).chunk(2, dim=1)
        normal = torch.distributions.Normal(mean, deviation.exp(), validate_args=False)
        raw = normal.rsample()
        return raw.tanh(), normal.log_prob(raw) - (1 - raw.tanh().square() + 1e-6).log()

    def run() -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            action, log_probability = act(following)
            joined = torch.cat([following, action], 1)
            lowest = torch.min(*[target(joined) for target in targets])
            goal = rewards + 0.99 * (lowest - temperature.exp() * log_probability)
        joined = torch.cat([states, taken], 1)
        of_critics = sum(functional.mse_loss(critic(joined), goal) for critic in critics)
        optimizers[1].zero_grad()
        of_critics.backward()
        optimizers[1].step()
        critics.requires_grad_(False)
        action, log_probability = act(states)
        joined = torch.cat([states, action], 1)
        lowest = torch.min(*[critic(joined) for critic in critics])
        of_policy = (temperature.exp().detach() * log_probability - lowest).mean()
        optimizers[0].zero_grad()
        of_policy.backward()
        optimizers[0].step()
        critics.requires_grad_(True)
        of_temperature = -(temperature.exp() * (log_probability.detach() - 1)).mean()
        optimizers[2].zero_grad()
        of_temperature.backward()
        optimizers[2].step()
        with torch.no_grad():
            for slow, fast in zip(targets.parameters(), critics.parameters(), strict=True):
                slow.mul_(0.995).add_(0.005 * fast)
        return of_critics.detach(), of_policy.detach(), of_temperature.detach()

    policed, judged = 2 * ROWS * WIDTH * 2, 2 * ROWS * (WIDTH + 1)
    by_hand = {
        "forward": 2 * policed + 6 * judged,
        "grad_input": 2 * judged,
        "grad_weight": 2 * judged + policed,
    }
    model = nn.ModuleDict({"policy": policy, "critics": critics, "targets": targets})
    return WildStep(run, model, [*optimizers, temperature], by_hand=by_hand)


@wild
def double_q_learning() -> WildStep:
    """DQN with a frozen copy that is loaded anew at the end of the step."""
    online = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, ACTIONS))
    target = copy.deepcopy(online)
    optimizer = torch.optim.RMSprop(online.parameters())
    states, following = torch.randn(ROWS, WIDTH), torch.randn(ROWS, WIDTH)
    actions = torch.randint(ACTIONS, (ROWS, 1))

    def run() -> torch.Tensor:
        with torch.no_grad():
            best = online(following).argmax(1, keepdim=True)
            goal = 0.9 * target(following).gather(1, best)
        loss = functional.smooth_l1_loss(online(states).gather(1, actions), goal)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(online.parameters(), 1.0)
        optimizer.step()
        target.load_state_dict(online.state_dict())
        return loss

    trunk, last = ROWS * TRUNK, ROWS * POLICY
    by_hand = {
        "forward": 3 * (trunk + last),
        "grad_input": last,
        "grad_weight": trunk + last,
    }
    return WildStep(run, online, [optimizer, target], by_hand=by_hand)


@wild
def natural_gradient() -> WildStep:
    """TRPO's direction: products with the Fisher matrix by two backwards, in a line search."""
    model = nn.Linear(WIDTH, ACTIONS)
    states, advantages = torch.randn(ROWS, WIDTH), torch.randn(ROWS)

    def run() -> torch.Tensor:
        parameters = list(model.parameters())
        log_policy = model(states).log_softmax(-1)
        surrogate = -(log_policy[:, 0] * advantages).mean()
        slope = torch.autograd.grad(surrogate, parameters, retain_graph=True)
        divergence = functional.kl_div(
            log_policy, log_policy.detach(), log_target=True, reduction="batchmean"
        )
        flat = torch.cat(
            [
                part.reshape(-1)
                for part in torch.autograd.grad(divergence, parameters, create_graph=True)
            ]
        )
        direction = torch.cat([part.reshape(-1) for part in slope])
        curved = torch.autograd.grad((flat * direction).sum(), parameters)
        step = direction / (1 + torch.cat([part.reshape(-1) for part in curved]).norm())
        before = nn.utils.parameters_to_vector(parameters).detach()
        for fraction in (1.0, 0.5):
            nn.utils.vector_to_parameters(before - fraction * step, parameters)
            with torch.no_grad():
                if -(model(states).log_softmax(-1)[:, 0] * advantages).mean() < surrogate:
                    break
        return surrogate.detach()

    return WildStep(run, model)
