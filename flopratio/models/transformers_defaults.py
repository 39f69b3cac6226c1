"""What some model types of transformers can't do without, and neither their configuration class nor
the documentation of forward says: sizes that fit each other, and shapes of inputs."""

from __future__ import annotations

from collections.abc import Mapping

_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}

_LARGE_KERNELS = {
    "kernel_list": [3, 2, 2],
    "intraclass_block_config": {
        # kernel, stride and padding of each convolution; PP-OCRv5's
        "reduce_channel": [1, 1, 0],
        "return_channel": [1, 1, 0],
        "vertical_long_to_small_conv_longratio": [[7, 1], [1, 1], [3, 0]],
        "vertical_long_to_small_conv_midratio": [[5, 1], [1, 1], [2, 0]],
        "vertical_long_to_small_conv_shortratio": [[3, 1], [1, 1], [1, 0]],
        "horizontal_small_to_long_conv_longratio": [[1, 7], [1, 1], [0, 3]],
        "horizontal_small_to_long_conv_midratio": [[1, 5], [1, 1], [0, 2]],
        "horizontal_small_to_long_conv_shortratio": [[1, 3], [1, 1], [0, 1]],
        "symmetric_conv_long_longratio": [[7, 7], [1, 1], [3, 3]],
        "symmetric_conv_long_midratio": [[5, 5], [1, 1], [2, 2]],
        "symmetric_conv_long_shortratio": [[3, 3], [1, 1], [1, 1]],
    },
}

