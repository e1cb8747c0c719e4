"""Runs and sweeps of a tiny model, killed, starved and crowded: is anything lost, false or stuck?

    make torture                                           all of it, at most half an hour
    python bench/torture.py --kills 20 --only kills        less

Each story begins a training and kills it (SIGKILL) some times: at random moments, most of them
after the first checkpoint, or before one of its writes. Then the command that a person would give
next is given: `resume=` where there is a checkpoint, else the same command again. In the end a
story must stand where a run that nobody disturbed stands.

lost       a result that was there is not there any more, or a run has no result at all
falsified  weights, scores, verdicts or curves are not those of the undisturbed run, bit for bit
stuck      a run that is FINISHED on disk is not in MLflow, or a row or half-written file is left
told       a command ended in a traceback, or in nothing at all
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests import warm  # noqa: E402
from tests.world import build, settings  # noqa: E402

AIM = ROOT / "bench" / "torture_aim.py"
SMALL = {"retention.items": 30, "retention.settle": "false", "trainer.max_steps": 12}
SMALL |= {"trainer.checkpoint_every": 2, "trainer.val_every": 3, "task.shots": 0}
VARIANTS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rollback": {"retention.on_breach": "rollback", "retention.every": 3},
    "full": {"update": "full", "optimizer.lr": 0.001},
}
VOLATILE = ("run_id", "run_name", "started", "ended", "command", "host", "git", "cost", "versions")


@dataclass
class Tally:
    """What one part of the torture found; a line of the table."""

    part: str
    kills: int = 0
    ended: int = 0
    faults: dict[str, list[str]] = field(
        default_factory=lambda: {"lost": [], "falsified": [], "stuck": [], "told": []}
    )
    seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, kind: str, what: str) -> None:
        with self._lock:
            self.faults[kind].append(what)
            print(f"  {kind}: {what}", flush=True)

    def count(self, kills: int = 0, ended: int = 0) -> None:
        with self._lock:
            self.kills += kills
            self.ended += ended


# ------------------------------------------------------------------ commands


def environment(place: Path, **more: object) -> dict[str, str]:
    env = {**os.environ, "MYOSOTIS_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    env |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "NO_COLOR": "1"}
    env |= {"XDG_CONFIG_HOME": str(place / "home"), **{k: str(v) for k, v in more.items()}}
    env.pop("MLFLOW_TRACKING_URI", None)
    return env


def start(words: list[str], place: Path, **more: object) -> subprocess.Popen[str]:
    return warm.start(words, place, environment(place, **more))


def run(words: list[str], place: Path, tally: Tally, **more: object) -> tuple[int, str]:
    """The exit code and stderr of a command that must end by itself, without a traceback."""
    process = start(words, place, **more)
    try:
        _, err = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        tally.fault("stuck", f"{words[:2]} does not end in {place.name}")
        return -9, ""
    if "Traceback" in err or (process.returncode not in (0, -9) and "error" not in err):
        tally.fault("told", f"{words[:2]} in {place.name}: exit {process.returncode}: {err[-600:]}")
    return process.returncode, err


# ------------------------------------------------------------------ what stands at the end


def digest(folder: Path) -> str:
    """Of the weights of a finished run."""
    files = sorted((folder / "update").glob("*.safetensors"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def said(folder: Path) -> Any:
    """What the record of a run says, without when, where and how fast."""
    record = json.loads((folder / "record.json").read_text())
    kept = {key: value for key, value in record.items() if key not in VOLATILE}
    kept["config"] = {k: v for k, v in record["config"].items() if k not in ("out", "resume")}
    kept["warnings"] = sorted(record["warnings"])
    kept["curves"] = sorted(
        [c["name"], c["step"], c["value"]]
        for c in record["curves"]
        if not c["name"].startswith("cost/") and "second" not in c["name"]
    )
    return kept


def rows(place: Path) -> list[tuple[str, str]]:
    """Run ids and states in the MLflow database of a folder."""
    with closing(sqlite3.connect(place / "mlflow.db", timeout=20)) as db:
        return list(db.execute("SELECT run_uuid, status FROM runs WHERE lifecycle_stage='active'"))


def differs(found: Any, wanted: Any, where: str = "") -> str:
    """Where two documents differ first; empty where they do not."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(found.keys() | wanted.keys()):
            if at := differs(found.get(key), wanted.get(key), f"{where}.{key}"):
                return at
        return ""
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        parts = (
            differs(f, w, f"{where}[{i}]")
            for i, (f, w) in enumerate(zip(found, wanted, strict=True))
        )
        return next((at for at in parts if at), "")
    return "" if found == wanted else f"{where}: {str(found)[:80]} is not {str(wanted)[:80]}"


