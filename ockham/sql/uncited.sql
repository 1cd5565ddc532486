-- Which accepted checkpoints does no decision record cite? Those of a memory that acts.
select m.run_id, m.iter_num, m.decision_id, m.loss
from memory_decisions m anti join odr_evidence e on e.decision_id = m.decision_id
where m.accepted and m.acting order by m.run_id, m.iter_num, m.attempt, m.sequence
