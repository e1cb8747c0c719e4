"""What a control of a later stage reads of the stages before it."""

from __future__ import annotations

import json
from pathlib import Path

from myosotis.commands.earlier_data import name_earlier
from myosotis.config import compose


def test_every_earlier_stage_is_among_the_first_examples(tmp_path: Path) -> None:
    """Of stages of 30 and 4 examples (all but what is held out): a control that reads the first 8
    reads four of each, and not eight of the larger one."""
    before = []
    for name, count in (("large", 30), ("small", 4)):
        lines = [{"prompt": f"{name} {n}", "completion": str(n)} for n in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
        held = tmp_path / f"{name}-held.jsonl"
        held.write_text(json.dumps({"prompt": "held", "completion": "x"}) + "\n")
        data = [f"data.path={tmp_path / name}.jsonl", f"data.val_path={held}"]
        before.append(compose(["data=jsonl", *data, f"data.test_path={held}"]))
    cfg = compose(["control=replay", "control.replay.texts=earlier"])
    name_earlier(cfg, before, tmp_path / "earlier.jsonl")
    assert cfg.control.replay.texts == str(tmp_path / "earlier.jsonl")
    lines = (tmp_path / "earlier.jsonl").read_text().splitlines()
    asked = [json.loads(line)["messages"][0]["content"].split()[0] for line in lines]
    assert asked == ["large", "small"] * 4 + ["large"] * 26
