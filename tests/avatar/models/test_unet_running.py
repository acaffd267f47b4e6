"""How the denoising U-Net may be run: saved, recomputed, in half precision, cached, compiled; the outputs stay."""

import diffusers
import torch
from diffusers.models.attention_dispatch import attention_backend

from avatar.models.attention import SelfAttention
from avatar.models.unet import AvatarUNet


def test_saved_model_loads_to_the_same_outputs(make_unet, streams, sample, wake, tmp_path):
    unet = wake(make_unet())
    on = streams(unet)
    unet.save_pretrained(tmp_path)
    again = AvatarUNet.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        first, second = unet(sample, 5, **on, heatmaps=True), again(sample, 5, **on, heatmaps=True)
    assert torch.equal(first.sample, second.sample)
    assert all(torch.equal(a, b) for a, b in zip(first.hand_heatmaps, second.hand_heatmaps, strict=True))


def test_checkpointing_recomputes_motion_modules_and_keeps_gradients(make_unet, streams, sample, wake):
    unet = wake(make_unet()).train()
    on = streams(unet)
    calls: list[int] = []
    for name, module in unet.named_modules():
        if name.split(".")[-2:-1] == ["motion_modules"]:
            module.register_forward_pre_hook(lambda *_: calls.append(1))  # recomputing stops before its end

    def gradients() -> dict[str, torch.Tensor]:
        unet.zero_grad()
        calls.clear()
        out = unet(sample, 5, **on)
        terms = [out.sample, *out.hand_heatmaps, *(x for maps in out.region_logits.values() for x in maps)]
        sum(x.square().mean() for x in terms).backward()
        return {name: p.grad.clone() for name, p in unet.named_parameters() if p.grad is not None}

    plain = gradients()
    assert len(calls) == unet.num_motion_modules
    unet.enable_gradient_checkpointing()
    checkpointed = gradients()
    assert len(calls) == 2 * unet.num_motion_modules
    assert plain.keys() == checkpointed.keys() == {name for name, _ in unet.named_parameters()}
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, msg=name)


def test_bfloat16(make_unet, streams, sample):
    unet = make_unet().to(torch.bfloat16)
    on = streams(make_unet())
    half = {name: x.bfloat16() for name, x in on.items() if isinstance(x, torch.Tensor) and name != "hand_clarity"}
    identity = {region: x.bfloat16() for region, x in on["identity"].items()}
    with torch.no_grad():
        out = unet(sample.bfloat16(), 5, **half, identity=identity, hand_clarity=on["hand_clarity"])
    assert out.sample.dtype == torch.bfloat16
    assert out.sample.isfinite().all()


def test_attention_backends_reach_every_layer(make_unet, streams, sample):
    unet = make_unet()
    on = streams(unet)
    with torch.no_grad():
        native = unet(sample, 5, **on).sample
        with attention_backend("_native_math"):
            torch.testing.assert_close(unet(sample, 5, **on).sample, native, atol=1e-5, rtol=1e-4)
    assert all(hasattr(processor, "_attention_backend") for processor in unet.attn_processors.values())
    assert any(isinstance(processor, SelfAttention) for processor in unet.attn_processors.values())


def test_weights_may_be_stored_smaller_than_they_are_used(make_unet, streams, sample, wake):
    """Layerwise casting: float8 in memory, float32 in the sums; codes and norms keep their type."""
    unet = wake(make_unet())
    on = streams(unet)
    with torch.no_grad():
        plain = unet(sample, 5, **on).sample
        unet.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)
        cast = unet(sample, 5, **on).sample
    assert unet.down_blocks[0].resnets[0].conv1.weight.dtype == torch.float8_e4m3fn
    assert torch.nn.functional.cosine_similarity(cast.flatten(), plain.flatten(), dim=0) > 0.97


def test_attention_cache_skips_and_resets(make_unet, streams, sample):
    """Pyramid attention broadcast: the second step reuses what attention gave in the first."""
    unet = make_unet()
    on = streams(unet)
    config = diffusers.PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        temporal_attention_block_skip_range=2,
        spatial_attention_block_identifiers=(r"attentions\.\d+\.",),
        temporal_attention_block_identifiers=("motion_modules",),
        current_timestep_callback=lambda: 500,
    )
    with torch.no_grad():
        first, second = (unet(x, 5, **on).sample for x in (sample, sample + 1))
        unet.enable_cache(config)
        with unet.cache_context("window"):
            assert torch.equal(unet(sample, 5, **on).sample, first)
            assert (unet(sample + 1, 5, **on).sample - second).abs().max() > 1e-4
        unet.disable_cache()
        assert torch.equal(unet(sample + 1, 5, **on).sample, second)


def test_repeated_blocks_compile_once_a_kind_of_layer(make_unet, streams, sample):
    """Not once a layer: Stable Diffusion's layout has 37 of them."""
    unet = make_unet(layers_per_block=2, region_levels=())
    on = streams(unet)
    on["reference"] = unet.project_reference(on["reference"])
    graphs: list[int] = []

    def counting(graph: torch.fx.GraphModule, _: list) -> torch.fx.GraphModule:
        graphs.append(1)
        return graph

    with torch.no_grad():
        plain = unet(sample, 5, **on).sample
        torch._dynamo.reset()
        unet.compile_repeated_blocks(fullgraph=True, backend=counting, dynamic=False)
        torch.testing.assert_close(unet(sample, 5, **on).sample, plain, atol=1e-6, rtol=1e-5)
    # spatial and temporal blocks of two levels and of the middle, which has the same width as the second
    assert len(graphs) == 4


def test_whole_model_compiles_without_graph_break(make_unet, streams, sample):
    one_level = {"block_out_channels": (16,), "num_attention_heads": 2, "region_levels": (0,)}
    types = {"down_block_types": ("CrossAttnDownBlockMotion",), "up_block_types": ("CrossAttnUpBlockMotion",)}
    unet = make_unet(**one_level, **types)  # for time: tracing takes a second a layer
    on = streams(unet)
    on["reference"] = unet.project_reference(on["reference"])
    with torch.no_grad():
        plain = unet(sample, 5, **on, return_dict=False)[0]
        compiled = torch.compile(unet, fullgraph=True, backend="eager")(sample, 5, **on, return_dict=False)[0]
    torch.testing.assert_close(compiled, plain, atol=1e-6, rtol=1e-5)
