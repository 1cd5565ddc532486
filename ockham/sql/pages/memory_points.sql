-- What was the result of each candidate, relative to the first accepted one? With many candidates: the lowest, middle and highest per outcome in 100 bins, and the Pareto frontier.
-- run: run ID
with m as (select * from memory_decisions where run_id = $run and counted),
first_accepted as (select arg_min(occam_quotient, (attempt, sequence)) as quotient from m where accepted),
-- The Pareto frontier: in the order of drift, the loss of each candidate is lower than all losses before it.
lower as (
    select decision_id from (
        select decision_id, loss, min(loss) over (order by drift, loss, sequence rows between unbounded preceding and 1 preceding) as before
        from m where isfinite(loss) and isfinite(drift)
    ) where loss < coalesce(before, 'infinity'::double)
),
each as (
    select iter_num as iter, loss, loss_limit, drift, drift_limit, oq_improvement, oq_limit, accepted,
        coalesce(failed_gate, 'accepted') as outcome, decision_id, occam_quotient / f.quotient - 1 as gain,
        decision_id in (select decision_id from lower) as frontier,
        count(*) over () as candidates, iter_num * 100 // (max(iter_num) over () + 1) as bin
    from m left join first_accepted f on true
), placed as (
    select *, row_number() over (partition by bin, outcome order by gain, iter) as place,
        count(*) over (partition by bin, outcome) as among from each
)
select * exclude (bin, place, among) from placed
where candidates <= 1000 or frontier or place in (1, among, (among + 1) // 2) order by iter
