"""Batches put together by other processes: each takes every n-th batch and sends it through a pipe of its own.

Nothing is shared, so a process that is killed can leave no lock behind: its end is seen at once. A full pipe is what
keeps a worker from running ahead.
"""

from __future__ import annotations

import multiprocessing
import pickle
import random as python_random
import signal
import threading
import traceback
import warnings
from collections.abc import Generator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler

import numpy

from ..backend.random import random
from .common import generator
from .dataset import Dataset, TensorDataset

Columns = tuple[numpy.ndarray, ...]

SHOWN = 8
"""Samples of a batch that an error lists."""

_starting = threading.Lock()


@dataclass(frozen=True)
class Pass:
    """What one pass over a dataset reads: the samples in their order, cut into batches, some of which are wanted."""

    dataset: Dataset
    order: numpy.ndarray
    batch_size: int
    wanted: range
    seeds: tuple[int, ...]

    def samples(self, batch: int) -> numpy.ndarray:
        """The numbers of a batch's samples."""
        return self.order[batch * self.batch_size : (batch + 1) * self.batch_size]

    def read(self, batch: int) -> Columns:
        """A batch, column by column. What the dataset draws from the package's random numbers, the seeds decide."""
        if type(self.dataset) is TensorDataset:  # draws nothing
            return self.dataset.take(self.samples(batch))
        before = random.host, random.key, random.counter
        try:
            random.seed(int(generator(*self.seeds, batch).integers(2**63)))
            return self.dataset.take(self.samples(batch))
        finally:
            random.host, random.key, random.counter = before

    def describe(self, batch: int) -> str:
        """A batch by number and samples, for an error."""
        samples = self.samples(batch).tolist()
        more = ", ..." if len(samples) > SHOWN else ""
        return f"batch {batch} (samples {', '.join(map(str, samples[:SHOWN]))}{more})"


def read_in_workers(work: Pass, num_workers: int) -> Generator[Columns, None, None]:
    """Yield the batches in order, read by processes that end with the iteration.

    Raises:
        RuntimeError: a worker died; the message says of what, and which samples are missing.
        Exception: what the dataset raised, with notes that name the sample and hold the worker's traceback.
    """
    workers: list[Worker] = []
    try:
        for first in range(min(num_workers, len(work.wanted))):
            workers.append(Worker(work, work.wanted[first::num_workers]))
        for i in range(len(work.wanted)):
            yield workers[i % num_workers].receive(workers)
    finally:
        for worker in workers:
            worker.end()


class Worker:
    """A process that reads its share of the batches, one after the other."""

    def __init__(self, work: Pass, share: range) -> None:
        self.work, self.share, self.received = work, share, 0
        with _starting, warnings.catch_warnings():  # one at a time: no later process may inherit an end for writing
            # From Python 3.12 on: a fork of a process with threads, such as BLAS has, and which NumPy's survives.
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            self.results, sends = multiprocessing.Pipe(duplex=False)
            with sends:
                self.process = multiprocessing.Process(target=run, args=(sends, work, share), daemon=True)
                self.process.start()

    def receive(self, workers: list[Worker]) -> Columns:
        """This worker's next batch; the death of any worker ends the wait."""
        alive = {worker.process.sentinel: worker for worker in workers if worker.process.exitcode != 0}
        while not self.results.poll():
            for end in wait([self.results, *alive]):
                if isinstance(end, int):
                    alive.pop(end).check()
        try:
            columns, error = self.results.recv()
        except EOFError:
            raise self.died() from None
        if error is not None:
            raise error
        self.received += 1
        return columns

    def check(self) -> None:
        """Raise when the process, which has ended, did not end well."""
        self.process.join()
        if self.process.exitcode:
            raise self.died()

    def died(self) -> RuntimeError:
        """What is raised when the process is no more."""
        self.process.join()
        code = self.process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        missing = self.work.describe(self.share[self.received])
        return RuntimeError(
            f"DataLoader: worker process {self.process.pid} {how} before it had sent {missing}. Too little memory is a "
            "common cause; num_workers=0 reads in this process"
        )

    def end(self) -> None:
        """End the process, whatever it is doing, and wait for it."""
        self.results.close()
        self.process.kill()
        self.process.join()
        self.process.close()


# In the worker


def run(sends: Connection, work: Pass, share: range) -> None:
    """Read the batches of a share and send each, or the error that ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent answers it
    for batch in share:
        draw = generator(*work.seeds, batch)
        numpy.random.seed(draw.integers(2**32, size=4))  # else all forks would draw the same
        python_random.seed(int(draw.integers(2**63)))
        failed = False
        try:
            answer = ForkingPickler.dumps((work.read(batch), None))
        except BaseException as error:
            failed = True
            answer = ForkingPickler.dumps(((), portable(error, work.describe(batch))))
        try:
            sends.send_bytes(answer)
        except BrokenPipeError:  # nobody wants them any more
            return
        if failed:
            return


def portable(error: BaseException, batch: str) -> BaseException:
    """The error as it can be raised in another process, with a note that holds its traceback."""
    text = "".join(traceback.format_exception(error))
    try:
        copy = pickle.loads(pickle.dumps(error))
        whole = isinstance(copy, Exception) and type(copy) is type(error) and copy.args == error.args
    except Exception:
        whole = False
    found = error if whole else RuntimeError(f"DataLoader: {type(error).__name__}: {error}")
    found.add_note(f"in worker process {multiprocessing.current_process().pid}, which read {batch}:\n{text}")
    return found
