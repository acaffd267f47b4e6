"""What preparation may decide, with reasons. configs/prepare.yaml holds choices, the command line changes them.

Stages depend on sections: a changed value makes only those stages again that read it (train/prepare_tasks.py).
Lengths in pixels are of the finished clip unless they say otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ScanConfig:
    """The first look at a video: cuts and faces, without keypoints."""

    part_s: float = 60.0  # a file is worked on in parts of this length: bounds memory, and processes share long files
    max_minutes: float | None = None  # of one file; what comes after is left out and reported
    faces_every: int = 12  # frames between two searches for faces, 0.48 s
    cut: float = 10.0  # score of ffmpeg's scdet from which there is a cut, of 100; its own default
    side: int = 1280  # pixels of the longer side that faces are searched at

    def __post_init__(self) -> None:
        _positive(self, "scan", "part_s", "faces_every", "cut", "side")


@dataclass(frozen=True)
class TrackConfig:
    """From faces to stretches with one person."""

    second_face: float = 0.5  # a second face of at least this share of the first one's size is a second person; ours
    print_share: float = 0.5  # a face on another one's chest in fewer of the samples is a print on a shirt; ours
    gap_s: float = 1.0  # a face may be missed for so long (a hand before it, a turn of the head)
    jump: float = 1.0  # face sizes that a face travels between two searches; more is another face
    margin: int = 2  # frames left out beside a cut: resampling mixes up which side they are from
    most_errors: float = 0.04  # decoding errors a frame from which a stretch is taken for damaged

    def __post_init__(self) -> None:
        _positive(self, "track", "second_face", "jump")


@dataclass(frozen=True)
class DetectConfig:
    """Keypoints and mattes."""

    side: int = 1280  # pixels of the longer side of what the detector sees
    matte_every: int = 1  # frames of which one gets a matte of its own, the others a blend; 0: none. Most of the time
    smooth: bool = True  # as driving videos are smoothed at inference (pose/driving.py)


@dataclass(frozen=True)
class CropConfig:
    """One crop a track, fixed: the camera does not follow the person."""

    size: float = 512.0  # square root of the clip's area; the model's own. Sizes are multiples of 64 within 7 %
    largest_aspect: float = 2.5
    margin: float = 0.2  # of the person's box, on each side; a little air, as photos have
    below_hips: float = 0.35  # of the trunk's length: half bodies, legs are not supported
    most_enlarged: float = 2.5  # a crop of fewer pixels than a clip's by this factor is refused
    identity_side: int = 128  # of face and hand crops; 0 for none
    clip_frames: tuple[int, int] = (25, 125)  # least and most frames of a clip

    def __post_init__(self) -> None:
        from avatar.data.clips import FRAMES

        _positive(self, "crop", "size", "largest_aspect", "most_enlarged")
        low, high = self.clip_frames
        if not FRAMES[0] <= low <= high <= FRAMES[1]:
            raise ValueError(f"crop.clip_frames must be within {FRAMES[0]} to {FRAMES[1]}, got {low}, {high}")


@dataclass(frozen=True)
class FilterConfig:
    """What a clip must be. All ours: set on the clips named in docs/preparing.md by looking at what they refuse."""

    face_seen: float = 0.9  # share of frames with a face
    face_px: float = 40.0  # median height of the face: smaller ones have no lips to learn
    face_inside: float = 0.95  # share of the face's points inside the crop, in the median frame
    hands_seen: float = 0.0  # share of frames with at least one hand; 0 keeps talking heads
    sharpness: float = 1.2  # of the face, log(1 + std of the Laplacian at 128²), median; blurred video has less
    lean: float = 1.0  # radians from upright, median: a picture on its side, as pose/detect.py refuses it in photos
    jump: float = 0.6  # shoulder widths between two frames: a missed cut or a lost person


@dataclass(frozen=True)
class SoundConfig:
    """Sound, and whether it is this person's."""

    need: bool = False  # refuse what has no speech or lips that do not fit; else such clips are kept without sound
    context_s: float = 2.0  # sound beside a clip, for speech networks: as much as they are given at inference
    speech: float = 0.1  # share of a track's frames with speech
    lip_r: float = 0.15  # correlation of mouth and loudness at the best lag within `lag_s`; real speech has about 0.4
    lag_s: float = 0.12  # audio and lips further apart than this do not fit
    lag_gain: float = 0.15  # … if the correlation is higher there by this much than within `lag_s`
    judge_s: float = 2.5  # shorter tracks are too short to judge by lips


@dataclass(frozen=True)
class SplitConfig:
    """Which clips validate. Sources are never divided, but where there is one alone: its last clips validate."""

    val_share: float = 0.05
    val_names: tuple[str, ...] = ()  # sources whose path holds one of these validate, and no others
    by: str = "file"  # "folder": all files of a folder are one person and go together
    seed: int = 0

    def __post_init__(self) -> None:
        if self.by not in ("file", "folder"):
            raise ValueError(f"split.by must be file or folder, got {self.by!r}")
        if not 0 <= self.val_share < 1:
            raise ValueError(f"split.val_share must be from 0 to below 1, got {self.val_share}")


@dataclass(frozen=True)
class PrepareConfig:
    """The whole of it. `audio` and `vae` name networks; None leaves their part out."""

    scan: ScanConfig = field(default_factory=ScanConfig)
    track: TrackConfig = field(default_factory=TrackConfig)
    detect: DetectConfig = field(default_factory=DetectConfig)
    crop: CropConfig = field(default_factory=CropConfig)
    filter: FilterConfig = field(default_factory=FilterConfig)
    sound: SoundConfig = field(default_factory=SoundConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    audio: str | None = None  # a description (configs/model_*.yaml), pipeline folder or speech network: hidden states
    vae: str | None = None  # a description, pipeline folder or autoencoder folder: latents
    device: str = "cpu"  # where networks run
    shard_mb: int = 256
    sheet_tiles: int = 160  # clips on the contact sheet


def _positive(config: object, section: str, *names: str) -> None:
    for name in names:
        if getattr(config, name) <= 0:
            raise ValueError(f"{section}.{name} must be above 0, got {getattr(config, name)}")