DEFAULTS: Mapping[str, Mapping[str, object]] = {
    # Of each series: how much of it is to be foretold.
    "autoformer": {"prediction_length": 24},
    "informer": {"prediction_length": 24},
    "time_series_transformer": {"prediction_length": 24},
    # 14 heads don't divide a width of 1152.
    "aya_vision": {"vision_config.num_attention_heads": 16},
    # A vocabulary with the token of an image.
    "blip-2": {"image_token_index": 50_265},
    "instructblip": {"image_token_index": 32_000, "text_config.vocab_size": 32_001},
    "instructblipvideo": {"video_token_index": 32_000},
    "chameleon": {"vocabulary_map": {"<image>": 8_711}},
    # Rotary positions, by type of layer, or the part of each head that they turn.
    "cohere_compass_text": {"rope_parameters": {"full_attention": _ROPE}},
    "dbrx": {"attn_config.rope_theta": 10_000.0, "attn_config.clip_qkv": 8},
    "glm4v_text": {"rope_parameters": {**_ROPE, "partial_rotary_factor": 0.5}},
    "glm4v_moe_text": {
        "head_dim": 128,
        "rope_parameters": {**_ROPE, "partial_rotary_factor": 0.5},
    },
    "glm_image_text": {"rope_parameters": {**_ROPE, "partial_rotary_factor": 0.5}},
    "hunyuan_vl_text": {"rope_parameters": {**_ROPE, "mrope_section": [16, 16, 16, 16]}},
    # Which of the layers have experts, how many they are, and how many of them a token goes to.
    "deepseek_ocr2_text": {
        "mlp_layer_types": ["dense"] + ["sparse"] * 31,
        "num_experts_per_tok": 6,
    },
    "deepseek_v2": {"num_experts_per_tok": 6},
    "diffusion_gemma_text": {
        "num_experts": 128,
        "top_k_experts": 8,
        "moe_intermediate_size": 704,
    },
    "dots1": {"n_routed_experts": 128, "n_shared_experts": 2, "num_experts_per_tok": 6},
    "lfm2_moe": {"layer_types": ["conv", "conv", "full_attention", "conv"] * 8},
    "qwen3_omni_moe_talker_text": {"shared_expert_intermediate_size": 768},
    "step3p5": {"sliding_window": 512},
    # The first part hands 896 features on to the second.
    "deepseek_ocr2_vision": {
        "encoder_config.hidden_size": 896,
        "encoder_config.intermediate_size": 4_864,
        "encoder_config.num_attention_heads": 14,
        "encoder_config.num_key_value_heads": 2,
        "encoder_config.num_hidden_layers": 24,
    },
    # The name of its backbone is misspelt in its defaults.
    "edgetam_vision_model": {
        "backbone_config.architecture": "repvit_m1",
        "backbone_config.num_classes": 1_000,
    },
    # Its vocabulary is left open; ESM-2's.
    "esm": {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32},
    # What of a spectrogram is no padding is in its values.
    "fastspeech2_conformer": {"use_masking": False},
    "fastspeech2_conformer_with_hifigan": {"model_config.use_masking": False},
    # Frozen, it has no backward.
    "flava_image_codebook": {"freeze": False},
    # Which layer of the images goes to which of the text, and how many of its patches.
    "granite4_vision": {"deepstack_layer_map": [[-1, 0]], "downsample_rate": "1/2"},
    # 0.5 of the pixels shuffled into 4 times the width.
    "llama4_vision_model": {"hidden_size": 1_408},
    # The scale of each level that is projected.
    "lw_detr": {"projector_scale_factors": [1.0]},
    # Heads of keys and values: as many as of queries.
    "moonshine_streaming": {"num_key_value_heads": 8},
    # timm's model of the images, and its width.
    "perception_lm": {
        "vision_config.architecture": "vit_pe_core_large_patch14_336",
        "vision_config.model_args": {"embed_dim": 1_024},
    },
    # Asked for by its initialiser.
    "pix2struct_text_model": {"initializer_range": 0.02},
    # The kernels are left open, and the backbones are others than what follows them reads.
    "pp_ocrv5_server_det": {**_LARGE_KERNELS, "scale_factor_list": [1, 2, 4, 8]},
    "pp_ocrv6_medium_det": {
        **_LARGE_KERNELS,
        "scale_factor_list": [1, 2, 4, 8],
        "backbone_config": {
            "model_type": "hgnet_v2",
            "arch": "L",
            "out_features": ["stage1", "stage2", "stage3", "stage4"],
        },
    },
    "pp_ocrv6_small_det": {
        "backbone_config": {
            "model_type": "pp_lcnet_v3",
            "scale": 0.75,
            "divisor": 16,
            "out_features": ["stage2", "stage3", "stage4", "stage5"],
        },
        "layer_list_out_channels": [48, 96, 192, 384],
    },
    # Of each of its 25 classes.
    "pp_doclayout_v2": {"class_thresholds": [0.5] * 25, "class_order": list(range(25))},
    # 28 heads don't divide a width of 2048.
    "qwen3_omni_moe_text": {"num_attention_heads": 32, "head_dim": 128},
    # The indexer, whose heads have the size of attention's.
    "qwen4_exp_text": {
        "indexer_n_heads": 16,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 256,
        "indexer_budget": 2_048,
        "indexer_compress_ratio": 16,
        "output_gate_type": "sigmoid",
    },
    # Its layers; those of Sapiens.
    "sapiens2_head": {
        "upsample_out_channels": [768, 768],
        "conv_out_channels": [768, 768],
    },
    # Only the whole hands it on to its parts.
    "t5gemma2_text": {"dropout_rate": 0.0},
    "t5gemma2_encoder": {"text_config.dropout_rate": 0.0},
    "t5gemma2_decoder": {"dropout_rate": 0.0},
    # Which one is left open.
    "timm_backbone": {"backbone": "resnet50"},
    # All stages are read.
    "uvdoc": {"backbone_config.out_features": [f"stage{stage}" for stage in range(1, 7)]},
    # A list is added to it; and the backbone of its small published model.
    "vitmatte": {
        "fusion_hidden_sizes": [256, 128, 64, 32],
        "backbone_config.hidden_size": 384,
        "backbone_config.num_attention_heads": 6,
        "backbone_config.num_channels": 4,
    },
}
"""By type the fields of its configuration, in the notation of KEYs; those of a part apply in every
configuration that has it."""

