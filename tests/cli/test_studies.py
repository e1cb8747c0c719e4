"""The studies of sweeps/: each composes at every size, and has the trials its comment promises."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict

from myosotis.cli import multirun, studies
from myosotis.cli.sequence import has_stages
from myosotis.commands.sequence import planned
from myosotis.config import check, compose, config_hash, register_resolvers
from myosotis.config.compose import hydra_on

FOLDER = Path(__file__).parents[2] / "sweeps"
TRIALS = {
    "ablation": 7,
    "controls": 30,
    "dpo_beta": 5,
    "lr_full_vs_lora": 14,
    "methods": 8,
    "pareto": 24,
    "rank_lr": 15,
    "replay_dose": 6,
    "targets": 3,
}
STAGES = {"in_turn": ["numbers", "models", "web"]}
"""Of studies of trainings one after another."""

SIZES = ("glance", "small", "large")


def composed(name: str, *words: str, every: bool = True) -> tuple[int | None, list[Any]]:
    """The number of trials a study says it has, and their configs: of all, or of the first and last
    (of one, where it searches). Composing takes a tenth of a second each.
    """
    register_resolvers()
    with hydra_on(str(FOLDER)) as hydra:
        cfg = hydra.compose_config(name, list(words), RunMode.MULTIRUN, from_shell=True)
        assert cfg.hydra.sweep.dir  # as when a sweep opens: the name holds for all its jobs
        params = [f"{key}={value}" for key, value in cfg.hydra.sweeper.params.items()]
        jobs: list[list[str]] = [["update.r=4"]]
        if cfg.hydra.sweeper._target_.endswith("BasicSweeper"):
            parsed = OverridesParser.create().parse_overrides([*params, *words])
            (jobs,) = BasicSweeper.split_arguments(parsed, None)
        chosen = jobs if every else jobs[:: max(len(jobs) - 1, 1)]
        load = hydra.config_loader.load_sweep_config
        return multirun.count(cfg.hydra), [load(cfg, job) for job in chosen]


def test_every_study_is_known() -> None:
    known = {*TRIALS, *STAGES}
    assert {path.stem for path in FOLDER.glob("*.yaml")} == known == set(studies.packaged())
    assert {name for name in known if has_stages(FOLDER / f"{name}.yaml")} == set(STAGES)


@pytest.mark.parametrize("name", sorted(TRIALS))
@pytest.mark.parametrize("size", SIZES)
def test_a_study_composes_at_every_size(name: str, size: str) -> None:
    if name == "pareto":
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    every = size == "small" and TRIALS[name] <= 8
    number, jobs = composed(name, f"experiment={size}", every=every)
    assert number == TRIALS[name]
    assert len(jobs) == (number if every else 1 if name == "pareto" else 2)
    folders = {OmegaConf.select(job, "hydra.sweep.subdir") for job in jobs}
    assert len(folders) == len(jobs), "two trials would share a folder"
    (sweep_folder,) = {OmegaConf.select(job, "hydra.sweep.dir") for job in jobs}
    assert re.fullmatch(rf"multirun/{name}-[0-9a-f]{{8}}", sweep_folder)
    for job in jobs:
        with open_dict(job):
            del job["hydra"]
        assert check(job) is not None
        assert config_hash(job) in folders


@pytest.mark.parametrize("name", sorted(STAGES))
@pytest.mark.parametrize("size", SIZES)
def test_the_stages_of_a_study_compose_at_every_size(name: str, size: str, tmp_path: Path) -> None:
    def composed(words: Sequence[str]) -> Any:
        return compose([f"experiment={size}", *words], name, str(FOLDER))

    runs = planned(OmegaConf.to_container(composed([]).stages), composed, tmp_path)
    assert [run.name for run in runs] == STAGES[name]
    assert len({config_hash(run.cfg) for run in runs}) == len(runs)


@pytest.mark.parametrize("name", sorted([*TRIALS, *STAGES]))
def test_a_study_says_what_it_asks_and_how_it_is_run(name: str) -> None:
    text = (FOLDER / f"{name}.yaml").read_text()
    comment = "".join(line for line in text.splitlines(True) if line.startswith("#"))
    assert "?" in comment.split("myosotis sweep")[0]
    for size in ("experiment=glance", "experiment=large"):
        assert re.search(rf"myosotis sweep {name}\b.*{size}", comment)


def test_seeds_multiply_the_trials() -> None:
    number, (first, last) = composed("rank_lr", "seed=0,1,2", every=False)
    assert number == 3 * 5 * 3
    assert (first["update"].r, first.optimizer.lr, first.seed) == (4, 5e-5, 0)
    assert (last["update"].r, last.optimizer.lr, last.seed) == (64, 5e-3, 2)


def test_targets_train_as_many_parameters_each() -> None:
    """SmolLM2-135M, 30 layers: r(d_in + d_out) each of q, k, v, o (576 wide, 192 for k and v), and
    of the three of the MLP (576 and 1536).
    """
    attention, mlp = 30 * (2 * (576 + 576) + 2 * (576 + 192)), 30 * 3 * (576 + 1536)
    each = {"attention": attention, "mlp": mlp, "all-linear": attention + mlp}
    _, jobs = composed("targets")
    sizes = [job["update"].r * each[job["update"].target_modules] for job in jobs]
    assert len(sizes) == 3
    assert max(sizes) / min(sizes) < 1.005
