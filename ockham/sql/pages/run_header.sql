-- What is the state of a run, and what is the newest event that its figures count?
-- run: run ID
select r.run_id, r.state, r.policy, e.attempt, e."sequence", e.time
from runs r
left join (select run_id, attempt, "sequence", time from events where run_id = $run and counted) e using (run_id)
where r.run_id = $run order by e.attempt desc, e."sequence" desc limit 1
