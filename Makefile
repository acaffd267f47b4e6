# One virtual environment, made once; every target installs what it needs and nothing twice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test check bench weights clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || \
		{ echo "Rhetor needs Python 3.10, 3.11 or 3.12; choose one with: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[train,eval,dev]"
	@touch $@

demo: $(STAMP)
	@mkdir -p out
	$(BIN)/python infer/run.py --image examples/presenter.png --audio examples/speech.wav --output out/demo.mp4

test: $(STAMP)
	$(BIN)/python -m pytest

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

bench: $(STAMP)
	$(BIN)/python benchmarks/video_flops.py --check
	$(BIN)/python benchmarks/video_step.py
	$(BIN)/python benchmarks/run_time.py

# Everything that ships, trained again from folders of photos, videos and speech: docs/weights.md. Hours; it resumes.
# How much of everything; LESS is put behind the settings of all trainers, for a short trial of the whole chain.
HOURS ?= 4
PROGRAMS ?= espeak,flite
SPEAKERS ?= 24
SPEAKERS_25 ?= 8
PEOPLE ?= 32
POSED ?= 240
VARIANTS ?= 12
COPIES ?= 3
LESS ?=

W := out/weights
SPACE := $(subst ,, )
COMMA := ,
NAMES = [$(subst $(SPACE),$(COMMA),$(strip $(HELD_OUT)))]
VIDEO = preset=default data.folders=[$(W)/repair,$(W)/people,$(W)/videos] data.prior_folder=$(W)/prior

weights: $(STAMP)
	@test -n "$(PHOTOS)" -a -n "$(VIDEOS)" -a -n "$(SPEECH)" -a -n "$(HUMANS)" || \
		{ echo "give folders: make weights PHOTOS=… VIDEOS=… SPEECH=… HUMANS=… HELD_OUT=\"name name\" (docs/weights.md)"; exit 2; }
	$(BIN)/python train/autoencoder.py configs/autoencoder.yaml data.folders=[$(PHOTOS),$(VIDEOS)] \
		data.held_out=$(NAMES) loop.output=$(W)/autoencoder_begin $(LESS)
	$(BIN)/python train/autoencoder.py configs/autoencoder.yaml data.folders=[$(PHOTOS),$(VIDEOS)] \
		data.held_out=$(NAMES) start=$(W)/autoencoder_begin/best loop.output=$(W)/autoencoder \
		loop.steps=26000 loop.learning_rate=1.2e-3 squares=15 data.swaps=0.1 $(LESS)
	test -f $(W)/speech/corpus.json || $(BIN)/python train/speech_corpus.py train/speech_sentences.txt $(W)/speech \
		--hours $(HOURS) --programs $(PROGRAMS)
	$(BIN)/python train/audio_encoder.py configs/audio_encoder.yaml data.folders=[$(W)/speech] loop.output=$(W)/audio $(LESS)
	$(BIN)/python train/speech_labels.py $(W)/audio/best $(W)/people_speech $(SPEECH)
	$(BIN)/python train/audio_encoder.py configs/audio_encoder.yaml preset=people start=$(W)/audio/best \
		data.folders=[$(W)/speech,$(W)/people_speech] loop.output=$(W)/audio_people $(LESS)
	$(BIN)/python train/procedural.py $(SPEECH) $(W)/gestures --speakers $(SPEAKERS)
	$(BIN)/python train/fgd.py configs/fgd.yaml data.folder=$(W)/gestures label=rhetor-procedural loop.steps=3000 \
		loop.output=$(W)/fgd $(LESS)
	$(BIN)/python train/procedural.py $(SPEECH) $(W)/gestures_25 --speakers $(SPEAKERS_25) --fps 25
	$(BIN)/python train/gesture.py configs/gesture_default.yaml data.folder=$(W)/gestures_25 loop.output=$(W)/gesture $(LESS)
	$(BIN)/python train/save_small.py $(W)/gesture/best $(W)/gesture_default
	$(BIN)/python train/render.py $(HUMANS) $(W)/people --people $(PEOPLE) --seconds 2 --speech $(SPEECH) --seed 1 \
		audio=configs/model_default.yaml
	$(BIN)/python train/render.py $(HUMANS) $(W)/posed --people $(POSED) --seconds 1 --speech $(SPEECH) --seed 2 \
		"arm_turns=[0.6,0.7,0.4]" audio=null identity_side=0 oversample=1.5
	$(BIN)/python train/prepare.py $(VIDEOS) $(W)/videos vae=null split.val_names=$(NAMES)
	$(BIN)/python train/repair.py $(PHOTOS) $(W)/repair --variants $(VARIANTS) --copies $(COPIES) --vae $(W)/autoencoder/best \
		--held-out $(HELD_OUT)
	$(BIN)/python -m train.layer_samples $(W)/layers $(W)/repair $(W)/people $(W)/posed $(W)/videos
	$(BIN)/python train/layer_choice.py configs/layer_choice.yaml data.folder=$(W)/layers loop.output=$(W)/layer_choice $(LESS)
	$(BIN)/python train/save_small.py $(W)/layer_choice/best $(W)/layers_small
	$(BIN)/python benchmarks/default_video.py $(W)/layers_small --repair $(W)/repair --clips $(W)/videos \
		--out $(W)/report_layers
	$(BIN)/python -m train.avatar_prior $(W)/people $(W)/videos --photos 2 --folder $(W)/prior
	$(BIN)/python train/avatar.py configs/avatar_stage1.yaml $(VIDEO) train=[basic] conditions.drop_reference=1 \
		"conditions.kinds={none: 1}" loop.batch_size=12 vae=$(W)/autoencoder/best \
		loop.output=$(W)/avatar_begin loop.steps=4000 $(LESS)
	$(BIN)/python train/avatar.py configs/avatar_stage1.yaml $(VIDEO) model=$(W)/avatar_begin/best reference_start=unet \
		loop.output=$(W)/avatar_stage1 loop.steps=4000 loop.learning_rate=4e-3 $(LESS)
	$(BIN)/python train/avatar.py configs/avatar_stage2.yaml $(VIDEO) model=$(W)/avatar_stage1/best \
		loop.output=$(W)/avatar_stage2 loop.steps=4000 $(LESS)
	$(BIN)/python benchmarks/default_video.py $(W)/avatar_stage2/best --repair $(W)/repair --clips $(W)/videos --out $(W)/report

clean:
	rm -rf $(VENV) out build *.egg-info
