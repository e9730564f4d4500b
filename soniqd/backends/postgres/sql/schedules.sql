-- name: put_schedule
-- store a schedule
INSERT INTO soniq_recurring_jobs AS s
  (id, name, job_name, schedule_type, schedule_value, priority, queue, max_attempts, job_kwargs, timezone, missed,
   next_run)
VALUES (gen_random_uuid(), %(name)s, %(job_name)s, %(type)s, %(value)s, %(priority)s::int, %(queue)s,
        %(max_attempts)s::int, %(args)s::text::jsonb, %(timezone)s, %(missed)s, %(first_run)s::timestamptz)
ON CONFLICT (name) DO UPDATE
  SET next_run = CASE
        WHEN (s.schedule_type, s.schedule_value, s.timezone)
             = (excluded.schedule_type, excluded.schedule_value, excluded.timezone)
        THEN coalesce(s.next_run, excluded.next_run) ELSE excluded.next_run END,
      job_name = excluded.job_name, schedule_type = excluded.schedule_type,
      schedule_value = excluded.schedule_value, priority = excluded.priority, queue = excluded.queue,
      max_attempts = excluded.max_attempts, job_kwargs = excluded.job_kwargs, timezone = excluded.timezone,
      missed = excluded.missed, updated_at = now();

-- name: list_schedules
-- list schedules
SELECT name, job_name, schedule_type, schedule_value, job_kwargs::text, queue, priority, max_attempts, timezone,
       missed, status = 'paused' AS paused, next_run, last_run, last_job_id::text, run_count
FROM soniq_recurring_jobs WHERE name IS NOT NULL ORDER BY name COLLATE "C";

-- name: set_schedule_status
-- pause or resume a schedule
UPDATE soniq_recurring_jobs SET status = %(status)s, updated_at = now() WHERE name = %(name)s RETURNING name;

-- name: remove_schedule
-- remove a schedule
DELETE FROM soniq_recurring_jobs WHERE name = %(name)s RETURNING name;

-- name: lock_schedule
-- take a schedule's turn
SELECT 1 FROM soniq_recurring_jobs WHERE name = %(name)s AND status = 'active' FOR UPDATE;

-- name: store_ticks
-- note ticks as fired
INSERT INTO soniq_schedule_ticks (schedule, tick_at, job_id)
SELECT t.schedule, t.tick_at, t.job_id
FROM unnest(%(schedules)s::text[], %(ticks)s::timestamptz[], %(job_ids)s::uuid[]) AS t (schedule, tick_at, job_id)
ON CONFLICT DO NOTHING
RETURNING job_id::text;

-- name: move_schedule
-- move a schedule to its next run
UPDATE soniq_recurring_jobs
SET next_run = greatest(next_run, %(next_run)s::timestamptz), last_run = greatest(last_run, %(last_run)s::timestamptz),
    last_job_id = coalesce(%(last_job_id)s::uuid, last_job_id), run_count = run_count + %(stored)s::int,
    updated_at = now()
WHERE name = %(name)s;
