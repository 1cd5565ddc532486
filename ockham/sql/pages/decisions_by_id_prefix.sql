-- Which decision IDs start with this text?
-- beginning: first characters of the ID
select decision_id, run_id, iter_num, plugin, action from decisions where length($beginning) >= 6 and starts_with(decision_id, $beginning) limit 10
