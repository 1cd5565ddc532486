-- What did lint find in a decision record?
-- id: ID of the decision record
select code, severity, line, message from odr_findings where odr_id = $id order by line
