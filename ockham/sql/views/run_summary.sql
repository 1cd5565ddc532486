-- One row per run: counts, rates, losses and cost over all attempts. Superseded and unsigned rows and other ranks than 0 are not counted.
-- run_id: ID of the run
-- state: UNFINISHED, or the reason code of run.finished
-- policy: name of the policy
-- batches: micro-batches that went through the chain
-- finite_batches: micro-batches with a finite loss
-- updated_batches: micro-batches with a finite loss that the chain allowed to update
-- skipped_batches: all other micro-batches
-- optimizer_steps: iterations in which the optimizer took a step, by measurement; without a measurement, by the verdict
-- skipped_steps: iterations in which it took none
-- update_rate: updated_batches / finite_batches, 0..1
-- evaluations: number of evaluations
-- accepted: evaluations whose weights were accepted
-- accept_rate: accepted / finite evaluations, 0..1; depends on the number of evaluations
-- val_loss: last validation loss, nats/token
-- best_val_loss: lowest finite validation loss, nats/token
-- occam_quotient: quotient at the last evaluation; use it only to compare candidates
-- nonfinite: micro-batches whose loss was not finite
-- backward_over_forward: cost of backward and optimizer divided by the cost of forward, per micro-batch
-- compute_saved: estimated share of the compute of always updating that the skips saved; see run_savings
-- compute_saved_low: lower end of its 95 % interval
-- compute_saved_high: upper end of its 95 % interval
-- compute_saved_reason: why compute_saved is null, as a stable code; see run_savings
-- last_iter: last iteration recorded
-- decisions: decisions of acting plugins on rank 0
-- shadow_decisions: decisions of shadow plugins on rank 0
-- decisions_all_ranks: decisions of all plugins on all ranks, without superseded ones
-- unsigned_events: events that no tree head covers; no other column counts them
select
    r.run_id, r.state, r.policy, coalesce(c.batches, 0) as batches, coalesce(c.finite_batches, 0) as finite_batches,
    coalesce(c.updated_batches, 0) as updated_batches, coalesce(c.batches - c.updated_batches, 0) as skipped_batches,
    coalesce(t.optimizer_steps, 0) as optimizer_steps, coalesce(t.skipped_steps, 0) as skipped_steps,
    c.updated_batches / nullif(c.finite_batches, 0)::double as update_rate,
    coalesce(v.evaluations, 0) as evaluations, coalesce(m.accepted, 0) as accepted,
    coalesce(m.accepted, 0) / nullif(v.finite, 0)::double as accept_rate,
    v.val_loss, v.best_val_loss, m.occam_quotient, coalesce(c.batches - c.finite_batches, 0) as nonfinite,
    s.backward_over_forward, s.compute_saved, s.compute_saved_low, s.compute_saved_high, s.compute_saved_reason, c.last_iter,
    coalesce(d.decisions, 0) as decisions, coalesce(d.shadow_decisions, 0) as shadow_decisions,
    coalesce(d.decisions_all_ranks, 0) as decisions_all_ranks, coalesce(u.unsigned_events, 0) as unsigned_events
from runs r
join run_savings s using (run_id)
left join raw_unsigned u using (run_id)
left join (
    select run_id, count(*) as batches, count(*) filter (finite) as finite_batches, count(*) filter (contributed) as updated_batches,
        max(iter_num) as last_iter
    from current_batches group by run_id
) c using (run_id)
left join (
    select run_id, count(*) filter (stepped) as optimizer_steps, count(*) filter (not stepped) as skipped_steps
    from current_steps group by run_id
) t using (run_id)
left join (
    select run_id, count(*) as evaluations, count(*) filter (isfinite(val_loss)) as finite,
        arg_max(val_loss, (attempt, sequence)) as val_loss, min(val_loss) filter (isfinite(val_loss)) as best_val_loss
    from evaluations where counted group by run_id
) v using (run_id)
left join (
    select run_id, count(*) filter (accepted) as accepted, arg_max(occam_quotient, (attempt, sequence)) as occam_quotient
    from contexts where hook = 'on_evaluate' and counted group by run_id
) m using (run_id)
left join (
    select run_id, count(*) filter (acting) as decisions, count(*) filter (counted and shadow) as shadow_decisions,
        count(*) as decisions_all_ranks
    from decisions where signed and not superseded group by run_id
) d using (run_id)
