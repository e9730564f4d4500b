-- :find_jobs Jobs wherever they are, newest first; in the hot table, arrival is the order of rowids.
SELECT * FROM (
  SELECT * FROM (
    SELECT id, seq, job_name, args, status, queue, priority, attempts, max_attempts, crashes, interruptions,
           unique_job, dedup_key, producer_id, worker_id, last_error, NULL AS result, created_at, updated_at,
           scheduled_at, due_at, started_at, NULL AS finished_at, NULL AS expires_at
    FROM soniq_jobs
  ) WHERE {where} ORDER BY seq DESC LIMIT :limit + :offset
)
UNION ALL
SELECT * FROM (
  SELECT * FROM (
    SELECT id, seq, job_name, args, status, queue, priority, attempts, max_attempts, crashes, interruptions,
           unique_job, dedup_key, producer_id, worker_id, last_error, result, created_at, finished_at AS updated_at,
           NULL AS scheduled_at, due_at, started_at, finished_at, expires_at
    FROM soniq_finished_jobs
  ) WHERE {where} ORDER BY created_at DESC, seq DESC LIMIT :limit + :offset
)
UNION ALL
SELECT * FROM (
  SELECT * FROM (
    SELECT id, seq, job_name, args, 'dead_letter' AS status, queue, priority, attempts, max_attempts, crashes,
           interruptions, unique_job, dedup_key, producer_id, worker_id, last_error, NULL AS result,
           original_created_at AS created_at, moved_to_dead_letter_at AS updated_at, NULL AS scheduled_at, due_at,
           started_at, moved_to_dead_letter_at AS finished_at, NULL AS expires_at
    FROM soniq_dead_letter_jobs
  ) WHERE {where} ORDER BY created_at DESC, seq DESC LIMIT :limit + :offset
)
ORDER BY created_at DESC, seq DESC LIMIT :limit OFFSET :offset

-- :hot_job Where a job in the hot table is.
SELECT seq, status FROM soniq_jobs WHERE id = ?

-- :is_kept Whether a job is in the history or among the dead letters.
SELECT 1 FROM soniq_finished_jobs WHERE id = :id UNION ALL SELECT 1 FROM soniq_dead_letter_jobs WHERE id = :id

-- :delete_queued Delete a job that waits.
DELETE FROM soniq_jobs WHERE id = ? AND status = 'queued'

-- :delete_finished Delete a job from the history.
DELETE FROM soniq_finished_jobs WHERE id = ?

-- :counts How many jobs each queue has in each status, and when the oldest claimable one was stored.
SELECT queue, status, count(*), min(CASE WHEN status = 'queued' AND scheduled_at IS NULL THEN created_at END)
FROM soniq_jobs GROUP BY queue, status
UNION ALL
SELECT queue, status, count(*), NULL FROM soniq_finished_jobs GROUP BY queue, status
UNION ALL
SELECT queue, 'dead_letter', count(*), NULL FROM soniq_dead_letter_jobs GROUP BY queue

-- :paused_queues The queues that are paused.
SELECT name FROM soniq_queues WHERE paused

-- :pause_queue Pause or resume a queue.
INSERT INTO soniq_queues (name, paused) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET paused = excluded.paused

-- :unclaimable_names Task names of queued jobs that no worker that is not stopped has registered.
SELECT job_name, count(*) FROM soniq_jobs
WHERE status = 'queued' AND job_name NOT IN (
  SELECT r.task_name FROM soniq_task_registry r JOIN soniq_workers w ON w.id = r.worker_id WHERE w.status <> 'stopped'
)
GROUP BY job_name ORDER BY count(*) DESC, job_name LIMIT ?

-- :prune_finished Delete expired jobs from the history.
DELETE FROM soniq_finished_jobs
WHERE rowid IN (SELECT rowid FROM soniq_finished_jobs WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)
