"""Models of many families: saved bytes are exactly affine in the batch, the formulas and autograd's
hooks tell the same in every layer, and training takes more memory than inference."""

import pytest

from tests.zoo.memory_trial import attempt_memory

IMAGES = [
    "torchvision:convnext_tiny",
    "torchvision:efficientnet_b0",
    "torchvision:resnet18",
    "torchvision:swin_t",
    "torchvision:vit_b_32",
    "torchvision:fcn_resnet50",
    "torchvision:r3d_18",
    "timm:coatnet_nano_rw_224",
    "timm:eca_nfnet_l0",
    "timm:gmixer_24_224",
    "timm:xcit_nano_12_p16_224",
]

TEXTS = [
    "hf:bert",
    "hf:gpt2",
    "hf:t5",
    "hf:albert",
    "hf:distilbert",
]


@pytest.mark.parametrize("spec", IMAGES)
def test_images(spec: str) -> None:
    trial = attempt_memory(spec)
    assert trial.first_difference == ""
    assert trial.affine, trial.saved
    assert trial.training_above_inference


@pytest.mark.parametrize("spec", TEXTS)
def test_texts(spec: str) -> None:
    trial = attempt_memory(spec, seq=16)
    assert trial.first_difference == ""
    assert trial.affine, trial.saved
    assert trial.training_above_inference
