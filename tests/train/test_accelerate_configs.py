"""Every launch configuration is what accelerate itself reads, and says what its name says."""

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "accelerate"
KINDS = {
    "cpu": (DistributedType.NO, 1, True),
    "cpu_2": (DistributedType.MULTI_CPU, 2, True),
    "gpu": (DistributedType.NO, 1, False),
    "gpu_8": (DistributedType.MULTI_GPU, 8, False),
    "gpu_8_fsdp": (DistributedType.FSDP, 8, False),
    "gpu_8_zero2": (DistributedType.DEEPSPEED, 8, False),
    "multi_node": (DistributedType.MULTI_GPU, 64, False),
}


@pytest.mark.parametrize("name", KINDS)
def test_accelerate_reads_it(name):
    config = ClusterConfig.from_yaml_file(FOLDER / f"{name}.yaml")
    assert (config.distributed_type, config.num_processes, config.use_cpu) == KINDS[name]
    assert config.mixed_precision == ("no" if config.use_cpu else "bf16")


def test_there_are_no_others():
    assert {path.stem for path in FOLDER.iterdir()} == set(KINDS)


def test_sharded_units_are_layers_of_the_networks(monkeypatch):
    """FSDP finds the classes it is to shard by name, in the networks as they are built."""
    from avatar.build import load_pipeline

    settings = ClusterConfig.from_yaml_file(FOLDER / "gpu_8_fsdp.yaml").fsdp_config
    for key, value in settings.items():
        name = key.upper() if key.startswith("fsdp_") else f"FSDP_{key.upper()}"
        monkeypatch.setenv(name, str(value).lower() if isinstance(value, bool) else str(value))
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    unet = load_pipeline(FOLDER.parent / "model_tiny.yaml").unet
    plugin.set_auto_wrap_policy(unet)  # raises where a class is not found
    assert plugin.auto_wrap_policy is not None
