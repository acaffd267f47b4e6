"""Windows of prepared clips as training samples of the video stage, with the conditions drawn as CyberHost does.

A sample is a photo of a person (any frame of the clip), a window of frames to learn, and what the model is told of
them. One item of the dataset is one clip; which window, photo and conditions are drawn is a function of the step.

    clip     . . . m . m . F . F . F . F . . r . .       r photo, F window, m motion frames, here two frames apart

Letters: B clips, F frames of a window, M motion frames, C latent channels, H W image size, h w latent size, K side of
an identity crop, W L D window, states and width of audio states.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import NotRequired

from avatar import conditions
from avatar.data.clips import Clip
from avatar.data.shards import ShardFolder
from avatar.models.unet import REGIONS
from pose.draw import draw_body, draw_hands
from train.avatar_prior import PriorCache, render_prior, usable_references

Image = NDArray[np.uint8]


class TrainingWindow(TypedDict):
    """A batch of `AvatarTask.forward`: what any dataset for the video stage gives, there without the axis B.

    Pictures are uint8. "latents", "motion_latents", "reference_latents" and "prior_latents" may each be left out for
    their pictures, which the task then encodes.
    """

    latents: NotRequired[Tensor]  # (B, C, F, h, w) float: what is to be learned
    frames: NotRequired[Tensor]  # (B, 3, F, H, W): the same as pictures
    reference_latents: NotRequired[Tensor]  # (B, C, h, w): the photo
    reference: NotRequired[Tensor]  # (B, 3, H, W)
    reference_pose: Tensor  # (B, 3, 1, H, W): its skeleton, drawn
    keep_reference: Tensor  # (B,) bool: false drops photo and identity
    crops: Tensor  # (B, 3, 3, K, K): the photo's face, left and right hand
    present: Tensor  # (B, 3) bool: which of them are in view
    pose: Tensor  # (B, 3, F, H, W): the drawn condition
    kind: Tensor  # (B,) int: its place in `conditions.KINDS`
    regions: Tensor  # (B, 2, F, h, w) float in [0, 1]: share of each cell in the boxes of face, hands
    clarity: NotRequired[Tensor]  # (B, F, 2) float, standardised; NaN: no such hand, or not told
    heatmaps: NotRequired[Tensor]  # (B, 42, F, h, w) float: hand joints, peak 1
    joints: NotRequired[Tensor]  # (B, F, 42) float: their weights
    audio: NotRequired[Tensor]  # (B, F, W, L, D) float: windows of states before the trained projection
    keep_audio: NotRequired[Tensor]  # (B,) bool; false: silence, which is also what dropping is
    motion_latents: NotRequired[Tensor]  # (B, C, M, h, w): the frames before the window
    motion_frames: NotRequired[Tensor]  # (B, 3, M, H, W)
    keep_motion: NotRequired[Tensor]  # (B,) bool; false: maps of zero, as in a first window
    prior_latents: NotRequired[Tensor]  # (B, C, F, h, w)
    prior_frames: NotRequired[Tensor]  # (B, 3, F, H, W)
    doubt: NotRequired[Tensor]  # (B, 1, F, h, w) float: 1 - confidence of the prior
    keep_prior: NotRequired[Tensor]  # (B,) bool; false: as if there were none
    mouth: NotRequired[Tensor]  # (B, 1, F, h, w) 0 or 1: where the prior's is at rest and doubted: sound says it
    draw: Tensor  # (B,) int: seeds for noise and times; `train.batches.Sampled` adds it


# Ours: of `spoiled`, in latent cells of 8 pixels. Sleeves are 5 to 8 cells wide.
SPOTS = 4
SPOT_RADII, SPOT_SHIFTS = (1.5, 6.0), (3.0, 12.0)


@dataclass(frozen=True)
class ConditionConfig:
    """What the model is told of a clip, and how often it is not. CyberHost's rates are not public."""

    kinds: dict[str, float] = field(default_factory=lambda: dict(conditions.KIND_SHARES))
    drop_reference: float = 0.1  # with the identity tokens; AnimateAnyone's released relative: 0.1
    drop_audio: float = 0.1  # ours, as is `drop_both`; Hallo drops each with 0.05
    drop_both: float = 0.05
    drop_motion: float = 0.25  # ours; windows at a clip's start have no motion frames either. Hallo: 0.05
    drop_clarity: float = 0.1  # ours
    drop_prior: float = 0.1  # ours: the model must also work without a prior
    spoil: float = 0.0  # ours: share of samples whose prior gets damage more (`spoiled`)
    hide_mouth: float = 0.0  # ours: share of samples whose prior has the photo's mouth at rest; 0.5 in `default`
    clarity_mean: float = conditions.CLARITY_MEAN  # of the data set's hands
    clarity_std: float = conditions.CLARITY_STD
    spacings: tuple[int, ...] | None = None  # frames between those of a window; None: 1 to the model's frame_stride

    def __post_init__(self) -> None:
        for kind in self.kinds:
            conditions.check_kind(kind)
        for name in ("reference", "audio", "both", "motion", "clarity", "prior"):
            if not 0 <= getattr(self, f"drop_{name}") <= 1:
                raise ValueError(f"conditions.drop_{name} must be 0 to 1, got {getattr(self, f'drop_{name}')}")
        for name in ("hide_mouth", "spoil"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"conditions.{name} must be 0 to 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class WindowShape:
    """What a model wants of a sample."""

    frames: int  # F; 1 for stage 1
    motion_frames: int = 0  # M
    latent_channels: int = 4
    factor: int = 8  # pixels a latent cell
    crop_size: int = 256  # K
    audio: tuple[int, int, int] | None = None  # W, L, D; None: the model hears nothing in this stage
    heatmaps: bool = False
    prior: str = "none"  # none, live (the task encodes the pictures) or cached
    spacings: tuple[int, ...] = (1,)
    apart: bool = False  # frames from anywhere in the clip, for layers without time: many frames for one photo
    crop: int | None = (
        None  # side of a square part of the latents that is given, where the prior is in doubt; None: all
    )


class AvatarWindows(Dataset):
    """The clips of one split of prepared folders, as `TrainingWindow` items; read by `draw`."""

    def __init__(
        self,
        folders: list[ShardFolder],
        split: str,
        shape: WindowShape,
        drawn: ConditionConfig,
        cache: PriorCache | None = None,  # for shape.prior "cached"
        dropping: bool = True,  # false: for validation, only what is not there is left out
    ) -> None:
        self.folders, self.shape, self.drawn, self.cache, self.dropping = folders, shape, drawn, cache, dropping
        self.places = [
            (number, clip)
            for number, folder in enumerate(folders)
            for clip in folder.select(split, least_frames=shape.frames)
        ]
        if not self.places:
            names = ", ".join(str(folder.folder) for folder in folders)
            raise ValueError(f"no {split} clip of at least {shape.frames} frames in {names}; prepare more data")
        self.rows = [folders[number].rows[clip] for number, clip in self.places]
        self.groups = [(row.height, row.width) for row in self.rows]
        if shape.crop is not None:
            least = min(min(size) for size in self.groups) // shape.factor
            if shape.crop > least or shape.crop % 8:
                raise ValueError(f"crop must be a multiple of 8 and at most {least} latent cells, got {shape.crop}")
            self.groups = [(shape.crop, shape.crop)] * len(self.rows)
        if shape.audio is not None:
            for row in self.rows:
                if row.sound and not row.audio:
                    raise ValueError(f"clip {row.key} has sound but no audio states; prepare the data with them")

    def __len__(self) -> int:
        return len(self.places)

    def clip(self, index: int) -> Clip:
        number, clip = self.places[index]
        return self.folders[number].clip(clip)

    def draw(self, index: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """One sample without its axis B."""
        clip, shape, drawn = self.clip(index), self.shape, self.drawn
        # 1. Choices; always all of them, so that one that is not needed does not move the others
        reference_at, window_at, spacing_at, enlarge = generator.random(4)
        drops = dict(
            zip(("reference", "audio", "motion", "clarity", "prior", "any"), generator.random(6), strict=True)
        )
        kind = conditions.sample_kind(generator, drawn.kinds)
        # Only where sound can say what is hidden. Photos made for repair are silent; their damage is to be seen.
        hidden = generator.random() < drawn.hide_mouth and clip.sound is not None and "repair" not in clip.meta
        possible = [s for s in shape.spacings if (shape.frames - 1) * s < len(clip)] or [1]
        spacing = possible[int(spacing_at * len(possible))]
        start = int(window_at * (len(clip) - (shape.frames - 1) * spacing))
        places = start + spacing * np.arange(shape.frames)
        before = start - spacing * np.arange(shape.motion_frames, 0, -1)
        if shape.apart:
            places = np.sort(generator.choice(len(clip), shape.frames, replace=len(clip) < shape.frames))
        reference = self._reference(clip, reference_at)
        variants = np.zeros(0, int)
        if "repair" in clip.meta:  # frame 0 as it was before the damage, learned from one of the others
            places, before = np.zeros(shape.frames, int), np.full(shape.motion_frames, -1)
            reference = 1 + int(reference_at * clip.meta["repair"])
            variants = np.full(shape.frames, reference)
            if shape.apart:  # or from several, all beside one photo
                variants[1:] = generator.integers(1, 1 + clip.meta["repair"], shape.frames - 1)
        if kind == "box" and not np.isfinite(clip.movement_box).all():
            kind = "none"  # shoulders out of view

        # 2. Latents, or pictures where none were prepared
        item: dict[str, Any] = {}
        continues = bool(shape.motion_frames) and before[0] >= 0
        if clip.latents is not None or self.cache is not None:
            item["latents"] = self._latents(clip, places).transpose(0, 1)
            item["reference_latents"] = self._latents(clip, np.array([reference]))[0]
            if shape.motion_frames:
                item["motion_latents"] = self._latents(clip, before.clip(0)).transpose(0, 1) * float(continues)
        else:
            item["frames"] = _video(_frames(clip, places))
            item["reference"] = _video(clip.frames(reference, reference + 1))[:, 0]
            if shape.motion_frames:
                item["motion_frames"] = _video(_frames(clip, before.clip(0)))
        if shape.motion_frames:
            item["keep_motion"] = torch.tensor(continues and not self._drop("motion", drops))

        # 3. The person
        keypoints = clip.keypoints
        blank = np.zeros((1, *clip.size, 3), np.uint8)  # of a photo that no sample shows
        item["reference_pose"] = _video(draw_body(keypoints[[reference]]) if drawn.drop_reference < 1 else blank)
        both = self.dropping and drops["any"] < drawn.drop_both
        item["keep_reference"] = torch.tensor(not (both or self._drop("reference", drops)))
        item["crops"] = torch.from_numpy(self._crops(clip, reference)).permute(0, 3, 1, 2)
        item["present"] = torch.from_numpy(np.isfinite(clip.boxes[reference, :, 0]))

        # 4. What drives the window
        window = keypoints[places]
        box = conditions.scaled_box(
            clip.movement_box, conditions.ENLARGE[0] + enlarge * float(np.ptp(conditions.ENLARGE))
        )
        if kind in ("hands", "body"):
            item["pose"] = _video((draw_body if kind == "body" else draw_hands)(window))  # as `conditions.pose_map`
        else:  # stands still
            picture = conditions.pose_map(kind, None, 1, clip.size, box)
            pose = torch.from_numpy(np.round(picture * 255).astype(np.uint8))
            item["pose"] = pose.expand(-1, shape.frames, -1, -1).contiguous()
        item["kind"] = torch.tensor(conditions.KINDS.index(kind))
        clarity = conditions.standardised(clip.clarity[places], drawn.clarity_mean, drawn.clarity_std)
        item["clarity"] = torch.from_numpy(clarity.astype(np.float32))
        if self._drop("clarity", drops):
            item["clarity"].fill_(torch.nan)
        if shape.audio is not None:
            item |= self._audio(clip, places, both or self._drop("audio", drops))

        # 5. What is to be found
        grid = clip.size[0] // shape.factor, clip.size[1] // shape.factor
        item["regions"] = torch.from_numpy(np.stack([conditions.region_mask(window, name, grid) for name in REGIONS]))
        if shape.heatmaps:
            maps, weights = conditions.hand_heatmaps(window, grid)
            item["heatmaps"] = torch.from_numpy(maps).half().transpose(0, 1)
            item["joints"] = torch.from_numpy(weights)

        # 6. The prior
        if shape.prior != "none":
            item |= self._prior(clip, reference, places, variants, self._drop("prior", drops), hidden)
            mouth = conditions.mouth_mask(window, grid) if hidden else np.zeros((shape.frames, *grid), np.float32)
            item["mouth"] = torch.from_numpy(mouth)[None]
        if shape.crop is not None:
            item = self._cropped(item, generator)
        if self.dropping and "prior_latents" in item and drawn.spoil and generator.random() < drawn.spoil:
            item["prior_latents"], item["doubt"] = spoiled(item["prior_latents"], item["doubt"], generator)
        return item

    def _cropped(self, item: dict[str, Any], generator: np.random.Generator) -> dict[str, Any]:
        """A square part of everything that lies on the picture, most often where the prior is in doubt."""
        side, factor = self.shape.crop, self.shape.factor
        assert side is not None
        grid = item["regions"].shape[-2:]
        doubt = torch.maximum(item["doubt"], item["mouth"]).mean((0, 1)) if "doubt" in item else torch.ones(grid)
        share = torch.nn.functional.avg_pool2d(doubt[None, None], side, 1)[0, 0].double()  # of each place of the part
        share = share.flatten() + 0.1 * share.mean() + 1e-6
        at = int(generator.choice(len(share), p=(share / share.sum()).numpy()))
        y, x = divmod(at, grid[1] - side + 1)
        for name, value in item.items():
            scale = {grid: 1, (grid[0] * factor, grid[1] * factor): factor}.get(tuple(value.shape[-2:]))
            if name != "crops" and value.ndim >= 3 and scale is not None:
                cut = value[..., y * scale : (y + side) * scale, x * scale : (x + side) * scale]
                item[name] = cut.contiguous()
        return item

    def _latents(self, clip: Clip, places: NDArray[np.integer]) -> Tensor:
        """Latents (f, C, h, w) of some frames, the shard's own or those kept beside the priors."""
        if clip.latents is not None:
            return torch.from_numpy(clip.latents[places]).float()
        assert self.cache is not None
        return self.cache.own_latents(clip, places)

    def _drop(self, name: str, drops: dict[str, float]) -> bool:
        rate = getattr(self.drawn, f"drop_{name}")
        return rate == 1 or (self.dropping and drops[name] < rate)  # what is never learned is not validated on

    def _reference(self, clip: Clip, at: float) -> int:
        """A frame to be the photo: any with shoulders in view, or one of those whose prior is cached."""
        choices = usable_references(clip) if self.cache is None else self.cache.references(clip)
        return int(choices[int(at * len(choices))])

    def _crops(self, clip: Clip, frame: int) -> Image:
        """Identity crops (3, K, K, 3): the prepared ones if they have the model's size, else cut now."""
        side = self.shape.crop_size
        if clip.crops_jpeg is not None:
            crops = clip.crops(frame)
            if crops.shape[1] == side:
                return crops
        image = clip.frames(frame, frame + 1)[0]
        boxes = clip.boxes[frame]
        blank = np.zeros((side, side, 3), np.uint8)
        return np.stack([conditions.square_crop(image, b, side) if np.isfinite(b[0]) else blank for b in boxes])

    def _audio(self, clip: Clip, places: NDArray[np.int64], drop: bool) -> dict[str, Tensor]:
        assert self.shape.audio is not None
        heard = clip.audio
        if heard is None:
            states = torch.zeros(len(places), *self.shape.audio)
        else:
            states = torch.from_numpy(heard[places].astype(np.float32))
            if states.shape[1:] != self.shape.audio:
                raise ValueError(
                    f"clip {clip.key} has audio states {tuple(states.shape[1:])} and the model's audio encoder takes "
                    f"{self.shape.audio}; prepare the data with the model's front end"
                )
        return {"audio": states, "keep_audio": torch.tensor(heard is not None and not drop)}

    def _prior(
        self,
        clip: Clip,
        reference: int,
        places: NDArray[np.int64],
        variants: NDArray[np.int64],
        drop: bool,
        still: bool,  # with the photo's mouth at rest
    ) -> dict[str, Tensor]:
        keep = {"keep_prior": torch.tensor(not drop)}
        if "repair" in clip.meta:
            kept = {name: torch.from_numpy(clip.extra[name][variants]).float() for name in ("prior_latents", "doubt")}
            return keep | {name: part.transpose(0, 1) for name, part in kept.items()}
        if self.cache is not None:
            known, doubt = self.cache.read(clip, reference, places, still)
            return keep | {"prior_latents": known.transpose(0, 1), "doubt": doubt.transpose(0, 1)}
        prior = render_prior(clip, reference, places, still)
        pictures = (prior.frames * 255).round().to(torch.uint8).transpose(0, 1)
        doubt = 1 - torch.nn.functional.avg_pool2d(prior.confidence, self.shape.factor)  # as `latents.doubt`
        return keep | {"prior_frames": pictures, "doubt": doubt.transpose(0, 1)}


def spoiled(prior: Tensor, doubt: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A prior's latents (C, F, h, w) and doubt (1, F, h, w) with a few more places that are wrong and admitted.

    Ellipses show what is some cells beside them, as leftovers of a sleeve or hand do: endless damage to few photos.
    """
    height, width = prior.shape[-2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    for _ in range(int(generator.integers(1, SPOTS + 1))):
        y, x = generator.random(2) * (height, width)
        radii = generator.uniform(*SPOT_RADII, 2)
        angle = generator.uniform(0, np.pi)
        along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
        across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
        spot = (along / radii[0]) ** 2 + (across / radii[1]) ** 2 < 1
        distance, direction = generator.uniform(*SPOT_SHIFTS), generator.uniform(0, 2 * np.pi)
        shift = round(distance * np.sin(direction)), round(distance * np.cos(direction))
        prior = torch.where(spot, prior.roll(shift, (-2, -1)), prior)
        doubt = torch.where(spot, torch.ones_like(doubt), doubt)
    return prior, doubt


def _frames(clip: Clip, places: NDArray[np.int64]) -> Image:
    """Pictures of some frames, decoded in one go."""
    first = int(places.min())
    return clip.frames(first, int(places.max()) + 1)[places - first]


def _video(frames: Image) -> Tensor:
    """(F, H, W, 3) as (3, F, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(3, 0, 1, 2)))
