-- name: enqueue_now
-- store a job and tell listeners
INSERT INTO soniq_jobs (id, job_name, args, args_hash, max_attempts, priority, queue, producer_id)
VALUES (%(id)s::uuid, %(name)s::text, %(args)s::text::jsonb, %(args_hash)s::text, %(max_attempts)s::int,
        %(priority)s::int, %(queue)s::text, %(producer_id)s::text)
RETURNING pg_notify('soniq_new_job', queue);

-- name: enqueue_later
-- store a job for later and tell listeners
-- Here and below the clock is read for "now" last, so that a delay of nothing is over.
WITH due AS MATERIALIZED (
  SELECT coalesce(%(run_at)s::timestamptz, clock_timestamp() + %(delay_s)s::float8 * interval '1 second') AS at,
         clock_timestamp() AS now
), stored AS (
  INSERT INTO soniq_jobs (id, job_name, args, args_hash, max_attempts, priority, queue, producer_id,
                          scheduled_at, due_at)
  SELECT %(id)s::uuid, %(name)s::text, %(args)s::text::jsonb, %(args_hash)s::text, %(max_attempts)s::int,
         %(priority)s::int, %(queue)s::text, %(producer_id)s::text,
         CASE WHEN due.at > due.now THEN due.at END, CASE WHEN due.at <= due.now THEN due.at END
  FROM due
  RETURNING id, queue, scheduled_at
)
SELECT id::text,
       CASE WHEN scheduled_at IS NULL THEN pg_notify('soniq_new_job', queue)
            ELSE pg_notify('soniq_due', extract(epoch FROM scheduled_at)::text) END
FROM stored;

-- name: enqueue_many
-- store jobs and tell listeners
WITH wanted AS MATERIALIZED (
  SELECT n.*, coalesce(n.run_at, clock_timestamp() + n.delay_s * interval '1 second') AS due,
         clock_timestamp() AS now
  FROM unnest(
    %(ids)s::uuid[], %(names)s::text[], %(args)s::text[], %(args_hashes)s::text[], %(max_attempts)s::int[],
    %(priorities)s::int[], %(queues)s::text[], %(producer_ids)s::text[], %(run_ats)s::timestamptz[],
    %(delays_s)s::float8[]
  ) AS n (id, name, args, args_hash, max_attempts, priority, queue, producer_id, run_at, delay_s)
), stored AS (
  INSERT INTO soniq_jobs (id, job_name, args, args_hash, max_attempts, priority, queue, producer_id,
                          scheduled_at, due_at)
  SELECT id, name, args::jsonb, args_hash, max_attempts, priority, queue, producer_id,
         CASE WHEN due > now THEN due END, CASE WHEN due <= now THEN due END
  FROM wanted
  RETURNING queue, scheduled_at
), told_now AS (
  SELECT pg_notify('soniq_new_job', queue) AS told FROM stored WHERE scheduled_at IS NULL GROUP BY queue
), told_due AS (
  SELECT pg_notify('soniq_due', extract(epoch FROM min(scheduled_at))::text) AS told
  FROM stored WHERE scheduled_at IS NOT NULL HAVING count(*) > 0
)
SELECT (SELECT count(told) FROM told_now), (SELECT count(told) FROM told_due);

-- name: copy_jobs
-- store many jobs
COPY soniq_jobs (id, args, args_hash, job_name, max_attempts, priority, queue, producer_id) FROM STDIN;

-- name: tell_queues
-- tell listeners of many jobs
SELECT pg_notify('soniq_new_job', queue) FROM unnest(%(queues)s::text[]) AS q (queue);

-- name: enqueue_keyed
-- store jobs unless a queued twin holds their key, and tell listeners
WITH wanted AS MATERIALIZED (
  SELECT n.*, coalesce(n.run_at, clock_timestamp() + n.delay_s * interval '1 second') AS due,
         clock_timestamp() AS now
  FROM unnest(
    %(ids)s::uuid[], %(names)s::text[], %(args)s::text[], %(args_hashes)s::text[], %(max_attempts)s::int[],
    %(priorities)s::int[], %(queues)s::text[], %(producer_ids)s::text[], %(run_ats)s::timestamptz[],
    %(delays_s)s::float8[], %(uniques)s::boolean[], %(dedup_keys)s::text[]
  ) WITH ORDINALITY
    AS n (id, name, args, args_hash, max_attempts, priority, queue, producer_id, run_at, delay_s, is_unique,
          dedup_key, place)
), stored AS (
  -- No conflict target: a job may hold both of Soniq's partial unique keys, and either may be taken.
  INSERT INTO soniq_jobs (id, job_name, args, args_hash, max_attempts, priority, queue, producer_id, unique_job,
                          dedup_key, scheduled_at, due_at)
  SELECT id, name, args::jsonb, args_hash, max_attempts, priority, queue, producer_id, is_unique, dedup_key,
         CASE WHEN due > now THEN due END, CASE WHEN due <= now THEN due END
  FROM wanted ORDER BY place
  ON CONFLICT DO NOTHING
  RETURNING id, queue, scheduled_at
), told_now AS (
  SELECT pg_notify('soniq_new_job', queue) AS told FROM stored WHERE scheduled_at IS NULL GROUP BY queue
), told_due AS (
  SELECT pg_notify('soniq_due', extract(epoch FROM min(scheduled_at))::text) AS told
  FROM stored WHERE scheduled_at IS NOT NULL HAVING count(*) > 0
)
SELECT 0 AS place, NULL AS twin, (SELECT count(told) FROM told_now) + (SELECT count(told) FROM told_due)
UNION ALL
-- Only what was not stored is worth telling. IN and no join: it is hashed, however the planner is bound.
SELECT wanted.place,
       coalesce(
         (SELECT t.id FROM soniq_jobs t
          WHERE t.status = 'queued' AND t.dedup_key IS NOT NULL AND t.dedup_key = wanted.dedup_key),
         (SELECT t.id FROM soniq_jobs t
          WHERE t.status = 'queued' AND t.unique_job = TRUE AND wanted.is_unique
            AND t.job_name = wanted.name AND t.args_hash = wanted.args_hash),
         (SELECT t.id FROM soniq_jobs t WHERE t.id = wanted.id)
       )::text,
       0
FROM wanted WHERE wanted.id NOT IN (SELECT id FROM stored);
