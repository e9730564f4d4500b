-- :processing What is needed to judge the fences of these jobs, and to requeue them.
SELECT json_group_array(json_array(id, seq, worker_id, claim_no, queue, unique_job = 1 OR dedup_key IS NOT NULL))
FROM soniq_jobs WHERE id IN (SELECT value FROM json_each(?)) AND status = 'processing'

-- :held_by_workers The same of all jobs that these workers hold, in order of arrival, with their crashes.
SELECT json_group_array(json_array(seq, id, queue, keyed, crashes)) FROM (
  SELECT seq, id, queue, unique_job = 1 OR dedup_key IS NOT NULL AS keyed, crashes FROM soniq_jobs
  WHERE worker_id IN (SELECT value FROM json_each(?)) AND status = 'processing' ORDER BY seq
)

-- :keep_done Copy finished jobs with their results to the history.
WITH outcome (seq, result, finished_at, expires_at) AS (VALUES {rows})
INSERT INTO soniq_finished_jobs
  (id, seq, job_name, status, queue, priority, attempts, max_attempts, crashes, interruptions, worker_id, outcome_no,
   unique_job, dedup_key, due_at, started_at, created_at, finished_at, expires_at, producer_id, last_error, args, result)
SELECT j.id, j.seq, j.job_name, 'done', j.queue, j.priority, j.attempts + 1, j.max_attempts, j.crashes,
       j.interruptions, j.worker_id, j.claim_no, j.unique_job, j.dedup_key, j.due_at, j.started_at, j.created_at,
       outcome.finished_at, outcome.expires_at, j.producer_id, j.last_error, j.args, outcome.result
FROM outcome CROSS JOIN soniq_jobs j ON j.seq = outcome.seq

-- :keep_dead Copy jobs that failed for good to the dead letters.
WITH outcome (seq, reason, error, attempts, crashes, settles, moved_at) AS (VALUES {rows})
INSERT INTO soniq_dead_letter_jobs
  (id, seq, job_name, queue, priority, attempts, max_attempts, crashes, interruptions, worker_id, outcome_no,
   unique_job, dedup_key, due_at, started_at, producer_id, last_error, dead_letter_reason, original_created_at,
   moved_to_dead_letter_at, created_at, args)
SELECT j.id, j.seq, j.job_name, j.queue, j.priority, j.attempts + outcome.attempts, j.max_attempts,
       j.crashes + outcome.crashes, j.interruptions, j.worker_id,
       CASE WHEN outcome.settles THEN j.claim_no ELSE j.outcome_no END,
       j.unique_job, j.dedup_key, j.due_at, j.started_at, j.producer_id, coalesce(outcome.error, j.last_error),
       outcome.reason, j.created_at, outcome.moved_at, outcome.moved_at, j.args
FROM outcome CROSS JOIN soniq_jobs j ON j.seq = outcome.seq

-- :keep_cancelled Copy a queued job to the history as cancelled.
INSERT INTO soniq_finished_jobs
  (id, seq, job_name, status, queue, priority, attempts, max_attempts, crashes, interruptions, worker_id, outcome_no,
   unique_job, dedup_key, due_at, started_at, created_at, finished_at, expires_at, producer_id, last_error, args)
SELECT id, seq, job_name, 'cancelled', queue, priority, attempts, max_attempts, crashes, interruptions, NULL,
       outcome_no, unique_job, dedup_key, coalesce(scheduled_at, due_at), NULL, created_at, :now, :expires_at, producer_id,
       last_error, args
FROM soniq_jobs WHERE seq = :seq

-- :drop_hot Delete jobs from the hot table.
DELETE FROM soniq_jobs WHERE seq IN (SELECT value FROM json_each(?))

-- :give_up_dedup_key Take the dedup key off a job whose queued twin holds it.
UPDATE soniq_jobs SET dedup_key = NULL
WHERE seq = ? AND dedup_key IS NOT NULL
  AND EXISTS (SELECT 1 FROM soniq_jobs t WHERE t.dedup_key = soniq_jobs.dedup_key AND t.status = 'queued')

-- :give_up_unique_key Take the unique mark off a job whose queued twin holds it.
UPDATE soniq_jobs SET unique_job = 0
WHERE seq = ? AND unique_job = 1
  AND EXISTS (SELECT 1 FROM soniq_jobs t WHERE t.job_name = soniq_jobs.job_name
                AND t.args_hash = soniq_jobs.args_hash AND t.unique_job = 1 AND t.status = 'queued')

-- :requeue Give jobs back to their queues, now or for later.
WITH outcome (seq, attempts, crashes, interruptions, error, due_at, scheduled_at, settles, at) AS (VALUES {rows})
UPDATE soniq_jobs
SET status = 'queued', worker_id = NULL, started_at = NULL, updated_at = outcome.at,
    attempts = soniq_jobs.attempts + outcome.attempts,
    crashes = soniq_jobs.crashes + outcome.crashes,
    interruptions = soniq_jobs.interruptions + outcome.interruptions,
    last_error = coalesce(outcome.error, soniq_jobs.last_error),
    scheduled_at = outcome.scheduled_at,
    due_at = CASE WHEN outcome.scheduled_at IS NULL THEN coalesce(outcome.due_at, soniq_jobs.due_at) END,
    outcome_no = CASE WHEN outcome.settles THEN claim_no ELSE outcome_no END
FROM outcome WHERE outcome.seq = soniq_jobs.seq

-- :last_outcomes The claim whose outcome was the last to be written, of these jobs wherever they are.
SELECT json_group_object(id, outcome_no) FROM (
  SELECT id, outcome_no FROM soniq_jobs WHERE id IN (SELECT value FROM json_each(:ids))
  UNION ALL
  SELECT id, outcome_no FROM soniq_finished_jobs WHERE id IN (SELECT value FROM json_each(:ids))
  UNION ALL
  SELECT id, outcome_no FROM soniq_dead_letter_jobs WHERE id IN (SELECT value FROM json_each(:ids))
)
