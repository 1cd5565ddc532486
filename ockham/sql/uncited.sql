-- Which accepted checkpoints does no decision record cite?
select m.run_id, m.iter_num, m.decision_id, m.loss
from memory_decisions m anti join odr_evidence e on e.decision_id = m.decision_id
where m.accepted and not m.shadow and not m.superseded and m.signed and m.rank = 0 order by m.run_id, m.iter_num
