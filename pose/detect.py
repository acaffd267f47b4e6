"""Body, hands, face and matte of the largest person in a photo or a video, with MediaPipe's own models.

Everything comes from the models inside the MediaPipe 0.10.21 wheel. One pass of the holistic graph gives the body;
hands and face are then located again by MediaPipe's landmark models on regions that we choose (pose/hand_search.py),
because the holistic graph misses visible hands and gives no score. Deterministic: the same picture, the same numbers.

Letters: F frames, H W image size, K = 543 keypoints (pose/keypoints.py). Pixels, x right, y down.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.hand_search import (
    Hand,
    Region,
    assign,
    face_region,
    hand_region,
    wrist_regions,
)
from pose.images import load_image
from pose.keypoints import COUNT, FACE, HANDS, Detection, Keypoints
from pose.matte import person_matte

Array = NDArray[np.float32]
Image = NDArray[np.uint8]

__all__ = ["PersonDetector", "load_image", "video_keypoints"]

MAX_SIDE = 2048  # larger photos are detected at this size: the models read at most 256 pixels of a region
PRESENCE = 0.5  # MediaPipe's own threshold for "this region holds a face", "holds a hand"
# MediaPipe's 33 body landmarks for our 23 names; it has no small toe, whose confidence is therefore 0.
BODY_FROM_33 = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28, 31, 31, 29, 32, 32, 30)
NO_SMALL_TOE = [18, 21]
OUTSIDE = 0.2  # factor on the confidence of points beyond the image's border
WRONG_ROLL = 1.0  # radians; a head turned further than this in the picture means a photo that lies on its side
NO_PERSON = "no person found; give a photo that shows one person's face and upper body, well lit and upright"
NO_FACE = "a person is there but no face (seen from behind, or covered); give a photo with the face to the camera"
ON_ITS_SIDE = "the photo seems rotated by {} degrees; turn it upright and save it again"

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
    lost: int = 0  # frames since the last full search for a missing hand


class PersonDetector:
    """Finds the largest person. A context manager: MediaPipe's graphs hold threads until closed.

    `tracking=True` for consecutive frames of a video: the body is tracked and smoothed, face and hands are looked for
    where they were.
    """

    def __init__(self, tracking: bool = False) -> None:
        with _quiet():
            from mediapipe.python import packet_creator, solutions
            from mediapipe.python._framework_bindings.image_frame import ImageFormat

            self._creator, self._format = packet_creator, ImageFormat.SRGB
            self._solutions = solutions
            self._holistic = self._new_holistic(tracking)
            self._finders = [solutions.face_detection.FaceDetection(0.4, model) for model in (0, 1)]
            self._selfie = solutions.selfie_segmentation.SelfieSegmentation(0)
            self._face, self._hand = _RegionModel("face"), _RegionModel("hand")
            self._palms = solutions.hands.Hands(True, 2, 1, 0.3, 0.3)
            for graph in (self._holistic, *self._finders, self._selfie, self._palms):
                graph._graph.wait_until_idle()  # its threads log while they start: let them do it unheard
        self.tracking = tracking

    def _new_holistic(self, tracking: bool) -> Any:
        return self._solutions.holistic.Holistic(
            static_image_mode=not tracking, model_complexity=1, enable_segmentation=True, smooth_segmentation=tracking
        )

    def __enter__(self) -> PersonDetector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the graphs."""
        for graph in (self._holistic, *self._finders, self._selfie, self._palms, self._face, self._hand):
            graph.close()

    def image(self, rgb: Image) -> Detection:
        """The largest person in one photo, uint8 RGB (H, W, 3); F = 1.

        ValueError in one line: nobody, only the back of a head, a photo that lies on its side.
        """
        with _quiet():
            small, scale = _limited(rgb)
            faces = self._find_faces(small)
            if not faces:
                raise ValueError(self._why_no_face(small))
            roll = _roll(faces[0].points)
            if abs(roll) > WRONG_ROLL:
                raise ValueError(ON_ITS_SIDE.format(180 if abs(roll) > 2.4 else 90))
            found = self._person(small, faces, self._holistic, None)
            return self._detection(rgb, found, scale, len(faces), matte=True)

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
                face = None
                if track.face is not None:
                    face = self._face(self._packet(small), small.shape[:2], track.face)
                faces = [face] if face is not None else self._find_faces(small)
                found = self._person(small, faces, self._holistic, track)
                detection = self._detection(rgb, found, scale, len(faces), matte)
            yield Detection(
                Keypoints(detection.keypoints.points, detection.keypoints.confidence, rgb.shape[:2], fps),
                detection.depth, detection.world, detection.hand_world, detection.matte, detection.people,
            )  # fmt: skip

    # -- stages ----------------------------------------------------------------------------------------------------

    def _packet(self, image: Image) -> Any:
        return self._creator.create_image_frame(data=np.ascontiguousarray(image), image_format=self._format)

    def _find_faces(self, image: Image) -> list[Hand]:
        """All faces of the picture by their meshes, the largest first."""
        height, width = size = image.shape[:2]
        packet = self._packet(image)
        regions = []
        for finder in self._finders:
            for face in finder.process(image).detections or ():
                box = face.location_data.relative_bounding_box
                eyes = [(p.x * width, p.y * height) for p in face.location_data.relative_keypoints[:2]]
                angle = np.arctan2(eyes[1][1] - eyes[0][1], eyes[1][0] - eyes[0][0])
                side = max(box.width * width, box.height * height)
                centre = (box.xmin + box.width / 2) * width, (box.ymin + box.height / 2) * height
                regions.append(Region(*centre, 1.5 * side, float(angle)))
        faces: list[Hand] = []
        for region in sorted(regions, key=lambda r: -r.size):
            face = self._settle(self._face, packet, size, region)
            if face is None:
                continue
            centre, extent = face.points[:, :2].mean(0), _extent(face.points)
            others = [np.linalg.norm(f.points[:, :2].mean(0) - centre) / max(extent, _extent(f.points)) for f in faces]
            if min(others, default=1.0) > 0.5:
                faces.append(face)
        return sorted(faces, key=lambda f: -_extent(f.points))

    def _settle(self, model: _RegionModel, packet: Any, size: tuple[int, int], region: Region) -> Hand | None:
        """Ask, then ask twice more about the region that the answer itself implies, as a tracker would."""
        follow = hand_region if model.hand else face_region
        answer = model(packet, size, region)
        for _ in range(2):
            if answer is None:
                return None
            better = model(packet, size, follow(answer.points))
            if better is None:
                return answer if model.hand else None
            answer = better
        return answer

    def _average(self, model: _RegionModel, packet: Any, size: tuple[int, int], first: Hand) -> Hand:
        """The median answer over slightly different regions: one answer is off by a hundredth of its region."""
        base = (hand_region if model.hand else face_region)(first.points)
        answers = []
        for grow, turn, right, down in (
            (1.0, 0.0, 0.0, 0.0), (0.93, 0.12, 0.01, 0.0), (1.07, -0.12, -0.01, 0.0),
            (1.0, -0.2, 0.0, 0.015), (1.0, 0.2, 0.0, -0.015), (1.12, 0.0, 0.0, 0.0),
        ):  # fmt: skip
            region = Region(base.x + right * base.size, base.y + down * base.size, base.size * grow, base.angle + turn)
            answer = model(packet, size, region)
            if answer is not None:
                answers.append(answer)
        if len(answers) < 3:
            return first
        return Hand(
            np.median([a.points for a in answers], axis=0).astype(np.float32),
            np.mean([a.world for a in answers], axis=0).astype(np.float32),
            float(np.mean([a.score for a in answers])),
            float(np.mean([a.right for a in answers])),
        )

    def _person(self, image: Image, faces: list[Hand], holistic: Any, track: _Track | None) -> dict[str, Any]:
        """Everything about the first of `faces` in one image: raw answers in the image's pixels."""
        height, width = size = image.shape[:2]
        packet = self._packet(image)
        face = faces[0] if faces else None
        body = self._body(image, face, faces[1:], holistic, track is not None)
        if face is not None and track is None:
            face = self._average(self._face, packet, size, face)
        if track is not None:
            track.face = None if face is None else face_region(face.points)
        if body is None:
            return {"face": face, "body": None, "hands": {}}
        hands = self._hands(image, packet, body, track)
        if track is None:
            hands = {side: self._average(self._hand, packet, size, hand) for side, hand in hands.items()}
        return {"face": face, "hands": hands, "body": body}

    def _body(
        self, image: Image, face: Hand | None, others: list[Hand], holistic: Any, tracking: bool
    ) -> dict[str, Any] | None:
        """The body model's answer for the person with this face: points (33, 3) pixels, visibility, world, mask."""
        height, width = image.shape[:2]
        body = _read_body(holistic.process(image), (0, 0), (height, width))
        if tracking or face is None or (body is not None and _belongs(body, face)):
            return body
        # Somebody else was taken: hide the other heads, look only around this one.
        masked = image.copy()
        for other in others:
            region = face_region(other.points)
            half = int(0.6 * region.size)
            x, y = int(region.x), int(region.y)
            masked[max(0, y - half) : y + half, max(0, x - half) : x + half] = 127
        side = _extent(face.points)
        x, y = face.points[:, :2].mean(axis=0)
        for wide, high in ((4.0, 7.0), (2.5, 5.0), (8.0, 12.0)):
            left, top = max(0, int(x - wide * side)), max(0, int(y - 2 * side))
            right, bottom = min(width, int(x + wide * side)), min(height, int(y + high * side))
            crop = np.ascontiguousarray(masked[top:bottom, left:right])
            body = _read_body(holistic.process(crop), (left, top), (height, width))
            if body is not None and _belongs(body, face):
                return body
        return None

    def _hands(self, image: Image, packet: Any, body: dict[str, Any], track: _Track | None) -> dict[str, Hand]:
        """The left and the right hand, each only if seen."""
        height, width = size = image.shape[:2]
        points, unit = body["points"], body["unit"]
        wrists = {"left": points[15, :2], "right": points[16, :2]}
        hands: list[Hand | None] = []
        if track is not None:
            kept = [self._hand(packet, size, region) for region in track.hands.values()]
            found = assign([h for h in kept if h is not None], wrists, unit)
            track.lost += 1
            missing = [s for s in wrists if s not in found and body["visibility"][15 + (s == "right")] > 0.3]
            if not missing or track.lost < 5 and len(found) == len(track.hands) and track.hands:
                track.hands = {side: hand_region(hand.points) for side, hand in found.items()}
                return found
            track.lost = 0
            hands += kept
        hands += [self._settle(self._hand, packet, size, region) for region in body["hand_regions"]]
        easy = assign([h for h in hands if h is not None], wrists, unit)
        for side, (elbow, wrist, index, little) in {"left": (13, 15, 19, 17), "right": (14, 16, 20, 18)}.items():
            if side in easy and easy[side].score > 0.9 and easy[side].fits(side) > 0.7 and len(hands) >= 2:
                continue
            if not (-0.3 * unit < wrists[side][0] < width + 0.3 * unit and wrists[side][1] < height + 0.3 * unit):
                continue
            knuckles = points[[index, little], :2].mean(axis=0)
            regions = wrist_regions(points[elbow, :2], points[wrist, :2], knuckles, unit)
            hands += [self._settle(self._hand, packet, size, region) for region in regions]
            for reach in (0.6, 1.0):
                hands += self._palm_search(image, packet, points[wrist, :2] * 0.5 + knuckles * 0.5, reach * unit)
        found = assign([h for h in hands if h is not None], wrists, unit)
        if track is not None:
            track.hands = {side: hand_region(hand.points) for side, hand in found.items()}
        return found

    def _palm_search(self, image: Image, packet: Any, centre: Array, reach: float) -> list[Hand | None]:
        """Hands that the palm detector sees in the enlarged square of half side `reach` around `centre`."""
        height, width = size = image.shape[:2]
        left, top = max(0, int(centre[0] - reach)), max(0, int(centre[1] - reach))
        crop = image[top : max(top, int(centre[1] + reach)), left : max(left, int(centre[0] + reach))]
        if min(crop.shape[:2]) < 8:
            return []
        factor = 384 / max(crop.shape[:2])
        large = cv2.resize(crop, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        answer = self._palms.process(large)
        hands: list[Hand | None] = []
        for landmarks in answer.multi_hand_landmarks or ():
            points = _xyz(landmarks) * np.array([crop.shape[1], crop.shape[0], crop.shape[1]]) + [left, top, 0]
            hands.append(self._settle(self._hand, packet, size, hand_region(points.astype(np.float32))))
        return hands

    def _why_no_face(self, image: Image) -> str:
        """The one line for a picture without a face."""
        for quarter in (1, 3, 2):
            if self._find_faces(np.ascontiguousarray(np.rot90(image, quarter))):
                return ON_ITS_SIDE.format(180 if quarter == 2 else 90)
        body = _read_body(self._holistic.process(image), (0, 0), image.shape[:2])
        return NO_PERSON if body is None or body["visibility"][[11, 12]].min() < 0.5 else NO_FACE

    def _detection(self, rgb: Image, found: dict[str, Any], scale: float, people: int, matte: bool) -> Detection:
        """Our layout from the raw answers, which are in pixels of the image reduced by `scale`."""
        height, width = rgb.shape[:2]
        points = np.zeros((COUNT, 3), np.float32)
        confidence = np.zeros(COUNT, np.float32)
        hand_world = np.full((2, 21, 3), np.nan, np.float32)
        world = np.full((33, 3), np.nan, np.float32)
        face, body, hands = found["face"], found["body"], found["hands"]
        if body is not None:
            points[:23] = body["points"][list(BODY_FROM_33)]
            confidence[:23] = body["visibility"][list(BODY_FROM_33)]
            confidence[NO_SMALL_TOE] = 0.0
            world = body["world"]
        elif face is not None:
            points[:23], confidence[:23] = _body_from_face(face.points)
        if face is not None:
            points[FACE] = face.points
            confidence[FACE] = face.score
            # The mesh is far more exact than the body model at nose and eyes; depth stays the body's.
            points[0, :2] = face.points[4, :2]
            points[1, :2], points[2, :2] = face.points[473, :2], face.points[468, :2]
            confidence[:3] = np.maximum(confidence[:3], face.score)
        for number, (side, part) in enumerate(HANDS.items()):
            if side in hands:
                points[part] = hands[side].points
                confidence[part] = hands[side].score
                points[9 + number, :2] = hands[side].points[0, :2]
                confidence[9 + number] = max(confidence[9 + number], hands[side].score)
                hand_world[number] = hands[side].world
            elif body is not None:  # finite and near the arm, though unknown
                points[part, :2] = points[9 + number, :2]
        points /= scale
        outside = (points[:, :2] < 0).any(axis=1) | (points[:, 0] > width) | (points[:, 1] > height)
        confidence[outside] *= OUTSIDE
        alpha = np.zeros((0, 0), np.float32)
        if matte:
            alpha = self._matte(rgb, body, points[:, :2], confidence, scale)
        keypoints = Keypoints(points[None, :, :2].copy(), confidence[None], (height, width))
        return Detection(keypoints, points[None, :, 2].copy(), world[None], hand_world[None], alpha[None], people)

    def _matte(self, rgb: Image, body: dict[str, Any] | None, points: Array, confidence: Array, scale: float) -> Array:
        small, _ = _limited(rgb)
        selfie = np.asarray(self._selfie.process(small).segmentation_mask, np.float32)
        mask = selfie if body is None else body["mask"]
        unit = float(np.linalg.norm(points[5] - points[6]))
        alpha = person_matte(small, mask, selfie, points * scale, confidence, unit * scale)
        if alpha.shape != rgb.shape[:2]:
            alpha = cv2.resize(alpha, rgb.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        return alpha


def _limited(rgb: Image) -> tuple[Image, float]:
    """The image at no more than MAX_SIDE a side, and by how much it was reduced."""
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f"image must be uint8 (H, W, 3) RGB, got {rgb.dtype} {rgb.shape}; read it with load_image")
    scale = MAX_SIDE / max(rgb.shape[:2])
    if scale >= 1:
        return np.ascontiguousarray(rgb), 1.0
    size = (round(rgb.shape[1] * scale), round(rgb.shape[0] * scale))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), scale


