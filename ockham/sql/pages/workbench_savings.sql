-- What did runs save up to the same quality, and whose savings count?
-- runs: IDs of the runs
-- baseline: ID of the run with which they are compared, or empty
-- quality_floor: validation loss that a run must reach; null takes the best loss of the baseline plus margin
-- margin: tolerance, nats/token
-- price: price of a device hour, or null
with batches as (
    select run_id, iter_num, updated, seconds['forward'] as forward, seconds['backward'] as backward, seconds['optimizer'] as optimizer
    from current_batches where list_contains($runs::varchar[], run_id) or run_id = $baseline
), times as (
    select run_id, count(*) as batches, coalesce(sum(forward), 0) as forward, count(forward) as forwards, coalesce(sum(backward), 0) as backward,
        count(backward) as backwards, coalesce(sum(optimizer), 0) as optimizer, count(optimizer) as optimizers
    from (select * from batches order by run_id, iter_num) group by run_id
), steps as (
    select b.run_id, b.iter_num, count(*) as batches, count(*) filter (b.updated) as updates, any_value(t.stepped)::int as stepped
    from batches b join current_steps t using (run_id, iter_num) group by b.run_id, b.iter_num
), losses as (
    select run_id, iter_num, arg_max(val_loss, (attempt, sequence)) as val_loss
    from evaluations where counted and (list_contains($runs::varchar[], run_id) or run_id = $baseline) group by run_id, iter_num
), quality as (
    select coalesce($quality_floor::double, (select min(val_loss) + $margin from losses where run_id = $baseline and isfinite(val_loss))) as quality_floor
), reached as (
    select run_id, min(iter_num) as reached_at from losses, quality where isfinite(val_loss) and val_loss <= quality_floor group by run_id
), spent as (
    select s.run_id, sum(s.batches) as batches, sum(s.updates) as updates, sum(s.stepped) as stepped
    from steps s join reached r using (run_id) where s.iter_num <= r.reached_at group by s.run_id
), pooled as (
    -- The times of both runs together, so that a slower hour of the machine is not a saving.
    select t.run_id, (t.forward + b.forward) / nullif(t.forwards + b.forwards, 0) as forward,
        (t.backward + b.backward) / nullif(t.backwards + b.backwards, 0) as backward,
        coalesce((t.optimizer + b.optimizer) / nullif(t.optimizers + b.optimizers, 0), 0) as optimizer,
        case when t.forwards > 0 and t.backwards > 0 and b.forwards > 0 and b.backwards > 0 then
            1 - (t.forward + t.backward + t.optimizer) / t.batches / ((b.forward + b.backward + b.optimizer) / b.batches) end as time_saved
    from times t join times b on b.run_id = $baseline
), compared as (
    select s.run_id, p.time_saved, case when p.forward > 0 and p.backward is not null then
        1 - (s.batches + s.updates * p.backward / p.forward + s.stepped * p.optimizer / p.forward)
            / (b.batches + b.updates * p.backward / p.forward + b.stepped * p.optimizer / p.forward) end as saved
    from spent s join spent b on b.run_id = $baseline join pooled p on p.run_id = s.run_id
), evaluated as (
    select r.run_id, q.quality_floor, f.reached_at, c.saved,
        case when r.run_id = $baseline then 'BASELINE' when q.quality_floor is null then 'GROSS'
            when $baseline <> '' and (r.data_sha256 is null or r.data_sha256 is distinct from (select data_sha256 from runs where run_id = $baseline)) then 'OTHER_DATA'
            when f.reached_at is null then 'NOTHING_SAVED' when c.saved is null then 'FLOOR_REACHED'
            when c.saved > 0 then 'SAVED' else 'LOST' end as verdict
    from runs r left join quality q on true left join reached f using (run_id) left join compared c using (run_id)
    where list_contains($runs::varchar[], r.run_id)
)
select e.run_id, r.policy, r.policy_revision, r.data, l.best_val_loss, e.quality_floor, e.reached_at, e.verdict,
    case when e.verdict in ('SAVED', 'LOST') then e.saved end as compute_saved_to_floor,
    case when e.verdict in ('SAVED', 'FLOOR_REACHED') then v.compute_saved end as compute_saved,
    case when e.verdict in ('SAVED', 'FLOOR_REACHED') then v.compute_saved_low end as compute_saved_low,
    case when e.verdict in ('SAVED', 'FLOOR_REACHED') then v.compute_saved_high end as compute_saved_high,
    case when e.verdict in ('SAVED', 'FLOOR_REACHED') then v.seconds_saved * v.world_size / 3600 end as device_hours_saved,
    case when e.verdict in ('SAVED', 'FLOOR_REACHED') then v.seconds_saved * v.world_size / 3600 * $price::double end as compute_money_saved,
    case when e.verdict in ('SAVED', 'LOST', 'FLOOR_REACHED') then p.time_saved end as time_saved,
    e.verdict in ('SAVED', 'LOST', 'FLOOR_REACHED') and coalesce(p.time_saved > v.compute_saved_high, false) as timing_noise
from evaluated e join runs r using (run_id) join run_savings v using (run_id) left join pooled p using (run_id)
left join (select run_id, min(val_loss) as best_val_loss from losses where isfinite(val_loss) group by run_id) l using (run_id)
order by e.run_id
