-- Are update rate and accept rate inside the bands of the policy? With 200 batches and 20 evaluations at least.
select s.run_id, s.policy, s.update_rate, (p.content -> '$.targets.update_rate[0]')::double as update_low,
    (p.content -> '$.targets.update_rate[1]')::double as update_high,
    -- With fewer batches or evaluations a rate can be outside the band by chance.
    case when s.batches >= 200 then s.update_rate between update_low and update_high end as update_in_band,
    s.accept_rate, s.evaluations, (p.content -> '$.targets.accept_rate[0]')::double as accept_low,
    (p.content -> '$.targets.accept_rate[1]')::double as accept_high,
    case when s.batches >= 200 and s.evaluations >= 20 then s.accept_rate between accept_low and accept_high end as accept_in_band
from run_summary s join runs r using (run_id) join policies p on p.run_id = s.run_id and p.policy_revision = r.policy_revision
order by s.run_id
