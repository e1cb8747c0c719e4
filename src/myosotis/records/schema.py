"""The run record: the one JSON document a run leaves behind, and the only thing a scorecard reads.

What belongs here: the shape of `record.json`, writing it so that a reader never sees half of
it, and reading it back with an error a person can act on. No statistics, no heavy imports.

Conventions. Times are ISO 8601 in UTC. Scores are in their metric's own unit (an accuracy is a
fraction). A number that is not known is None; NaN and infinities become null in the file and
None when read back. `delta` is always tuned - base; `lo` and `hi` are its 95 % interval.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from myosotis.records.codec import NOT_WRITTEN, plain, read
from myosotis.utils.atomic_write import write_text
from myosotis.utils.errors import DataError, RunError
from myosotis.utils.read_file import MOST_DOCUMENT, json_of, read_text

SCHEMA = 1
"""Raised by one whenever an older reader would misread a newer record."""

FORMER_HALVES = {"select": "selection"}
"""What halves were called in records and caches of earlier versions, and what they are called."""

GENERAL_TEXTS = {"wikipedia": "Wikipedia", "prose": "Python's documentation"}
"""Benchmarks that are running text outside the task, scored in bits per byte, and what the text is:
it stands beside every figure, since forgetting differs from one kind of text to another."""

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

WITHOUT_EFFECT = (
    "out",
    "resume",
    "tracking",
    "logger",
    "sweep",
    "plan",
    "stages",
    "retention.gate",
    "trainer.rows_at_once",
    "trainer.num_threads",
    "trainer.devices",
    "trainer.strategy",
    "trainer.checkpoint_every",
    "trainer.gradient_checkpointing",
    "update.base_on",
)
"""Keys of the configuration that cannot change a result: where a run writes, how it is labelled and
watched, and how the machine splits the work. A step is defined by its examples, whatever the rows
at a time and the number of ranks."""


@dataclass
class GitState:
    """The code the run was started from; empty outside a git checkout."""

    commit: str = ""
    dirty: bool = False


@dataclass
class ModelInfo:
    """The base model, before anything was attached to it."""

    id: str = ""
    note: str = ""  # what a reader must know, e.g. "dequantised from Q4_1"
    parameters: int | None = None
    dtype: str = ""
    content_hash: str = ""


@dataclass
class DataInfo:
    """What the model was trained on. `counts` is examples by split."""

    name: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    hash: str = ""


@dataclass
class UpdateInfo:
    """The update, in parameters: `trainable` of `total`."""

    name: str = ""
    trainable: int | None = None
    total: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    identity_at_init: bool | None = None
    off_difference: float | None = None  # nats per token: with the update off, against the base


@dataclass
class ControlInfo:
    """A control of the training (`myosotis.controls`), and what it did.

    `term` is its value in the sum that was minimised, and `gradient_share` the norm of its gradient
    over that of the whole, both means over the steps at which they were measured. `texts`, `tokens`
    (read by the model) and `supervised_tokens` are those of the texts of its own, which the task's
    numbers do not hold.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    term: float | None = None
    gradient_share: float | None = None
    texts: int | None = None
    tokens: int | None = None
    supervised_tokens: int | None = None


@dataclass
class AttentionInfo:
    """The attention backend the probe chose, and why, in plain words."""

    backend: str = ""
    reason: str = ""


@dataclass
class TaskQuality:
    """How well the model does what it was tuned for, on `n` held-out items.

    `base` and `tuned` are means over the items, in `unit`; the interval is paired. `sources` has
    the same for the items of each source, where the data are a mixture of several.
    """

    metric: str
    higher_is_better: bool = True
    base: float | None = None
    tuned: float | None = None
    n: int | None = None
    delta: float | None = None
    lo: float | None = None
    hi: float | None = None
    unit: str = ""  # "nats per token", "accuracy", ...
    note: str = ""
    extra: list[TaskQuality] = field(default_factory=list)
    sources: dict[str, TaskQuality] = field(default_factory=dict)


@dataclass
class DeployResult:
    """Quality on a sample of what the model will see (`data.deploy`), in the task's metric.

    `gap` is the change there minus the change on held-out examples, with its 95 % interval. `worst`
    is the group that gained least of `groups`, its interval widened for having been picked.
    `warning` is a sentence where the gain is not there.
    """

    outside: TaskQuality | None = None
    gap: float | None = None
    gap_lo: float | None = None
    gap_hi: float | None = None
    worst_group: str = ""
    worst: TaskQuality | None = None
    groups: int = 0
    warning: str = ""


