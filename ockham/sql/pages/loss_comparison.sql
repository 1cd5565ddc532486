-- How do the validation losses of two runs compare?
-- run: the one
-- other: the other
select run_id, iter_num as iter, val_loss from evaluations where run_id in ($run, $other) and not superseded and rank = 0 order by run_id, iter
