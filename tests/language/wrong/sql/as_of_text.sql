SELECT p.payment_id
FROM payments p
JOIN changes FOR SYSTEM_TIME AS OF p.card_id AS c ON p.card_id = c.card_id;
