"""Every command on a page runs: it is taken from there and composed as the shell would give it."""

from __future__ import annotations

import re
import shlex
from html import unescape
from pathlib import Path

import pytest
from hydra.types import RunMode
from omegaconf import open_dict

from myosotis.cli import studies
from myosotis.config import check, register_resolvers
from myosotis.config.compose import hydra_on
from myosotis.records.schema import RunRecord
from myosotis.report.scorecard import render_html

from . import made
from .kept import read

ROOT = Path(__file__).parents[2]


def commands(page: str) -> list[str]:
    blocks = re.findall(r'<pre class="command" tabindex="0"><code>(.*?)</code>', page, re.S)
    return [line for block in blocks for line in unescape(block).splitlines() if line]


def composed(printed: list[str]) -> int:
    """How many different commands compose and pass the check that comes before any weights; raises
    what the command line would refuse."""
    register_resolvers()
    of_config: dict[tuple[str | None, str], list[list[str]]] = {}
    for command in dict.fromkeys(printed):
        program, name, *words = shlex.split(command)
        assert program == "myosotis" and name in ("train", "sweep")
        config: tuple[str | None, str] = (None, "train")
        if name == "sweep":
            path = studies.found(words.pop(0))
            config = (str(path.parent), path.stem)
        of_config.setdefault(config, []).append(words)
    for (folder, config_name), given in of_config.items():
        with hydra_on(folder) as hydra:
            # As Hydra composes the jobs of a sweep: once in full, then a tenth of a second each.
            whole = hydra.compose_config(config_name, [], RunMode.MULTIRUN, from_shell=True)
            for words in given:
                cfg = hydra.config_loader.load_sweep_config(whole, words)
                assert cfg.hydra.mode in (RunMode.RUN, None), "one trial, not the whole sweep"
                with open_dict(cfg):
                    del cfg["hydra"]
                check(cfg)
    return sum(map(len, of_config.values()))


def test_every_command_of_the_kept_sweep_composes():
    records = read(ROOT / "reports/rank_lr")
    printed = commands(render_html(records))
    assert all(command.startswith("myosotis sweep rank_lr ") for command in printed)
    assert composed(printed) == len(records)


def test_every_command_of_a_made_sweep_composes():
    assert composed(commands(render_html([*made.rank_lr()[:3], *made.methods()]))) == 8


@pytest.mark.parametrize(
    ("once", "now"),
    [
        ("myosotis train rank_lr seed=1", "myosotis sweep rank_lr seed=1"),
        ("myosotis train method=lora seed=1", "myosotis train method=lora seed=1"),
        ("myosotis train -m seed=1,2", "myosotis train -m seed=1,2"),
        ("myosotis train ~callbacks seed=1", "myosotis train ~callbacks seed=1"),
        ("myosotis train", "myosotis train"),
        ("myosotis evaluate MODEL", "myosotis evaluate MODEL"),
    ],
)
def test_a_trial_of_an_older_record_is_written_as_it_runs_today(once: str, now: str):
    record = RunRecord("x", command=once.split())
    assert RunRecord.from_json(record.to_json()).command == now.split()
