"""The losses of the video stage, in both of CyberHost's stages, for any dataset of `TrainingWindow`s.

Stage 1 learns single frames (no temporal layer runs), stage 2 windows with sound and motion frames. What is trained is
named in groups; everything else is frozen, and a group that no loss reaches is refused, because distributed training
waits for every trained weight's gradient.

Letters: B clips, F frames, M motion frames, C latent channels, H W image size, h w latent size, T audio tokens.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avatar import conditions, latents, losses
from avatar.models.unet import REGIONS
from avatar.pipeline import AvatarPipeline
from train.avatar_showing import Example, show_examples
from train.batches import Draws
from train.loop import Task

GROUPS = ("reference", "pose", "identity", "basic", "regions", "audio", "temporal", "clarity")
# What each stage trains as published (notes S and N on CyberHost v2); in stage 2 also what has no signal before it.
STAGES = {
    1: ("reference", "pose", "basic"),
    2: ("temporal", "audio", "regions", "identity", "clarity", "pose"),
}
TIME_BINS = 5  # of the logged loss per time-step
PRIOR_START_FROM = 0.2  # of the schedule; ours: below it there is too little noise to repair a prior under


@dataclass(frozen=True)
class NoiseConfig:
    """What is added to the clean latents."""

    prediction_type: str | None = None  # epsilon, v_prediction, sample; None: the model's own
    zero_terminal_snr: bool | None = None  # Lin et al. 2024, "Common diffusion noise schedules"; None: the model's own
    noise_offset: float = 0.05  # Moore-AnimateAnyone; Guttenberg 2023: lets the mean brightness change
    min_snr_gamma: float = losses.MIN_SNR_GAMMA  # Hang et al. 2023; 0 for no weighting
    times: tuple[float, float] = (0.0, 1.0)  # part of the schedule that is learned; ours for models of strength < 1
    prior_start: float = 0.0  # ours: share of clips that are noised from the prior, as sampling at strength < 1 is

    def __post_init__(self) -> None:
        if self.prediction_type is not None and self.prediction_type not in losses.TARGETS:
            known = ", ".join(losses.TARGETS)
            raise ValueError(f"noise.prediction_type must be one of {known}, got {self.prediction_type!r}")
        if not 0 <= self.times[0] < self.times[1] <= 1:
            raise ValueError(f"noise.times must be 0 <= first < second <= 1, got {self.times}")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the parts of the loss."""

    local_alpha: float = losses.LOCAL_ALPHA  # published: (1 + alpha M) L with alpha 1
    mouth: float = 4.0  # ours: added to the weight of hidden mouths, which are small and move little
    sure: float = 1.0  # ours: weight of places that the prior is sure of, which is what is shown there; doubt weighs 1
    error: str = "squared"  # published; or "absolute", ours: of what is blurred by averaging, less
    pixels: float = 0.0  # ours: of the absolute error of decoded pictures, in the same places; see docs/training.md
    pixels_side: int | None = None  # ours: latent cells of the square of each clip that is decoded for it; None: all
    mask: float = 0.1  # ours: boxes for the region masks; not public
    heatmap: float = 1.0  # published without a weight; for t < 500 and with probability 0.5

    def __post_init__(self) -> None:
        if self.error not in ("squared", "absolute") or not 0 <= self.sure <= 1:
            raise ValueError(
                f"losses.error must be squared or absolute and losses.sure 0 to 1, got {self.error!r}, {self.sure}"
            )


def _squares(side: int | None, weight: Tensor, *maps: Tensor) -> list[Tensor]:
    """Of maps (B, …, h, w) the square of each clip where `weight` (B, 1, F, h, w) is largest; all of them for None."""
    height, width = weight.shape[-2:]
    if side is None or side >= min(height, width):
        return list(maps)
    share = torch.nn.functional.avg_pool2d(weight.mean(2), side, 1).flatten(1)  # (B, places)
    corners = [divmod(int(at), width - side + 1) for at in share.argmax(1)]
    return [
        torch.stack([x[..., y : y + side, left : left + side] for x, (y, left) in zip(m, corners, strict=True)])
        for m in maps
    ]


