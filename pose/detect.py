"""Body, hands, face and matte of the largest person in a photo or a video, with MediaPipe's own models.

Everything comes from the models inside the MediaPipe 0.10.21 wheel. The pose graph gives the body; hands
and face are located by MediaPipe's landmark models on regions that we choose (pose/hand_search.py), because the
holistic graph misses visible hands, gives no score, and remembers earlier pictures. Deterministic: the same picture,
the same numbers.

Letters: F frames, H W image size, K = 543 keypoints (pose/keypoints.py). Pixels, x right, y down.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.hand_search import Hand, Region, assign, face_region, hand_region, wrist_regions
from pose.images import load_image, read_video
from pose.keypoints import Detection, Keypoints
from pose.matte import person_matte
from pose.person import Body, Person, extent

Array = NDArray[np.float32]
Image = NDArray[np.uint8]

__all__ = ["PersonDetector", "load_image", "video_keypoints"]

MAX_SIDE = 2048  # larger photos are detected at this size: the models read at most 256 pixels of a region
SMALL_FACE = 1.5  # a face finder sees faces above a twentieth of its picture; tiles overlap by this factor
WRONG_LEAN = 1.0  # radians; a person turned further than this in the picture means a photo that lies on its side
SURE = 0.9  # presence of a hand above which no further search is made for it
JITTER = (  # growth, turn in radians, shift right and down in sides: regions over which answers are averaged
    (1.0, 0.0, 0.0, 0.0), (0.93, 0.12, 0.01, 0.0), (1.07, -0.12, -0.01, 0.0),
    (1.0, -0.2, 0.0, 0.015), (1.0, 0.2, 0.0, -0.015), (1.12, 0.0, 0.0, 0.0),
)  # fmt: skip
SEARCH_EVERY = 5  # frames of a video between two full searches for a lost hand
NO_PERSON = "no person found; give a photo that shows one person's face and upper body, well lit and upright"
NO_FACE = (
    "no face found (is the person seen from behind, or the face covered?); give a photo with the face to the camera"
)
ON_ITS_SIDE = "the photo seems to be turned by {} degrees; rotate it upright and save it again"

_LANDMARK_GRAPH = """
input_stream: "image" input_stream: "roi" output_stream: "landmarks"
node {{ calculator: "ConstantSidePacketCalculator" output_side_packet: "PACKET:attention"
  options {{ [mediapipe.ConstantSidePacketCalculatorOptions.ext] {{ packet {{ bool_value: true }} }} }} }}
node {{ calculator: "{calculator}" input_stream: "IMAGE:image" input_stream: "ROI:roi" {inputs}
  output_stream: "LANDMARKS:landmarks" {outputs} }}
"""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send file descriptor 2 to nowhere: MediaPipe's C++ logs bypass every Python and environment setting."""
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


