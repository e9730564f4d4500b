-- name: count_ready
-- count what can be claimed in each queue
-- Here and below: queues, task names and priorities are walked by one index probe each, up to a number; what is
-- counted is counted up to a number; so the cost does not grow with what is stored.
WITH RECURSIVE walk AS (
  (SELECT queue, 1 AS n FROM soniq_jobs WHERE status = 'queued' AND scheduled_at IS NULL ORDER BY queue LIMIT 1)
  UNION ALL
  SELECT j.queue, walk.n + 1 FROM walk CROSS JOIN LATERAL (
    SELECT queue FROM soniq_jobs WHERE status = 'queued' AND scheduled_at IS NULL AND queue > walk.queue
    ORDER BY queue LIMIT 1) j
  WHERE walk.n < %(most_queues)s::int
)
SELECT walk.queue, (
  SELECT count(*) FROM (
    SELECT FROM soniq_jobs j WHERE j.queue = walk.queue AND j.status = 'queued' AND j.scheduled_at IS NULL
    LIMIT %(counted)s::int) c)
FROM walk;

-- name: look_at_heads
-- look at the first jobs of each queue and task
-- oldest_s: of the first few of each of the first few priorities. A job whose time had come waits since then.
WITH RECURSIVE lane AS (
  (SELECT queue, job_name, 1 AS n FROM soniq_jobs WHERE status = 'queued' AND scheduled_at IS NULL
   ORDER BY queue, job_name LIMIT 1)
  UNION ALL
  SELECT j.queue, j.job_name, lane.n + 1 FROM lane CROSS JOIN LATERAL (
    SELECT queue, job_name FROM soniq_jobs
    WHERE status = 'queued' AND scheduled_at IS NULL AND (queue, job_name) > (lane.queue, lane.job_name)
    ORDER BY queue, job_name LIMIT 1) j
  WHERE lane.n < %(most_lanes)s::int
), known AS MATERIALIZED (
  SELECT DISTINCT r.task_name FROM soniq_workers w JOIN soniq_task_registry r ON r.worker_id = w.id::text
  WHERE w.status <> 'stopped'
)
SELECT lane.queue, lane.job_name, lane.job_name IN (SELECT task_name FROM known) AS known, (
  WITH RECURSIVE level AS (
    (SELECT priority, 1 AS n FROM soniq_jobs
     WHERE queue = lane.queue AND job_name = lane.job_name AND status = 'queued' AND scheduled_at IS NULL
     ORDER BY priority LIMIT 1)
    UNION ALL
    SELECT j.priority, level.n + 1 FROM level CROSS JOIN LATERAL (
      SELECT priority FROM soniq_jobs
      WHERE queue = lane.queue AND job_name = lane.job_name AND status = 'queued' AND scheduled_at IS NULL
        AND priority > level.priority
      ORDER BY priority LIMIT 1) j
    WHERE level.n < %(most_priorities)s::int
  )
  SELECT extract(epoch FROM clock_timestamp() - min(first.since))::float8 FROM level CROSS JOIN LATERAL (
    SELECT coalesce(j.due_at, j.created_at) AS since FROM soniq_jobs j
    WHERE j.queue = lane.queue AND j.job_name = lane.job_name AND j.priority = level.priority
      AND j.status = 'queued' AND j.scheduled_at IS NULL
    ORDER BY j.seq LIMIT %(most_firsts)s::int) first
) AS oldest_s
FROM lane;

-- name: count_lanes
-- count the jobs of a task in each of its queues
SELECT l.job_name, (
  SELECT count(*) FROM (
    SELECT FROM soniq_jobs j
    WHERE j.queue = l.queue AND j.job_name = l.job_name AND j.status = 'queued' AND j.scheduled_at IS NULL
    LIMIT %(counted)s::int) c)
FROM unnest(%(queues)s::text[], %(names)s::text[]) AS l (queue, job_name);

