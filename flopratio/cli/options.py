"""The options that every verb which runs a step shares, declared once."""

from __future__ import annotations

from typing import Annotated

import typer

# A flag's metavar is empty: it takes no value, and Typer would have <bool> there.

Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODEL] [KEY=VALUES]...",
        help="mlp or cnn, and its sizes: batch=8, batch=1,8,64, depth=0..100, batch=1..1024*2.",
        show_default=False,
    ),
]
Step = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL [KEY=VALUE]...",
        help="mlp, cnn, torchvision:resnet50, timm:vit_base_patch16_224, hf:gpt2, "
        "package.module:factory or file.py:factory, and its sizes: batch=8 seq=1024.",
        show_default=False,
    ),
]
Loss = Annotated[
    str,
    typer.Option(
        metavar="auto|cross_entropy|mse|sum",
        help="auto: the model's own, else what fits its output.",
    ),
]
Optimizer = Annotated[
    str,
    typer.Option(
        metavar="none|sgd|momentum|nesterov|adagrad|rmsprop|adam|adamw",
        help="Whose update to run.",
    ),
]
OptimizerImplementation = Annotated[
    str | None,
    typer.Option(
        metavar="plain|foreach|fused",
        help="How torch runs the update; as it does on the target unless given.",
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        metavar="float32|float64|bfloat16|float16", help="Of parameters, inputs and activations."
    ),
]
ModelDtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="float32|float64|bfloat16|float16",
        help="Of parameters, inputs and activations; the model's own unless given.",
    ),
]
Amp = Annotated[
    str | None, typer.Option(metavar="bf16|fp16", help="Run forward and loss under autocast.")
]
Freeze = Annotated[
    str | None,
    typer.Option(metavar="PATTERN", help="Parameters or layers that don't train: 'first.*'."),
]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        metavar="PATTERN|auto[:K]",
        help="Layers that backward computes again: 'layer1.*'; auto:4: all, in 4 segments.",
    ),
]
Accumulate = Annotated[
    int,
    typer.Option(metavar="N", min=1, help="Micro-batches before the update, each of that batch."),
]
Attention = Annotated[
    str | None,
    typer.Option(metavar="flash|efficient|math", help="Whose kernels attention may use."),
]
Causal = Annotated[
    str,
    typer.Option(
        metavar="full|half", help="half: discount what a causal mask hides from attention."
    ),
]
InputGrad = Annotated[
    bool,
    typer.Option(
        "--input-grad", metavar="", help="Ask for the gradient of the network's input too."
    ),
]
Inference = Annotated[
    bool, typer.Option("--inference", metavar="", help="Forward alone, no gradients.")
]
Target = Annotated[
    str,
    typer.Option(
        metavar="cuda|cpu|GPU",
        help="Whose kernels and allocator to predict for; a GPU by name: H100-80GB.",
    ),
]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON document.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="No progress, no notes.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", metavar="", help="More notes on stderr.")]
Debug = Annotated[bool, typer.Option("--debug", metavar="", help="Show the traceback of an error.")]
