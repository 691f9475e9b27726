SELECT TIMESTAMPDIFF(MINUTE, card_id, event_time) AS m
FROM payments;