def parameter_groups(pipeline: AvatarPipeline) -> dict[str, list[nn.Parameter]]:
    """The trainable weights of a pipeline by the names in GROUPS; what is never trained is in none."""
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in GROUPS}
    own_text = pipeline.unet.config.cross_attention_dim is not None
    for name, parameter in pipeline.unet.named_parameters():
        groups[_group_of(name, own_text)].append(parameter)
    parts = {"reference": pipeline.reference_net, "pose": pipeline.pose_encoder, "audio": pipeline.audio_encoder}
    if pipeline.identity_encoder is not None:
        parts["identity"] = pipeline.identity_encoder
    for name, part in parts.items():
        groups[name] += [p for p in part.parameters() if p.requires_grad]  # not the speech network, not dead ends
    return groups


def _group_of(name: str, own_text: bool) -> str:
    """Group of a parameter of the U-Net."""
    if "motion_modules" in name or (name.startswith("region_layers.") and ".temporal." in name):
        return "temporal"
    if name.startswith("region_layers."):
        return "regions"
    if name.startswith("clarity_embedding."):
        return "clarity"
    if ".transformer_blocks." in name:
        # Without text, all of the cross-attention belongs to the audio, and the norm before it serves nothing else.
        audio = (".attn2.processor.",) if own_text else (".attn2.", ".norm2.")
        if any(part in name for part in audio):
            return "audio"
    return "basic"


