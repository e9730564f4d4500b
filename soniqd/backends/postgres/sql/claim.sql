-- name: claim
-- take the best claimable jobs
-- me: the row lock makes a release of this worker wait for this claim, and this claim see that release. It is looked
-- up by the first lane (thus CASE), so that a claim that finds nothing writes nothing.
-- walk: each pair of queue and task name that has claimable rows, with its best row, by one index probe each.
-- ahead: instead, lanes that the caller knows, from where it was last (see lookahead.py).
-- edge: with many lanes, a place up to which they have enough rows together, though none was walked to the limit: half
-- of the lanes have twice their even share before it. So a claim reads about five rows for each that it takes, however
-- many lanes there are, and not one for each lane.
-- share: how many rows each lane has among the best; exact, so that nothing is locked that is not taken.
-- taken: each lane from its best row on, in index order, past rows that others have locked.
-- skip: a claim may come back short because others have locked a lane to its end, while that lane's share is missed by
-- the others. If it is asked again with so many rows to skip, at least as many as it missed, so many more are among the
-- best, each is a share of its own, up to which its lane is read, and the first ones that can be locked are taken. The
-- LIMIT stops the locking, too. reach: limit and skip. lanes: how many it looks at, so many more than 32.
-- Rows without an id: how many lanes there are and how many rows they share (without a name), and with tell_lanes each
-- lane. So no job's row has to say it.
WITH RECURSIVE me AS MATERIALIZED (
  SELECT id FROM soniq_workers WHERE id = %(worker_id)s::uuid AND status = 'active' FOR KEY SHARE
), walk AS (
  (SELECT queue, job_name, priority, seq FROM soniq_jobs
   WHERE status = 'queued' AND scheduled_at IS NULL AND %(walk)s::boolean
   ORDER BY queue, job_name, priority, seq LIMIT 1)
  UNION ALL
  SELECT n.* FROM walk CROSS JOIN LATERAL (
    SELECT queue, job_name, priority, seq FROM soniq_jobs
    WHERE status = 'queued' AND scheduled_at IS NULL AND (queue, job_name) > (walk.queue, walk.job_name)
    ORDER BY queue, job_name, priority, seq LIMIT 1) n
), lane AS (
  SELECT * FROM walk
  UNION ALL
  SELECT n.* FROM unnest(
    %(ahead_queues)s::text[], %(ahead_names)s::text[], %(ahead_priorities)s::int[], %(ahead_seqs)s::bigint[]
  ) AS a (queue, job_name, priority, seq) CROSS JOIN LATERAL (
    SELECT queue, job_name, priority, seq FROM soniq_jobs
    WHERE queue = a.queue AND job_name = a.job_name AND (priority, seq) >= (a.priority, a.seq)
      AND status = 'queued' AND scheduled_at IS NULL
    ORDER BY priority, seq LIMIT 1) n
), wanted AS MATERIALIZED (
  SELECT queue, job_name, row_number() OVER (ORDER BY priority, seq) AS rank, priority, seq,
         count(*) OVER () AS n
  FROM lane
  WHERE coalesce(job_name = ANY (%(names)s::text[]), true)
    AND coalesce(queue = ANY (%(queues)s::text[]), true)
    AND NOT EXISTS (SELECT FROM soniq_queues q WHERE q.name = lane.queue AND q.paused)
    AND CASE WHEN queue IS NOT NULL THEN EXISTS (SELECT FROM me) END
), edge AS MATERIALIZED (
  SELECT r.priority, r.seq FROM wanted w CROSS JOIN LATERAL (
    SELECT priority, seq FROM soniq_jobs
    WHERE queue = w.queue AND job_name = w.job_name AND (priority, seq) >= (w.priority, w.seq)
      AND status = 'queued' AND scheduled_at IS NULL
    ORDER BY priority, seq
    OFFSET 2 * %(reach)s::int / least(w.n, 32) LIMIT 1) r
  WHERE w.rank <= 32 AND w.n > 6
  ORDER BY r.priority, r.seq OFFSET (SELECT (least(count(*), 32) - 1) / 2 FROM wanted) LIMIT 1
), best AS (
  SELECT w.queue, w.job_name,
         CASE %(skip)s::int WHEN 0 THEN w.priority ELSE r.priority END AS priority,
         CASE %(skip)s::int WHEN 0 THEN w.seq ELSE r.seq END AS seq
  FROM wanted w CROSS JOIN LATERAL (
    SELECT priority, seq FROM soniq_jobs
    WHERE queue = w.queue AND job_name = w.job_name AND (priority, seq) >= (w.priority, w.seq)
      AND (priority, seq) <= (
        SELECT coalesce(max(priority), 2147483647), coalesce(max(seq), 9e18::bigint) FROM edge)
      AND status = 'queued' AND scheduled_at IS NULL
    ORDER BY priority, seq LIMIT %(reach)s::int) r
  WHERE w.n > 1 AND w.rank <= %(lanes)s::int
    AND (w.n <= %(lanes)s::int
         OR (r.priority, r.seq) < (SELECT priority, seq FROM wanted WHERE rank = %(lanes)s::int + 1))
  ORDER BY r.priority, r.seq LIMIT %(reach)s::int
), share AS MATERIALIZED (
  SELECT queue, job_name, count(*) AS rows, priority, seq,
         CASE %(skip)s::int WHEN 0 THEN 2147483647 ELSE priority END AS to_priority,
         CASE %(skip)s::int WHEN 0 THEN 9e18::bigint ELSE seq END AS to_seq
  FROM best GROUP BY priority, seq, queue, job_name
  UNION ALL
  SELECT queue, job_name, %(limit)s::int, priority, seq, 2147483647, 9e18::bigint FROM wanted WHERE n = 1
  ORDER BY priority, seq
), taken AS MATERIALIZED (
  SELECT r.row FROM share s CROSS JOIN LATERAL (
    SELECT ctid AS row FROM soniq_jobs
    WHERE queue = s.queue AND job_name = s.job_name AND (priority, seq) >= (s.priority, s.seq)
      AND (priority, seq) <= (s.to_priority, s.to_seq)
      AND status = 'queued' AND scheduled_at IS NULL
    ORDER BY priority, seq LIMIT s.rows FOR UPDATE SKIP LOCKED) r
  LIMIT %(limit)s::int
), claimed AS (
  UPDATE soniq_jobs
  SET status = 'processing', worker_id = %(worker_id)s::uuid, claim_no = claim_no + 1, started_at = now(),
      updated_at = now()
  WHERE ctid = ANY (ARRAY(SELECT row FROM taken))
  RETURNING id::text, claim_no, job_name, args::text, queue, priority, attempts, max_attempts, crashes, due_at,
            created_at, seq
)
SELECT * FROM claimed
UNION ALL
SELECT NULL, (SELECT count(*) FROM wanted), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       (SELECT sum(rows)::bigint FROM share)
UNION ALL
SELECT NULL, NULL, job_name, NULL, queue, priority, NULL, NULL, NULL, NULL, NULL, seq
FROM wanted WHERE %(tell_lanes)s::boolean;

