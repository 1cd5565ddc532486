-- When was the anchor moved, and when was a move refused?
select run_id, iter_num, plugin, action, reason_code, observed, threshold
from decisions where hook = 'on_evaluate' and action in ('ALLOW', 'REFUSE') and not superseded and signed and rank = 0 order by run_id, iter_num
