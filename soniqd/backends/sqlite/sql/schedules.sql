-- :put_schedule Store a declaration; the next run starts anew only where the timing changed.
INSERT INTO soniq_recurring_jobs (name, job_name, schedule_type, schedule_value, timezone, missed, queue, priority,
                                  max_attempts, job_kwargs, next_run, created_at, updated_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE
SET job_name = excluded.job_name, schedule_type = excluded.schedule_type, schedule_value = excluded.schedule_value,
    timezone = excluded.timezone, missed = excluded.missed, queue = excluded.queue, priority = excluded.priority,
    max_attempts = excluded.max_attempts, job_kwargs = excluded.job_kwargs, updated_at = excluded.updated_at,
    next_run = CASE WHEN (schedule_type, schedule_value, timezone)
                       = (excluded.schedule_type, excluded.schedule_value, excluded.timezone)
                    THEN next_run ELSE excluded.next_run END

-- :schedules All schedules by name.
SELECT * FROM soniq_recurring_jobs ORDER BY name

-- :pause_schedule Pause or resume a schedule.
UPDATE soniq_recurring_jobs SET status = ?, updated_at = ? WHERE name = ?

-- :remove_schedule Delete a schedule.
DELETE FROM soniq_recurring_jobs WHERE name = ?

-- :may_fire Whether a schedule exists and is not paused.
SELECT 1 FROM soniq_recurring_jobs WHERE name = ? AND status = 'active'

-- :record_tick Note that a tick fires now, unless it did.
INSERT INTO soniq_schedule_ticks (schedule, tick_at, job_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING

-- :advance Move a schedule forward.
UPDATE soniq_recurring_jobs
SET next_run = max(next_run, :next_run),
    last_run = coalesce(max(coalesce(last_run, :last_run), :last_run), last_run),
    last_job_id = coalesce(:last_job_id, last_job_id), run_count = run_count + :fired, updated_at = :now
WHERE name = :name