class _RegionModel:
    """One of MediaPipe's landmark models, asked about one region of an image at a time."""

    def __init__(self, kind: str) -> None:
        from mediapipe.framework.formats import rect_pb2
        from mediapipe.python import packet_creator, packet_getter
        from mediapipe.python._framework_bindings import calculator_graph

        self.hand = kind == "hand"
        calculator = "HandLandmarkCpu" if self.hand else "FaceLandmarkCpu"
        text = _LANDMARK_GRAPH.format(
            calculator=calculator,
            inputs="" if self.hand else 'input_side_packet: "WITH_ATTENTION:attention"',
            outputs='output_stream: "WORLD_LANDMARKS:world" output_stream: "HANDEDNESS:side"' if self.hand else "",
        )
        self._score = f"{calculator.lower()}__{kind}_presence_score"  # an inner stream of MediaPipe's subgraph
        self._rect, self._creator, self._getter = rect_pb2.NormalizedRect, packet_creator, packet_getter
        self._packets: dict[str, Any] = {}
        self._time = 0
        self._graph = calculator_graph.CalculatorGraph(graph_config=text)
        for stream in ("landmarks", self._score, *(("world", "side") if self.hand else ())):
            self._graph.observe_output_stream(stream, self._packets.__setitem__, False)
        self._graph.start_run()
        self._graph.wait_until_idle()  # its logs end inside the caller's quiet block

    def __call__(self, packet: Any, size: tuple[int, int], region: Region) -> Hand | None:
        """The landmarks in the region (the face's as a `Hand` with 478 points and no world), None when absent.

        `packet` is an image packet, `size` its (height, width).
        """
        height, width = size
        self._packets.clear()
        self._time += 1
        rect = self._rect(
            x_center=region.x / width,
            y_center=region.y / height,
            width=region.size / width,
            height=region.size / height,
            rotation=region.angle,
        )
        self._graph.add_packet_to_input_stream("image", packet.at(self._time))
        self._graph.add_packet_to_input_stream("roi", self._creator.create_proto(rect).at(self._time))
        self._graph.wait_until_idle()
        landmarks = self._packets.get("landmarks")
        if landmarks is None or landmarks.is_empty():
            return None
        points = _xyz(self._getter.get_proto(landmarks)) * np.array([width, height, width], np.float32)
        score = float(self._getter.get_float(self._packets[self._score]))
        if not self.hand:
            return Hand(points, np.zeros((0, 3), np.float32), score, 0.5)
        side = self._getter.get_proto(self._packets["side"]).classification[0]
        right = side.score if side.label == "Left" else 1 - side.score  # MediaPipe names the side in a mirror image
        return Hand(points, _xyz(self._getter.get_proto(self._packets["world"])), score, float(right))

    def close(self) -> None:
        self._graph.close_all_packet_sources()
        self._graph.wait_until_done()


def _xyz(landmarks: Any) -> Array:
    return np.array([[p.x, p.y, p.z] for p in landmarks.landmark], np.float32)


@dataclass
class _Track:
    """What one frame of a video leaves for the next: where face and hands were."""

    face: Region | None = None
    hands: dict[str, Region] = field(default_factory=dict)
    frame: int = 0


