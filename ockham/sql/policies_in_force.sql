-- Which policy was in force when? One row for each attempt and policy.
select b.run_id, b.attempt, p.policy, b.policy_revision, min(b.iter_num) as from_iter, max(b.iter_num) as to_iter,
    count(*) as batches, count(*) filter (where b.contributed) / nullif(count(*) filter (where b.finite), 0)::double as update_rate,
    min(b.time) as first_time, max(b.time) as last_time
from current_batches b left join policies p on p.run_id = b.run_id and p.policy_revision = b.policy_revision
group by b.run_id, b.attempt, p.policy, b.policy_revision order by b.run_id, from_iter