@dataclass(frozen=True)
class Reference:
    """A run that nobody disturbed."""

    words: list[str]
    weights: str
    record: Any
    writes: int
    seconds: float


class Torture:
    """One place on disk, and the references that what is tortured there must come to."""

    def __init__(self, place: Path, seed: int, variants: Sequence[str]) -> None:
        self.place, self.seed = place, seed
        self.world = build(place / "world")
        self.references: dict[str, Reference] = {}
        for name in variants:
            self.references[name] = self._undisturbed(name)

    def words(self, variant: str, **changes: object) -> list[str]:
        given = {**SMALL, **VARIANTS[variant], **changes}
        return ["train", *settings(self.world, Path("runs/it"), **given)]

    def fresh(self, name: str, *, database: bool = True) -> Path:
        """A folder to work in, with an empty MLflow database: making one takes ten seconds."""
        place = self.place / name
        place.mkdir()
        if database and (self.place / "empty.db").exists():
            shutil.copy(self.place / "empty.db", place / "mlflow.db")
        return place

    def _undisturbed(self, variant: str) -> Reference:
        place, tally = self.fresh(f"undisturbed-{variant}"), Tally("undisturbed")
        began, words, log = time.monotonic(), self.words(variant), place / "writes.log"
        aim = {"WARM_BEFORE": AIM, "TORTURE_FOLDER": place / "runs", "TORTURE_LOG": log}
        code, err = run(words, place, tally, **aim)
        if code:
            raise SystemExit(f"the undisturbed run failed: {err}")
        whole, out = time.monotonic() - began, place / "runs" / "it"
        self._keep_empty(place / "mlflow.db")
        writes = len(log.read_text().splitlines())
        # Its own time, without the seconds in which the first process of all imports everything.
        seconds = json.loads((out / "record.json").read_text())["cost"]["total_seconds"]
        print(f"undisturbed {variant}: {seconds:.1f} of {whole:.1f} s, {writes} writes", flush=True)
        return Reference(words, digest(out), said(out), writes, seconds)

    def _keep_empty(self, database: Path) -> None:
        """The first run's database without its runs, to begin others with."""
        empty = self.place / "empty.db"
        if not empty.exists():
            shutil.copy(database, empty)
            with closing(sqlite3.connect(empty)) as db:
                for name in ("metrics", "latest_metrics", "params", "tags", "runs"):
                    db.execute(f"DELETE FROM {name}")
                db.commit()

    def check(self, place: Path, variant: str, tally: Tally, out: str = "runs/it") -> None:
        """Whether the run in `place` stands where the undisturbed one does."""
        wanted, folder = self.references[variant], place / out
        name = f"{place.name}/{out}"
        tally.count(ended=1)
        if not (folder / "record.json").is_file() or not (folder / "update").is_dir():
            return tally.fault("lost", f"{name} has no result")
        if digest(folder) != wanted.weights:
            tally.fault("falsified", f"{name}: other weights")
        if at := differs(said(folder), wanted.record):
            tally.fault("falsified", f"{name}: {at}")
        if litter := [path.name for path in folder.rglob("*.partial")]:
            tally.fault("stuck", f"{name}: {litter} left")
        if not (folder / "scorecard.html").is_file():
            tally.fault("lost", f"{name} has no page")
        run_id = json.loads((folder / "record.json").read_text())["run_id"]
        if (run_id, "FINISHED") not in rows(place):
            tally.fault("stuck", f"{name} is not FINISHED in MLflow: {rows(place)}")
        return None

    def no_orphans(self, place: Path, tally: Tally, wanted: int) -> None:
        found = rows(place)
        if len(found) != wanted or any(state != "FINISHED" for _, state in found):
            tally.fault("stuck", f"{place.name}: MLflow has {found}, not {wanted} finished runs")

    def next_words(self, place: Path, variant: str) -> list[str]:
        """What a person gives next."""
        if (place / "runs/it/checkpoints/last.ckpt").exists():
            return ["train", "resume=runs/it"]
        return self.references[variant].words

    # -------------------------------------------------------------- kills

    def at_random(self, number: int, tally: Tally) -> None:
        """Three kills at random moments, most of them after a checkpoint, then to the end."""
        dice = random.Random(f"{self.seed} {number}")
        variant = list(self.references)[number % len(self.references)]
        place = self.fresh(f"random-{number}")
        for kill in range(3):
            process = start(self.next_words(place, variant), place)
            early = kill == 0 and dice.random() < 0.25
            self._wait(process, place, variant, dice, early=early)
            killed = process.poll() is None
            if killed:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            tally.count(kills=killed)
            if not killed:
                break
        self._to_the_end(place, variant, tally)

    def _wait(
        self,
        process: subprocess.Popen[str],
        place: Path,
        variant: str,
        dice: random.Random,
        *,
        early: bool,
    ) -> None:
        """Until a moment drawn at random: of the whole run, or behind a checkpoint."""
        typical = self.references[variant].seconds
        checkpoint = place / "runs/it/checkpoints/last.ckpt"
        until = time.monotonic() + 120
        if not early:
            before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
            while process.poll() is None and time.monotonic() < until:
                if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
                    break
                time.sleep(0.01)
        end = time.monotonic() + dice.random() * typical * (0.9 if early else 0.4)
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.005)

    def aimed(self, number: int, at: int, variant: str, tally: Tally) -> None:
        """Killed before one of its writes, and resumed; every third time killed once more."""
        place = self.fresh(f"aimed-{variant}-{at}")
        for again in range(2 if number % 3 == 0 else 1):
            at_once = at if again == 0 else 1 + (at * 7) % 20
            code, _ = run(
                self.next_words(place, variant),
                place,
                tally,
                WARM_BEFORE=AIM,
                TORTURE_FOLDER=place / "runs",
                TORTURE_AT=at_once,
            )
            tally.count(kills=code == -signal.SIGKILL)
        self._to_the_end(place, variant, tally)

    def _to_the_end(self, place: Path, variant: str, tally: Tally) -> None:
        code, err = run(self.next_words(place, variant), place, tally)
        if code:
            tally.fault("lost", f"{place.name} cannot go on: exit {code}: {err[-300:]}")
        self.check(place, variant, tally)
        self.no_orphans(place, tally, 1)
        shutil.rmtree(place)

    def sweep(self, number: int, tally: Tally) -> None:
        """A sweep of three trials, killed some times; what was finished stays as it was."""
        dice, place = random.Random(f"{self.seed} sweep {number}"), self.fresh(f"sweep-{number}")
        words = [w for w in self.words("lora") if not w.startswith("out=")]
        words = [words[0], "-m", *words[1:], "optimizer.lr=0.01,0.02,0.03"]
        words += ["hydra.sweep.dir=multirun/it"]
        kept: dict[Path, bytes] = {}
        for _ in range(4):
            process = start(words, place)
            end = time.monotonic() + 1 + dice.random() * self.references["lora"].seconds * 2
            while process.poll() is None and time.monotonic() < end:
                time.sleep(0.01)
            killed = process.poll() is None
            if killed:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            tally.count(kills=killed)
            self._kept(place, kept, tally)
        code, err = run(words, place, tally)
        if code:
            tally.fault("lost", f"{place.name}: exit {code}: {err[-300:]}")
        self._kept(place, kept, tally)
        trials = [path.parent for path in (place / "multirun/it").glob("*/record.json")]
        if len(trials) != 3:
            tally.fault("lost", f"{place.name} has {len(trials)} of 3 trials")
        for trial in trials:
            record = json.loads((trial / "record.json").read_text())
            if record["config"]["optimizer"]["lr"] == 0.01:
                self.check(place, "lora", tally, str(trial.relative_to(place)))
            elif record["status"] != "FINISHED":
                tally.fault("lost", f"{trial} is {record['status']}")
        run(["sync", "all"], place, tally)
        self.no_orphans(place, tally, 4)  # the trials, and the sweep's own
        shutil.rmtree(place)

    def _kept(self, place: Path, kept: dict[Path, bytes], tally: Tally) -> None:
        """A trial that was finished is never done again."""
        for path in (place / "multirun/it").glob("*/record.json"):
            content = path.read_bytes()
            if kept.get(path, content) != content:
                tally.fault("falsified", f"{path} was finished and was written again")
            if json.loads(content)["status"] == "FINISHED":
                kept[path] = content

    # -------------------------------------------------------------- crowds

    def crowd(self, tally: Tally, count: int, *, new: bool) -> None:
        """Many processes at once, on one database; each must have its own folder and its row.

        A `new` database is made by them; there the runs are as short as can be.
        """
        place = self.fresh(f"crowd-{count}", database=not new)
        words = [w for w in self.words("lora") if not w.startswith("out=")]
        if new:
            words += ["trainer.max_steps=2", "retention.suite=[]", "retention.on_breach=warn"]
        given = [start(["train", "--json", *words[1:]], place) for _ in range(count)]
        ids = set()
        for process in given:
            out, err = process.communicate(timeout=1200)
            if process.returncode or "Traceback" in err:
                tally.fault("lost", f"one of {count}: exit {process.returncode}: {err[-400:]}")
                continue
            ids.add(json.loads(out)["run_id"])
            tally.count(ended=1)
        folders = [path.parent for path in (place / "runs").rglob("record.json")]
        if len(folders) != count or len(ids) != count:
            tally.fault("lost", f"{count} runs left {len(folders)} folders, {len(ids)} results")
        if not new:
            for folder in folders:
                self.check(place, "lora", tally, str(folder.relative_to(place)))
        self.no_orphans(place, tally, count)
        shutil.rmtree(place)


