-- :hot_jobs Jobs in the hot table, newest first: arrival is the order of rowids.
SELECT * FROM (
  SELECT id, seq, job_name, args, status, queue, priority, attempts, max_attempts, crashes, interruptions,
         unique_job, dedup_key, producer_id, worker_id, last_error, NULL AS result, created_at, updated_at,
         scheduled_at, due_at, started_at, NULL AS finished_at, NULL AS expires_at
  FROM soniq_jobs
) WHERE {where} ORDER BY seq DESC LIMIT :most

-- :held_jobs The same of those that workers hold, which are few: the index of those is used, and not the order.
SELECT * FROM (
  SELECT id, seq, job_name, args, status, queue, priority, attempts, max_attempts, crashes, interruptions,
         unique_job, dedup_key, producer_id, worker_id, last_error, NULL AS result, created_at, updated_at,
         scheduled_at, due_at, started_at, NULL AS finished_at, NULL AS expires_at
  FROM soniq_jobs INDEXED BY soniq_jobs_held WHERE status = 'processing'
) WHERE {where} ORDER BY +seq DESC LIMIT :most

-- :finished_jobs Jobs in the history, newest first.
SELECT * FROM (
  SELECT id, seq, job_name, args, status, queue, priority, attempts, max_attempts, crashes, interruptions,
         unique_job, dedup_key, producer_id, worker_id, last_error, result, created_at, finished_at AS updated_at,
         NULL AS scheduled_at, due_at, started_at, finished_at, expires_at
  FROM soniq_finished_jobs
) WHERE {where} ORDER BY created_at DESC, seq DESC LIMIT :most

-- :dead_jobs Dead letters as jobs, newest first.
SELECT * FROM (
  SELECT id, seq, job_name, args, 'dead_letter' AS status, queue, priority, attempts, max_attempts, crashes,
         interruptions, unique_job, dedup_key, producer_id, worker_id, last_error, NULL AS result,
         original_created_at AS created_at, moved_to_dead_letter_at AS updated_at, NULL AS scheduled_at, due_at,
         started_at, moved_to_dead_letter_at AS finished_at, NULL AS expires_at
  FROM soniq_dead_letter_jobs
) WHERE {where} ORDER BY created_at DESC, seq DESC LIMIT :most

-- :hot_job Where a job in the hot table is.
SELECT seq, status FROM soniq_jobs WHERE id = ?

-- :is_kept Whether a job is in the history or among the dead letters.
SELECT 1 FROM soniq_finished_jobs WHERE id = :id UNION ALL SELECT 1 FROM soniq_dead_letter_jobs WHERE id = :id

-- :delete_queued Delete a job that waits.
DELETE FROM soniq_jobs WHERE id = ? AND status = 'queued'

-- :delete_finished Delete a job from the history.
DELETE FROM soniq_finished_jobs WHERE id = ?

-- :counts How many jobs each queue has in each status.
SELECT queue, status, jobs FROM soniq_counts WHERE jobs > 0

-- :paused_queues The queues that are paused.
SELECT name FROM soniq_queues WHERE paused

-- :pause_queue Pause or resume a queue.
INSERT INTO soniq_queues (name, paused) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET paused = excluded.paused

-- :prune_finished Delete expired jobs from the history.
DELETE FROM soniq_finished_jobs
WHERE rowid IN (SELECT rowid FROM soniq_finished_jobs WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)

-- :prune_counts Forget the counts of queues that are gone.
DELETE FROM soniq_counts WHERE jobs = 0
