"""The worker: takes jobs from the backend, runs them, and writes what became of them.

::

    claimer --- offers ---> executor --- runs ---> pipeline (bind, hooks, handler, encode)
       ^                        |                      |
       |   room, rate           | outcomes <-----------+
       +------------------- completer ---> backend

One claimer and one completer a process, on two connections that overlap; between them the executor with
``concurrency`` slots, a task for each running job, and threads for handlers without ``async``. All of it lives on one
event loop. :class:`Worker` ties it together; it handles no signal, writes no heartbeat, listens to nothing and sweeps
nobody: that is for its surroundings, the master, or :func:`run_standalone` where there is none.

States of a worker: starting (not registered yet) -> running <-> paused -> draining -> ended; waiting_for_database is
shown over starting, running and paused while it is away.

What holds:

* A job that was claimed leaves in exactly one of three ways: its outcome is written; it is given back; or the worker
  is gone and whoever notices that releases what it held.
* An outcome that is not in the database is never forgotten while the worker lives (completer.py), and a job taken by a
  claim whose answer was lost is found again (claimer.py).
* No job is retried while its code still runs here (pipeline.py).
* A drain ends at its deadline, whatever handlers do: async ones are cancelled, all that is left is given back without
  using an attempt, and threads that do not end are left behind as daemon threads. Under a master the jobs of those
  stay held: it gives them back when the process, and the thread with it, has ended.
* Losing the database stops nothing that runs; it is noticed by every part at once and tried again together (outage.py).

What a job costs, and what was tried (no-op jobs, 100 slots, microseconds of the worker's processor time a job):

* From Python 3.12 on, tasks start eagerly (starting.py): a handler that never waits costs no turn of the event loop.
  With fewer coroutines around a handler, it took the worker without its database from 9.9 to 7.2 on 3.13, and from
  17.3 to 11.4 with hooks, a metrics sink and a result. On 3.11 a task waits for its turn as ever. To run the first
  step by hand there was left alone: asyncio.timeout and TaskGroup need a current task.
* What exists once a job is a named tuple (:class:`~soniqd.model.ClaimedJob`): 0.3, as a frozen dataclass 2.7. What most
  runs never set is an attribute of the class (:class:`~soniqd.worker.run.Run`): 0.2 instead of 0.35 on 3.11.
* A batch's outcomes as texts of arrays instead of psycopg's lists: 4.3 to 0.7. Claims in the binary format: less.
* Arguments: json's raw_decode takes 0.25, json.loads 1.0, pydantic_core.from_json 0.12, which is not worth its import.
* Deadlines on one timer (deadlines.py): 0.2, where asyncio.timeout takes 4.
* The database must not wait for the worker, nor the worker for it: jobs start in bursts of 0.3 ms where it was 2, for
  which an answer waited with the server idle, and 2,000 jobs are held ready instead of 1,000, since a claim of 500 came
  back to a worker that had run the other 500 already. Together that gave 5 % more no-op jobs a second and 14 % with
  everything on. Left: two writes at once, and writes of 300 or 1,000 instead of 500, which changed nothing.
* Fewer collections of garbage (a threshold of 10,000 instead of 700) give 8 to 15 %. Under a master a worker sets
  it, unless the application has set one of its own (forkserver/child.py).
* Hooks and sinks are called without a coroutine of ours and without a deadline as far as they do not wait: an async one
  takes its first step by hand (queue/answers.py), in the job's task, so that what it awaits finds that. A run has one
  context. Such a step by next() costs 0.2, by send(), which raises for each that ends, 0.3. Hooks, sink, context and
  result together still cost nearly as much again as all the rest: 6.7 of 14.6 in the worker alone on 3.11 (7.1 of 15.2
  before), of which the benchmark's own hooks and sink are about 1 and the result's JSON, in C, 0.6.
* Outcomes in the order of their ids alone: 0.1, of their fences 0.3. Results quoted all at once: 0.17, one by one 0.35.
* uvloop against asyncio, with PostgreSQL: 19.4 against 25.8 on 3.11, 17.2 against 20.6 on 3.12, 14.5 against 18.3 on
  3.13, 12.9 against 13.8 on 3.14. Batches leave the loop little to do.
* From commit to the handler's start everything is cold: "SELECT 1" takes 0.05 ms right after another one, and 0.14
  after a pause of 20 ms in a process that does nothing else, 0.45 in a worker. So what counts is how much code runs at
  all, on both sides. It was 1.75 ms, came to 1.2 and is 0.95 in the same state of the machine (the median; a peer whose
  workers listen for themselves: 0.7 to 0.8). What brought it down: a statement sent by libpq instead of psycopg's
  cursor, 0.13, and waited for without its timer, 0.1 (backends/postgres/direct.py); a claim for one lane, 0.3
  (backends/postgres/sql/claim.sql); wake-ups handed on in the very call that reads them, 0.1 (backends/wakebox.py);
  "wake" as a line that was encoded before, 0.05; then 0.15 to 0.25 by these together: the listener's reader stays over
  notifications, since the worker often waits for the processor on which the master goes on after telling it; readers of
  connections stay from one statement to the next (backends/postgres/connection.py); outcomes go as direct statements,
  too, so that they do not take those readers away; a claimer at rest asks as it asked last time (asking.py).
* A program that only listens, claims and notes the time takes 0.8 ms there, of which the claim is 0.5 to 0.6: 0.14 the
  round trip, 0.2 the disk (asynchronous commit would run jobs twice after a crash of the server), 0.2 executing it.
  With another process that listens for it: 0.9. So the way over the master costs 0.1, not the 0.25 that its own work
  made of it, and saves a connection and a LISTEN a worker. Tried in vain: to spin instead of to sleep while the claim
  is under way (nothing), the claim's statement without its marker of several lanes or without its inner tables (0.01).
* The worker that ran the last job is woken for the next one, if it is at rest (policy/waking.py): 0.69 ms with 4
  workers, where it was 0.92 when they were woken in turns; as long as with one worker.
* Tried in vain: to send a claim that is known beforehand in the very call that hears of the job. It left 90 us after
  that instead of 110, of which sending is 30 in any case, and in the end nothing of it was to be seen.
* A wake-up costs a worker three waits (for the master, for the claim, for the outcome), and one or two more where it
  rests between two jobs: its numbers are told a moment later, by timers that are set only when there is something left
  to tell. With 100 workers that is 5.6 a job, with 5 workers 4.6; 7.7 and 5.6 with a timer after each telling.
* Idle, a daemon's 4 workers asked for 1.4 transactions a second: those of a group poll in turns now (policy/polls.py),
  and a leader with nothing to fire believes what it has asked lately: 0.95.
* What is left has no hot spot: the largest part, making and stepping the task, is 0.6 (1.3 on 3.11).
"""

from soniqd.worker.options import WorkerOptions
from soniqd.worker.standalone import StandaloneOptions, run_standalone
from soniqd.worker.worker import Worker

__all__ = ["StandaloneOptions", "Worker", "WorkerOptions", "run_standalone"]
