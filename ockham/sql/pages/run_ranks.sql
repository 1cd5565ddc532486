-- How many ranks wrote a log of this run, and did they ever decide differently?
-- run: run ID
select count(distinct "rank") as ranks, count(*) filter (type = 'ockham.rank.diverged.v1') as diverged from events where run_id = $run and signed