def _extent(points: Array) -> float:
    """Side of the bounding box of points, pixels."""
    return float(np.ptp(points[:, :2], axis=0).max())


def _roll(face: Array) -> float:
    """How far the head is turned in the picture, radians, clockwise."""
    eyes = face[263, :2] - face[33, :2]
    return float(np.arctan2(eyes[1], eyes[0]))


def _belongs(body: dict[str, Any], face: Hand) -> bool:
    """Whether this body's head is that face."""
    head = body["points"][:11, :2].mean(axis=0)
    return bool(np.linalg.norm(head - face.points[:, :2].mean(axis=0)) < 0.6 * _extent(face.points))


def _read_body(answer: Any, corner: tuple[int, int], size: tuple[int, int]) -> dict[str, Any] | None:
    """The holistic graph's answer about a crop with its top-left `corner`, in the pixels of the image of `size`."""
    if answer.pose_landmarks is None:
        return None
    mask = np.asarray(answer.segmentation_mask, np.float32)
    high, wide = mask.shape
    stretch, shift = np.array([wide, high, wide], np.float32), np.array([*corner, 0], np.float32)
    points = _xyz(answer.pose_landmarks) * stretch + shift
    full = np.zeros(size, np.float32)
    full[corner[1] : corner[1] + high, corner[0] : corner[0] + wide] = mask
    hands = [h for h in (answer.left_hand_landmarks, answer.right_hand_landmarks) if h is not None]
    return {
        "points": points,
        "visibility": np.array([p.visibility for p in answer.pose_landmarks.landmark], np.float32),
        "world": _xyz(answer.pose_world_landmarks),
        "mask": full,
        "unit": max(float(np.linalg.norm(points[11, :2] - points[12, :2])), 8.0),
        "hand_regions": [hand_region(_xyz(h) * stretch + shift) for h in hands],
    }


