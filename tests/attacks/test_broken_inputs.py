"""Broken inputs through the command line: one message, exit code 2, no traceback and no hang,
before any weights load (broken.py makes the world that is broken).
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from myosotis.cli import commands, main
from myosotis.utils import bounded

from . import broken
from .broken import BOMB, DAMAGES, TASK, words

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bounds of Linux")

MODEL = ["evaluate", "model", *words("retention.suite=[own.jsonl]")]
TASKS = ["evaluate", "model", *words("retention.suite=[task.yaml]")]
TASKS += ["+retention.data_files.theirs=items.jsonl"]
ADAPTER = ["evaluate", "adapter", "--base", "model", *words("retention.suite=[own.jsonl]")]
RUN = ["generate", "runs/it", "--prompt", "x"]
RESUME = ["train", "resume=runs/it"]
AUDIT = ["audit", *words()]

OURS = ("myosotis.commands.plan", "myosotis.commands.train", "myosotis.updates.lora")

Words = list[str]
Break = Callable[[Path], Any]


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The world as it is before anything is broken."""
    # What a command imports while it is bounded would count as its own memory.
    for name in ("lm_eval.tasks", "mlflow", *OURS):
        import_module(name)
    place = tmp_path_factory.mktemp("broken") / "whole"
    place.mkdir()
    before = Path.cwd()
    os.chdir(place)
    try:
        broken.build(place, tiny_model)
    finally:
        os.chdir(before)
    return place


@cache
def composed(overrides: tuple[str, ...], name: str, folder: str | None) -> Any:
    return commands_compose(list(overrides), name, folder)


commands_compose = commands.compose


