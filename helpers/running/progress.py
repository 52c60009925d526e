"""The progress bar: it counts estimated seconds of work, and moves inside a long training, too."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm

from ..foundations.datasets import training_images
from ..methods.stage_settings import step_count
from .tasks import Task

BAR = "{percentage:3.0f}%|{bar:30}| {elapsed}<{remaining}{postfix}"


class Bar:
    """Progress in seconds of estimated work, also inside a long training, and what is being done."""

    def __init__(self, tasks: list[Task], seconds: dict[str, list[float]]):
        """`seconds`: about how long each stage takes that a task runs, by the task's key."""
        self.tasks, self.seconds = {task.key: task for task in tasks}, dict(seconds)
        self.bar: tqdm | None = None
        self.done, self.ended = 0.0, 0
        self.under_way: dict[str, float] = {}
        """Seconds of work done in tasks that have not ended."""
        self.words = ""
        self.latest: dict[str, tuple[int, int]] = {}
        """Where tasks are: filled by other threads, since tqdm may be used by one alone."""

    def __enter__(self) -> Bar:
        return self

    def start(self) -> None:
        """Show it: what could keep the work from starting has been told by now."""
        # In whole milliseconds, which add up to just the total.
        self.bar = tqdm(total=round(1000 * sum(map(sum, self.seconds.values()))), bar_format=BAR, miniters=0)

    def __exit__(self, *_: Any) -> None:
        if self.bar is not None:
            self.bar.close()

    def hear(self, key: str, index: int, step: int) -> None:
        """A task is at this step of the stage of this index, 0 where it does not count steps."""
        self.latest[key] = index, step

    def show_latest(self) -> None:
        """Move on to where the tasks are by now."""
        while self.latest:
            key, place = self.latest.popitem()
            if key in self.seconds:
                self._note(self.tasks[key], *place)
        self._show()

    def _note(self, task: Task, index: int, step: int) -> None:
        """What is done of a task that has not ended."""
        stage, place = task.stages[index], index - task.first
        self.words = f", {stage.type}"
        share = 0.0
        if stage.type == "train":
            steps = step_count(stage, training_images(task.data))
            self.words, share = f", {stage.type} {step:,} of {steps:,}", step / max(1, steps)
        # What is computed again for its weights was not counted.
        mine = self.seconds[task.key]
        self.under_way[task.key] = sum(mine[:place]) + share * mine[place] if place >= 0 else 0.0
        self.words += f" (seed {task.seed})"

    def end(self, key: str, ended: int) -> None:
        """A task has ended, one way or the other."""
        self.under_way.pop(key, None)
        self.done, self.ended = self.done + sum(self.seconds.pop(key)), ended
        self._show()

    def _show(self) -> None:
        self.bar.set_postfix_str(f"{self.ended}/{len(self.tasks)} tasks{self.words}", refresh=False)
        done = round(1000 * (self.done + sum(self.under_way.values())))
        self.bar.update(min(done, self.bar.total) - self.bar.n)
