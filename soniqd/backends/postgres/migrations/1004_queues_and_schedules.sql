-- Queues that are paused, schedules by name, and the ticks that were fired.
--
-- A tick's primary key is what makes it fire once, however many schedulers try.

CREATE TABLE soniq_queues (
  name text PRIMARY KEY,
  paused boolean NOT NULL DEFAULT false,
  updated_at timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE soniq_recurring_jobs
  ADD COLUMN name text,
  ADD COLUMN timezone text NOT NULL DEFAULT 'UTC',
  ADD COLUMN missed text NOT NULL DEFAULT 'all' CHECK (missed IN ('all', 'latest', 'skip'));

-- Soniq knew a schedule by its id: the first one of a task takes the task's name, a further one adds its id.
UPDATE soniq_recurring_jobs r
SET name = CASE WHEN named.n = 1 THEN r.job_name ELSE r.job_name || ':' || r.id END
FROM (
  SELECT id, row_number() OVER (PARTITION BY job_name ORDER BY created_at, id) AS n FROM soniq_recurring_jobs
) named
WHERE named.id = r.id;

CREATE UNIQUE INDEX soniq_recurring_jobs_name ON soniq_recurring_jobs (name);
DROP INDEX IF EXISTS idx_soniq_recurring_jobs_status;
DROP INDEX IF EXISTS idx_soniq_recurring_jobs_next_run;

CREATE TABLE soniq_schedule_ticks (
  schedule text NOT NULL,
  tick_at timestamptz NOT NULL,
  job_id uuid NOT NULL,
  PRIMARY KEY (schedule, tick_at)
);
