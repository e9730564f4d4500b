-- :only_pair What an active worker claims where all claimable jobs are of one pair; null where there are several pairs.
WITH first (queue, job_name) AS (
  SELECT queue, job_name FROM soniq_jobs WHERE status = 'queued' AND scheduled_at IS NULL
  ORDER BY queue, job_name LIMIT 1
), last (queue, job_name) AS (
  SELECT queue, job_name FROM soniq_jobs WHERE status = 'queued' AND scheduled_at IS NULL
  ORDER BY queue DESC, job_name DESC LIMIT 1
)
SELECT CASE
  WHEN NOT EXISTS (SELECT 1 FROM soniq_workers WHERE id = :worker_id AND status = 'active') THEN '[]'
  WHEN first.queue <> last.queue OR first.job_name <> last.job_name THEN NULL
  WHEN EXISTS (SELECT 1 FROM soniq_queues q WHERE q.name = first.queue AND q.paused) THEN '[]'
  WHEN :queues IS NOT NULL AND first.queue NOT IN (SELECT value FROM json_each(:queues)) THEN '[]'
  WHEN :names IS NOT NULL AND first.job_name NOT IN (SELECT value FROM json_each(:names)) THEN '[]'
  ELSE (
    SELECT json_group_array(json_array(seq, id, :worker_id, claim_no + 1, job_name, args, queue, priority, attempts,
                                       max_attempts, crashes, CAST(round(due_at * 1000000) AS INTEGER),
                                       CAST(round(created_at * 1000000) AS INTEGER)))
    FROM (SELECT * FROM soniq_jobs j
          WHERE j.queue = first.queue AND j.job_name = first.job_name AND status = 'queued' AND scheduled_at IS NULL
          ORDER BY priority, seq LIMIT :limit))
END
FROM first, last

-- :claimable_heads The best claimable job of each pair of queue and task name, paused queues left out.
WITH RECURSIVE head (seq) AS (
  SELECT (SELECT seq FROM soniq_jobs WHERE status = 'queued' AND scheduled_at IS NULL
          ORDER BY queue, job_name, priority, seq LIMIT 1)
  UNION ALL
  SELECT coalesce(
    (SELECT seq FROM soniq_jobs n WHERE n.status = 'queued' AND n.scheduled_at IS NULL
       AND n.queue = j.queue AND n.job_name > j.job_name ORDER BY job_name, priority, seq LIMIT 1),
    (SELECT seq FROM soniq_jobs n WHERE n.status = 'queued' AND n.scheduled_at IS NULL
       AND n.queue > j.queue ORDER BY queue, job_name, priority, seq LIMIT 1))
  FROM head JOIN soniq_jobs j ON j.seq = head.seq
)
SELECT json_group_array(json_array(j.priority, j.seq, j.queue, j.job_name))
FROM head JOIN soniq_jobs j ON j.seq = head.seq
WHERE j.queue NOT IN (SELECT name FROM soniq_queues WHERE paused)

-- :best_of_pair The best claimable jobs of one pair.
SELECT json_group_array(json_array(priority, seq)) FROM (
  SELECT priority, seq FROM soniq_jobs
  WHERE queue = ? AND job_name = ? AND status = 'queued' AND scheduled_at IS NULL
  ORDER BY priority, seq LIMIT ?
)

-- :take Stamp jobs with their claimant.
UPDATE soniq_jobs
SET status = 'processing', worker_id = :worker_id, claim_no = claim_no + 1, started_at = :now, updated_at = :now
WHERE seq IN (SELECT value FROM json_each(:seqs))

-- :take_one The same for one job, without a list to be read.
UPDATE soniq_jobs
SET status = 'processing', worker_id = :worker_id, claim_no = claim_no + 1, started_at = :now, updated_at = :now
WHERE seq = :seq

-- :taken What the handlers of these claims need; times in microseconds, since JSON rounds a REAL.
SELECT json_group_array(json_array(seq, id, worker_id, claim_no, job_name, args, queue, priority, attempts,
                                   max_attempts, crashes, CAST(round(due_at * 1000000) AS INTEGER),
                                   CAST(round(created_at * 1000000) AS INTEGER)))
FROM soniq_jobs WHERE seq IN (SELECT value FROM json_each(?))

-- :held_by The jobs that a worker holds.
SELECT json_group_array(seq) FROM soniq_jobs WHERE worker_id = ? AND status = 'processing'

-- :promote Make jobs whose time has come claimable.
UPDATE soniq_jobs SET due_at = scheduled_at, scheduled_at = NULL, updated_at = ?
WHERE seq IN (SELECT value FROM json_each(?))

-- :due The jobs whose time has come, with their queues.
SELECT json_group_array(json_array(seq, queue)) FROM (
  SELECT seq, queue FROM soniq_jobs
  WHERE status = 'queued' AND scheduled_at IS NOT NULL AND scheduled_at <= ?
  ORDER BY scheduled_at LIMIT ?
)

-- :next_due When the next job is due.
SELECT min(scheduled_at) FROM soniq_jobs WHERE status = 'queued' AND scheduled_at IS NOT NULL
