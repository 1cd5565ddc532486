-- How did each candidate fare, relative to the first accepted one? Of many, the lowest, middle and highest of each outcome in 100 bins.
-- run: run ID
with m as (select * from memory_decisions where run_id = $run and not superseded),
first_accepted as (select arg_min(occam_quotient, sequence) as quotient from m where accepted),
each as (
    select iter_num as iter, loss, loss_limit, drift, drift_limit, oq_improvement, oq_limit, accepted,
        coalesce(failed_gate, 'accepted') as outcome, decision_id, occam_quotient / f.quotient - 1 as gain,
        count(*) over () as candidates, iter_num * 100 // (max(iter_num) over () + 1) as bin
    from m, first_accepted f
), placed as (
    select *, row_number() over (partition by bin, outcome order by gain, iter) as place,
        count(*) over (partition by bin, outcome) as among from each
)
select * exclude (bin, place, among) from placed
where candidates <= 1000 or place in (1, among, (among + 1) // 2) order by iter
