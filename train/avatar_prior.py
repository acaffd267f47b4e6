"""The geometric prior of prepared clips: a frame as the photo, moved to the keypoints of others, and its latents kept.

Rendering and encoding a prior costs more than a training step of a small model, so it is done once for a few photos of
each clip: FOLDER/<networks and code>/<clip>_<photo>.safetensors with "latents" (F, C, h, w) and "doubt" (F, 1, h, w)
for every frame. Anything it depends on is in the name; what is there already is not done again.

Letters: F frames of a clip, f of a window, C latent channels, H W image size, h w latent size.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from avatar import conditions, latents
from avatar.data.clips import Clip
from avatar.warp import prior as warp
from avatar.warp.prior import GeometricPrior, Prior

CHUNK = 16  # frames rendered and encoded at a time: 50 MB of pictures at 512²


def render_prior(clip: Clip, reference: int, places: NDArray[np.integer]) -> Prior:
    """The clip's frame `reference` as a photo, moved to the keypoints of `places`."""
    return photo_prior(clip, reference).render(clip.keypoints[places])


def photo_prior(clip: Clip, reference: int) -> GeometricPrior:
    """The clip's frame `reference` as a photo that follows keypoints; about half a second at 512²."""
    image, matte = clip.frames(reference, reference + 1)[0], clip.mattes(reference, reference + 1)[0]
    own = clip.keypoints[slice(reference, reference + 1)]
    return GeometricPrior(image, own, clip.depth[reference], matte.astype(np.float32) / 255)


def usable_references(clip: Clip) -> NDArray[np.integer]:
    """Frames that can be the photo: those with the shoulders in view, all where there is none."""
    seen = np.flatnonzero(clip.confidence[:, 5:7].min(1) >= conditions.KNOWN)
    return seen if len(seen) else np.arange(len(clip))


def weights_name(model: torch.nn.Module) -> str:
    """16 letters that stand for a network's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


class PriorCache:
    """Latents of priors on disk, for `references` photos of each clip."""

    def __init__(self, folder: str | Path, vae: torch.nn.Module, references: int) -> None:
        digest = hashlib.sha256(weights_name(vae).encode())
        for source in sorted(Path(warp.__file__).parent.glob("*.py")):
            digest.update(source.read_bytes())
        self.folder, self.count = Path(folder) / digest.hexdigest()[:16], references

    def references(self, clip: Clip) -> NDArray[np.integer]:
        """The photos of a clip, evenly spread over the frames that can be one."""
        usable = usable_references(clip)
        return usable[np.unique(np.linspace(0, len(usable) - 1, self.count).round().astype(int))]

    def path(self, clip: Clip, reference: int) -> Path:
        return self.folder / f"{clip.key}-{zlib.crc32(clip.video):08x}_{reference:04d}.safetensors"

    def read(self, clip: Clip, reference: int, places: NDArray[np.integer]) -> tuple[Tensor, Tensor]:
        """Latents (f, C, h, w) and doubt (f, 1, h, w) of some frames, float32; ValueError where none are kept."""
        first, last = int(places.min()), int(places.max()) + 1
        try:
            with safe_open(str(self.path(clip, reference)), "pt") as file:
                kept = [file.get_slice(name)[first:last] for name in ("latents", "doubt")]
        except (OSError, SafetensorError) as error:
            raise ValueError(
                f"the prior of clip {clip.key} is not in {self.folder} ({error}); `fill` the cache first"
            ) from None
        latent, doubt = (part[places - first].float() for part in kept)
        return latent, doubt

    @torch.no_grad()
    def fill(
        self, clips: list[Any], vae: Any, device: torch.device, process: int = 0, processes: int = 1
    ) -> Iterator[str]:
        """Make what is missing for `clips` (callables that give one); yields the key of each clip as it is ready.

        Of several processes each begins with its own share and then helps with whatever the others have not done.
        """
        order = [clips[i] for k in range(processes) for i in range((process + k) % processes, len(clips), processes)]
        for read in order:
            clip = read()
            for reference in self.references(clip).tolist():
                path = self.path(clip, reference)
                if not path.exists():
                    self._make(clip, reference, path, vae, device)
            yield clip.key

    def _make(self, clip: Clip, reference: int, path: Path, vae: Any, device: torch.device) -> None:
        photo, kept, doubts = photo_prior(clip, reference), [], []
        for start in range(0, len(clip), CHUNK):
            prior = photo.render(clip.keypoints[slice(start, start + CHUNK)])
            kept.append(latents.encode(vae, prior.frames, device).cpu().half())
            doubts.append(latents.doubt(prior.confidence, vae).cpu().half())
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        save_file({"latents": torch.cat(kept).contiguous(), "doubt": torch.cat(doubts)}, part)
        part.replace(path)
