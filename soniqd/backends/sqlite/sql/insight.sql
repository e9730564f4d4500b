-- :next_queue The next queue by name that has claimable jobs.
SELECT min(queue) FROM soniq_jobs WHERE status = 'queued' AND scheduled_at IS NULL AND queue > ?

-- :first_queue The first queue by name that has claimable jobs.
SELECT min(queue) FROM soniq_jobs WHERE status = 'queued' AND scheduled_at IS NULL

-- :next_name The next task name in a queue that has claimable jobs.
SELECT min(job_name) FROM soniq_jobs WHERE status = 'queued' AND scheduled_at IS NULL AND queue = ? AND job_name > ?

-- :first_name The first task name in a queue that has claimable jobs.
SELECT min(job_name) FROM soniq_jobs WHERE status = 'queued' AND scheduled_at IS NULL AND queue = ?

-- :next_priority The next priority of a task in a queue that has claimable jobs.
SELECT min(priority) FROM soniq_jobs
WHERE status = 'queued' AND scheduled_at IS NULL AND queue = ? AND job_name = ? AND priority > ?

-- :count_ready How many claimable jobs a queue has, up to a number.
SELECT count(*) FROM (
  SELECT 1 FROM soniq_jobs WHERE status = 'queued' AND scheduled_at IS NULL AND queue = ? LIMIT ?
)

-- :count_lane How many claimable jobs a task has in a queue, up to a number.
SELECT count(*) FROM (
  SELECT 1 FROM soniq_jobs WHERE status = 'queued' AND scheduled_at IS NULL AND queue = ? AND job_name = ? LIMIT ?
)

-- :ready_since Since when the oldest of the first jobs of one priority is claimable.
SELECT min(since) FROM (
  SELECT coalesce(due_at, created_at) AS since FROM soniq_jobs
  WHERE status = 'queued' AND scheduled_at IS NULL AND queue = ? AND job_name = ? AND priority = ?
  ORDER BY seq LIMIT ?
)

-- :count_later How many jobs for later each task has in each queue, of the first ones.
SELECT queue, job_name, count(*) FROM (
  SELECT queue, job_name FROM soniq_jobs WHERE status = 'queued' AND scheduled_at IS NOT NULL
  ORDER BY scheduled_at LIMIT ?
) GROUP BY queue, job_name

-- :count_held How many jobs of each queue workers hold.
SELECT queue, count(*) FROM soniq_jobs WHERE status = 'processing' GROUP BY queue

-- :known_names The task names that a worker that is not stopped has registered.
SELECT DISTINCT r.task_name FROM soniq_task_registry r JOIN soniq_workers w ON w.id = r.worker_id
WHERE w.status <> 'stopped'

-- :position Where a claimable job stands.
SELECT queue, job_name, priority, seq FROM soniq_jobs WHERE id = ? AND status = 'queued' AND scheduled_at IS NULL

-- :count_before How many jobs of a task in a queue are claimed before a priority and a seq, up to a number.
SELECT count(*) FROM (
  SELECT 1 FROM soniq_jobs
  WHERE status = 'queued' AND scheduled_at IS NULL AND queue = :queue AND job_name = :job_name
    AND (priority, seq) < (:priority, :seq)
  LIMIT :counted
)

-- :burial Why a job is a dead letter, and how often it was replayed.
SELECT dead_letter_reason, resurrection_count FROM soniq_dead_letter_jobs WHERE id = ?

-- :knowers The workers that know a task and were heard of since, the newest first, with what they say about it.
SELECT r.worker_id, r.defaults FROM soniq_task_registry r JOIN soniq_workers w ON w.id = r.worker_id
WHERE r.task_name = ? AND w.status <> 'stopped' AND w.last_heartbeat >= ? ORDER BY w.started_at DESC, w.id

-- :first_stored When the oldest claimable job of one priority was stored.
SELECT created_at FROM soniq_jobs
WHERE status = 'queued' AND scheduled_at IS NULL AND queue = ? AND job_name = ? AND priority = ?
ORDER BY seq LIMIT 1
