"""The audio encoder: streams equal whole files, frames hear their own sound, and a saved encoder loads the same."""

import numpy as np
import pytest
import torch

from avatar.models.audio_encoder import AudioEncoder, log_mel, window_frames

TINY_SPEECH = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}


def build(front_end: str = "mel", **config) -> AudioEncoder:
    torch.manual_seed(0)
    speech_config = None if front_end == "mel" else TINY_SPEECH
    sizes = {"num_tokens": 3, "audio_dim": 8, "hidden_dim": 16, "block_s": 1.0, "context_s": 0.5, **config}
    return AudioEncoder(front_end=front_end, speech_config=speech_config, **sizes).eval()


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * 16000)).astype(np.float32)


@pytest.mark.parametrize("front_end", ["mel", "wav2vec2", "wavlm"])
@pytest.mark.parametrize("seconds", [0.01, 0.05, 1.0, 2.53])
def test_stream_equals_whole_file(front_end, seconds):
    encoder, sound = build(front_end), noise(seconds)
    whole = encoder.encode(sound)
    assert whole.shape == (int(np.ceil(seconds * 25 - 1e-9)), 3, 8)
    for size in (160, 1111):
        parts = [sound[i : i + size] for i in range(0, len(sound), size)]
        assert torch.equal(torch.cat(list(encoder.stream(parts))), whole)


def test_tokens_are_the_projection_of_windowed_states():
    encoder, sound = build("wav2vec2"), noise(2.2)
    windows = window_frames(encoder.states(sound), encoder.config.window)
    torch.testing.assert_close(encoder(windows[None])[0], encoder.encode(sound), atol=1e-5, rtol=1e-5)


def test_a_block_border_does_not_show_with_mel():
    sound = noise(3.0)
    cut, uncut = build(block_s=1.0).states(sound), build(block_s=10.0).states(sound)
    torch.testing.assert_close(cut, uncut, atol=1e-5, rtol=0)


def test_a_click_is_heard_by_its_frame_and_window_alone():
    encoder, sound = build(), np.zeros(32000, np.float32)
    quiet = encoder.encode(sound)
    sound[20 * 640 + 320] = 0.9  # the middle of frame 20
    changed = (encoder.encode(sound) - quiet).abs().amax((1, 2)) > 1e-6
    assert changed.nonzero().flatten().tolist() == [18, 19, 20, 21, 22]


def test_tone_lights_its_own_band():
    time = torch.arange(4000) / 16000
    low, high = (log_mel(torch.sin(2 * torch.pi * hz * time), 40).mean(0).argmax() for hz in (200.0, 4000.0))
    assert low < 8 < 25 < high


@pytest.mark.parametrize("front_end", ["mel", "wav2vec2"])
def test_saved_encoder_loads_the_same(front_end, tmp_path):
    encoder, sound = build(front_end), noise(0.5)
    encoder.save_pretrained(tmp_path)
    assert list(tmp_path.glob("*.safetensors"))
    torch.testing.assert_close(AudioEncoder.from_pretrained(tmp_path).encode(sound), encoder.encode(sound))


def test_published_speech_network_is_taken_whole(tmp_path):
    speech = build("wavlm").speech
    speech.save_pretrained(tmp_path)
    encoder = AudioEncoder.from_speech_model(str(tmp_path), num_tokens=3, audio_dim=8, hidden_dim=16)
    assert encoder.config.front_end == "wavlm"
    ours = encoder.speech.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in speech.state_dict().items())


def test_only_the_projection_trains():
    encoder = build("wav2vec2").train()
    assert not encoder.speech.training and encoder.projection.training
    assert not any(parameter.requires_grad for parameter in encoder.speech.parameters())
    encoder(torch.randn(2, 3, 5, 2, 16)).sum().backward()
    assert encoder.projection[0].weight.grad is not None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build("whisper"), "front_end must be one of"),
        (lambda: AudioEncoder(front_end="mel", speech_config={}), "leave speech_config out"),
        (lambda: build("wav2vec2", layers=(3,)), "layers must be 0"),
        (lambda: build().encode(np.zeros((2, 100), np.float32)), "mix it down"),
        (lambda: build().encode(np.full(800, np.nan, np.float32)), "export the recording again"),
        (lambda: build().encode(np.zeros(0, np.float32)), "no samples"),
        (lambda: build()(torch.zeros(1, 4, 3, 4, 64)), "window_frames"),
    ],
)
def test_bad_input_says_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
