"""A model of each kind that three zoos have: the law's count is the executed one in every layer and
phase, no operator is without a formula, and a second count that shares no code agrees.

All of them: ``make test-zoo``.
"""

import pytest

from tests.zoo.trial import attempt

TORCHVISION = [
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "inception_v3",
    "maxvit_t",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_0",
    "swin_v2_t",
    "vgg11_bn",
    "vit_b_32",
    "deeplabv3_mobilenet_v3_large",
    "fcn_resnet50",
    "lraspp_mobilenet_v3_large",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "ssdlite320_mobilenet_v3_large",
    "retinanet_resnet50_fpn",
    "r3d_18",
    "swin3d_t",
]

TIMM = [
    "beit_base_patch16_224",
    "botnet26t_256",
    "caformer_s18",
    "cait_xxs24_224",
    "coat_lite_tiny",
    "coatnet_nano_rw_224",
    "convit_tiny",
    "convmixer_768_32",
    "convnextv2_atto",
    "crossvit_tiny_240",
    "cspresnet50",
    "davit_tiny",
    "dla34",
    "dpn68",
    "eca_nfnet_l0",
    "edgenext_xx_small",
    "efficientformer_l1",
    "efficientformerv2_s0",
    "efficientvit_b0",
    "eva02_tiny_patch14_224",
    "fastvit_t8",
    "focalnet_tiny_srf",
    "gcvit_xxtiny",
    "ghostnet_050",
    "gmixer_24_224",
    "gmlp_ti16_224",
    "halonet26t",
    "hiera_tiny_224",
    "hrnet_w18_small",
    "inception_next_tiny",
    "lambda_resnet26t",
    "levit_128",
    "maxvit_nano_rw_256",
    "mixer_s32_224",
    "mixnet_s",
    "mobilenetv3_small_050",
    "mobilenetv4_conv_small",
    "mobilevit_xxs",
    "mobilevitv2_050",
    "mvitv2_tiny",
    "nest_tiny",
    "nextvit_small",
    "poolformer_s12",
    "pvt_v2_b0",
    "repvgg_a0",
    "res2net50_14w_8s",
    "resmlp_12_224",
    "resnest14d",
    "resnetv2_50",
    "seresnet18",
    "sequencer2d_s",
    "skresnet18",
    "starnet_s1",
    "swin_tiny_patch4_window7_224",
    "tiny_vit_5m_224",
    "tnt_s_patch16_224",
    "tresnet_m",
    "twins_svt_small",
    "vit_tiny_patch16_224",
    "volo_d1_224",
    "xception41",
    "xcit_nano_12_p16_224",
]

TRANSFORMERS = [
    "albert",
    "bart",
    "bert",
    "big_bird",
    "bloom",
    "ctrl",
    "deberta",
    "distilbert",
    "falcon",
    "fnet",
    "gemma2",
    "gpt2",
    "gpt_bigcode",
    "gpt_neo",
    "gptj",
    "led",
    "llama",
    "longformer",
    "mamba",
    "mixtral",
    "mobilebert",
    "modernbert",
    "mpt",
    "mpnet",
    "opt",
    "phi3",
    "qwen3",
    "roformer",
    "t5",
    "xlnet",
]


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name: str) -> None:
    trial = attempt(f"torchvision:{name}", batch=2)
    assert (trial.status, trial.reason) == ("exact", "")


@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str) -> None:
    trial = attempt(f"timm:{name}", batch=2)
    assert (trial.status, trial.reason) == ("exact", "")


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name: str) -> None:
    trial = attempt(f"hf:{name}", batch=2, seq=16)
    assert (trial.status, trial.reason) == ("exact", "")
