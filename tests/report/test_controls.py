"""Controls on the pages: what sets settings of a sweep apart, and a line of a run."""

from __future__ import annotations

from typing import Any

from myosotis.records.schema import ControlInfo, RunRecord
from myosotis.report.details import cost
from myosotis.report.grouping import leaves_of, study
from myosotis.report.overview import grey_line
from myosotis.report.scorecard import render_html
from tests.report.made import trial

REPLAY = {"_target_": "myosotis.controls.replay.Replay", "ratio": 0.01, "texts": "prose"}
KL = {"_target_": "myosotis.controls.kl.KL", "coef": 1.0, "texts": "prose"}


def run(seed: int, control: dict[str, Any] | None) -> RunRecord:
    record = trial("lora", 16, 1e-3, seed)
    if control is not None:
        record.config["control"] = control
    return record


def labels(*controls: dict[str, Any] | None) -> list[str]:
    found = study([run(seed, control) for control in controls for seed in (0, 1)])
    assert all(len(group.runs) == 2 for group in found.groups)
    return [group.label for group in found.groups]


def test_settings_of_a_sweep_are_named_by_their_controls() -> None:
    """A key that follows from the names says nothing more."""
    assert labels({}, {"replay": REPLAY}, {"replay": REPLAY, "kl": KL}) == [
        "lora control=none",
        "lora control=replay",
        "lora control=replay+kl",
    ]


def test_doses_are_named_by_their_ratio_and_drawn_along_it() -> None:
    doses = [{"replay": {**REPLAY, "ratio": ratio}} for ratio in (0, 0.01, 0.1)]
    assert labels(*doses) == ["lora ratio=0", "lora ratio=0.01", "lora ratio=0.1"]
    runs = [run(seed, dose) for dose in doses for seed in (0, 1)]
    assert study(runs).axis == "control.replay.ratio"


def test_a_record_from_before_there_were_controls_has_none() -> None:
    assert leaves_of(run(0, None))["control"] == leaves_of(run(0, {}))["control"] == "none"
    (group,) = study([run(0, None), run(1, {})]).groups
    assert len(group.runs) == 2
    foreign = RunRecord("x")
    assert leaves_of(foreign) == {}


def test_a_run_says_what_its_controls_were_and_did() -> None:
    record = run(0, {"replay": REPLAY})
    record.controls = [
        ControlInfo("replay", {"ratio": 0.01, "texts": "<b>"}, 0.02, 0.061, 7, 903, 896),
        ControlInfo("l2sp", {"coef": 0.1}, 0.0),
    ]
    record.cost["replay_tokens"] = 903.0
    said = dict(cost(record))
    assert said["Control replay"] == (
        "ratio 0.01, texts <b>, 7 texts read beside the task, 896 supervised tokens, "
        "0.02 of the loss, its gradient 6.1 % of the whole's norm"
    )
    assert said["Control l2sp"] == "coef 0.1, 0 of the loss"
    assert "replay tokens" not in said
    assert "replay and l2sp" in grey_line(record)
    page = render_html([record])
    assert "Control replay" in page and "<b>," not in page
