-- What does lint say about a decision record?
-- id: of the record
select code, severity, line, message from odr_findings where odr_id = $id order by line