# ------------------------------------------------------------------ disks


def can_mount() -> bool:
    with tempfile.TemporaryDirectory() as place:
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
        try:
            done = subprocess.run(command, capture_output=True, check=False)
        except OSError:
            return False
        if done.returncode == 0:
            subprocess.run(["umount", place], check=True)
        return done.returncode == 0


@contextmanager
def disk(place: Path, kilobytes: int) -> Iterator[Path]:
    """A small disk at `place`."""
    place.mkdir(parents=True, exist_ok=True)
    size = f"size={kilobytes}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


SIZES = (8, 90, 320, 40, 140, 200, 260, 400, 520, 700)
"""Kilobytes of small disks."""


def full_disk(torture: Torture, tally: Tally, *, mounts: bool, sizes: Sequence[int]) -> None:
    """A disk that is full at some moment of a run; with space again, the run goes on."""
    for kilobytes in sizes:
        place = torture.fresh(f"full-{kilobytes}")
        words = torture.references["lora"].words
        if not mounts:
            aim = {"WARM_BEFORE": AIM, "TORTURE_FOLDER": place, "TORTURE_BYTES": kilobytes * 256}
            run(words, place, tally, **aim)
        else:
            with disk(place / "runs", kilobytes):
                run(words, place, tally)
                remount(place / "runs", "size=64m")
                code, err = run(torture.next_words(place, "lora"), place, tally)
                if code:
                    tally.fault("lost", f"{place.name}: exit {code}: {err[-300:]}")
                torture.check(place, "lora", tally)
                torture.no_orphans(place, tally, 1)
            continue
        torture._to_the_end(place, "lora", tally)