_SERIES = {
    "past_values": "(batch_size, context_length + 7)",  # the longest lag
    "past_time_features": "(batch_size, context_length + 7, num_time_features)",
    "past_observed_mask": "(batch_size, context_length + 7)",
    "future_values": "(batch_size, prediction_length)",
    "future_time_features": "(batch_size, prediction_length, num_time_features)",
}
_SPEECH_LABELS = {
    "spectrogram_labels": "(batch_size, 2 * sequence_length, num_mel_bins)",
    "duration_labels": "(batch_size, sequence_length):int64=2",
    "pitch_labels": "(batch_size, sequence_length, 1)",
    "energy_labels": "(batch_size, sequence_length, 1)",
}
_MASK_DECODER = {
    "image_embeddings": "(batch_size, hidden_size, 64, 64)",
    "image_positional_embeddings": "(batch_size, hidden_size, 64, 64)",
    "sparse_prompt_embeddings": "(batch_size, 1, 2, hidden_size)",
    "dense_prompt_embeddings": "(batch_size, hidden_size, 64, 64)",
    "multimask_output": True,
}
_MASK_DECODER_2 = {
    **_MASK_DECODER,
    "high_resolution_features": [
        "(batch_size, hidden_size // 8, 256, 256)",
        "(batch_size, hidden_size // 4, 128, 128)",
    ],
}
_PROMPT = {
    "input_points": "(batch_size, 1, 2, 2)",
    "input_labels": "(batch_size, 1, 2):int64=1",
    "input_boxes": "(batch_size, 1, 4)",
    "input_masks": "(batch_size, 1, 256, 256)",
}
_DETR_ENCODER = {
    "vision_features": ["(batch_size, hidden_size, 72, 72)"],
    "vision_pos_embeds": ["(batch_size, hidden_size, 72, 72)"],
    "text_features": "(batch_size, 32, hidden_size)",
}
_DETR_DECODER = {
    "vision_features": "(batch_size, 72 * 72, hidden_size)",
    "text_features": "(batch_size, 32, hidden_size)",
    "vision_pos_encoding": "(batch_size, 72 * 72, hidden_size)",
    "spatial_shapes": "(1, 2):int64=72x72",
}
_GEOMETRY = {
    "box_embeddings": "(batch_size, 4, 4)",
    "box_mask": "(batch_size, 4):bool",
    "box_labels": "(batch_size, 4):int64",
    "img_feats": ["(batch_size, hidden_size, 72, 72)"],
}
_MASK_DECODER_3 = {
    "decoder_queries": "(batch_size, 200, hidden_size)",
    "backbone_features": [
        "(batch_size, hidden_size, 288, 288)",
        "(batch_size, hidden_size, 144, 144)",
        "(batch_size, hidden_size, 72, 72)",
    ],
    "encoder_hidden_states": "(batch_size, 72 * 72, hidden_size)",
}
_PATCHES = {
    "pixel_values": "(1, num_channels, patch_size, batch_size * 16 * 16 * patch_size)",
    "target_sizes": "(batch_size, 2):int64=16x16",
}

