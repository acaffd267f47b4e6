"""Train the small autoencoder whose latents the default video model works in.

    python train/autoencoder.py configs/autoencoder.yaml data.folders=[PHOTOS,VIDEOS]

Any folders of photos and videos will do, and shards of train/prepare.py. A checkpoint is a folder that diffusers and
avatar/latents.py load, with the scale and shift that make its latents zero mean and unit variance. The same command
again resumes. Minutes on two CPU cores. `train/autoencoder_report.py` measures it.

Letters: B pictures, C channels, h w latent size.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from diffusers.models.unets.unet_2d_blocks import AutoencoderTinyBlock
from torch import Tensor, nn
from torch.nn import functional

from avatar import latents
from train.batches import Draws
from train.config import LoopConfig
from train.loop import Task, command, say, train
from train.pictures import CentreCrops, RandomCrops, gather_pictures

CALIBRATION = 256  # crops whose latents set scale and shift; the mean moves by less than 0.01 with twice as many
BRANCH = 0.2  # ours: size of a block's own part at the start


@dataclass(frozen=True)
class PictureData:
    """What is learned from."""

    folders: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()  # names, without suffix, of files for validation; none there: every tenth
    fps: float = 1.0  # frames a second that are taken of videos; neighbours teach little
    longest: int = 1280  # pixels of a side that are kept
    crop: int = 128
    shrink: float = 3.0  # a crop shows up to so many times its side of the picture
    colour: float = 0.15  # ours: random gain of each colour, because the photos are few
    swaps: float = 0.2  # ours: share of crops whose colours change places: people wear colours that few photos show
    validation_short: int = 512  # shorter side of validation pictures, of which the middle is seen
    validation_crop: int = 256


@dataclass(frozen=True)
class AutoencoderConfig:
    """One experiment. `vae` holds arguments of `diffusers.AutoencoderTiny`."""

    data: PictureData
    vae: dict[str, object] = field(default_factory=dict)
    start: str = ""  # folder of an autoencoder to go on from, with its architecture
    decoder_only: bool = False  # keep the latents of `start` as they are, for models already trained in them
    squares: float = 10.0  # ours: weight of the squared error; with L1 alone eyes and lips stay soft for long
    edges: float = 1.0  # ours: weight of the L1 error of pixel differences, at full, half and quarter size
    moments: float = 0.01  # ours: weight of what keeps each latent channel at zero mean and unit variance
    noise: float = 0.02  # ours: deviation of noise on latents, so that near latents decode to near pictures
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        if not self.data.folders:
            raise ValueError("data.folders is not set; pass data.folders=[FOLDER,…] with photos or videos")
        if self.decoder_only and not self.start:
            raise ValueError("decoder_only needs `start`, the autoencoder whose latents are kept")


def edge_loss(made: Tensor, images: Tensor) -> Tensor:  # (B, 3, H, W) each
    """Mean absolute error of the differences of neighbours, at full, half and quarter size: what blur gets wrong."""
    error = made - images
    total = error.new_zeros(())
    for _ in range(3):
        total = total + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        error = functional.avg_pool2d(error, 2)
    return total / 3


def moment_loss(encoded: Tensor) -> Tensor:  # (B, C, h, w)
    """How far the latent channels are from zero mean and unit variance, over the batch."""
    variance, mean = torch.var_mean(encoded, dim=(0, 2, 3))
    return (mean**2 + (variance - 1) ** 2).mean()


class AutoencoderTask(Task):
    """Pictures through the autoencoder."""

    def __init__(self, config: AutoencoderConfig, vae: AutoencoderTiny, calibration: Tensor) -> None:
        super().__init__()
        self.config, self.vae, self.calibration = config, vae, calibration
        vae.to(memory_format=torch.channels_last)  # twice as fast on a CPU
        vae.encoder.requires_grad_(not config.decoder_only)

    def trained(self) -> nn.Module:
        return self.vae

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        images = batch["images"]
        encoded = self.vae.encode(latents.patched(self.vae, images * 2 - 1)).latents.float()
        kept = encoded
        if self.training and self.config.noise:
            noise = Draws(batch["draw"]).normal(*encoded.shape[1:])
            kept = encoded + self.config.noise * encoded.detach().std() * noise
        made = latents.unpatched(self.vae, self.vae.decode(kept).sample).float() / 2 + 0.5
        pixel, edges, moments = (made - images).abs().mean(), edge_loss(made, images), moment_loss(encoded)
        squares = ((made - images) ** 2).mean()
        config = self.config
        loss = pixel + config.squares * squares + config.edges * edges + config.moments * moments
        error = ((made.clamp(0, 1) - images) ** 2).mean(dim=(1, 2, 3))
        return {"loss": loss, "pixel": pixel, "edges": edges, "moments": moments, "psnr": -10 * error.log10().mean()}

    def save(self, folder: Path) -> None:
        if not self.config.decoder_only:
            self.vae.register_to_config(scaling_factor=1.0, shift_factor=0.0)
            encoded = latents.encode(self.vae, self.calibration)
            self.vae.register_to_config(
                scaling_factor=round(1 / float(encoded.std()), 6), shift_factor=round(float(encoded.mean()), 6)
            )
        self.vae.save_pretrained(folder)
        latents.tidy_config(folder)


def build_autoencoder(config: AutoencoderConfig, calibration: Tensor) -> AutoencoderTiny:
    """A new autoencoder, or the one to go on from; ValueError where `vae` does not fit the class."""
    if config.start:
        return latents.load_autoencoder("AutoencoderTiny", config.start)
    try:
        vae = AutoencoderTiny(**config.vae)
    except TypeError as error:
        raise ValueError(f"vae: {error}; it holds arguments of diffusers.AutoencoderTiny") from error
    start_well(vae, calibration)
    return vae


@torch.no_grad()
def start_well(vae: AutoencoderTiny, images: Tensor) -> None:
    """First weights that keep the size of signals: He et al. 2015, equation 10, blocks that start near the identity,
    and unit variance of the latents of `images`. With torch's own first weights signals fade from layer to layer and
    the first thousand steps are spent on that."""
    for module in vae.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in vae.modules():
        if isinstance(module, AutoencoderTinyBlock):
            module.conv[-1].weight.mul_(BRANCH)
    vae.decoder.layers[-1].weight.mul_(BRANCH)
    vae.decoder.layers[-1].bias.fill_(0.5)  # mid grey
    last = vae.encoder.layers[-1]
    encoded = vae.encode(latents.patched(vae, images * 2 - 1)).latents
    variance, mean = torch.var_mean(encoded, dim=(0, 2, 3))
    last.weight.div_(variance.sqrt()[:, None, None, None])
    last.bias.sub_(mean).div_(variance.sqrt())


def run(config: AutoencoderConfig) -> Path:
    """Train; returns the best checkpoint."""
    data, loop = config.data, config.loop
    torch.manual_seed(loop.seed)
    pictures = gather_pictures(data.folders, data.held_out, data.fps, data.longest)
    crops = RandomCrops(pictures["train"], data.crop, data.shrink, data.colour, data.swaps)
    calibration = RandomCrops(pictures["train"], data.crop, data.shrink).sample(CALIBRATION, loop.seed)
    vae = build_autoencoder(config, calibration)
    say(
        f"autoencoder: {sum(p.numel() for p in vae.parameters()):,} parameters; {len(pictures['train'])} pictures to "
        f"train, {len(pictures['val'])} to validate"
    )
    whole = CentreCrops(pictures["val"], data.validation_crop, data.validation_short)
    return train(config, AutoencoderTask(config, vae, calibration), crops, whole)


def main(argv: list[str] | None = None) -> int:
    return command(__doc__, AutoencoderConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())
