"""What train/avatar.py does: the choices of a run of the video stage, its pipeline, its data.

Other trainers of the same networks (repair, one person) call `train_pipeline` with datasets of `TrainingWindow`s of
their own. Letters: F frames, M motion frames.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from torch import nn
from torch.utils.data import Dataset

from avatar import latents
from avatar.build import build_pipeline, load_pipeline
from avatar.data.shards import ShardFolder
from avatar.models.convert import from_stable_diffusion
from avatar.pipeline import AvatarPipeline
from train.avatar_prior import PriorCache
from train.avatar_showing import Example
from train.avatar_task import STAGES, AvatarTask, LossConfig, NoiseConfig
from train.avatar_windows import AvatarWindows, ConditionConfig, WindowShape
from train.config import LoopConfig
from train.loop import command, say, train
from train.lora import LoraConfig, LoraTask

PRIORS = ("none", "live", "cached")


@dataclass(frozen=True)
class DataConfig:
    """Prepared clips, and how their priors are had."""

    folders: tuple[str, ...] = ()  # of train/prepare.py; their clips are mixed by number
    validation: str = "val"  # split that is validated on; "train" to overfit on purpose
    prior: str = "none"  # none; live: rendered for each sample; cached: kept on disk for a few photos of each clip
    prior_photos: int = 4  # of a clip, where the prior is cached; ours
    prior_folder: str | None = None  # None: "prior" in the first of `folders`

    def __post_init__(self) -> None:
        if self.prior not in PRIORS:
            raise ValueError(f"data.prior must be one of {', '.join(PRIORS)}, got {self.prior!r}")


@dataclass(frozen=True)
class AvatarConfig:
    """One experiment."""

    stage: int
    model: str  # configs/model_*.yaml for new weights, or a pipeline's folder: a checkpoint, such as stage 1's
    stable_diffusion: str | None = None  # folder or hub id whose weights new U-Net and reference net start from
    motion_adapter: str | None = None  # folder or hub id of AnimateDiff's
    vae: str | None = None  # folder of another autoencoder for new weights, such as train/autoencoder.py's
    reference_start: str = (
        "own"  # own weights; unet: a copy of the U-Net's, as published; for U-Nets trained before it
    )
    data: DataConfig = field(default_factory=DataConfig)
    conditions: ConditionConfig = field(default_factory=ConditionConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    train: tuple[str, ...] | None = None  # groups of weights; None: those published for the stage
    unfreeze: tuple[str, ...] = ()  # groups more; [all] for every one that the stage can train
    frames: int | None = None  # F; None: the model's window in stage 2, 1 in stage 1, where more share one photo
    crop: int | None = None  # side, in latent cells, of a part of the picture that is learned at a time; None: all
    lora: LoraConfig = field(default_factory=LoraConfig)  # adapters on the groups' layers in place of the weights
    checkpointing: bool = False  # recompute activations in the backward pass instead of keeping them
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise ValueError(f"stage must be 1 or 2, got {self.stage}")
        if self.reference_start not in ("own", "unet"):
            raise ValueError(f"reference_start must be own or unet, got {self.reference_start!r}")
        if not self.data.folders:
            raise ValueError("data.folders is not set; pass data.folders=[FOLDER], made by train/prepare.py")


def main(argv: list[str] | None = None) -> int:
    return command("see train/avatar.py --help", AvatarConfig, run, argv)


def run(config: AvatarConfig) -> Path:
    """Train on prepared clips; returns the best checkpoint."""
    torch.manual_seed(config.loop.seed)
    folders = [ShardFolder(folder) for folder in config.data.folders]
    pipeline = starting_pipeline(config)
    shape = window_shape(config, pipeline)
    cache = None
    if shape.prior == "cached":
        place = config.data.prior_folder or str(Path(config.data.folders[0]) / "prior")
        cache = PriorCache(place, pipeline.vae, config.data.prior_photos, config.conditions.hide_mouth > 0)
    training = AvatarWindows(folders, "train", shape, config.conditions, cache)
    validation = AvatarWindows(folders, config.data.validation, shape, config.conditions, cache, dropping=False)
    check_latents(pipeline, training)
    if cache is not None:
        _fill(cache, [training, validation], pipeline)
    moving = [k for k, row in enumerate(validation.rows) if "repair" not in row.meta]
    shown = [Example(validation.clip, k) for k in moving[: config.loop.videos]]
    return train_pipeline(config, pipeline, training, validation, shown)


def train_pipeline(
    config: AvatarConfig, pipeline: AvatarPipeline, training: Dataset, validation: Dataset, shown: list[Example]
) -> Path:
    """Train a pipeline on any datasets of `TrainingWindow`s; `shown`: clips that validation videos are made of."""
    groups = trained_groups(config, pipeline)
    choices = (pipeline, config.stage, groups, config.noise, config.losses, config.checkpointing)
    task = LoraTask(config.lora, *choices) if config.lora.rank else AvatarTask(*choices)
    task.examples, task.seconds = shown, config.loop.video_seconds
    task.mouths = ("prior", "sound") if config.conditions.hide_mouth else ("prior",)
    moving = sum(p.numel() for p in task.parameters() if p.requires_grad)
    say(
        f"stage {config.stage}: {moving:,} of {sum(p.numel() for p in task.parameters()):,} parameters are trained "
        f"({', '.join(groups)}); {len(training)} clips to train, {len(validation)} to validate"  # type: ignore[arg-type]
    )
    return train(config, task, training, validation)


def starting_pipeline(config: AvatarConfig) -> AvatarPipeline:
    """The pipeline that an experiment begins with, in float32; random weights follow torch's global seed."""
    new = Path(config.model).suffix in (".yaml", ".yml")
    if not new:
        if config.stable_diffusion or config.motion_adapter or config.vae:
            raise ValueError("stable_diffusion, motion_adapter and vae are for new weights; model is a folder here")
        pipeline = load_pipeline(config.model)
    elif config.vae or config.stable_diffusion:
        if not Path(config.model).is_file():
            raise ValueError(f"no such model description: {config.model}; check the path")
        described = yaml.safe_load(Path(config.model).read_text(encoding="utf-8"))
        if config.vae:
            described["vae"] = {"class": _vae_class(config.vae), "from": config.vae}
        pipeline = build_pipeline(described)
        if config.stable_diffusion:
            _from_stable_diffusion(pipeline, config.stable_diffusion, config.motion_adapter, described["unet"])
    else:
        pipeline = load_pipeline(config.model)
    if new and not config.motion_adapter:
        _silence_motion(pipeline.unet)
    if config.reference_start == "unet":
        start_reference(pipeline)
    changes: dict[str, Any] = {}
    if config.noise.prediction_type is not None:
        changes["prediction_type"] = config.noise.prediction_type
    if config.noise.zero_terminal_snr is not None:
        changes["rescale_betas_zero_snr"] = config.noise.zero_terminal_snr
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, **changes)
    zero = bool(pipeline.scheduler.config.get("rescale_betas_zero_snr"))
    if zero and pipeline.scheduler.config.prediction_type == "epsilon":
        raise ValueError(
            "with a zero-terminal-SNR schedule noise says nothing; set noise.prediction_type=v_prediction"
        )
    if config.stage == 2 and config.frames is not None and config.frames < pipeline.config.window:
        # Places that no frame had in training must not be used.
        motion = min(pipeline.config.motion_frames, config.frames)
        pipeline.register_to_config(window=config.frames, motion_frames=motion)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def start_reference(pipeline: AvatarPipeline) -> None:
    """The reference net begins as the U-Net (AnimateAnyone, §3.2): its features are then what attention knows already.

    Of the U-Net's input it has the channels of clean latents: the prior's, where there is one.
    """
    unet, own = pipeline.unet.state_dict(), pipeline.reference_net.state_dict()
    channels = own["conv_in.weight"].shape[1]
    for name, tensor in own.items():
        source = unet.get(name)
        if name == "conv_in.weight" and source is not None:
            source = source[:, -channels:]
        if source is not None and source.shape == tensor.shape:
            tensor.copy_(source)


