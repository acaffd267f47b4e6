"""One photo and one recording in, a video of that person talking out.

python infer/run.py --image ref.png --audio a.wav
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from infer.command_line import Parser

if TYPE_CHECKING:
    from avatar.pipeline import AvatarPipeline
    from infer.synthesis import Synthesis
    from pose.pipeline import GesturePipeline
    from pose.speech_models import SpeechModel

T = TypeVar("T")

# Measured on two cores at 512²; only for the estimate of --dry-run.
START_S, FRAMES_PER_SECOND = 6.0, 40.0
MODEL_SHARE = 0.3  # of that rate with the video model that ships: 34.8 and 75.6 s for 10 s on a slower machine
GESTURES_S = 5.0  # until a gesture model is there, most of it diffusers' import
MODEL_SEGMENT_FRAMES = 250  # of a video model's frames, which take seconds each second: what an interruption can cost


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line; ValueError when it is not understood."""
    parser = Parser(
        prog="run.py",
        description="Make a video of the person in a photo speaking a recording.",
        epilog="example: python infer/run.py --image examples/presenter.png --audio examples/speech.wav --preview",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--image", required=True, type=Path, help="photo of the person")
    add("--audio", required=True, type=Path, help="the recording; any sound or video file")
    add("--output", default="talking.mp4", type=Path, help=".mp4 .mov .mkv .webm .gif, or a folder for PNGs")
    add("--size", default="512", help="side of a square of the video's area, or WIDTHxHEIGHT")
    add("--fps", default=25.0, type=float, help="frames a second, 10 to 60")
    add("--seed", default=0, type=int, help="another seed, another performance")
    add("--motion-in", type=Path, help="use this .bvh or .npz motion instead of the speech's")
    add(
        "--gesture-model",
        help="gestures of a model of train/gesture.py: a folder or hub id; none: motion by rule; "
        "left out: the one that ships",
    )
    add("--style", help="of the gesture model: a name, or weights as in happiness=1.5 or happiness=0.5,sadness=0.5")
    add("--speaker", help="of the gesture model: a name, or weights as for --style")
    add("--speech-model", help="folder or hub id of the speech network that the gesture model hears, if it needs one")
    add("--motion-out", type=Path, help="write the motion as .bvh, or as .npz with the face")
    add("--driving", type=Path, help="take the motion from a video of another person")
    add("--keypoints-out", type=Path, help="write the driving keypoints as .npz")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    add(
        "--model",
        help="video model: a saved folder, a hub id or configs/model_*.yaml; none: geometry alone; "
        "left out: the one that ships, if one does",
    )
    add("--steps", type=int, help="denoising steps in each window of the video model; its own by default")
    add("--strength", type=float, help="how much the model repaints: 0 nothing, 1 everything; its own by default")
    add("--guidance", help="REFERENCE,AUDIO guidance scales, as in 2.5,4.5; the model's own by default")
    add("--mouth", choices=("prior", "sound"), help="of the video model: keep the prior's mouth, or let sound draw it")
    add("--preview", action="store_true", help="also write a contact sheet, OUTPUT with .png for a suffix")
    add("--dry-run", action="store_true", help="check the inputs and say what would be done")
    return parser.parse_args(argv)


def check_arguments(args: argparse.Namespace) -> None:
    """Everything that can be refused without opening the photo or the recording."""
    from avatar.shipped import holds_layer_chooser, located
    from avatar.video_io import check_folder, check_output

    if not 10 <= args.fps <= 60:
        raise ValueError(f"--fps must be 10 to 60, got {args.fps:g}")
    sources = [
        f"--{name}" for name in ("motion-in", "driving", "gesture-model") if getattr(args, name.replace("-", "_"))
    ]
    if len(sources) > 1:
        raise ValueError(f"{' and '.join(sources)} each give the motion; pass one of them")
    for option in ("style", "speaker", "speech-model"):
        if getattr(args, option.replace("-", "_")) is not None and not args.gesture_model:
            raise ValueError(f"--{option} belongs to a gesture model; pass --gesture-model too")
    if args.motion_out and args.driving:
        raise ValueError("--motion-out has nothing to write with --driving; use --keypoints-out")
    check_output(args.output)
    for option, path, suffixes in (
        ("--motion-out", args.motion_out, (".bvh", ".npz")),
        ("--keypoints-out", args.keypoints_out, (".npz",)),
    ):
        if path is not None and path.suffix.lower() not in suffixes:
            raise ValueError(f"{option} writes {' or '.join(suffixes)}, got {path}")
        if path is not None:
            check_folder(path.parent)
    paints = args.model is not None and not holds_layer_chooser(located(args.model))
    for option in ("steps", "strength", "guidance", "mouth"):
        if getattr(args, option) is not None and not paints:
            raise ValueError(f"--{option} belongs to a video model that paints; pass --model FOLDER with one")
    for option, path in (("--motion-in", args.motion_in), ("--driving", args.driving)):
        if path is not None and not path.is_file():
            raise ValueError(f"{option}: no such file: {path}; check the path")


def exactly(stream: Iterable[T], frames: int) -> Iterator[T]:
    """`frames` frames of a stream of chunks: cut at the end, or the last frame held."""
    left, part = frames, None
    for part in stream:
        part = part[slice(0, left)]  # type: ignore[index]
        left -= len(part)
        yield part
        if not left:
            return
    if part is not None:
        yield part[[-1] * left]


def kept(stream: Iterable[T], into: list[T] | None) -> Iterator[T]:
    """A stream, with every chunk remembered where it is wanted afterwards."""
    for part in stream:
        if into is not None:
            into.append(part)
        yield part


def save_atomically(path: Path, save: Callable[[Path], object]) -> None:
    """Let `save` write beside `path`, then rename the result into place."""
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        save(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def run(args: argparse.Namespace) -> str:
    """Make the video; returns a sentence that says what was made."""
    began = time.monotonic()
    # 1. Everything that may be refused, before anything heavy loads.
    from infer.inputs import chosen_gestures, chosen_model

    args.model = chosen_model(args.model, args.fps)
    args.gesture_model = chosen_gestures(args.gesture_model, led=bool(args.motion_in or args.driving))
    check_arguments(args)
    from avatar.video_io import SEGMENT_FRAMES, VideoWriter, disclosure
    from infer.inputs import (
        check_driving,
        choose_device,
        load_motion,
        model_files,
        parse_guidance,
        parse_size,
        playable_sound,
        work_key,
    )
    from infer.synthesis import frame_size
    from pose.images import load_image
    from pose.speech import open_speech

    size = parse_size(args.size)
    photo, speech = load_image(args.image), open_speech(args.audio)
    size = size if isinstance(size, tuple) else frame_size(photo, size)
    frames = speech.frames(args.fps)
    motion = load_motion(args.motion_in, args.fps, frames) if args.motion_in else None
    if args.driving:
        check_driving(args.driving, args.fps, frames)
    parse_guidance(args.guidance)
    plan = f"{frames} frames of {size[1]}x{size[0]} at {args.fps:g} a second ({frames / args.fps:.2f} s)"
    if args.dry_run:
        expected = START_S + GESTURES_S * bool(args.gesture_model)
        rate = FRAMES_PER_SECOND * (MODEL_SHARE if args.model else 1.0)
        expected += frames / rate * (size[0] * size[1] / 512**2)
        return (
            f"{args.output}: {plan} in {-(-frames // SEGMENT_FRAMES)} segment(s) from a photo of"
            f" {photo.shape[1]}x{photo.shape[0]}, about {expected:.0f} s on two CPU cores; nothing was written"
        )

    # 2. The person.
    from tqdm import tqdm

    from infer.preview import ContactSheet
    from infer.synthesis import Synthesis
    from pose.keypoints import Keypoints
    from pose.motion import Motion

    device = choose_device(args.device)
    with ThreadPoolExecutor(1) as beside:
        # Diffusers takes as long to import as the person to be found. To load would be too much: it sets torch's
        # default precision, for all threads.
        if args.gesture_model or args.model:
            beside.submit(importlib.import_module, "pose.pipeline" if args.gesture_model else "avatar.pipeline")
        synthesis = Synthesis(photo, size, args.fps, args.seed, device)
    gestures = load_gestures(args, device) if args.gesture_model else None
    pipeline = prepare_model(args, synthesis, device)
    if synthesis.detection.people > 1:
        print(f"note: {synthesis.detection.people} people in {args.image}; the largest is used", file=sys.stderr)

    # 3. Motion, then keypoints, as streams.
    motions: list[Motion] | None = [] if args.motion_out else None
    points: list[Keypoints] | None = [] if args.keypoints_out else None
    if args.driving:
        keypoints = exactly(synthesis.driven_keypoints(args.driving), frames)
    else:
        if motion is not None:
            moves = synthesis.with_speech_face([motion], speech)
        elif gestures is not None:
            pipe, network, choice = gestures
            moves = exactly(synthesis.gesture_motion(pipe, speech, network, **choice), frames)
        else:
            moves = synthesis.speech_motion(speech)
        keypoints = synthesis.keypoints(kept(moves, motions))
    sheet = ContactSheet(frames, args.fps) if args.preview else None
    keypoints = kept(sheet.watch(keypoints) if sheet else keypoints, points)

    # 4. Frames, written as they come.
    gesture = (args.gesture_model, args.style, args.speaker, args.speech_model)
    drawn = (args.model, args.steps, args.strength, args.guidance, args.mouth)
    settings = (disclosure(), size, args.fps, args.seed, *gesture, *drawn)
    models = (*model_files(args.gesture_model), *model_files(args.model))
    key = work_key(settings, (args.image, args.audio, args.motion_in, args.driving, *models))
    with ExitStack() as stack:
        sound = stack.enter_context(playable_sound(args.audio, speech))
        length = MODEL_SEGMENT_FRAMES if args.model else SEGMENT_FRAMES
        writer = stack.enter_context(VideoWriter(args.output, size, args.fps, frames, sound, key, length))
        bar = stack.enter_context(tqdm(total=frames, initial=writer.written, unit="frame", desc=args.output.name))
        if writer.written:
            bar.write(f"going on from frame {writer.written} of an interrupted run", file=sys.stderr)
        if pipeline is None:
            video = (prior.frames for _, prior in synthesis.priors(keypoints, skip=writer.written))
        else:
            chosen = {"steps": args.steps, "strength": args.strength, "mouth": args.mouth}
            chosen["guidance"] = parse_guidance(args.guidance)
            video = synthesis.generated(pipeline, keypoints, speech, writer, frames=frames, **chosen)
        for part in video:
            for frame in synthesis.pictures(part):
                if sheet is not None:
                    sheet.add(writer.written, frame)
                writer.write(frame)
            bar.update(len(part))

    # 5. What was asked for beside the video.
    if motions:
        save_atomically(args.motion_out, lambda path: save_motion(path, Motion.concatenated(motions)))
    if points:
        save_atomically(args.keypoints_out, Keypoints.concatenated(points).resized(size).save)
    if sheet is not None:
        save_atomically(args.output.with_suffix(".png"), sheet.save)
    means = f"by the video model {args.model}" if args.model else "by geometry alone"
    return f"{args.output}: {plan}, made {means} in {time.monotonic() - began:.1f} s"


def prepare_model(args: argparse.Namespace, synthesis: Synthesis, device: str) -> AvatarPipeline | None:
    """The video pipeline; None where there is none, or a layer chooser, which then mends what `synthesis` moves."""
    if not args.model:
        return None
    from avatar.pipeline import AvatarPipeline
    from infer.inputs import load_model

    model = load_model(args.model, args.fps, device)
    if isinstance(model, AvatarPipeline):
        return model
    synthesis.mend_with(model)
    return None


def load_gestures(args: argparse.Namespace, device: str) -> tuple[GesturePipeline, SpeechModel | None, dict[str, Any]]:
    """The gesture model, what it hears through, and the chosen style and speaker; ValueError names known ones."""
    from infer.gesture import load_gesture_model, load_speech_model, parse_choice

    pipeline = load_gesture_model(args.gesture_model, device=device)
    choice = {"style": parse_choice(args.style, "--style"), "speaker": parse_choice(args.speaker, "--speaker")}
    pipeline.style_vector(**choice)
    return pipeline, load_speech_model(pipeline, args.speech_model), choice


def save_motion(path: Path, motion: object) -> None:
    """Write a motion in the format of the suffix."""
    from pose.bvh import write_bvh

    if path.suffix.lower() == ".bvh":
        write_bvh(path, motion)  # type: ignore[arg-type]
    else:
        motion.save(path)  # type: ignore[attr-defined]


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on stderr when an input was refused."""
    # Frameworks that log or warn before an error would bury the one line that matters.
    os.environ.setdefault("GLOG_minloglevel", "3")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        print(run(parse(argv)))
    except (ValueError, OSError) as error:
        if os.environ.get("RHETOR_DEBUG"):
            raise
        print(f"run.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("run.py: stopped; the same command goes on with what was finished", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
