"""The experiments, in the order in which their claims are told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Experiment:
    """One script.

    Args:
        name: of its module, its files in ``results/`` and its rows in ``claims.csv``.
        seconds: it takes on one core, roughly: those that take long start first, and ``make test``
            runs those that don't.
        alone: it measures times, so that nothing runs beside it.
    """

    name: str
    seconds: float
    alone: bool = False


ORDER = (
    Experiment("first_layer", 5),
    Experiment("depth", 20),
    Experiment("batch_size", 12),
    Experiment("negligible_layers", 5),
    Experiment("activation_memory", 45),
    Experiment("optimizers", 14),
    Experiment("training_vs_inference", 30, alone=True),
    Experiment("step_breakdown", 45, alone=True),
    Experiment("architectures", 240),
    Experiment("autograd_nodes", 8),
    Experiment("by_hand_mlp", 5),
    Experiment("transformers_by_formula", 15),
    Experiment("mixed_precision", 16),
    Experiment("checkpointing", 20),
    Experiment("micro_batches", 22),
    Experiment("sparsity", 5),
    Experiment("second_order", 7),
    Experiment("pipeline", 7),
    Experiment("utilisation", 10),
    Experiment("compute_optimal", 25),
    Experiment("corrections", 20),
    Experiment("arbiters_jax", 60),
    Experiment("arbiters_joint_graph", 120),
    Experiment("memory_cpu", 120),
    Experiment("memory_timeline", 10),
    Experiment("time_ratio", 120, alone=True),
)

EXPERIMENTS = {each.name: each for each in ORDER}
