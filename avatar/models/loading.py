"""Loading of our models: safetensors only, and every tensor accounted for."""

from __future__ import annotations

import os
from typing import Any

NAMES_SHOWN = 8  # of the tensors that do not fit; the rest is counted


def name_list(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


class StrictLoading:
    """Mixin before `ModelMixin`: `from_pretrained` refuses pickles and weights with missing or foreign names.

    Diffusers would start missing weights at random and leave foreign ones out, with a warning: a motion module under
    a wrong name then makes flickering videos for months.
    """

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str], **kwargs: Any) -> Any:
        wants_info = kwargs.pop("output_loading_info", False)
        kwargs["use_safetensors"] = True  # a pickle can run any code on loading
        try:
            model, info = super().from_pretrained(path, output_loading_info=True, **kwargs)  # type: ignore[misc]
        except OSError as error:
            raise ValueError(
                f"no {cls.__name__} could be read from {str(path)!r}; expected a folder (or hub id) with config.json "
                "and safetensors weights. Pickled weights (.bin, .pt, .ckpt) are refused: save them with "
                f"`save_pretrained` first. ({error})"
            ) from error
        missing, foreign = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
        if missing or foreign:
            raise ValueError(
                f"the weights of {cls.__name__} in {str(path)!r} do not fit its config.json: "
                f"{len(missing)} missing ({name_list(missing)}), {len(foreign)} foreign ({name_list(foreign)}). "
                "Load the folder that was saved with this model, or build from Stable Diffusion with "
                "avatar.models.convert."
            )
        return (model, info) if wants_info else model
