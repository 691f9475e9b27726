SELECT p.payment_id, p.kind
FROM payments p JOIN changes c ON p.card_id = c.card_id;
