"""What a plan refuses a training refuses in the same words, before weights load, and what one takes
the other does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from myosotis.commands import components, plan
from myosotis.commands.dry_run import dry_run
from myosotis.config import instantiate
from myosotis.models.generate import generate
from myosotis.utils.errors import MyosotisError
from tests.commands.test_plan import config

Harm = Callable[[Path], None]
IMAGE = "<image_soft_token>"  # of Gemma 3's tokenizer; its text models have no row for it


def edited(**changes: Any) -> Harm:
    def edit(place: Path) -> None:
        file = place / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return edit


def larger(place: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(place)
    tokenizer.add_tokens([IMAGE])
    tokenizer.save_pretrained(place)


def pictured(place: Path) -> None:
    larger(place)
    with (place / "data.jsonl").open("a") as data:
        data.write("\n" + json.dumps({"prompt": f"what is {IMAGE}?", "completion": "ok"}))


def asked(place: Path) -> None:
    larger(place)
    row = {"question": f"{IMAGE}?", "choices": ["yes", "no"], "answer": 0}
    (place / "own.jsonl").write_text("\n".join(json.dumps(row | {"id": i}) for i in range(40)))


EIGHT = {"quant_method": "bitsandbytes", "load_in_8bit": True}


@pytest.mark.parametrize(
    ("harm", "overrides", "said"),
    [
        (edited(model_type="bart"), [], "is an encoder–decoder model"),
        (edited(model_type="roberta"), [], "reads ahead"),
        (edited(quantization_config={"quant_method": "gptq", "bits": 4}), [], "requires optimum"),
        (edited(quantization_config=EIGHT), ["method=full"], "quantised by bitsandbytes 8-bit"),
        (edited(), ["update.target_modules=[q_prj]"], "no module is named q_prj"),
        (edited(), ["update.target_modules=[lm_head]"], "shares its weights with the input"),
        (edited(), ["update.target_parameters=experts"], "has no fused experts"),
        (pictured, [], f"data.jsonl:44: the tokenizer has the token '{IMAGE}' .id 97."),
        (asked, ["retention.suite=[{place}/own.jsonl]"], f"own, item .* '{IMAGE}' .id 97."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_plan_and_a_training_refuse_alike_before_weights_load(
    harm: Harm,
    overrides: list[str],
    said: str,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = shutil.copytree(tiny_model, tmp_path / "model")
    harm(place)
    given = [text.format(place=place) for text in overrides]
    cfg = config(place, *given, f"out={tmp_path / 'out'}")
    monkeypatch.setattr(components, "load_base_model", None)  # called, it would be no MyosotisError
    heard = []
    for begin in (lambda: plan.make(cfg), lambda: components.load_components(cfg, print)):
        with pytest.raises(MyosotisError, match=said) as refused:
            begin()
        heard.append(str(refused.value))
    assert heard[0] == heard[1]


def test_a_word_that_no_text_has_does_no_harm(tiny_model: Path, tmp_path: Path) -> None:
    """Nor one that only pads: it is never read."""
    place = shutil.copytree(tiny_model, tmp_path / "model")
    larger(place)
    tokenizer = AutoTokenizer.from_pretrained(place)
    tokenizer.pad_token = IMAGE
    tokenizer.save_pretrained(place)
    cfg = config(place, f"out={tmp_path / 'out'}")
    assert plan.make(cfg).parameters > 0
    ready = components.load_components(cfg, print)
    prompts = [[3, 4, 5], [6]]
    assert len(generate(ready.base.model, ready.base.tokenizer, prompts, max_new_tokens=2)) == 2
    with pytest.raises(MyosotisError, match=f"a prompt has the token '{IMAGE}'"):
        generate(ready.base.model, ready.base.tokenizer, [[3, 97]], max_new_tokens=2)


def test_a_dry_run_uses_up_no_random_number(tiny_model: Path) -> None:
    cfg = config(tiny_model)
    torch.manual_seed(7)
    wanted = torch.rand(1)
    torch.manual_seed(7)
    dry_run(cfg, instantiate.model_source(cfg), {"name": "lora"})
    assert torch.equal(torch.rand(1), wanted)