@dataclass
class RatingResult:
    """What people said who saw two answers and not whose they were (`myosotis rate`).

    `win_rate` is the share of the tuned model's wins, a tie counting half, on `items` items with
    `ratings` in all; its interval takes items as drawn. `agreement` is the share of pairs of
    ratings of one item that say the same; None where no item has two.
    """

    ratings: int = 0
    items: int = 0
    raters: int = 0
    wins: int = 0
    ties: int = 0
    losses: int = 0
    win_rate: float | None = None
    lo: float | None = None
    hi: float | None = None
    agreement: float | None = None
    agreement_lo: float | None = None
    agreement_hi: float | None = None
    same: int = 0  # items left out of the sheets: both models answered alike


@dataclass
class JudgeResult:
    """What a language model said of both models' answers, each pair asked in both orders.

    `win_rate` is the tuned model's, each order counting half, over `items` pairs; `unread` more had
    a reply that said nothing. `agreement` is the share of pairs of which both orders say the same,
    `first_rate` how often the answer that stood first won: 0.5 without a bias. `win_rate_longer` is
    the win rate where the tuned model's answer is the longer one, of `longer` pairs.
    """

    model: str = ""
    items: int = 0
    unread: int = 0
    win_rate: float | None = None
    lo: float | None = None
    hi: float | None = None
    agreement: float | None = None
    agreement_lo: float | None = None
    agreement_hi: float | None = None
    first_rate: float | None = None
    win_rate_longer: float | None = None
    win_rate_shorter: float | None = None
    longer: int = 0
    shorter: int = 0


@dataclass
class RefusalJudge:
    """What a language model said of the answers to requests of `task` (should_refuse or
    should_answer): the share of right ones, base and tuned, with the interval of the change and
    McNemar's exact p. `agreement` is how often it calls a refusal what the rules call one.
    """

    task: str
    model: str = ""
    items: int = 0
    unread: int = 0
    base: float | None = None
    tuned: float | None = None
    lo: float | None = None
    hi: float | None = None
    p: float | None = None
    agreement: float | None = None


@dataclass
class RetentionRow:
    """One benchmark, base against tuned, on the same `n` of `items_of` items.

    The verdict rests on `metric` alone: retained, forgotten, slipped or inconclusive against
    the budget `epsilon` (docs/science.md, section 3). It is adjusted for the other tasks (Holm), so
    it can be more careful than `lo` and `hi`, which are not, would be: it is read from
    `adjusted_lo` and `adjusted_hi`. `mde` is the minimum detectable effect, `needed_items` to
    `needed_items_most` how many items would settle an open verdict (no loss, and the change as
    measured), `p_gold_*` the probability of the right choice, which moves before accuracy does.
    """

    task: str
    metric: str
    higher_is_better: bool = True
    chance: float | None = None
    n: int | None = None
    items_of: int | None = None
    base: float | None = None
    tuned: float | None = None
    delta: float | None = None
    se: float | None = None
    lo: float | None = None
    hi: float | None = None
    mde: float | None = None
    epsilon: float | None = None
    verdict: str = ""
    p_mcnemar: float | None = None
    p_holm: float | None = None
    needed_items: int | None = None
    p_gold_base: float | None = None
    p_gold_tuned: float | None = None
    p_gold_delta: float | None = None
    p_gold_lo: float | None = None
    p_gold_hi: float | None = None
    right_to_wrong: int | None = None
    wrong_to_right: int | None = None
    note: str = ""  # e.g. which split stood in for an absent one
    ece_base: float | None = None  # expected calibration error of the choices, 0 to 1
    ece_tuned: float | None = None
    epsilon_above_chance: float | None = None  # the budget as a share of what is above chance
    needed_items_most: int | None = None
    adjusted_lo: float | None = None
    adjusted_hi: float | None = None


@dataclass
class ContaminationRow:
    """Items of one benchmark whose text stands in the training data (docs/guides/data.md).

    `items` maps the id of each such item to the share of its words in runs of eight words that a
    training text has, too; `where` to such an example. `judged` of the `n` items were long enough.
    """

    task: str
    n: int = 0
    judged: int = 0
    excluded: bool = False  # they were not asked
    items: dict[str, float] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)


@dataclass
class SuiteVerdict:
    """The mean over the accuracy-like `tasks`, and the verdict on the whole; `budget` a fraction.

    `verdict` counts the tasks that speak for themselves, too: those outside the mean and those with
    a budget of their own. `mean_verdict` is what the mean's own interval, `lo` to `hi`, says.
    """

    delta: float | None = None
    lo: float | None = None
    hi: float | None = None
    epsilon: float | None = None
    verdict: str = ""
    base: float | None = None
    tuned: float | None = None
    mde: float | None = None
    needed_items: int | None = None
    tasks: list[str] = field(default_factory=list)
    budget: float | None = None
    accept: str = ""
    note: str = ""
    needed_items_most: int | None = None
    mean_verdict: str = ""


