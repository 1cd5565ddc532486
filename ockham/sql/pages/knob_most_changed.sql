-- At which iteration did the most plugins change this knob, the latest first?
-- run: run ID
-- field: name of the knob
select iter_num as iter, count(*) as turns from hyperparameter_changes
where run_id = $run and field = $field and acting and before_value is not null and after_value is not null
group by iter_num order by turns desc, iter desc limit 1
