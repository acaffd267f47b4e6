"""The geometric prior of prepared clips: a frame as the photo, moved to the keypoints of others, and its latents kept.

Rendering and encoding a prior costs more than a training step of a small model, so it is done once for a few photos of
each clip, in two steps, and what is there already is not done again:

    FOLDER/pictures/<code>/<clip>_<photo>.safetensors     frames and confidence, near lossless
    FOLDER/<networks>/<clip>_<photo>.safetensors          "latents" (F, C, h, w) and "doubt" (F, 1, h, w)
    both with <photo>_still_<code>                        the same with the photo's mouth at rest, to hide mouths
    FOLDER/<networks>/<clip>.safetensors                  "latents" of the clip itself, if its shard brings none

Anything a file depends on is in its name: another autoencoder encodes again and moves nothing again. Pictures can be
made beforehand, on as many processes as there are cores (each does what the others have not done):

    python -m train.avatar_prior DATA --photos 4 [--folder FOLDER]

Letters: F frames of a clip, f of a window, C latent channels, H W image size, h w latent size.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch import Tensor

from avatar import conditions, latents
from avatar import still_mouth as still_mouths
from avatar.data.clips import FPS, Clip
from avatar.data.pixels import MATTE, decode_video, encode_video
from avatar.data.shards import ShardFolder
from avatar.still_mouth import still_mouth
from avatar.warp import prior as warp
from avatar.warp.prior import GeometricPrior, Prior
from pose.keypoints import Keypoints

T = TypeVar("T")
CHUNK = 16  # frames rendered and encoded at a time: 50 MB of pictures at 512²


def render_prior(clip: Clip, reference: int, places: NDArray[np.integer], still: bool = False) -> Prior:
    """The clip's frame `reference` as a photo, moved to the keypoints of `places`; `still`: but for the mouth."""
    return photo_prior(clip, reference).render(driving(clip, reference, still)[places])


def driving(clip: Clip, reference: int, still: bool) -> Keypoints:
    """The clip's keypoints, or `still_mouth` of them for the frame `reference` as the photo."""
    if not still:
        return clip.keypoints
    return still_mouth(clip.keypoints, clip.keypoints[[reference]], clip.depth[reference])


def photo_prior(clip: Clip, reference: int) -> GeometricPrior:
    """The clip's frame `reference` as a photo that follows keypoints; about half a second at 512²."""
    image, matte = clip.frames(reference, reference + 1)[0], clip.mattes(reference, reference + 1)[0]
    own = clip.keypoints[slice(reference, reference + 1)]
    return GeometricPrior(image, own, clip.depth[reference], matte.astype(np.float32) / 255)


def usable_references(clip: Clip) -> NDArray[np.integer]:
    """Frames that can be the photo: those with the shoulders in view, all where there is none."""
    seen = np.flatnonzero(clip.confidence[:, 5:7].min(1) >= conditions.KNOWN)
    return seen if len(seen) else np.arange(len(clip))


def spread_references(clip: Clip, count: int) -> NDArray[np.integer]:
    """At most `count` of the `usable_references`, evenly spread."""
    usable = usable_references(clip)
    return usable[np.unique(np.linspace(0, len(usable) - 1, count).round().astype(int))]


