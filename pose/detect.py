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
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.hand_search import Hand, Region, assign, face_region, hand_region
from pose.images import load_image, read_video
from pose.keypoints import Detection, Keypoints
from pose.matte import person_matte
from pose.person import Body, Person
from pose.search import Picture, average, find_body, find_faces, find_hands, find_small_faces

Array = NDArray[np.float32]
Image = NDArray[np.uint8]

__all__ = ["PersonDetector", "load_image", "video_keypoints"]

MAX_SIDE = 2048  # larger photos are detected at this size: the models read at most 256 pixels of a region
WRONG_LEAN = 1.0  # radians; a person turned further than this in the picture means a photo that lies on its side
SEARCH_EVERY = 5  # frames of a video between two searches for a hand that is not there
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

    def __call__(self, picture: Picture, region: Region) -> Hand | None:
        """The landmarks in the region (the face's as a `Hand` with 478 points and no world), None when absent."""
        height, width = picture.size
        self._packets.clear()
        self._time += 1
        rect = self._rect(
            x_center=region.x / width,
            y_center=region.y / height,
            width=region.size / width,
            height=region.size / height,
            rotation=region.angle,
        )
        self._graph.add_packet_to_input_stream("image", picture.packet.at(self._time))
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


class _MediaPipe:
    """All models (`pose.search.Models`); `tracking` makes the body model follow one person and smooth."""

    def __init__(self, tracking: bool) -> None:
        from mediapipe.python import packet_creator, solutions
        from mediapipe.python._framework_bindings.image_frame import ImageFormat

        self._creator, self._format = packet_creator, ImageFormat.SRGB
        # Not the holistic graph: it adds nothing to these, and its hands depend on earlier pictures.
        self._pose = solutions.pose.Pose(
            static_image_mode=not tracking, model_complexity=1, enable_segmentation=True, smooth_segmentation=tracking
        )
        self._finders = [solutions.face_detection.FaceDetection(0.4, model) for model in (0, 1)]
        self._selfie = solutions.selfie_segmentation.SelfieSegmentation(0)
        self._palms = solutions.hands.Hands(True, 2, 1, 0.3, 0.3)
        self._graphs = (self._pose, *self._finders, self._selfie, self._palms)
        for graph in self._graphs:
            graph._graph.wait_until_idle()  # its threads log while they start: let them do it unheard
        self.face, self.hand = _RegionModel("face"), _RegionModel("hand")

    def close(self) -> None:
        for graph in (*self._graphs, self.face, self.hand):
            graph.close()

    def picture(self, image: Image) -> Picture:
        image = np.ascontiguousarray(image)
        return Picture(image, self._creator.create_image_frame(data=image, image_format=self._format))

    def face_regions(self, image: Image) -> list[Region]:
        height, width = image.shape[:2]
        regions = []
        for finder in self._finders:
            for face in finder.process(image).detections or ():
                box = face.location_data.relative_bounding_box
                right, left = face.location_data.relative_keypoints[:2]
                angle = np.arctan2((left.y - right.y) * height, (left.x - right.x) * width)
                side = max(box.width * width, box.height * height)
                centre = (box.xmin + box.width / 2) * width, (box.ymin + box.height / 2) * height
                regions.append(Region(*centre, 1.5 * side, float(angle)))
        return regions

    def palms(self, image: Image) -> list[Array]:
        scale = np.array([image.shape[1], image.shape[0], image.shape[1]], np.float32)
        return [_xyz(hand) * scale for hand in self._palms.process(image).multi_hand_landmarks or ()]

    def body(self, image: Image, corner: tuple[int, int], size: tuple[int, int]) -> Body | None:
        answer = self._pose.process(image)
        if answer.pose_landmarks is None:
            return None
        high, wide = image.shape[:2]
        points = _xyz(answer.pose_landmarks) * np.array([wide, high, wide], np.float32)
        mask = np.zeros(size, np.float32)
        mask[corner[1] : corner[1] + high, corner[0] : corner[0] + wide] = answer.segmentation_mask
        return Body(
            points + np.array([*corner, 0], np.float32),
            np.array([p.visibility for p in answer.pose_landmarks.landmark], np.float32),
            _xyz(answer.pose_world_landmarks),
            mask,
        )

    def people(self, image: Image) -> Array:
        """Where people are, (H, W) in [0, 1]; 256 pixels across, enlarged."""
        return np.array(self._selfie.process(np.ascontiguousarray(image)).segmentation_mask, np.float32)


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
            self._models = _MediaPipe(tracking)

    def __enter__(self) -> PersonDetector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the graphs."""
        self._models.close()

    def image(self, rgb: Image, matte: bool = True) -> Detection:
        """The largest person in one photo, uint8 RGB (H, W, 3); F = 1. Without `matte` the matte is (1, 0, 0).

        ValueError in one line: nobody, only the back of a head, a photo that lies on its side.
        """
        if self.tracking:
            raise ValueError("this detector tracks a video; build one with PersonDetector() for a single photo")
        models = self._models
        with _quiet():
            small, scale = _limited(rgb)
            faces = find_faces(models, small)
            distant = not faces
            if distant:
                faces = find_small_faces(models, small)
            if not faces:
                raise ValueError(self._why_no_face(small))
            picture = models.picture(small)
            face = average(models.face, picture, faces[0])
            body = find_body(models, small, face, faces[1:])
            if body is None and distant:  # enlarged tiles show faces in cats and cups; a person there has a body too
                raise ValueError(self._why_no_face(small))
            lean = _roll(face.points) if body is None else body.lean(face.points)
            if abs(lean) > WRONG_LEAN:
                raise ValueError(ON_ITS_SIDE.format(180 if abs(lean) > 2.4 else 90))
            hands = {} if body is None else find_hands(models, picture, body)
            hands = {side: average(models.hand, picture, hand) for side, hand in hands.items()}
            person = Person(face, body, hands)
            points, confidence, world, hand_world = person.layout(scale, _size(rgb))
            alpha = np.zeros((0, 0), np.float32)
            if matte:
                alpha = self._matte(rgb, small, person, points[:, :2], confidence, scale)
        keypoints = Keypoints(points[None, :, :2].copy(), confidence[None], _size(rgb))
        return Detection(keypoints, points[None, :, 2].copy(), world[None], hand_world[None], alpha[None], len(faces))

    def faces(self, rgb: Image) -> Array:
        """Boxes (N, 4) of the faces that are easily found, x0 y0 x1 y1 in pixels, the largest first; 0.03 s."""
        with _quiet():
            small, scale = _limited(rgb)
            found = [face.points[:, :2] / np.float32(scale) for face in find_faces(self._models, small)]
        return np.array([[*points.min(axis=0), *points.max(axis=0)] for points in found], np.float32).reshape(-1, 4)

    def people_mask(self, rgb: Image) -> Array:
        """Where people are, (H, W) float32 in [0, 1]: coarse (256 pixels across) and quick, 0.01 s."""
        with _quiet():
            return self._models.people(rgb)

    def video(self, frames: Iterable[Image], fps: float, matte: int = 0) -> Iterator[Detection]:
        """One `Detection` (F = 1) for each frame, as they come; needs `tracking=True`.

        A frame without a person has confidence 0 everywhere and NaN world points. With `matte` = n every nth frame
        has a matte, from the first; the others' are (1, 0, 0).
        """
        if not self.tracking:
            raise ValueError("this detector was made for single photos; build it with PersonDetector(tracking=True)")
        models, track = self._models, _Track()
        for number, rgb in enumerate(frames):
            with _quiet():
                small, scale = _limited(rgb)
                picture = models.picture(small)
                face = None if track.face is None else models.face(picture, track.face)
                faces = [face] if face is not None else find_faces(models, small)
                body = models.body(small, (0, 0), picture.size)
                if faces and body is not None:
                    faces.sort(key=lambda f: not body.owns(f.points))  # the body tracker chooses whom to follow
                track.face = face_region(faces[0].points) if faces else None
                hands = {} if body is None else self._track_hands(picture, body, track)
                person = Person(faces[0] if faces else None, body, hands)
                points, confidence, world, hand_world = person.layout(scale, _size(rgb))
                alpha = np.zeros((0, 0), np.float32)
                wanted = matte and number % matte == 0
                if wanted and faces:
                    alpha = self._matte(rgb, small, person, points[:, :2], confidence, scale)
                elif wanted:
                    alpha = np.zeros(_size(rgb), np.float32)
            keypoints = Keypoints(points[None, :, :2].copy(), confidence[None], _size(rgb), fps)
            yield Detection(
                keypoints, points[None, :, 2].copy(), world[None], hand_world[None], alpha[None], len(faces)
            )

    def _why_no_face(self, image: Image) -> str:
        """The one line for a picture without a face."""
        for quarter in (1, 3, 2):
            turned = np.ascontiguousarray(np.rot90(image, quarter))
            faces = find_faces(self._models, turned)
            body = self._models.body(turned, (0, 0), _size(turned)) if faces else None
            if body is not None and body.owns(faces[0].points) and abs(body.lean(faces[0].points)) < WRONG_LEAN:
                return ON_ITS_SIDE.format(180 if quarter == 2 else 90)
        # Without a face the body model seldom sees a person; the segmentation does.
        someone = float(self._models.people(image).mean()) > 0.1
        return NO_FACE if someone or self._models.body(image, (0, 0), _size(image)) is not None else NO_PERSON

    def _track_hands(self, picture: Picture, body: Body, track: _Track) -> dict[str, Hand]:
        """Hands where they were in the last frame; one that is lost is searched for now and then."""
        answers = [self._models.hand(picture, region) for region in track.hands.values()]
        seen = [hand for hand in answers if hand is not None]
        found = assign(seen, {"left": body.points[15, :2], "right": body.points[16, :2]}, body.unit)
        lost = any(side not in found for side in track.hands)
        if lost or (len(found) < 2 and track.frame % SEARCH_EVERY == 0):
            found = find_hands(self._models, picture, body, seen, thorough=track.frame == 0)
        track.hands = {side: hand_region(hand.points) for side, hand in found.items()}
        track.frame += 1
        return found

    def _matte(
        self, rgb: Image, small: Image, person: Person, points: Array, confidence: Array, scale: float
    ) -> Array:
        selfie = self._models.people(small)
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
