"""Evaluate motion or video.

python infer/evaluate.py gesture GENERATED --reference TRUE --audio SPEECH --output OUT
python infer/evaluate.py video …

`gesture --help` and `video --help` tell the rest.
"""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> int:
    """Hands over to infer.evaluate_gesture or infer.evaluate_video, which load what they need themselves."""
    arguments = sys.argv[1:] if argv is None else argv
    kind = arguments[0] if arguments else "--help"
    if kind == "gesture":
        from infer.evaluate_gesture import main as gesture

        return gesture(arguments[1:])
    if kind == "video":
        from infer.evaluate_video import main as video

        return video(arguments[1:])
    if kind in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    print(f"evaluate.py: the first word must be gesture or video, got {kind!r}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
