-- How do the validation losses of two runs compare?
-- run: ID of the first run
-- other: ID of the second run
select run_id, iter_num as iter, val_loss from evaluations where run_id in ($run, $other) and counted order by run_id, iter
