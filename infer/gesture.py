"""Speech to gestures by a trained model: a BVH file, a motion file with the face, a video of a stick figure.

python infer/gesture.py --model out/gesture_holistic_small/best --audio a.wav --output talk.mp4 talk.bvh
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from pose.motion import Motion
    from pose.pipeline import GesturePipeline
    from pose.speech_models import SpeechModel

T = TypeVar("T")

SUFFIXES = (".bvh", ".npz", ".mp4")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="gesture.py",
        description="Make gestures for a recording with a model of train/gesture.py.",
        epilog="example: python infer/gesture.py --model MODEL --audio a.wav --style happiness=1.5 --output talk.mp4",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--model", required=True, help="a checkpoint folder or hub id")
    add("--audio", required=True, type=Path, help="the recording; any sound or video file")
    add("--output", required=True, nargs="+", type=Path, help="one or more of NAME.bvh, NAME.npz, NAME.mp4")
    add("--style", help="a name, or weights as in happiness=1.5 or happiness=0.5,sadness=0.5")
    add("--speaker", help="a name, or weights as for --style")
    add("--guidance", type=float, help="above 1 exaggerates style and speaker; the model's own if left out")
    add("--steps", type=int, help="of denoising; the model's own if left out, 0 for all of its training")
    add("--scheduler", choices=("ddpm", "ddim", "dpm++", "unipc"), help="the model's own if left out")
    add("--stitching", choices=("crossfade", "outpaint"), default="crossfade", help="how windows are joined")
    add("--seed", default=0, type=int, help="another seed, another performance")
    add("--speech-model", help="folder or hub id of WavLM-Large, for models that hear it")
    add("--device", default="cpu", help="cpu, cuda, cuda:1, mps")
    return parser.parse_args(argv)


def parse_choice(text: str | None, option: str) -> dict[str, float] | None:
    """`happy` → {"happy": 1.0}, `happy=1.5,sad=0.5` → both."""
    if text is None:
        return None
    weights = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        try:
            weights[name.strip()] = float(value) if equals else 1.0
        except ValueError:
            raise ValueError(f"{option} takes NAME or NAME=WEIGHT, separated by commas; got {text!r}") from None
    return weights


def load_gesture_model(path: str, scheduler: str | None = None, device: str = "cpu") -> GesturePipeline:
    """A trained pipeline, with another scheduler where one is named."""
    from diffusers.utils import logging

    logging.disable_progress_bar()
    from pose.pipeline import GesturePipeline
    from pose.sampling import scheduler_for

    if not Path(path).exists() and path.count("/") != 1:
        raise ValueError(f"no such model: {path}; pass a checkpoint folder such as out/gesture_holistic_small/best")
    pipeline = GesturePipeline.from_pretrained(path)
    if scheduler is not None:
        pipeline.scheduler = scheduler_for(scheduler, pipeline.model)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def load_speech_model(pipeline: GesturePipeline, source: str | None) -> SpeechModel | None:
    """The speech network that a gesture model hears through; None for models that need none.

    Phones come from the reader that ships, if `source` names no other.

    ValueError when one is needed and not given, cannot be loaded, or is another than the model was trained with.
    """
    from pose.feature_sets import BLOCK_WIDTHS, FEATURE_SETS

    blocks = FEATURE_SETS[pipeline.config.feature_set] if pipeline.config.feature_set else ()
    if "phones" in blocks:
        from avatar.shipped import located
        from pose.phone_reader import PhoneReader

        return PhoneReader(located("shipped:audio") if source is None else source, device=pipeline.model.device)
    if "wavlm" not in blocks:
        return None
    if source is None:
        raise ValueError(
            f"this model hears {pipeline.config.feature_set!r}; pass --speech-model FOLDER or microsoft/wavlm-large"
        )
    from transformers.utils import logging

    from pose.speech_models import SpeechModel

    logging.disable_progress_bar()
    network = SpeechModel(source, device=pipeline.model.device)
    if network.width != BLOCK_WIDTHS["wavlm"]:
        raise ValueError(
            f"{source} gives {network.width} numbers a frame and the gesture model hears {BLOCK_WIDTHS['wavlm']}; "
            "pass WavLM-Large, such as microsoft/wavlm-large"
        )
    return network


def on_one_thread(stream: Iterable[T]) -> Iterator[T]:
    """A stream whose items are computed on one thread of the CPU; what reads it has all of them.

    Operations of a small network take less time than threads take to meet: on two cores that others use as well, ten
    seconds of motion took a minute on two threads and two seconds on one.
    """
    import torch

    waiting = iter(stream)
    while True:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            item = next(waiting)
        except StopIteration:
            return
        finally:
            torch.set_num_threads(threads)
        yield item


def resampled_stream(motions: Iterable[Motion], fps: float) -> Iterator[Motion]:
    """A stream of motion at another rate: the same frames as `Motion.resampled` of the whole, piece by piece."""
    from dataclasses import replace

    from pose.interpolation import AFTER, BEFORE
    from pose.motion import Motion

    held: Motion | None = None  # source frames from `start` on
    start = made = 0

    def ready(last: int) -> Iterator[Motion]:
        """What stands at or before source frame `last`."""
        nonlocal made
        assert held is not None
        count = int(np.floor(last / held.fps * fps + 1e-6)) + 1 - made
        if count > 0:
            places = np.arange(made, made + count) * (held.fps / fps) - start
            yield replace(held.at(np.minimum(places, len(held) - 1)), fps=fps)
            made += count

    for piece in motions:
        if piece.fps == fps:
            yield piece
            continue
        held = piece if held is None else Motion.concatenated([held, piece])
        yield from ready(start + len(held) - 1 - AFTER)
        keep = int(np.floor(made / fps * held.fps)) - BEFORE - 1 - start  # one more, as the division may round up
        keep = min(max(keep, 0), len(held) - 1)
        held, start = held[keep:], start + keep
    if held is not None:
        yield from ready(start + len(held) - 1)


def run(args: argparse.Namespace) -> str:
    """Make the files; returns a sentence that says what was made."""
    # 1. Everything that may be refused before the model loads.
    from avatar.video_io import check_folder, check_output

    for path in args.output:
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"--output writes {', '.join(SUFFIXES)}, got {path}")
        if path.suffix.lower() == ".mp4":
            check_output(path)
        check_folder(path.parent)
    style, speaker = parse_choice(args.style, "--style"), parse_choice(args.speaker, "--speaker")
    from pose.speech import open_speech

    speech = open_speech(args.audio)
    # 2. The model
    pipeline = load_gesture_model(args.model, args.scheduler, args.device)
    pipeline.style_vector(style, speaker)
    steps = pipeline.scheduler.config.num_train_timesteps if args.steps == 0 else args.steps
    network = load_speech_model(pipeline, args.speech_model)
    features = speech.features(pipeline.fps)
    features = features if network is None else network.stream(features)
    # 3. Motion, as a stream, into the files
    from avatar.video_io import VideoWriter
    from pose.bvh import write_bvh
    from pose.motion import Motion
    from pose.stick_figure import draw_figure, figure_aim

    began = time.monotonic()
    motions: list[Motion] = []
    with ExitStack() as stack:
        videos = [path for path in args.output if path.suffix.lower() == ".mp4"]
        frames, size = speech.frames(pipeline.fps), (384, 384)
        writers = [stack.enter_context(VideoWriter(path, size, pipeline.fps, frames, args.audio)) for path in videos]
        made = pipeline.stream(
            features, seed=args.seed, style=style, speaker=speaker, guidance=args.guidance, steps=steps,
            stitching=args.stitching,
        )  # fmt: skip
        for piece in on_one_thread(made):
            motions.append(piece)
            if writers:
                for frame in draw_figure(piece, size[0], aim=figure_aim(motions[0])):
                    for writer in writers:
                        writer.write(frame)
    spent = time.monotonic() - began
    motion = Motion.concatenated(motions)
    for path in args.output:
        if path.suffix.lower() == ".bvh":
            write_bvh(path, motion)
        elif path.suffix.lower() == ".npz":
            motion.save(path)
    names = ", ".join(str(path) for path in args.output)
    return f"{names}: {len(motion)} frames at {pipeline.fps:g} a second ({motion.duration_s:.2f} s) in {spent:.1f} s"


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on stderr when an input was refused."""
    try:
        print(run(parse(argv)))
    except (ValueError, OSError) as error:
        print(f"gesture.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
