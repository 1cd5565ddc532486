-- When was the anchor moved, and when was a move refused? Only plugins that act, not in shadow.
select run_id, iter_num, plugin, action, reason_code, observed, threshold
from acting_decisions where hook = 'on_evaluate' and action in ('ALLOW', 'REFUSE') order by run_id, iter_num