@dataclass
class KL:
    """How far the predictions moved on one kind of text: KL(base || tuned), nats per token.

    Mean over `tokens` scored tokens of `n` texts, with its 95 % interval. `text` is "task" (the
    held-out answers) or "general" (prose of no task). An alarm, not a verdict.
    """

    text: str
    kl: float | None = None
    lo: float | None = None
    hi: float | None = None
    n: int | None = None
    tokens: int | None = None


@dataclass
class AtStart:
    """What attaching the update did before the first step, where it does not begin as the base.

    Kept apart from forgetting: no training did it. `suite` is the change of the suite's mean.
    """

    suite: SuiteVerdict | None = None
    shift: list[KL] = field(default_factory=list)


@dataclass
class CurvePoint:
    """One value of one metric at one optimiser step."""

    step: int
    name: str
    value: float | None
    lo: float | None = None
    hi: float | None = None


@dataclass
class Flip:
    """One multiple-choice item the base got right and the tuned model got wrong.

    `gold`, `base_choice` and `tuned_choice` index `choices`.
    """

    task: str
    item: str
    prompt: str
    choices: list[str] = field(default_factory=list)
    gold: int | None = None
    base_choice: int | None = None
    tuned_choice: int | None = None
    again: list[str] = field(default_factory=list)  # the ways of `recovery` that brought it back


@dataclass
class Sample:
    """One held-out prompt, answered by the base and by the tuned model."""

    prompt: str
    reference: str = ""
    base: str = ""
    tuned: str = ""


@dataclass
class Wording:
    """How the `n` answers of `samples` are worded, base against tuned.

    `words_base` and `words_tuned` are mean lengths in words, with the 95 % interval of the change.
    `distinct_*` are distinct-1 and distinct-2 (Li et al. 2016): different words, and different
    pairs of words, over all words written; they fall as answers repeat themselves or each other.
    """

    n: int = 0
    words_base: float | None = None
    words_tuned: float | None = None
    words_lo: float | None = None
    words_hi: float | None = None
    distinct_base: list[float | None] = field(default_factory=list)
    distinct_tuned: list[float | None] = field(default_factory=list)


@dataclass
class DialPoint:
    """The update scaled by `alpha`: what task quality and the suite's mean changed from the base.

    Differences in the units of `DialChoice.metric` and of the suite's mean; 0 at alpha 0. `verdict`
    is the suite's against `epsilon`, the budget of the dial in the suite's unit on these items.
    `beside` are the benchmarks that are in no mean, such as bits per byte.
    """

    alpha: float
    task: float | None = None
    task_lo: float | None = None
    task_hi: float | None = None
    retention: float | None = None
    retention_lo: float | None = None
    retention_hi: float | None = None
    epsilon: float | None = None
    verdict: str = ""
    beside: list[RetentionRow] = field(default_factory=list)


@dataclass
class DialChoice:
    """Which strength to take: chosen on one half of the questions, claimed on the other.

    The points of `RunRecord.dial` are read on the half `selection`: validation examples, and every
    other benchmark item. `alpha` gains most there inside the budget; None: no strength does.
    `reported` (at `alpha`) and `full` (at 1) are read on the half `report`: test examples, and the
    other items. `confirmed`: that half, too, is inside the budget.
    """

    metric: str = "loglik"
    unit: str = ""
    higher_is_better: bool = True
    budget: float | None = None
    accept: str = ""
    alpha: float | None = None
    confirmed: bool = False
    reported: DialPoint | None = None
    full: DialPoint | None = None
    items: int | None = None  # benchmark items of the half that reports


@dataclass
class WeightChange:
    """How far one weight moved from the base's, and in which directions (docs/science.md, section
    5). What takes a decomposition is known of the matrices of some layers; ranks of a product of
    two factors (LoRA) of all. Of experts fused into one tensor all but the length is of the one
    that moved most."""

    name: str
    kind: str = ""  # q_proj, down_proj, …
    layer: int | None = None  # None: before or behind the layers
    relative_norm: float | None = None  # ‖Δθ‖ / ‖θ0‖, Frobenius
    rank: int | None = None  # of Δθ, beyond rounding
    effective_rank: float | None = None  # exp of the entropy of its singular values
    rank_90: int | None = None  # the fewest that hold 90 % of ‖Δθ‖²
    spectrum: list[float] = field(default_factory=list)  # singular values over the largest
    top_share: float | None = None  # of ‖Δθ‖² inside the base's first singular directions
    intruders: int | None = None  # of the first 10 singular vectors, those like none of the base's


