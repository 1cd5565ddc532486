-- Which missing events does the log report?
-- run: run ID
select attempt, "rank", sequence, time, kind, reason_code, missing, cut_bytes, message from log_gaps where run_id = $run and signed
order by attempt, "rank", sequence