def _silence_motion(unet: nn.Module) -> None:
    """New motion modules do nothing until they are trained: their last layer is zero (AnimateDiff, §4.2)."""
    for name, parameter in unet.named_parameters():
        if "motion_modules" in name and ".proj_out." in name:
            nn.init.zeros_(parameter)


def _vae_class(folder: str) -> str:
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise ValueError(f"vae={folder} holds no config.json; give a folder that train/autoencoder.py wrote")
    return str(json.loads(path.read_text(encoding="utf-8")).get("_class_name"))


def _from_stable_diffusion(
    pipeline: AvatarPipeline, source: str, adapter: str | None, described: dict[str, Any]
) -> None:
    """Stable Diffusion's and AnimateDiff's weights in place of the pipeline's new ones."""
    kept = ("audio_dim", "identity_dim", "regions", "region_levels", "region_codes", "region_temporal_codes")
    fields = {name: described[name] for name in kept if name in described}
    prior = pipeline.unet.config.in_channels > pipeline.unet.config.out_channels
    converted = from_stable_diffusion(source, adapter, prior=prior, **fields)
    for name, ours in (("unet", converted.unet), ("reference_net", converted.reference_net)):
        getattr(pipeline, name).load_state_dict(ours.state_dict())  # refuses what does not fit the description


