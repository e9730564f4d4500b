-- Room in the hot table's pages, and vacuum for what lies outside of them. Measured on PostgreSQL 15, rows of 150 B.
--
-- fillfactor 45: a claim writes a second version of a row, a little larger, and only if that fits into the same page
-- need its unchanged part not be written to the log, and the old version not be locked in a record of its own. With
-- 70 three claims of five had no room: a job cost 1222 bytes of log from its enqueueing to its history, with 50 1179,
-- with 40 1158 (and with 100 1262); the server's time was the same within what can be told apart. A drained backlog
-- leaves as many pages behind with either, since what does not fit takes new pages. While it waits, it takes more.
--
-- Arguments beyond 2 kB lie in the table's TOAST table, which has settings of its own: by default it waits for a fifth
-- of a backlog of millions to be dead.
--
-- Measured and left: without the index of held jobs a claim writes 76 bytes less, but nobody finds those of the dead;
-- without the history's index by expires_at a finished job writes 66 bytes less, but deleting would walk over all. The
-- server's time changes by less than a twentieth with either. Without deduplicate_items both write more.
--
-- Weighed and left: an index of block ranges by expires_at keeps the least value of a range for ever, so that deleting
-- would walk over all in the end; with partitions of the history by time each lookup of a job probes all of them, and
-- dropping one locks out whoever finishes a job.

ALTER TABLE soniq_jobs SET (
  fillfactor = 45,
  toast.autovacuum_vacuum_scale_factor = 0,
  toast.autovacuum_vacuum_threshold = 5000,
  toast.autovacuum_vacuum_cost_delay = 0
);

ALTER TABLE soniq_finished_jobs SET (
  toast.autovacuum_vacuum_scale_factor = 0,
  toast.autovacuum_vacuum_threshold = 20000,
  toast.autovacuum_vacuum_cost_delay = 0
);