-- name: count_later
-- count the jobs that have a time to come
WITH known AS MATERIALIZED (
  SELECT DISTINCT r.task_name FROM soniq_workers w JOIN soniq_task_registry r ON r.worker_id = w.id::text
  WHERE w.status <> 'stopped'
), later AS MATERIALIZED (
  SELECT queue, job_name FROM soniq_jobs WHERE status = 'queued' AND scheduled_at IS NOT NULL
  ORDER BY scheduled_at LIMIT %(counted)s::int
)
SELECT queue, job_name, job_name IN (SELECT task_name FROM known), count(*) FROM later GROUP BY queue, job_name;

-- name: count_held
-- count the jobs that workers hold
SELECT queue, count(*) FROM (
  SELECT queue FROM soniq_jobs WHERE status = 'processing' LIMIT %(counted)s::int
) held GROUP BY queue;

-- name: circumstances
-- look at what a job's fate depends on
SELECT clock_timestamp() AS now,
       EXISTS (SELECT FROM soniq_queues WHERE name = %(queue)s::text AND paused) AS queue_paused,
       d.dead_letter_reason, d.resurrection_count
FROM (SELECT 1) one LEFT JOIN soniq_dead_letter_jobs d ON d.id = %(id)s::uuid;

-- name: count_ahead
-- count the jobs that will be claimed before another one
-- Of tasks that somebody knows: the others are in nobody's way. No row if the job is not to be claimed now.
WITH RECURSIVE mine AS MATERIALIZED (
  SELECT queue, job_name, priority, seq FROM soniq_jobs
  WHERE id = %(id)s::uuid AND status = 'queued' AND scheduled_at IS NULL
), walk AS (
  (SELECT j.job_name, 1 AS n FROM mine CROSS JOIN LATERAL (
    SELECT job_name FROM soniq_jobs WHERE queue = mine.queue AND status = 'queued' AND scheduled_at IS NULL
    ORDER BY job_name LIMIT 1) j)
  UNION ALL
  SELECT j.job_name, walk.n + 1 FROM walk CROSS JOIN mine CROSS JOIN LATERAL (
    SELECT job_name FROM soniq_jobs
    WHERE queue = mine.queue AND status = 'queued' AND scheduled_at IS NULL AND job_name > walk.job_name
    ORDER BY job_name LIMIT 1) j
  WHERE walk.n < %(most_lanes)s::int
), known AS MATERIALIZED (
  SELECT DISTINCT r.task_name FROM soniq_workers w JOIN soniq_task_registry r ON r.worker_id = w.id::text
  WHERE w.status <> 'stopped'
)
SELECT (
  SELECT count(*) FROM (
    SELECT FROM walk CROSS JOIN LATERAL (
      SELECT FROM soniq_jobs j
      WHERE j.queue = mine.queue AND j.job_name = walk.job_name AND (j.priority, j.seq) < (mine.priority, mine.seq)
        AND j.status = 'queued' AND j.scheduled_at IS NULL
      LIMIT %(counted)s::int) ahead
    WHERE walk.job_name = mine.job_name OR walk.job_name IN (SELECT task_name FROM known)
    LIMIT %(counted)s::int) c)
FROM mine;

-- name: knowers
-- find the workers that know a task
SELECT r.worker_id, r.defaults::text FROM soniq_task_registry r JOIN soniq_workers w ON w.id::text = r.worker_id
WHERE r.task_name = %(name)s::text AND w.status <> 'stopped'
  AND (%(heard_within_s)s::float8 IS NULL
       OR w.last_heartbeat >= clock_timestamp() - %(heard_within_s)s::float8 * interval '1 second')
ORDER BY w.started_at DESC, w.id;

-- name: known_tasks
-- list the tasks that workers know
SELECT DISTINCT r.task_name FROM soniq_workers w JOIN soniq_task_registry r ON r.worker_id = w.id::text
WHERE w.status <> 'stopped';

-- name: leader
-- look who leads
SELECT a.application_name, host(a.client_addr)
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.classid::bigint << 32) | l.objid::bigint = %(key)s::bigint
LIMIT 1;