@dataclass
class HalfResult:
    """What one half of the held-out examples and of the benchmark items says of the tuned model.

    Settings are chosen on the half `selection`; what is claimed of the chosen one is read on
    `report`, which had no part in the choice (docs/science.md, section 3).
    """

    task: TaskQuality | None = None
    suite: SuiteVerdict | None = None


@dataclass
class Checkpoint:
    """Which step's weights a run ended with, where that was not simply the last one planned.

    `ended` is why the training stopped before its time: `breach`, `patience`, or nothing. With
    `chosen`, `step` is the one of `seen` measured steps with the lowest held-out `loss` inside the
    budget, by the benchmark items of the half `selection`; the verdicts of the record then rest on
    those of the half `report`. Without any inside, `chosen` is false and the last weights stay.
    """

    step: int
    last_step: int
    ended: str = ""
    seen: int = 0
    chosen: bool = False
    loss: float | None = None


@dataclass
class Baseline:
    """Something the tuned model must beat, e.g. the base prompted with k examples.

    `delta` is tuned - baseline on the same `n` examples, `lo` to `hi` its 95 % interval; `gained`
    is baseline - base, likewise. It changes no weight, so the benchmarks stay as they were.
    """

    name: str
    metric: str = ""
    value: float | None = None
    delta: float | None = None
    lo: float | None = None
    hi: float | None = None
    n: int | None = None
    note: str = ""
    gained: float | None = None
    gained_lo: float | None = None
    gained_hi: float | None = None


@dataclass
class Recovery:
    """Lost answers asked again (`myosotis recover`), in one way.

    `way` is `examples` (`amount` solved items before the question) or `relearning` (after so many
    steps on other items of the benchmarks, which were thrown away). Of `lost` items, right on the
    base and wrong after tuning, `again` were right; of `never`, wrong on both, `found` were: what
    the way brings where nothing was lost. Shares have 95 % intervals; `more` is the difference.
    `base_again` is how many of the lost the base gets right when it is asked in this way.
    """

    way: str
    amount: int = 0
    lost: int = 0
    again: int = 0
    again_lo: float | None = None
    again_hi: float | None = None
    never: int = 0
    found: int = 0
    found_lo: float | None = None
    found_hi: float | None = None
    more: float | None = None
    more_lo: float | None = None
    more_hi: float | None = None
    base_again: int | None = None
    tasks: dict[str, list[int]] = field(default_factory=dict)  # of each: again, and lost


@dataclass
class StageScore:
    """The held-out examples of one task of a sequence after a stage: an entry R[i, j].

    `score` is their mean; `gained` its change since the base, before any stage, and `kept` that
    since the task's own stage (earlier tasks alone), both paired, better positive, with their 95 %
    intervals.
    """

    task: str
    score: float | None = None
    n: int | None = None
    base: float | None = None
    gained: float | None = None
    gained_lo: float | None = None
    gained_hi: float | None = None
    kept: float | None = None
    kept_lo: float | None = None
    kept_hi: float | None = None


@dataclass
class Transfer:
    """A figure of a sequence up to a stage, in the metric's unit, with its 95 % interval."""

    value: float | None = None
    lo: float | None = None
    hi: float | None = None


@dataclass
class Stage:
    """The run as stage `number` (from 1) of a sequence of trainings, `names` in their order.

    `scores` is row i of the matrix R, a task per stage. `backward` is how earlier tasks changed
    since their own stages (BWT), `forward` what tasks had gained when their own stage began (FWT),
    both better positive; `forgetting` how far earlier tasks are below their best (Chaudhry et al.
    2018), positive where lost. None while there are too few stages.
    """

    sequence: str = ""
    number: int = 1
    name: str = ""
    names: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)  # what this stage has of its own
    metric: str = ""
    unit: str = ""
    higher_is_better: bool = True
    scores: list[StageScore] = field(default_factory=list)
    backward: Transfer | None = None
    forward: Transfer | None = None
    forgetting: Transfer | None = None


@dataclass
class CheckLine:
    """One thing that was tried before a run (`myosotis check`), whether it passed, and what was
    seen."""

    name: str
    passed: bool = False
    said: str = ""


