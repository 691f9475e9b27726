SELECT p.payment_id
FROM payments p
JOIN changes c ON p.card_id = c.crad_id;
