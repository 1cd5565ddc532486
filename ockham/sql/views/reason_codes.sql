-- What each reason code of the built-in plugins means.
-- plugin: the plugin that gives it
-- reason_code: the code
-- meaning: in one sentence
select plugin, reason_code, meaning from raw_reason_codes