WRITERS: dict[str, list[str]] = {
    "train": [],
    "evaluate": ["evaluate", "runs/it", "retention.suite=[prose]", "out=runs/two"],
    "export": ["export", "runs/it", "--to", "merged"],
    "scorecard": ["scorecard", "runs/it"],
    "scorecard --out": ["scorecard", "runs/it", "--out", "runs/page.html"],
    "scorecard --figures": ["scorecard", "runs/it", "--out", "p.html", "--figures", "runs/f"],
    "dial": ["dial", "runs/it", "--out", "runs/dialled"],
    "sync": ["sync", "runs/it"],
    "sweep": [],
    "compare": ["compare", "runs/it", "--out", "runs/compared.html"],
    "runs delete": ["runs", "delete", "runs/it", "--yes"],
    "ui": ["ui", "tracking.uri=runs/none.db"],
    "resume": ["train", "resume=runs/it", "trainer.max_steps=14"],
}


def read_only(torture: Torture, tally: Tally) -> None:
    """A finished run on a disk that became read-only: one message each, and nothing changes."""
    place = torture.fresh("read-only")
    with disk(place / "runs", 65_536):
        run(torture.references["lora"].words, place, tally)
        before = contents(place / "runs")
        small = [w for w in torture.words("lora") if not w.startswith("out=")][1:]
        commands = {**WRITERS, "train": ["train", *small, "out=runs/two"]}
        commands["sweep"] = ["train", "-m", *small, "seed=0,1", "hydra.sweep.dir=runs/sweep"]
        for state in ("ro", "full"):
            remount(place / "runs", "ro") if state == "ro" else fill(place / "runs")
            for name, words in commands.items():
                if state == "full" and name == "runs delete":
                    continue
                code, err = run(words, place, tally)
                tally.count(ended=1)
                if code not in (0, 1, 2, 3, 4):
                    tally.fault(
                        "told", f"{name} on a disk that is {state}: exit {code} {err[-300:]}"
                    )
            if state == "ro":
                if contents(place / "runs") != before:
                    tally.fault("falsified", "a read-only disk changed")
                remount(place / "runs", "rw")
        (place / "runs" / "filler").unlink()
        if digest(place / "runs/it") != torture.references["lora"].weights:
            tally.fault("falsified", "the weights on a disk that was full")


