"""Side by side: how do we wait for several things at the same time?

One thing after the other is easy to follow, and so is most of this program. But eight servers, one
after the other, take eight times as long; and while we wait for one thing, we could not show
another, or stop. So whatever has to wait for a server or the model runs in a thread: a job. Jobs
don't print, and they don't read the keyboard. They report events, which all go into one queue:

    job: ask dexcom       ──┐
    job: ask salesforce   ──┼──▶  queue  ──▶  together() yields them to whoever shows them
    job: ask sheets       ──┘

The results are in the order of the list, whichever is ready first, because each job has its place.

How a server learns that a job was stopped is in inboxes.py, and in
https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/cancellation

Left out: a limit on the number of threads. A model that calls too many tools at once is stopped
where its reply is read (replies.py).

Try it. The second job is done first:

>>> import time
>>> def work(seconds, job):
...     time.sleep(seconds)
...     return seconds
>>> finish(together([partial(work, 0.1), partial(work, 0)]))
[0.1, 0]
"""

import queue  # Queue: hands things from one thread to another
import threading
import time
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from chapters.events import Event, Progress, Question, Waiting
from chapters.outside import Failure, Problem, is_number

TICK = 0.5  # seconds: so often somebody hears that we still wait


class Job:
    """One piece of work beside others: what it reports, and whether anybody still wants it. (A job
    that isn't given to together() runs in the current thread, and nobody hears its reports unless
    its `report` is set.)"""

    def __init__(self, report: Callable[[Any], object] | None = None):
        self.is_watched = report is not None
        self.report = report or (lambda event: None)  # a function that takes an event
        self.about = ""  # the server or the tool that it waits for
        self.questions: list[list] = []  # that its server has asked, and whether we said yes
        self.cancelled, self.ended = threading.Event(), threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None
        self.last_progress = 0.0

    def run(self, work: Callable[["Job"], Any]) -> None:
        """Do work(job). At its end, the job reports itself."""
        try:
            self.result = work(self)
        except BaseException as error:  # together() raises it again
            self.error = error
        self.ended.set()
        self.report(self)

    def ask_person(self, question: Question) -> str | None:
        """Have somebody answer, and wait for that. None: they would rather not, or nobody is
        there. Raises Failure."""
        if not self.is_watched:
            return None
        seen = threading.Event()
        self.report(question)
        self.report(seen)  # together() comes to this when the question has been answered
        while not seen.wait(0.1):
            if self.cancelled.is_set():
                raise Failure("cancelled", "stopped.")
        return question.answer

    def report_progress(self, params: dict) -> None:
        """{"progressToken": 7, "progress": 3, "total": 5, "message": "three"}. Some servers tell it
        a thousand times a second: ten are shown."""
        now, progress, total = time.monotonic(), params.get("progress"), params.get("total")
        if is_number(progress) and now > self.last_progress + 0.1:
            self.last_progress = now
            self.report(Progress(self.about, progress, total if is_number(total) else None,
                                 str(params.get("message") or "")[:200]))


def in_background(work: Callable, *given: Any) -> threading.Thread:
    """Run work(*given) in a thread that doesn't keep the program from ending."""
    thread = threading.Thread(target=work, args=given, daemon=True)
    thread.start()
    return thread


def together(works: list[Callable[[Job], Any]]) -> Generator[Event, None, list]:
    """Do all these works at the same time; each is a function that gets its Job. Yields what they
    report; then returns their results, in the order of the list."""
    news: queue.Queue = queue.Queue()
    jobs = [Job(news.put) for _ in works]
    running, last = list(jobs), time.monotonic()
    try:
        for job, work in zip(jobs, works, strict=True):
            in_background(job.run, work)
        while running:
            try:
                event = news.get(timeout=TICK)
            except queue.Empty:
                names = [job.about for job in running if job.about]
                yield Waiting(time.monotonic() - last, names)
                continue
            if isinstance(event, Job):
                running.remove(event)
            elif isinstance(event, threading.Event):
                event.set()
            else:
                yield event
                last = time.monotonic()
    finally:
        # We come here early with Ctrl-C, or when nobody wants the rest. The jobs may still tell
        # their servers, but must not keep us.
        end = time.monotonic() + 0.6
        for job in jobs:
            job.cancelled.set()
        for job in jobs:
            job.ended.wait(max(0, end - time.monotonic()))
    for job in jobs:
        if job.error:
            raise job.error
    return [job.result for job in jobs]


def say(result: Any, job: Job) -> Any:
    """A work with nothing to do: its result is there already. (partial(say, "no") is one.)"""
    return result


def finish(events: Generator[Event, None, Any],
           show: Callable[[Event], object] = lambda event: None) -> Any:
    """Go through all the events, and return what the generator returns in the end."""
    while True:
        try:
            show(next(events))
        except StopIteration as end:
            return end.value


def with_logins(works: list[Callable[[Job], Any]]) -> Generator[Event, None, list]:
    """together(); where a server wants somebody to sign in, that is done, one server after the
    other, and then the work once more. The result of a work that fails is its Failure."""
    def attempt(work: Callable[[Job], Any], job: Job) -> Any:
        try:
            return work(job)
        except Failure as failure:
            return failure

    attempts: list[Callable[[Job], Any]] = [partial(attempt, work) for work in works]
    results = yield from together(attempts)
    for _ in range(4):  # a server may find out that it wants more than it said
        for number, result in enumerate(results):
            if isinstance(result, Failure) and result.kind == "login":
                try:
                    # Here, in the main thread: no other hears of the keyboard and of Ctrl-C.
                    result.login()
                    [results[number]] = yield from together([attempts[number]])
                except Problem as problem:
                    results[number] = Failure("unreachable", str(problem))
    return results