@dataclass
class RunRecord:
    """Everything a reader of one run needs, in the order it comes to be known."""

    run_id: str
    run_name: str = ""
    schema: int = SCHEMA
    status: Status = "RUNNING"
    error: str = ""
    started: str = ""
    ended: str = ""
    command: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    config_hash: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    git: GitState = field(default_factory=GitState)
    host: dict[str, Any] = field(default_factory=dict)
    model: ModelInfo = field(default_factory=ModelInfo)
    data: DataInfo = field(default_factory=DataInfo)
    update: UpdateInfo = field(default_factory=UpdateInfo)
    controls: list[ControlInfo] = field(default_factory=list)
    attention: AttentionInfo = field(default_factory=AttentionInfo)
    suite: dict[str, Any] = field(default_factory=dict)  # what identifies the benchmark suite
    task: TaskQuality | None = None
    deploy: DeployResult | None = None
    retention: list[RetentionRow] = field(default_factory=list)
    contamination: list[ContaminationRow] = field(default_factory=list)
    suite_verdict: SuiteVerdict | None = None
    halves: dict[str, HalfResult] = field(default_factory=dict)  # selection, report
    shift: list[KL] = field(default_factory=list)
    weights: list[WeightChange] = field(default_factory=list)
    at_start: AtStart | None = None
    curves: list[CurvePoint] = field(default_factory=list)
    flips: list[Flip] = field(default_factory=list)
    recovery: list[Recovery] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    wording: Wording | None = None
    ratings: RatingResult | None = None
    judge: JudgeResult | None = None
    refusal_judge: list[RefusalJudge] = field(default_factory=list)
    checkpoint: Checkpoint | None = None
    dial: list[DialPoint] = field(default_factory=list)
    dial_choice: DialChoice | None = None
    baselines: list[Baseline] = field(default_factory=list)
    stage: Stage | None = None
    cost: dict[str, float | None] = field(default_factory=dict)
    checks: list[CheckLine] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    folder: str = field(default="", repr=False, compare=False, metadata=NOT_WRITTEN)
    """Where it was read from, "" if from no folder; what lies beside it can be read, too."""

    def group(self, name: str) -> dict[str, Any]:
        """A group of the configuration; nothing where a record has something else in its place."""
        found = self.config.get(name)
        return found if isinstance(found, dict) else {}

    def to_json(self) -> str:
        """The document as text; the same record always gives the same bytes."""
        return json.dumps(plain(self), ensure_ascii=False, allow_nan=False, indent=2) + "\n"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the record to `path` so that a reader sees the old one or the new one, whole.

        Raises RunError when the folder cannot be written (full disk, read-only).
        """
        path = Path(path)
        try:
            write_text(path, self.to_json())
        except OSError as error:
            raise RunError(
                f"Could not write the run record {path}: {error.strerror or error}.",
                "Free some space or choose another folder with out=FOLDER.",
            ) from error
        return path

    def read_back(self) -> Self:
        """The record as it is once it was written and read: numbers that are none are missing."""
        again = read(type(self), plain(self), "run record")
        again.folder = self.folder
        return again

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a record back; a folder stands for the `record.json` in it.

        Raises DataError when the file is missing, damaged or of a newer schema.
        """
        path = Path(path)
        if path.is_dir():
            path = path / "record.json"
        try:
            text = read_text(path, MOST_DOCUMENT)
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"Could not read the run record {path}: {error}.") from error
        record = cls.from_json(text, str(path))
        record.folder = str(path.parent)
        return record

    @classmethod
    def from_json(cls, text: str, where: str = "run record") -> Self:
        """The record that `text` holds; `where` names it in errors. Unknown keys are ignored."""
        try:
            document = json_of(text)
        except ValueError as error:
            raise DataError(f"{where} is not a JSON document: {error}.") from error
        if not isinstance(document, dict):
            raise DataError(f"{where} is not a run record: expected a JSON object.")
        schema = document.get("schema")
        if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
            raise DataError(f"{where} is not a run record: it has no whole-number `schema`.")
        if schema > SCHEMA:
            raise DataError(
                f"{where} has schema {schema}; this version of myosotis reads up to {SCHEMA}.",
                "It was written by a newer version: upgrade myosotis to read it.",
            )
        if isinstance(halves := document.get("halves"), dict):
            document["halves"] = {FORMER_HALVES.get(name, name): h for name, h in halves.items()}
        if isinstance(command := document.get("command"), list):
            document["command"] = _of_today(command)
        return read(cls, document, where)


def _of_today(command: list[Any]) -> list[Any]:
    """The command as it runs today: a trial of a study was once written `myosotis train NAME …`."""
    once = command[:2] == ["myosotis", "train"] and len(command) > 2
    if once and re.fullmatch(r"[\w-]+", str(command[2])) and not str(command[2]).startswith("-"):
        return ["myosotis", "sweep", *command[2:]]
    return command