def fill(place: Path) -> None:
    """Not a byte is left."""
    with (place / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# ------------------------------------------------------------------ a server


def server_away(torture: Torture, tally: Tally) -> None:
    """MLflow's server dies in mid-run: the run ends all the same, and `sync` tells it later."""
    place, port = torture.fresh("server"), 5987
    uri = f"http://127.0.0.1:{port}"
    server = serve(place, port)
    try:
        process = start([*torture.references["lora"].words, f"tracking.uri={uri}"], place)
        while process.poll() is None and not (place / "runs/it/checkpoints/last.ckpt").exists():
            time.sleep(0.02)
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        _, err = process.communicate(timeout=900)
        tally.count(kills=1)
        if process.returncode or "Traceback" in err:
            tally.fault("lost", f"without its server: exit {process.returncode}: {err[-500:]}")
        server = serve(place, port)
        code, err = run(["sync", "runs/it"], place, tally)
        if code:
            tally.fault("stuck", f"sync: {err[-300:]}")
        wanted = torture.references["lora"]
        if digest(place / "runs/it") != wanted.weights:
            tally.fault("falsified", "other weights without a server")
        if at := differs(said(place / "runs/it")["retention"], wanted.record["retention"]):
            tally.fault("falsified", at)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    torture.no_orphans(place, tally, 1)
    tally.count(ended=1)


def serve(place: Path, port: int) -> subprocess.Popen[bytes]:
    import socket

    command = [sys.executable, "-P", "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--backend-store-uri", f"sqlite:///{place}/mlflow.db"]
    command += ["--workers", "1", "--default-artifact-root", str(place / "mlartifacts")]
    env = {**environment(place), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(
        command, cwd=place, env=env, start_new_session=True, stdout=-3, stderr=-3
    )
    for _ in range(600):
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return server
        time.sleep(0.2)
    raise SystemExit("MLflow's server does not start")


# ------------------------------------------------------------------ all of it


def side_by_side(jobs: list[Callable[[], None]], workers: int, tally: Tally, until: float) -> None:
    def one(job: Callable[[], None]) -> None:
        if time.monotonic() < until:
            try:
                job()
            except Exception as error:  # noqa: BLE001 - a fault of the torture's own is one, too
                tally.fault("told", f"{type(error).__name__}: {error}")

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, jobs))


