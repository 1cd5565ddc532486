-- How much compute was saved, and did the model improve?
select s.run_id, s.policy, 1 - s.update_rate as skipped, s.compute_saved, s.backward_over_forward,
    1 - s.accept_rate as saves_avoided, m.oq_gain, s.best_val_loss
from run_summary s left join (
    select run_id, arg_max(occam_quotient, iter_num) / arg_min(occam_quotient, iter_num) - 1 as oq_gain
    from memory_decisions where accepted and not superseded and signed and rank = 0 group by run_id
) m using (run_id) order by s.run_id
