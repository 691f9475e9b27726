SELECT p.payment_id
FROM payments p
JOIN changes FOR SYSTEM_TIME AS OF p.event_time AS c ON p.items > c.level;
