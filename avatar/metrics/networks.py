"""Networks of others, brought as a file: ONNX or TorchScript, whose graph is in the file; nothing is unpickled.

.onnx runs in onnxruntime where that is installed and else in OpenCV. Loading TorchScript runs the operators in the
file but no Python. A pickle (.pth, .pkl) can run anything and is refused: convert it to safetensors where this
project knows the architecture (LPIPS, SyncNet), or export it.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float32]

TORCHSCRIPT = (".pt", ".ts", ".torchscript")
UNREAD = "num_batches_tracked"
BLOCK = 1 << 20


def weights_name(path: str | Path) -> str:
    """What is printed beside every number made with a file of weights: its name and eight digits of its SHA-256."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(BLOCK):
            digest.update(part)
    return f"{Path(path).stem}#{digest.hexdigest()[:8]}"


def check_weights(path: str | Path, what: str, suffixes: tuple[str, ...]) -> Path:
    """The path, if there is a file of one of the suffixes; `what` it should be is in the message."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{what} needs its weights and there is no file {path}; give the path of a local copy")
    if path.suffix.lower() not in suffixes:
        raise ValueError(
            f"{what} reads {', '.join(suffixes)} and got {path.name}; pickles are never loaded, convert or export it"
        )
    return path


def load_tensors(path: Path, what: str, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, which must have exactly these names and `shapes`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file ({error}); download or convert it again") from None
    # Batch norms count their training batches; old files lack the count and nothing here reads it.
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith(UNREAD)}
    shapes = {name: shape for name, shape in shapes.items() if not name.endswith(UNREAD)}
    wrong = sorted(set(shapes) ^ set(tensors)) or [n for n, shape in shapes.items() if tensors[n].shape != shape]
    if wrong:
        raise ValueError(
            f"{path} is not {what}: {len(wrong)} tensors are missing, unknown or of another shape: {wrong[:3]}"
        )
    return tensors


class Network:
    """A network of one input and one output, (B, ...) float32 to (B, ...) float32, on the CPU or a torch device.

    `options` are passed by name to a TorchScript network that has such arguments, and are else left out.
    """

    def __init__(self, path: str | Path, what: str, device: str = "cpu", **options: bool) -> None:
        path = check_weights(path, what, (".onnx", *TORCHSCRIPT))
        self.name, self.device = weights_name(path), device
        self._run = _onnx(path) if path.suffix.lower() == ".onnx" else _torchscript(path, device, options)

    def __call__(self, *inputs: Array) -> Array:
        outputs = self._run(*(np.ascontiguousarray(part, np.float32) for part in inputs))
        if not np.isfinite(outputs).all():
            raise ValueError(f"{self.name} answered NaN or infinite values; check that it is the right network")
        return outputs.astype(np.float32)


def _onnx(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        return _opencv(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of its own for each status, all plain Exceptions
        raise ValueError(f"{path} cannot be loaded: {_line(error)}") from None
    names = [part.name for part in session.get_inputs()]

    def run(*inputs: Array) -> Array:
        if len(inputs) != len(names):
            raise ValueError(f"{path.name} takes {len(names)} inputs and got {len(inputs)}; it is another network")
        try:
            return session.run(None, dict(zip(names, inputs, strict=True)))[0]
        except Exception as error:
            raise ValueError(f"{path.name} refuses {inputs[0].shape}: {_line(error)}") from None

    return run


def _opencv(path: Path) -> Any:
    import cv2

    try:
        network = cv2.dnn.readNetFromONNX(str(path))
    except cv2.error as error:
        raise ValueError(f"{path} cannot be loaded ({_line(error)}); try again with onnxruntime installed") from None

    def run(*inputs: Array) -> Array:
        if len(inputs) != 1:
            raise ValueError(f"{path.name} takes {len(inputs)} inputs; install onnxruntime to run it")
        network.setInput(inputs[0])
        try:
            return np.array(network.forward())
        except cv2.error as error:
            raise ValueError(f"{path.name} refuses {inputs[0].shape}: {_line(error)}") from None

    return run


def _torchscript(path: Path, device: str, options: dict[str, bool]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the published detectors come in no other format
            module = torch.jit.load(str(path), map_location=device).eval()
    except RuntimeError as error:
        raise ValueError(f"{path} is not a TorchScript archive ({_line(error)}); export it again") from None
    known = {argument.name for argument in module.forward.schema.arguments}
    chosen = {name: value for name, value in options.items() if name in known}

    def run(*inputs: Array) -> Array:
        with torch.inference_mode():
            try:
                answer = module(*(torch.from_numpy(part).to(device) for part in inputs), **chosen)
            except RuntimeError as error:
                raise ValueError(f"{path.name} refuses {inputs[0].shape}: {_line(error)}") from None
        return answer.float().cpu().numpy()

    return run


def _line(error: Exception) -> str:
    """The last line of a long message, which says most."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
