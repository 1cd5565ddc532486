-- How much compute was saved, and did the model improve? An estimate; plugins in shadow save nothing.
select s.run_id, s.policy, s.skipped_batches / nullif(s.batches, 0)::double as skipped, s.compute_saved, s.compute_saved_low,
    s.compute_saved_high, s.compute_saved_reason, v.chain_share, s.backward_over_forward,
    coalesce(m.refused, 0) / nullif(s.evaluations, 0)::double as saves_avoided, m.oq_gain, s.best_val_loss
from run_summary s join run_savings v using (run_id) left join (
    select run_id, count(*) filter (not accepted) as refused,
        arg_max(occam_quotient, (attempt, sequence)) filter (accepted) / arg_min(occam_quotient, (attempt, sequence)) filter (accepted) - 1 as oq_gain
    from memory_decisions where acting group by run_id
) m using (run_id) order by s.run_id
