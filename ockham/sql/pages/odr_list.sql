-- Which decision records are there?
select odr_id, title, status, date, claimed_verdict, claimed_oq_delta, verdict, waived_until, errors, warnings, owners, path from odrs order by odr_id
