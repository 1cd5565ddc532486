-- One row per run: rates, losses, cost. Superseded batches and unsigned events are not counted.
-- run_id: ID of the run
-- state: UNFINISHED, or the reason code of run.finished
-- policy: name of the policy
-- batches: batches that passed through the chain
-- finite_batches: batches with a finite loss
-- updates: batches with a finite loss that the chain allowed to update
-- skips: batches without an update
-- update_rate: updates / finite batches, 0..1
-- evaluations: number of evaluations
-- accepted: evaluations that memory accepted
-- accept_rate: accepted / finite evaluations, 0..1; depends on the number of evaluations
-- val_loss: last validation loss, nats/token
-- best_val_loss: lowest finite validation loss, nats/token
-- occam_quotient: quotient at the last evaluation; use it only to compare candidates
-- nonfinite: batches whose loss was not finite
-- backward_over_forward: cost of backward and optimizer divided by the cost of the forward pass, measured in the run
-- compute_saved: share of compute saved by skips, measured in the run
-- last_iter: last iteration recorded
-- decisions: number of decisions
-- unsigned_events: events that no tree head covers; no other column counts them
select
    r.run_id, r.state, r.policy, coalesce(c.batches, 0) as batches, coalesce(c.finite_batches, 0) as finite_batches,
    coalesce(c.updates, 0) as updates, coalesce(c.batches - c.updates, 0) as skips,
    c.updates / nullif(c.finite_batches, 0)::double as update_rate,
    coalesce(v.evaluations, 0) as evaluations, coalesce(m.accepted, 0) as accepted,
    coalesce(m.accepted, 0) / nullif(v.finite, 0)::double as accept_rate,
    v.val_loss, v.best_val_loss, c.occam_quotient, coalesce(c.batches - c.finite_batches, 0) as nonfinite,
    f.backward_over_forward, f.compute_saved, c.last_iter, coalesce(d.decisions, 0) as decisions,
    coalesce(u.unsigned_events, 0) as unsigned_events
from runs r
left join raw_unsigned u using (run_id)
left join (
    select run_id, count(*) as batches, count(*) filter (isfinite(task_loss)) as finite_batches,
        count(*) filter (updated and isfinite(task_loss)) as updates, max(iter_num) as last_iter,
        arg_max(occam_quotient, (attempt, sequence)) as occam_quotient
    from contexts where hook = 'batch' and not superseded and signed and rank = 0 group by run_id
) c using (run_id)
left join (
    select run_id, count(*) as evaluations, count(*) filter (isfinite(val_loss)) as finite,
        arg_max(val_loss, (attempt, sequence)) as val_loss, min(val_loss) filter (isfinite(val_loss)) as best_val_loss
    from evaluations where not superseded and signed and rank = 0 group by run_id
) v using (run_id)
left join (select run_id, count(*) as accepted from memory_decisions where accepted and not superseded and signed and not shadow and rank = 0 group by run_id) m using (run_id)
left join (select run_id, count(*) as decisions from decisions where not superseded and signed and rank = 0 group by run_id) d using (run_id)
left join (
    select run_id, arg_max((data ->> '$.backward_over_forward')::double, attempt) as backward_over_forward,
        arg_max((data ->> '$.compute_saved')::double, attempt) as compute_saved
    from events where type = 'ockham.run.finished.v1' and rank = 0 and signed group by run_id
) f using (run_id)