def _body_from_face(face: Array) -> tuple[Array, Array]:
    """A guess at the body (23, 3) for a close-up whose body was not found: ordinary proportions, low confidence."""
    size = _extent(face)
    x, y = face[:, :2].mean(axis=0)
    points = np.zeros((23, 3), np.float32)
    places = {5: (0.9, 1.15), 6: (-0.9, 1.15), 7: (1.1, 2.5), 8: (-1.1, 2.5), 9: (1.1, 3.7), 10: (-1.1, 3.7),
              11: (0.6, 3.6), 12: (-0.6, 3.6), 3: (0.5, 0.0), 4: (-0.5, 0.0)}  # fmt: skip
    for index in range(23):
        right, down = places.get(index, (0.0, 6.0))
        points[index, :2] = x + right * size, y + down * size
    confidence = np.zeros(23, np.float32)
    confidence[[5, 6]] = 0.3
    return points, confidence


def video_keypoints(path: str | Path, fps: float = 25.0, chunk: int = 50) -> Iterator[Keypoints]:
    """Keypoints of a driving video, resampled to `fps`, in chunks of at most `chunk` frames; memory stays bounded.

    Anything ffmpeg reads. ValueError: no such file, not a video, nobody in it.
    """
    import imageio_ffmpeg

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no such video: {path}; check the path")
    reader = imageio_ffmpeg.read_frames(str(path), output_params=["-vf", f"fps={fps}", "-an"])
    try:
        width, height = next(reader)["size"]
    except (OSError, RuntimeError, StopIteration, KeyError):
        raise ValueError(f"{path} is not a video that ffmpeg can read; convert it to mp4") from None
    frames = (np.frombuffer(data, np.uint8).reshape(height, width, 3) for data in reader)
    seen = False
    with PersonDetector(tracking=True) as detector:
        points: list[Array] = []
        confidence: list[Array] = []
        for detection in detector.video(frames, fps):
            points.append(detection.keypoints.points)
            confidence.append(detection.keypoints.confidence)
            seen = seen or bool(detection.keypoints.confidence.any())
            if len(points) == chunk:
                yield Keypoints(np.concatenate(points), np.concatenate(confidence), (height, width), fps)
                points, confidence = [], []
        if points:
            yield Keypoints(np.concatenate(points), np.concatenate(confidence), (height, width), fps)
    if not seen:
        raise ValueError(f"{path}: {NO_PERSON.replace('photo', 'video')}")
