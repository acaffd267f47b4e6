"""What a window of a video goes on from, kept so that an interrupted run ends with the same frames.

A window continues the latents of the one before, the noise that was drawn so far, and corrections that wait for their
next generated frame (`avatar.composite`). `AvatarPipeline.stream(on_window=…)` hands all that out at the start of each
window, and `stream(start=…)` goes on from it, given audio from the beginning and keypoints and prior from its frame.

Letters: C latent channels, M motion frames, h w latent size.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from avatar.composite import Compositor


@dataclass(frozen=True)
class WindowState:
    """The state of a run before the window that begins at `frame`."""

    frame: int
    before: Tensor | None  # (1, C, M, h, w) latents that the window continues; None in a first window
    noise: Tensor | None  # of the generator, bytes
    waiting: dict[str, Tensor]  # `Compositor.state`

    @classmethod
    def of(
        cls, frame: int, before: Tensor | None, generator: torch.Generator | None, compositor: Compositor
    ) -> WindowState:
        return cls(frame, before, None if generator is None else generator.get_state(), compositor.state())

    @property
    def finished(self) -> int:
        """Frames that were handed out before this window."""
        return self.frame - len(self.waiting.get("doubts", ()))

    def apply(self, generator: torch.Generator | None, compositor: Compositor) -> None:
        """Bring a new run's noise and compositor to this state."""
        if generator is not None and self.noise is not None:
            generator.set_state(self.noise)
        compositor.restore(self.waiting)

    def save(self, path: Path) -> None:
        """Keep it as safetensors; OSError where it cannot be written."""
        tensors = dict(self.waiting)
        for name, tensor in (("before", self.before), ("noise", self.noise)):
            if tensor is not None:
                tensors[name] = tensor.cpu()
        try:
            save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata={"frame": str(self.frame)})
        except SafetensorError as error:  # a full disk, which is not the programmer's mistake
            raise OSError(
                f"could not write {path} ({error}); free some space and run the same command again"
            ) from None

    @classmethod
    def load(cls, path: Path) -> WindowState:
        """What `save` wrote; ValueError when it is something else."""
        try:
            with safe_open(str(path), "pt") as file:
                tensors, frame = {name: file.get_tensor(name) for name in file.keys()}, int(file.metadata()["frame"])  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no state of an interrupted run ({error}); delete its folder") from None
        return cls(frame, tensors.pop("before", None), tensors.pop("noise", None), tensors)