-- name: claim_only_lane
-- take the best claimable jobs
-- The same where there is one lane at most, which is most of the time: in half of the server's time, of which each step
-- of a statement costs a part whether or not it finds anything. Of several lanes it takes nothing, and says so by a row.
-- CASE: a join with the paused queues would come behind the locks, and lock what is not taken.
WITH me AS MATERIALIZED (
  SELECT id FROM soniq_workers WHERE id = %(worker_id)s::uuid AND status = 'active' FOR KEY SHARE
), lane AS MATERIALIZED (
  SELECT f.queue, f.job_name, f.priority, f.seq, EXISTS (
    SELECT FROM soniq_jobs n
    WHERE n.status = 'queued' AND n.scheduled_at IS NULL AND (n.queue, n.job_name) > (f.queue, f.job_name)
  ) AS is_one_of_several
  FROM (SELECT queue, job_name, priority, seq FROM soniq_jobs
        WHERE status = 'queued' AND scheduled_at IS NULL
        ORDER BY queue, job_name, priority, seq LIMIT 1) f
), taken AS MATERIALIZED (
  SELECT r.row FROM lane l CROSS JOIN LATERAL (
    SELECT j.ctid AS row FROM soniq_jobs j
    WHERE j.queue = l.queue AND j.job_name = l.job_name AND (j.priority, j.seq) >= (l.priority, l.seq)
      AND j.status = 'queued' AND j.scheduled_at IS NULL
    ORDER BY j.priority, j.seq LIMIT %(limit)s::int FOR UPDATE SKIP LOCKED) r
  WHERE NOT l.is_one_of_several
    AND (%(names)s::text[] IS NULL OR l.job_name = ANY (%(names)s::text[]))
    AND (%(queues)s::text[] IS NULL OR l.queue = ANY (%(queues)s::text[]))
    AND CASE WHEN EXISTS (SELECT FROM soniq_queues q WHERE q.name = l.queue AND q.paused) THEN false
             ELSE EXISTS (SELECT FROM me) END
), claimed AS (
  UPDATE soniq_jobs
  SET status = 'processing', worker_id = %(worker_id)s::uuid, claim_no = claim_no + 1, started_at = now(),
      updated_at = now()
  WHERE ctid = ANY (ARRAY(SELECT row FROM taken))
  RETURNING id, claim_no, job_name, args, queue, priority, attempts, max_attempts, crashes, due_at, created_at, seq
)
SELECT id::text, claim_no, job_name, args::text, queue, priority, attempts, max_attempts, crashes, due_at, created_at,
       seq