@pytest.fixture
def world(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, as the working folder; no weights are loaded, and templates end soon."""
    place = tmp_path / "here"
    shutil.copytree(whole, place)
    monkeypatch.chdir(place)
    monkeypatch.setattr(bounded, "SECONDS", 0.3)

    def compose(given: list[str], name: str = "train", folder: str | None = None) -> Any:
        return copy.deepcopy(composed(tuple(given), name, folder))

    def load(*args: Any, **settings: Any) -> Any:
        raise broken.Weights

    from myosotis.models import load as loading

    monkeypatch.setattr(commands, "compose", compose)
    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", load)
    return place


def said(given: Words, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code and stderr of a command, within bounds."""
    capfd.readouterr()
    with broken.bounded(60):
        code = main([str(word) for word in given])
    return code, capfd.readouterr().err


def refused(given: Words, capfd: pytest.CaptureFixture[str]) -> str:
    code, err = said(given, capfd)
    assert "Traceback" not in err, err[-2000:]
    assert (code, err.count("error: ")) == (2, 1), f"exit {code}\n{err}"
    return " ".join(err.split())


# ------------------------------------------------------------------ files

FILES: dict[str, Words] = {
    "data.jsonl": AUDIT,
    "own.jsonl": MODEL,
    "task.yaml": TASKS,
    "items.jsonl": TASKS,
    "model/config.json": MODEL,
    "model/tokenizer.json": MODEL,
    "model/tokenizer_config.json": MODEL,
    "model/model.safetensors": MODEL,
    "runs/it/config.yaml": RUN,
    "runs/it/record.json": RUN,
    "runs/it/update/update.json": RUN,
    "runs/it/update/adapter_config.json": RUN,
    "runs/it/update/adapter_model.safetensors": RUN,
    "adapter/adapter_config.json": ADAPTER,
    "adapter/adapter_model.safetensors": ADAPTER,
    "runs/it/checkpoints/last.ckpt": RESUME,
}
IN_FULL = (
    "data.jsonl",
    "runs/it/config.yaml",
    "runs/it/record.json",
    "adapter/adapter_config.json",
)
SOME = ("empty", "text", "cut", "pipe", "null", "long-number")
STILL_GOOD = {("items.jsonl", "cut")}  # half of the lines
BROKEN = [
    (file, damage)
    for file in FILES
    for damage in DAMAGES
    if (file in IN_FULL or damage in SOME) and (file, damage) not in STILL_GOOD
]


@pytest.mark.parametrize(("file", "damage"), BROKEN, ids=lambda part: part)
def test_a_damaged_file_is_refused(
    file: str, damage: str, world: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    DAMAGES[damage](world / file)
    refused(FILES[file], capfd)


@pytest.mark.parametrize("given", [MODEL, TASKS, ADAPTER, RUN], ids=lambda given: given[1])
def test_undamaged_they_lead_to_the_weights(
    given: Words, world: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Or nothing above would show anything."""
    code, err = said(given, capfd)
    assert code == 1 and "broken.Weights" in err


def test_and_data_and_a_checkpoint_are_read(world: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert said(AUDIT, capfd)[0] == 0
    assert "nothing is left to do" in said(RESUME, capfd)[1]


# ------------------------------------------------------------------ what files hold


def writes(name: str, content: str | bytes) -> Break:
    def write(place: Path) -> None:
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def pipe(name: str) -> Break:
    def make(place: Path) -> None:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).unlink(missing_ok=True)
        os.mkfifo(place / name)

    return make


def gone(name: str) -> Break:
    return lambda place: (place / name).unlink()


def configured(name: str, value: Any) -> Break:
    def write(place: Path) -> None:
        path = place / "model" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))

    return write


def nothing(place: Path) -> None: ...


HUGE = "1" + "0" * 400
DIGITS = "9" * 10_000
CASES: dict[str, tuple[Words, Break]] = {}

for name, value in [
    *(("hidden_size", -5), ("hidden_size", 10**12), ("num_hidden_layers", 10**9)),
    *(("num_hidden_layers", 0), ("num_attention_heads", "four"), ("vocab_size", -1)),
    *(("model_type", "nope"), ("model_type", 5), ("rope_parameters", [1])),
]:
    CASES[f"config-{name}={value}"] = (MODEL, configured(name, value))
for name, content in {
    "index-is-a-list": "[]",
    "index-maps-nothing": '{"weight_map": 5}',
    "index-leads-away": '{"weight_map": {"a": "../../x.safetensors"}}',
}.items():
    CASES[name] = (MODEL, writes("model/model.safetensors.index.json", content))
CASES["header-of-2^63-bytes"] = (
    MODEL,
    writes("model/model.safetensors", (2**63 - 1).to_bytes(8, "little") + b"{}"),
)
for name in ("generation_config.json", "chat_template.jinja"):
    CASES[f"model-{name}-is-a-pipe"] = (MODEL, pipe(f"model/{name}"))

BECAUSE = {
    "nested-loops": "it takes longer than",
    "a-long-text": "it takes",
    "nothing-divided": "ZeroDivisionError",
    "a-large-power": "it takes",
    "doubling": "it takes",  # too much memory, on a busy machine too long
    "calls-itself": "it calls itself",
}
"""What is said of a template that is not just wrong."""

LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
TEMPLATES = {
    "nested-loops": LOOP,
    "a-long-text": "{{ 'x' * 10**10 }}",
    "nothing-divided": "{{ 1/0 }}",
    "a-long-range": "{% for a in range(10**12) %}x{% endfor %}",
    "a-large-power": "{{ 9**(9**9) }}",
    "doubling": "{% set n = namespace(s='x') %}{% for a in range(60) %}"
    "{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}",
    "no-syntax": "{% for %}",
    "undefined": "{{ a.b.c.d }}",
    "calls-itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "wrong-types": "{{ messages + 1 }}",
    "refuses": "{{ raise_exception('no') }}",
    "centred": "{{ 'x'.center(10**10) }}",
    "formatted": "{{ '%10000000000d' % 1 }}",
    "includes": "{% include 'x' %}",
    "many-pieces": "{% for a in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
}
for name, text in TEMPLATES.items():
    template = writes("model/chat_template.jinja", text)
    CASES[f"template-{name}"] = (["audit", *words("data.template=chat")], template)
for name in ("nested-loops", "a-long-text", "nothing-divided"):
    asked = ["evaluate", "model", *words("retention.suite=[own.jsonl]")]
    template = writes("model/chat_template.jinja", TEMPLATES[name])
    CASES[f"benchmark-template-{name}"] = ([*asked, "retention.chat_template=true"], template)
    task = TASK.replace('"{{question}}"', json.dumps(TEMPLATES[name]))
    CASES[f"task-template-{name}"] = (TASKS, writes("task.yaml", task))

for name, text in {
    "aliases-without-end": BOMB,
    "alias-of-itself": "a: &a [*a]",
    "key-twice": "task: a\ntask: b\n",
    "includes-nothing": "include: nope.yaml\ntask: x\n",
    "unknown-output": TASK.replace("multiple_choice", "nope"),
    "unknown-column": TASK.replace("{{question}}", "{{nope}}"),
    "choices-a-number": TASK.replace('["a", "b"]', "5"),
    "gold-out-of-range": TASK.replace("doc_to_target: label", "doc_to_target: 17"),
    "unknown-metric": TASK.replace("metric: acc", "metric: f1nope"),
    "a-list-of-numbers": "task: [1, 2]\n",
    "a-number": "task: 5\n",
    "a-group-of-itself": "group: g\ntask: [g]\n",
    "a-date": "task: 2020-01-01\n",
}.items():
    CASES[f"task-{name}"] = (TASKS, writes("task.yaml", text))

ONE = '{"prompt":"a","completion":"b"}\n'
for name, line in {
    "one-record": ONE,
    "not-a-number": '{"prompt": NaN, "completion": "a"}\n' * 9,
    "null": '{"prompt": null, "completion": "a"}\n' * 9,
    "numbers": '{"prompt": 5, "completion": 6}\n' * 9,
    "empty-texts": '{"prompt": "", "completion": ""}\n' * 9,
    "a-key-twice": '{"prompt":"a","prompt":"b","completion":"c"}\n' * 9,
    "other-keys": '{"x":1}\n' * 9,
    "messages-a-number": '{"messages": 5}\n' * 9,
    "unknown-role": '{"messages": [{"role": "x", "content": "y"}]}\n' * 9,
    "no-answer": '{"messages": [{"role": "user", "content": "y"}]}\n' * 9,
    "one-array": "[" + ONE + "]",
    "utf-16": (ONE * 9).encode("utf-16"),
}.items():
    CASES[f"data-{name}"] = (AUDIT, writes("data.jsonl", line))
for name, content in {"empty": b"", "text": b"abc", "zeros": bytes(999)}.items():
    CASES[f"parquet-{name}"] = (
        ["audit", *words("data.path=x.parquet")],
        writes("x.parquet", content),
    )
CASES["parquet-pipe"] = (["audit", *words("data.path=x.parquet")], pipe("x.parquet"))
CASES["csv"] = (["audit", *words("data.path=x.csv")], writes("x.csv", "a,b\n1,2\n"))
for device in ("/dev/zero", "/dev/null"):
    CASES[f"data-{device}"] = (["audit", *words(f"data.path={device}")], nothing)
    CASES[f"record-{device}"] = (["scorecard", device], nothing)

for name, text in {
    "tagged": "x: !!python/object/apply:os.mkdir [canary]\n",
    "aliases": BOMB,
    "alias-of-itself": "model: &a {b: *a}\n",
    "no-keys": "{}\n",
}.items():
    damage = writes("runs/it/config.yaml", text)
    for command in (RUN, RESUME, ["dial", "runs/it"], ["export", "runs/it", "--to", "merged"]):
        CASES[f"config.yaml-{name}-{command[0]}"] = (command, damage)
CASES["config.yaml-is-not-there"] = (RUN, gone("runs/it/config.yaml"))
CASES["config-folder-aliases"] = (["plan", "-cd", "conf", "-cn", "x"], writes("conf/x.yaml", BOMB))
CASES["config-folder-deep"] = (
    ["plan", "-cd", "conf", "-cn", "x"],
    writes("conf/x.yaml", "[" * 20_000),
)
CASES["config-folder-pipe"] = (["plan", "-cd", "conf", "-cn", "x"], pipe("conf/x.yaml"))
CASES["config-folder-empty"] = (["plan", "-cd", "conf", "-cn", "x"], writes("conf/x.yaml", ""))
CASES["config-folder-is-a-file"] = (["plan", "-cd", "data.jsonl", "-cn", "x"], nothing)
CASES["study-is-a-pipe"] = (["sweep", "x.yaml"], pipe("x.yaml"))
for name in ("empty", "a-list", "pipe", "deep"):
    damage = DAMAGES[name]
    card = ["scorecard", "theirs.json", "--out", "x.html"]
    CASES[f"their-record-{name}"] = (
        card,
        lambda place, damage=damage: (
            writes("theirs.json", "{}")(place),
            damage(place / "theirs.json"),
        ),
    )
CASES["out-is-a-pipe"] = (["scorecard", "runs/it", "--out", "x.html"], pipe("x.html"))
CASES["run-holds-a-pipe"] = (RUN, pipe("runs/it/metrics.jsonl"))
CASES["sweep-is-a-pipe"] = (["runs", "show", "nope"], pipe("multirun/a/sweep.json"))
CASES["logs-are-pipes"] = (["compare", "a.jsonl", "a.jsonl"], pipe("a.jsonl"))

# ------------------------------------------------------------------ words

NUMBERS = [
    *(f"seed={HUGE}", "seed=-1", f"seed={DIGITS}", f"retention.seed={HUGE}", "optimizer.lr=nan"),
    *("optimizer.lr=inf", f"optimizer.lr={HUGE}", "optimizer.betas=[nan,2]", "trainer.max_steps=0"),
    *(f"trainer.max_steps={HUGE}", "trainer.max_steps=1e20", "trainer.checkpoint_every=nan"),
    *(f"trainer.checkpoint_every={HUGE}", "trainer.num_threads=10000000000", "trainer.devices=-3"),
    *("retention.budget=nan", "retention.dial=[inf]", f"schedule.warmup={HUGE}", "update.r=-1"),
    *(f"update.r={HUGE}", "update.lora_alpha=inf", "update.lora_dropout=nan"),
    *(f"data.batch_size={HUGE}", "data.max_length=-7", "data.val_fraction=nan"),
    *(f"data.path={'x' * 300}.jsonl", f"data.path={'x/' * 3000}", f"model.path={'x' * 300}"),
    *(f"retention.suite=[{'x' * 300}.jsonl]", "retention.suite=[[a]]", "retention.suite=5"),
    *("trainer=5", "data.template_kwargs=5", "update.target_modules=5", "seed=${seed}"),
    *("data.path=${data.path}", f"model.start={'z' * 300}", f"data.path={'[' * 3000}"),
]
for change in NUMBERS:
    CASES[f"plan-{change[:40]}"] = (["plan", *words(change)], nothing)
UNTRACKED = [word for word in words() if not word.startswith("tracking")]
for uri in ("x.txt", "ftp://x", "data.jsonl/x.db", "http://[", "http://a:99999", "sqlite://"):
    CASES[f"uri-{uri}"] = (["ui", f"tracking.uri={uri}"], nothing)
CASES["uri-is-a-pipe"] = (["train", *UNTRACKED, "tracking.uri=x.db"], pipe("x.db"))
for place in ("data.jsonl", "data.jsonl/x", "x" * 300):
    CASES[f"train-out-{place[:12]}"] = (["train", *words(f"out={place}")], nothing)
    CASES[f"evaluate-out-{place[:12]}"] = ([*MODEL, f"out={place}"], nothing)
    CASES[f"export-out-{place[:12]}"] = (
        ["export", "runs/it", "--to", "merged", "--out", place],
        nothing,
    )
    CASES[f"dial-out-{place[:12]}"] = (["dial", "runs/it", "--out", place], nothing)
for place in ("data.jsonl/x.html", "x" * 300 + ".html"):
    CASES[f"scorecard-out-{place[:12]}"] = (["scorecard", "runs/it", "--out", place], nothing)
for option, value in (
    *(("--max-new-tokens", HUGE), ("--temperature", "nan"), ("--temperature", "inf")),
    *(("--seed", HUGE), ("--seed", DIGITS), ("--top-p", "nan")),
):
    CASES[f"generate{option}={value[:9]}"] = ([*RUN, option, value], nothing)
CASES["export-alpha"] = (["export", "runs/it", "--to", "merged", "--alpha", "nan"], nothing)
CASES["dial-budget"] = (["dial", "runs/it", "--budget", "nan"], nothing)
CASES["ui-port"] = (["ui", "--port", "1" + "0" * 5000], nothing)
CASES["no-key"] = (["plan", "=5"], nothing)
CASES["key-with-a-nul"] = (["plan", "a\0b=1"], nothing)
CASES["config-name-leads-away"] = (["plan", "-cn", "../../../etc/passwd"], nothing)


@pytest.mark.parametrize("case", sorted(CASES))
def test_what_cannot_be_is_refused(
    case: str, world: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given, damage = CASES[case]
    damage(world)
    told = refused(given, capfd)
    for name, reason in BECAUSE.items():
        assert reason in told or not case.endswith(f"template-{name}")
    assert not (world / "canary").exists()


def test_there_are_enough_of_them() -> None:
    assert len(BROKEN) + len(CASES) >= 250


# ------------------------------------------------------------------ what is left alone


@pytest.mark.parametrize("damage", ["empty", "zeros", "text", "cut", "pipe", "deep"])
@pytest.mark.parametrize("file", ["metrics.jsonl", "retention_items.parquet", "config.yaml.sig"])
def test_what_only_adds_to_a_page_may_be_damaged(
    file: str, damage: str, world: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (world / "runs" / "it" / file).write_bytes(b'{"step": 1}\n[1]\n')
    DAMAGES[damage](world / "runs" / "it" / file)
    assert said(["scorecard", "runs/it"], capfd)[0] == 0


def test_a_cadence_of_every_step_is_no_list_of_steps() -> None:
    from myosotis.training.eval_schedule import cadence

    with broken.bounded(20):
        steps = cadence(1, 10**9, key="trainer.checkpoint_every")
        assert len(steps) == 10**9 - 1
        assert 1 in steps and 10**9 - 1 in steps and 10**9 not in steps and 0 not in steps


def test_a_pattern_of_an_adapter_that_never_ends_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from myosotis.updates.target_modules import resolve
    from myosotis.utils.errors import ConfigError
    from tests.tiny import tiny

    monkeypatch.setattr(bounded, "SECONDS", 0.3)
    with broken.bounded(60), pytest.raises(ConfigError, match="takes longer"):
        resolve(tiny(), "(.*.*.*.*.*.*.*.*)*nothing")