def code_digest() -> Any:
    """hashlib's digest of the prior's own code, to name what depends on it."""
    digest = hashlib.sha256()
    for source in sorted(Path(warp.__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest


def weights_name(model: torch.nn.Module) -> str:
    """16 letters that stand for a network's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def packed(prior: Prior) -> dict[str, NDArray[np.uint8]]:
    """Frames and confidence of a prior as bytes of near lossless video."""
    frames = (prior.frames * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    confidence = (prior.confidence[:, 0] * 255).round().byte().cpu().numpy()
    videos = {"prior_video": encode_video(frames, FPS), "confidence_video": encode_video(confidence, FPS, MATTE)}
    return {name: np.frombuffer(content, np.uint8) for name, content in videos.items()}


def spread_variants(clip: Clip, wanted: int) -> list[int]:
    """Numbers of at most `wanted` moved pictures of a repair clip, 1 to its last, evenly spread."""
    count = int(clip.meta["repair"])
    return np.unique(np.linspace(1, count, min(wanted, count)).round().astype(int)).tolist()


def unpacked(
    videos: Any,  # a mapping of what `packed` gave
    size: tuple[int, int],
    start: int = 0,
    stop: int | None = None,
) -> Prior:
    """The prior that `packed` made bytes of, frames `start` to `stop`."""
    frames = decode_video(videos["prior_video"].tobytes(), size, start, stop)
    confidence = decode_video(videos["confidence_video"].tobytes(), size, start, stop, grey=True)
    return Prior(
        torch.from_numpy(frames.copy()).permute(0, 3, 1, 2) / 255, torch.from_numpy(confidence.copy())[:, None] / 255
    )


class PriorCache:
    """Latents of priors on disk, for `references` photos of each clip, and of the clips that bring none.

    `still`: of each photo a second one, with the mouth at rest.
    """

    def __init__(self, folder: str | Path, vae: torch.nn.Module | None, references: int, still: bool = False) -> None:
        digest = code_digest()
        self.pictures, self.count = Path(folder) / "pictures" / digest.hexdigest()[:16], references
        self.mouths = (False, True) if still else (False,)
        self.still_code = f"{zlib.crc32(Path(still_mouths.__file__).read_bytes()):08x}"
        if vae is not None:  # without one only pictures can be made
            digest.update(weights_name(vae).encode())
            self.folder = Path(folder) / digest.hexdigest()[:16]

    def references(self, clip: Clip) -> NDArray[np.integer]:
        """The photos of a clip, evenly spread over the frames that can be one."""
        return spread_references(clip, self.count)

    def path(self, clip: Clip, reference: int | None, still: bool = False, pictures: bool = False) -> Path:
        """File of the prior from a photo; None: of the clip itself."""
        name = f"{clip.key}-{zlib.crc32(clip.video):08x}" + ("" if reference is None else f"_{reference:04d}")
        name += f"_still_{self.still_code}" * still
        return (self.pictures if pictures else self.folder) / f"{name}.safetensors"

    def read(
        self, clip: Clip, reference: int, places: NDArray[np.integer], still: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Latents (f, C, h, w) and doubt (f, 1, h, w) of some frames, float32; ValueError where none are kept."""
        latent, doubt = self._read(clip, self.path(clip, reference, still), places, "latents", "doubt")
        return latent, doubt

    def own_latents(self, clip: Clip, places: NDArray[np.integer]) -> Tensor:
        """Latents (f, C, h, w) float32 of some frames of a clip whose shard brings none."""
        return self._read(clip, self.path(clip, None), places, "latents")[0]

    def _read(self, clip: Clip, path: Path, places: NDArray[np.integer], *names: str) -> list[Tensor]:
        first, last = int(places.min()), int(places.max()) + 1
        try:
            with safe_open(str(path), "pt") as file:
                kept = [file.get_slice(name)[first:last] for name in names]
        except (OSError, SafetensorError) as error:
            raise ValueError(
                f"the prior of clip {clip.key} is not in {self.folder} ({error}); `fill` the cache first"
            ) from None
        return [part[places - first].float() for part in kept]

    @torch.no_grad()
    def fill(
        self, clips: list[Any], vae: Any, device: torch.device, process: int = 0, processes: int = 1
    ) -> Iterator[str]:
        """Make what is missing for `clips` (callables that give one); yields the key of each clip as it is ready.

        Of several processes each begins with its own share and then helps with whatever the others have not done.
        """
        for clip in (read() for read in in_turn(clips, process, processes)):
            for reference, still in product(self.references(clip).tolist(), self.mouths):
                if not self.path(clip, reference, still).exists():
                    self._encode(clip, reference, still, vae, device)
            own = self.path(clip, None)
            if clip.latents is None and not own.exists():
                frames = torch.from_numpy(clip.frames().copy()).permute(0, 3, 1, 2)
                parts = [latents.encode(vae, part / 255, device).cpu().half() for part in frames.split(CHUNK)]
                save_whole({"latents": torch.cat(parts)}, own)
            yield clip.key

    def make_pictures(self, clips: list[Any], process: int = 0, processes: int = 1) -> Iterator[str]:
        """`fill`'s first step alone."""
        for clip in (read() for read in in_turn(clips, process, processes)):
            for reference, still in product(self.references(clip).tolist(), self.mouths):
                self._make(clip, reference, still)
            yield clip.key

    def _make(self, clip: Clip, reference: int, still: bool) -> Path:
        """The file of a prior's pictures, made if it is not there."""
        path = self.path(clip, reference, still, pictures=True)
        if not path.exists():
            photo, keypoints = photo_prior(clip, reference), driving(clip, reference, still)
            places = range(0, len(clip), CHUNK)
            parts = [photo.render(keypoints[slice(start, start + CHUNK)]) for start in places]
            prior = Prior(torch.cat([part.frames for part in parts]), torch.cat([part.confidence for part in parts]))
            save_whole({name: torch.from_numpy(video.copy()) for name, video in packed(prior).items()}, path)
        return path

    def _encode(self, clip: Clip, reference: int, still: bool, vae: Any, device: torch.device) -> None:
        prior = unpacked(load_file(self._make(clip, reference, still)), clip.size)
        kept = [latents.encode(vae, part, device).cpu().half() for part in prior.frames.split(CHUNK)]
        doubt = latents.doubt(prior.confidence, vae).half()
        save_whole({"latents": torch.cat(kept), "doubt": doubt}, self.path(clip, reference, still))


def in_turn(items: Sequence[T], process: int, processes: int) -> Iterator[T]:
    """All items: a process's own share first, then what may be left of the others'."""
    for k in range(processes):
        yield from items[(process + k) % processes :: processes]


def save_whole(tensors: dict[str, Tensor], path: Path) -> None:
    """A safetensors file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part)
    part.replace(path)


def parse_part(text: str) -> tuple[int, int]:
    """`K/N`, process K of N."""
    parts = text.split("/")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts) or int(parts[0]) >= int(parts[1]):
        raise ValueError(f"--part must be K/N with K below N, as 0/2; got {text!r}")
    return int(parts[0]), int(parts[1])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path, help="folders of prepared clips")
    parser.add_argument("--photos", type=int, default=4, help="of each clip, as data.prior_photos in training")
    parser.add_argument("--folder", type=Path, help="as data.prior_folder; else `prior` in the first of the folders")
    parser.add_argument("--still", action="store_true", help="also with the mouth at rest, for conditions.hide_mouth")
    parser.add_argument("--part", default="0/1", help="this process of so many, K/N")
    args = parser.parse_args(argv)
    try:
        number, count = parse_part(args.part)
        if args.photos < 1:
            raise ValueError(f"--photos must be at least 1, got {args.photos}")
        folders = [ShardFolder(folder) for folder in args.data]
        clips = [partial(f.clip, k) for f in folders for k, row in enumerate(f.rows) if "repair" not in row.meta]
        cache = PriorCache(args.folder or args.data[0] / "prior", None, args.photos, args.still)
        done = 0
        for done, key in enumerate(cache.make_pictures(clips, number, count), 1):
            print(f"{done} of {len(clips)}: {key}", flush=True)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{cache.pictures}: {done} clips")
    return 0


if __name__ == "__main__":
    sys.exit(main())
