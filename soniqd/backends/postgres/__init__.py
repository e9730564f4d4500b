"""PostgreSQL: the production backend, and the only thing that hosts share.

**Schema.** Soniq 0.1.0's tables and channels, so that its producers go on enqueueing; our columns and tables are added
by numbered files in ``migrations/``, each of which says why. Statements live in ``sql/``, named, with their purpose.

**Enqueueing.** One job is one statement that inserts and notifies, sent with as few steps as libpq needs
(``direct.py``: 73 us instead of 112 without fsync, where psycopg's bare insert and notify takes 67). Jobs that tasks of
one process enqueue at the same time are gathered (``gathering.py``): with 50 callers 3,200 a second instead of 240,
on a disk that syncs 200 times a second. From 500 jobs on COPY is faster than arrays; both are written as text by hand,
which costs the client 5 us a plain job instead of 8, beside 5 of the server's. Keyed jobs cost the server 11 us: two
more unique indexes, each looked up before it is written; joining them with what was stored cost 179 in chunks of 5000,
since hash joins are off, and hashed subplans are not. Left: COPY of keyed jobs, repeated by the statement on a
conflict, which would leave a chunk of dead rows in the hot table at each conflict.

**Claiming.** Claimable rows are in one partial index that leads with queue and task name, so a claim costs one probe
for each pair that has work, and then the rows it takes; what it may not take (paused queues, other workers' tasks,
jobs for later) is never walked over. Rows are locked with SKIP LOCKED in index order. A claim takes a shared lock on
its worker's row and a release an exclusive one, so that no claim of a dead worker commits after its jobs were released.

With one lane (a pair of queue and task name) a shorter statement does: each step of a statement costs its part whether
or not it finds anything, and 0.38 ms became 0.20 for a single job. It takes nothing where there are several lanes, and
is then left alone for some seconds.

Rows that somebody keeps locked (an open transaction of a person, say) hold up neither their own lane nor others: from
the third round on, a claim that has found nothing looks at more rows and lanes than it needs. With 20 lanes that
costs the usual claim nothing, with 40 lanes 3 %.

With many lanes a claim first finds a place before which half of them have twice their
even share of the limit, and reads the others up to there only: five rows for each that is taken, not 21 with 20 lanes.

**Completing.** Outcomes are written by one statement per batch: a DELETE whose rows go to the history or the dead
letters, an UPDATE for those that come back; both join on the fence. If PostgreSQL refuses the content of one (a result
that it cannot store), the batch is written row by row and the culprits are reported by
:class:`~soniqd.errors.OutcomeRefusedError`, after everything else is in the database.

**Twins.** A job that comes back while a queued twin holds its dedup or unique key gives the key up. Twins that are
committed are seen by the statement; one that commits at the same moment makes it fail on the unique index, upon which
it is repeated, in the end without keys.

**Connections.** ``pool.py`` lends connections and connects in the caller's task, so that a database that is down is
reported at once and by its own words, and a database that is back is used at once. Before a connection is lent, its
socket is looked at (without a round trip): what a server said goodbye to is discarded. Every statement has a deadline
in the server and a later one here, which shuts the socket, for servers that do not answer any more. Listening and
migrating have connections of their own, and so has leading where the pool has several (``leadership.py``).

**Plans.** The hot statements' plans must not depend on when the table was last analysed: a plan made while the table
was empty would sort a backlog. Pooled connections therefore plan without sequential scans, hash and merge joins, and
reuse generic plans; statements that look at whole tables ask for the planner's usual freedom for themselves.

**Looking.** Questions of people cost about the same however much is stored. Lists come from the primary keys, since
ids begin with the time; counts are exact up to 100,000 rows of a table and estimated from a sample of its pages beyond
(with two million jobs: listing from 3,700 to 4 ms, counting from 590 to 106 ms, unknown tasks from 530 to 7 ms). Left
alone: counts kept by triggers, which would make every worker write the same row.

**What a job costs** is held in ``tests/budgets``. In short: three versions of its row in the hot table and one in the
history, six index entries, 1150 bytes of log, 24 microseconds of the server's time, two statements for 500 jobs. What
was tried for less, and what it gave:

* parameters as texts (``arrays.py``) and not as lists: 2.4 of 8 microseconds of the client's time a completed job, and
  one type whatever the values, so that nothing is prepared twice;
* an answer that is a number and not an id a row: 47 bytes a job;
* rows in binary: 0.15 of 0.6 microseconds a claimed job, and the server formats no times; 5 bytes more on the wire;
* ``fillfactor`` 45: 70 bytes of log a claim (see migration 1006, with what was measured about the indexes);
* deleting by the primary key in one step, without looking the row's place up first: no difference for the server, and
  a plan that depends on what the planner believes;
* one claim and one completion in one pipeline: less than both on connections of their own, overlapping.

**Pruning.** History goes by its index on ``expires_at``, 2,000 rows at a time, resting for as long as that took
(``policy/pruning.py``): half of a connection's time deletes more than a host can finish. Rows are not locked first.

**Dead rows.** Whoever runs many jobs looks every 2 s how many rows have died, and vacuums the hot table if many of them
can go (``vacuum.py``, ``policy/vacuuming.py``, ``backends/vacuuming.py``). At 15,000 jobs a second that takes 20 ms
each time, the table stays at 17 MB where it grew to 120 until autovacuum looked, and the 99th percentile of a claim of
100 was 0.9 to 1.4 times a fresh table's, without it 0.9 to 1.8 (runs of their own, on a noisy machine). With a million
jobs waiting a vacuum takes 70 ms, and the rate stays the same. It runs on a connection of the pool; idle hosts ask
nothing. ``SKIP_LOCKED`` is all that hosts need to keep out of each other's way, so there is no lock of ours. Left:
truncating, which takes a lock that claims wait for: autovacuum still does that, when few rows die.

Ten million jobs through the table (15,000 to 17,000 a second, claims of 100, 99th percentile 5.1 ms when fresh): 4.5 to
5.0 ms and 15 to 22 MB over the first nine million; 4.3 to 5.9 ms over the last one, with a transaction held open
elsewhere, where the table grew to 355 MB and the rate fell from 13,700 to 8,600; 6.0 ms right after it, and 5.5 after
that.

**Old snapshots.** While one is held anywhere, dead entries at the head of the claim index stay, and no vacuum helps.
``lookahead.py`` keeps claims from walking over them: with 700,000 jobs through the table meanwhile the 99th percentile
of a claim of 100 was 0.8 to 1.2 times a fresh table's (1.2 to 1.9 with 400,000), at 0.7 of the usual rate. Who looks at
the whole queue spends 100 ns on each entry that is kept, 32 ms after 300,000 jobs. So a claim that finds fewer jobs
than it asks for has that done beside it, and takes 0.6 ms; a fresh one takes 0.4. When the snapshot goes, the vacuum
comes within a few seconds (0.4 s for 1.4 million rows).

**Servers.** PostgreSQL 14 and newer.

**PgBouncer.** A pooler shows in the process id that comes with a connection, which is none of the server's. Then
nothing is prepared and no session state is set, leading is a lock of a transaction that stays open, and a subscription
that is deaf looks for jobs by itself. So transaction pooling needs no setting; jobs start up to a second later. Plans
are the planner's own there, so autovacuum's analyze matters more. In session mode LISTEN works; that sessions are
whole, soniqd believes only with ``?prepare_threshold=2`` in the URL, and ``=none`` says that they never are. Tried: the
listener's notification to itself as the proof, which PgBouncer passes with the answer of the very statement, so that
the deaf took themselves for live; a session lock behind PgBouncer, which two schedulers held at once.
"""

from soniqd.backends.postgres.backend import PostgresBackend

__all__ = ["PostgresBackend"]
