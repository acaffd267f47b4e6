"""Train one of the four gesture systems.

    accelerate launch train/gesture.py configs/gesture_diffuse_style.yaml preset=small data.folder=CORPUS

Any choice of the file can be changed by `key=value`; the same command again resumes. A checkpoint is a folder that
`GesturePipeline.from_pretrained` and infer/gesture.py read. Letters: B clips, F frames, P width of a pose vector.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pose.datasets.check import open_dataset
from pose.losses import denoising_loss, speed_loss
from pose.models.denoiser import GestureDenoiser
from pose.models.diff_gesture import DiffGesture
from pose.models.diffuse_style import DiffuseStyleGesture
from pose.models.fine_gesture import FineGesture
from pose.models.holistic import HolisticDiffusion, UncertaintyWeights
from pose.models.motion_codec import MotionCodec
from pose.pipeline import GesturePipeline
from pose.representations.beat import MatrixVectors
from pose.representations.directions import DirectionVectors
from pose.representations.joints import BEAT_JOINTS, JointVectors, SmplxVectors
from pose.representations.vectors import MotionVectors
from pose.representations.zeroeggs import RootSpaceVectors
from pose.sampling import scheduler_for
from train.config import LoopConfig
from train.features import ClipArrays, FeatureCache
from train.guess import fit_guess
from train.loop import Task, command, say, train
from train.showing import show_samples
from train.windows import GestureWindows

SYSTEMS = ("diffuse_style", "diff_gesture", "fine_gesture", "holistic")


@dataclass(frozen=True)
class DataConfig:
    """Which clips are learned, and what the model hears."""

    folder: str = ""
    kind: str | None = None  # beat, beat2, show, ted, zeroeggs; told from the files if left out
    speakers: tuple[str, ...] | None = None  # only these; None: all
    styles_named: bool = True  # the style vector tells the style …
    speakers_named: bool = True  # … and the speaker
    cache: str = "out/cache"
    feature_set: str | None = "acoustic"  # see pose.feature_sets; None: the samples, for models that hear them
    speech_model: str | None = None  # folder or hub id of WavLM-Large, for the sets that hold it
    word_vectors: str | None = None  # fastText's text file, for the sets with words
    stride: int = 10  # frames between the starts of windows
    processes: int = 2  # that read recordings into the cache; one when a speech network does


@dataclass(frozen=True)
class RepresentationConfig:
    """`kind` matrix, joints, root_space, directions or smplx, with the options of its class."""

    kind: str = "matrix"
    options: dict[str, Any] = field(default_factory=dict)
    centre_only: bool = False  # directions as published: the mean is taken away, nothing is scaled


@dataclass(frozen=True)
class GestureConfig:
    """One experiment."""

    system: str
    data: DataConfig
    representation: RepresentationConfig
    small: bool = False  # the class's size for a CPU instead of the published one
    model: dict[str, Any] = field(default_factory=dict)  # changes to the class's arguments
    codec: str | None = None  # folder that train/codec.py wrote, for fine_gesture
    uncertainty: bool = True  # holistic: train the weights of the two losses; false: one half each
    uncertainty_rate: float = 1.0  # how many times faster than the network; see UncertaintyWeights
    speed_weight: float = 0.0  # ours: adds speed_loss to models of the clean sample
    velocity_loss: bool = False  # ours: weighs models of the noise by their error in v (Salimans and Ho 2022)
    emphasis: float = 1.0  # ours: how much more than it is heard the pace of the Gaussian guess follows speech
    seed_drop: float = 0.1  # ours: share of batches without any seed, as a recording begins
    steps: int | None = 8  # of sampling, saved with the pipeline; ours: a second for 10 s. None: all of the training
    guidance: float = 1.0  # γ, saved with the pipeline
    clip: float | None = None  # deviations that sampling holds clean samples within, saved with the pipeline
    smooth: int = 0  # frames that sampling smooths over, saved with the pipeline; released code: 15 at 20 fps
    default_style: str | None = None  # what sampling takes when no style is told, saved with the pipeline
    own_eyes: bool = True  # false: infer/run.py shows the prosody motion's eyes and brows; saved with the pipeline
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        if self.system not in SYSTEMS:
            raise ValueError(f"system must be one of {', '.join(SYSTEMS)}, got {self.system!r}")
        if (self.codec is not None) != (self.system == "fine_gesture"):
            raise ValueError("fine_gesture, and it alone, needs codec=FOLDER; make one by train/codec.py")
        if not self.data.folder:
            raise ValueError("data.folder is not set; pass data.folder=FOLDER, see train/procedural.py for making one")


def build_representation(config: RepresentationConfig) -> MotionVectors:
    """An unfitted representation."""
    options = dict(config.options)
    if options.get("joints") == "beat":
        options["joints"] = BEAT_JOINTS
    try:
        if config.kind == "matrix":
            return MatrixVectors(**options)
        if config.kind == "joints":
            return JointVectors(**options)
        if config.kind == "root_space":
            return RootSpaceVectors(**options)
        if config.kind == "directions":
            return DirectionVectors(**options)
        if config.kind == "smplx":
            return SmplxVectors(**options)
    except TypeError as error:
        raise ValueError(f"representation.options: {error}") from None
    known = "matrix, joints, root_space, directions, smplx"
    raise ValueError(f"unknown representation {config.kind!r}; known are {known}")


def build_model(
    config: GestureConfig, representation: MotionVectors, codec: MotionCodec | None, speech_dim: int, style_dim: int
) -> GestureDenoiser:
    """The untrained network of an experiment."""
    changes = dict(config.model)
    pose_dim = representation.dim
    try:
        if config.system == "diffuse_style":
            make = DiffuseStyleGesture.small if config.small else DiffuseStyleGesture
            return make(pose_dim=pose_dim, speech_dim=speech_dim, style_dim=style_dim, **changes)
        if config.system == "diff_gesture":
            make_diff = DiffGesture.small if config.small else DiffGesture
            return make_diff(pose_dim=pose_dim, style_dim=style_dim, **changes)
        if config.system == "fine_gesture":
            assert codec is not None
            make_fine = FineGesture.small if config.small else FineGesture
            return make_fine(pose_dim=codec.config.latent_dim, style_dim=style_dim, **changes)
        parts = representation.parts
        if len(parts) != 2:
            raise ValueError("holistic needs representation.options.expression=true: it makes gesture and expression")
        make_whole = HolisticDiffusion.small if config.small else HolisticDiffusion
        return make_whole(
            gesture_dim=parts[0], expression_dim=parts[1], speech_dim=speech_dim, style_dim=style_dim, **changes
        )
    except TypeError as error:
        raise ValueError(f"model: {error}") from None


def fit_statistics(representation: MotionVectors, config: RepresentationConfig, clips: Sequence[ClipArrays]) -> None:
    """Mean and deviation of the training clips."""
    raw = (clip.vectors.astype(np.float64) for clip in clips)
    if not config.centre_only:
        representation.fit(raw)
    elif isinstance(representation, DirectionVectors):
        representation.fit_mean(list(raw))
    else:
        raise ValueError("representation.centre_only is for directions alone: other numbers have units")


class GestureTask(Task):
    """Noise at a random level, prediction, loss."""

    def __init__(
        self,
        config: GestureConfig,
        pipeline: GesturePipeline,
        clips: Sequence[ClipArrays],  # to show
        cache: FeatureCache,
        windows: GestureWindows,  # to estimate from
    ) -> None:
        super().__init__()
        self.config, self.pipeline, self.clips, self.cache = config, pipeline, list(clips), cache
        self.windows = windows
        self.model: GestureDenoiser = pipeline.model
        self.codec = pipeline.codec
        if self.codec is not None:
            self.codec.requires_grad_(False)
        tasks = len(self.model.config.tasks) if isinstance(self.model, HolisticDiffusion) else 0
        self.weights = UncertaintyWeights(tasks, config.uncertainty, config.uncertainty_rate) if tasks > 1 else None
        self.noising = scheduler_for("ddpm", self.model)

    def trained(self) -> nn.Module:
        return self.model

    def estimate(self) -> bool:
        if self.model.config.axes:
            fit_guess(self.model, self.windows, self.codec, self.config.emphasis)
        return bool(self.model.config.axes)

    def train(self, mode: bool = True) -> GestureTask:
        super().train(mode)
        if self.codec is not None:
            self.codec.eval()
        return self

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        # 1. The clean sample and its seed
        clean, seed = batch["vectors"], batch["seed"]
        if self.codec is not None:
            with torch.no_grad():
                clean, seed = self.codec.encode(clean), self.codec.encode(seed)
        has_seed = not (self.training and float(torch.rand(())) < self.config.seed_drop)
        style = batch["style"] if batch["style"].shape[1] else None
        # 2. Noise
        noise = torch.randn_like(clean)
        timestep = torch.randint(self.noising.config.num_train_timesteps, (len(clean),), device=clean.device)
        noised = self.noising.add_noise(clean, noise, timestep)
        prediction = self.model(noised, timestep, speech=batch["speech"], seed=seed if has_seed else None, style=style)
        # 3. Losses
        kind = self.model.prediction_type
        target = noise if kind == "epsilon" else clean
        losses: dict[str, Tensor] = {}
        if self.weights is not None and isinstance(self.model, HolisticDiffusion):
            parts, targets = self.model.split(prediction), self.model.split(target)
            losses = {name: denoising_loss(parts[name], targets[name], kind).mean() for name in parts}
            values = torch.stack(list(losses.values()))
            # The plain sum of validation can be compared over the run; the weighted one is not bounded below.
            loss = self.weights(values) if self.training else values.sum()
            for name, share, sigma in zip(list(losses), self.weights.shares(), self.weights.sigmas(), strict=True):
                losses |= {f"share_{name}": share, f"sigma_{name}": sigma}
        else:
            loss = denoising_loss(prediction, target, kind)
            if self.config.velocity_loss and kind == "epsilon":  # an error of a e in the noise is one of e in v
                loss = loss / self.noising.alphas_cumprod.to(loss)[timestep]
            loss = loss.mean()
        if self.config.speed_weight and kind == "sample":
            losses["speed"] = speed_loss(prediction, target).mean()
            loss = loss + self.config.speed_weight * losses["speed"]
        return {"loss": loss, **losses}

    def save(self, folder: Path) -> None:
        self.pipeline.save_pretrained(folder)
        if self.weights is not None:
            self.weights.save_pretrained(folder / "uncertainty")

    def show(self, folder: Path, step: int) -> None:
        loop = self.config.loop
        self.pipeline.to(self.model.device)
        dataset = open_dataset(self.config.data.folder, self.config.data.kind)
        clips = self.clips[: loop.videos]
        show_samples(self.pipeline, dataset, clips, self.cache.hears, folder, step, loop.video_seconds)


def load_clips(data: DataConfig, cache: FeatureCache) -> dict[str, list[ClipArrays]]:
    """Usable clips by split; prints how many are not, and why the first of them are not."""
    from tqdm import tqdm

    dataset = open_dataset(data.folder, data.kind)
    recordings = [r for r in dataset.recordings if data.speakers is None or r.speaker in data.speakers]
    if not recordings:
        known = sorted({r.speaker for r in dataset.recordings})
        raise ValueError(f"{data.folder} holds no recording of data.speakers; it has {', '.join(known) or 'none'}")
    recordings = [r for r in recordings if r.split in ("train", "val")]
    with tqdm(total=len(recordings), desc="features", disable=None) as bar:
        clips, unusable = cache.load_all(dataset, recordings, lambda name: bar.update(), data.processes)
    if unusable:
        print(f"{len(unusable)} of {len(recordings)} recordings are unusable, for example:", file=sys.stderr)
        for name, why in unusable[:5]:
            print(f"  {name}: {why}", file=sys.stderr)
    splits = {split: [clip for clip in clips if clip.split == split] for split in ("train", "val")}
    for split, found in splits.items():
        if not found:
            raise ValueError(f"{data.folder} has no usable recording of the split {split}; add recordings")
    return splits


def main(argv: list[str] | None = None) -> int:
    return command(__doc__, GestureConfig, run, argv)


def run(config: GestureConfig) -> Path:
    """Train; returns the best checkpoint."""
    data = config.data
    torch.manual_seed(config.loop.seed)
    # 1. Representation and codec; a codec brings the representation that it was trained on
    if config.codec is None:
        codec, representation = None, build_representation(config.representation)
    else:
        codec = MotionCodec.from_pretrained(Path(config.codec) / "codec")
        representation = type(build_representation(config.representation)).from_pretrained(
            Path(config.codec) / "representation"
        )
    # 2. Features, then the statistics and names in them
    seed_frames = config.model.get("seed_frames", _default_seed_frames(config.system))
    cache = FeatureCache(
        data.cache, representation, data.feature_set, seed_frames, data.speech_model, data.word_vectors
    )
    clips = load_clips(data, cache)
    if codec is None:
        fit_statistics(representation, config.representation, clips["train"])
    styles = sorted({clip.style for clip in clips["train"]}) if data.styles_named else []
    speakers = sorted({clip.speaker for clip in clips["train"]}) if data.speakers_named else []
    speech_dim = 1 if data.feature_set is None else clips["train"][0].speech.shape[1]
    # 3. Model and pipeline
    model = build_model(config, representation, codec, speech_dim, len(styles) + len(speakers))
    pipeline = GesturePipeline(
        model, scheduler_for("dpm++", model), representation, codec, data.feature_set, styles, speakers,
        steps=config.steps, guidance=config.guidance, clip=config.clip, smooth=config.smooth,
        default_style=config.default_style, own_eyes=config.own_eyes,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    frames = model.config.frames

    def windows(split: str, stride: int) -> GestureWindows:
        made = GestureWindows(clips[split], representation, frames, seed_frames, stride, styles, speakers)
        if not len(made):
            raise ValueError(f"no {split} clip is as long as a window of {frames} frames at {pipeline.fps:g} fps")
        return made

    training, validation = windows("train", data.stride), windows("val", frames - seed_frames)
    count = sum(parameter.numel() for parameter in model.parameters())
    say(
        f"{config.system}: {count:,} parameters; {len(clips['train'])} clips in {len(training)} windows to train, "
        f"{len(clips['val'])} in {len(validation)} to validate; styles {styles}, speakers {speakers}"
    )
    return train(config, GestureTask(config, pipeline, clips["val"], cache, training), training, validation)


def _default_seed_frames(system: str) -> int:
    return {"diffuse_style": 8, "diff_gesture": 4, "fine_gesture": 4, "holistic": 30}[system]


if __name__ == "__main__":
    sys.exit(main())