def trained_groups(config: AvatarConfig, pipeline: AvatarPipeline) -> tuple[str, ...]:
    """Names of the groups of weights that an experiment trains."""
    possible = {
        1: ("reference", "pose", "basic", "identity", "regions", "clarity"),
        2: ("reference", "pose", "basic", "identity", "regions", "clarity", "temporal", "audio"),
    }[config.stage]
    there = {
        "identity": pipeline.identity_encoder is not None,
        "regions": bool(pipeline.unet.config.regions),
        "clarity": bool(pipeline.unet.config.hand_clarity),
    }
    wanted = STAGES[config.stage] if config.train is None else config.train
    wanted = tuple(name for name in wanted if config.train is not None or there.get(name, True))
    more = tuple(n for n in possible if there.get(n, True)) if config.unfreeze == ("all",) else config.unfreeze
    return tuple(dict.fromkeys((*wanted, *more)))


def window_shape(config: AvatarConfig, pipeline: AvatarPipeline) -> WindowShape:
    """What the model of an experiment wants of a sample."""
    unet, encoder = pipeline.unet.config, pipeline.audio_encoder
    frames = config.frames or (1 if config.stage == 1 else pipeline.config.window)
    motion = 0 if config.stage == 1 else pipeline.config.motion_frames
    if config.stage == 2 and frames + motion > unet.motion_max_seq_length:
        raise ValueError(
            f"{frames} frames and {motion} motion frames do not fit the {unet.motion_max_seq_length} positions of the "
            "motion modules; take fewer frames"
        )
    has_prior = unet.in_channels > unet.out_channels
    if config.data.prior != "none" and not has_prior:
        raise ValueError("this model has no channels for a prior; pass data.prior=none, or build it with them")
    audio = (2 * encoder.config.window + 1, encoder.num_states, encoder.state_dim) if config.stage == 2 else None
    spacings = config.conditions.spacings or tuple(range(1, pipeline.config.frame_stride + 1))
    uses_regions = bool(unet.regions) and (config.stage == 2 or "regions" in trained_groups(config, pipeline))
    return WindowShape(
        frames, motion, unet.out_channels, latents.spatial_factor(pipeline.vae),
        crop_size=128 if pipeline.identity_encoder is None else pipeline.identity_encoder.config.crop_size,
        audio=audio, heatmaps=uses_regions and config.losses.heatmap > 0, prior=config.data.prior, spacings=spacings,
        apart=config.stage == 1, crop=config.crop,
    )  # fmt: skip


@torch.no_grad()
def check_latents(pipeline: AvatarPipeline, data: AvatarWindows) -> None:
    """ValueError when a folder's latents are another autoencoder's than the pipeline's: one frame of it is encoded."""
    for number, folder in enumerate(data.folders):
        clips = (data.clip(k) for k, place in enumerate(data.places) if place[0] == number)
        clip = next(clips, None)
        if clip is None or clip.latents is None or not (clip.meta.get("networks") or {}).get("vae"):
            continue  # nothing to learn there, or it does not say that anything encoded its pictures
        frame = torch.from_numpy(clip.frames(0, 1).copy()).permute(0, 3, 1, 2) / 255
        kept = torch.from_numpy(clip.latents[:1]).float()
        made = latents.encode(pipeline.vae, frame).cpu()
        # Half precision and the video's compression make about 1 % of the variance; another autoencoder all of it.
        if made.shape != kept.shape or (made - kept).square().mean() > 0.3 * kept.var():
            raise ValueError(
                f"the latents in {folder.folder} were made by {clip.meta['networks']['vae']}, not by this model's "
                "autoencoder; prepare the folder again with vae=MODEL, or begin with that one: vae=FOLDER"
            )


def _fill(cache: PriorCache, datasets: list[AvatarWindows], pipeline: AvatarPipeline) -> None:
    """Make the priors that are missing, shared out among the processes."""
    from tqdm import tqdm

    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))  # or it knows of no other CPU processes
    clips = {}
    for data in datasets:
        for index, place in enumerate(data.places):
            if "repair" not in data.rows[index].meta:  # those bring their own
                clips[place] = partial(data.clip, index)
    pipeline.vae.to(state.device)
    made = cache.fill(list(clips.values()), pipeline.vae, state.device, state.process_index, state.num_processes)
    bar = tqdm(made, desc="priors", total=len(clips), disable=None if state.is_main_process else True)
    for _ in bar:
        pass
