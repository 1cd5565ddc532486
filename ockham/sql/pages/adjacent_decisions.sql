-- Which decisions are before and after this one in its log?
-- run: run ID
-- id: decision ID
with here as (select attempt, "rank", sequence from decisions where run_id = $run and decision_id = $id)
select arg_max(d.decision_id, d.sequence) filter (d.sequence < h.sequence) as before,
    arg_min(d.decision_id, d.sequence) filter (d.sequence > h.sequence) as after
from decisions d join here h on d.attempt = h.attempt and d."rank" = h."rank" where d.run_id = $run and d.signed
