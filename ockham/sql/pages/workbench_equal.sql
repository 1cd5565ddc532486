-- How do runs compare after the same length?
-- runs: IDs of the runs
-- basis: iterations, tokens or compute
with batches as (
    select run_id, iter_num, tokens_seen, updated, seconds['forward'] as forward, seconds['backward'] as backward, seconds['optimizer'] as optimizer
    from current_batches where list_contains($runs::varchar[], run_id)
), prices as (
    select avg(backward) / avg(forward) as backward, coalesce(avg(optimizer), 0) / avg(forward) as optimizer
    from batches having avg(forward) > 0 and count(backward) > 0
), steps as (
    select run_id, iter_num, count(*) as batches, count(*) filter (updated) as updates, max(tokens_seen) as tokens
    from batches group by run_id, iter_num
), costs as (
    select s.run_id, s.iter_num, nullif(max(s.tokens) over reached, 0) as tokens,
        sum(s.batches + s.updates * p.backward + t.stepped::int * p.optimizer) over reached as compute
    from steps s join current_steps t using (run_id, iter_num) left join prices p on true
    window reached as (partition by s.run_id order by s.iter_num)
), positions as (
    select *, case $basis when 'tokens' then tokens when 'compute' then compute else iter_num + 1 end as position from costs
), losses as (
    select run_id, iter_num, arg_max(val_loss, (attempt, sequence)) as val_loss
    from evaluations where counted and list_contains($runs::varchar[], run_id) group by run_id, iter_num
), points as (
    select e.run_id, e.val_loss, p.position
    from losses e asof join positions p on p.run_id = e.run_id and p.iter_num <= e.iter_num
    where isfinite(e.val_loss) and p.position is not null
), shortest as (
    select arg_min(run_id, (last, run_id)) as shortest_run, min(last) as equal_length
    from (select run_id, max(position) as last from points group by run_id)
), equal as (
    select run_id, min(val_loss) as equal_loss from points, shortest where position <= equal_length group by run_id
), spent as (
    select run_id, max(compute) as compute, max(iter_num) + 1 as iterations from positions, shortest where position <= equal_length group by run_id
)
select r.run_id, r.policy, r.policy_revision, r.data, r.data_sha256, r.seed, e.equal_loss, p.iterations, p.compute, h.equal_length, h.shortest_run,
    l.last_iter + 1 as all_iterations
from runs r left join equal e using (run_id) left join spent p using (run_id) left join shortest h on true
left join (select run_id, max(iter_num) as last_iter from steps group by run_id) l using (run_id)
where list_contains($runs::varchar[], r.run_id)
order by e.equal_loss nulls last, r.run_id
