-- Every decision with the context on which it was made: one row per decision.
-- decision_id: ID of the decision
-- hook: hook of the decision; a batch has decisions of on_batch_start, on_gradients and on_batch_end
-- context_id: ID of the event with the context; null if the run ended between the decision and its context
-- context_sequence: position of the context in the log
select d.*, c.event_id as context_id, c.sequence as context_sequence,
    c.* exclude (event_id, run_id, attempt, "rank", sequence, time, iter_num, micro_step, hook, policy_revision,
        superseded, signed, counted, first_decision, decisions)
from decisions d
left join contexts c on c.run_id = d.run_id and c.attempt = d.attempt and c."rank" = d.rank
    and c.iter_num = d.iter_num and c.micro_step = d.micro_step
    and c.hook = case when d.hook in ('on_batch_start', 'on_gradients', 'on_batch_end') then 'batch' else d.hook end
    -- An iteration can have several evaluations. Each context has the decisions since its own first one.
    and d.sequence >= c.first_decision and d.sequence < c.sequence