INPUTS: Mapping[str, Mapping[str, object]] = {
    "autoformer": _SERIES,
    "informer": _SERIES,
    "time_series_transformer": _SERIES,
    "blip_2_qformer": {
        "query_embeds": "(batch_size, 32, hidden_size)",
        "encoder_hidden_states": "(batch_size, 257, encoder_hidden_size)",
    },
    "blt": {"patch_lengths": "(batch_size, sequence_length // 4):int64=4"},
    "blt_local_encoder": {
        "num_patches": 32,
        "patch_ids": "(batch_size, sequence_length):int64",
    },
    "blt_local_decoder": {
        "inputs_embeds": "(batch_size, sequence_length, hidden_size)",
        "patch_embeds": "(batch_size, sequence_length, hidden_size_global)",
    },
    "deepseek_ocr2_encoder": {
        "inputs_embeds": "(batch_size, 512, hidden_size)",
        "num_patches": 256,
    },
    "depth_pro": {"image": 1_536},  # four times a patch
    "dia_decoder": {
        "input_ids": "(batch_size, sequence_length, num_channels):int64",
        "encoder_hidden_states": "(batch_size, sequence_length, cross_hidden_size)",
    },
    "dots3_note_audio_encoder": {
        "input_features": "(batch_size, 128, frames)",
        "chunk_sample_lengths": "(batch_size):int64=40960",
    },
    "edgetam_mask_decoder": _MASK_DECODER_2,
    "edgetam_prompt_encoder": _PROMPT,
    "edgetam_video_mask_decoder": _MASK_DECODER_2,
    "edgetam_video_prompt_encoder": _PROMPT,
    "fastspeech2_conformer": _SPEECH_LABELS,
    "fastspeech2_conformer_with_hifigan": _SPEECH_LABELS,
    "fastspeech2_conformer_hifigan": {"spectrogram": "(batch_size, frames, model_in_dim)"},
    "speecht5_hifigan": {"spectrogram": "(batch_size, frames, model_in_dim)"},
    "gemma3n_audio": {
        "audio_mel": "(batch_size, frames, input_feat_size)",
        "audio_mel_mask": "(batch_size, frames):bool=0",  # true where it is padded
    },
    "gemma4_unified_vision": {
        "pixel_values": "(batch_size, 256, model_patch_size ** 2 * 3)",
        "image_position_ids": "(batch_size, 256, 2):int64",
    },
    "gemma4_vision": {
        "pixel_values": "(batch_size, 36 * 36, patch_size ** 2 * 3)",
        "pixel_position_ids": "(batch_size, 36 * 36, 2):int64",
    },
    "granite_speech_encoder": {"hidden_states": "(batch_size, 400, input_dim)"},
    "granite_speech_plus_encoder": {"hidden_states": "(batch_size, 400, input_dim)"},
    "idefics": {
        "pixel_values": "(batch_size, 1, num_channels, image_size, image_size)",
        "image_attention_mask": "(batch_size, sequence_length, 1)",
    },
    "idefics2_perceiver": {
        "context": "(batch_size, 1024, hidden_size)",
        "attention_mask": "(batch_size, 1024)",
    },
    "inkling_audio": {"audio_input_ids": "(batch_size, frames, n_mel_bins):int64"},
    "inkling_vision": {
        "pixel_values": "(batch_size * 16, temporal_patch_size, patch_size, patch_size, 3)"
    },
    "inkling2_vision": {
        "pixel_values": (
            "(batch_size * 16, patch_size * spatial_merge_size, patch_size * spatial_merge_size, 3)"
        ),
        "image_grid_thw": "(batch_size, 3):int64=1x4x4",
    },
    "jev": {
        "marks": "(batch_size, 4):int64=1",
        "num_options": "(batch_size, 2):int64=2",
        "question_type_ids": "(batch_size, 2):int64",
    },
    "janus_vqgan": {"image": 512},
    "kosmos-2": {"seq": 64},  # as many as an image takes
    "lw_detr_vit": {"hidden_states": "(batch_size * 16, 64, hidden_size)"},
    "minicpm_ocr_vision": _PATCHES,
    "minicpmv4_6_vision": _PATCHES,
    "minicpmv4_7_vision": _PATCHES,
    "mllama_vision_model": {
        "pixel_values": "(batch_size, 1, max_num_tiles, num_channels, image_size, image_size)",
        "aspect_ratio_ids": "(batch_size, 1):int64=1",
        "aspect_ratio_mask": "(batch_size, 1, max_num_tiles)",
    },
    "molmo2_adapter": {
        "image_features": "(batch_size, 729, 2 * hidden_size)",
        "pooled_patches_idx": "(batch_size * 196, 4):int64",
    },
    "molmo2_vision": {"pixel_values": "(batch_size, 27 * 27, patch_size ** 2 * 3)"},
    "moshi_depth": {
        "input_ids": "(batch_size, num_codebooks):int64",
        "last_hidden_state": "(batch_size, num_codebooks, input_size)",
    },
    "muse_spark_audio": {"input_values": "(batch_size, 16 * 1920)"},
    "muse_glimmer_assistant": {
        "noise_embeds": "(batch_size, block_size, hidden_size)",
        "context_hidden_states": "(batch_size, 64, 5 * hidden_size)",
    },
    "omdet-turbo": {
        "pixel_values": "(batch_size, 3, 640, 640)",
        "classes_input_ids": "(batch_size * 2, 16):int64",
        "classes_attention_mask": "(batch_size * 2, 16)",
        "tasks_input_ids": "(batch_size, 16):int64",
        "tasks_attention_mask": "(batch_size, 16)",
        "classes_structure": "(batch_size):int64=2",
    },
    "oneformer": {"task_inputs": "(batch_size, task_seq_len)"},
    "paddleocr_vl_vision": {
        "pixel_values": "(1, batch_size * 26 * 26, num_channels, patch_size, patch_size)",
        "grid_thw": "(batch_size, 3):int64=1x26x26",
    },
    "pe_audio_video_encoder": {"image": 336},
    "pe_video": {"image": 336},
    "pe_video_encoder": {"image": 336},
    "phi4_multimodal_audio": {
        "hidden_states": "(batch_size, frames, input_size)",
        "mask": "(batch_size, frames):bool",
    },
    "pi0": {
        "action_embeds": "(batch_size, chunk_size + 1, 1024)",
        "input_ids": "(batch_size, sequence_length):int64",
        "pixel_values": "(batch_size, 2, 3, 224, 224)",
        "pixel_attention_mask": "(batch_size, 2):bool",
    },
    "pix2struct": {
        "flattened_patches": "(batch_size, 2048, 2 + 3 * 16 ** 2)",
        "labels": "(batch_size, sequence_length):int64",
    },
    "pix2struct_vision_model": {
        "flattened_patches": "(batch_size, seq_len, 2 + patch_embed_hidden_size)"
    },
    "qwen2_5_omni_audio_encoder": {
        "input_features": "(num_mel_bins, batch_size * 400)",
        "feature_lens": "(batch_size):int64=400",
    },
    "qwen3_omni_moe_audio_encoder": {
        "input_features": "(num_mel_bins, batch_size * 400)",
        "feature_lens": "(batch_size):int64=400",
    },
    "qwen2_5_omni_bigvgan": {"mel_spectrogram": "(batch_size, mel_dim, frames)"},
    "qwen2_5_omni_dit": {
        "hidden_states": "(batch_size, 2 * 64, mel_dim)",
        "condition_vector": "(batch_size, 64, mel_dim)",
        "speaker_embedding": "(batch_size, 2 * 64, enc_emb_dim)",
        "quantized_code": "(batch_size, 64):int64",
        "time_step": "(batch_size)",
    },
    "qwen3_asr_encoder": {
        "input_features": "(batch_size, num_mel_bins, 8 * n_window)",
        "input_features_mask": "(batch_size, 8 * n_window)",
    },
    "rag": {
        "context_input_ids": "(batch_size * n_docs, max_combined_length):int64",
        "context_attention_mask": "(batch_size * n_docs, max_combined_length)",
        "doc_scores": "(batch_size, n_docs)",
    },
    "rf_detr": {"pixel_values": "(batch_size, 3, 560, 560)"},
    "sam2_mask_decoder": _MASK_DECODER_2,
    "sam2_prompt_encoder": _PROMPT,
    "sam2_video_mask_decoder": _MASK_DECODER_2,
    "sam2_video_prompt_encoder": _PROMPT,
    "sam3_tracker_mask_decoder": _MASK_DECODER_2,
    "sam3_tracker_prompt_encoder": _PROMPT,
    "sam3_tracker_video_mask_decoder": _MASK_DECODER_2,
    "sam3_tracker_video_prompt_encoder": _PROMPT,
    "sam3_detr_encoder": _DETR_ENCODER,
    "sam3_detr_decoder": _DETR_DECODER,
    "sam3_geometry_encoder": _GEOMETRY,
    "sam3_mask_decoder": _MASK_DECODER_3,
    "sam3_lite_text_detr_encoder": _DETR_ENCODER,
    "sam3_lite_text_detr_decoder": _DETR_DECODER,
    "sam3_lite_text_geometry_encoder": _GEOMETRY,
    "sam3_lite_text_mask_decoder": _MASK_DECODER_3,
    "sam_hq_mask_decoder": {**_MASK_DECODER, "hq_token_only": False},
    "sam_hq_prompt_encoder": _PROMPT,
    "sam_mask_decoder": _MASK_DECODER,
    "sam_prompt_encoder": _PROMPT,
    "sapiens2_head": {"hidden_states": "(batch_size, 1024, 64, 48)"},
    "seggpt": {
        # The prompt and the image are put on each other.
        "pixel_values": "(batch_size, num_channels, width, width)",
        "prompt_pixel_values": "(batch_size, num_channels, width, width)",
        "prompt_masks": "(batch_size, num_channels, width, width)",
    },
    "tvp": {"batch": 1},  # its position embeddings are of one example
    "timesfm": {
        "past_values": "(batch_size, context_length)",
        "past_values_padding": "(batch_size, context_length):int64",
        "freq": "(batch_size, 1):int64",
    },
    "timesfm2_5": {"past_values": "(batch_size, context_length)"},
    "unlimited_ocr_vision_encoder": {"patch_embeds": "(batch_size, hidden_size, 16, 16)"},
    "vibevoice_acoustic_tokenizer_decoder": {"hidden_states": "(batch_size, hidden_size, 8)"},
    "vibevoice_acoustic_tokenizer_encoder": {"hidden_states": "(batch_size, 1, 25600)"},
    "vibevoice_diffusion": {
        "noisy_images": "(batch_size, latent_size)",
        "timesteps": "(batch_size)",
        "condition": "(batch_size, hidden_size)",
    },
    "voxtral_realtime": {"input_features": "(batch_size, num_mel_bins, 8 * sequence_length)"},
    "voxtral_realtime_text": {"t_cond": "(1, 1, hidden_size)"},
    "xcodec2": {
        "input_features": "(batch_size, 50, 160)",  # of 16,000 samples
        "input_features_mask": "(batch_size, 50)",
    },
    "xclip_vision_model": {
        "pixel_values": "(batch_size * num_frames, num_channels, image_size, image_size)"
    },
}
"""By type the KEYs of its inputs: their shapes in the notation of transformers' documentation."""

REMARKS: Mapping[str, str] = {
    "gemma4_assistant": "no configuration of it can be built with transformers 5.23",
    "gemma4_unified_assistant": "no configuration of it can be built with transformers 5.23",
    "qwen2_5_omni_token2wav": (
        "it draws samples without gradients: count what it is made of, hf:qwen2_5_omni_dit and "
        "hf:qwen2_5_omni_bigvgan"
    ),
    "nougat": "its models are those of hf:vision-encoder-decoder",
    "layoutxlm": "its models are those of hf:layoutlmv2",
}
"""What to do about a type that can't be counted, where the error doesn't tell."""
