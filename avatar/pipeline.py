"""The video stage as a diffusers pipeline: photo, speech, keypoints and prior in, frames out, window by window.

    image, reference ─► identity tokens, reference features (once) ──────────────┐
    audio ─► tokens ───────────┐                                                 ▼
    keypoints ─► pose maps ────┤ one window: Sources.take ─► U-Net, `steps` times ─► decode ─► composite ─► frames
    prior ─► latents, doubt ───┘          ▲                                      │
                                          └── motion frames: the last latents ◄──┘

Modes (CyberHost §1.6): the movement box drives the torso and speech the rest (`condition="box"`), a body skeleton
drives all but the face ("body"), hands come from a template clip ("hands"), or speech alone ("none"). The prior is
independent of them: without it the pipeline is the pure generator, with it `strength` says how much is repainted.

Letters: F frames, f frames of a window, M motion frames, C latent channels, H W image size, h w latent size.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DiffusionPipeline, SchedulerMixin
from diffusers.models.attention_dispatch import attention_backend as attention_with
from diffusers.utils import BaseOutput
from numpy.typing import NDArray
from torch import Tensor

from avatar import conditions, latents
from avatar.composite import Compositor, doubting_mouth
from avatar.models.audio_encoder import AudioEncoder, Waveform
from avatar.models.identity import IdentityEncoder
from avatar.models.pose_encoder import PoseEncoder
from avatar.models.reference import ReferenceNet
from avatar.models.unet import AvatarUNet
from avatar.person import Person, check_photo, identity_tokens, wanted_clarity
from avatar.resume import WindowState
from avatar.sampling import Guidance, PriorLatents, denoise, frame_noise
from avatar.settings import Progress, Settings, check_parts
from avatar.sources import Piece, Sources
from avatar.warp.prior import Prior
from avatar.windows import check_window
from pose.draw import draw_body
from pose.keypoints import Keypoints

POSE_CHUNK = 4  # frames of pose maps encoded at a time: 70 MB of activations at 512²


@dataclass
class AvatarOutput(BaseOutput):
    frames: Tensor  # (F, 3, H, W) float32 in [0, 1]


class AvatarPipeline(DiffusionPipeline):
    model_cpu_offload_seq = "identity_encoder->audio_encoder->pose_encoder->reference_net->unet->vae"
    _optional_components = ["identity_encoder"]

    def __init__(
        self,
        unet: AvatarUNet,
        reference_net: ReferenceNet,
        pose_encoder: PoseEncoder,
        audio_encoder: AudioEncoder,
        vae: AutoencoderKL | AutoencoderTiny,
        scheduler: SchedulerMixin,
        identity_encoder: IdentityEncoder | None = None,
        window: int = 12,  # f, generated frames; EMO and Loopy: 12
        motion_frames: int = 4,  # M; EMO: 4
        steps: int = 25,  # what `stream` takes when it is not told: relatives of CyberHost use 25 to 30
        strength: float = 1.0,
        reference_guidance: float = 2.5,  # published
        audio_guidance: float = 4.5,  # published
        frame_stride: int = 1,
        mouth: str = "prior",  # "sound" for models that were trained with mouths hidden
    ) -> None:
        super().__init__()
        check_parts(unet, vae, scheduler, identity_encoder, window, motion_frames, frame_stride)
        self.register_modules(
            unet=unet,
            reference_net=reference_net,
            pose_encoder=pose_encoder,
            audio_encoder=audio_encoder,
            identity_encoder=identity_encoder,
            vae=vae,
            scheduler=scheduler,
        )
        self.register_to_config(
            window=window,
            motion_frames=motion_frames,
            steps=steps,
            strength=strength,
            reference_guidance=reference_guidance,
            audio_guidance=audio_guidance,
            frame_stride=frame_stride,
            mouth=mouth,
        )

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str], **kwargs: Any) -> AvatarPipeline:
        """A pipeline saved by `save_pretrained`: a folder or hub id. Only safetensors; every tensor accounted for."""
        try:
            if "vae" not in kwargs:  # diffusers' own loading takes any weights for it
                name = cls.load_config(path).get("vae", (None, None))[1]
                options = {"subfolder": "vae", "dtype": kwargs.get("dtype", torch.float32)}
                kwargs["vae"] = latents.load_autoencoder(name, path, **options)
            return super().from_pretrained(path, **{**kwargs, "use_safetensors": True})
        except OSError as error:
            raise ValueError(
                f"no pipeline could be read from {str(path)!r}; expected model_index.json and a folder with "
                f"safetensors weights for each part; pickled weights are refused. ({error})"
            ) from error

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Every part in a folder of its own, as diffusers writes them."""
        super().save_pretrained(save_directory, *args, **kwargs)
        latents.tidy_config(Path(save_directory) / "vae")

    @property
    def fps(self) -> float:
        """Frames a second of the video clock."""
        return float(self.audio_encoder.config.fps)

    def stream(
        self,
        image: NDArray[np.uint8],  # (H, W, 3) RGB
        reference: Keypoints,  # one frame: the photo's own
        *,
        audio: Waveform | Iterable[Waveform] | None = None,  # (N,) 16 kHz mono in [-1, 1], or chunks of it
        keypoints: Keypoints | Iterable[Keypoints] | None = None,  # driving, at the photo's size
        prior: Prior | Iterable[Prior] | None = None,
        condition: str | None = None,  # of conditions.KINDS; None: "body" with keypoints, else "box"
        movement_box: NDArray[np.float32] | None = None,  # (x0, y0, x1, y1) pixels; None: about the photo's chest
        hand_clarity: float | tuple[float, float] = conditions.CLARITY_INFERENCE,  # left, right; standardised
        face_embedding: Tensor | None = None,  # (1, D) where the identity encoder takes one instead of a crop
        frames: int | None = None,  # stop after so many
        steps: int | None = None,  # run in each window, whatever the strength; None, here and below: the config's
        strength: float | None = None,  # 0 the prior itself, 1 pure generation
        guidance: Guidance | None = None,
        frame_stride: int | None = None,  # generate every k-th frame and carry its correction to those between
        composite: bool = True,  # keep the prior where it is sure
        mouth: str | None = None,  # "sound": the prior's is at rest (`still_mouth`); "prior": it talks. None: config's
        generator: torch.Generator | None = None,
        attention_backend: str | None = None,  # native, flash, xformers, sage: diffusers' names
        on_progress: Callable[[Progress], None] | None = None,
        start: WindowState | None = None,  # go on from here; keypoints and prior then begin with its frame
        on_window: Callable[[WindowState], None] | None = None,  # told where each window goes on from
    ) -> Iterator[Tensor]:
        """Frames (f, 3, H, W) float32 in [0, 1] on the CPU, as windows finish; memory does not grow with length.

        However the inputs are cut into chunks, the frames are the same. Inputs are checked at once; the networks run
        when frames are asked for.
        """
        # 1. Check inputs
        config = self.config
        condition = condition or ("box" if keypoints is None else "body")
        if mouth == "sound" and (audio is None or keypoints is None):
            raise ValueError(
                "mouth 'sound' doubts the prior's mouth where the keypoints say and draws it from sound; pass audio "
                "and keypoints, or mouth='prior'"
            )
        if mouth is None:
            mouth = config.mouth if audio is not None and keypoints is not None else "prior"
        check_photo(image, reference, latents.spatial_factor(self.vae) * 2**self.unet.num_upsamplers)
        settings = Settings(
            config.steps if steps is None else steps,
            config.strength if strength is None else strength,
            guidance or Guidance(config.reference_guidance, config.audio_guidance),
            config.frame_stride if frame_stride is None else frame_stride,
            composite,
            mouth,
            condition,
            conditions.movement_box(reference) if condition == "box" and movement_box is None else movement_box,
            hand_clarity,
            generator,
            attention_backend,
            on_progress,
            on_window,
        )
        check_window(config.window, settings.frame_stride)
        if prior is None and (settings.strength < 1 or settings.frame_stride > 1):
            raise ValueError(
                f"strength {settings.strength} and frame_stride {settings.frame_stride} start from the prior and none "
                "was given; pass a prior, or strength 1 and frame_stride 1"
            )
        if condition in ("hands", "body") and keypoints is None:
            raise ValueError(f"condition {condition!r} needs keypoints, got None; pass them or use 'box' or 'none'")

        # 2. Streams of what drives the video
        sound = [audio] if isinstance(audio, np.ndarray | Tensor) else audio
        sources = Sources(
            self.audio_encoder.stream(sound) if sound is not None and settings.strength > 0 else None,
            [keypoints] if isinstance(keypoints, Keypoints) else keypoints,
            [prior] if isinstance(prior, Prior) else prior,
            (image.shape[0], image.shape[1]),
            self.fps,
            frames,
            0 if start is None else start.frame,
        )
        if settings.strength == 0:
            return self._prior_alone(sources, settings)
        return self._generate(image, reference, face_embedding, sources, settings, start)

    def __call__(self, image: NDArray[np.uint8], reference: Keypoints, **options: Any) -> AvatarOutput:
        """The whole video at once; options as for `stream`. Holds every frame."""
        return AvatarOutput(torch.cat(list(self.stream(image, reference, **options))))

    def _prior_alone(self, sources: Sources, settings: Settings) -> Iterator[Tensor]:
        while (piece := sources.take(self.config.window)) is not None:
            settings.tell(WindowState(sources.taken - piece.frames, None, None, {}))
            assert piece.prior is not None  # `stream` saw to it
            yield piece.prior.frames.float().cpu()

    @torch.no_grad()
    def _generate(
        self,
        image: NDArray[np.uint8],
        reference: Keypoints,
        face_embedding: Tensor | None,
        sources: Sources,
        settings: Settings,
        start: WindowState | None,
    ) -> Iterator[Tensor]:
        compositor = Compositor(settings.frame_stride, settings.composite)
        before: Tensor | None = None  # (1, C, M, h, w): the last latents, which the next window continues
        if start is not None:
            before = None if start.before is None else start.before.to(self._execution_device)
            start.apply(settings.generator, compositor)
        factor, channels = latents.spatial_factor(self.vae), self.unet.config.out_channels
        latent_size = image.shape[0] // factor, image.shape[1] // factor
        try:
            # 3. The photo
            with self._attention(settings.backend):
                person = self.encode_person(image, reference, settings, face_embedding)
            while True:
                settings.tell(WindowState.of(sources.taken, before, settings.generator, compositor))
                if (piece := sources.take(self.config.window * settings.frame_stride)) is None:
                    break
                with self._attention(settings.backend):
                    # 4. Conditions of the window's generated frames
                    prior, shown = self.encode_prior(piece, settings)
                    inputs = self.encode_conditions(person, piece, before, settings)
                    self._offload()
                    # 5. Denoise
                    first = sources.taken - piece.frames
                    frames = -(-piece.frames // settings.frame_stride)
                    clean = denoise(
                        self.unet,
                        self.scheduler,
                        frame_noise((channels, frames, *latent_size), settings.generator, self._execution_device),
                        prior,
                        inputs,
                        person.seen(True),
                        person.seen(False),
                        settings.steps,
                        settings.strength,
                        settings.guidance,
                        settings.generator,
                        f"the window at frame {first}",
                        partial(settings.report, first, frames),
                    )
                    if prior is not None and settings.composite:  # what is shown is what goes on
                        before = torch.lerp(prior.latents, clean, prior.doubt)
                    else:
                        before = clean
                    before = before[:, :, max(0, before.shape[2] - self.config.motion_frames) :].contiguous()
                    self._offload()
                    # 6. Decode
                    beside = grey = None  # a prior that is added to keeps its grain, and at rest its lips' colour
                    if self.unet.config.prior_residual and prior and shown:
                        beside = prior.latents[0].transpose(0, 1), shown.frames[:: settings.frame_stride]
                        if settings.mouth == "sound" and piece.keypoints is not None:
                            drawn = piece.keypoints[slice(None, None, settings.frame_stride)]
                            grey = torch.from_numpy(conditions.mouth_mask(drawn, drawn.size))[:, None]
                    made = clean[0].transpose(0, 1)
                    generated = latents.decode_beside(self.vae, made, beside, self._execution_device, grey)
                    self._offload()
                # 7. Composite with the prior, and fill the frames between
                yield from compositor.add(generated, shown)
            yield from compositor.finish()
        finally:
            # 8. Offload
            self.maybe_free_model_hooks()

    def encode_person(
        self, image: NDArray[np.uint8], reference: Keypoints, settings: Settings, face_embedding: Tensor | None = None
    ) -> Person:
        """Everything of the photo that all windows share."""
        device, dtype = self._execution_device, self.unet.dtype
        photo = latents.encode(self.vae, torch.from_numpy(image).permute(2, 0, 1)[None] / 255, device).to(dtype)
        skeleton = torch.from_numpy(draw_body(reference)).permute(3, 0, 1, 2)[None] / 255
        features = self.reference_net.encode(photo, self.pose_encoder(skeleton.to(device, dtype), "reference"))
        features = self.unet.project_reference(features)
        identity = nobody = box = None
        if self.identity_encoder is not None:
            identity = identity_tokens(self.identity_encoder, image, reference, face_embedding, device, dtype)
            # `to`: under group offload, tensors that no forward was called for are still elsewhere.
            nobody = {region: tokens.to(device) for region, tokens in self.identity_encoder.null(1).items()}
        if settings.condition == "box":
            drawn = np.array(conditions.pose_map("box", None, 1, reference.size, settings.box))
            box = self.pose_encoder(torch.from_numpy(drawn)[None].to(device, dtype), "box")
        self._offload()
        return Person(features, identity, nobody, wanted_clarity(reference, settings.clarity).to(device), box)

    def encode_prior(self, piece: Piece, settings: Settings) -> tuple[PriorLatents | None, Prior | None]:
        """Latents of the prior's frames that are generated and how far to doubt them, and the prior to composite with.

        Where sound is to say the mouth, neither is sure of it.
        """
        if piece.prior is None:
            return None, None
        shown, stride = piece.prior, settings.frame_stride
        encoded = latents.encode(self.vae, shown.frames[::stride], self._execution_device)
        doubt = latents.doubt(shown.confidence[::stride], self.vae).to(encoded.device)
        if settings.mouth == "sound" and piece.keypoints is not None:
            drawn = piece.keypoints[slice(None, None, stride)]
            hidden = conditions.mouth_mask(drawn, (encoded.shape[2], encoded.shape[3]))
            cells = torch.from_numpy(hidden)[:, None].to(encoded.device)
            doubt = torch.maximum(doubt, cells)
            shown = doubting_mouth(shown, conditions.mouth_mask(piece.keypoints, piece.keypoints.size))
        return PriorLatents(doubt.transpose(0, 1)[None], encoded.transpose(0, 1)[None]), shown

    def encode_conditions(
        self, person: Person, piece: Piece, before: Tensor | None, settings: Settings
    ) -> dict[str, Any]:
        """The U-Net's named conditions of one window, but for the reference."""
        device, dtype, stride = self._execution_device, self.unet.dtype, settings.frame_stride
        frames = -(-piece.frames // stride)
        keypoints = None if piece.keypoints is None else piece.keypoints[slice(None, None, stride)]
        pose = None
        if settings.condition == "box":
            assert person.box is not None
            pose = person.box.expand(-1, -1, frames, -1, -1)
        elif settings.condition in ("hands", "body"):
            assert keypoints is not None
            parts = []
            for start in range(0, frames, POSE_CHUNK):
                part = keypoints[slice(start, start + POSE_CHUNK)]
                drawn = conditions.pose_map(settings.condition, part, len(part), part.size, None)
                pictures = torch.from_numpy(drawn)[None].to(device, dtype)
                parts.append(self.pose_encoder(pictures, settings.condition))
            pose = torch.cat(parts, dim=2)
        clarity = person.clarity.expand(-1, frames, -1)
        if keypoints is not None:
            clarity = wanted_clarity(keypoints, settings.clarity).to(device)
        motion = keep_motion = None
        if self.config.motion_frames:
            if before is None:  # a first window continues nothing: maps of zero, as in EMO
                shape = (-1, self.config.motion_frames, -1, -1, -1)
                motion = [x.expand(shape) for x in self.unet.motion_maps(person.features, 1)]
                keep_motion = torch.zeros(1, dtype=torch.bool, device=device)
            else:
                maps = self.reference_net.encode(before[0].transpose(0, 1).to(dtype))
                motion = self.unet.motion_maps(maps, 1)
        text_dim = self.unet.config.cross_attention_dim
        text = None if text_dim is None else torch.zeros(1, 1, text_dim, device=device, dtype=dtype)
        return {
            "encoder_hidden_states": text,  # there is no text; a model built from one that has it gets a zero
            "audio": None if piece.audio is None else piece.audio[::stride][None].to(device, dtype),
            "pose": pose,
            "motion": motion,
            "keep_motion": keep_motion,
            "hand_clarity": clarity if self.unet.config.hand_clarity else None,
        }

    def enable_group_offload(self, onload_device: torch.device, *args: Any, **kwargs: Any) -> None:
        """Diffusers' group offload, `offload_type="leaf_level"` only."""
        offload_type = kwargs.get("offload_type", args[1] if len(args) > 1 else "block_level")
        if offload_type != "leaf_level":
            raise ValueError(
                f"group offload {offload_type!r} hooks whole blocks, which AvatarUNet.forward never calls; pass "
                "offload_type='leaf_level'"
            )
        super().enable_group_offload(onload_device, *args, **kwargs)

    def compile_blocks(self, **options: Any) -> None:
        """Regional torch.compile of the U-Net's repeated blocks: minutes less to compile than the whole.

        Every window has the same shapes but the last; keep the size fixed, too.
        """
        self.unet.compile_repeated_blocks(**options)

    @staticmethod
    def _attention(backend: str | None) -> AbstractContextManager[Any]:
        """The chosen attention backend, for the work alone: between two windows the caller's own choice holds."""
        return attention_with(backend) if backend else nullcontext()

    def _offload(self) -> None:
        """Send every network back that `enable_model_cpu_offload` brought to the device.

        Diffusers' own chain expects each network once, in one order; ours take turns in every window.
        """
        for hook in getattr(self, "_all_hooks", ()):
            hook.offload()
