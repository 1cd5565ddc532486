-- Is this run inside the bands of its policy?
-- run: run ID
select s.run_id, s.policy, s.batches, s.update_rate, s.compute_saved, s.compute_saved_low, s.compute_saved_high, s.compute_saved_reason, s.backward_over_forward, s.accept_rate, s.evaluations,
    (p.content -> '$.targets.update_rate[0]')::double as update_low, (p.content -> '$.targets.update_rate[1]')::double as update_high,
    (p.content -> '$.targets.accept_rate[0]')::double as accept_low, (p.content -> '$.targets.accept_rate[1]')::double as accept_high,
    (select avg(updated::int) from gate_decisions where run_id = $run and shadow and counted) as shadow_rate
from run_summary s join runs r using (run_id)
left join policies p on p.run_id = s.run_id and p.policy_revision = r.policy_revision where s.run_id = $run