class PersonDetector:
    """Finds the largest person. A context manager: MediaPipe's graphs hold threads until closed.

    `tracking=True` for consecutive frames of a video: the body is tracked and smoothed, face and hands are looked for
    where they were.
    """

    def __init__(self, tracking: bool = False) -> None:
        self.tracking = tracking
        with _quiet():
            from mediapipe.python import packet_creator, solutions
            from mediapipe.python._framework_bindings.image_frame import ImageFormat

            self._creator, self._format = packet_creator, ImageFormat.SRGB
            # Not the holistic graph: it adds nothing to these, and its hands depend on earlier pictures.
            self._pose = solutions.pose.Pose(
                static_image_mode=not tracking,
                model_complexity=1,
                enable_segmentation=True,
                smooth_segmentation=tracking,
            )
            self._finders = [solutions.face_detection.FaceDetection(0.4, model) for model in (0, 1)]
            self._selfie = solutions.selfie_segmentation.SelfieSegmentation(0)
            self._palms = solutions.hands.Hands(True, 2, 1, 0.3, 0.3)
            for graph in (self._pose, *self._finders, self._selfie, self._palms):
                graph._graph.wait_until_idle()  # its threads log while they start: let them do it unheard
            self._face, self._hand = _RegionModel("face"), _RegionModel("hand")

    def __enter__(self) -> PersonDetector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the graphs."""
        for graph in (self._pose, *self._finders, self._selfie, self._palms, self._face, self._hand):
            graph.close()

    def image(self, rgb: Image, matte: bool = True) -> Detection:
        """The largest person in one photo, uint8 RGB (H, W, 3); F = 1. Without `matte` the matte is (1, 0, 0).

        ValueError in one line: nobody, only the back of a head, a photo that lies on its side.
        """
        if self.tracking:
            raise ValueError("this detector tracks a video; build one with PersonDetector() for a single photo")
        with _quiet():
            small, scale = _limited(rgb)
            faces = self._find_faces(small)
            distant = not faces
            if distant:
                faces = self._find_small_faces(small)
            if not faces:
                raise ValueError(self._why_no_face(small))
            face = self._average(self._face, self._packet(small), _size(small), faces[0])
            body = self._find_body(small, face, faces[1:])
            if body is None and distant:  # enlarged tiles show faces in cats and cups; a person there has a body too
                raise ValueError(self._why_no_face(small))
            lean = _roll(face.points) if body is None else body.lean(face.points)
            if abs(lean) > WRONG_LEAN:
                raise ValueError(ON_ITS_SIDE.format(180 if abs(lean) > 2.4 else 90))
            hands = {} if body is None else self._find_hands(small, body)
            hands = {
                side: self._average(self._hand, self._packet(small), _size(small), hand)
                for side, hand in hands.items()
            }
            person = Person(face, body, hands)
            points, confidence, world, hand_world = person.layout(scale, _size(rgb))
            alpha = np.zeros((0, 0), np.float32)
            if matte:
                alpha = self._matte(rgb, small, person, points[:, :2], confidence, scale)
        keypoints = Keypoints(points[None, :, :2].copy(), confidence[None], _size(rgb))
        return Detection(keypoints, points[None, :, 2].copy(), world[None], hand_world[None], alpha[None], len(faces))

    def people_mask(self, rgb: Image) -> Array:
        """Where people are, (H, W) float32 in [0, 1]: coarse (256 pixels across) and quick, 0.01 s."""
        with _quiet():
            return np.array(self._selfie.process(np.ascontiguousarray(rgb)).segmentation_mask, np.float32)

    def video(self, frames: Iterable[Image], fps: float, matte: bool = False) -> Iterator[Detection]:
        """One `Detection` (F = 1) for each frame, as they come; needs `tracking=True`.

        A frame without a person has confidence 0 everywhere and NaN world points. Without `matte` the mattes are
        (1, 0, 0).
        """
        if not self.tracking:
            raise ValueError("this detector was made for single photos; build it with PersonDetector(tracking=True)")
        track = _Track()
        for rgb in frames:
            with _quiet():
                small, scale = _limited(rgb)
                packet = self._packet(small)
                face = None if track.face is None else self._face(packet, _size(small), track.face)
                faces = [face] if face is not None else self._find_faces(small)
                body = _read_body(self._pose.process(small), (0, 0), _size(small))
                if faces and body is not None:
                    faces.sort(key=lambda f: not body.owns(f.points))  # the body tracker chooses whom to follow
                track.face = face_region(faces[0].points) if faces else None
                hands = {} if body is None else self._track_hands(small, packet, body, track)
                person = Person(faces[0] if faces else None, body, hands)
                points, confidence, world, hand_world = person.layout(scale, _size(rgb))
                alpha = np.zeros((0, 0), np.float32)
                if matte and faces:
                    alpha = self._matte(rgb, small, person, points[:, :2], confidence, scale)
                elif matte:
                    alpha = np.zeros(_size(rgb), np.float32)
            keypoints = Keypoints(points[None, :, :2].copy(), confidence[None], _size(rgb), fps)
            yield Detection(
                keypoints, points[None, :, 2].copy(), world[None], hand_world[None], alpha[None], len(faces)
            )

    def _packet(self, image: Image) -> Any:
        return self._creator.create_image_frame(data=np.ascontiguousarray(image), image_format=self._format)

    def _find_faces(self, image: Image) -> list[Hand]:
        """All faces of the picture by their meshes, the largest first."""
        height, width = size = _size(image)
        packet = self._packet(image)
        regions = []
        for finder in self._finders:
            for face in finder.process(image).detections or ():
                box = face.location_data.relative_bounding_box
                right, left = face.location_data.relative_keypoints[:2]
                angle = np.arctan2((left.y - right.y) * height, (left.x - right.x) * width)
                side = max(box.width * width, box.height * height)
                centre = (box.xmin + box.width / 2) * width, (box.ymin + box.height / 2) * height
                regions.append(Region(*centre, 1.5 * side, float(angle)))
        faces: list[Hand] = []
        for region in sorted(regions, key=lambda r: -r.size):
            face = self._settle(self._face, packet, size, region)
            if face is not None:
                faces.append(face)
        return _distinct_faces(faces)

    def _find_small_faces(self, image: Image) -> list[Hand]:
        """Faces too small for the finders, in overlapping enlarged tiles."""
        height, width = _size(image)
        found: list[Hand] = []
        for parts in (2, 4):
            high, wide = int(SMALL_FACE * height / parts), int(SMALL_FACE * width / parts)
            if min(high, wide) < 48:
                break
            for top in np.linspace(0, height - high, 2 * parts - 1).astype(int):
                for left in np.linspace(0, width - wide, 2 * parts - 1).astype(int):
                    tile = np.ascontiguousarray(image[top : top + high, left : left + wide])
                    shift = np.array([left, top, 0], np.float32)
                    found += [replace(f, points=f.points + shift) for f in self._find_faces(tile)]
            if found:
                break
        return _distinct_faces(found)

    def _why_no_face(self, image: Image) -> str:
        """The one line for a picture without a face."""
        for quarter in (1, 3, 2):
            turned = np.ascontiguousarray(np.rot90(image, quarter))
            faces = self._find_faces(turned)
            body = _read_body(self._pose.process(turned), (0, 0), _size(turned)) if faces else None
            if body is not None and body.owns(faces[0].points) and abs(body.lean(faces[0].points)) < WRONG_LEAN:
                return ON_ITS_SIDE.format(180 if quarter == 2 else 90)
        # Without a face the body model seldom sees a person; the segmentation does.
        someone = float(np.mean(self._selfie.process(image).segmentation_mask)) > 0.1
        return NO_FACE if someone or self._pose.process(image).pose_landmarks is not None else NO_PERSON

    def _settle(self, model: _RegionModel, packet: Any, size: tuple[int, int], region: Region) -> Hand | None:
        """Ask, then ask twice more about the region that the answer itself implies, as a tracker would."""
        answer = model(packet, size, region)
        for _ in range(2):
            if answer is None:
                return None
            again = model(packet, size, (hand_region if model.hand else face_region)(answer.points))
            if again is None:
                return answer if model.hand else None
            answer = again
        return answer

    def _average(self, model: _RegionModel, packet: Any, size: tuple[int, int], first: Hand) -> Hand:
        """The median answer over slightly different regions: one answer is off by a hundredth of its region."""
        base = (hand_region if model.hand else face_region)(first.points)
        answers = []
        for grow, turn, right, down in JITTER:
            x, y = base.x + right * base.size, base.y + down * base.size
            answer = model(packet, size, Region(x, y, base.size * grow, base.angle + turn))
            if answer is not None:
                answers.append(answer)
        if len(answers) < 3:
            return first
        return Hand(
            np.median([a.points for a in answers], axis=0).astype(np.float32),
            np.median([a.world for a in answers], axis=0).astype(np.float32),
            float(np.mean([a.score for a in answers])),
            float(np.mean([a.right for a in answers])),
        )

    def _find_body(self, image: Image, face: Hand, others: list[Hand]) -> Body | None:
        """The body of the person with this face; None if the model never finds it (a close-up)."""
        height, width = size = _size(image)
        body = _read_body(self._pose.process(image), (0, 0), size)
        if body is not None and body.owns(face.points):
            return body
        # Somebody else was taken, or the person is small: hide the other heads, look only around this one.
        masked = image.copy()
        for other in others:
            x, y, side, _ = face_region(other.points)
            left, right, top, bottom = (int(v) for v in (x - side / 2, x + side / 2, y - side / 2, y + side / 2))
            masked[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = 127
        side = extent(face.points)
        x, y = (float(v) for v in face.points[:, :2].mean(axis=0))
        for wide, high in ((4.0, 7.0), (2.5, 5.0), (8.0, 12.0)):
            left, top = max(0, int(x - wide * side)), max(0, int(y - 2 * side))
            right, bottom = min(width, int(x + wide * side)), min(height, int(y + high * side))
            crop = np.ascontiguousarray(masked[top:bottom, left:right])
            body = _read_body(self._pose.process(crop), (left, top), size)
            if body is not None and body.owns(face.points):
                return body
        return None

    def _find_hands(
        self, image: Image, body: Body, seen: Iterable[Hand] = (), thorough: bool = True
    ) -> dict[str, Hand]:
        """The left and the right hand, each only if it is there; `seen` are answers to consider as well.

        A thorough search takes up to 0.4 s a hand, the other one 0.05 s.
        """
        height, width = size = _size(image)
        packet, unit = self._packet(image), body.unit
        wrists = {"left": body.points[15, :2], "right": body.points[16, :2]}
        regions = {}
        for side, (elbow, index, little) in {"left": (13, 19, 17), "right": (14, 20, 18)}.items():
            x, y = wrists[side]
            if -0.3 * unit < x < width + 0.3 * unit and -0.3 * unit < y < height + 0.3 * unit:
                knuckles = body.points[[index, little], :2].mean(axis=0)
                regions[side] = wrist_regions(body.points[elbow, :2], wrists[side], knuckles, unit)
        # First the likeliest region of each side; most hands are found there.
        answers = [*seen, *(self._settle(self._hand, packet, size, around[0]) for around in regions.values())]
        found = assign([h for h in answers if h is not None], wrists, unit)
        missing = [s for s in regions if s not in found or found[s].score < SURE or found[s].fits(s) < 0.7]
        for side in missing:
            if thorough:
                answers += [self._settle(self._hand, packet, size, region) for region in regions[side][1:]]
            for reach in (0.6, 1.0) if thorough else (0.8,):
                answers += self._find_palms(image, packet, regions[side][0], reach * unit)
        return assign([h for h in answers if h is not None], wrists, unit) if missing else found

    def _find_palms(self, image: Image, packet: Any, around: Region, reach: float) -> list[Hand | None]:
        """Hands that the palm detector sees in the enlarged square of half side `reach` in the middle of a region."""
        left, top = max(0, int(around.x - reach)), max(0, int(around.y - reach))
        crop = image[top : max(top, int(around.y + reach)), left : max(left, int(around.x + reach))]
        if min(crop.shape[:2]) < 8:
            return []
        factor = 384 / max(crop.shape[:2])  # the palm detector reads 192 pixels and likes palms of 40 and more
        enlarged = cv2.resize(crop, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        hands: list[Hand | None] = []
        for landmarks in self._palms.process(enlarged).multi_hand_landmarks or ():
            points = _xyz(landmarks) * np.array([crop.shape[1], crop.shape[0], crop.shape[1]], np.float32)
            region = hand_region(points + np.array([left, top, 0], np.float32))
            hands.append(self._settle(self._hand, packet, _size(image), region))
        return hands

    def _track_hands(self, image: Image, packet: Any, body: Body, track: _Track) -> dict[str, Hand]:
        """Hands where they were in the last frame; one that is lost is searched for now and then."""
        answers = [self._hand(packet, _size(image), region) for region in track.hands.values()]
        seen = [hand for hand in answers if hand is not None]
        found = assign(seen, {"left": body.points[15, :2], "right": body.points[16, :2]}, body.unit)
        lost = any(side not in found for side in track.hands)
        if lost or (len(found) < 2 and track.frame % SEARCH_EVERY == 0):
            found = self._find_hands(image, body, seen, thorough=track.frame == 0)
        track.hands = {side: hand_region(hand.points) for side, hand in found.items()}
        track.frame += 1
        return found

    def _matte(
        self, rgb: Image, small: Image, person: Person, points: Array, confidence: Array, scale: float
    ) -> Array:
        selfie = np.asarray(self._selfie.process(small).segmentation_mask, np.float32)
        mask = selfie if person.body is None else person.body.mask
        unit = float(np.linalg.norm(points[5] - points[6]))
        matte = person_matte(small, mask, selfie, points * np.float32(scale), confidence, unit * scale)
        if small.shape == rgb.shape:
            return matte
        return cv2.resize(matte, rgb.shape[1::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32)


def video_keypoints(path: str | Path, fps: float = 25.0, chunk: int = 50) -> Iterator[Keypoints]:
    """Keypoints of a driving video, resampled to `fps`, in chunks of at most `chunk` frames; memory stays bounded.

    Anything ffmpeg reads. ValueError: no such file, not a video, nobody in it.
    """
    parts: list[Keypoints] = []
    seen = False
    with PersonDetector(tracking=True) as detector:
        for detection in detector.video(read_video(path, fps), fps):
            parts.append(detection.keypoints)
            seen = seen or bool(detection.keypoints.confidence.any())
            if len(parts) == chunk:
                yield _joined(parts)
                parts = []
    if not seen:
        raise ValueError(f"{path}: {NO_PERSON.replace('photo', 'video')}")
    if parts:
        yield _joined(parts)


def _joined(parts: list[Keypoints]) -> Keypoints:
    points = np.concatenate([part.points for part in parts])
    return Keypoints(points, np.concatenate([part.confidence for part in parts]), parts[0].size, parts[0].fps)


def _size(image: Image) -> tuple[int, int]:
    return int(image.shape[0]), int(image.shape[1])


def _limited(rgb: Image) -> tuple[Image, float]:
    """The image at no more than MAX_SIDE a side, and by how much it was reduced."""
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f"image must be uint8 (H, W, 3) RGB, got {rgb.dtype} {rgb.shape}; read it with load_image")
    scale = MAX_SIDE / max(rgb.shape[:2])
    if scale >= 1:
        return np.ascontiguousarray(rgb), 1.0
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.uint8), scale


def _roll(face: Array) -> float:
    """How far the head is turned in the picture, radians, clockwise."""
    eyes = face[263, :2] - face[33, :2]
    return float(np.arctan2(eyes[1], eyes[0]))


def _distinct_faces(faces: list[Hand]) -> list[Hand]:
    """Every face once, the largest first."""
    kept: list[Hand] = []
    for face in sorted(faces, key=lambda f: -extent(f.points)):
        centre = face.points[:, :2].mean(axis=0)
        if all(np.linalg.norm(k.points[:, :2].mean(axis=0) - centre) > 0.5 * extent(k.points) for k in kept):
            kept.append(face)
    return kept


def _read_body(answer: Any, corner: tuple[int, int], size: tuple[int, int]) -> Body | None:
    """The pose graph's answer about a crop with its top-left `corner` (x, y), in the image of `size`."""
    if answer.pose_landmarks is None:
        return None
    mask = np.asarray(answer.segmentation_mask, np.float32)
    high, wide = mask.shape
    points = _xyz(answer.pose_landmarks) * np.array([wide, high, wide], np.float32)
    full = np.zeros(size, np.float32)
    full[corner[1] : corner[1] + high, corner[0] : corner[0] + wide] = mask
    return Body(
        points + np.array([*corner, 0], np.float32),
        np.array([p.visibility for p in answer.pose_landmarks.landmark], np.float32),
        _xyz(answer.pose_world_landmarks),
        full,
    )
