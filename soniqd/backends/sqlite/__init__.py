"""The SQLite backend: one file, one host, several processes.

**Durability.** WAL mode with ``synchronous=FULL``: a commit is on disk when the call returns. NORMAL would be faster,
but loses the last commits when the power goes, and a job reported as stored or done must stay so. Batching pays for
it: one fsync serves every call that waited.

**Threads.** Nothing touches the file on the event loop's thread. One *writer* thread per process takes all waiting
calls and serves them in one ``BEGIN IMMEDIATE`` transaction; should one of them fail, the transaction is rolled back
and each is served alone, so that no call pays for another's error (a call must therefore be repeatable). One *reader*
thread with a connection of its own answers questions, which WAL lets it do while somebody writes.

**Few steps.** Python's sqlite3 gives the interpreter lock away at every step of a statement and then waits for it
again, up to 5 ms where the loop is busy: a hundred rows written one by one could hold the database's only write lock
for half a second. So rows go in as long VALUES lists, and come out as one JSON array. What jobs of a bulk have in
common is bound once (3 us a row instead of 4.2), and so is that they have no keys, which saves another fifth. A list
is filled up with rows of NULL to one of a few sizes, so that a chunk of 5000 jobs goes in by two statements instead of
six; sizes up to 2560, since one of 5120 rows takes 30 ms to be prepared. ``executemany`` and rows from ``json_each``
cost 5 and 8 us. While a bulk is made, the loop keeps the interpreter lock and the writer waited some 15 ms a chunk
before its first row: the loop now stands still until the writer has begun, 2 ms at most. All this made ``enqueue_many``
1.15 to 1.35 times as fast. Without effect: a shorter switch interval of the interpreter. Left: claims that
are not synced, since a claim that is lost with the power holds nothing; a job that takes the host down would then never
count a crash.

**Counts** of each queue's jobs by status are kept by triggers (half a microsecond a row; there is one writer anyway),
so no question counts a table: with two million jobs ``queue_stats`` took 0.9 s and takes 0.1 ms. Lists read only the
tables that the counts show to hold what is looked for. Left: lists by task name or worker, which walk over the tables
where few jobs match (0.3 s with two million). Pruning deletes 500 rows at a time and lets others write in between.

**Other processes** write too. SQLite lets one at a time; the others retry every millisecond or so, up to
``busy_timeout_s``. A killed writer's half transaction is undone by the next who opens the file (SQLite's own
recovery), and its locks die with it.

**Claims** go along one index, (queue, job_name, priority, seq), from the head of one pair of queue and task name to
the next, so that neither paused queues nor a backlog of unknown names is walked over. Over all pairs the order is
exactly (priority, seq). Where all claimable jobs are of one pair, one statement judges the worker, the pause and the
names and reads the jobs, and one stamps them, instead of five in all (60 to 75 us less of 200 to 450 us). Half of the
rest is the sync: 0.1 ms on a busy disk, 0.4 ms on one that was idle for 20 ms, whether four pages are written or eight,
and the same in a file that grows and in one whose blocks were written before: so nothing is gained by making the log's
file larger in advance.

**Wake-ups** (:mod:`~soniqd.backends.sqlite.bell`) go through datagram sockets in a folder beside the file,
``<file>.wake``, in which leadership locks live too. Where that folder cannot be used, ``live`` is false and callers
poll.

**Clock.** The host's, read inside the transaction: there is only one host. Do not put the file on a network file
system: neither SQLite's locks nor these sockets work there.
"""

from soniqd.backends.sqlite.backend import SQLiteBackend

__all__ = ["SQLiteBackend"]
