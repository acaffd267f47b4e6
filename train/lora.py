"""Fine-tuning by low-rank adapters ("LoRA", Hu et al. 2021): the base model stays as it is, small matrices learn.

Adapters go beside the linear layers and convolutions of the U-Net that the groups of an experiment name (`train`).
A checkpoint is a pipeline like any other, with the adapters fused into its weights, and holds them apart as well, in
adapter/: safetensors of the low-rank matrices alone.
"""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from avatar.pipeline import AvatarPipeline
from train.avatar_task import AvatarTask

NAME = "person"  # of the adapter inside the U-Net
FOLDER = "adapter"
WEIGHTS, SETTINGS = "adapter.safetensors", "adapter.json"


@dataclass(frozen=True)
class LoraConfig:
    """Size of the adapters; rank 0 trains the weights themselves."""

    rank: int = 0
    alpha: float | None = None  # their output is scaled by alpha / rank; None: rank
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.rank < 0 or not 0 <= self.dropout < 1:
            raise ValueError(f"lora needs rank >= 0 and dropout in [0, 1), got {self.rank} and {self.dropout}")


def adapted_layers(unet: nn.Module) -> list[str]:
    """Names of the linear layers and convolutions whose weights are trained, in order.

    Without the projections around motion modules: diffusers calls them by an argument name that adapters lack.
    """
    return [
        name
        for name, module in unet.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
        and module.weight.requires_grad
        and not ("motion_modules." in name and name.endswith((".proj_in", ".proj_out")))
    ]


def add_adapters(unet: Any, layers: list[str], config: LoraConfig) -> None:
    """New adapters beside `layers`; they change nothing until they are trained. Everything else is frozen."""
    from peft import LoraConfig as PeftConfig  # a second to load, and only fine-tuning needs it

    if not layers:
        raise ValueError("no layer of the U-Net is in the groups to train; name others in `train`")
    alpha = float(config.rank if config.alpha is None else config.alpha)
    unet.add_adapter(
        PeftConfig(r=config.rank, lora_alpha=alpha, lora_dropout=config.dropout, target_modules=layers), NAME
    )
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_("lora_" in name)


def save_adapters(unet: Any, folder: Path, layers: list[str], config: LoraConfig) -> None:
    """The low-rank matrices and what is needed to put them beside their layers again."""
    from peft import get_peft_model_state_dict

    folder.mkdir(parents=True)
    state = get_peft_model_state_dict(unet, adapter_name=NAME)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, folder / WEIGHTS)
    (folder / SETTINGS).write_text(json.dumps({**asdict(config), "layers": layers}, indent=1) + "\n")


def load_adapters(unet: Any, folder: str | Path) -> None:
    """Put saved adapters beside the layers of a U-Net; ValueError where they are of another one."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    folder = Path(folder)
    if not (folder / SETTINGS).is_file() or not (folder / WEIGHTS).is_file():
        raise ValueError(f"no adapters in {folder}; expected {SETTINGS} and {WEIGHTS}, as fine-tuning saves them")
    settings = json.loads((folder / SETTINGS).read_text())
    layers = settings.pop("layers")
    here = {name for name, _ in unet.named_modules()}
    absent = [name for name in layers if name not in here]
    if absent:
        raise ValueError(f"the adapters in {folder} are of another model: it has no layer {absent[0]}; load its base")
    add_adapters(unet, layers, LoraConfig(**settings))
    state = load_file(folder / WEIGHTS)
    own = get_peft_model_state_dict(unet, adapter_name=NAME)
    if {name: tensor.shape for name, tensor in own.items()} != {name: tensor.shape for name, tensor in state.items()}:
        raise ValueError(f"the adapters in {folder} do not fit the model's layers; load the base they were trained on")
    set_peft_model_state_dict(unet, state, adapter_name=NAME)


def fused(unet: Any) -> Any:
    """A copy of the U-Net with its adapters multiplied out into the weights: the class and names of the base."""
    whole = copy.deepcopy(unet)
    whole.fuse_lora(adapter_names=[NAME])
    whole.unload_lora()
    if hasattr(whole, "peft_config"):
        del whole.peft_config
    return whole


class LoraTask(AvatarTask):
    """The losses of the video stage, of which only the U-Net's adapters learn."""

    def __init__(self, lora: LoraConfig, pipeline: AvatarPipeline, *args: Any, **options: Any) -> None:
        super().__init__(pipeline, *args, **options)
        self.lora, self.layers = lora, adapted_layers(pipeline.unet)
        for part in self.children():
            part.requires_grad_(False)
        self.trains_reference = False
        add_adapters(pipeline.unet, self.layers, lora)
        self._watched = {"adapters": [p for p in pipeline.unet.parameters() if p.requires_grad]}

    def save(self, folder: Path) -> None:
        unet = self.pipeline.unet
        save_adapters(unet, folder / FOLDER, self.layers, self.lora)
        self.pipeline.register_modules(unet=fused(unet))
        try:
            super().save(folder)
        finally:
            self.pipeline.register_modules(unet=unet)
