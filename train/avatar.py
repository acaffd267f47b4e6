"""Train the video stage: stage 1 on pairs of frames, then stage 2 on clips with sound.

    accelerate launch train/avatar.py configs/avatar_stage1.yaml preset=default data.folders=[DATA]
    accelerate launch train/avatar.py configs/avatar_stage2.yaml preset=default data.folders=[DATA] \\
        model=out/avatar_stage1_default/best

DATA is what train/prepare.py wrote. Any choice of the file can be changed by `key=value`; the same command again
resumes, also on another number of processes. A checkpoint is a folder that infer/run.py --model runs. docs/training.md
has memory, times and launch commands for one to many GPUs; the choices are in train/avatar_training.py.
"""

import sys
from pathlib import Path

# A script of this folder has the folder first on its path, where this file would be taken for the package `avatar`.
sys.path[:] = [place for place in sys.path if Path(place).resolve() != Path(__file__).resolve().parent]
if __name__ == "avatar":
    del sys.modules["avatar"]
    import avatar  # noqa: F401 (the package, which the importer now gets)
elif sys.argv[1:2] in (["-h"], ["--help"]):
    print(__doc__)
else:
    from train.avatar_training import main

    if __name__ == "__main__":
        sys.exit(main())