def parts(torture: Torture, asked: argparse.Namespace, began: float) -> Iterator[Tally]:
    until = began

    def timed(name: str, work: Callable[[Tally], None]) -> Tally:
        tally, start = Tally(name), time.monotonic()
        print(name, flush=True)
        if time.monotonic() < until:
            work(tally)
        tally.seconds = time.monotonic() - start
        print(table([tally]), flush=True)
        return tally

    def kills(tally: Tally) -> None:
        stories = range(max(1, asked.kills // 5))
        jobs = [lambda n=n: torture.at_random(n, tally) for n in stories]
        side_by_side(jobs, asked.workers, tally, until)

    def aims(tally: Tally) -> None:
        every = [(v, at) for v, r in torture.references.items() for at in range(1, r.writes + 1)]
        step = max(1, len(every) // max(1, asked.kills // 2))
        jobs = [
            lambda n=n, at=at, v=v: torture.aimed(n, at, v, tally)
            for n, (v, at) in enumerate(every[::step])
        ]
        side_by_side(jobs, asked.workers, tally, until)

    def sweeps(tally: Tally) -> None:
        jobs = [lambda n=n: torture.sweep(n, tally) for n in range(max(1, asked.kills // 20))]
        side_by_side(jobs, asked.workers, tally, until)

    mounts, sizes = can_mount(), SIZES[: max(3, min(10, asked.kills // 10))]
    full = "full disk" if mounts else "full disk (by a limit on files)"
    jobs: list[tuple[str, str, float, Callable[[Tally], None]]] = [
        ("kills", "kills at random moments", 0.25, kills),
        ("aimed", "kills aimed at writes", 0.5, aims),
        ("sweeps", "sweeps, killed", 0.65, sweeps),
        ("database", "8 processes, new database", 0.7, lambda t: torture.crowd(t, 8, new=True)),
        ("second", "16 runs in one second", 0.8, lambda t: torture.crowd(t, 16, new=False)),
        ("full", full, 0.9, lambda t: full_disk(torture, t, mounts=mounts, sizes=sizes)),
        ("server", "server that goes away", 0.95, lambda t: server_away(torture, t)),
        ("disks", "13 commands, read-only and full", 1.0, lambda t: read_only(torture, t)),
    ]
    for key, name, share, work in jobs:
        until = began + 60 * asked.minutes * share
        if (not asked.only or key in asked.only) and (mounts or key != "disks"):
            yield timed(name, work)


def table(tallies: list[Tally]) -> str:
    lines = [f"{'':34} kills  ends  lost  falsified  stuck  told   time"]
    for tally in tallies:
        found = [len(tally.faults[kind]) for kind in ("lost", "falsified", "stuck", "told")]
        lines.append(
            f"{tally.part:34} {tally.kills:5} {tally.ended:5} {found[0]:5} {found[1]:10} "
            f"{found[2]:6} {found[3]:5} {tally.seconds:5.0f} s"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=110, help="of runs and sweeps, about")
    parser.add_argument("--minutes", type=float, default=26, help="no story begins after that")
    parser.add_argument("--workers", type=int, default=2, help="stories at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="kills aimed sweeps database second full …")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS))
    parser.add_argument("--keep", action="store_true", help="leave the folders")
    asked = parser.parse_args()
    began = time.monotonic()
    place = Path(tempfile.mkdtemp(prefix="myosotis-torture-"))
    os.environ["XDG_CONFIG_HOME"] = str(place / "home")
    tallies: list[Tally] = []
    try:
        torture = Torture(place, asked.seed, asked.variants)
        for tally in parts(torture, asked, time.monotonic()):
            tallies.append(tally)
    finally:
        if not asked.keep:
            shutil.rmtree(place, ignore_errors=True)
    total = Tally("all", sum(t.kills for t in tallies), sum(t.ended for t in tallies))
    for tally in tallies:
        for kind, found in tally.faults.items():
            total.faults[kind] += found
    total.seconds = time.monotonic() - began
    print(f"\n{table([*tallies, total])}")
    return 1 if any(total.faults.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