class AvatarTask(Task):
    """Denoising with every condition, and the masks and heat maps of local enhancement."""

    def __init__(
        self,
        pipeline: AvatarPipeline,
        stage: int,
        train: tuple[str, ...],
        noise: NoiseConfig | None = None,
        weights: LossConfig | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.pipeline, self.stage = pipeline, stage
        self.noise, self.weights = noise or NoiseConfig(), weights or LossConfig()
        _check_groups(pipeline, stage, train)
        for name, module in pipeline.components.items():
            if isinstance(module, nn.Module):
                self.add_module(name, module)
        self.uses_regions = bool(pipeline.unet.config.regions) and (stage == 2 or "regions" in train)
        self.uses_clarity = bool(pipeline.unet.config.hand_clarity) and (stage == 2 or "clarity" in train)
        self.uses_heatmaps = self.uses_regions and "hands" in pipeline.unet.config.regions and self.weights.heatmap > 0

        # 1. Freeze all that is not named
        groups = parameter_groups(pipeline)
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        for name in train:
            for parameter in groups[name]:
                parameter.requires_grad_(True)
        if stage == 1:
            pipeline.reference_net.freeze_after_last_tokens()
        if not self.uses_heatmaps:
            for name, parameter in pipeline.unet.named_parameters():
                if name.startswith("region_layers.") and ".heatmap." in name:
                    parameter.requires_grad_(False)
        self.trains, self.trains_reference = train, "reference" in train
        self.examples: list[Example] = []  # clips that `show` makes videos of, each of so many seconds
        self.seconds = 4.0
        self.mouths: tuple[str, ...] = ("prior",)  # of `avatar.settings.MOUTHS`; each is shown

        # 2. Recompute activations instead of keeping them
        for part in (pipeline.unet, pipeline.reference_net, pipeline.pose_encoder) if checkpointing else ():
            part.enable_gradient_checkpointing()

    def trained(self) -> nn.Module:
        return self

    def watched(self) -> dict[str, list[nn.Parameter]]:
        groups = parameter_groups(self.pipeline)  # anew each time: FSDP puts other tensors in the weights' places
        return {name: [p for p in groups[name] if p.requires_grad] for name in self.trains}

    def edges(self) -> list[nn.Parameter]:
        return [p for name, p in self.named_parameters() if name.split(".")[-2] in ("conv_in", "conv_out")]

    def train(self, mode: bool = True) -> AvatarTask:
        super().train(mode)
        self.pipeline.vae.eval()
        return self

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of a `TrainingWindow` batch."""
        pipeline, scheduler, noise = self.pipeline, self.pipeline.scheduler, self.noise
        # 1. Latents
        clean = self._latents(batch, "latents", "frames")
        prior, doubt = self._prior(batch, clean)

        # 2. Noise
        draws, alphas = Draws(batch["draw"]), scheduler.alphas_cumprod
        length = int(scheduler.config.num_train_timesteps)
        low, high = (int(share * length) for share in noise.times)
        times = low + (draws.uniform() * (high - low)).long()
        added = draws.normal(*clean.shape[1:])
        if noise.noise_offset:
            added = added + noise.noise_offset * draws.normal(clean.shape[1], 1, 1, 1)
        from_prior = draws.uniform() < noise.prior_start
        alpha = losses.per_clip(alphas, times)
        begin = clean
        if noise.prior_start and "keep_prior" in batch:
            from_prior &= batch["keep_prior"]
            times = torch.where(from_prior, times.clamp(min=int(PRIOR_START_FROM * length)), times)
            alpha = losses.per_clip(alphas, times)
            begin = torch.where(from_prior[:, None, None, None, None], prior, clean)
        noisy = alpha.sqrt() * begin + (1 - alpha).sqrt() * added
        # Of a clip noised from its prior, the noise is all that keeps it from being clean.
        added = (noisy - alpha.sqrt() * clean) / (1 - alpha).sqrt()

        # 3. Predict
        shown = noisy
        if pipeline.unet.config.in_channels > clean.shape[1]:
            shown = torch.cat([noisy, doubt, prior], dim=1)
        output = pipeline.unet(shown, times, **self._conditions(batch, clean.shape[2]))

        # 4. Losses
        kind = scheduler.config.prediction_type
        target = losses.diffusion_target(clean, added, times, alphas, kind)
        local = self.weights.local_alpha * batch["regions"].amax(1, keepdim=True)
        if "mouth" in batch:
            local = local + self.weights.mouth * batch["mouth"]
        weight = None if self.weights.sure == 1 else self.weights.sure + (1 - self.weights.sure) * doubt
        error = losses.denoising_loss(output.sample, target, local, 1.0, weight, self.weights.error == "absolute")
        if noise.min_snr_gamma:
            error = error * losses.min_snr_weight(times, alphas, kind, noise.min_snr_gamma)
        parts = {"denoising": error.mean()}
        total = parts["denoising"]
        if self.weights.pixels:
            made = losses.clean_latents(output.sample.float(), noisy, times, alphas, kind)
            places = torch.ones_like(clean[:, :1]) if weight is None else weight
            made, known, *places = _squares(self.weights.pixels_side, places, made, clean, local, places)
            pictures = self._pictures(made), self._pictures(known)
            parts["pixels"] = losses.denoising_loss(*pictures, places[0], 1.0, places[1], absolute=True).mean()
            total = total + self.weights.pixels * parts["pixels"]
        if self.uses_regions:
            parts["mask"] = self._mask_loss(output, batch["regions"])
            total = total + self.weights.mask * parts["mask"]
        if self.uses_heatmaps:
            parts["heatmap"] = self._heatmap_loss(output, batch, losses.heatmap_applies(times, draws.uniform()))
            total = total + self.weights.heatmap * parts["heatmap"]
        return {"loss": total, **parts, **self._by_time_and_place(output.sample, target, times, length, batch, doubt)}

    def _latents(self, batch: dict[str, Tensor], name: str, pictures: str) -> Tensor:
        """Scaled latents (B, C, F, h, w) or (B, C, h, w), prepared or encoded now."""
        if name in batch:
            return batch[name].float()
        images = batch[pictures].float() / 255
        if images.ndim == 4:
            return latents.encode(self.pipeline.vae, images)
        frames = images.transpose(1, 2)
        return latents.encode(self.pipeline.vae, frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).transpose(1, 2)

    def _pictures(self, known: Tensor) -> Tensor:
        """Decoded latents (B, C, F, h, w), the pixels of each cell as its channels (B, 3 · factor², F, h, w)."""
        pictures = latents.decoded(self.pipeline.vae, known.transpose(1, 2).flatten(0, 1))
        cells = torch.nn.functional.pixel_unshuffle(pictures, latents.spatial_factor(self.pipeline.vae))
        return cells.unflatten(0, (len(known), -1)).transpose(1, 2)

    def _prior(self, batch: dict[str, Tensor], clean: Tensor) -> tuple[Tensor, Tensor]:
        """Latents and doubt of the prior; without one zeros and 1; a hidden mouth is doubted, as in the pipeline."""
        if "keep_prior" not in batch:
            return torch.zeros_like(clean), torch.ones_like(clean[:, :1])
        keep = batch["keep_prior"][:, None, None, None, None]
        prior, doubt = self._latents(batch, "prior_latents", "prior_frames"), batch["doubt"].float()
        if "mouth" in batch:
            doubt = torch.maximum(doubt, batch["mouth"])
        return torch.where(keep, prior, torch.zeros_like(prior)), torch.where(keep, doubt, torch.ones_like(doubt))

    def _conditions(self, batch: dict[str, Tensor], frames: int) -> dict[str, Any]:
        """The U-Net's named conditions."""
        pipeline = self.pipeline
        kinds = [conditions.KINDS[number] for number in batch["kind"].tolist()]
        keep, count = batch["keep_reference"], len(kinds)
        given: dict[str, Any] = {"temporal": self.stage == 2, "heatmaps": self.uses_heatmaps}
        given["pose"] = pipeline.pose_encoder(batch["pose"].float() / 255, kinds)
        # 1. The reference net: nothing is kept for gradients where it is frozen
        with contextlib.nullcontext() if self.trains_reference else torch.no_grad():
            # A dropped reference is no reference; every process must reach the weights that are trained.
            if self.trains_reference or bool(keep.any()):
                skeleton = pipeline.pose_encoder(batch["reference_pose"].float() / 255, "reference")
                photo = self._latents(batch, "reference_latents", "reference")
                given |= {"reference": pipeline.reference_net(photo, skeleton), "keep_reference": keep}
            if self.stage == 2 and "keep_motion" in batch:
                before = self._latents(batch, "motion_latents", "motion_frames").transpose(1, 2).flatten(0, 1)
                given["motion"] = pipeline.unet.motion_maps(pipeline.reference_net(before), count)
                given["keep_motion"] = batch["keep_motion"]
        # 2. Identity; a dropped reference has the tokens of nobody
        if self.uses_regions:
            crops, present = batch["crops"].float() / 127.5 - 1, batch["present"]
            seen = pipeline.identity_encoder(crops[:, 0], crops[:, 1:], present[:, 1:], present[:, 0])
            nobody = pipeline.identity_encoder.null(count)
            given["identity"] = {
                name: torch.where(keep[:, None, None], tokens, nobody[name]) for name, tokens in seen.items()
            }
        # 3. Sound and hands; dropped sound is tokens of zero
        if self.stage == 2 and "audio" in batch:
            tokens = pipeline.audio_encoder(batch["audio"].float())
            given["audio"] = tokens * batch["keep_audio"][:, None, None, None]
        if self.uses_clarity:
            absent = torch.full((count, frames, 2), torch.nan, device=keep.device)
            given["hand_clarity"] = batch.get("clarity", absent)
        text_dim = pipeline.unet.config.cross_attention_dim
        if text_dim is not None:
            given["encoder_hidden_states"] = torch.zeros(count, 1, text_dim, device=keep.device)
        return given

    def _mask_loss(self, output: Any, regions: Tensor) -> Tensor:
        """Mean over the regions that the model has, of their heads' cross-entropy with the boxes."""
        found = []
        for number, name in enumerate(REGIONS):
            if name in output.region_logits:
                logits = [x.transpose(1, 2).flatten(0, 1) for x in output.region_logits[name]]
                boxes = regions[:, number].flatten(0, 1)[:, None]  # (B F) 1 h w
                found.append(losses.mask_loss(logits, boxes).mean())
        return torch.stack(found).mean()

    def _heatmap_loss(self, output: Any, batch: dict[str, Tensor], applies: Tensor) -> Tensor:
        """Of the clips that it applies to; the others count with 0, so that every batch weighs the same."""
        maps = [x.transpose(1, 2).flatten(0, 1) for x in output.hand_heatmaps]
        wanted = batch["heatmaps"].transpose(1, 2).flatten(0, 1)
        error = losses.heatmap_loss(maps, wanted, batch["joints"].flatten(0, 1))  # (B F)
        return (error.unflatten(0, (len(applies), -1)).mean(1) * applies).mean()

    @torch.no_grad()
    def _by_time_and_place(
        self, prediction: Tensor, target: Tensor, times: Tensor, length: int, batch: dict[str, Tensor], doubt: Tensor
    ) -> dict[str, Tensor]:
        """Squared error by time-step and by region, unweighted, each as sum and count."""
        error = (prediction.float() - target.float()).square().mean(1, keepdim=True)  # B 1 F h w
        per_clip, found = error.flatten(1).mean(1), {}
        for number in range(TIME_BINS):
            low, high = (k * length // TIME_BINS for k in (number, number + 1))
            inside = ((times >= low) & (times < high)).float()
            found[f"time/{low:04d}"] = torch.stack([(per_clip * inside).sum(), inside.sum()])
        places = {name: batch["regions"][:, k : k + 1] for k, name in enumerate(REGIONS)}
        places["elsewhere"] = 1 - batch["regions"].amax(1, keepdim=True)
        if "keep_prior" in batch:
            places["doubtful"] = doubt * batch["keep_prior"][:, None, None, None, None]
        if "mouth" in batch:
            places["mouth"] = batch["mouth"]
            places["doubtful"] = places["doubtful"] * (1 - batch["mouth"])
        for name, mask in places.items():
            found[f"region/{name}"] = torch.stack([(error * mask).sum(), mask.sum()])
        return found

    def save(self, folder: Path) -> None:
        self.pipeline.save_pretrained(folder)

    def show(self, folder: Path, step: int) -> dict[str, NDArray[np.uint8]]:
        """Videos of the examples, and of the first what masks and codebooks do."""
        self.eval()
        name = f"step_{step:08d}"
        return show_examples(self.pipeline, self.examples, folder, name, self.seconds, self.mouths)


def _check_groups(pipeline: AvatarPipeline, stage: int, train: tuple[str, ...]) -> None:
    if stage not in STAGES:
        raise ValueError(f"stage must be 1 or 2, got {stage}")
    for name in train:
        if name not in GROUPS:
            raise ValueError(f"unknown group {name!r} to train; known are {', '.join(GROUPS)}")
    if stage == 1 and (silent := {"audio", "temporal"} & set(train)):
        raise ValueError(f"stage 1 learns single frames, nothing reaches {', '.join(sorted(silent))}; use stage 2")
    if stage == 1 and "identity" in train and "regions" not in train:
        raise ValueError("identity tokens are read by the regions alone; train both or neither")
    if not train:
        raise ValueError("nothing is to be trained; name groups")
    for group, there in (
        ("identity", pipeline.identity_encoder is not None),
        ("regions", bool(pipeline.unet.config.regions)),
        ("clarity", bool(pipeline.unet.config.hand_clarity)),
    ):
        if group in train and not there:
            raise ValueError(f"this model has no {group} to train; leave the group out")
    encoder = pipeline.identity_encoder
    if encoder is not None and encoder.config.face_embedding_dim is not None:
        raise ValueError("training gives face crops and this identity encoder takes embeddings; build it with crops")
    if not hasattr(pipeline.scheduler, "alphas_cumprod"):
        raise ValueError(f"{type(pipeline.scheduler).__name__} has no noise schedule to train with; use DDIMScheduler")