FROM claimed
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM lane WHERE is_one_of_several;

-- name: look_behind
-- look for jobs that claims have gone past
-- Each lane with its best row, as claim's walk finds them.
WITH RECURSIVE walk AS (
  (SELECT queue, job_name, priority, seq FROM soniq_jobs
   WHERE status = 'queued' AND scheduled_at IS NULL
   ORDER BY queue, job_name, priority, seq LIMIT 1)
  UNION ALL
  SELECT n.* FROM walk CROSS JOIN LATERAL (
    SELECT j.queue, j.job_name, j.priority, j.seq FROM soniq_jobs j
    WHERE j.status = 'queued' AND j.scheduled_at IS NULL AND (j.queue, j.job_name) > (walk.queue, walk.job_name)
    ORDER BY j.queue, j.job_name, j.priority, j.seq LIMIT 1) n
)
SELECT l.queue, l.job_name, l.priority, l.seq FROM walk l
WHERE (%(names)s::text[] IS NULL OR l.job_name = ANY (%(names)s::text[]))
  AND (%(queues)s::text[] IS NULL OR l.queue = ANY (%(queues)s::text[]))
  AND NOT EXISTS (SELECT FROM soniq_queues q WHERE q.name = l.queue AND q.paused);

-- name: announce
-- announce jobs that claims have gone past
SELECT pg_notify('soniq_new_job', queue) FROM unnest(%(queues)s::text[]) AS a (queue);

-- name: find_better
-- look for jobs that come first
-- Of each lane the best row, if its priority is better than where claims go on (see lookahead.py).
SELECT n.queue, n.job_name, n.priority, n.seq
FROM unnest(%(queues)s::text[], %(names)s::text[], %(below)s::bigint[]) AS a (queue, job_name, priority)
CROSS JOIN LATERAL (
  SELECT j.queue, j.job_name, j.priority, j.seq FROM soniq_jobs j
  WHERE j.queue = a.queue AND j.job_name = a.job_name AND j.priority < a.priority
    AND j.status = 'queued' AND j.scheduled_at IS NULL
  ORDER BY j.priority, j.seq LIMIT 1) n
WHERE NOT EXISTS (SELECT FROM soniq_queues q WHERE q.name = a.queue AND q.paused);

-- name: claims_of
-- list the jobs that a worker holds
SELECT id::text, claim_no, job_name, args::text, queue, priority, attempts, max_attempts, crashes, due_at,
       created_at, seq
FROM soniq_jobs WHERE worker_id = %(worker_id)s::uuid AND status = 'processing';

-- name: promote_due
-- make the jobs claimable whose time has come
WITH due AS MATERIALIZED (
  SELECT ctid AS row FROM soniq_jobs
  WHERE status = 'queued' AND scheduled_at <= now()
  ORDER BY scheduled_at LIMIT %(limit)s::int FOR UPDATE SKIP LOCKED
), moved AS (
  UPDATE soniq_jobs SET due_at = scheduled_at, scheduled_at = NULL, updated_at = now()
  WHERE ctid = ANY (ARRAY(SELECT row FROM due))
  RETURNING queue
), told AS (
  SELECT pg_notify('soniq_new_job', queue) AS told FROM moved GROUP BY queue
)
SELECT (SELECT count(*) FROM moved), (SELECT count(told) FROM told),
       (SELECT extract(epoch FROM scheduled_at - clock_timestamp())::float8 FROM soniq_jobs
        WHERE status = 'queued' AND scheduled_at > now() ORDER BY scheduled_at LIMIT 1);
